"""A first yaml for files that nobody has described yet, and what is odd about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conveyorguard.data.draft.camera import camera_block
from conveyorguard.data.draft.channels import channels_of, choose_scaling
from conveyorguard.data.draft.oddities import look
from conveyorguard.data.draft.roles import (
    device_column,
    device_pattern,
    kind_column,
    session_column,
    state_column,
    time_columns,
)
from conveyorguard.data.draft.sample import read_sample
from conveyorguard.data.draft.yaml import yaml_text
from conveyorguard.data.schema import Schema
from conveyorguard.errors import DataError


@dataclass
class Draft:
    """The yaml of a data set, and sentences about what a person should look at."""

    text: str
    odd: list[str]


def draft(root: str | Path, name: str) -> Draft:
    """Describe files as well as can be guessed; the draft can be trained with as it is.

    Args:
        root: a folder of csv or parquet files, or one of them.
        name: of the data set.

    Raises:
        DataError: there is nothing to describe, or no column of numbers.
    """
    sample = read_sample(Path(root))
    time, reader = time_columns(sample)
    sample.take(time)
    session = session_column(sample, time, reader)
    if session:
        sample.split(session)
    sample.take([session])
    sample.take([n for n in sample.like("session") if sample.constant(n)])  # says what the file's name does
    state, states = state_column(sample)
    sample.take([state])
    device, kind = device_column(sample), kind_column(sample)
    sample.take([device, kind])
    if not device and (pattern := device_pattern([*sample.tables])):
        reader["device_pattern"] = pattern
    if sample.encoding != "utf-8":
        reader["encoding"] = sample.encoding
    channels, environment = channels_of(sample)
    if not channels:
        taken = ", ".join(sample.taken) or "nothing"
        raise DataError(f"{root}: expected columns of numbers beside {taken}, found none")
    thermal = camera_block(sample, reader)
    columns = {
        "session": session,
        "device": device,
        "kind": kind,
        "time": time if len(time) > 1 else next(iter(time), None),
        "state": state,
    }
    schema = {
        "columns": {role: name for role, name in columns.items() if name or role in ("time", "state")},
        "channels": channels,
        "environment": environment,
        "thermal": thermal,
        "states": states,
    }
    checked = Schema.from_config({**schema, "thermal": thermal and {**thermal, "reduce": "mean_max"}})
    choose_scaling(look(sample.root, checked, reader, sample.odd), channels, environment)
    return Draft(yaml_text(name, Path(root).resolve(), schema, reader), sample.odd)
