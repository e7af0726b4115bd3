"""Find the tables of a folder, and say which files cannot be read because of their name or place."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from conveyorguard.data.session import Unreadable
from conveyorguard.data.table.files import PACKED, SUFFIXES, is_table, without_suffix
from conveyorguard.errors import DataError
from conveyorguard.system.text import printable, without_path

PART_OF_TABLE = re.compile(r"part-\d+.*\.(parquet|csv)|[0-9a-f]{32}-\d+\.parquet")  # as Spark and pandas name them
PARTITION = re.compile(r"[^=]+=.+")  # a folder of a partitioned table, as device=A


def find_files(
    root: str | Path, thermal_folder: str = "thermal", labels: Path | None = None
) -> tuple[dict[str, Path], list[Unreadable]]:
    """Find the files of sessions, sorted by path.

    Args:
        root: a file, or a folder searched at any depth.
        thermal_folder: folder of the frames below the root, which is skipped.
        labels: file of intervals, which is skipped.

    Returns:
        The file, or the folder of a table in parts, by name: its path below the root without suffix. And what is not
        read: further files of the same name, names that are not UTF-8, folders without permission.

    Raises:
        DataError: the root is missing, or holds no table that can be read.
    """
    top = Path(root)
    if top.is_file() and is_table(top):
        return {without_suffix(top).name: top}, []
    if not top.is_dir():
        problem = "not a csv, tsv, parquet or xlsx file" if top.exists() else "no such folder or file"
        raise DataError(
            f"data.root={root}: {problem}. Point it at a folder of csv or parquet files, or at one of them."
        )
    errors: list[OSError] = []
    every = [Path(folder, name) for folder, _, names in os.walk(top, onerror=errors.append) for name in names]
    below = sorted(path for path in every if os.path.isfile(path) and not _ours_or_hidden(path, top))
    locked = [_locked(Path(os.fsdecode(error.filename)).relative_to(top), error) for error in errors]
    tables = [p for p in below if _is_recording(p, top, thermal_folder, labels)]
    files, unreadable = _by_name(tables, top)
    if not files:
        raise DataError(_no_recording(root, below, locked + unreadable))
    return files, locked + unreadable


def _is_recording(path: Path, top: Path, thermal_folder: str, labels: Path | None) -> bool:
    """Return whether a file is a table, and neither in the frames' folder nor the file of intervals."""
    if not is_table(path) or path.relative_to(top).parts[0] == thermal_folder:
        return False
    return labels is None or not path.samefile(labels)


def _parts_of_tables(tables: list[Path]) -> dict[Path, int]:
    """Return the number of parts by folder, for folders that hold one table in parts, as Spark writes it."""
    parts = Counter(path.parent for path in tables if PART_OF_TABLE.match(path.name))
    return {
        folder: count
        for folder, count in parts.items()
        if count > 1 or folder.suffix == ".parquet" or PARTITION.fullmatch(folder.name)
    }


def parts_of(folder: Path) -> list[Path]:
    """Return the files of a table in parts, sorted by name."""
    return sorted(path for path in folder.iterdir() if PART_OF_TABLE.match(path.name))


def _by_name(paths: list[Path], top: Path) -> tuple[dict[str, Path], list[Unreadable]]:
    """Return the first file of each name, and the other files with the reason why they are not read."""
    files: dict[str, Path] = {}
    parts = _parts_of_tables(paths)
    unreadable = []
    for path in sorted({*(path for path in paths if path.parent not in parts), *parts}):
        name = without_suffix(path.relative_to(top) if path != top else Path(top.resolve().name)).as_posix()
        if not is_text(name):
            unreadable.append(Unreadable(printable(name), "bad_name", no_text(path)))
        elif (first := files.setdefault(name, path)) != path:
            unreadable.append(Unreadable(name, "duplicate_session", same_name(first, path)))
    return files, unreadable


def _locked(folder: Path, error: OSError) -> Unreadable:
    """Return the entry for a folder that cannot be listed."""
    name = printable(folder.as_posix())
    message = (
        f"{name}: this folder cannot be looked into ({without_path(error)}), and what is in it was not read; "
        "give yourself the right to read it, or move it elsewhere"
    )
    return Unreadable(name, "unreadable_folder", message)


def _no_recording(root: str | Path, below: list[Path], unreadable: list[Unreadable]) -> str:
    """Return the message for a folder without a table; it lists what is there instead."""
    inside = sorted({path.suffix or path.name for path in below})[:8]
    return (
        f"data.root={root}: no recording found\n"
        f"  looked for: {', '.join('*' + suffix for suffix in (*SUFFIXES, *PACKED))}, at any depth\n"
        f"  there is:   {', '.join([item.message for item in unreadable] or inside) or 'nothing, it is empty'}\n"
        "  remedy:     point data.root at the folder of the recordings, or save them as csv or parquet"
    )


def _ours_or_hidden(path: Path, top: Path) -> bool:
    """Return whether a file is hidden, as editors' copies are, or belongs to a store or run of this package."""
    hidden = any(part.startswith((".", "~")) for part in path.relative_to(top).parts)
    ours = (
        ("manifest.json", "sessions.parquet"),
        ("manifest.json", "frames.parquet"),
        ("provenance.json", "config.yaml"),
    )
    return hidden or any(all(os.path.exists(path.parent / name) for name in names) for names in ours)


def is_text(name: str) -> bool:
    """Return whether a file's name is valid UTF-8; Python decodes other bytes to surrogates."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def no_text(path: Path) -> str:
    """Return the message for a file whose name is not UTF-8."""
    return (
        f"{printable(path.name)}: expected a name in UTF-8, found bytes that are none, and it was not read; rename it"
    )


def same_name(read: Path, other: Path) -> str:
    """Return the message for a file that is not read because another one has its name."""
    return f"two files of one name: {read.name} was read, {other.name} was not; remove or rename the one that is wrong"
