"""Errors by device and by distance to a change of state, and the alarm of each fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from conveyorguard.data.durations import text_of
from conveyorguard.data.store import Store
from conveyorguard.metrics.alarms import share_over_devices
from conveyorguard.metrics.resampling import Arm, resample
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.saved import SavedRun

DISTANCES = (10, 30, 60)  # s, limits between the groups of windows
COLUMNS = ["session", "device", "missed", "alarm_at", "lead", "delay"]


# by label: predictions on the same windows, one per seed
Arms = Mapping[str, Sequence[Predictions]]


def by_group(windows: pd.DataFrame, group: np.ndarray, arms: Arms) -> pd.DataFrame:
    """Compute the accuracy of each arm on each group of windows, averaged over seeds.

    Intervals are over the devices of the group alone (see `metrics.intervals`).

    Args:
        windows: Windows: session and device.
        group: (N,) group of each window.
        arms: Predictions of each arm on the windows.

    Returns:
        Sorted by group: group, windows, sessions, and for each arm <arm>, <arm>_low, <arm>_high.
    """
    rows = []
    for name in sorted(set(group.tolist())):
        inside = group == name
        session, device = (windows[column].to_numpy()[inside] for column in ("session", "device"))
        resampling = resample(session, device)
        row = {"group": name, "windows": int(inside.sum()), "sessions": len(set(session))}
        for label, seeds in arms.items():
            predictions = [Predictions(p.y_true[inside], p.p[inside], session) for p in seeds]
            row |= Arm(predictions, resampling).interval("accuracy").columns(label)
        rows.append(row)
    return pd.DataFrame(rows)


def by_device(windows: pd.DataFrame, arms: Arms) -> pd.DataFrame:
    """Compute accuracies by device (see `by_group`), with the kind of each device."""
    kinds = windows.groupby("device")["kind"].first()
    table = by_group(windows, windows["device"].to_numpy(), arms).rename(columns={"group": "device"})
    table.insert(1, "kind", table["device"].map(kinds))
    return table


def by_distance(store: Store, windows: pd.DataFrame, size: int, arms: Arms) -> pd.DataFrame:
    """Compute accuracies by the time from a window to the nearest change of state in its session (see `by_group`).

    Args:
        store: Frame store.
        windows: Windows: row (index of the first frame), session and device.
        size: Length of a window in rows.
        arms: Predictions of each arm on the windows.
    """
    distance = change_distance(store, windows["row"].to_numpy(), size)
    limits = np.array(DISTANCES) * max(store.period, 1.0)
    words = [f"{s} s" for s in DISTANCES] if store.period <= 1 else [text_of(float(s)) for s in limits]
    names = ["a change within the window", *(f"up to {text}" for text in words), f"over {words[-1]}", "no change"]
    place = np.searchsorted(limits, distance, side="left") + 1
    place = np.where(distance <= 0, 0, np.where(np.isinf(distance), len(names) - 1, place))
    table = by_group(windows, place, arms)
    return table.assign(group=[names[i] for i in table["group"]]).rename(columns={"group": "nearest change of state"})


def change_distance(store: Store, rows: np.ndarray, size: int) -> np.ndarray:
    """Return the time (N,) [s] from each window to the nearest change of state in its session.

    It is 0 if the state changes within the window, and infinite if it never changes.

    Args:
        store: Frame store.
        rows: (N,) index of each window's first frame.
        size: Length of a window in rows.
    """
    state, time, starts = np.asarray(store.state), np.asarray(store.tick), store.session_start
    changed = np.flatnonzero((np.diff(state) != 0) & (np.diff(starts) == 0)) + 1  # the first second of the new state
    last = rows + size - 1
    after = np.searchsorted(changed, rows, side="right")  # index of the first change after the window's first second
    padded = np.concatenate([[-1], changed, [len(state)]])
    before, following = padded[after], padded[after + 1]
    same_before = (before >= 0) & (starts[np.maximum(before, 0)] == starts[rows])
    place = np.minimum(following, len(state) - 1)
    same_after = (following < len(state)) & (starts[place] == starts[rows])
    to_before = np.where(same_before, time[rows] - time[np.maximum(before, 0)] + 1.0, np.inf)
    to_after = np.where(same_after, np.maximum(time[place] - time[last], 0.0), np.inf)
    return np.minimum(to_before, to_after) * store.period


def onsets(runs: dict[str, SavedRun], part: str) -> pd.DataFrame:
    """Read the fault sessions of each run from its alarms.json, at its own operating point.

    Returns:
        arm, session, device, missed, alarm_at, lead and delay [s], see `metrics.alarms.fault_sessions`.
    """
    tables = []
    for label, run in runs.items():
        rows = run.alarms.parts[part].sessions if run.alarms and part in run.alarms.parts else []
        tables.append(pd.DataFrame(rows, columns=COLUMNS).assign(arm=label))
    return pd.concat(tables, ignore_index=True)[["arm", *COLUMNS]]


def onset_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise the result of `onsets`, one row per arm.

    Returns:
        arm, faults, missed with its interval, and minimum, median and maximum of delay and lead [s] of detected faults.
    """
    summary = []
    quantiles: dict[str, Callable[[pd.Series], float]] = {
        "least": pd.Series.min,
        "median": pd.Series.median,
        "most": pd.Series.max,
    }
    for arm, rows in table.groupby("arm", sort=False):
        detected = rows[~rows["missed"].astype(bool)]
        low, high = share_over_devices(rows, "missed", rows) or (np.nan, np.nan)
        row = {"arm": arm, "faults": len(rows), "missed": len(rows) - len(detected)}
        row |= {"missed low": low * len(rows), "missed high": high * len(rows)}
        row |= {
            f"{what}, {name}": take(detected[what].astype(float))
            for what in ("delay", "lead")
            for name, take in quantiles.items()
        }
        summary.append(row)
    return pd.DataFrame(summary)
