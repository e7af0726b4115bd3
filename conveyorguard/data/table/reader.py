"""Reader of csv and parquet files: one recording a file, or one file with a session column.

What the columns are called stands in the schema (`columns`, and `column` of a channel); how they are read, in `Layout`.
A camera's frames lie beside the files: `thermal/<session>.npy`, or one picture a second,
`thermal/<session>/<second>.png`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session, Unreadable
from conveyorguard.data.table import columns
from conveyorguard.data.table.camera import add_frames
from conveyorguard.data.table.clock import Moments, Times, read_times
from conveyorguard.data.table.columns import Table, part_of, words_of
from conveyorguard.data.table.discover import find_files
from conveyorguard.data.table.layout import STATE_KEYS, STOPS, Layout
from conveyorguard.data.table.resample import resample
from conveyorguard.data.table.rows import Rows, places_of, refuse_restarts
from conveyorguard.data.table.states import check_states, label_file, state_source
from conveyorguard.errors import ConfigError, DataError

UNKNOWN = "unknown"  # device or kind of a recording that does not tell it, where it may be incomplete
ONE = "device"  # what device and kind are called where nothing tells them apart
STOP = 10  # usual intervals between rows; a longer one is a stop


@dataclass(frozen=True)
class TablePart:
    """What of a file is a recording.

    Attributes:
        name: of the recording.
        whole: of the recording before it was cut into parts; the same where it is not cut.
        picked: its value in the session column; None if the file is all its own.
        number: of the part, from 0; None where it is not cut.
    """

    name: str
    whole: str
    picked: str | None = None
    number: int | None = None


def sessions(
    root: str | Path, schema: Schema, incomplete: bool = False, **options: Any
) -> Iterator[Recording | Unreadable]:
    """Find the recordings of a folder (files at any depth), or of one file.

    Args:
        incomplete, options: keys of `Layout`.

    Yields:
        A `Recording` for each, sorted by name: the path of its file below the root, or its value in the session column.

    Raises:
        ConfigError: a key of `Layout` is unknown or impossible.
        DataError: there are no files, or none of them has the schema's columns.
    """
    layout = Layout.of({**options, "incomplete": incomplete})
    check_states(schema, layout, column_names(schema))
    if layout.row_every and roles_of(schema).get("time"):
        raise ConfigError(
            "data.reader.row_every is of files without a time column; set data.schema.columns.time=null, or "
            "row_every=null"
        )
    if layout.split_every and schema.thermal:
        raise ConfigError("data.reader.split_every cuts tables, not a camera's frames: cut the recordings into files")
    labels = label_file(layout, Path(root))
    items: dict[str, Recording | Unreadable] = {}
    files, not_read = find_files(root, layout.thermal_folder, labels)
    for name, path in files.items():
        for item in recordings_in(name, path, Path(root), schema, layout):
            if item.name in items:
                message = f"this session is in {_file_of(items[item.name])} and in {path.name}; join or rename them"
                item = Unreadable(item.name, "duplicate_session", message)
            items[item.name] = item
    unreadable = [item for item in items.values() if isinstance(item, Unreadable)]
    if len(unreadable) == len(items):
        more = f"\nand {len(unreadable) - 1} more files alike" if len(unreadable) > 1 else ""
        raise DataError(f"data.root={root}: no recording can be read\n{unreadable[0].message}{more}")
    yield from (items[name] for name in sorted(items))
    yield from not_read


def _file_of(item: Recording | Unreadable) -> str:
    return item.files[0].name if isinstance(item, Recording) else "another file"


def column_names(schema: Schema) -> list[str]:
    """The columns of the channels and the environment, in the order of the schema."""
    return [channel.column or name for name, channel in {**schema.channels, **schema.environment}.items()]


def roles_of(schema: Schema) -> dict[str, list[str]]:
    """The columns of session, device, kind, time and state, as far as the schema names them."""
    named = {
        role: [column] if isinstance(column, str) else list(column or ()) for role, column in schema.columns.items()
    }
    return {role: columns for role, columns in named.items() if columns}


def recordings_in(
    name: str, path: Path, root: Path, schema: Schema, layout: Layout, growing: bool = False
) -> list[Recording | Unreadable]:
    """The recordings of a file; growing: as for `read_session`."""
    roles = roles_of(schema)
    try:
        there = columns.header(path, layout.encoding, _described(schema))
        remedy = (
            "correct the names in data.schema (`columns` of time and the like, `column` of a channel), or draft it "
            f"anew: python -m conveyorguard schema {shlex.quote(str(root))}"
        )
        missing = columns.missing_columns(path, there, _needed(there, schema, layout), remedy)
        if missing:
            return [Unreadable(name, "missing_columns", missing)]
        parts, blank = [TablePart(name, name)], 0
        if "session" in roles:
            frame = columns.read(path, layout.encoding, roles["session"], growing).frame
            text = frame[roles["session"][0]]
            known = ~columns.is_missing(text)
            parts = [TablePart(word, word, word) for word in sorted(set(words_of(text[known])))]
            blank = int((~known).sum())
    except DataError as error:
        return [Unreadable(name, "unreadable", str(error))]
    recordings: list[Recording | Unreadable] = []
    for part in parts:
        try:
            cut = _cut(part, path, schema, layout) if layout.split_every else [part]
        except DataError as error:
            recordings.append(Unreadable(part.name, "unreadable", str(error)))
            continue
        recordings += [_recording(piece, path, root, schema, layout, growing) for piece in cut]
    if blank:
        column = roles["session"][0]
        message = f"{path.name}: column '{column}': {blank} rows name no session; they are left out"
        recordings.append(Unreadable(f"{name} (rows without a session)", "missing_session", message))
    return recordings


def _cut(part: TablePart, path: Path, schema: Schema, layout: Layout) -> list[TablePart]:
    """The parts of a recording that is longer than `split_every`; itself where it is not."""
    roles = roles_of(schema)
    wanted = tuple(c for role in ("session", "time") for c in roles.get(role, []))
    table, times = _timed(path, os.stat(path).st_mtime_ns, part.picked, wanted, _Clock.of(schema, layout), False)
    numbers = np.unique(piece_of(times.seconds, layout))
    if len(numbers) < 2:
        return [part]
    return [TablePart(f"{part.name}#{k + 1}", part.whole, part.picked, int(k)) for k in numbers]


def piece_of(seconds: np.ndarray, layout: Layout) -> np.ndarray:
    """(n,) int64 number of the part that each row is in; a row without a time is in that of the row before it."""
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
        number = np.floor((time - time.min()) / float(layout.split_every) + 1e-9).astype(np.int64)
    return number[np.maximum(np.searchsorted(known, np.arange(len(seconds)), side="right") - 1, 0)]


def _described(schema: Schema) -> list[str]:
    """All columns that the schema names, except that of the state."""
    return [c for role, names in roles_of(schema).items() if role != "state" for c in names] + column_names(schema)


def _needed(there: list[str], schema: Schema, layout: Layout) -> list[str]:
    """Columns without which a file is not read; where a recording may be incomplete, the time and half of the
    channels."""
    channels = column_names(schema)[: len(schema.channels)]
    if layout.incomplete and 2 * sum(name in there for name in channels) >= len(channels):
        roles = roles_of(schema)
        return [name for role in ("session", "time") for name in roles.get(role, [])]
    return _described(schema)


def _recording(
    part: TablePart, path: Path, root: Path, schema: Schema, layout: Layout, growing: bool
) -> Recording | Unreadable:
    files: tuple[Path, ...] = (path,)
    name = part.name
    if schema.thermal:
        base = (root if root.is_dir() else root.parent) / layout.thermal_folder / name
        if not Path(name).parts or Path(name).is_absolute() or ".." in Path(name).parts:
            message = (
                f"{path.name}: expected a session whose name leads to frames in {layout.thermal_folder}, found "
                f"'{name}', which leads out of it; rename the session"
            )
            return Unreadable(name, "bad_session_name", message)
        camera = next((p for p in (base.with_name(f"{base.name}.npy"), base) if os.path.exists(p)), None)
        if camera is None:
            message = (
                f"expected {layout.thermal_folder}/{name}.npy or a folder {layout.thermal_folder}/{name}, found "
                "neither; without a camera set data.schema.thermal=null"
            )
            return Unreadable(name, "missing_thermal", message)
        files = (path, camera)
    read = partial(read_session, part, files, root, schema, layout, growing)
    labels = label_file(layout, root)
    return Recording(name, (*files, labels) if labels else files, read)


@dataclass(frozen=True)
class _Clock:
    """What decides how the rows of a recording are picked, and their times read."""

    columns: tuple[str, ...]
    session: str
    layout: Layout

    @classmethod
    def of(cls, schema: Schema, layout: Layout) -> _Clock:
        roles = roles_of(schema)
        return cls(tuple(roles.get("time", [])), next(iter(roles.get("session", [])), ""), layout)


@lru_cache(maxsize=1)  # a file of many sessions is read once by each process
def _load(path: Path, changed: int, encoding: str, wanted: tuple[str, ...], growing: bool) -> Table:
    return columns.read(path, encoding, wanted, growing)


@lru_cache(maxsize=1)  # a recording of many parts is picked, and its times are read, once
def _timed(
    path: Path, changed: int, picked: str | None, wanted: tuple[str, ...], clock: _Clock, growing: bool
) -> tuple[Table, Times]:
    """The rows of a recording, and their times."""
    table = _load(path, changed, clock.layout.encoding, wanted, growing)
    if picked is not None:
        table = part_of(table, clock.session, picked)
    if not clock.columns:
        return table, Times(places_of(table)[0] * (clock.layout.row_every or clock.layout.period))
    layout = clock.layout
    try:
        times = read_times(table, [*clock.columns], layout.time_unit, layout.time_format, layout.time_zone)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from error
    if times.origin is None:
        refuse_restarts(path, times.seconds, [*clock.columns])
    return table, times


def read_session(
    part: TablePart, files: tuple[Path, ...], root: Path, schema: Schema, layout: Layout, growing: bool = False
) -> Session:
    """Read one recording; a bad row is left out and listed in `Session.dropped`.

    Args:
        files: the table, and the frames if there is a camera.
        growing: somebody is writing the table: what follows its last line end is left for later.

    Raises:
        DataError: the file cannot be read, no row of it is sound, or its frames do not fit.
    """
    path, roles = files[0], roles_of(schema)
    reads = layout.states_from.column if layout.states_from else None
    wanted = (*(c for names in roles.values() for c in names), *column_names(schema), *([reads] if reads else []))
    changed = os.stat(path).st_mtime_ns
    table, times = _timed(path, changed, part.picked, wanted, _Clock.of(schema, layout), growing)
    seconds = times.seconds
    if part.number is not None:
        mine = piece_of(seconds, layout) == part.number
        table, seconds = columns.rows_of(table, mine), seconds[mine]
    dated = times.origin is not None and times.unit is None
    moments = Moments(times.origin, times.zone) if dated and times.origin is not None else None
    rows = Rows(path, table, roles.get("time") if dated else None)
    time = rows.times(seconds, roles.get("time", []), layout.period)
    values = rows.numbers(column_names(schema), layout.missing)  # NaN where a column is missing
    state = rows.states(state_source(part.whole, schema, layout, root, times), seconds)
    order = rows.sound(time)
    described = [*schema.channels.values(), *schema.environment.values()]
    grid = resample(time[order], values[order], layout.period, [channel.aggregate for channel in described])
    for i in order[grid.twice]:
        rows.refuse(
            "duplicate_second",
            [i],
            lambda i: (
                f"expected each second once, found another row of one: second {time[i]:g} is there already; remove "
                "one of them"
            ),
        )
    states, mixed = (None, False) if state is None else grid.states(state[order])
    source, channels = order[grid.source], len(schema.channels)
    session = Session(
        name=part.name,
        device=_constant(table, roles.get("device"), layout.device_pattern, "device", part.whole, layout.incomplete),
        kind=_kind(table, roles, layout, schema, part.whole),
        time=grid.second,
        sensors=grid.values[:, :channels],
        environment=grid.values[:, channels:],
        state=states,
        dropped=rows.dropped,
        notes=[
            *rows.notes,
            *_notes(
                times.note, grid.note, mixed, bool((np.diff(order) < 0).any()), _unused_states(table, schema, layout)
            ),
        ],
        averaged=grid.averaged,
        where=partial(_where, [file.name for file in files], table.row[source], seconds[source], moments),
        period=layout.period,
        start=_start(times, seconds),
        zone=times.zone,
    )
    if schema.thermal:
        scale, offset = layout.thermal_scale, layout.thermal_offset
        add_frames(session, files[1], schema.thermal, scale, offset, rows.place[source], rows.count)
    return session


def _start(times: Times, seconds: np.ndarray) -> datetime | None:
    """The clock time of the first row, in UTC to the microsecond; of wall times without a zone these as they are."""
    if times.origin is None:
        return None
    first = times.origin + round(float(np.nanmin(seconds)) * 1e9)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=first // 1000)


def _notes(clock: str, grid: str, mixed: bool, reordered: bool, unused: str) -> list[str]:
    worst = "several states within a period: the worst one is kept" if mixed else ""
    return [note for note in (clock, grid, worst, "rows put in the order of their times" * reordered, unused) if note]


def _unused_states(table: Table, schema: Schema, layout: Layout) -> str:
    """A word on a column of states that is not read, as the states come from elsewhere."""
    column = schema.columns.get("state")
    key = next((key for key in STATE_KEYS if getattr(layout, key)), None)
    if key is None or column not in table.frame or (layout.states_from and layout.states_from.column == column):
        return ""
    return f"column '{column}' is not used: the states are those of data.reader.{key}"


def _where(
    files: list[str], row: np.ndarray, seconds: np.ndarray, times: Moments | None, what: str, second: int
) -> str:
    frame = f"{files[-1]}: the frame of " if what == "thermal" else ""
    date = f" ({times.of(seconds[second])})" if times else ""
    return f"{frame}{files[0]}: row {row[second]}{date}"


def _kind(table: Table, roles: dict[str, list[str]], layout: Layout, schema: Schema, name: str) -> str:
    if "kind" not in roles and not layout.kind_pattern and len(schema.kinds) == 1:
        return schema.kinds[0]
    kind = _constant(table, roles.get("kind"), layout.kind_pattern, "kind", name, layout.incomplete)
    if schema.kinds and kind not in schema.kinds and not layout.incomplete:
        raise DataError(f"kind '{kind}' is not one of data.schema.kinds ({', '.join(schema.kinds)}); add it there")
    return kind


def _constant(
    table: Table, column: list[str] | None, pattern: str | None, what: str, name: str, incomplete: bool = False
) -> str:
    """Device or kind: by its column, else by its pattern in the session's name."""
    if column and incomplete and column[0] not in table.frame:
        return UNKNOWN
    if column:
        values = table.frame[column[0]]
        words = list(dict.fromkeys(words_of(values[~columns.is_missing(values)])))
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
    if incomplete and not (match and match[1]):
        return UNKNOWN
    if not match or not match[1]:
        raise DataError(f"data.reader.{what}_pattern={pattern} finds nothing in the session's name '{name}'")
    return match[1]
