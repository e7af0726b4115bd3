"""Read cells of a table as numbers and words: decimal commas, separators of thousands, missing values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MISSING = ("", "nan", "na", "n/a", "#n/a", "null", "none", "-", "--", "?")
COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"  # a decimal comma, or a single separator of thousands
THOUSANDS = r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?"
CERTAIN = r"[+-]?\d{1,3}(?:(?:,\d{3})+\.\d+|(?:,\d{3}){2,})"  # certainly with separators of thousands
FILL = re.compile(r"-?(?:9{3,}(?:\.25)?|9{2,}\.9+|32767|32768|65535|2147483647)(?:\.0+)?")
FAR = 5  # a fill value lies further from the median than 5 times the range of the other values
SOME = 100  # values kept from each block, at least; their median approximates the median of all


@dataclass
class Table:
    """Columns of a file.

    Attributes:
        frame: n rows; unparsed text for csv, typed columns for parquet.
        row: (n,) int64, row number in the file, counted from 1 as in a spreadsheet.
        ragged: problem by row number, for rows with too few or too many fields.
        separator: separator of the csv; empty for parquet.
        notes: remarks on the whole table.
        units: unit by column, if the file has a row of units below its header.
    """

    frame: pd.DataFrame
    row: np.ndarray
    ragged: dict[int, str]
    separator: str = ""
    notes: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)


@dataclass
class NumberSigns:
    """Evidence in a file for decimal commas and separators of thousands.

    Attributes:
        thousands: a number such as 1,234.5 or 1,234,567 occurs.
        thousands_by_points: a number such as 1.234,5 or 1.234.567 occurs.
        comma: a number such as 1,5 or 1,234 occurs.
    """

    thousands: bool = False
    thousands_by_points: bool = False
    comma: bool = False

    def learn(self, unread: list[pd.Series]) -> None:
        """Add the evidence of cells that are not plain numbers."""
        for text in unread:
            self.thousands |= bool(text.str.fullmatch(CERTAIN).any())
            self.thousands_by_points |= bool(text.str.translate(_SWAP).str.fullmatch(CERTAIN).any())
            self.comma |= bool(text.str.fullmatch(COMMA).any())


def numbers(
    table: Table, names: list[str], missing: Iterable[str] = (), signs: NumberSigns | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return columns as numbers, and where a cell is not one.

    Commas are decimal commas where they cannot separate columns or thousands. Separators of thousands are read if some
    number of the file shows which sign they are. A number that stays ambiguous is bad.

    Args:
        table: n rows.
        names: C columns.
        missing: numbers or words that mark a missing value.
        signs: evidence from earlier blocks of the file; the evidence of this table is added to it.

    Returns:
        (n, C) float64, NaN for missing cells and undefined for bad ones; and (n, C) bool, True for bad cells.
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
    """Read all columns again with decimal commas, in place.

    Args:
        certain: points are known to separate thousands; otherwise a number with a point is bad.
    """
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
    """Replace the bad cells of column `i` that the rewritten text turns into numbers, in place."""
    rows = np.flatnonzero(bad[:, i])
    read = pd.to_numeric(text, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    values[rows, i] = read
    bad[rows, i] = np.isnan(read)


def _leave_out(frame: pd.DataFrame, names: list[str], values: np.ndarray, bad: np.ndarray, word: str) -> None:
    """Mark cells that hold a number or word for missing values as missing, in place."""
    try:
        values[values == float(word)] = np.nan
    except ValueError:
        for i, name in enumerate(names):
            if bad[:, i].any():
                bad[:, i] &= (frame[name].astype(str).str.strip() != word).to_numpy()


def _numbers(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return a column (n,) as plain numbers with decimal points, and where a cell is bad (n,) bool."""
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
    """Return where a cell is empty or holds one of the `MISSING` words, (n,) bool."""
    text = column.astype(str).str.strip().str.lower()
    return column.isna().to_numpy() | text.isin([*MISSING, "nat", "<na>"]).to_numpy()


def words_of(column: pd.Series) -> np.ndarray:
    """Return names and codes as text, (n,); 3.0 becomes 3, since an empty cell turns a column of integers to floats."""
    return column.astype(str).str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True).to_numpy(object)


class FillWatch:
    """Looks for a fill value such as 9999: a usual one, repeated, and far from all other values of the channel."""

    def __init__(self) -> None:
        self.count = 0
        self.highest: dict[float, int] = {}  # the two highest values and their counts
        self.lowest: dict[float, int] = {}
        self.some: list[np.ndarray] = []  # evenly spaced values of each block

    def add(self, values: np.ndarray) -> FillWatch:
        """Add values (n,) of the channel and return the watch itself; NaN and Inf are ignored."""
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
        """Return the likely fill value and its count; None if there is none."""
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
