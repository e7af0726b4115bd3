"""Where the errors are: by device, by distance to a change of state, and when each fault is recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from conveyorguard.data.store import Store
from conveyorguard.metrics.alarms import missed_share_interval
from conveyorguard.metrics.bootstrap import Arm, resample
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.saved import SavedRun

DISTANCES = (10, 30, 60)  # s, between the groups of windows
COLUMNS = ["session", "device", "missed", "alarm_at", "lead", "delay"]


# predictions over the same windows, one a seed, by the name of the arm
Arms = Mapping[str, Sequence[Predictions]]


def by_group(windows: pd.DataFrame, group: np.ndarray, arms: Arms) -> pd.DataFrame:
    """Accuracy of each arm on each group of windows, seeds averaged; groups in the order of their names.

    Intervals are of the group's own sessions, or devices where there are ten, resampled; exact where these are too few.

    Returns:
        group, windows, sessions, and of each arm <arm>, <arm>_low, <arm>_high.
    """
    found = []
    for name in sorted(set(group.tolist())):
        own = group == name
        session, device = (windows[column].to_numpy()[own] for column in ("session", "device"))
        resampling = resample(session, device)
        row = {"group": name, "windows": int(own.sum()), "sessions": len(set(session))}
        for label, seeds in arms.items():
            parts = [Predictions(p.y_true[own], p.p[own], session) for p in seeds]
            interval = Arm(parts, resampling).interval("accuracy")
            row |= {label: interval.value, f"{label}_low": interval.low, f"{label}_high": interval.high}
        found.append(row)
    return pd.DataFrame(found)


def by_device(windows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """`by_group` of the devices, with their kind."""
    kinds = windows.groupby("device")["kind"].first()
    table = by_group(windows, windows["device"].to_numpy(), arms).rename(columns={"group": "device"})
    table.insert(1, "kind", table["device"].map(kinds))
    return table


def by_distance(store: Store, windows: pd.DataFrame, size: int, arms: Arms) -> pd.DataFrame:
    """`by_group` of the time between a window, given by its first `row`, and the nearest change of state in its
    recording."""
    distance = change_distance(store, windows["row"].to_numpy(), size)
    names = ["a change within the window", *(f"up to {s} s" for s in DISTANCES), f"over {DISTANCES[-1]} s", "no change"]
    place = np.searchsorted(DISTANCES, distance, side="left") + 1
    place = np.where(distance <= 0, 0, np.where(np.isinf(distance), len(names) - 1, place))
    table = by_group(windows, place, arms)
    return table.assign(group=[names[i] for i in table["group"]]).rename(columns={"group": "nearest change of state"})


def change_distance(store: Store, rows: np.ndarray, size: int) -> np.ndarray:
    """(n,) seconds from windows, given by their first row, to the nearest change of state in the same recording: 0
    where the state changes within the window, infinite where it never changes."""
    state, time, starts = np.asarray(store.state), np.asarray(store.tick), store.session_start
    changed = np.flatnonzero((np.diff(state) != 0) & (np.diff(starts) == 0)) + 1  # the first second of the new state
    last = rows + size - 1
    after = np.searchsorted(changed, rows, side="right")  # the first change later than the window's first second
    padded = np.concatenate([[-1], changed, [len(state)]])
    before, following = padded[after], padded[after + 1]
    same_before = (before >= 0) & (starts[np.maximum(before, 0)] == starts[rows])
    place = np.minimum(following, len(state) - 1)
    same_after = (following < len(state)) & (starts[place] == starts[rows])
    to_before = np.where(same_before, time[rows] - time[np.maximum(before, 0)] + 1.0, np.inf)
    to_after = np.where(same_after, np.maximum(time[place] - time[last], 0.0), np.inf)
    return np.minimum(to_before, to_after)


def onsets(runs: dict[str, SavedRun], part: str) -> pd.DataFrame:
    """Each fault recording by each arm: arm, session, device, missed, alarm_at, lead and delay (s), of its operating
    point."""
    tables = []
    for label, run in runs.items():
        rows = run.alarms.parts[part].sessions if run.alarms and part in run.alarms.parts else []
        tables.append(pd.DataFrame(rows, columns=COLUMNS).assign(arm=label))
    found = pd.concat(tables, ignore_index=True)
    return found[["arm", *COLUMNS]]


def onset_summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row an arm: faults, missed with the interval of so many, and the median and extremes of delay and lead of those
    that were not."""
    found = []
    quantiles: dict[str, Callable[[pd.Series], float]] = {
        "least": pd.Series.min,
        "median": pd.Series.median,
        "most": pd.Series.max,
    }
    for arm, rows in table.groupby("arm", sort=False):
        told = rows[~rows["missed"].astype(bool)]
        low, high = missed_share_interval(rows, rows) or (np.nan, np.nan)
        row = {"arm": arm, "faults": len(rows), "missed": len(rows) - len(told)}
        row |= {"missed low": low * len(rows), "missed high": high * len(rows)}
        row |= {
            f"{what}, {name}": take(told[what].astype(float))
            for what in ("delay", "lead")
            for name, take in quantiles.items()
        }
        found.append(row)
    return pd.DataFrame(found)
