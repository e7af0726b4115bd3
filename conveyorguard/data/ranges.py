"""The ranges of the inputs in training, and which inputs of other recordings are outside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.durations import text_of
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.views import view_of

OUTSIDE_SHARE = 0.01  # of a recording's rows outside the training range; more is reported
REPAIRED_SHARE = 0.05  # of a recording's rows with repaired values; more is reported
STILL = 30  # rows at one value beyond which a channel may be dead; at least twice the longest such run in training
CAMERA = ("thermal_max", "thermal_mean")  # frame statistics whose range is kept

Ranges = dict[str, dict[str, Any]]


def training_ranges(store: Store, rows: np.ndarray) -> Ranges:
    """Return the range of every channel and of the camera's frame maximum and mean in training.

    Args:
        rows: (N,) True at the rows of the train sessions.

    Returns:
        By channel: low and high (the extremes), middle (the median), still (the longest run at one value [rows]),
        constant (whether it is constant throughout some train session). `ranges.json` holds them.
    """
    frames = store.to_frame()[rows]
    ranges: Ranges = {}
    for name in [*store.schema.channels, *store.schema.environment, *(CAMERA if store.schema.thermal else ())]:
        values = frames[name]
        if values.notna().any():
            by_session = values.groupby(frames["session"], observed=True)
            ranges[name] = {
                "low": float(values.min()),
                "high": float(values.max()),
                "middle": float(values.median()),
                "still": max(_longest_still(series.to_numpy(float))[1] for _, series in by_session),
                "constant": bool((by_session.max() == by_session.min()).any()),
            }
    return ranges


def training_medians(store: Store, rows: np.ndarray) -> Ranges:
    """Return what `filled` needs of `training_ranges`: the median of each channel in training, as `middle`.

    Args:
        rows: (N,) True at the rows of the train sessions.
    """
    groups = ((store.schema.channels, store.sensors), (store.schema.environment, store.environment))
    tables = [pd.DataFrame(np.asarray(values)[rows], columns=[*names]) for names, values in groups]
    medians = pd.concat([table.median() for table in tables]).dropna()
    return {str(name): {"middle": float(value)} for name, value in medians.items()}


def odd_inputs(store: Store, ranges: Ranges) -> dict[str, list[str]]:
    """Return what is unlike the training data, as sentences by session."""
    odd: dict[str, list[str]] = {}
    for session, rows in store.to_frame().groupby("session", observed=True):
        missing = [name for name in ranges if name not in rows or rows[name].isna().all()]
        sentences = [_missing(missing, ranges)] if missing else []
        sentences += [
            sentence
            for name, known in ranges.items()
            if name not in missing
            for sentence in _odd(name, rows, known, store.period)
        ]
        quality = rows["quality"].to_numpy()
        for flag, what in (
            (SENSORS_REPAIRED, "missing sensor values hold the last one"),
            (THERMAL_REPAIRED, "impossible thermal pixels have the value of the nearest"),
        ):
            # a channel that is missing throughout is named above
            share = float(np.mean(quality & flag > 0))
            if REPAIRED_SHARE < share < 1:
                sentences.append(f"{what} in {share:.0%} of the rows")
        if sentences:
            odd[str(session)] = sentences
    return odd


def _missing(names: list[str], ranges: Ranges) -> str:
    verb, pronoun = ("is", "it") if len(names) == 1 else ("are", "them")
    sentence = f"{', '.join(_display_name(name) for name in names)} {verb} missing"
    return sentence + f"; the median of training stands in for {pronoun}" * ("middle" in ranges[names[0]])


def _display_name(channel: str) -> str:
    return {"thermal_max": "the frame maximum", "thermal_mean": "the frame mean"}.get(channel, channel)


def _odd(channel: str, rows: pd.DataFrame, known: dict[str, Any], period: float) -> list[str]:
    """Return what is unlike training in one channel of one recording, as sentences."""
    name = _display_name(channel)
    values = rows[channel].to_numpy(float)
    values = values[np.isfinite(values)]
    sentences = []
    first, still = _longest_still(values)
    if len(values) > 1 and still == len(values) and not known["constant"]:
        sentences.append(f"{name} stays at {values[0]:.4g} throughout: a dead sensor?")
    elif "still" in known and still > max(STILL, 2 * known["still"]):
        sentences.append(f"{name} stays at {values[first]:.4g} for {text_of(still * period)}: a dead sensor?")
    outside = (values < known["low"]) | (values > known["high"])
    if outside.mean() > OUTSIDE_SHARE:
        sentences.append(
            f"{name} is outside the training range ({known['low']:.4g} to {known['high']:.4g}) in {outside.mean():.0%} "
            f"of the rows; here it runs from {values.min():.4g} to {values.max():.4g}"
        )
    return sentences


def _longest_still(values: np.ndarray) -> tuple[int, int]:
    """Return where the longest run of equal values begins, and its length."""
    edges = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1], [True]]))
    lengths = np.diff(edges)
    longest = int(lengths.argmax()) if len(lengths) else 0
    return int(edges[longest]), int(lengths[longest]) if len(lengths) else 0


def filled(store: Store, ranges: Ranges) -> Store:
    """Return a view in which values that are not known have the median of training.

    A value is not known before the first one of its session, or throughout a session without the channel.
    """
    arrays = {"sensors": [*store.schema.channels], "environment": [*store.schema.environment]}
    changed = {}
    for group, names in arrays.items():
        values = np.asarray(getattr(store, group))
        middle = np.array([ranges.get(name, {}).get("middle", np.nan) for name in names], np.float32)
        if names and np.isnan(values).any():
            changed[group] = np.where(np.isnan(values), middle, values)
    return view_of(store, **changed)
