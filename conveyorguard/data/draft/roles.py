"""Which columns hold time, session, state, device and kind: by what they are called, or by what they hold."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.draft.sample import Sample
from conveyorguard.data.table.clock import clock
from conveyorguard.data.table.columns import words_of
from conveyorguard.data.table.resample import COARSEST
from conveyorguard.errors import DataError

STATES = 12  # a column of more values is no state


def time_columns(sample: Sample) -> tuple[list[str], dict[str, Any]]:
    """The columns of the time, and how to read them: keys of `data.reader`."""
    by_name = sample.like("time")
    days = [name for name in sample.like("date") if not sample.is_number(name)]
    for names in _time_candidates(sample, by_name, days):
        reader = _time_keys(sample, names)
        try:
            steps = _steps(sample, names, reader)
        except DataError:
            continue
        if _is_forward(steps) and (names[0] in (*by_name, *days) or _is_even(steps)):
            interval = float(np.median(steps[steps > 0]))
            if interval > COARSEST:
                reader["period"] = round(interval, 3)
                sample.odd.append(
                    f"a row every {interval:.3g} s: period is set to that, and what is called a second is one row"
                )
            return names, reader
    sample.odd.append(
        "no column of times found: a row is taken for a second; if it is another time, set data.reader.period"
    )
    return [], {}


def _time_candidates(sample: Sample, by_name: list[str], days: list[str]) -> list[list[str]]:
    """A day and a time, then single columns: those called as times and days are, then all others."""
    clocks = [name for name in by_name if not sample.is_number(name)]
    both = [[day, name] for day in days for name in clocks if name != day]
    return both + [[name] for name in dict.fromkeys([*by_name, *days, *sample.free])]


def _time_keys(sample: Sample, names: list[str]) -> dict[str, Any]:
    """The unit or the format of a time that is a number."""
    if len(names) > 1 or not sample.is_number(names[0]):
        return {}
    text = words_of(next(iter(sample.tables.values())).frame[names[0]])
    if all(re.fullmatch(r"(19|20)\d{12}", word) for word in text[:100]):
        return {"time_format": "%Y%m%d%H%M%S"}
    unit = _unit_of_time(names[0], text)
    return {} if unit == "s" else {"time_unit": unit}


def _unit_of_time(name: str, text: np.ndarray) -> str:
    largest = np.nanmax(np.abs(pd.to_numeric(pd.Series(text), errors="coerce").to_numpy(float)), initial=0)
    for limit, unit in ((1e17, "ns"), (1e14, "us"), (1e11, "ms")):  # since 1970, now
        if largest > limit:
            return unit
    written = re.search(r"[\s_\[(](ms|us|ns|min|h)[\])]?$", name)
    return written[1] if written else "s"


def _steps(sample: Sample, names: list[str], reader: dict[str, Any]) -> np.ndarray:
    """Seconds from one row to the next, within each table."""
    unit, time_format = reader.get("time_unit", "s"), reader.get("time_format")
    clocks = [clock(table, names, unit, time_format) for table in sample.tables.values()]
    return np.concatenate([np.diff(seconds[np.isfinite(seconds)]) for seconds in clocks])


def _is_forward(steps: np.ndarray) -> bool:
    return len(steps) > 0 and bool(np.mean(steps >= 0) > 0.9 and np.mean(steps > 0) > 0.05)


def _is_even(steps: np.ndarray) -> bool:
    return bool(np.mean(np.abs(steps / max(float(np.median(steps)), 1e-9) - 1) < 0.5) > 0.9)


def session_column(sample: Sample, time: list[str], reader: dict[str, Any]) -> str | None:
    """The column that names the recordings of a file, by its name or where the time begins anew."""
    by_name = (name for name in sample.like("session") if not sample.constant(name))
    return next(by_name, None) or _restarting(sample, time, reader)


def _restarting(sample: Sample, time: list[str], reader: dict[str, Any]) -> str | None:
    """The column whose every new value is a recording of its own: there the clock begins anew or jumps."""
    if not time or len(sample.tables) > 1:
        return None
    (table,) = sample.tables.values()
    steps = np.diff(clock(table, time, reader.get("time_unit", "s"), reader.get("time_format")))
    usual = float(np.nanmedian(np.abs(steps)))
    for name in sample.free:
        words = words_of(table.frame[name])
        borders = words[1:] != words[:-1]
        apart = 1 < len(set(words)) == borders.sum() + 1 <= len(words) / 10
        if apart and np.mean((steps < 0) | (steps > 10 * usual), where=borders) > 0.8:
            sample.odd.append(f"'{name}' is taken for the name of a recording: where it changes, the time begins anew")
            return name
    return None


def state_column(sample: Sample) -> tuple[str | None, list[dict[str, str]]]:
    """The column of the states, and these: numbers in their order, words by when they appear in the recordings."""
    name = next((n for n in sample.like("state") if 2 <= len(sample.values(n)) <= STATES), None)
    if name is None:
        sample.odd.append("no column of states found: columns.state and states are to be filled in before training")
        return None, [{"name": "normal"}, {"name": "worn"}]
    words = sample.values(name)
    if all(re.fullmatch(r"-?\d+", word) for word in words):
        order, states = "numbers", [{"name": f"state{word}", "label": word} for word in sorted(words, key=int)]
    else:
        order, states = "appearance", [{"name": word} for word in _by_appearance(sample, name, words)]
    sample.odd.append(
        f"states are in the order of their {order}: {', '.join(state['name'] for state in states)}; check that it is "
        "from normal to worst"
    )
    return name, states


def _by_appearance(sample: Sample, name: str, words: list[str]) -> list[str]:
    """The words by their mean place in the recordings."""
    places: dict[str, list[float]] = {word: [] for word in words}
    for table in sample.tables.values():
        text = words_of(table.frame[name])
        for word in set(text) & set(places):
            places[word].append(float(np.flatnonzero(text == word).mean() / len(text)))
    return sorted(words, key=lambda word: np.mean(places[word]))


def device_column(sample: Sample) -> str | None:
    by_name = (name for name in sample.like("device") if sample.constant(name))
    return next(by_name, None) or next((name for name in sample.free if _tells_apart(sample, name)), None)


def kind_column(sample: Sample) -> str | None:
    return next((name for name in sample.like("kind") if sample.constant(name)), None)


def _tells_apart(sample: Sample, name: str) -> bool:
    """Whether a column of words says one thing in each recording, and the same in several: so may a device."""
    values = sample.values(name)
    return not sample.is_number(name) and sample.constant(name) and 1 < len(values) < len(sample.tables)


def device_pattern(names: list[str]) -> str | None:
    """A pattern for the device in the names of recordings: a folder, or what stands before the first _ or -."""
    for pattern in (r"^([^/]+)/", r"^([^_]+)_", r"^([^-]+)-"):
        matches = [re.search(pattern, name) for name in names]
        if all(matches) and 1 < len({match[1] for match in matches if match}) < len(names):
            return pattern
    return None
