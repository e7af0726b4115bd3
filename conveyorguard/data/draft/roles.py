"""Which columns hold session, device and kind: by what they are called, or by what they hold."""

from __future__ import annotations

import re

import numpy as np

from conveyorguard.data.draft.sample import Sample, suits
from conveyorguard.data.draft.times import Clock, row_counters
from conveyorguard.data.table.clock import clock as seconds_of
from conveyorguard.data.table.columns import numbers, words_of
from conveyorguard.errors import DataError

NEAR = 10  # rows of the file between two rows of a sample that follow each other
QUANTITY = r"^(tag|var|variable|signal|channel|point|parameter|metric|_?field|_?measurement|quantity)(_?(name|id))?$"
MANY = 0.8  # share of the borders between values at which the time begins anew


def refuse_long_tables(sample: Sample, clock: Clock) -> None:
    """Raise where a row holds one quantity and a column names it, as exports of historians do.

    Raises:
        DataError: different quantities would be taken for one channel.
    """
    for name in sample.free:
        if not re.search(QUANTITY, name.strip(), re.IGNORECASE) or sample.is_number(name):
            continue
        words = [word for word in sample.counts(name, 500) if not word.startswith("$")]
        channels = [other for other in sample.free if other != name and sample.is_number(other)]
        if clock.names and len(words) > 1 and not sample.constant(name) and len(channels) <= 3:
            raise DataError(
                f"column '{name}' names what each row holds ({', '.join(words[:4])}), so that one column holds "
                "different quantities: write a column for each, e.g. with pandas: "
                f"frame.pivot_table(index={clock.names[0]!r}, columns={name!r}, values={(channels or ['value'])[0]!r})"
            )


def session_column(sample: Sample, clock: Clock) -> str | None:
    """The column that names the recordings of a file, by its name or where the time begins anew."""
    by_name = (name for name in sample.like("session") if not sample.constant(name) and _has_runs(sample, name))
    return next(by_name, None) or _restarting(sample, clock) or _untangling(sample, clock)


def _has_runs(sample: Sample, name: str) -> bool:
    """Whether a value stands in many rows: a batch number that is new in every row names no recording."""
    return all(len(table.frame) >= 5 * table.frame[name].nunique() for table in sample.tables.values())


def _seconds(sample: Sample, clock: Clock) -> np.ndarray | None:
    """The clock of the only table; a counter of the rows tells as well where it begins anew."""
    if len(sample.tables) > 1:
        return None
    (table,) = sample.tables.values()
    if clock.names:
        return seconds_of(table, clock.names, clock.reader.get("time_unit"), clock.reader.get("time_format"))
    counters = row_counters(sample)
    return numbers(table, counters[:1])[0][:, 0] if counters else None


def _restarting(sample: Sample, clock: Clock) -> str | None:
    """The column whose every new value is a recording of its own: there the clock begins anew or jumps."""
    seconds = _seconds(sample, clock)
    if seconds is None:
        return None
    (table,) = sample.tables.values()
    steps = np.diff(seconds)
    usual = float(np.nanmedian(np.abs(steps)))
    for name in sample.free:
        words = words_of(table.frame[name])
        borders = words[1:] != words[:-1]
        beside = borders & (np.diff(table.row) <= NEAR)  # not between two blocks of a sample
        apart = beside.any() and 1 < len(set(words)) == borders.sum() + 1 <= len(words) / 10
        if apart and np.mean((steps < 0) | (steps > 10 * usual), where=beside) > MANY:
            sample.odd.append(f"'{name}' is taken for the name of a recording: where it changes, the time begins anew")
            return name
    return None


def _untangling(sample: Sample, clock: Clock) -> str | None:
    """The column of the devices whose rows stand among each other: each alone has every time once."""
    seconds = _seconds(sample, clock)
    if seconds is None or not clock.names or np.mean(np.diff(seconds) <= 0) < 0.05:
        return None
    (table,) = sample.tables.values()
    for name in sorted(sample.free, key=lambda name: not suits(name, "device")):
        words = words_of(table.frame[name])
        parts = [seconds[words == word] for word in dict.fromkeys(words)] if len(set(words)) <= len(words) / 10 else []
        if len(parts) > 1 and all((np.diff(part) > 0).mean() > 0.99 for part in parts if len(part) > 1):
            sample.odd.append(
                f"'{name}' is taken for the name of a recording: rows of {len(parts)} stand among each other, and only "
                "apart does each time come once"
            )
            return name
    return None


def device_column(sample: Sample, session: str | None) -> str | None:
    """The column that names the device; the session's where it is called as a device."""
    by_name = (name for name in sample.like("device") if sample.constant(name))
    as_device = session if session and suits(session, "device") else None
    return next(by_name, None) or as_device


def column_of_groups(sample: Sample) -> str | None:
    """A column of words that may name the device, as it groups the recordings; the states must be taken before."""
    return next((name for name in sample.free if _tells_apart(sample, name)), None)


def kind_column(sample: Sample) -> str | None:
    return next((name for name in sample.like("kind") if sample.constant(name)), None)


def _tells_apart(sample: Sample, name: str) -> bool:
    """Whether a column of words says one thing in each recording, and the same in several: so may a device."""
    values = sample.counts(name, len(sample.tables))
    return not sample.is_number(name) and sample.constant(name) and 1 < len(values) < len(sample.tables)


def device_pattern(names: list[str], state_pattern: str | None) -> str | None:
    """A pattern for the device in the names of recordings: a folder, or what stands before the first _ or -, unless
    that is the state."""
    for key in re.findall(r"(?:^|/)([^/=]+)=", names[0]):  # folders of a partitioned table, as device=A
        pattern = rf"(?:^|/){re.escape(key)}=([^/]+)"
        if suits(key, "device") and all(re.search(pattern, name) for name in names):
            return pattern
    states = {match[1] for name in names if (match := re.search(state_pattern or "()", name))}
    for pattern in (r"^([^/]+)/", r"^([^_/]+)_", r"^([^-/]+)-"):
        matches = [re.search(pattern, name) for name in names]
        values = {match[1] for match in matches if match}
        if all(matches) and 1 < len(values) < len(names) and not values <= states:
            return pattern
    return None
