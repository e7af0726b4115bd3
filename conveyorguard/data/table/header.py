"""The header of a csv: its line, its names and the separator of its columns."""

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
    """Names in quotation marks, separated by commas."""
    return ", ".join(f"'{name}'" for name in names)


def chosen_columns(path: Path, names: list[str], wanted: Iterable[str] | None) -> list[str]:
    if wanted is None:
        return [name for name in unique_names(names) if name]
    chosen = [name for name in dict.fromkeys(wanted) if name in names]
    twice = [name for name in chosen if names.count(name) > 1]
    if twice:
        raise DataError(f"{path.name}: two columns are called {quoted(twice)}; rename one of them")
    return chosen


def unique_names(names: list[str]) -> list[str]:
    """The names with later ones of the same name numbered, so that a column nobody wants does no harm."""
    first = {name: i for i, name in reversed([*enumerate(names)])}
    return [name if first[name] == i else f"{name}#{i + 1}" for i, name in enumerate(names)]


def find_header(path: Path, text: str, wanted: list[str]) -> tuple[int, list[str], str]:
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
