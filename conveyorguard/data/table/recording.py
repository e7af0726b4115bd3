"""One recording of a table: its rows, put on whole periods, as a `Session`."""

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

UNKNOWN = "unknown"  # device or kind of a recording that does not tell it, where it may be incomplete
ONE = "device"  # what device and kind are called where nothing tells them apart
STOP = 10  # usual intervals between rows; a longer one is a stop

Constants = Mapping[str, list[str]]  # the words of the columns of device and kind


@dataclass(frozen=True)
class TablePart:
    """What of a file is a recording.

    Attributes:
        name: of the recording.
        whole: of the recording before it was cut into parts; the same where it is not cut.
        picked: its value in the session column; None if the file is all its own.
        number: of the part, from 0; None where it is not cut.
        blocks: the first and the last block of rows that hold it; None: all.
        begin: time of the first row of the recording before it was cut, as `BlockClock` counts it.
        origin: ns since 1970 from which `begin` counts; None where the recording has no dates.
    """

    name: str
    whole: str
    picked: str | None = None
    number: int | None = None
    blocks: tuple[int, int] | None = None
    begin: float | None = None
    origin: int | None = None


def column_names(schema: Schema) -> list[str]:
    """The columns of the channels and the environment, in the order of the schema."""
    return [channel.column or name for name, channel in {**schema.channels, **schema.environment}.items()]


def roles_of(schema: Schema) -> dict[str, list[str]]:
    """The columns of session, device, kind, time and state, as far as the schema names them."""
    named = {
        role: [column] if isinstance(column, str) else list(column or ()) for role, column in schema.columns.items()
    }
    return {role: columns for role, columns in named.items() if columns}


@dataclass(frozen=True)
class TableJob:
    """What is to be read, and how.

    Attributes:
        growing: somebody is writing the table: what follows its last line end is left for later.
    """

    part: TablePart
    path: Path
    root: Path
    schema: Schema
    layout: Layout
    growing: bool = False

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        return roles_of(self.schema)

    @cached_property
    def channels(self) -> list[str]:
        return column_names(self.schema)

    @cached_property
    def aggregates(self) -> list[str]:
        return [channel.aggregate for channel in (*self.schema.channels.values(), *self.schema.environment.values())]

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The columns that are read."""
        reads = [self.layout.states_from.column] if self.layout.states_from else []
        return (*(column for names in self.roles.values() for column in names), *self.channels, *reads)

    def times(self, table: Table, time_format: str | None = None) -> Times:
        """The times of a table of these columns.

        Args:
            time_format: instead of `data.reader.time_format`.
        """
        return _times(self.path, table, tuple(self.roles.get("time", [])), self.layout, time_format)


@dataclass
class GridRows:
    """The sound rows of a recording on whole periods.

    Attributes:
        second: (m,) int64, periods since the start.
        values: (m, C) of channels and environment.
        states: (m,); None where the recording has none.
        row, seconds: (m,) row of the file, and time, of the row that each is from.
        times: origin and zone of `seconds`.
        begin: s of the first row, on the clock of `seconds`.
        constants: words of the columns of device and kind.
        columns: of the file.
        averaged: a value stands for several rows.
        notes: what was done to all rows, or is odd about them.
        place, count: (m,) which row of all each is, and how many there are; of a recording with a camera.
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


@lru_cache(maxsize=1)  # a file of many sessions is read once by each process
def _load(path: Path, changed: int, encoding: str, wanted: tuple[str, ...], growing: bool) -> Table:
    return columns.read(path, encoding, wanted, growing)


def _times(path: Path, table: Table, names: tuple[str, ...], layout: Layout, time_format: str | None = None) -> Times:
    """The times of a table; without a column of times, the rows are equally far apart."""
    if not names:
        return Times(places_of(table)[0] * (layout.row_every or layout.period))
    try:
        return read_times(table, [*names], layout.time_unit, time_format or layout.time_format, layout.time_zone)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error


@lru_cache(maxsize=1)  # a recording of many parts is picked, and its times are read, once
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
    """The rows of a recording before it is cut, and their times; kept for its other parts."""
    picked = None if job.part.picked is None else (job.roles["session"][0], job.part.picked)
    names = tuple(job.roles.get("time", []))
    return _timed(job.path, os.stat(job.path).st_mtime_ns, picked, names, job.wanted, job.layout, job.growing)


def read_at_once(job: TableJob) -> GridRows:
    """Read all rows of a recording, then put them on whole periods."""
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
    """Make a session of the rows of a recording.

    Args:
        files: the table, and the frames if there is a camera.

    Raises:
        DataError: it has several devices or kinds, or its frames do not fit.
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
    """The columns of the times, where they are written as dates."""
    return job.roles.get("time") if times.origin is not None and times.unit is None else None


def constant_columns(job: TableJob) -> list[str]:
    """The columns of device and kind."""
    return [column for role in ("device", "kind") for column in job.roles.get(role, [])]


def distinct_words(table: Table, name: str) -> list[str]:
    """What a column says, in the order of appearance."""
    values = table.frame[name].drop_duplicates()
    return list(dict.fromkeys(words_of(values[~columns.is_missing(values)])))


def usual_notes(clock: str, grid: str, mixed: bool, reordered: bool = False) -> list[str]:
    """What was done to all rows of a recording."""
    worst = "several states within a period: the worst one is kept" if mixed else ""
    return [note for note in (clock, grid, worst, "rows put in the order of their times" * reordered) if note]


def piece_of(seconds: np.ndarray, layout: Layout, begin: float | None = None) -> np.ndarray:
    """(n,) int64 number of the part that each row is in; a row without a time is in that of the row before it.

    Args:
        begin: of the recording, where these are not all of its rows.
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
    """The clock time of the first row, in UTC to the microsecond; of wall times without a zone these as they are."""
    if times.origin is None:
        return None
    first = times.origin + round(begin * 1e9)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=first // 1000)


def _unused_states(there: list[str], schema: Schema, layout: Layout) -> str:
    """A word on a column of states that is not read, as the states come from elsewhere."""
    column = schema.columns.get("state")
    key = next((key for key in STATE_KEYS if getattr(layout, key)), None)
    if key is None or column not in there or (layout.states_from and layout.states_from.column == column):
        return ""
    return f"column '{column}' is not used: the states are those of data.reader.{key}"


def _where(
    files: list[str], row: np.ndarray, seconds: np.ndarray, times: Moments | None, what: str, second: int
) -> str:
    frame = f"{files[-1]}: the frame of " if what == "thermal" else ""
    date = f" ({times.of(seconds[second])})" if times else ""
    return f"{frame}{files[0]}: row {row[second]}{date}"


def _kind(constants: Constants, roles: dict[str, list[str]], layout: Layout, schema: Schema, name: str) -> str:
    if "kind" not in roles and not layout.kind_pattern and len(schema.kinds) == 1:
        return schema.kinds[0]
    kind = _constant(constants, roles.get("kind"), layout.kind_pattern, "kind", name, layout)
    if schema.kinds and kind not in schema.kinds and not layout.incomplete:
        raise DataError(f"kind '{kind}' is not one of data.schema.kinds ({', '.join(schema.kinds)}); add it there")
    return kind


def _constant(
    constants: Constants, column: list[str] | None, pattern: str | None, what: str, name: str, layout: Layout
) -> str:
    """Device or kind: by its column, else by its pattern in the session's name."""
    if column and layout.incomplete and column[0] not in constants:
        return UNKNOWN
    if column:
        words = constants.get(column[0], [])
        if len(words) != 1:
            names = ", ".join(words[:5]) or "none"
            raise DataError(
                f"column '{column[0]}': expected one {what} a recording, found {names}; split the file, or name a "
                "session column as data.schema.columns.session"
            )
        return words[0]
    if not pattern:
        return ONE
    match = re.search(pattern, name)
    if layout.incomplete and not (match and match[1]):
        return UNKNOWN
    if not match or not match[1]:
        raise DataError(f"data.reader.{what}_pattern={pattern} finds nothing in the session's name '{name}'")
    return match[1]
