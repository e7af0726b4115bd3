"""Times in a table: numbers of some unit, dates and times in the usual orders, times of day."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from conveyorguard.data.table.columns import Table, is_missing, numbers, quoted
from conveyorguard.errors import DataError

YEARS = (1700, 2200)  # of the dates that are taken for some: the nanoseconds pandas counts in reach from 1678 to 2261
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}
CLOCK = r"(?P<clock>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*(?P<half>[AaPp][Mm])?"
DATE = re.compile(rf"\s*(?P<a>\d{{1,2}})[./-](?P<b>\d{{1,2}})[./-](?P<year>\d{{4}})[ T,]+{CLOCK}\s*")
TIME_OF_DAY = re.compile(rf"\s*{CLOCK}\s*")


def clock(table: Table, columns: list[str], unit: str = "s", time_format: str | None = None) -> np.ndarray:
    """Seconds on some clock, (n,) float64, from numbers, dates and times, or times of day (over midnight too).

    Of 03/04/2024 it is not known which is the day: the reading under which the recording is shorter is taken.

    Args:
        columns: one, or several to be read as one, e.g. a date and a time.
        unit: of numbers: s, ms, us, ns, min, h or d.
        time_format: of `strptime`, if it is none of the usual.

    Returns:
        NaN where there is no time.

    Raises:
        DataError: not half of the column can be read.
    """
    column = table.frame[columns[0]]
    if len(columns) > 1:
        column = table.frame[columns].astype(str).agg(" ".join, axis=1)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _of_dates(column)
    there = ~is_missing(column)

    def enough(seconds: np.ndarray) -> bool:
        return bool(np.count_nonzero(np.isfinite(seconds)) >= max(np.count_nonzero(there) / 2, 1))

    if time_format:
        seconds = _of_dates(pd.to_datetime(column.astype(str), format=time_format, errors="coerce", utc=True))
        if enough(seconds):
            return seconds
    else:
        if len(columns) == 1:
            seconds = numbers(table, columns)[0][:, 0] * UNITS[unit]
            if enough(seconds):
                return np.where(np.isfinite(seconds), seconds, np.nan)
        text = column.astype(str).str.strip()
        for parse in (_iso, _day_and_month, _time_of_day):
            seconds = parse(text)
            if enough(seconds):
                return seconds
    example = str(column[there].iloc[0]) if there.any() else "nothing"
    expected = (
        f"times of the format {time_format}" if time_format else "seconds, or dates and times as 2024-01-31 10:00:00"
    )
    raise DataError(
        f"column {quoted(columns)}: expected {expected}, found '{example}'; "
        "name another column as data.schema.columns.time, or say how to read it with data.reader.time_format"
    )


def _of_dates(dates: pd.Series) -> np.ndarray:
    moments = dates.dt.tz_convert("UTC").dt.tz_localize(None) if dates.dt.tz is not None else dates
    moments = moments.where(moments.dt.year.between(*YEARS))
    return (moments - pd.Timestamp(0)).dt.total_seconds().to_numpy(np.float64, na_value=np.nan)


def _iso(text: pd.Series) -> np.ndarray:
    return _of_dates(pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True))


def _day_and_month(text: pd.Series) -> np.ndarray:
    part = text.str.extract(DATE)
    a, b = (pd.to_numeric(part[name], errors="coerce") for name in "ab")
    year, hours = pd.to_numeric(part["year"], errors="coerce"), _hours(part)
    year = year.where(year.between(1678, 2261))  # the years of pandas' nanoseconds
    readings = []
    for day, month in ((a, b), (b, a)):
        dates = pd.to_datetime(pd.DataFrame({"year": year, "month": month, "day": day}), errors="coerce")
        readings.append(_of_dates(dates) + hours)
    return min(readings, key=lambda s: (np.isnan(s).sum(), np.nanmax(s) - np.nanmin(s) if np.isfinite(s).any() else 0))


def _time_of_day(text: pd.Series) -> np.ndarray:
    seconds = _hours(text.str.extract(TIME_OF_DAY)).copy()
    read = np.flatnonzero(np.isfinite(seconds))
    over_midnight = np.diff(seconds[read], prepend=seconds[read][:1]) < -12 * 3600
    seconds[read] += 86400 * np.cumsum(over_midnight)
    return seconds


def _hours(part: pd.DataFrame) -> np.ndarray:
    """Seconds of the day of the groups of CLOCK."""
    clock = part["clock"].str.replace(",", ".", regex=False)
    clock = clock.where(clock.str.count(":") > 1, clock + ":00")
    seconds = pd.to_timedelta(clock, errors="coerce").dt.total_seconds().to_numpy(np.float64, na_value=np.nan)
    half = part["half"].str.lower()
    afternoon, twelve = (half == "pm").to_numpy(), (seconds // 3600 == 12) & half.notna().to_numpy()
    return seconds + np.where(afternoon, 43200, 0) - np.where(twelve, 43200, 0)
