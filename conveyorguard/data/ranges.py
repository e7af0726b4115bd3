"""What the inputs of a training looked like, and what in other recordings is unlike it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.views import view_of

OUTSIDE_SHARE = 0.01  # of a recording's seconds outside the training range, from which it is reported
REPAIRED_SHARE = 0.05  # of a recording's seconds with repaired values, from which it is reported
STILL = 30  # s at one value, from which a channel may be dead; twice what the training has, if that is more
CAMERA = ("thermal_max", "thermal_mean")  # of the frame statistics, those that have a range

Ranges = dict[str, dict[str, Any]]


def training_ranges(store: Store, rows: np.ndarray) -> Ranges:
    """What every channel, and the camera's frame maximum and mean, were like over the train seconds (a mask).

    Kept as `ranges.json`: low and high, the least and greatest value; middle, the median; still, the longest time at
    one value, s; constant, whether some train recording has one value throughout, so that this is nothing odd.
    """
    frames = store.to_frame()[rows]
    found: Ranges = {}
    for name in [*store.schema.channels, *store.schema.environment, *(CAMERA if store.schema.thermal else ())]:
        values = frames[name]
        if values.notna().any():
            by_session = values.groupby(frames["session"], observed=True)
            found[name] = {
                "low": float(values.min()),
                "high": float(values.max()),
                "middle": float(values.median()),
                "still": max(_longest_still(own.to_numpy(float))[1] for _, own in by_session),
                "constant": bool((by_session.max() == by_session.min()).any()),
            }
    return found


def odd_inputs(store: Store, ranges: Ranges) -> dict[str, list[str]]:
    """What in each recording is unlike the training, in sentences: values outside its range, dead and missing
    channels."""
    found: dict[str, list[str]] = {}
    for session, rows in store.to_frame().groupby("session", observed=True):
        missing = [name for name in ranges if name not in rows or rows[name].isna().all()]
        said = [_missing(missing, ranges)] if missing else []
        said += [
            sentence for name, known in ranges.items() if name not in missing for sentence in _odd(name, rows, known)
        ]
        quality = rows["quality"].to_numpy()
        for flag, what in ((SENSORS_REPAIRED, "sensor values"), (THERMAL_REPAIRED, "thermal pixels")):
            # a channel that is missing altogether is named already
            share = float(np.mean(quality & flag > 0))
            if REPAIRED_SHARE < share < 1:
                said.append(f"{what} were filled in from their neighbours in {share:.0%} of the seconds")
        if said:
            found[str(session)] = said
    return found


def _missing(names: list[str], ranges: Ranges) -> str:
    one = len(names) == 1
    said = f"{', '.join(_called(name) for name in names)} {'is' if one else 'are'} missing"
    return said + f"; the middle of the training stands for {'it' if one else 'them'}" * ("middle" in ranges[names[0]])


def _called(channel: str) -> str:
    return {"thermal_max": "the frame maximum", "thermal_mean": "the frame mean"}.get(channel, channel)


def _odd(channel: str, rows: pd.DataFrame, known: dict[str, Any]) -> list[str]:
    """What is odd about one channel of one recording."""
    name = _called(channel)
    values = rows[channel].to_numpy(float)
    values = values[np.isfinite(values)]
    said = []
    first, still = _longest_still(values)
    if len(values) > 1 and still == len(values) and not known["constant"]:
        said.append(f"{name} stands at {values[0]:.4g} throughout: a dead sensor?")
    elif "still" in known and still > max(STILL, 2 * known["still"]):
        said.append(f"{name} stands at {values[first]:.4g} for {still} s: a dead sensor?")
    outside = (values < known["low"]) | (values > known["high"])
    if outside.mean() > OUTSIDE_SHARE:
        said.append(
            f"{name} is outside the training range, {known['low']:.4g} to {known['high']:.4g}, in {outside.mean():.0%} "
            f"of the seconds ({values.min():.4g} to {values.max():.4g})"
        )
    return said


def _longest_still(values: np.ndarray) -> tuple[int, int]:
    """Where the longest run of one value begins, and its length."""
    edges = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1], [True]]))
    lengths = np.diff(edges)
    longest = int(lengths.argmax()) if len(lengths) else 0
    return int(edges[longest]), int(lengths[longest]) if len(lengths) else 0


def filled(store: Store, ranges: Ranges) -> Store:
    """The same recordings with the middle of the training in place of what nobody measured; the store itself is
    left."""
    arrays = {"sensors": [*store.schema.channels], "environment": [*store.schema.environment]}
    changed = {}
    for group, names in arrays.items():
        values = np.asarray(getattr(store, group))
        middle = np.array([ranges.get(name, {}).get("middle", np.nan) for name in names], np.float32)
        if names and np.isnan(values).any():
            changed[group] = np.where(np.isnan(values), middle, values)
    return view_of(store, **changed)
