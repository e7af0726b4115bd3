"""Check the keys of `data.reader`, which say how the files of a table are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from zoneinfo import ZoneInfo

from conveyorguard.data.durations import seconds_of
from conveyorguard.data.table.clock import UNITS
from conveyorguard.errors import ConfigError

PERIODS = (0.001, 86400.0)  # s
STOPS = "stops"  # data.reader.split_every: at the gaps in time
THRESHOLDS = (
    "read {column: RUL, thresholds: [125, 30]}, all rising or all falling; of one threshold also worse: below|above"
)
STATE_KEYS = ("state_pattern", "labels", "states_from")


@dataclass(frozen=True)
class StateThresholds:
    """States from a numeric column: the state is the number of thresholds that the number has reached.

    Attributes:
        column: the column.
        thresholds: K-1 thresholds between K states, from good to bad.
        falling: lower numbers are worse.
    """

    column: str
    thresholds: tuple[float, ...]
    falling: bool


@dataclass(frozen=True)
class Layout:
    """The keys of `data.reader`, which say how files are read.

    Attributes:
        period: time between the rows of the store [s]; sessions of another period are resampled to it.
        row_every: time between rows [s] if there is no time column; None: one row per period.
        time_unit: unit of a numeric time column: s, ms, us, ns, min, h, d, excel or matlab; None: by size.
        time_format: strptime format of a text time column; needed if the format is unknown or ambiguous.
        time_zone: time zone of dates that name none, e.g. Europe/Berlin.
        encoding: encoding of csv files that are not UTF-8.
        missing: numbers or words that mark a missing value, in addition to empty cells, NA and the like.
        device_pattern: regular expression searched in the session's name; its group is the device.
        kind_pattern: the same for the kind of device.
        state_pattern: the same for the state, given by its name or label.
        labels: file of intervals with the columns session, begin, end, state.
        states_from: numeric column and the thresholds between its states.
        split_every: time [s] after which a session is cut into sessions `name#k`; or `stops`, to cut at gaps in time.
        thermal_folder: folder of the frames below the root.
        thermal_scale, thermal_offset: degC = scale * value + offset, for each pixel of an array or picture.
        incomplete: accept sessions that lack some channels (read as NaN) or do not name their device or kind.
    """

    period: float = 1.0
    row_every: float | None = None
    time_unit: str | None = None
    time_format: str | None = None
    time_zone: str | None = None
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()
    device_pattern: str | None = None
    kind_pattern: str | None = None
    state_pattern: str | None = None
    labels: str | None = None
    states_from: StateThresholds | None = None
    split_every: float | str | None = None
    thermal_folder: str = "thermal"
    thermal_scale: float = 1.0
    thermal_offset: float = 0.0
    incomplete: bool = False

    @classmethod
    def of(cls, options: dict[str, Any]) -> Layout:
        """Return the layout of the keys of `data.reader`.

        Raises:
            ConfigError: keys are unknown or their values not possible; the message lists all of them.
        """
        known = [f.name for f in fields(cls)]
        problems = [f"unknown key '{key}'; known are {', '.join(known)}" for key in options if key not in known]
        values = {key: value for key, value in options.items() if key in known}
        problems += _parse(values)
        layout = cls(**values)
        problems += _choice_problems(layout)
        if problems:
            raise ConfigError("data.reader:\n" + "\n".join(f"  - {problem}" for problem in problems))
        return layout


def _parse(values: dict[str, Any]) -> list[str]:
    """Replace the values of keys by what they mean, in place; return the problems."""
    problems = []
    parsers = {"period": _period, "row_every": _row_every, "split_every": _split_every, "states_from": _thresholds}
    for key, parse in parsers.items():
        if values.get(key) is not None:
            try:
                values[key] = parse(values[key])
            except ConfigError as error:
                problems.append(str(error))
    missing = values.get("missing") or ()
    values["missing"] = tuple(str(word).strip() for word in ([missing] if isinstance(missing, str) else missing))
    return problems


def _choice_problems(layout: Layout) -> list[str]:
    """Return the problems of units, zones, patterns and sources of states."""
    problems = []
    if layout.time_unit is not None and layout.time_unit not in UNITS:
        problems.append(f"time_unit={layout.time_unit}: one of {', '.join(UNITS)}")
    problems += _zone_problems(layout.time_zone)
    for key in ("device_pattern", "kind_pattern", "state_pattern"):
        problems += _pattern_problems(key, getattr(layout, key))
    sources = [key for key in STATE_KEYS if getattr(layout, key) is not None]
    if len(sources) > 1:
        problems.append(f"{' and '.join(sources)}: states come from one of them; set the others to null")
    return problems


def duration(value: Any) -> float | None:
    """Return the seconds of a number, or of text such as 500ms, 30s, 10min, 12h or 1d; None for anything else."""
    try:
        return None if "row" in str(value) else seconds_of(value, 1.0)
    except ValueError:
        return None


def _period(value: Any) -> float:
    seconds = duration(value)
    if seconds is None or not PERIODS[0] <= seconds <= PERIODS[1]:
        raise ConfigError(f"period={value}: seconds from 0.001 to 86400, or e.g. 100ms, 10min, 1h")
    return seconds


def _row_every(value: Any) -> float:
    seconds = duration(value)
    if seconds is None or seconds <= 0:
        raise ConfigError(f"row_every={value}: seconds, more than 0, or e.g. 0.5ms, 10min")
    return seconds


def _split_every(value: Any) -> float | str:
    seconds = duration(value)
    if value != STOPS and (seconds is None or seconds <= 0):
        raise ConfigError(f"split_every={value}: seconds, more than 0, or e.g. 10min, 12h, 1d, or {STOPS}")
    return STOPS if seconds is None else seconds


def _thresholds(value: Any) -> StateThresholds:
    keys = set(value) if isinstance(value, Mapping) else set()
    if not {"column", "thresholds"} <= keys <= {"column", "thresholds", "worse"}:
        raise ConfigError(f"states_from must {THRESHOLDS}, found {value!r}")
    several = isinstance(value["thresholds"], Sequence) and not isinstance(value["thresholds"], str)
    numbers = list(value["thresholds"]) if several else []
    if not numbers or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise ConfigError(f"states_from must {THRESHOLDS}, found thresholds: {value['thresholds']!r}")
    return StateThresholds(str(value["column"]), tuple(map(float, numbers)), _is_falling(value, numbers))


def _is_falling(value: Mapping[str, Any], numbers: list[float]) -> bool:
    """Return whether lower numbers are worse.

    Raises:
        ConfigError: the thresholds are not sorted, or `worse` is missing, unknown or contradicts them.
    """
    rising, falling = numbers == sorted(set(numbers)), numbers == sorted(set(numbers), reverse=True)
    worse = value.get("worse")
    if worse not in (None, "below", "above") or not (rising or falling):
        raise ConfigError(f"states_from must {THRESHOLDS}, found {dict(value)!r}")
    if len(numbers) == 1:
        if worse is None:
            raise ConfigError(
                "states_from: for a single threshold, say on which side the worse state is, worse: below (e.g. a "
                f"remaining life) or worse: above, of column '{value['column']}'"
            )
        return worse == "below"
    if worse is not None and (worse == "below") != falling:
        raise ConfigError(
            f"states_from: thresholds {numbers} are {'falling' if falling else 'rising'}, so that the worse states are "
            f"{'below' if falling else 'above'}, not {worse}"
        )
    return falling


def _zone_problems(zone: str | None) -> list[str]:
    if zone is None:
        return []
    try:
        ZoneInfo(zone)
        return []
    except (ValueError, OSError, KeyError, TypeError):
        return [f"time_zone={zone}: no such zone; e.g. Europe/Berlin, Asia/Seoul, UTC"]


def _pattern_problems(key: str, pattern: str | None) -> list[str]:
    try:
        groups = re.compile(pattern or "()").groups
    except re.error as error:
        return [f"{key}={pattern}: no regular expression ({error})"]
    return [] if groups == 1 else [f"{key}={pattern}: put brackets around the one part that is the name"]
