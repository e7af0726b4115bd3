"""Reader of csv and parquet files: one recording a file, or one file with a session column.

What the columns are called stands in the schema (`columns`, and `column` of a channel); how they are read, in `Layout`.
A camera's frames lie beside the files: `thermal/<session>.npy`, or one picture a second,
`thermal/<session>/<second>.png`.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.schema import UNLABELLED, Schema
from conveyorguard.data.session import Dropped, Recording, Session, Unreadable
from conveyorguard.data.table import columns
from conveyorguard.data.table.camera import add_frames
from conveyorguard.data.table.columns import UNITS, Table
from conveyorguard.data.table.discover import find_files
from conveyorguard.data.table.resample import resample
from conveyorguard.errors import ConfigError, DataError

UNKNOWN = "unknown"  # device or kind of a recording that does not tell it, where it may be incomplete
ONE = "device"  # what device and kind are called where nothing tells them apart


@dataclass(frozen=True)
class Layout:
    """How the files are read: the keys of `data.reader`.

    Attributes:
        period: s between the rows of the store; recordings of another period are resampled to it.
        time_unit: of a time column of numbers: s, ms, us, ns, min, h or d.
        time_format: of a time column of text, as for strptime, if it is none of the usual.
        encoding: of csv files.
        device_pattern: regular expression whose group is the device, searched in the session's name.
        kind_pattern: likewise for the kind of device.
        thermal_folder: where the frames are, below the root.
        thermal_scale, thermal_offset: degC = scale * value + offset, of every pixel of an array or picture.
        incomplete: accept a recording that lacks some channels (their values are NaN) or does not tell its device or
            kind.
    """

    period: float = 1.0
    time_unit: str = "s"
    time_format: str | None = None
    encoding: str = "utf-8"
    device_pattern: str | None = None
    kind_pattern: str | None = None
    thermal_folder: str = "thermal"
    thermal_scale: float = 1.0
    thermal_offset: float = 0.0
    incomplete: bool = False

    @classmethod
    def of(cls, options: dict[str, Any]) -> Layout:
        """Check the keys of `data.reader`.

        Raises:
            ConfigError: naming every key that is unknown or impossible.
        """
        known = [f.name for f in fields(cls)]
        found = [f"unknown key '{key}'; known are {', '.join(known)}" for key in options if key not in known]
        layout = cls(**{key: value for key, value in options.items() if key in known})
        if not (isinstance(layout.period, int | float) and layout.period > 0):
            found.append(f"period={layout.period}: seconds, more than 0")
        if layout.time_unit not in UNITS:
            found.append(f"time_unit={layout.time_unit}: one of {', '.join(UNITS)}")
        for key in ("device_pattern", "kind_pattern"):
            try:
                groups = re.compile(getattr(layout, key) or "()").groups
            except re.error as error:
                found.append(f"{key}={getattr(layout, key)}: no regular expression ({error})")
            else:
                if groups != 1:
                    found.append(f"{key}={getattr(layout, key)}: put brackets round the one part that is the name")
        if found:
            raise ConfigError("data.reader:\n" + "\n".join(f"  - {problem}" for problem in found))
        return layout


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
    found: dict[str, Recording | Unreadable] = {}
    files, lost = find_files(root, layout.thermal_folder)
    for name, path in files.items():
        for item in recordings_in(name, path, Path(root), schema, layout):
            if item.name in found:
                message = f"this session is in {_file_of(found[item.name])} and in {path.name}; join or rename them"
                item = Unreadable(item.name, "duplicate_session", message)
            found[item.name] = item
    unreadable = [item for item in found.values() if isinstance(item, Unreadable)]
    if len(unreadable) == len(found):
        more = f"\nand {len(unreadable) - 1} more files alike" if len(unreadable) > 1 else ""
        raise DataError(f"data.root={root}: no recording can be read\n{unreadable[0].message}{more}")
    yield from (found[name] for name in sorted(found))
    yield from lost


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
    wanted = [c for role, names in roles.items() if role != "state" for c in names] + column_names(schema)
    names: list[str] = []
    try:
        there = columns.header(path, layout.encoding, wanted)
        remedy = (
            "correct the names in data.schema (`columns` of time and the like, `column` of a channel), or draft it "
            "anew: "
            f"python -m conveyorguard schema {shlex.quote(str(root))}"
        )
        missing = columns.missing_columns(path, there, needed_columns(there, schema, layout), remedy)
        if missing:
            return [Unreadable(name, "missing_columns", missing)]
        if "session" not in roles:
            return [_recording(name, None, path, root, schema, layout, growing)]
        frame = columns.read(path, layout.encoding, roles["session"], growing).frame
        text = frame[roles["session"][0]]
        blank = columns.is_missing(text)
        names = sorted(set(words_of(text[~blank])))
    except DataError as error:
        return [Unreadable(name, "unreadable", str(error))]
    found = [_recording(session, session, path, root, schema, layout, growing) for session in names]
    if blank.any():
        message = f"{path.name}: column '{text.name}': {blank.sum()} rows name no session; they are left out"
        found.append(Unreadable(f"{name} (rows without a session)", "missing_session", message))
    return found


def needed_columns(there: list[str], schema: Schema, layout: Layout) -> list[str]:
    """Columns without which a file is not read; where a recording may be incomplete, the time and half of the
    channels."""
    roles, channels = roles_of(schema), column_names(schema)[: len(schema.channels)]
    if layout.incomplete and 2 * sum(name in there for name in channels) >= len(channels):
        return [name for role in ("session", "time") for name in roles.get(role, [])]
    return [c for role, names in roles.items() if role != "state" for c in names] + column_names(schema)


def _recording(
    name: str, picked: str | None, path: Path, root: Path, schema: Schema, layout: Layout, growing: bool
) -> Recording | Unreadable:
    files: tuple[Path, ...] = (path,)
    if schema.thermal:
        base = (root if root.is_dir() else root.parent) / layout.thermal_folder / name
        if not Path(name).parts or Path(name).is_absolute() or ".." in Path(name).parts:
            message = (
                f"{path.name}: expected a session whose name leads to frames in {layout.thermal_folder}, found "
                f"'{name}', which "
                "leads out of it; rename the session"
            )
            return Unreadable(name, "bad_session_name", message)
        camera = next((p for p in (base.with_name(f"{base.name}.npy"), base) if os.path.exists(p)), None)
        if camera is None:
            message = (
                f"expected {layout.thermal_folder}/{name}.npy or a folder {layout.thermal_folder}/{name}, found "
                "neither; "
                "without a camera set data.schema.thermal=null"
            )
            return Unreadable(name, "missing_thermal", message)
        files = (path, camera)
    return Recording(name, files, partial(read_session, name, picked, files, schema, layout, growing))


def words_of(column) -> np.ndarray:
    """Text of names and codes; 3.0 is written 3, as what it was before a blank cell made it a float."""
    return column.astype(str).str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True).to_numpy(object)


@lru_cache(maxsize=1)  # a file of many sessions is read once by each process
def _load(path: Path, changed: int, encoding: str, wanted: tuple[str, ...], growing: bool) -> Table:
    return columns.read(path, encoding, wanted, growing)


def read_session(
    name: str, picked: str | None, files: tuple[Path, ...], schema: Schema, layout: Layout, growing: bool = False
) -> Session:
    """Read one recording; a bad row is left out and told in `Session.dropped`.

    Args:
        picked: its value in the session column; None if the file is all its own.
        files: the table, and the frames if there is a camera.
        growing: somebody is writing the table: what follows its last line end is left for later.

    Raises:
        DataError: the file cannot be read, no row of it is sound, or its frames do not fit.
    """
    path, roles = files[0], roles_of(schema)
    wanted = (*(c for names in roles.values() for c in names), *column_names(schema))
    table = _load(path, os.stat(path).st_mtime_ns, layout.encoding, wanted, growing)
    if picked is not None:
        table = part_of(table, roles["session"][0], picked)
    rows = _Rows(path, table)
    time = rows.times(roles.get("time"), layout)
    values = rows.numbers(column_names(schema))  # NaN where a column is missing
    state = rows.states(roles.get("state"), schema)
    order = rows.sound(time)
    grid = resample(time[order], values[order], layout.period)
    for i in order[grid.twice]:
        rows.refuse(
            "duplicate_second",
            [i],
            lambda i: (
                f"expected each second once, found another row of one: second {time[i]:g} is there already; remove "
                "one of them"
            ),
        )
    notes = [grid.note] if grid.note else []
    if (np.diff(order) < 0).any():
        notes.append("rows put in the order of their times")
    source, channels = order[grid.source], len(schema.channels)
    session = Session(
        name=name,
        device=_constant(table, roles.get("device"), layout.device_pattern, "device", name, layout.incomplete),
        kind=_kind(table, roles, layout, schema, name),
        time=grid.second,
        sensors=grid.values[:, :channels],
        environment=grid.values[:, channels:],
        state=None if state is None else state[source],
        dropped=rows.dropped,
        notes=notes,
        averaged=grid.averaged,
        where=partial(_where, [file.name for file in files], table.row[source]),
    )
    if schema.thermal:
        scale, offset = layout.thermal_scale, layout.thermal_offset
        add_frames(session, files[1], schema.thermal, scale, offset, rows.place[source], rows.count)
    return session


def _where(files: list[str], row: np.ndarray, what: str, second: int) -> str:
    frame = f"{files[-1]}: the frame of " if what == "thermal" else ""
    return f"{frame}{files[0]}: row {row[second]}"


class _Rows:
    """The rows of a recording: which are still sound, and what is wrong with the others."""

    def __init__(self, path: Path, table: Table):
        self.path, self.table = path, table
        self.keep = np.ones(len(table.row), bool)
        self.dropped = [Dropped("ragged_row", f"{path.name}: row {row}", why) for row, why in table.ragged.items()]
        every = np.union1d(table.row, [*table.ragged])
        self.place, self.count = np.searchsorted(every, table.row), len(every)  # a camera has frames of bad rows too

    def refuse(self, reason: str, where: np.ndarray | list[int], message: Callable[[int], str]) -> None:
        """Leave out the given rows that were sound so far."""
        for i in np.arange(len(self.keep))[where]:
            if self.keep[i]:
                self.dropped.append(Dropped(reason, f"{self.path.name}: row {self.table.row[i]}", message(int(i))))
        self.keep[where] = False

    def _cell(self, i: int, names: list[str]) -> str:
        return (
            f"column '{names[0]}': found '{' '.join(str(self.table.frame[name].iloc[i]) for name in names)}', expected "
        )

    def times(self, names: list[str] | None, layout: Layout) -> np.ndarray:
        """(n,) s since the first row that has a time, be it sound otherwise or not."""
        if not names:
            return self.place * layout.period
        try:
            time = columns.clock(self.table, names, layout.time_unit, layout.time_format)
        except DataError as error:
            raise DataError(f"{self.path.name}: {error}") from error
        self.refuse("bad_time", np.isnan(time), lambda i: self._cell(i, names) + "a time")
        time = time - np.nanmin(time)
        far = time >= layout.period * 2**31
        self.refuse("bad_time", far, lambda i: self._cell(i, names) + "a time near the others")
        return time

    def numbers(self, names: list[str]) -> np.ndarray:
        """(n, columns) float64."""
        there = [name for name in names if name in self.table.frame]
        values = np.full((len(self.table.row), len(names)), np.nan)
        bad = np.zeros(values.shape, bool)
        places = [i for i, name in enumerate(names) if name in self.table.frame]
        values[:, places], bad[:, places] = columns.numbers(self.table, there)

        def message(i: int) -> str:
            name = names[bad[i].argmax()]
            return self._cell(i, [name]) + "a number" + _remedy(str(self.table.frame[name].iloc[i]), self.table)

        self.refuse("bad_number", np.asarray(bad.any(axis=1)), message)
        return values

    def states(self, names: list[str] | None, schema: Schema) -> np.ndarray | None:
        """(n,) 0..K-1; None if the recording has none."""
        if not names or names[0] not in self.table.frame or columns.is_missing(self.table.frame[names[0]]).all():
            return None
        words = state_words(schema)
        state = np.array([words.get(word, UNLABELLED) for word in words_of(self.table.frame[names[0]])], np.int64)
        expected = f"one of {', '.join(words)} (data.schema.states; a name, or the label of one)"
        self.refuse("bad_state", state == UNLABELLED, lambda i: self._cell(i, names) + expected)
        return state

    def sound(self, time: np.ndarray) -> np.ndarray:
        """Numbers of the sound rows in the order of their times."""
        if not self.keep.any():
            why = f"{self.dropped[0].where}: {self.dropped[0].message}" if self.dropped else "it has none"
            raise DataError(f"{self.path.name}: no usable row ({why})")
        return np.flatnonzero(self.keep)[np.argsort(time[self.keep], kind="stable")]


def _remedy(found: str, table: Table) -> str:
    if "," in found and "." in found:
        return "; write thousands without a separator"
    if "," in found:
        return "; write decimals with a point, or separate the columns with ;"
    if "." in found and table.separator:
        return "; other numbers of this file have a decimal comma, and a point may mean thousands: write all alike"
    return "; a blank cell stands for a missing value"


def state_words(schema: Schema) -> dict[str, int]:
    """What may stand for each state: its name or its label; also its number from 0, if no name or label is a number."""
    words = {word: k for k, state in enumerate(schema.states) for word in (state.label, state.name) if word}
    if any(re.fullmatch(r"-?\d+", word) for word in words):
        return words
    return words | {str(k): k for k in range(len(schema.states))}


def part_of(table: Table, column: str, picked: str) -> Table:
    """The rows of one session. Of a ragged row nobody knows the session: it counts to the one before."""
    names = words_of(table.frame[column])
    mine = names == picked
    ragged = {r: why for r, why in table.ragged.items() if mine[max(np.searchsorted(table.row, r) - 1, 0)]}
    return Table(table.frame[mine], table.row[mine], ragged, table.separator)


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
            found = ", ".join(words[:5]) or "none"
            raise DataError(
                f"column '{column[0]}': expected one {what} a recording, found {found}; split the file, or name a "
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
