"""Read one session of a table: check its rows, resample them to one per period, return a `Session`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Dropped, Session
from conveyorguard.data.table import columns
from conveyorguard.data.table.camera import add_frames
from conveyorguard.data.table.cells import FillWatch
from conveyorguard.data.table.clock import Moments, Times, read_times
from conveyorguard.data.table.columns import Table, part_of, words_of
from conveyorguard.data.table.layout import STATE_KEYS, STOPS, Layout
from conveyorguard.data.table.resample import resample
from conveyorguard.data.table.rows import Rows, fill_notes, places_of, refuse_restarts
from conveyorguard.data.table.states import state_source
from conveyorguard.errors import DataError

UNKNOWN = "unknown"  # device or kind of an incomplete session that does not name it
ONE = "device"  # device and kind if neither a column nor a pattern is configured
STOP = 10  # usual intervals between rows; a longer one is a stop

Constants = Mapping[str, list[str]]  # distinct words of the device and kind columns


@dataclass(frozen=True)
class TablePart:
    """The part of a file that is one session.

    Attributes:
        name: name of the session.
        whole: name before `data.reader.split_every` cut it into parts; the same name if it is not cut.
        picked: its value in the session column; None if the whole file is one session.
        number: number of the part, from 0; None if the session is not cut.
        blocks: numbers of the first and last block that hold its rows; None for all blocks.
        begin: time of the first row before the cut [s], as `BlockClock` counts it.
        origin: ns since 1970 from which `begin` counts; None if the session has no dates.
    """

    name: str
    whole: str
    picked: str | None = None
    number: int | None = None
    blocks: tuple[int, int] | None = None
    begin: float | None = None
    origin: int | None = None


def column_names(schema: Schema) -> list[str]:
    """Return the columns of the channels and the environment, in the order of the schema."""
    return [channel.column or name for name, channel in {**schema.channels, **schema.environment}.items()]


def roles_of(schema: Schema) -> dict[str, list[str]]:
    """Return the columns of session, device, kind, time and state that the schema names, by role."""
    named = {
        role: [column] if isinstance(column, str) else list(column or ()) for role, column in schema.columns.items()
    }
    return {role: columns for role, columns in named.items() if columns}


@dataclass(frozen=True)
class TableJob:
    """A session to be read, with the file, schema and layout.

    Attributes:
        part: which part of the file the session is.
        path: the file.
        root: `data.root`.
        growing: the file is being written; ignore what follows its last line end.
    """

    part: TablePart
    path: Path
    root: Path
    schema: Schema
    layout: Layout
    growing: bool = False

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """Return `roles_of` the schema."""
        return roles_of(self.schema)

    @cached_property
    def channels(self) -> list[str]:
        """Return `column_names` of the schema."""
        return column_names(self.schema)

    @cached_property
    def aggregates(self) -> list[str]:
        """Return the aggregate of each column in `channels`."""
        return [channel.aggregate for channel in (*self.schema.channels.values(), *self.schema.environment.values())]

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """Return the columns to read."""
        reads = [self.layout.states_from.column] if self.layout.states_from else []
        return (*(column for names in self.roles.values() for column in names), *self.channels, *reads)

    def times(self, table: Table, time_format: str | None = None) -> Times:
        """Return the times of a table's rows.

        Args:
            time_format: replaces `data.reader.time_format`.
        """
        return _times(self.path, table, tuple(self.roles.get("time", [])), self.layout, time_format)


@dataclass
class GridRows:
    """The sound rows of a session, one per period, m periods and C columns.

    Attributes:
        second: (m,) int64, periods since the start.
        values: (m, C) values of channels and environment.
        states: (m,) states; None if the session has none.
        row: (m,) row number in the file.
        seconds: (m,) time of that row [s].
        times: origin and zone of `seconds`.
        begin: time of the first row [s], on the clock of `seconds`.
        constants: distinct words of the device and kind columns.
        columns: columns read from the file.
        averaged: a value stands for several rows.
        dropped: rows that were left out.
        notes: remarks on all rows.
        place: (m,) position of that row among all rows, for the frames of a camera; None if read in blocks.
        count: number of all rows; 0 if read in blocks.
    """

    second: np.ndarray
    values: np.ndarray
    states: np.ndarray | None
    row: np.ndarray
    seconds: np.ndarray
    times: Times
    begin: float
    constants: Constants
    columns: list[str]
    averaged: bool
    dropped: list[Dropped]
    notes: list[str] = field(default_factory=list)
    place: np.ndarray | None = None
    count: int = 0


@lru_cache(maxsize=1)  # each process reads a file of many sessions once
def _load(path: Path, changed: int, encoding: str, wanted: tuple[str, ...], growing: bool) -> Table:
    return columns.read(path, encoding, wanted, growing)


def _times(path: Path, table: Table, names: tuple[str, ...], layout: Layout, time_format: str | None = None) -> Times:
    """Return the times of a table's rows; without time columns, rows are `row_every` or a period apart.

    Raises:
        DataError: the times are not understood.
    """
    if not names:
        return Times(places_of(table)[0] * (layout.row_every or layout.period))
    try:
        return read_times(table, [*names], layout.time_unit, time_format or layout.time_format, layout.time_zone)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error


@lru_cache(maxsize=1)  # each process picks the rows of a session of many parts, and reads their times, once
def _timed(
    path: Path,
    changed: int,
    picked: tuple[str, str] | None,
    names: tuple[str, ...],
    wanted: tuple[str, ...],
    layout: Layout,
    growing: bool,
) -> tuple[Table, Times]:
    table = _load(path, changed, layout.encoding, wanted, growing)
    if picked is not None:
        table = part_of(table, *picked)
    times = _times(path, table, names, layout)
    if names and times.origin is None:
        refuse_restarts(path, times.seconds, [*names])
    return table, times


def timed_rows(job: TableJob) -> tuple[Table, Times]:
    """Return the rows of a session before it is cut, and their times; cached for its other parts."""
    picked = None if job.part.picked is None else (job.roles["session"][0], job.part.picked)
    names = tuple(job.roles.get("time", []))
    return _timed(job.path, os.stat(job.path).st_mtime_ns, picked, names, job.wanted, job.layout, job.growing)


def read_at_once(job: TableJob) -> GridRows:
    """Read all rows of a session into memory and resample them to one row per period.

    Raises:
        DataError: the session cannot be read.
    """
    table, times = timed_rows(job)
    seconds, part, roles = times.seconds, job.part, job.roles
    if part.number is not None:
        mine = piece_of(seconds, job.layout) == part.number
        table, seconds = columns.rows_of(table, mine), seconds[mine]
    rows = Rows(job.path, table, dates_of(job, times))
    time = rows.times(seconds, roles.get("time", []), job.layout.period)
    values = rows.numbers(job.channels, job.layout.missing)  # NaN where a column is missing
    state = rows.states(state_source(part.whole, job.schema, job.layout, job.root, times), seconds)
    order = rows.sound(time)
    grid = resample(time[order], values[order], job.layout.period, job.aggregates)
    rows.refuse_twice(order[grid.twice], time)
    states, mixed = (None, False) if state is None else grid.states(state[order])
    source = order[grid.source]
    watches = {name: FillWatch().add(values[:, i]) for i, name in enumerate(job.channels)}
    reordered = bool((np.diff(order) < 0).any())
    return GridRows(
        grid.second,
        grid.values,
        states,
        table.row[source],
        seconds[source],
        times,
        float(np.nanmin(seconds)),
        {name: distinct_words(table, name) for name in constant_columns(job) if name in table.frame},
        [*table.frame],
        grid.averaged,
        rows.dropped,
        [*rows.notes, *fill_notes(watches), *usual_notes(times.note, grid.note, mixed, reordered)],
        rows.place[source],
        rows.count,
    )


def session_of(job: TableJob, rows: GridRows, files: tuple[Path, ...]) -> Session:
    """Build the `Session` of resampled rows.

    Args:
        rows: one row per period.
        files: the table, and the frames if there is a camera.

    Raises:
        DataError: device or kind is missing, ambiguous or unknown to the schema, or the frames do not fit.
    """
    schema, layout, name = job.schema, job.layout, job.part.whole
    times, channels = rows.times, len(job.schema.channels)
    moments = Moments(times.origin, times.zone) if times.origin is not None and dates_of(job, times) else None
    device = _constant(rows.constants, job.roles.get("device"), layout.device_pattern, "device", name, layout)
    unused = _unused_states(rows.columns, schema, layout)
    session = Session(
        name=job.part.name,
        device=device,
        kind=_kind(rows.constants, job.roles, layout, schema, name),
        time=rows.second,
        sensors=rows.values[:, :channels],
        environment=rows.values[:, channels:],
        state=rows.states,
        dropped=rows.dropped,
        notes=[*rows.notes, *([unused] if unused else [])],
        averaged=rows.averaged,
        where=partial(_where, [file.name for file in files], rows.row, rows.seconds, moments),
        period=layout.period,
        start=_start(times, rows.begin),
        zone=times.zone,
    )
    if schema.thermal and rows.place is not None:
        scale, offset = layout.thermal_scale, layout.thermal_offset
        add_frames(session, files[1], schema.thermal, scale, offset, rows.place, rows.count)
    return session


def dates_of(job: TableJob, times: Times) -> list[str] | None:
    """Return the time columns if they hold dates as text or timestamps; else None."""
    return job.roles.get("time") if times.origin is not None and times.unit is None else None


def constant_columns(job: TableJob) -> list[str]:
    """Return the columns of device and kind."""
    return [column for role in ("device", "kind") for column in job.roles.get(role, [])]


def distinct_words(table: Table, name: str) -> list[str]:
    """What a column says, in the order of appearance."""
    values = table.frame[name].drop_duplicates()
    return list(dict.fromkeys(words_of(values[~columns.is_missing(values)])))


def usual_notes(clock: str, grid: str, mixed: bool, reordered: bool = False) -> list[str]:
    """Return the notes on all rows of a session, without empty ones.

    Args:
        clock: note on the times.
        grid: note on the resampling.
        mixed: some period has several states.
        reordered: the rows were not sorted by time.
    """
    worst = "several states within a period: the worst one is kept" if mixed else ""
    return [note for note in (clock, grid, worst, "rows put in the order of their times" * reordered) if note]


def piece_of(seconds: np.ndarray, layout: Layout, begin: float | None = None) -> np.ndarray:
    """Return the number of the part that each row belongs to, (n,) int64; a row without a time follows the row before.

    Args:
        seconds: (n,) times of the rows [s]; NaN where a row has none.
        begin: first time of the session [s], if these are not all of its rows.
    """
    known = np.flatnonzero(np.isfinite(seconds))
    if not len(known) or layout.split_every is None:
        return np.zeros(len(seconds), np.int64)
    time = seconds[known]
    if layout.split_every == STOPS:
        order = np.argsort(time, kind="stable")
        steps = np.diff(time[order], prepend=time[order][0])
        usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else np.inf
        number = np.empty(len(time), np.int64)
        number[order] = np.cumsum(steps > STOP * max(usual, layout.period))
    else:
        number = np.floor((time - (time.min() if begin is None else begin)) / float(layout.split_every) + 1e-9).astype(
            np.int64
        )
    return number[np.maximum(np.searchsorted(known, np.arange(len(seconds)), side="right") - 1, 0)]


def _start(times: Times, begin: float) -> datetime | None:
    """Return the clock time of the first row, None without dates; local time without a zone is labelled UTC."""
    if times.origin is None:
        return None
    first = times.origin + round(begin * 1e9)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=first // 1000)


def _unused_states(there: list[str], schema: Schema, layout: Layout) -> str:
    """Return a note if the column of the states is not used because states come from elsewhere; else ""."""
    column = schema.columns.get("state")
    key = next((key for key in STATE_KEYS if getattr(layout, key)), None)
    if key is None or column not in there or (layout.states_from and layout.states_from.column == column):
        return ""
    return f"column '{column}' is not used: the states are those of data.reader.{key}"


def _where(
    files: list[str], row: np.ndarray, seconds: np.ndarray, times: Moments | None, what: str, second: int
) -> str:
    """Return file, row and time of row `second`, for messages; `what` is the part of the session, e.g. thermal."""
    frame = f"{files[-1]}: the frame of " if what == "thermal" else ""
    date = f" ({times.of(seconds[second])})" if times else ""
    return f"{frame}{files[0]}: row {row[second]}{date}"


def _kind(constants: Constants, roles: dict[str, list[str]], layout: Layout, schema: Schema, name: str) -> str:
    """Return the kind of a session's device; the schema's only kind if nothing else names it."""
    if "kind" not in roles and not layout.kind_pattern and len(schema.kinds) == 1:
        return schema.kinds[0]
    kind = _constant(constants, roles.get("kind"), layout.kind_pattern, "kind", name, layout)
    if schema.kinds and kind not in schema.kinds and not layout.incomplete:
        raise DataError(f"kind '{kind}' is not one of data.schema.kinds ({', '.join(schema.kinds)}); add it there")
    return kind


def _constant(
    constants: Constants, column: list[str] | None, pattern: str | None, what: str, name: str, layout: Layout
) -> str:
    """Return device or kind from its column, or else from its pattern in the session's name.

    Raises:
        DataError: the column has no word or several, or the pattern does not match.
    """
    if column and layout.incomplete and column[0] not in constants:
        return UNKNOWN
    if column:
        words = constants.get(column[0], [])
        if len(words) != 1:
            names = ", ".join(words[:5]) or "none"
            raise DataError(
                f"column '{column[0]}': expected one {what} per recording, found {names}; split the file, or name a "
                "session column as data.schema.columns.session"
            )
        return words[0]
    if not pattern:
        return ONE
    match = re.search(pattern, name)
    if layout.incomplete and not (match and match[1]):
        return UNKNOWN
    if not match or not match[1]:
        raise DataError(
            f"data.reader.{what}_pattern={pattern} finds nothing in the session's name '{name}'; correct it"
        )
    return match[1]
