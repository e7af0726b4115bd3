"""Shortcut baselines: small decision trees on obvious features, with the windows and the split of the models.

A model that is not clearly better has learned the time since the start or the kind of device, not wear.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.tree import DecisionTreeClassifier

from conveyorguard.data.leakage import best_channel
from conveyorguard.data.windows import Windows, split_windows
from conveyorguard.runs.out_of_fold import is_out_of_fold
from conveyorguard.runs.predictions import prediction_table

LEAVES = 32
ELAPSED = "elapsed seconds only"


def window_means(data: Windows, windows: pd.DataFrame, channel: int) -> np.ndarray:
    """Return the mean of a channel in each window, (N,); missing values count as 0."""
    rows = windows["row"].to_numpy()[:, None] + np.arange(data.settings.size)
    return np.nan_to_num(np.asarray(data.store.sensors[:, channel])[rows]).mean(axis=1)


def best_single_channel(data: Windows) -> str:
    """Return the channel whose mean alone separates the states of the train windows best."""
    train, channels = data.part("train"), list(data.store.schema.channels)
    means = np.stack([window_means(data, train, i) for i in range(len(channels))], axis=1)
    return channels[best_channel(means, train["label"].to_numpy(), 2 * len(data.store.schema.states))]


def shortcut_features(data: Windows, windows: pd.DataFrame, channel: str) -> dict[str, np.ndarray]:
    """Return the features (N, F) of each shortcut by name; a constant for the majority class.

    Args:
        channel: of the threshold.
    """
    schema, sensors = data.store.schema, data.store.sensors
    rows, size = windows["row"].to_numpy(), data.settings.size
    kinds = sorted(data.frame["kind"].unique())
    means = window_means(data, windows, list(schema.channels).index(channel))
    return {
        ELAPSED: windows[["end"]].to_numpy(float),
        f"{channel} threshold": means[:, None],
        "last second only": np.nan_to_num(np.asarray(sensors[rows + size - 1])),
        "kind only": (windows["kind"].to_numpy()[:, None] == np.array(kinds)).astype(float),
        "majority class": np.zeros((len(windows), 1)),
    }


def fit_shortcuts(data: Windows, channel: str | None = None) -> dict[str, Any]:
    """Fit each shortcut on the train windows; return models by name.

    Args:
        channel: of the threshold; None: the best single channel.
    """
    channel = channel or best_single_channel(data)
    train = data.part("train")
    fitted: dict[str, Any] = {}
    for name, features in shortcut_features(data, train, channel).items():
        single_feature = name != "last second only"
        model = (
            DummyClassifier(strategy="prior")
            if name == "majority class"
            else DecisionTreeClassifier(
                max_leaf_nodes=2 * len(data.store.schema.states) if single_feature else LEAVES,
                min_samples_leaf=5,
                class_weight="balanced",
                random_state=0,
            )
        )
        fitted[name] = model.fit(features, train["label"])
    return fitted


def shortcut_probabilities(model: Any, features: np.ndarray, states: int) -> np.ndarray:
    """Return probabilities (N, K) of a fitted shortcut; states without a train window get 0."""
    p = np.zeros((len(features), states), np.float32)
    p[:, model.classes_] = model.predict_proba(features)
    return p


def shortcut_predictions(data: Windows, parts: list[str], channel: str | None = None) -> pd.DataFrame:
    """Fit all shortcuts on train and predict the judged windows of parts.

    Args:
        channel: of the threshold; None: the best single channel.

    Returns:
        The columns of `predictions.parquet` and `shortcut`, the name.
    """
    channel = channel or best_single_channel(data)
    fitted, tables = fit_shortcuts(data, channel), []
    for part in parts:
        windows = data.judged(part)
        for name, features in shortcut_features(data, windows, channel).items():
            p = shortcut_probabilities(fitted[name], features, len(data.store.schema.states))
            tables.append(prediction_table(windows, part, p).assign(shortcut=name))
    return pd.concat(tables, ignore_index=True)


def judged_shortcuts(data: Windows, parts: list[str], channel: str | None = None) -> pd.DataFrame:
    """Return `shortcut_predictions` of parts, those of validation out of fold where the model's are.

    Args:
        data: windows of a run.
        parts: of the split, validation first.
        channel: of the threshold; None: the best single channel.
    """
    if not is_out_of_fold(data.split.settings):
        return shortcut_predictions(data, parts, channel)
    split, channel = data.split.settings, channel or best_single_channel(data)
    folds = [split_windows(data.store, data.settings, {**split, "fold": fold}) for fold in range(split["n_folds"])]
    tables = [shortcut_predictions(fold, ["val"], channel) for fold in folds]
    others = [shortcut_predictions(data, parts[1:], channel)] if parts[1:] else []
    return pd.concat([*tables, *others], ignore_index=True)
