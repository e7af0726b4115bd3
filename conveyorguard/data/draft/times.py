"""Find the time columns of a draft, how to read them, and the period of the store."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conveyorguard.data.draft.sample import Sample, suits
from conveyorguard.data.table.clock import Times, read_times
from conveyorguard.errors import DataError

FORWARD = 0.9  # minimum share of the steps of a clock that go forward, or that are even
PER_PERIOD = 4  # rows per period; with more, a mean alone would hide vibration
ROWS = 100  # periods that the longest recording should have, if its rows allow it
NICE = (1, 2, 5)  # leading digits of a rounded period
TYPICAL = (60, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)  # usual settings of loggers [s]


@dataclass
class Clock:
    """The time columns of the files.

    Attributes:
        names: the columns; empty if each row is one period.
        reader: keys of `data.reader` that the columns need.
        interval: usual time between two rows [s].
        samples: rows per period.
        unit: "s", or "cycle" if the column counts cycles.
    """

    names: list[str] = field(default_factory=list)
    reader: dict[str, Any] = field(default_factory=dict)
    interval: float = 1.0
    samples: float = 1.0
    unit: str = "s"


@dataclass(frozen=True)
class TimeCandidate:
    """Columns that may hold the time: a date and a time of day, or a single column."""

    names: list[str]
    called_time: bool = False
    called_cycle: bool = False

    def suits(self, steps: np.ndarray) -> bool:
        """Return whether the steps from row to row (n,) [s] are those of a time."""
        if self.called_time and (steps != 0).any():
            return True
        return _is_forward(steps) and (self.called_cycle or _is_even(steps))


def find_clock(sample: Sample, settings: dict[str, Any]) -> Clock:
    """Return the time columns and how to read them; without any, a clock of one row per second.

    Args:
        sample: notes are added to its `odd`.
        settings: keys of `data.reader` that the user sets, e.g. time_format.

    Raises:
        DataError: a column is named like a time, but cannot be read.
    """
    refused: list[DataError] = []
    for candidate in _candidates(sample):
        names = candidate.names
        try:
            times = _read(sample, names, settings)
        except DataError as error:
            refused += [error] if _is_refused(sample, candidate, error) else []
            if refused and "several ways" in str(error):
                break
            continue
        steps = np.concatenate([np.diff(t.seconds[np.isfinite(t.seconds)]) for t in times])
        if candidate.suits(steps):
            if refused and all(t.origin is None for t in times):
                break  # do not fall back to a time of day if its date cannot be read
            if not candidate.called_time and not candidate.called_cycle:
                sample.odd.append(
                    f"no column is named like a time; '{names[0]}' increases evenly and is taken for the time"
                )
            return _clock(sample, names, times, steps, settings, candidate.called_cycle)
    if refused:
        raise DataError(
            f"{refused[0]}. To draft with it, add it to this command: "
            "schema PATH 'reader.time_format=FORMAT' (or reader.time_unit=UNIT)"
        )
    sample.odd.append(
        "no column of times: how long is it from one row to the next? Each row is taken for one second. If that is "
        "wrong, set reader.row_every, e.g. 0.05ms of 20,000 rows a second, and reader.period, e.g. 100ms"
    )
    return Clock()


def _is_refused(sample: Sample, candidate: TimeCandidate, error: DataError) -> bool:
    """Return whether a column that could not be read is a time after all: by its name, or as an ambiguous date."""
    name = candidate.names[0]
    several = "several ways" in str(error) and (suits(name, "time") or suits(name, "date"))
    return several or (candidate.called_time and not sample.is_number(name))


def leave_out_clocks(sample: Sample, clock: Clock) -> None:
    """Leave out further times and row counters; call it after `session_column`."""
    for name in [name for name in [*sample.like("time"), *sample.like("date")] if name not in sample.taken]:
        sample.leave_out(name, f"it is a further time; '{', '.join(clock.names) or 'none'}' is used as the time")
    for name in row_counters(sample):
        sample.leave_out(name, "it counts the rows: neither a time nor a measurement")
    for name in sample.like("counter"):
        parts = [values[np.isfinite(values)] for values in sample.numbers(name)]
        values = np.concatenate(parts)
        if len(values) and (values == np.floor(values)).all() and len(np.unique(values)) > 0.9 * len(values):
            sample.leave_out(name, "it numbers the rows: an identifier, not a measurement")


def row_counters(sample: Sample) -> list[str]:
    """Return the free columns that increase by 1 per row and are not named like a time or a cycle.

    Unless it is named like a counter, a column must also begin at 0 or 1 in each recording.
    """
    counters = []
    for name in sample.free:
        if suits(name, "time") or suits(name, "cycle") or not sample.is_number(name):
            continue
        parts = [values for values in sample.numbers(name) if len(values) > 2]
        steps = np.concatenate([np.diff(values) for values in parts]) if parts else np.array([])
        begins = {float(values[0]) for values in parts} <= {0.0, 1.0}  # otherwise it may be a time
        if len(steps) and (
            np.mean(steps == 1) > FORWARD if suits(name, "counter") else begins and np.mean(steps == 1) > 0.97
        ):
            counters.append(name)
    return counters


def _candidates(sample: Sample) -> list[TimeCandidate]:
    """Return pairs of date and time, then single columns: those named like a time, date or cycle, then the others."""
    counters = row_counters(sample)
    called_time = [name for name in sample.like("time") if name not in counters or suits(name, "time")]
    days = [name for name in sample.like("date") if not sample.is_number(name)]
    cycles = sample.like("cycle")
    clocks = [name for name in called_time if not sample.is_number(name)]
    pairs = [TimeCandidate([day, name], True) for day in days for name in clocks if name != day]
    others = [name for name in sample.free if name not in counters]
    single = dict.fromkeys([*called_time, *days, *cycles, *others])
    return pairs + [TimeCandidate([name], name in (*called_time, *days), name in cycles) for name in single]


def _read(sample: Sample, names: list[str], settings: dict[str, Any]) -> list[Times]:
    """Return the times of each table of at least 2 rows, read from these columns."""
    unit = settings.get("time_unit") or _unit_in_name(names[0])
    tables = [table for table in sample.tables.values() if len(table.frame) > 1]
    return [read_times(table, names, unit, settings.get("time_format"), settings.get("time_zone")) for table in tables]


def _unit_in_name(name: str) -> str | None:
    """Return the unit in the name of a time column, as in time_ms or t [min]; None for seconds or without a unit."""
    written = re.search(r"[\s_\[(](ms|us|µs|ns|min|h|hours?|minutes?|days?|d)[\])]?$", name, re.IGNORECASE)
    if not written:
        return None
    unit = written[1].lower()
    return {"µs": "us", "hours": "h", "hour": "h", "minute": "min", "minutes": "min", "day": "d", "days": "d"}.get(
        unit, unit
    )


def _is_forward(steps: np.ndarray) -> bool:
    """Return whether fewer than 10 % of the steps (n,) go back and more than 5 % go forward."""
    return len(steps) > 0 and bool(np.mean(steps >= 0) > FORWARD and np.mean(steps > 0) > 0.05)


def _is_even(steps: np.ndarray) -> bool:
    """Return whether more than 90 % of the steps (n,) are within 50 % of their median."""
    return bool(np.mean(np.abs(steps / max(float(np.median(steps)), 1e-9) - 1) < 0.5) > FORWARD)


def _clock(
    sample: Sample, names: list[str], times: list[Times], steps: np.ndarray, settings: dict[str, Any], cycles: bool
) -> Clock:
    """Return the clock of columns that were read: its keys of `data.reader`, interval and period.

    Args:
        sample: notes are added to its `odd`.
        names: the columns.
        times: times of each table.
        steps: (n,) steps from row to row [s].
        settings: keys of `data.reader` that the user sets.
        cycles: whether the column counts cycles.
    """
    reader = dict(settings)
    unit = _unit_in_name(names[0])
    if unit and times[0].unit == unit:
        reader.setdefault("time_unit", unit)
    elif times[0].unit in ("ms", "us", "ns", "excel", "matlab"):
        reader.setdefault("time_unit", times[0].unit)
    if any(t.must_be_named for t in times):
        reader.setdefault("time_format", times[0].format)
    sample.odd += list(dict.fromkeys(t.note for t in times if t.note))
    interval = float(np.median(np.abs(steps[steps != 0])))
    clock = Clock(names, reader, interval)
    if cycles:
        clock.unit = "cycle"
        sample.odd.append(f"'{names[0]}' counts cycles: read `cycle` where ConveyorGuard says `second`")
        return clock
    length = max((float(np.nanmax(t.seconds) - np.nanmin(t.seconds)) for t in times), default=0.0)
    _set_period(sample, clock, length)
    return clock


def _set_period(sample: Sample, clock: Clock, length: float) -> None:
    """Set the period of the store from the interval between rows and the length of the longest recording [s]."""
    if "period" in clock.reader:
        clock.samples = max(_seconds(clock.reader["period"]) / clock.interval, 1.0)
        return
    interval = clock.interval
    if interval > 0.98:
        period = _round(interval)
    elif interval >= 1 / PER_PERIOD:
        period = float(f"{interval:.3g}")
    else:
        period = 1.0 if length >= ROWS else _nice_below(max(length / ROWS, 0.001, min(interval, 1.0)))
    clock.samples = period / interval
    if period != 1:
        clock.reader["period"] = int(period) if period == int(period) else period
    if period == 1 and clock.samples <= 1.5:
        return
    rows = f"a row every {_text(interval)}" if interval >= 0.98 else f"{1 / interval:.4g} rows a second"
    several = f", so each period joins about {clock.samples:.3g} rows" if clock.samples > 1.5 else ""
    sample.odd.append(f"{rows}: reader.period is {_text(period)}{several}")


def _seconds(period: Any) -> float:
    """Return a duration such as 100ms in seconds."""
    from conveyorguard.data.table.layout import duration

    return duration(period) or 1.0


def _round(interval: float) -> float:
    """Return a period of about 1 s or more [s]: a usual setting within 2 %, whole seconds within 5 %, else 4 digits."""
    near = next((typical for typical in TYPICAL if abs(interval / typical - 1) < 0.02), None)
    return float(near or (round(interval) if abs(interval - round(interval)) < 0.05 * interval else f"{interval:.4g}"))


def _nice_below(seconds: float) -> float:
    """Return the longest of 1, 2, 5, 10, 20, ... 5000 ms that is not longer than `seconds`; at least 1 ms [s]."""
    nice = [m * 10.0**e for e in range(-3, 1) for m in NICE]
    return max((p for p in nice if p <= seconds * 1.0001), default=0.001)


def _text(seconds: float) -> str:
    """Return a duration with its unit, e.g. "10 min", "2 s" or "50 ms"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds / size == round(seconds / size, 1):
            return f"{seconds / size:g} {unit}"
    return f"{seconds:.4g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
