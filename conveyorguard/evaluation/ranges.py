"""What the inputs of a training looked like, and what in other recordings is unlike it."""

from __future__ import annotations

import numpy as np

from conveyorguard.data.store import Store

OUTSIDE_SHARE = 0.01  # of a recording's seconds outside the training range, from which it is reported

Ranges = dict[str, dict[str, float | bool]]


def training_ranges(store: Store, rows: np.ndarray) -> Ranges:
    """Least and greatest value of every channel over the train seconds (a mask), kept as `ranges.json`.

    constant: whether some train recording has the channel at one value throughout, so that this is nothing odd.
    """
    frames = store.frames[rows]
    found: Ranges = {}
    for name in [*store.schema.channels, *store.schema.environment]:
        values = frames[name]
        if values.notna().any():
            by_session = values.groupby(frames["session"], observed=True)
            found[name] = {"low": float(values.min()), "high": float(values.max()),
                           "constant": bool((by_session.max() == by_session.min()).any())}  # fmt: skip
    return found


def odd_inputs(store: Store, ranges: Ranges) -> dict[str, list[str]]:
    """What in each recording is unlike the training, in sentences: values outside its range, dead and missing channels."""
    found: dict[str, list[str]] = {}
    for session, rows in store.frames.groupby("session", observed=True):
        said = []
        for channel, known in ranges.items():
            values = rows[channel].to_numpy(float) if channel in rows else np.zeros(0)
            values = values[np.isfinite(values)]
            if not len(values):
                said.append(f"{channel} is missing")
                continue
            if len(values) > 1 and values.min() == values.max() and not known["constant"]:
                said.append(f"{channel} stands at {values[0]:g} throughout: a dead sensor?")
            outside = (values < known["low"]) | (values > known["high"])
            if outside.mean() > OUTSIDE_SHARE:
                said.append(f"{channel} is outside the training range, {known['low']:g} to {known['high']:g}, in {outside.mean():.0%} "
                            f"of the seconds ({values.min():g} to {values.max():g})")  # fmt: skip
        if said:
            found[str(session)] = said
    return found
