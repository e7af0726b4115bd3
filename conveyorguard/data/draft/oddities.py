"""What a person should know about a table's recordings before training on them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.draft.channels import Channels
from conveyorguard.data.draft.sample import Sample, some_of
from conveyorguard.data.leakage import Leak, leaks_in
from conveyorguard.data.schema import UNLABELLED, Schema
from conveyorguard.data.session import Recording, Session, Unreadable
from conveyorguard.data.table.reader import sessions
from conveyorguard.data.table.resample import GAP
from conveyorguard.errors import DataError
from conveyorguard.system.progress import track

SETTING = "; if it is a setting, as a speed or a load, name it under environment"
FEW = 3  # recordings; a state in fewer cannot be trained on, chosen by and tested


def look(root: Path, schema: Schema, reader: dict[str, Any], odd: list[str]) -> list[Session]:
    """Read some recordings as a training would, and add to `odd` what a person should know of them.

    Raises:
        DataError: none of them can be read.
    """
    items = list(sessions(root, schema, **reader))
    odd += [f"{item.name}: {item.message}" for item in items if isinstance(item, Unreadable)]
    recordings = [item for item in items if isinstance(item, Recording)]
    readable, dropped, notes = [], dict[str, list[str]](), Counter[str]()
    chosen = some_of(recordings)
    for item in track(chosen, "checking", len(chosen)):
        try:
            session = item.read()
        except DataError as error:
            odd.append(f"{item.name}: {error}")
            continue
        readable.append(session)
        notes.update(session.notes)
        for defect in session.dropped:
            dropped.setdefault(defect.reason, []).append(f"{defect.where}: {defect.message}")
    odd += [f"{_count(len(rows), 'row')} left out, {reason}: {rows[0]}" for reason, rows in dropped.items()]
    odd += [f"{note}: {_count(count, 'recording')}" for note, count in notes.items()]
    if not readable:
        raise DataError("\n".join([f"{root}: no recording can be read", *odd]))
    if len(recordings) < 4:
        odd.append(
            f"{_count(len(recordings), 'recording')}: training needs 4 labelled ones, to train, to choose and to test, "
            "or one with dates that reader.split_every cuts into parts, e.g. 1h"
        )
    for group, channels in (("sensors", schema.channels), ("environment", schema.environment)):
        for i, name in enumerate(channels):
            odd += _of_channel(name, [getattr(session, group)[:, i] for session in readable])
    odd += [*_of_times(readable), *_of_states(readable, schema), *_of_devices(readable)]
    return readable


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _of_channel(name: str, recordings: list[np.ndarray]) -> list[str]:
    odd = []
    known = [values[np.isfinite(values)] for values in recordings]
    dead = sum(not len(values) or np.ptp(values) == 0 for values in known)
    if dead:
        odd.append(f"'{name}' is constant or empty in {dead} of {len(recordings)} recordings")
    missing = 1 - np.isfinite(np.concatenate(recordings)).mean()
    if missing:
        odd.append(f"'{name}': {100 * missing:.2g} % of the values are missing; they hold the last value")
    return odd


def _of_times(recordings: list[Session]) -> list[str]:
    odd = []
    gaps = sum(int((np.diff(session.time) > GAP).sum()) for session in recordings)
    if gaps:
        odd.append(
            f"{_count(gaps, 'gap')} in time: those of up to window.max_gap, by default 3 periods, are bridged; no "
            "window spans a longer one"
        )
    short = sum(len(session.time) < 30 for session in recordings)
    if short:
        odd.append(
            f"{_count(short, 'recording')} of {len(recordings)}: fewer than 30 rows, below a window of the default size"
        )
    return odd


def _of_states(recordings: list[Session], schema: Schema) -> list[str]:
    odd, count = [], len(recordings)
    labelled = [session.state for session in recordings if session.state is not None]
    if len(labelled) < count:
        odd.append(f"{count - len(labelled)} of {count} recordings have no states: they are not trained on")
    for k, state in enumerate(schema.states):
        having = sum(bool((states == k).any()) for states in labelled)
        if labelled and having < FEW:
            odd.append(f"state '{state.name}' is in {having} of {len(labelled)} recordings only")
    return odd


def _of_devices(recordings: list[Session]) -> list[str]:
    devices = len({session.device for session in recordings})
    if devices == 1:
        return [
            "one device only: how well a model does on another cannot be tested; name columns.device or "
            "reader.device_pattern if there are several"
        ]
    if devices == 2:
        return []
    return [f"{devices} devices: split=kfold split.n_folds={min(devices, 5)} tests on devices never trained on"]


def _leaks(sessions: list[Session], schema: Schema, columns: dict[str, str]) -> list[Leak]:
    state = np.concatenate([np.full(len(s.time), UNLABELLED) if s.state is None else s.state for s in sessions])
    number = np.repeat(np.arange(len(sessions)), [len(s.time) for s in sessions])
    values: dict[str, np.ndarray] = {}
    for group, array in ((schema.channels, "sensors"), (schema.environment, "environment")):
        table = np.concatenate([getattr(s, array) for s in sessions])
        values |= {name: table[:, i] for i, name in enumerate(group)}
    return leaks_in(values, state, number, schema.environment, columns)


def leave_out_leaks(
    sample: Sample, sessions: list[Session], schema: Schema, channels: Channels, environment: Channels
) -> None:
    """Take out of a draft the channels that give the state away, unless none would be left; name the suspects."""
    all_channels = {**schema.channels, **schema.environment}
    columns = {name: channel.column or name for name, channel in all_channels.items()}
    leaks = _leaks(sessions, schema, columns)
    certain = {columns[leak.channel]: leak for leak in leaks if leak.certain}
    for drafted in (channels, environment):
        for key, channel in [*drafted.items()]:
            column = channel.get("column", key)
            if column in certain and (drafted is environment or len(drafted) > 1):
                _leave_out(sample, key, drafted.pop(key), certain.pop(column))
    rest = [leak for leak in leaks if columns[leak.channel] in certain or not leak.certain]
    sample.odd += list(dict.fromkeys(leak.message for leak in rest))


def _leave_out(sample: Sample, key: str, channel: dict[str, Any], leak: Leak) -> None:
    """Leave one channel out; a setting is kept as a proposal for environment."""
    column = channel.get("column", key)
    if leak.is_setting:
        sample.settings[key] = {name: channel[name] for name in ("unit", "column") if name in channel}
    sample.leave_out(column, f"{leak.why}, so it would give the state away{SETTING * leak.is_setting}")
