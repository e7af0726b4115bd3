"""Folds over train and validation together: every session outside test is predicted by a model not trained on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from conveyorguard.errors import ConfigError

FEWEST_DEVICES = 3  # with fewer, folds are of recordings
LEAVE_ONE_OUT = 5  # up to so many devices, a fold is one device
UNITS = ("device", "recording", "time")


def unit_of_folds(pool: pd.DataFrame, recordings: pd.Series) -> str:
    """Return what a fold holds out: whole devices, whole recordings, or parts of one recording in the order of time.

    Args:
        pool: windows of train and validation.
        recordings: (n,) the recording of each window.
    """
    if pool["device"].nunique() >= FEWEST_DEVICES:
        return "device"
    return "recording" if recordings.nunique() >= FEWEST_DEVICES else "time"


def number_of_folds(pool: pd.DataFrame, recordings: pd.Series, wanted: int) -> int:
    """Return how many folds there are: one a device where there are few, else as many as wanted."""
    unit = unit_of_folds(pool, recordings)
    count = {"device": pool["device"], "recording": recordings, "time": pool["session"]}[unit].nunique()
    return count if unit == "device" and count <= LEAVE_ONE_OUT else min(wanted, count)


def fold_of_sessions(pool: pd.DataFrame, recordings: pd.Series, settings: dict[str, Any]) -> dict[str, int]:
    """Return the fold of each session.

    Whole devices or recordings are dealt so that each fold has a like share of every state; parts of one recording are
    cut into consecutive blocks.

    Args:
        pool: windows of train and validation.
        recordings: (n,) the recording of each window.
        settings: n_folds and seed of the split.

    Raises:
        ConfigError: more folds than there are devices, recordings or parts.
    """
    folds, unit = settings["n_folds"], unit_of_folds(pool, recordings)
    groups = {"device": pool["device"], "recording": recordings, "time": pool["session"]}[unit]
    count = groups.nunique()
    if not 2 <= folds <= count:
        raise ConfigError(
            f"split=out_of_fold: split.n_folds={folds} must be 2 to {count}, the number of {unit}s of train and "
            "validation"
        )
    sessions = pool["session"].to_numpy(str)
    if unit == "time":
        names = pool["session"].drop_duplicates().to_numpy(str)  # the parts of a recording are numbered in order
        return {str(name): i * folds // len(names) for i, name in enumerate(names)}
    dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=settings["seed"])
    fold_of: dict[str, int] = {}
    for fold, (_, held_out) in enumerate(dealt.split(pool, pool["label"], groups.to_numpy(str))):
        fold_of |= dict.fromkeys(np.unique(sessions[held_out]).tolist(), fold)
    return fold_of


def beside(fold_of: dict[str, int], fold: int, unit: str) -> set[str]:
    """Return the sessions that neither train nor are held out in a fold: parts of a recording next to the held-out
    ones, which resemble them."""
    if unit != "time":
        return set()
    names, folds = list(fold_of), list(fold_of.values())
    near = {i + step for i, other in enumerate(folds) if other == fold for step in (-1, 1)}
    return {names[i] for i in near if 0 <= i < len(names) and folds[i] != fold}
