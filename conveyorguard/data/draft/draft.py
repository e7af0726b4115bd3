"""Draft the yaml of a data set from its files, and report what a person should check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conveyorguard.data.draft.camera import camera_block
from conveyorguard.data.draft.channels import (
    Channels,
    add_aggregates,
    channels_of,
    choose_scaling,
    name_units,
)
from conveyorguard.data.draft.oddities import leave_out_leaks, look
from conveyorguard.data.draft.roles import (
    column_of_groups,
    device_column,
    device_pattern,
    kind_column,
    refuse_long_tables,
    session_column,
)
from conveyorguard.data.draft.sample import Sample, name_partial_columns, read_sample
from conveyorguard.data.draft.states import States, find_states
from conveyorguard.data.draft.times import PER_PERIOD, Clock, find_clock, leave_out_clocks
from conveyorguard.data.draft.yaml import yaml_text
from conveyorguard.data.schema import Schema
from conveyorguard.errors import DataError


@dataclass
class Draft:
    """A drafted yaml.

    Attributes:
        text: the yaml.
        odd: sentences on what a person should check.
    """

    text: str
    odd: list[str]


def draft(root: str | Path, name: str, reader: Mapping[str, Any] | None = None) -> Draft:
    """Return a yaml that describes the files, as far as it can be guessed; it can be used for training unchanged.

    Args:
        root: a folder of csv or parquet files, or one of them.
        name: name of the data set.
        reader: keys of `data.reader` that are known already, e.g. {"time_format": "%d/%m/%y %H:%M"}.

    Raises:
        DataError: no file can be read, there is no numeric column, or a time column cannot be read.
    """
    sample = read_sample(Path(root))
    clock = find_clock(sample, dict(reader or {}))
    options = clock.reader
    sample.take(clock.names)
    columns, states = _roles(sample, clock, options)
    if sample.encoding != "utf-8":
        options["encoding"] = sample.encoding
    name_partial_columns(sample)
    channels, environment, guessed = channels_of(sample)
    if not channels:
        raise DataError(_no_channels(root, sample))
    add_aggregates(channels, sample, clock.samples, PER_PERIOD)
    thermal = camera_block(sample, options)
    schema = {
        "columns": {role: name for role, name in columns.items() if name or role in ("time", "state")},
        "channels": channels,
        "environment": environment,
        "thermal": thermal,
        "states": states.states,
    }
    checked = Schema.from_config({**schema, "thermal": thermal and {**thermal, "reduce": "mean_max"}})
    sessions = look(sample.root, checked, options, sample.odd)
    choose_scaling(sessions, channels, environment)
    leave_out_leaks(sample, sessions, checked, channels, environment)
    name_units(sample, channels | environment, guessed)
    named = {*states.candidates} - {channel.get("column", key) for key, channel in sample.settings.items()}
    sample.odd += [_left_out(column, why) for column, why in sample.left_out.items() if column not in named]
    candidates = {column: text for column, text in states.candidates.items() if not _is_channel(column, channels)}
    text = yaml_text(
        name,
        Path(root).resolve(),
        schema,
        options,
        guessed,
        sample.left_out,
        candidates,
        states.described,
        sample.settings,
    )
    return Draft(text, sample.odd)


def _roles(sample: Sample, clock: Clock, options: dict[str, Any]) -> tuple[dict[str, Any], States]:
    """Return the columns by role, and the states.

    Keys of `data.reader` (labels, state_pattern, device_pattern) are added to `options`.
    """
    refuse_long_tables(sample, clock)
    session = session_column(sample, clock)
    if session:
        sample.split(session)
    sample.take([session])
    sample.take([n for n in sample.like("session") if sample.constant(n)])  # repeats the file's name
    leave_out_clocks(sample, clock)
    device, kind = device_column(sample, session), kind_column(sample)
    sample.take([device, kind])
    states = find_states(sample)
    if not device and (device := column_of_groups(sample)):
        sample.take([device])
    if sample.labels:
        options["labels"] = sample.labels
    if states.pattern:
        options["state_pattern"] = states.pattern
    if not device and (pattern := device_pattern([*sample.tables], states.pattern)):
        options["device_pattern"] = pattern
    time = clock.names if len(clock.names) > 1 else next(iter(clock.names), None)
    return {"session": session, "device": device, "kind": kind, "time": time, "state": states.column}, states


def _left_out(column: str, why: str) -> str:
    return f"column '{column}' is left out: {why}"


def _is_channel(column: str, channels: Channels) -> bool:
    return any(channel.get("column", key) == column for key, channel in channels.items())


def _no_channels(root: str | Path, sample: Sample) -> str:
    """Return the message for files without numeric channels, with the likely cause."""
    taken = ", ".join(dict.fromkeys(sample.taken)) or "nothing"
    if any(str(name).startswith("{") for table in sample.tables.values() for name in table.frame):
        return (
            f"{root}: expected a table, found lines of JSON; convert them, e.g. with pandas.read_json(..., lines=True)"
        )
    headers = [{str(name) for name in table.frame} for table in sample.tables.values()]
    if len(headers) > 1 and not set.intersection(*headers):
        heads = "; ".join(f"{name}: {', '.join(map(str, table.frame))}" for name, table in [*sample.tables.items()][:4])
        return (
            f"{root}: the files have no column in common ({heads}). Join them to one table a recording, or point at a "
            "folder with files of one kind"
        )
    why = "".join(f"\n  {_left_out(column, reason)}" for column, reason in sample.left_out.items())
    return f"{root}: expected columns of numbers beside {taken}, found none{why}"
