"""Read the times of a table: dates in a closed list of formats, epochs, day numbers, times of day, seconds.

Each format is tried on the whole column. A column that can be read in several ways, such as 03/05/2024, is refused
with the candidate formats: a wrong guess would silently move rows by months.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from conveyorguard.data.table.clock_formats import (
    NONE,
    SECOND,
    PatternMatch,
    in_years,
    match_patterns,
    time_of_day,
    unfold_hour,
)
from conveyorguard.data.table.clock_words import english
from conveyorguard.data.table.columns import Table, is_missing, numbers, quoted
from conveyorguard.errors import DataError

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0, "excel": 86400.0}
UNITS["matlab"] = 86400.0
EPOCHS = {"ns": 1e17, "us": 1e14, "ms": 1e11, "s": 1e8}  # larger numbers of a unit count from 1970
LATEST = 7.3e9  # s since 1970, the year 2201; larger numbers are no epochs
DAYS = {"excel": (36526, 55153), "matlab": (730486, 749113)}  # day numbers of the years 2000 to 2050
DAY_ORIGINS = {"excel": -25569, "matlab": -719529}  # day 0 of each count, in days since 1970
DAY_OF_YEAR = {7: "%Y%j", 11: "%Y%j%H%M", 13: "%Y%j%H%M%S"}  # by the number of digits
ENOUGH = 0.9  # share of the non-empty cells that a format must read; the other cells are bad times


@dataclass(frozen=True)
class Times:
    """The times of a column.

    Attributes:
        seconds: (n,) float64, seconds since `origin`; NaN where a row has no time.
        origin: ns since 1970 (local wall time where `zone` is None); None if the column has no dates.
        zone: time zone as pandas names it; None if neither the file nor the config names one.
        format: `strptime` format, a value for `data.reader.time_format`; None for numbers and times of day.
        unit: unit of numbers, a value for `data.reader.time_unit`; None for text.
        must_be_named: other files may be ambiguous in this format; write it to `data.reader.time_format`.
        note: what was changed in the times; empty if nothing.
    """

    seconds: np.ndarray
    origin: int | None = None
    zone: str | None = None
    format: str | None = None
    unit: str | None = None
    must_be_named: bool = False
    note: str = ""

    @property
    def start(self) -> pd.Timestamp | None:
        """Return `origin` as a timestamp, labelled UTC; None without dates."""
        return None if self.origin is None else pd.Timestamp(self.origin, tz="UTC")


@dataclass(frozen=True)
class Moments:
    """Format clock times of a session for messages; the fields are those of `Times`."""

    origin: int
    zone: str | None

    def of(self, seconds: float) -> str:
        """Return the clock time at `seconds` [s] after the origin, in `zone`."""
        moment = pd.Timestamp(self.origin + round(float(seconds) * 1e9), tz="UTC")
        return f"{moment.tz_convert(self.zone) if self.zone else moment:%Y-%m-%d %H:%M:%S}"


def choose_times(
    column: pd.Series, unit: str | None = None, time_format: str | None = None, zone: str | None = None
) -> Times:
    """Return the times of a column.

    The reader and the draft share this function, so a draft made from a sample agrees with the reader.

    Args:
        column: (n,) numbers, dates or text.
        unit: unit of numbers, a key of `UNITS`; None derives it from their size.
        time_format: `strptime` format of text; None tries the closed list.
        zone: time zone of dates that name none, e.g. Europe/Berlin.

    Raises:
        DataError: the column is not understood or ambiguous; the message gives the remedy but not the column's name.
    """
    written = ~is_missing(column)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _of_dates(column, zone)
    if not written.any():
        raise DataError("expected times, found nothing written")
    if time_format:
        return _of_format(column, written, time_format, zone)
    values = _numbers(column)
    if _enough(np.isfinite(values), written):
        compact = None if unit else _compact(column, values, written)
        if unit is None and compact is None:
            _refuse_days_of_the_year(values)
        return _in_zone(compact, zone) if compact else _of_numbers(column, values, unit)
    text = english(_text(column))
    matches = match_patterns(text)
    dated = [match for match in matches if _enough(match.ns != NONE, written)]
    if dated:
        return _in_zone(_from_match(_decide(dated, text)), zone)
    seconds = time_of_day(text)
    if _enough(np.isfinite(seconds), written):
        return Times(seconds)
    example, row = _first_unread(column, written, matches)
    raise DataError(
        f"expected seconds, or dates and times as 2024-01-31 10:00:00, found '{example}' in row {row + 1} of the "
        'column; say how to read it with data.reader.time_format, e.g. "%d.%m.%Y %H:%M"'
    )


def read_times(
    table: Table, columns: list[str], unit: str | None = None, time_format: str | None = None, zone: str | None = None
) -> Times:
    """Return the times of a table; several columns, e.g. a date and a time, are joined by a blank first.

    Raises:
        DataError: as for `choose_times`, with the column's name.
    """
    column = table.frame[columns[0]]
    if len(columns) > 1:
        column = table.frame[columns].astype(str).agg(" ".join, axis=1)
    elif not pd.api.types.is_datetime64_any_dtype(column.dtype) and not time_format:
        values, _ = numbers(table, columns)  # with decimal commas
        if _enough(np.isfinite(values[:, 0]), ~is_missing(column)):
            column = column if _is_number(column) else pd.Series(values[:, 0]) if _has_comma(column) else column
    try:
        return choose_times(column, unit, time_format, zone)
    except DataError as error:
        raise DataError(
            f"column {quoted(columns)}: {error}, or name another column as data.schema.columns.time"
        ) from error


def clock(table: Table, columns: list[str], unit: str | None = None, time_format: str | None = None) -> np.ndarray:
    """Return the seconds of a table's times, (n,) float64; the arguments are those of `read_times`."""
    return read_times(table, columns, unit, time_format).seconds


def _text(column: pd.Series) -> pa.StringArray:
    array = pa.array(column.astype(str), pa.string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column.dtype))


def _has_comma(column: pd.Series) -> bool:
    return bool(column.astype(str).str.contains(",", regex=False).any())


def _enough(read: np.ndarray, written: np.ndarray) -> bool:
    return bool(np.count_nonzero(read & written) >= max(ENOUGH * np.count_nonzero(written), 1))


def _first_unread(column: pd.Series, written: np.ndarray, matches: list[PatternMatch]) -> tuple[str, int]:
    """Return a cell that the best matching format does not read, and its position in the column from 0."""
    best = max((match.ns != NONE for match in matches), key=np.count_nonzero, default=np.zeros(len(column), bool))
    unread = np.flatnonzero(written & ~best)
    row = int(unread[0]) if len(unread) else 0
    return str(column.iloc[row]), row


# --- Numbers -------------------------------------------------------------------------------------------------------


def _numbers(column: pd.Series) -> np.ndarray:
    if _is_number(column):
        return column.to_numpy(np.float64, na_value=np.nan)
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _compact(column: pd.Series, values: np.ndarray, written: np.ndarray) -> Times | None:
    """Parse dates written as digits only, 20240305 or 20240305220000; None if the numbers are no such dates."""
    known = values[np.isfinite(values)]
    if not len(known) or (known != np.floor(known)).any() or known.min() < 19000000 or known.max() > 2.2e16:
        return None
    if _is_number(column):
        text = pa.array([f"{int(v)}" if np.isfinite(v) else "" for v in values], pa.string())
    else:  # 17 digits do not fit into a float
        text = pc.utf8_trim_whitespace(_text(column))
    matches = [match for match in match_patterns(text, compact=True) if _enough(match.ns != NONE, written)]
    return _from_match(matches[0]) if matches else None


def _refuse_days_of_the_year(values: np.ndarray) -> None:
    """Refuse numbers that may be either a year and its day, such as 2024065, or a count of seconds.

    Raises:
        DataError: every number of the column can be read both ways.
    """
    known = values[np.isfinite(values)]
    if (known != np.floor(known)).any() or known.min() < 1:
        return
    digits = int(np.log10(known.min())) + 1
    time_format = DAY_OF_YEAR.get(digits)
    if time_format is None or known.max() >= 10.0**digits:
        return
    rest = known.astype(np.int64)
    for _, limit in (("second", 60), ("minute", 60), ("hour", 24))[(13 - digits + 1) // 2 :]:
        if (rest % 100 >= limit).any():
            return
        rest = rest // 100
    year, day = rest // 1000, rest % 1000
    if ((year >= 1950) & (year < 2100) & (day >= 1) & (day <= 366)).all():
        raise DataError(
            f"'{known[0]:.0f}' can be read in several ways: as year and day of the year, set "
            f'data.reader.time_format="{time_format}", or as a number, set data.reader.time_unit=s (or ms)'
        )


def _of_numbers(column: pd.Series, values: np.ndarray, unit: str | None) -> Times:
    values = np.where(np.isfinite(values), values, np.nan)
    size = float(np.nanmedian(np.abs(values)))
    unit = unit or _unit_of(values, size)
    first = float(values[np.isfinite(values)][0])
    whole = pd.api.types.is_integer_dtype(column.dtype) and not column.hasnans
    steps = (column - column.iloc[0]).to_numpy(np.float64) if whole else values - first
    seconds = steps * UNITS[unit]
    if unit in DAYS:  # a double resolves a day to microseconds, files mostly store milliseconds
        origin = round(first * 86_400_000) * 10**6 + DAY_ORIGINS[unit] * 86400 * SECOND
        return Times(np.round(seconds, 3), origin, unit=unit)
    dated = unit in EPOCHS and size > EPOCHS[unit] and size * UNITS[unit] < LATEST
    if not dated:
        return Times(values * UNITS[unit] if not whole or abs(first) < 2**53 else seconds, unit=unit)
    per_unit = {"s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    origin = int(column.iloc[0]) * per_unit if whole else round(first * per_unit)
    return Times(seconds, origin, "UTC", unit=unit)


def _unit_of(values: np.ndarray, size: float) -> str:
    """Return the unit of numbers, derived from `size`, their median absolute value."""
    by_size = next((name for name, least in EPOCHS.items() if name != "s" and size > least), "s")
    return next((name for name, limits in DAYS.items() if _is_days(values, limits)), by_size)


def _is_days(values: np.ndarray, limits: tuple[int, int]) -> bool:
    """Return whether numbers look like day numbers within limits: many decimals, steps of whole seconds."""
    known = values[np.isfinite(values)]
    if len(known) < 3 or known.min() < limits[0] or known.max() > limits[1]:
        return False
    with_decimals = np.mean(np.abs(known * 1e4 - np.round(known * 1e4)) > 0.01)
    seconds = np.diff(known) * 86400
    off = np.abs(seconds - np.round(seconds))
    return bool(with_decimals > 0.5 and np.mean(off < 0.1) > 0.9 and np.median(np.abs(seconds)) > 0.5)


# --- Dates ---------------------------------------------------------------------------------------------------------


def _of_dates(column: pd.Series, zone: str | None) -> Times:
    column_zone = None if column.dt.tz is None else str(column.dt.tz)
    moments = column.dt.tz_convert("UTC").dt.tz_localize(None) if column_zone else column
    moments = moments.where(in_years(moments.dt.year.to_numpy(np.float64, na_value=np.nan)))
    ns = moments.astype("datetime64[ns]").to_numpy().astype(np.int64)
    ns = np.where(moments.isna().to_numpy(), NONE, ns)
    if not (ns != NONE).any():
        raise DataError("expected dates, found none from 1700 to 2200")
    return _in_zone(_since_first(ns, column_zone), zone)


def _of_format(column: pd.Series, written: np.ndarray, time_format: str, zone: str | None) -> Times:
    """Return times in a `strptime` format; fractions of a second are optional, as loggers omit them at full seconds."""
    raw = pc.utf8_trim_whitespace(_text(column))
    if pd.api.types.is_float_dtype(column.dtype):
        raw = pc.replace_substring_regex(raw, r"\.0+$", "")
    for text in (raw, english(raw)):
        for match in match_patterns(text):
            if match.format == time_format and _enough(match.ns != NONE, written):
                return _in_zone(_from_match(match), zone)
        words = text.to_pandas()
        moments = pd.Series(pd.NaT, index=words.index, dtype="datetime64[ns, UTC]")
        for variant in dict.fromkeys([time_format, time_format.replace("%S", "%S.%f"), time_format.replace(".%f", "")]):
            moments = moments.fillna(pd.to_datetime(words, format=variant, errors="coerce", utc=True))
        if _enough(moments.notna().to_numpy(), written):
            dated = "%y" in time_format.lower() or "%s" in time_format
            times = _of_dates(moments.dt.tz_localize(None), None)
            if not dated:
                return replace(times, origin=None, zone=None)
            named = _offsets_named(time_format)
            return replace(times, zone="UTC", format=time_format) if named else _in_zone(times, zone)
    unread = str(column[written].iloc[0])
    raise DataError(f"expected times of the format {time_format}, found '{unread}'; correct data.reader.time_format")


def _offsets_named(time_format: str) -> bool:
    return "%z" in time_format or "%Z" in time_format


def _since_first(ns: np.ndarray, zone: str | None) -> Times:
    known = ns != NONE
    origin = int(ns[known][0])
    seconds = np.where(known, (np.where(known, ns, origin) - origin) / SECOND, np.nan)
    return Times(seconds, origin, zone)


def _from_match(match: PatternMatch) -> Times:
    times = _since_first(match.ns, match.zone)
    return replace(times, format=match.format, must_be_named=match.orders > 1)


def _decide(matches: list[PatternMatch], text: pa.StringArray) -> PatternMatch:
    """Return the one match that the whole column allows.

    Raises:
        DataError: several matches remain, with different times.
    """
    most = max(np.count_nonzero(match.ns != NONE) for match in matches)
    matches = [match for match in matches if np.count_nonzero(match.ns != NONE) == most]
    preferred = [match for match in matches if match.preferred]
    matches = preferred or matches
    for narrow in (_by_year, _by_continuity):
        if len(matches) > 1:
            matches = narrow(matches) or matches
    first = matches[0]
    if all(np.array_equal(match.ns, first.ns) for match in matches[1:]):
        return first
    row = int(np.flatnonzero(np.any([match.ns != first.ns for match in matches[1:]], axis=0))[0])
    candidates = " or ".join(f'"{m.format}" ({pd.Timestamp(int(m.ns[row])):%d %b %Y})' for m in matches)
    raise DataError(
        f"'{text[row].as_py()}' can be read in several ways and the whole column allows them: set "
        f"data.reader.time_format to {candidates}"
    )


def _by_year(matches: list[PatternMatch]) -> list[PatternMatch]:
    """Return the matches without those of implausibly many years: a day read as the year of two digits."""
    fewest = min(match.years for match in matches)
    return [match for match in matches if match.years < 4 or match.years <= 2 * fewest]


def _by_continuity(matches: list[PatternMatch]) -> list[PatternMatch]:
    """Return the matches in which rows continue over midnight; none if all do, as that decides nothing."""
    counts = [_continued(match.ns) for match in matches]
    return [match for match, count in zip(matches, counts, strict=True) if count] if min(counts) == 0 else []


def _continued(ns: np.ndarray) -> int:
    """Return how often the date changes between rows that are at most 3 usual intervals apart."""
    known = ns[ns != NONE]
    steps, days = np.diff(known), np.diff(known // (86400 * SECOND))
    within = np.abs(steps[days == 0])
    usual = np.median(within[within > 0]) if (within > 0).any() else None
    if usual is None:  # at most one row a day
        return 0
    return int(np.count_nonzero((days != 0) & (np.abs(steps) <= 3 * usual)))


def _in_zone(times: Times, zone: str | None) -> Times:
    """Return local times converted to UTC; without a zone, only unfold the hour repeated when summer time ends."""
    if times.zone is not None or times.origin is None:
        return times
    if zone is None:
        seconds, at = unfold_hour(times.seconds)
        if at is None:
            return times
        moment = pd.Timestamp(times.origin + round(times.seconds[at] * 1e9))
        note = (
            f"the clock goes back an hour at {moment:%Y-%m-%d %H:%M}, as at the end of summer time: later rows "
            "are moved by 1 h; set data.reader.time_zone, e.g. Europe/Berlin, to convert them for certain"
        )
        return replace(times, seconds=seconds, note=note)
    known = np.isfinite(times.seconds)
    wall = pd.Series(pd.to_datetime(times.origin + np.round(times.seconds[known] * 1e9).astype(np.int64)))
    backward = np.flatnonzero(np.diff(times.seconds[known]) < -1800) + 1
    summer = np.ones(len(wall), bool)
    for again in backward:
        summer[again:][times.seconds[known][again:] - times.seconds[known][again] < 5400] = False
    moments = wall.dt.tz_localize(zone, ambiguous=summer, nonexistent="shift_forward").dt.tz_convert("UTC")
    ns = np.full(len(known), NONE)
    ns[known] = moments.dt.tz_localize(None).astype("datetime64[ns]").to_numpy().astype(np.int64)
    return replace(_since_first(ns, zone), format=times.format, must_be_named=times.must_be_named)
