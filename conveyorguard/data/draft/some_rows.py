"""Read some rows of a file for a draft, and count the words of its columns in all rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.data.table import blocks, columns
from conveyorguard.data.table.cells import Table, is_missing, words_of

DISTINCT = 40  # values of a column up to which they are counted in all rows

Words = dict[str, tuple[int, float]]  # by word of a column: its count, and the sum of its row numbers


def read_some(path: Path, encoding: str, budget: int) -> tuple[Table, dict[str, Words], int]:
    """Read evenly spread blocks of rows of a file, including the first.

    Args:
        path: the file; a folder, parquet and xlsx are read as a whole.
        encoding: encoding of a csv file.
        budget: bytes of the file whose rows are kept, approximately.

    Returns:
        The kept rows; the words of each csv column of up to `DISTINCT` values, counted in all rows; and the number of
        all rows.

    Raises:
        DataError: as `columns.read`.
    """
    if path.is_dir() or path.suffix.lower() in (".parquet", ".xlsx"):
        table = columns.read(path, encoding)
        return table, {}, len(table.row)
    size = path.stat().st_size
    every = max(-(-size // max(budget, blocks.BLOCK)), 1)  # which blocks are kept
    kept: list[Table] = []
    words: dict[str, Words] = {}
    many: set[str] = set()
    count = 0
    for number, table in enumerate(blocks.csv_blocks(path, encoding)):
        _count_words(table.frame, count, words, many)
        count += len(table.row)
        if number % every == 0:
            kept.append(table if size <= budget else _first_rows(table, budget / blocks.BLOCK))
    return blocks.join(kept), words, count


def _first_rows(table: Table, share: float) -> Table:
    """Return the first rows of a block: this share of them, but at least 1000."""
    if share >= 1:
        return table
    rows = max(int(share * len(table.row)), 1000)
    mine = np.arange(len(table.row)) < rows
    return columns.rows_of(table, mine) if rows < len(table.row) else table


def _count_words(frame: pd.DataFrame, before: int, words: dict[str, Words], many: set[str]) -> None:
    """Count the words of columns of few values, and sum their row numbers, into `words`.

    Args:
        frame: a block of rows.
        before: number of rows before this block.
        words: counts by column; changed in place.
        many: columns of more than `DISTINCT` values, which are skipped; changed in place.
    """
    for name in map(str, frame):
        if name in many or not name:
            continue
        codes, distinct = pd.factorize(frame[name])
        if len(distinct) > DISTINCT:
            many.add(name)
            words.pop(name, None)
            continue
        written = ~is_missing(pd.Series(distinct, dtype=object))
        counts = np.bincount(codes[codes >= 0], minlength=len(distinct))
        places = np.bincount(codes[codes >= 0], np.flatnonzero(codes >= 0) + before, minlength=len(distinct))
        of_column = words.setdefault(name, {})
        for i, word in enumerate(words_of(pd.Series(distinct, dtype=object))):
            if written[i]:
                total, place = of_column.get(word, (0, 0.0))
                of_column[word] = (total + int(counts[i]), place + float(places[i]))
        if len(of_column) > DISTINCT:
            many.add(name)
            del words[name]
