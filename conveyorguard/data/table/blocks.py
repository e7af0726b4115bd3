"""Read a csv file in blocks of rows, so that memory is bounded by a block rather than the file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from conveyorguard.data.table.cells import Table, is_missing
from conveyorguard.data.table.files import decode, has_blanks_between, open_bytes, with_tabs
from conveyorguard.data.table.header import VALUE, chosen_columns, find_header, unique_names
from conveyorguard.errors import DataError

BLOCK = 1 << 21  # bytes
BLANK = re.compile(rb"^[ \t\r\f\v]*$(?!\Z)", re.MULTILINE)  # an empty line
HEAD = 1 << 16  # bytes searched for the header


def first_lines(path: Path, encoding: str) -> str:
    """Return the text of the first 64 KiB of a csv, which contain its header."""
    with open_bytes(path) as stream:
        raw = stream.read(HEAD)
    if has_blanks_between(path, raw):
        raw = with_tabs(raw)
    return decode(path, raw, encoding, whole=False)


def csv_blocks(
    path: Path, encoding: str, wanted: Iterable[str] | None = None, growing: bool = False, first: int = 0
) -> Iterator[Table]:
    """Yield the rows of a csv in blocks, in the order of the file and numbered as in it.

    Args:
        wanted: columns to read, where present; None reads all.
        growing: the file is being written; ignore what follows the last line end, which may be half a number.
        first: number of the block to start with, from 0.

    Raises:
        DataError: the file is empty, damaged, in another encoding, or has two wanted columns of one name.
    """
    with open_bytes(path) as stream:
        yield from _blocks_of(path, stream, encoding, wanted, growing, first)


def _blocks_of(
    path: Path, stream: BinaryIO, encoding: str, wanted: Iterable[str] | None, growing: bool, first: int
) -> Iterator[Table]:
    """Yield the blocks of an open csv; see `csv_blocks`."""
    reading: _CsvLines | None = None
    lines, rows = 0, 0
    for number, raw in enumerate(_whole_lines(path, stream, encoding, growing)):
        if number and number < first:
            lines += raw.count(b"\n")
            continue
        text = decode(path, raw, encoding, lines_before=lines)
        if reading is None:
            reading = _CsvLines(path, text, wanted)
            text = text.split("\n", reading.first_row - 1)[-1] if text.count("\n") >= reading.first_row - 1 else ""
            lines = reading.first_row - 1
        body = text.encode()
        body += b"\n" * (not body.endswith(b"\n"))
        table = reading.table(body, lines)
        lines += body.count(b"\n")
        rows += len(table.row) + len(table.ragged)
        if number == 0:
            table = _without_units(table)
        if number >= first:
            yield table
    if reading is None or (rows == 0 and not first):
        raise DataError(f"{path.name}: expected rows below the header, found none")


def _whole_lines(path: Path, stream: BinaryIO, encoding: str, growing: bool) -> Iterator[bytes]:
    """Yield a csv in pieces of about the size of a block, each of whole lines.

    Yields:
        Bytes in the encoding of the file; UTF-16 and UTF-32 are converted to UTF-8, where a line end is a single byte.

    Raises:
        DataError: the file is empty.
    """
    head = stream.read(max(BLOCK, HEAD))
    if not head.strip():
        raise DataError(f"{path.name}: expected a header and rows, found an empty file")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or encoding.lower().startswith(("utf-16", "utf-32")):
        text = decode(path, head + stream.read(), encoding, whole=not growing)
        stream = io.BytesIO(text.encode())
        head = stream.read(max(BLOCK, HEAD))
    convert = with_tabs if has_blanks_between(path, head) else bytes
    rest = b""
    raw = head
    while raw:
        pieces = rest + raw
        end = pieces.rfind(b"\n") + 1
        rest = pieces[end:]
        if end:
            yield convert(pieces[:end])
        raw = stream.read(BLOCK)
    if rest.strip() and not growing:
        yield convert(rest)


class _CsvLines:
    """Parses the lines of a csv with the names, separator and columns of its header.

    Args:
        path: the file, for messages.
        text: the beginning of the file, with the header.
        wanted: columns to read, where present; None reads all.

    Attributes:
        first_row: number of the first line below the header, counted from 1.
    """

    def __init__(self, path: Path, text: str, wanted: Iterable[str] | None):
        line, names, self.separator = find_header(path, text, list(wanted or ()))
        self.path, self.first_row, self.names = path, line + 2, unique_names(names)
        self.columns = chosen_columns(path, names, wanted)

    def table(self, body: bytes, lines: int) -> Table:
        """Return the rows of some lines, without empty ones; rows with too few or too many fields are in `ragged`.

        Args:
            body: whole lines below the header.
            lines: number of lines before them in the file.

        Raises:
            DataError: the lines are not valid csv, or a quotation mark is not closed.
        """
        refused: dict[int, str] = {}

        def refuse(row: pa.csv.InvalidRow) -> str:
            why = f"expected {row.expected_columns} fields as in the header, found {row.actual_columns}"
            refused[lines + row.number] = why
            return "skip"

        options = {
            "read_options": pa.csv.ReadOptions(
                use_threads=False, column_names=self.names, block_size=max(len(body), 1) + 1
            ),
            "parse_options": pa.csv.ParseOptions(
                delimiter=self.separator, invalid_row_handler=refuse, ignore_empty_lines=False, newlines_in_values=False
            ),
            "convert_options": pa.csv.ConvertOptions(
                column_types=dict.fromkeys(self.names, pa.string()),
                strings_can_be_null=False,
                include_columns=self.columns,
            ),
        }
        if not body.strip():
            empty = pd.DataFrame({name: pd.Series([], dtype="str") for name in self.columns})
            return Table(empty, np.zeros(0, np.int64), {}, self.separator)
        try:
            frame = pa.csv.read_csv(BytesIO(body), **options).to_pandas()
        except pa.ArrowException as error:
            raise DataError(f"{self.path.name}: cannot be read as csv ({error}); write or fetch it again") from error
        separate = body.split(b"\n") if BLANK.search(body) else []
        blank = {lines + i + 1 for i, line in enumerate(separate) if not line.strip()}
        row = np.setdiff1d(np.arange(lines + 1, lines + body.count(b"\n") + 1), [*refused])
        if len(frame) != len(row):  # an open quotation mark joined rows, so their numbers are unknown
            odd = next((lines + i + 1 for i, line in enumerate(body.split(b"\n")) if line.count(b'"') % 2), "?")
            raise DataError(
                f"{self.path.name}: row {odd}: expected every quotation mark closed in its row, found one that is not; "
                "remove or close it"
            )
        keep = ~np.isin(row, [*blank])
        ragged = {row: why for row, why in refused.items() if row not in blank}
        return Table(frame[keep].reset_index(drop=True), row[keep], ragged, self.separator)


def _without_units(table: Table) -> Table:
    """Return the table with a row of units moved to `units`; unchanged if its first row is not one.

    A row of units has words only, and the following 5 rows have numbers in at least half of its columns.
    """
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


def join(tables: list[Table]) -> Table:
    """Return consecutive blocks of a file joined to one table."""
    if len(tables) == 1:
        return tables[0]
    ragged = {row: why for table in tables for row, why in table.ragged.items()}
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    return replace(tables[0], frame=frame, row=np.concatenate([table.row for table in tables]), ragged=ragged)
