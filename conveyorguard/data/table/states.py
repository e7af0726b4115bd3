"""Read the states of a session from a column, thresholds of a number, the session's name or a file of intervals."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.data.schema import UNLABELLED, Schema
from conveyorguard.data.table import columns
from conveyorguard.data.table.clock import Times, choose_times
from conveyorguard.data.table.columns import Table, words_of
from conveyorguard.data.table.layout import Layout, StateThresholds
from conveyorguard.errors import ConfigError, DataError

INTERVALS = ("session", "begin", "end", "state")  # columns of data.reader.labels


def state_words(schema: Schema) -> dict[str, int]:
    """Return the state index of each accepted word: name, label and, unless one of these is a number, index from 0."""
    words = {word: k for k, state in enumerate(schema.states) for word in (state.label, state.name) if word}
    if any(re.fullmatch(r"-?\d+", word) for word in words):
        return words
    return words | {str(k): k for k in range(len(schema.states))}


@dataclass
class StateSource:
    """Source of a session without states; subclasses return the state of each row.

    Attributes:
        columns: columns that hold the states.
        reason: key of the reason for dropping a row of unknown state.
        expected: what such a row should hold, for the message.
    """

    columns: list[str] = field(default_factory=list)
    reason: str = "bad_state"
    expected: str = ""

    def of(self, table: Table, seconds: np.ndarray) -> np.ndarray | None:
        """Return the state of each row, (n,) 0..K-1 or `UNLABELLED`; None if the rows have no states.

        Args:
            table: n rows.
            seconds: (n,) times of the rows [s], on the clock of the session.
        """
        return None


@dataclass
class _Column(StateSource):
    """States from the words of a column."""

    words: dict[str, int] = field(default_factory=dict)

    def of(self, table: Table, seconds: np.ndarray) -> np.ndarray | None:
        (name,) = self.columns
        if name not in table.frame or columns.is_missing(table.frame[name].drop_duplicates()).all():
            return None
        codes, distinct = pd.factorize(table.frame[name])  # looks each distinct word up once
        states = np.array([self.words.get(word, UNLABELLED) for word in words_of(pd.Series(distinct))], np.int64)
        return np.append(states, UNLABELLED)[codes]  # a missing cell has code -1, the last entry


@dataclass
class _Number(StateSource):
    """States from the thresholds of a numeric column."""

    thresholds: StateThresholds | None = None

    def of(self, table: Table, seconds: np.ndarray) -> np.ndarray | None:
        (name,) = self.columns
        if name not in table.frame or columns.is_missing(table.frame[name]).all() or self.thresholds is None:
            return None
        values = columns.numbers(table, [name])[0][:, 0]
        sign = -1 if self.thresholds.falling else 1
        limits = sign * np.array(self.thresholds.thresholds)
        state = (sign * values[:, None] >= limits).sum(axis=1)
        return np.where(np.isfinite(values), state, UNLABELLED)


@dataclass
class _Constant(StateSource):
    """The same state for all rows."""

    state: int = 0

    def of(self, table: Table, seconds: np.ndarray) -> np.ndarray | None:
        return np.full(len(table.frame), self.state)


@dataclass
class _Intervals(StateSource):
    """States from intervals of time, begin included; where intervals overlap, the worst state."""

    begin: np.ndarray = field(default_factory=lambda: np.zeros(0))
    end: np.ndarray = field(default_factory=lambda: np.zeros(0))
    state: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def of(self, table: Table, seconds: np.ndarray) -> np.ndarray | None:
        state = np.full(len(seconds), UNLABELLED)
        for begin, end, value in zip(self.begin, self.end, self.state, strict=True):
            inside = (seconds >= begin) & (seconds < end)
            state[inside] = np.maximum(state[inside], value)
        for end, value in zip(self.end, self.state, strict=True):  # an end counts unless another interval begins
            at = (seconds == end) & (state == UNLABELLED)
            state[at] = value
        return None if (state == UNLABELLED).all() else state


def state_source(name: str, schema: Schema, layout: Layout, root: Path, times: Times) -> StateSource:
    """Return the source of a session's states.

    Args:
        name: name of the session, without the number of its part.
        schema: states and the column that holds them.
        layout: the other sources, which take precedence over the column.
        root: `data.root`; a relative path of the file of intervals may start there.
        times: times of the session; its intervals are put on their clock.

    Raises:
        DataError: the session's name or intervals name no state of the schema, or an interval is not understood.
        ConfigError: the file of intervals is missing or lacks a column.
    """
    words = state_words(schema)
    known = f"one of {', '.join(words)} (data.schema.states; a name, or the label of one)"
    if layout.state_pattern:
        return _of_name(name, layout, words, known)
    if layout.labels:
        path = label_file(layout, root)
        return _of_file(name, layout, path, words, known, times) if path else StateSource()
    if layout.states_from:
        return _Number(
            [layout.states_from.column], expected="a number (data.reader.states_from)", thresholds=layout.states_from
        )
    column = schema.columns.get("state")
    return _Column([column], expected=known, words=words) if column else StateSource()


def check_states(schema: Schema, layout: Layout, channels: list[str]) -> None:
    """Refuse sources that cannot give the states.

    Args:
        schema: states and the column that holds them.
        layout: the other sources.
        channels: columns of the channels and the environment.

    Raises:
        ConfigError: the column of the states is also a channel, or the number of thresholds is not that of the states
            less 1.
    """
    column = layout.states_from.column if layout.states_from else schema.columns.get("state")
    if column in channels and not (layout.state_pattern or layout.labels):
        key = "data.reader.states_from" if layout.states_from else "data.schema.columns.state"
        raise ConfigError(
            f"{key}: column '{column}' holds the states and is a channel, too: a model would read the answer; remove "
            "it from data.schema.channels and data.schema.environment"
        )
    if layout.states_from and len(layout.states_from.thresholds) != len(schema.states) - 1:
        raise ConfigError(
            f"data.reader.states_from: {len(schema.states)} states (data.schema.states) need {len(schema.states) - 1} "
            f"thresholds, found {len(layout.states_from.thresholds)}"
        )


def _of_name(name: str, layout: Layout, words: dict[str, int], known: str) -> StateSource:
    """Return the state in a session's name, by `data.reader.state_pattern`; no states if the pattern does not match.

    Raises:
        DataError: the pattern matches a word that is no state, unless sessions may be incomplete.
    """
    match = re.search(layout.state_pattern or "", name)
    if match is None or not match[1]:
        return StateSource()
    if match[1] in words:
        return _Constant(state=words[match[1]])
    if layout.incomplete:
        return StateSource()
    raise DataError(
        f"data.reader.state_pattern={layout.state_pattern} finds '{match[1]}' in the session's name '{name}', expected "
        f"{known}"
    )


def label_file(layout: Layout, root: Path) -> Path | None:
    """Return the file of intervals, `data.reader.labels`, relative to the working directory or else to `data.root`.

    Returns:
        The path; None if no file is configured, or if it is missing and sessions may be incomplete.

    Raises:
        ConfigError: the configured file is missing.
    """
    if not layout.labels:
        return None
    named = Path(layout.labels)
    folder = root if root.is_dir() else root.parent
    for path in (named, folder / named):
        if path.is_file():
            return path
    if layout.incomplete:
        return None
    raise ConfigError(f"data.reader.labels={named}: no such file, neither here nor in data.root={root}")


@lru_cache(maxsize=1)
def _intervals(path: Path, changed: int, encoding: str) -> dict[str, pd.DataFrame]:
    """Return the rows of the file of intervals by session.

    Args:
        changed: time at which the file was modified, so that the cache does not outlive it.

    Raises:
        ConfigError: the file lacks a column.
    """
    frame = columns.read(path, encoding).frame
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    missing = [name for name in INTERVALS if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"data.reader.labels: {path.name}: expected the columns {', '.join(INTERVALS)}, found "
            f"{', '.join(map(str, frame.columns))}"
        )
    return {str(name): rows for name, rows in frame.groupby(words_of(frame["session"]), sort=False)}


def _of_file(name: str, layout: Layout, path: Path, words: dict[str, int], known: str, times: Times) -> StateSource:
    """Return the states of a session from the file of intervals; no states if it has no intervals there.

    Raises:
        DataError: an interval has an unknown state, times that are not understood, or ends before it begins.
    """
    of_session = _intervals(path, path.stat().st_mtime_ns, layout.encoding)
    rows = of_session.get(name)
    if rows is None:
        rows = of_session.get(Path(name).name)
    if rows is None:
        return StateSource()
    states = words_of(rows["state"])
    unknown = [word for word in dict.fromkeys(states) if word not in words]
    if unknown:
        raise DataError(f"{path.name}: session '{name}': found the state '{unknown[0]}', expected {known}")
    try:
        begin, end = _on_the_clock(rows, times, layout)
    except DataError as error:
        raise DataError(f"{path.name}: session '{name}': columns 'begin' and 'end': {error}") from error
    if not (begin < end).all():  # also refuses NaN
        odd = int(np.flatnonzero(~(begin < end))[0])
        raise DataError(
            f"{path.name}: session '{name}': expected an end after the begin, found '{rows['begin'].iloc[odd]}' to "
            f"'{rows['end'].iloc[odd]}'; correct it"
        )
    return _Intervals(
        [],
        "no_label",
        f"a time within an interval of {path.name}",
        begin,
        end,
        np.array([words[word] for word in states]),
    )


def _on_the_clock(rows: pd.DataFrame, times: Times, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return begin and end of k intervals, each (k,) [s] on the clock of a session.

    Numbers below 1e8 count from the session's first row if the session has dates.

    Raises:
        DataError: the times are not understood, or only the session or only its intervals have dates or a zone.
    """
    both = pd.concat([rows["begin"], rows["end"]], ignore_index=True)
    number = pd.to_numeric(both, errors="coerce").notna().all()
    if times.origin is not None and number and pd.to_numeric(both).abs().max() < 1e8:  # s since the first row
        seconds = pd.to_numeric(both).to_numpy(np.float64) + np.nanmin(times.seconds)
    else:
        read = _read_labels(both, times.unit if number else None, None if number else layout.time_format, layout)
        seconds = read.seconds
        if (read.origin is None) != (times.origin is None):
            here, there = ("no dates", "dates") if read.origin is None else ("dates", "none")
            raise DataError(f"found {here}, and the time column has {there}; write both alike")
        if read.origin is not None and times.origin is not None:
            if (read.zone is None) != (times.zone is None):
                raise DataError(
                    "only one of these times and those of the recording names a time zone; set data.reader.time_zone, "
                    "e.g. Europe/Berlin"
                )
            seconds = seconds + (read.origin - times.origin) / 1e9
    return seconds[: len(rows)], seconds[len(rows) :]


def _read_labels(both: pd.Series, unit: str | None, time_format: str | None, layout: Layout) -> Times:
    """Return the times of intervals, read by the closed list of formats or else by `data.reader.time_format`."""
    try:
        return choose_times(both, unit, None, layout.time_zone)
    except DataError:
        if time_format is None:
            raise
        return choose_times(both, None, time_format, layout.time_zone)
