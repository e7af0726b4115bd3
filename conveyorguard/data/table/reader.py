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
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session, Unreadable
from conveyorguard.data.table import columns
from conveyorguard.data.table.camera import add_frames
from conveyorguard.data.table.columns import Table, part_of, words_of
from conveyorguard.data.table.discover import find_files
from conveyorguard.data.table.layout import Layout
from conveyorguard.data.table.resample import resample
from conveyorguard.data.table.rows import Rows
from conveyorguard.errors import DataError

UNKNOWN = "unknown"  # device or kind of a recording that does not tell it, where it may be incomplete
ONE = "device"  # what device and kind are called where nothing tells them apart


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
    items: dict[str, Recording | Unreadable] = {}
    files, not_read = find_files(root, layout.thermal_folder)
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
        if "session" not in roles:
            return [_recording(name, None, path, root, schema, layout, growing)]
        frame = columns.read(path, layout.encoding, roles["session"], growing).frame
        text = frame[roles["session"][0]]
        blank = columns.is_missing(text)
        names = sorted(set(words_of(text[~blank])))
    except DataError as error:
        return [Unreadable(name, "unreadable", str(error))]
    recordings = [_recording(session, session, path, root, schema, layout, growing) for session in names]
    if blank.any():
        message = f"{path.name}: column '{text.name}': {blank.sum()} rows name no session; they are left out"
        recordings.append(Unreadable(f"{name} (rows without a session)", "missing_session", message))
    return recordings


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
    name: str, picked: str | None, path: Path, root: Path, schema: Schema, layout: Layout, growing: bool
) -> Recording | Unreadable:
    files: tuple[Path, ...] = (path,)
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
    return Recording(name, files, partial(read_session, name, picked, files, schema, layout, growing))


@lru_cache(maxsize=1)  # a file of many sessions is read once by each process
def _load(path: Path, changed: int, encoding: str, wanted: tuple[str, ...], growing: bool) -> Table:
    return columns.read(path, encoding, wanted, growing)


def read_session(
    name: str, picked: str | None, files: tuple[Path, ...], schema: Schema, layout: Layout, growing: bool = False
) -> Session:
    """Read one recording; a bad row is left out and listed in `Session.dropped`.

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
    rows = Rows(path, table)
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
        period=float(layout.period),
    )
    if schema.thermal:
        scale, offset = layout.thermal_scale, layout.thermal_offset
        add_frames(session, files[1], schema.thermal, scale, offset, rows.place[source], rows.count)
    return session


def _where(files: list[str], row: np.ndarray, what: str, second: int) -> str:
    frame = f"{files[-1]}: the frame of " if what == "thermal" else ""
    return f"{frame}{files[0]}: row {row[second]}"


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
