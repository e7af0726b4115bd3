"""Find the columns of session, device and kind by their names or their values."""

from __future__ import annotations

import re

import numpy as np

from conveyorguard.data.draft.sample import Sample, suits
from conveyorguard.data.draft.times import Clock, row_counters
from conveyorguard.data.table.clock import clock as seconds_of
from conveyorguard.data.table.columns import numbers, words_of
from conveyorguard.errors import DataError

NEAR = 10  # rows of the file; neighbours in a sample that are further apart belong to different blocks
QUANTITY = r"^(tag|var|variable|signal|channel|point|parameter|metric|_?field|_?measurement|quantity)(_?(name|id))?$"
MANY = 0.8  # share of the changes of a value at which the time must restart or jump


def refuse_long_tables(sample: Sample, clock: Clock) -> None:
    """Refuse tables in long format, as historians export them: one quantity per row, named by a column.

    Raises:
        DataError: the table is in long format, so that a channel would mix different quantities.
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
    """Return the column that names the recordings, found by its name or by the course of time; None without one."""
    by_name = (name for name in sample.like("session") if not sample.constant(name) and _has_runs(sample, name))
    return next(by_name, None) or _restarting(sample, clock) or _untangling(sample, clock)


def _has_runs(sample: Sample, name: str) -> bool:
    """Return whether a value fills 5 rows or more on average in each table, unlike a number new in every row."""
    return all(len(table.frame) >= 5 * table.frame[name].nunique() for table in sample.tables.values())


def _seconds(sample: Sample, clock: Clock) -> np.ndarray | None:
    """Return the times [s], else a row counter, of the only table, (n,); None without these or for several tables."""
    if len(sample.tables) > 1:
        return None
    (table,) = sample.tables.values()
    if clock.names:
        return seconds_of(table, clock.names, clock.reader.get("time_unit"), clock.reader.get("time_format"))
    counters = row_counters(sample)
    return numbers(table, counters[:1])[0][:, 0] if counters else None


def _restarting(sample: Sample, clock: Clock) -> str | None:
    """Return a column at whose changes the clock restarts or jumps, each value being one block; None without one."""
    seconds = _seconds(sample, clock)
    if seconds is None:
        return None
    (table,) = sample.tables.values()
    steps = np.diff(seconds)
    usual = float(np.nanmedian(np.abs(steps)))
    for name in sample.free:
        words = words_of(table.frame[name])
        borders = words[1:] != words[:-1]
        beside = borders & (np.diff(table.row) <= NEAR)  # neighbouring rows of two blocks of a sample say nothing
        apart = beside.any() and 1 < len(set(words)) == borders.sum() + 1 <= len(words) / 10
        if apart and np.mean((steps < 0) | (steps > 10 * usual), where=beside) > MANY:
            sample.odd.append(
                f"'{name}' is taken for the name of a recording: where it changes, the time restarts or jumps"
            )
            return name
    return None


def _untangling(sample: Sample, clock: Clock) -> str | None:
    """Return a column of interleaved devices, each of which alone has increasing times; None without one."""
    seconds = _seconds(sample, clock)
    if seconds is None or not clock.names or np.mean(np.diff(seconds) <= 0) < 0.05:
        return None
    (table,) = sample.tables.values()
    for name in sorted(sample.free, key=lambda name: not suits(name, "device")):
        words = words_of(table.frame[name])
        parts = [seconds[words == word] for word in dict.fromkeys(words)] if len(set(words)) <= len(words) / 10 else []
        if len(parts) > 1 and all((np.diff(part) > 0).mean() > 0.99 for part in parts if len(part) > 1):
            sample.odd.append(
                f"'{name}' is taken for the name of a recording: the rows of its {len(parts)} values are interleaved, "
                "and times increase only within each of them"
            )
            return name
    return None


def device_column(sample: Sample, session: str | None) -> str | None:
    """Return the column named like a device and constant in each recording, else the session's if named so, or None."""
    by_name = (name for name in sample.like("device") if sample.constant(name))
    as_device = session if session and suits(session, "device") else None
    return next(by_name, None) or as_device


def column_of_groups(sample: Sample) -> str | None:
    """Return a column of words that groups the recordings, as a device does, or None; call it after `find_states`."""
    return next((name for name in sample.free if _tells_apart(sample, name)), None)


def kind_column(sample: Sample) -> str | None:
    """Return the column named like a kind and constant in each recording, or None."""
    return next((name for name in sample.like("kind") if sample.constant(name)), None)


def _tells_apart(sample: Sample, name: str) -> bool:
    """Return whether a column of words is constant in each recording and shared by several, as a device may be."""
    values = sample.counts(name, len(sample.tables))
    return not sample.is_number(name) and sample.constant(name) and 1 < len(values) < len(sample.tables)


def device_pattern(names: list[str], state_pattern: str | None) -> str | None:
    """Return a regular expression for the device in the names of recordings, or None.

    The device is a folder `device=A` of a partitioned table, the first folder, or the part before the first _ or -,
    unless that is the state.

    Args:
        names: names of the recordings.
        state_pattern: `reader.state_pattern`; None without one.
    """
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
