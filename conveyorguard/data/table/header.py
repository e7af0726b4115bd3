"""Find the header of a csv: its line, its names and the separator of the columns."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from conveyorguard.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
VALUE = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?|\d{1,4}[-/.:]\d{1,2}[-/.: T].*|\d{1,2}:\d{2}.*")
PREAMBLE = 50  # lines that a logger may write above its header


def quoted(names: Iterable[str]) -> str:
    """Return names in quotation marks, separated by commas."""
    return ", ".join(f"'{name}'" for name in names)


def chosen_columns(path: Path, names: list[str], wanted: Iterable[str] | None) -> list[str]:
    """Return the wanted columns that are present; all named columns for None.

    Raises:
        DataError: two wanted columns have the same name.
    """
    if wanted is None:
        return [name for name in unique_names(names) if name]
    chosen = [name for name in dict.fromkeys(wanted) if name in names]
    twice = [name for name in chosen if names.count(name) > 1]
    if twice:
        raise DataError(f"{path.name}: two columns are called {quoted(twice)}; rename one of them")
    return chosen


def unique_names(names: list[str]) -> list[str]:
    """Return names with repeated ones numbered, so that repeated columns that are not read do no harm."""
    first = {name: i for i, name in reversed([*enumerate(names)])}
    return [name if first[name] == i else f"{name}#{i + 1}" for i, name in enumerate(names)]


def find_header(path: Path, text: str, wanted: list[str]) -> tuple[int, list[str], str]:
    """Return the number of the header's line from 0, its names, and the separator.

    The header is the first line with most of the wanted columns. If no line has any, it is the first line with the
    most common number of fields.

    Args:
        path: the file, for messages.
        text: the beginning of the file.
        wanted: columns that the header should have.

    Raises:
        DataError: the first lines are empty, or the header is a row of values.
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
        is_title = size > 2 and sum(map(bool, split[key])) <= 1  # a merged cell of a workbook, or an empty row
        alike = sizes[separator][size] if size > 1 and not is_title else 0  # a header has no decimal commas to split
        return known, alike, size, -i

    first, separator = max(split, key=rank)
    names = split[first, separator]
    following = [split[i, separator] for i in lines if i > first and (i, separator) in split]
    if not set(wanted) & set(names):
        _refuse_values(path, first, names, following[:1])
    return first, names, separator


def _split_lines(path: Path, lines: dict[int, str]) -> dict[tuple[int, str], list[str]]:
    """Return the fields of each line for each separator, by line number and separator.

    Raises:
        DataError: a line has a field longer than Python's csv allows with every separator.
    """
    split = {(i, s): names for i, line in lines.items() for s in SEPARATORS if (names := _fields(line, s)) is not None}
    for i, line in lines.items():
        if not any((i, s) in split for s in SEPARATORS):
            raise DataError(
                f"{path.name}: row {i + 1}: expected fields of at most {csv.field_size_limit():,} characters, found "
                f"{len(line):,} in the row and a longer field; close the quotation mark, or save it as csv again"
            )
    return split


def _refuse_values(path: Path, first: int, names: list[str], following: list[list[str]]) -> None:
    """Refuse a header with numbers and dates in the same fields as the next line, in at least half of them.

    Raises:
        DataError: the line is a row of values.
    """
    kinds = [[bool(VALUE.fullmatch(field)) for field in line] for line in (names, *following)]
    if len(kinds) == 2 and kinds[0] == kinds[1] and 2 * sum(kinds[0]) >= len([name for name in names if name]) > 0:
        example = ",".join(["time", *(f"channel{i}" for i in range(1, len(names)))][:4])
        raise DataError(
            f"{path.name}: row {first + 1}: the first line is numbers ({', '.join(names[:4])}): the file has no "
            f"header; add one, e.g. {example}"
        )


def _fields(line: str, separator: str) -> list[str] | None:
    """Return the fields of a line; None if one is longer than Python's csv allows, so the separator is wrong."""
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    except csv.Error:
        return None
