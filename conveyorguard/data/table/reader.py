"""Read csv and parquet files: one session per file, or several in a file with a session column.

The schema names the columns (`columns`, and `column` of a channel); `Layout` says how they are read. A camera's frames
lie next to the files: one array `thermal/<session>.npy`, or one picture per second `thermal/<session>/<second>.png`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session, Unreadable
from conveyorguard.data.table import columns
from conveyorguard.data.table.discover import find_files
from conveyorguard.data.table.layout import Layout
from conveyorguard.data.table.recording import TableJob, TablePart, column_names, read_at_once, roles_of, session_of
from conveyorguard.data.table.states import check_states, label_file
from conveyorguard.data.table.streamed import NotInBlocks, cut_parts, is_large, picked_parts, read_in_blocks
from conveyorguard.errors import ConfigError, DataError


def sessions(
    root: str | Path, schema: Schema, incomplete: bool = False, **options: Any
) -> Iterator[Recording | Unreadable]:
    """Find the sessions in one file, or in all files of a folder at any depth.

    Args:
        root: the file or folder.
        schema: channels, states and columns.
        incomplete, options: keys of `Layout`.

    Yields:
        A `Recording` or `Unreadable` for each session, sorted by name: the path of its file below the root, or its
        value in the session column; then an `Unreadable` for each file or folder that was not read.

    Raises:
        ConfigError: a key of `Layout` is unknown or its value is not possible.
        DataError: there are no files, or no session can be read.
    """
    layout = Layout.of({**options, "incomplete": incomplete})
    check_states(schema, layout, column_names(schema))
    if layout.row_every and roles_of(schema).get("time"):
        raise ConfigError(
            "data.reader.row_every applies only to files without a time column; set data.schema.columns.time=null, or "
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


def recordings_in(
    name: str, path: Path, root: Path, schema: Schema, layout: Layout, growing: bool = False
) -> list[Recording | Unreadable]:
    """Return the sessions of a file, and what of it cannot be read.

    Args:
        name: name of the session if the file holds only one.
        path: the file.
        root: `data.root`.
        growing: the file is being written; ignore what follows its last line end.
    """
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
            parts, blank = picked_parts(path, layout.encoding, roles["session"][0], growing)
    except DataError as error:
        return [Unreadable(name, "unreadable", str(error))]
    recordings: list[Recording | Unreadable] = []
    for part in parts:
        try:
            cut = cut_parts(TableJob(part, path, root, schema, layout)) if layout.split_every else [part]
        except DataError as error:
            recordings.append(Unreadable(part.name, "unreadable", str(error)))
            continue
        recordings += [_recording(piece, path, root, schema, layout, growing) for piece in cut]
    if blank:
        column = roles["session"][0]
        message = f"{path.name}: column '{column}': {blank} rows name no session and are left out"
        recordings.append(Unreadable(f"{name} (rows without a session)", "missing_session", message))
    return recordings


def _described(schema: Schema) -> list[str]:
    """Return all columns that the schema names, except that of the state."""
    return [c for role, names in roles_of(schema).items() if role != "state" for c in names] + column_names(schema)


def _needed(there: list[str], schema: Schema, layout: Layout) -> list[str]:
    """Return the columns that a file needs.

    Sessions that may be incomplete need session and time only, provided that half of the channels are present.

    Args:
        there: columns of the file.
    """
    channels = column_names(schema)[: len(schema.channels)]
    if layout.incomplete and 2 * sum(name in there for name in channels) >= len(channels):
        roles = roles_of(schema)
        return [name for role in ("session", "time") for name in roles.get(role, [])]
    return _described(schema)


def _recording(
    part: TablePart, path: Path, root: Path, schema: Schema, layout: Layout, growing: bool
) -> Recording | Unreadable:
    """Return the session of a part of a file; an `Unreadable` if its frames are missing or its name is unsafe."""
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
    read = partial(read_session, TableJob(part, path, root, schema, layout, growing), files)
    labels = label_file(layout, root)
    return Recording(name, (*files, labels) if labels else files, read)


def read_session(job: TableJob, files: tuple[Path, ...]) -> Session:
    """Read one session; bad rows are left out and listed in `Session.dropped`.

    A large csv is read in blocks; if its rows do not allow that, it is read at once, and a note says why.

    Args:
        job: the session.
        files: the table, and the frames if there is a camera.

    Raises:
        DataError: the file cannot be read, no row of it is sound, or its frames do not fit.
    """
    if not is_large(job):
        return session_of(job, read_at_once(job), files)
    try:
        return session_of(job, read_in_blocks(job), files)
    except NotInBlocks as reason:
        rows = read_at_once(job)
        rows.notes.append(f"read at once, not in blocks, as {reason}: this takes several times the memory of the file")
        return session_of(job, rows, files)
