"""Report what a person should know about the recordings of a table before training on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
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

SETTING = "; if it is a setting, such as a speed or a load, name it under environment"
ROWS = 200_000  # kept of all recordings together
FEW = 3  # recordings that a state needs: training, validation and test


def look(root: Path, schema: Schema, reader: dict[str, Any], odd: list[str]) -> list[Session]:
    """Read some recordings as training does, and report their oddities.

    Args:
        root: folder of the files, or a file.
        schema: the drafted schema.
        reader: keys of `data.reader`.
        odd: sentences for the user are added to it.

    Returns:
        The recordings that could be read, thinned to about `ROWS` rows in all.

    Raises:
        DataError: no recording can be read.
    """
    items = list(sessions(root, schema, **reader))
    odd += [f"{item.name}: {item.message}" for item in items if isinstance(item, Unreadable)]
    recordings = [item for item in items if isinstance(item, Recording)]
    readable, dropped, notes = [], dict[str, list[str]](), Counter[str]()
    chosen = some_of(recordings)
    seen = _Seen()
    for item in track(chosen, "checking", len(chosen)):
        try:
            session = item.read()
        except DataError as error:
            odd.append(f"{item.name}: {error}")
            continue
        seen.add(session, schema)
        readable.append(_thinned(session, ROWS // len(chosen)))
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
    odd += [*seen.of_channels(len(readable)), *seen.of_times(len(readable)), *seen.of_states(len(readable), schema)]
    odd += _of_devices(readable)
    return readable


def _thinned(session: Session, rows: int) -> Session:
    """Return a session reduced to at most `rows` of its rows, evenly spread; at least 1."""
    step = -(-len(session.time) // max(rows, 1))
    if step <= 1:
        return session
    state = None if session.state is None else session.state[::step].copy()
    sensors, environment = session.sensors[::step].copy(), session.environment[::step].copy()
    time = session.time[::step].copy()
    return replace(session, time=time, sensors=sensors, environment=environment, state=state, where=None, dropped=[])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


@dataclass
class _Seen:
    """Counts over all rows of the recordings.

    Attributes:
        dead: recordings in which a channel is constant or empty, by channel.
        missing: missing values, by channel.
        names: channels and environment.
        rows: rows of all recordings.
        gaps: gaps in time.
        short: recordings of fewer than 30 rows.
        labelled: recordings with states.
        having: recordings with a state, by state.
    """

    dead: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    rows: int = 0
    gaps: int = 0
    short: int = 0
    labelled: int = 0
    having: Counter[int] = field(default_factory=Counter)

    def add(self, session: Session, schema: Schema) -> None:
        """Add a recording to the counts."""
        self.names = [*schema.channels, *schema.environment]
        for group, channels in ((session.sensors, schema.channels), (session.environment, schema.environment)):
            for i, name in enumerate(channels):
                known = group[:, i][np.isfinite(group[:, i])]
                self.dead[name] += not len(known) or bool(np.ptp(known) == 0)
                self.missing[name] += len(group) - len(known)
        self.rows += len(session.time)
        self.gaps += int((np.diff(session.time) > GAP).sum())
        self.short += len(session.time) < 30
        if session.state is not None:
            self.labelled += 1
            self.having.update(np.unique(session.state).tolist())

    def of_channels(self, count: int) -> Iterator[str]:
        """Yield sentences on constant channels and missing values in `count` recordings."""
        for name in self.names:
            if self.dead[name]:
                yield f"'{name}' is constant or empty in {self.dead[name]} of {count} recordings"
            if share := self.missing[name] / max(self.rows, 1):
                yield f"'{name}': {100 * share:.2g} % of the values are missing; they hold the last value"

    def of_times(self, count: int) -> Iterator[str]:
        """Yield sentences on gaps and short recordings among `count`."""
        if self.gaps:
            yield (
                f"{_count(self.gaps, 'gap')} in time: those of up to window.max_gap, by default 3 periods, are "
                "bridged; no window spans a longer one"
            )
        if self.short:
            yield (
                f"{_count(self.short, 'recording')} of {count}: fewer than 30 rows, below a window of the default size"
            )

    def of_states(self, count: int, schema: Schema) -> Iterator[str]:
        """Yield sentences on recordings without states, and on states in fewer than `FEW` recordings."""
        if self.labelled < count:
            yield f"{count - self.labelled} of {count} recordings have no states: they are not trained on"
        for k, state in enumerate(schema.states):
            if self.labelled and self.having[k] < FEW:
                yield f"state '{state.name}' is in {self.having[k]} of {self.labelled} recordings only"


def _of_devices(recordings: list[Session]) -> list[str]:
    """Return a sentence on what the number of devices allows to test; none for 2 devices."""
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
    """Return the leaks in the channels and environment of the sessions; columns are their names in the files."""
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
    """Remove the channels that certainly reveal the state, except the last one; report the others that may.

    Args:
        sample: takes the columns that are left out, and the sentences.
        sessions: recordings as `look` returns them.
        schema: the drafted schema.
        channels: entries of the yaml; changed in place.
        environment: likewise.
    """
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
    """Leave a channel out; a setting is kept as a proposal for environment."""
    column = channel.get("column", key)
    if leak.is_setting:
        sample.settings[key] = {name: channel[name] for name in ("unit", "column") if name in channel}
    sample.leave_out(column, f"{leak.why}, so it would give the state away{SETTING * leak.is_setting}")
