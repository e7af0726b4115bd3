"""Match a column of text against the closed list of date and time formats."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conveyorguard.data.table.clock_words import MONTHS, ZONES

SECOND = 10**9  # ns
NONE = np.iinfo(np.int64).min  # marks a missing time in an array of ns
SAMPLE = 1000  # rows of a long column on which patterns are tested first
YEARS = (1700, 2200)  # ns since 1970 fit into int64 from 1678 to 2261
TIME = (
    r"(?:(?P<before>[AaPp])\.?[Mm]\.? ?)?(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,:](?P<f>\d{1,9}))?)?"
    r"(?: ?(?P<after>[AaPp])\.? ?[Mm]\.?)?"
)
ZONE = rf"(?: ?(?P<zone>(?:UTC|GMT)?[+-]\d{{2}}(?::?\d{{2}})?|{'|'.join(ZONES)}))?"
JOIN = r"(?:[Tt]|, ?| ?- |[ _:])"
MONTH = rf"(?P<b>{'|'.join(MONTHS)})\.?"
YMD = r"(?P<y>\d{4})[-/.: ](?P<m>\d{1,2})[-/.: ](?P<d>\d{1,2})\.?"
NUMERIC = r"(?P<a>\d{1,2})(?P<sep>[-/. ])(?P<b>\d{1,2})[-/. ](?P<y>\d{4}|\d{2})"
DAY_MONTH_YEAR = rf"(?P<d>\d{{1,2}})\.?[-/ ]?{MONTH}[-/ ,]*(?P<y>\d{{4}}|\d{{2}})"
MONTH_DAY_YEAR = rf"{MONTH}[-/ ]?(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? ?(?P<y>\d{{4}})"
YEAR_MONTH_DAY = rf"(?P<y>\d{{4}})[-/ ]?{MONTH}[-/ ]?(?P<d>\d{{1,2}})"
PATTERNS = (
    rf"^{YMD}(?:{JOIN}{TIME}{ZONE})?$",
    rf"^{NUMERIC}(?:{JOIN}{TIME}{ZONE})?$",
    rf"^{DAY_MONTH_YEAR}(?:{JOIN}{TIME}{ZONE})?$",
    rf"^{MONTH_DAY_YEAR}(?:{JOIN}{TIME}{ZONE})?$",
    rf"^{YEAR_MONTH_DAY}(?:{JOIN}{TIME}{ZONE})?$",
    rf"^{MONTH} (?P<d>\d{{1,2}}) {TIME}{ZONE} (?P<y>\d{{4}})$",  # C's ctime
    rf"^{TIME}{ZONE}[ ,]+{YMD}$",
    rf"^{TIME}{ZONE}[ ,]+{NUMERIC}$",
    rf"^{TIME}{ZONE}[ ,]+{DAY_MONTH_YEAR}$",
)
COMPACT = (
    r"^(?P<y>(?:17|18|19|20|21)\d{2})(?P<m>\d{2})(?P<d>\d{2})(?:[Tt _-]?(?P<H>\d{2})(?P<M>\d{2})"
    rf"(?:(?P<S>\d{{2}})(?:[.,]?(?P<f>\d{{1,6}}))?)?{ZONE})?$",
    rf"^(?P<y>(?:17|18|19|20|21)\d{{2}})(?P<m>\d{{2}})(?P<d>\d{{2}}){JOIN}{TIME}{ZONE}$",
)
ORDERS = ("dm", "md", "ymd")  # three numbers with the day, the month or a two-digit year first


@dataclass(frozen=True)
class PatternMatch:
    """A column read by one pattern in one order of day, month and year.

    Attributes:
        ns: (n,) int64, ns since 1970, in UTC where a zone is named; `NONE` where the pattern does not match.
        format: `strptime` format of the first matching cell.
        zone: time zone; None if the column names none.
        orders: number of orders of day, month and year in which the pattern can be read.
        years: number of distinct years.
        preferred: points separate day, month and a four-digit year, which by convention come in that order.
    """

    ns: np.ndarray
    format: str
    zone: str | None
    orders: int
    years: int
    preferred: bool = False


def match_patterns(text: pa.StringArray, compact: bool = False) -> list[PatternMatch]:
    """Return a match for each pattern and order that reads any cell of a column.

    In a column of more than `SAMPLE` rows, only patterns that match a cell of an evenly spaced sample are tried.

    Args:
        text: (n,) cells, as `english` returns them.
        compact: try only dates written as digits without separators, e.g. 20240305.
    """
    patterns: tuple[str, ...] = COMPACT if compact else (*PATTERNS, *COMPACT)
    if len(text) > SAMPLE:
        few = text.take(pa.array(np.linspace(0, len(text) - 1, SAMPLE).astype(np.int64)))
        patterns = tuple(p for p in patterns if pc.any(pc.match_substring_regex(few, p)).as_py())
    matches = []
    for pattern in patterns:
        groups = pc.extract_regex(text, pattern)
        there = pc.is_valid(groups).to_numpy(zero_copy_only=False)
        if not there.any():
            continue
        parts = _parts(groups.filter(pa.array(there)))
        example = text[int(np.flatnonzero(there)[0])].as_py()
        for order in ORDERS if "a" in parts else ("",):
            match = _reading(parts, order, there, pattern, example)
            if match is not None:
                matches.append(match)
    return matches


def _parts(groups: pa.StructArray) -> dict[str, np.ndarray]:
    """Return each group of a pattern as an array (n,): digits as int64, 0 where empty; other groups as text.

    The added key `digits` holds the number of digits of the year; `f` is the fraction of a second in ns.
    """
    parts: dict[str, np.ndarray] = {}
    for field in groups.type:
        values = groups.field(field.name)
        if field.name in ("before", "after", "zone", "sep"):
            parts[field.name] = values.dictionary_encode().to_pandas().astype(object).fillna("").to_numpy()
            continue
        if field.name == "b" and "a" not in parts:
            parts["m"] = pc.index_in(values, pa.array(MONTHS)).to_numpy(zero_copy_only=False).astype(np.int64) + 1
            continue
        if field.name == "y":
            parts["digits"] = pc.utf8_length(values).to_numpy(zero_copy_only=False)
        if field.name == "f":
            values = pc.utf8_rpad(pc.fill_null(values, ""), 9, "0")
        values = pc.fill_null(values, "0")
        values = pc.if_else(pc.equal(values, ""), "0", values)
        parts[field.name] = pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False)
    return parts


def _reading(
    parts: dict[str, np.ndarray], order: str, there: np.ndarray, pattern: str, example: str
) -> PatternMatch | None:
    """Return the match of a pattern in one order; None if no cell is a possible date in it.

    Args:
        parts: groups of the cells that match the pattern.
        order: one of `ORDERS`; empty where the pattern fixes the order.
        there: (n,) True for cells that match the pattern.
        example: first cell that matches.
    """
    year, month, day, digits = parts["y"], parts.get("m"), parts.get("d"), parts["digits"]
    short = bool((digits == 2).any())
    if order:
        if order == "ymd" and (not short or (digits == 4).any()):
            return None
        if order == "md" and (parts["sep"] == ".").all() and short:
            return None  # nobody writes 03.31.24
        day, month, year = {
            "dm": (parts["a"], parts["b"], year),
            "md": (parts["b"], parts["a"], year),
            "ymd": (year, parts["b"], parts["a"]),
        }[order]
        digits = np.full(len(year), 2) if order == "ymd" else digits
    full = np.where(digits == 2, np.where(year < 69, year + 2000, year + 1900), year)
    days, possible = _days(full, month, day)
    seconds, sound = _seconds(parts, len(full))
    offset, zone, known = _offsets(parts.get("zone"), len(full))
    possible &= sound & known & in_years(full)
    ns = np.full(len(there), NONE)
    at = np.flatnonzero(there)[possible]
    if not len(at):
        return None
    ns[at] = ((days * 86400 + seconds - offset) * SECOND + _at(parts, "f", len(full)))[possible]
    points = order == "dm" and bool((parts["sep"] == ".").all()) and not short
    years = len(np.unique(full[possible]))
    counted = (3 if short else 2) if order else 1
    return PatternMatch(ns, _format(pattern, order, example), zone, 1 if points else counted, years, points)


def _at(parts: dict[str, np.ndarray], name: str, count: int) -> np.ndarray:
    """Return a group (count,), zeros where the pattern lacks it."""
    values = parts.get(name)
    return values if values is not None and len(values) == count else np.zeros(count, np.int64)


def in_years(year: np.ndarray) -> np.ndarray:
    """Return where a year lies within `YEARS`, (n,) bool."""
    return (year >= YEARS[0]) & (year <= YEARS[1])


def _days(year: np.ndarray, month: Any, day: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return days since 1970 (n,), and whether each date exists (n,) bool."""
    possible = (month >= 1) & (month <= 12) & (day >= 1) & (year > 0) & (year < 10000)
    months = np.where(possible, (year - 1970) * 12 + month - 1, 0)
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    length = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) - first
    return first + day - 1, possible & (day <= length)


def _seconds(parts: dict[str, np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return seconds since midnight (n,), and whether each time of day exists (n,) bool."""
    hour, minute, second = (_at(parts, name, count) for name in ("H", "M", "S"))
    half = np.full(count, "", object)
    for name in ("before", "after"):
        if name in parts:
            half = np.where(parts[name] != "", parts[name], half)
    halved = half != ""
    afternoon = np.isin(half, ["p", "P"])
    sound = (minute < 60) & (second < 60) & np.where(halved, (hour >= 1) & (hour <= 12), hour < 24)
    hour = np.where(halved, hour % 12 + 12 * afternoon, hour)
    return hour * 3600 + minute * 60 + second, sound


def _offsets(zones: np.ndarray | None, count: int) -> tuple[np.ndarray, str | None, np.ndarray]:
    """Return offsets from UTC [s] (n,), the first zone named, and False (n,) where a cell alone names no zone."""
    if zones is None or not (zones != "").any():
        return np.zeros(count, np.int64), None, np.ones(count, bool)
    of_name = {name: _offset(name) for name in set(zones.tolist()) if name}
    offset = np.array([of_name.get(name, 0) for name in zones], np.int64)
    first = of_name[next(name for name in zones if name)]
    sign, minutes = "-" if first < 0 else "+", abs(first) // 60
    zone = f"UTC{sign}{minutes // 60:02d}:{minutes % 60:02d}" if first else "UTC"
    return offset, zone, zones != ""


def _offset(name: str) -> int:
    if name in ZONES:
        return ZONES[name]
    digits = re.sub(r"\D", "", name).ljust(4, "0")
    return (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if "-" in name else 1)


def _format(pattern: str, order: str, example: str) -> str:
    """Return the `strptime` format in which an example is written; empty if the pattern does not match it."""
    match = re.match(pattern, example)
    if match is None:
        return ""
    directives = {"H": "%H", "M": "%M", "S": "%S", "f": "%f", "zone": "%z", "m": "%m", "d": "%d", "b": "%b"}
    year = "%Y" if len(match["y"]) == 4 else "%y"
    directives |= {
        "": {"y": year},
        "dm": {"a": "%d", "b": "%m", "y": year},
        "md": {"a": "%m", "b": "%d", "y": year},
        "ymd": {"a": "%y", "b": "%m", "y": "%d"},
    }[order]
    groups = match.re.groupindex
    halves = [name for name in ("before", "after") if name in groups and match[name]]
    if halves:
        directives["H"] = "%I"
    pieces = {match.span(n): word for n, word in directives.items() if n in groups and match[n] is not None}
    for name in halves:
        begin = match.start(name)
        pieces[begin, begin + len(re.match(r"[AaPp]\.? ?[Mm]\.?", example[begin:])[0])] = "%p"  # type: ignore[index]
    for (begin, end), word in sorted(pieces.items(), reverse=True):
        example = example[:begin] + word + example[end:]
    return example


def time_of_day(text: pa.StringArray) -> np.ndarray:
    """Return seconds since the midnight before the first row, (n,), for times of day without dates.

    A step back of more than 12 h counts as midnight passed. NaN where a cell is no time of day.
    """
    groups = pc.extract_regex(text, rf"^{TIME}$")
    there = pc.is_valid(groups).to_numpy(zero_copy_only=False)
    seconds = np.full(len(text), np.nan)
    if not there.any():
        return seconds
    parts = _parts(groups.filter(pa.array(there)))
    whole, sound = _seconds(parts, int(there.sum()))
    read = np.flatnonzero(there)[sound]
    seconds[read] = (whole + _at(parts, "f", len(whole)) / SECOND)[sound]
    over_midnight = np.diff(seconds[read], prepend=seconds[read][:1]) < -12 * 3600
    seconds[read] += 86400 * np.cumsum(over_midnight)
    return seconds


def unfold_hour(seconds: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Return times with the second pass of a repeated hour moved one hour later, as at the end of summer time.

    Returns:
        (n,) seconds, and the row at which the hour repeats; the times unchanged and None if no hour repeats.
    """
    known = np.flatnonzero(np.isfinite(seconds))
    steps = np.diff(seconds[known])
    forward = steps[steps > 0]
    back = np.flatnonzero(steps < 0)
    if len(back) != 1 or not len(forward):
        return seconds, None
    usual = float(np.median(forward))
    if usual > 1800 or abs(steps[back[0]] + 3600 - usual) > 2 * usual:
        return seconds, None
    at = int(known[back[0] + 1])
    later = np.arange(len(seconds)) >= at
    return np.where(later, seconds + 3600, seconds), at
