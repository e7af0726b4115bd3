"""One csv or parquet file as columns, whatever program wrote it: separators, byte order marks, decimal commas."""

from __future__ import annotations

import csv
import difflib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from conveyorguard.data.table.cells import Table, is_missing, numbers, suspected_fill, words_of
from conveyorguard.data.table.discover import parts_of
from conveyorguard.data.table.files import decode, read_bytes
from conveyorguard.errors import DataError

__all__ = ["Table", "header", "is_missing", "missing_columns", "numbers", "part_of", "quoted", "read", "rows_of"]
__all__ += ["suspected_fill", "words_of"]

SEPARATORS = (",", ";", "\t", "|")
VALUE = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?|\d{1,4}[-/.:]\d{1,2}[-/.: T].*|\d{1,2}:\d{2}.*")
PREAMBLE = 50  # lines that a logger may write above its header


def header(path: Path, encoding: str = "utf-8", wanted: Iterable[str] = ()) -> list[str]:
    """Names of a file's columns.

    Args:
        wanted: columns that tell the header from lines above it, and the separator from other characters.

    Raises:
        DataError: the file is empty, damaged or in another encoding.
    """
    if path.is_dir():
        return header(parts_of(path)[0], encoding, wanted)
    if path.suffix.lower() == ".parquet":
        return list(_parquet(path).schema_arrow.names)
    return _find_header(path, decode(path, read_bytes(path, 1 << 16), encoding, whole=False), list(wanted))[1]


def read(path: Path, encoding: str = "utf-8", wanted: Iterable[str] | None = None, growing: bool = False) -> Table:
    """Read a file, or the wanted columns of it as far as they are there.

    Args:
        growing: of a csv that is being written, what follows the last line end is left out: half a number is another
            one.

    Raises:
        DataError: the file is empty, damaged, in another encoding, or has two wanted columns of one name.
    """
    if path.is_dir():
        return _read_parts(path, encoding, wanted)
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, wanted)
    text = decode(path, read_bytes(path), encoding, whole=not growing)
    return _read_csv(path, text[: text.rfind("\n") + 1] if growing else text, wanted)


def _read_parts(folder: Path, encoding: str, wanted: Iterable[str] | None) -> Table:
    """Read a table in parts; its rows are numbered through all of them."""
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
    names = _chosen(path, list(file.schema_arrow.names), wanted)
    try:
        table = file.read(columns=names).replace_schema_metadata()
        frame = table.to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path.name}: cannot be read as parquet ({error}); write or fetch it again") from error
    for column in table.schema:
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            frame[column.name] = frame[column.name].map(_text_of)  # pandas would take it for UTF-8, and fail
    return Table(frame, np.arange(1, len(frame) + 1), {})


def _read_csv(path: Path, text: str, wanted: Iterable[str] | None) -> Table:
    first, names, separator = _find_header(path, text, list(wanted or ()))
    refused: dict[int, str] = {}

    def refuse(row: pa.csv.InvalidRow) -> str:
        refused[row.number] = f"expected {row.expected_columns} fields as in the header, found {row.actual_columns}"
        return "skip"

    options = {
        "read_options": pa.csv.ReadOptions(use_threads=False, skip_rows=first + 1, column_names=_unique(names)),
        "parse_options": pa.csv.ParseOptions(
            delimiter=separator, invalid_row_handler=refuse, ignore_empty_lines=False, newlines_in_values=False
        ),
        "convert_options": pa.csv.ConvertOptions(
            column_types=dict.fromkeys(_unique(names), pa.string()),
            strings_can_be_null=False,
            include_columns=_chosen(path, names, wanted),
        ),
    }
    body = text.encode().rstrip() + b"\n"  # a blank last line is no row
    if body.count(b"\n") <= first + 1:
        raise DataError(f"{path.name}: expected rows below the header, found none")
    try:
        frame = pa.csv.read_csv(BytesIO(body), **options).to_pandas()
    except pa.ArrowException as error:
        raise DataError(f"{path.name}: cannot be read as csv ({error}); write or fetch it again") from error
    blank = {i + 1 for i, line in enumerate(body.split(b"\n")) if not line.strip()}
    ragged = {row: why for row, why in refused.items() if row not in blank}
    row = np.setdiff1d(np.arange(first + 2, body.count(b"\n") + 1), [*refused])
    if len(frame) != len(row):  # rows were joined, and which is which nobody knows
        odd = next((i + 1 for i, line in enumerate(body.split(b"\n")) if line.count(b'"') % 2), "?")
        raise DataError(
            f"{path.name}: row {odd}: expected every quotation mark closed in its row, found one that is not; "
            "remove or close it"
        )
    keep = ~np.isin(row, [*blank])
    table = Table(frame[keep].reset_index(drop=True), row[keep], ragged, separator)
    return _without_units(table)


def _without_units(table: Table) -> Table:
    """The table without a row of units below its header: words where the rows below have numbers."""
    if len(table.row) < 2:
        return table
    first = {str(name): str(cell).strip() for name, cell in table.frame.iloc[0].items()}
    words = {name: cell for name, cell in first.items() if cell and not is_missing(pd.Series([cell]))[0]}
    if not words or any(VALUE.fullmatch(cell) for cell in words.values()):
        return table
    following = table.frame.iloc[1:6]
    of_numbers = [name for name in words if all(VALUE.fullmatch(str(cell).strip()) for cell in following[name])]
    if 2 * len(of_numbers) < len(words):
        return table
    note = f"the row below the header is taken for units ({', '.join(list(words.values())[:4])})"
    frame = table.frame.iloc[1:].reset_index(drop=True)
    return replace(table, frame=frame, row=table.row[1:], notes=(note,), units=words)


def _text_of(cell: object) -> object:
    return cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else cell


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
        list(file.schema_arrow.names)  # those that are no UTF-8 show when they are asked for
        return file
    except (pa.ArrowException, OSError, ValueError) as error:
        why = str(error).replace(str(path), path.name)
        raise DataError(f"{path.name}: cannot be read as parquet ({why}); write or fetch it again") from error


def _chosen(path: Path, names: list[str], wanted: Iterable[str] | None) -> list[str]:
    if wanted is None:
        return [name for name in _unique(names) if name]
    chosen = [name for name in dict.fromkeys(wanted) if name in names]
    twice = [name for name in chosen if names.count(name) > 1]
    if twice:
        raise DataError(f"{path.name}: two columns are called {quoted(twice)}; rename one of them")
    return chosen


def _unique(names: list[str]) -> list[str]:
    """The names with later ones of the same name numbered, so that a column nobody wants does no harm."""
    first = {name: i for i, name in reversed([*enumerate(names)])}
    return [name if first[name] == i else f"{name}#{i + 1}" for i, name in enumerate(names)]


def _find_header(path: Path, text: str, wanted: list[str]) -> tuple[int, list[str], str]:
    """Number of the header's line, its names, and the separator.

    It is the first line with most of the wanted columns; with none of them, the first with as many fields as most have.
    """
    lines = {i: line for i, line in enumerate(text.split("\n", PREAMBLE)[:PREAMBLE]) if line.strip()}
    if not lines:
        raise DataError(f"{path.name}: expected a header in the first {PREAMBLE} lines, found only blank ones")
    split = _split_lines(path, lines)
    sizes = {s: Counter(len(names) for (_, separator), names in split.items() if separator == s) for s in SEPARATORS}
    usual = {s: max(count, key=count.__getitem__, default=0) for s, count in sizes.items()}

    def rank(key: tuple[int, str]) -> tuple[int, int, int, int]:
        i, separator = key
        known = len(set(wanted) & set(split[key]))
        size = usual[separator] if known or len(split[key]) == usual[separator] else 0
        is_title = size > 2 and sum(map(bool, split[key])) <= 1  # a merged cell of a workbook, or a blank row
        alike = sizes[separator][size] if size > 1 and not is_title else 0  # of a decimal comma, the header has none
        return known, alike, size, -i

    first, separator = max(split, key=rank)
    names = split[first, separator]
    following = [split[i, separator] for i in lines if i > first and (i, separator) in split]
    if not set(wanted) & set(names):
        _refuse_values(path, first, names, following[:1])
    return first, names, separator


def _split_lines(path: Path, lines: dict[int, str]) -> dict[tuple[int, str], list[str]]:
    """The fields of each line by each separator that can part it."""
    split = {(i, s): names for i, line in lines.items() for s in SEPARATORS if (names := _fields(line, s)) is not None}
    for i, line in lines.items():
        if not any((i, s) in split for s in SEPARATORS):
            raise DataError(
                f"{path.name}: row {i + 1}: expected fields of at most {csv.field_size_limit():,} characters, found "
                f"{len(line):,} in the row and a longer field; close the quotation mark, or save it as csv again"
            )
    return split


def _refuse_values(path: Path, first: int, names: list[str], following: list[list[str]]) -> None:
    """Raise where the line taken for the header has numbers and dates where the next one has them, too."""
    kinds = [[bool(VALUE.fullmatch(field)) for field in line] for line in (names, *following)]
    if len(kinds) == 2 and kinds[0] == kinds[1] and 2 * sum(kinds[0]) >= len([name for name in names if name]) > 0:
        example = ",".join(["time", *(f"channel{i}" for i in range(1, len(names)))][:4])
        raise DataError(
            f"{path.name}: row {first + 1}: the first line is numbers ({', '.join(names[:4])}): the file has no "
            f"header; add one, e.g. {example}"
        )


def _fields(line: str, separator: str) -> list[str] | None:
    """The fields of a line; None where one of them is longer than Python's csv allows, so that this is not the
    separator."""
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    except csv.Error:
        return None


def missing_columns(path: Path, names: list[str], wanted: list[str], remedy: str) -> str | None:
    """One sentence a line: the wanted columns that are not there, those that are, the closest names; None if all are
    there."""
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


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def part_of(table: Table, column: str, picked: str) -> Table:
    """The rows of one session."""
    return rows_of(table, words_of(table.frame[column]) == picked)


def rows_of(table: Table, mine: np.ndarray) -> Table:
    """Some rows of a table. Of a ragged row nobody knows what it is: it counts to the one before.

    Args:
        mine: (n,) True at these rows.
    """
    ragged = {r: why for r, why in table.ragged.items() if mine[max(int(np.searchsorted(table.row, r)) - 1, 0)]}
    return replace(table, frame=table.frame[mine], row=table.row[mine], ragged=ragged)
