"""Durations as people write them: `30s`, `10min`, `12h`, a plain number of seconds, or a number of rows."""

from __future__ import annotations

import math
import re

UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}  # [s]
PATTERN = re.compile(r"\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(ms|s|min|h|d|rows?)?\s*")
EXAMPLES = "a number of seconds, 500ms, 30s, 10min, 12h, 1d or 30rows"


def seconds_of(value: object, period: float) -> float:
    """Convert a duration to seconds.

    Args:
        value: a number [s], or text such as `10min` or `30rows`.
        period: of a row [s].

    Raises:
        ValueError: the value is no duration; the message names the forms that are.
    """
    match = PATTERN.fullmatch(str(value)) if isinstance(value, int | float | str) else None
    if isinstance(value, bool) or match is None:
        raise ValueError(f"{value!r} is not a duration: write {EXAMPLES}")
    number, unit = float(match[1]), match[2] or "s"
    return number * (period if unit.startswith("row") else UNITS[unit])


def ticks_of(value: object, period: float) -> int:
    """Convert a duration to a whole number of rows.

    Raises:
        ValueError: the value is no duration, or no whole number of rows.
    """
    seconds = seconds_of(value, period)
    ticks = round(seconds / period)
    if not math.isclose(ticks * period, seconds, rel_tol=1e-6, abs_tol=period * 1e-6):
        raise ValueError(f"{value} is not a whole number of rows, which are {text_of(period)} apart")
    return ticks


def plain(seconds: float) -> int | float:
    """Return a whole number of seconds as an int, for files and messages."""
    return int(seconds) if float(seconds).is_integer() else round(float(seconds), 9)


def text_of(seconds: float) -> str:
    """Write a duration in the largest unit that leaves a short number: `500 ms`, `30 s`, `10 min`, `12 h`."""
    for unit in ("d", "h", "min"):
        if seconds >= UNITS[unit] and math.isclose(round(seconds / UNITS[unit], 2), seconds / UNITS[unit]):
            return f"{seconds / UNITS[unit]:g} {unit}"
    return f"{seconds * 1000:g} ms" if 0 < seconds < 1 else f"{seconds:g} s"
