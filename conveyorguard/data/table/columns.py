"""Read one csv or parquet file as columns: separators, byte order marks, decimal commas."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from conveyorguard.data.table.blocks import csv_blocks, first_lines, join
from conveyorguard.data.table.cells import NumberSigns, Table, is_missing, numbers, words_of
from conveyorguard.data.table.discover import parts_of
from conveyorguard.data.table.header import chosen_columns, find_header, quoted
from conveyorguard.errors import DataError

__all__ = [
    "NumberSigns",
    "Table",
    "header",
    "is_missing",
    "missing_columns",
    "numbers",
    "part_of",
    "quoted",
    "read",
    "rows_of",
    "words_of",
]


def header(path: Path, encoding: str = "utf-8", wanted: Iterable[str] = ()) -> list[str]:
    """Return the names of a file's columns.

    Args:
        wanted: expected columns, which help to find the header's line and the separator of a csv.

    Raises:
        DataError: the file is empty, damaged, in another encoding or has no header.
    """
    if path.is_dir():
        return header(parts_of(path)[0], encoding, wanted)
    if path.suffix.lower() == ".parquet":
        return list(_parquet(path).schema_arrow.names)
    return find_header(path, first_lines(path, encoding), list(wanted))[1]


def read(path: Path, encoding: str = "utf-8", wanted: Iterable[str] | None = None, growing: bool = False) -> Table:
    """Read all rows of a file, or of a table in parts.

    Args:
        wanted: columns to read, where present; None reads all.
        growing: the csv is being written; ignore what follows the last line end, which may be half a number.

    Raises:
        DataError: the file is empty, damaged, in another encoding, or has two wanted columns of one name.
    """
    if path.is_dir():
        return _read_parts(path, encoding, wanted)
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, wanted)
    return join([*csv_blocks(path, encoding, wanted, growing)])


def _read_parts(folder: Path, encoding: str, wanted: Iterable[str] | None) -> Table:
    """Read a table in parts; row numbers continue from part to part.

    Raises:
        DataError: a part cannot be read, or has other columns than the others.
    """
    tables = [read(part, encoding, wanted) for part in parts_of(folder)]
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    if different := {*map(tuple, (table.frame.columns for table in tables))} - {tuple(frame.columns)}:
        alone = quoted(sorted(different)[0])
        raise DataError(f"{folder.name}: expected the same columns in all parts, found {alone} in one; write it again")
    ragged: dict[int, str] = {}
    rows, before = [], 0
    for table in tables:
        rows.append(table.row + before)
        ragged |= {before + row: why for row, why in table.ragged.items()}
        before += int(max([*table.row[-1:], *table.ragged], default=0))
    first = tables[0]
    return replace(first, frame=frame, row=np.concatenate(rows), ragged=ragged)


def _read_parquet(path: Path, wanted: Iterable[str] | None) -> Table:
    file = _parquet(path)
    names = chosen_columns(path, list(file.schema_arrow.names), wanted)
    try:
        table = file.read(columns=names).replace_schema_metadata()
        frame = table.to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path.name}: cannot be read as parquet ({error}); write or fetch it again") from error
    for column in table.schema:
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            frame[column.name] = frame[column.name].map(_text_of)  # pandas would decode it as UTF-8 and fail
    return Table(frame, np.arange(1, len(frame) + 1), {})


def _text_of(cell: object) -> object:
    return cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else cell


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
        list(file.schema_arrow.names)  # names that are not UTF-8 raise only on access
        return file
    except (pa.ArrowException, OSError, ValueError) as error:
        why = str(error).replace(str(path), path.name)
        raise DataError(f"{path.name}: cannot be read as parquet ({why}); write or fetch it again") from error


def missing_columns(path: Path, names: list[str], wanted: list[str], remedy: str) -> str | None:
    """Return a message on missing columns with their closest matches; None if no column is missing.

    Args:
        names: columns of the file.
        wanted: columns that it should have.
        remedy: last line of the message.
    """
    missing = [name for name in dict.fromkeys(wanted) if name not in names]
    if not missing:
        return None
    plain = {re.sub(r"\W|_", "", name).lower(): name for name in names}
    lines = []
    for name in missing:
        close = difflib.get_close_matches(re.sub(r"\W|_", "", name).lower(), plain, n=1, cutoff=0.5)
        lines.append(f"    '{name}'" + (f", closest: '{plain[close[0]]}'" if close else ""))
    there = quoted(names[:60]) + (f" and {len(names) - 60} more" if len(names) > 60 else "")
    return "\n".join(
        [
            f"{path.name}: {len(missing)} columns are missing:",
            *lines,
            f"  columns there: {there}",
            f"  remedy: {remedy}",
        ]
    )


def part_of(table: Table, column: str, picked: str) -> Table:
    """Return the rows of the session that is called `picked` in a column."""
    return rows_of(table, words_of(table.frame[column]) == picked)


def rows_of(table: Table, mine: np.ndarray) -> Table:
    """Return some rows of a table; a ragged row, whose cells are unknown, goes with the row before it.

    Args:
        mine: (n,) bool, True for the rows to return.
    """
    ragged = {r: why for r, why in table.ragged.items() if mine[max(int(np.searchsorted(table.row, r)) - 1, 0)]}
    return replace(table, frame=table.frame[mine], row=table.row[mine], ragged=ragged)
