"""Cells of a table as numbers and words, whatever program wrote them: decimal commas, thousands, what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MISSING = ("", "nan", "na", "n/a", "#n/a", "null", "none", "-", "--", "?")
COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"  # a decimal comma, or one group of thousands
THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"
CERTAIN = r"[+-]?\d{1,3}(?:(?:,\d{3})+\.\d+|(?:,\d{3}){2,})"  # thousands that cannot be anything else
FILL = re.compile(r"-?(?:9{3,}(?:\.25)?|9{2,}\.9+|32767|32768|65535|2147483647)(?:\.0+)?")
FAR = 5  # times the range of the other values
SOME = 100  # values of a block whose median stands for that of all


@dataclass
class Table:
    """Columns of a file.

    Attributes:
        frame: text of a csv as it stands there, typed columns of a parquet file.
        row: (n,) the row of the file each comes from, as a spreadsheet numbers them: 1 is the first line.
        ragged: rows with too few or too many fields, and what is wrong with each.
        separator: of a csv; empty for parquet.
        notes: what was done to all of it, or is odd about it.
        units: of the columns, where the file has a row of them below its header.
    """

    frame: pd.DataFrame
    row: np.ndarray
    ragged: dict[int, str]
    separator: str = ""
    notes: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)


@dataclass
class NumberSigns:
    """Which signs the cells of a file have shown to be decimal commas or separators of thousands.

    Attributes:
        thousands: a number as 1,234.5 was there.
        thousands_by_points: a number as 1.234,5 was there.
        comma: a number as 1,5 was there.
    """

    thousands: bool = False
    thousands_by_points: bool = False
    comma: bool = False

    def learn(self, unread: list[pd.Series]) -> None:
        """Take note of what cells that are no plain numbers show."""
        for text in unread:
            self.thousands |= bool(text.str.fullmatch(CERTAIN).any())
            self.thousands_by_points |= bool(text.str.translate(_SWAP).str.fullmatch(CERTAIN).any())
            self.comma |= bool(text.str.fullmatch(COMMA).any())


def numbers(
    table: Table, names: list[str], missing: Iterable[str] = (), signs: NumberSigns | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Columns as numbers.

    A decimal comma is understood where it cannot be a separator; separators of thousands where a number of the file
    shows which of the two signs they are. Where neither is certain, the number is bad.

    Args:
        missing: what stands for a missing value, as numbers or words.
        signs: that the rows before have shown, where the table is part of a file; what this one shows is added.

    Returns:
        (n, columns) float64, NaN where nothing is written, and (n, columns) True where something is that is no number.
    """
    frame = table.frame
    values = np.full((len(frame), len(names)), np.nan)
    bad = np.zeros(values.shape, bool)
    for i, name in enumerate(names):
        values[:, i], bad[:, i] = _numbers(frame[name])
    odd = np.flatnonzero(bad.any(axis=0)).tolist()
    unread = {i: frame[names[i]][bad[:, i]].astype(str).str.strip() for i in odd}
    signs = signs or NumberSigns()
    signs.learn([*unread.values()])
    if signs.thousands:  # 1,234.5
        for i, text in unread.items():
            _fill(values, bad, i, text.where(text.str.fullmatch(THOUSANDS), "x").str.replace(",", "", regex=False))
    elif signs.thousands_by_points or (table.separator != "," and signs.comma):
        _read_decimal_commas(frame, names, values, bad, signs.thousands_by_points)
    for word in missing:
        _leave_out(frame, names, values, bad, word)
    return values, bad


_SWAP = str.maketrans(",.", ".,")


def _read_decimal_commas(
    frame: pd.DataFrame, names: list[str], values: np.ndarray, bad: np.ndarray, certain: bool
) -> None:
    """Read all columns again; a number with a point alone is bad unless thousands have one for certain."""
    for i, name in enumerate(names):
        text = frame[name].astype(str).str.strip().str.translate(_SWAP)
        ambiguous = text.str.contains(",", regex=False).to_numpy()
        if certain:
            thousands = text.str.fullmatch(THOUSANDS).to_numpy()
            text = text.where(~thousands, text.str.replace(",", "", regex=False))
            ambiguous = ambiguous & ~thousands
        values[:, i], bad[:, i] = _numbers(text.str.replace(",", ".", regex=False))
        bad[:, i] |= ambiguous & np.isfinite(values[:, i])


def _fill(values: np.ndarray, bad: np.ndarray, i: int, text: pd.Series) -> None:
    """Put what can be read now in the place of bad cells."""
    rows = np.flatnonzero(bad[:, i])
    read = pd.to_numeric(text, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    values[rows, i] = read
    bad[rows, i] = np.isnan(read)


def _leave_out(frame: pd.DataFrame, names: list[str], values: np.ndarray, bad: np.ndarray, word: str) -> None:
    try:
        values[values == float(word)] = np.nan
    except ValueError:
        for i, name in enumerate(names):
            if bad[:, i].any():
                bad[:, i] &= (frame[name].astype(str).str.strip() != word).to_numpy()


def _numbers(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan), np.zeros(len(column), bool)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):  # pandas would count its nanoseconds
        return np.full(len(column), np.nan), column.notna().to_numpy()
    try:
        values = pc.cast(pa.array(column, pa.string(), from_pandas=True), pa.float64())  # ten times as fast
        return np.asarray(values), np.zeros(len(column), bool)
    except pa.ArrowException:
        values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    unread = np.flatnonzero(np.isnan(values))
    bad = np.zeros(len(column), bool)
    bad[unread] = ~is_missing(column.iloc[unread])
    return values, bad


def is_missing(column: pd.Series) -> np.ndarray:
    """(n,) True where nothing is written, or one of the usual words for it."""
    text = column.astype(str).str.strip().str.lower()
    return column.isna().to_numpy() | text.isin([*MISSING, "nat", "<na>"]).to_numpy()


def words_of(column: pd.Series) -> np.ndarray:
    """Text of names and codes; 3.0 is written 3, as what it was before a blank cell made it a float."""
    return column.astype(str).str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True).to_numpy(object)


class FillWatch:
    """Looks for a value that stands for none, as 9999 may: one of the usual, several times, far from all others."""

    def __init__(self) -> None:
        self.count = 0
        self.highest: dict[float, int] = {}  # the two highest values and how often each is there
        self.lowest: dict[float, int] = {}
        self.some: list[np.ndarray] = []  # evenly spread values

    def add(self, values: np.ndarray) -> FillWatch:
        """Look at some values of a channel; NaN and Inf are left out."""
        known = values[np.isfinite(values)]
        if not len(known):
            return self
        self.count += len(known)
        self.some.append(known[:: max(len(known) // SOME, 1)].copy())
        for extremes, of, sign in ((self.highest, np.max, -1), (self.lowest, np.min, 1)):
            rest = known
            for _ in range(2):
                if len(rest):
                    extreme = float(of(rest))
                    extremes[extreme] = extremes.get(extreme, 0) + int(np.count_nonzero(rest == extreme))
                    rest = rest[rest != extreme]
            for value in sorted(extremes, key=lambda v: sign * v)[2:]:
                del extremes[value]
        return self

    def suspect(self) -> tuple[float, int] | None:
        """The value and how often it is there; None if there is none."""
        if self.count < 4:
            return None
        some = np.concatenate(self.some)
        for extreme in (max(self.highest), min(self.lowest)):
            count = (self.highest | self.lowest)[extreme]
            others = [value for value in (*self.highest, *self.lowest) if value != extreme]
            rest = some[some != extreme]
            if count < 2 or self.count - count < 2 or not len(rest) or not FILL.fullmatch(f"{extreme:.10g}"):
                continue
            middle, spread = float(np.median(rest)), max(others) - min(others)
            if abs(extreme - middle) > FAR * max(spread, abs(middle) / 10, 1e-9):
                return extreme, count
        return None
