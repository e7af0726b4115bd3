"""Copies of train windows with simulated faults, so that a model of window statistics tolerates faults.

A network meets such faults in its augmentation, batch by batch; trees are fitted once on a table of features, so they
are given rows of faulty windows beside those of the windows as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from conveyorguard.data.corruption import absent_camera, black_camera, dead, frozen_camera, missing, stuck
from conveyorguard.data.features import FeatureSettings, window_features
from conveyorguard.data.store import Store

WEIGHT = 0.5  # of a copy, relative to an original window
MOST = 8.0  # copies per window at most, however many sensors there are

Failure = Callable[[Store, np.ndarray, np.random.Generator], Store]


def failures(store: Store, inputs: list[str]) -> Iterator[tuple[str, Failure, float]]:
    """Yield the faults of the inputs: name, function from a store to its faulty view, relative frequency.

    Every sensor dead, every sensor stuck at its first value, some sensor values missing; the camera frozen, black, or
    absent.
    """
    if "sensors" in inputs:
        for i, name in enumerate(store.schema.channels):
            yield f"{name} dead", partial(dead, channel=i), 1.0
            yield f"{name} stuck", partial(stuck, channel=i), 0.5
        yield "sensor values missing", missing, 1.0
    if "thermal" in inputs:
        yield "camera frozen", frozen_camera, 1.0
        yield "camera black", black_camera, 1.0
        yield "camera absent", absent_camera, 1.0


def fault_copies(
    store: Store,
    windows: pd.DataFrame,
    size: int,
    settings: FeatureSettings,
    inputs: list[str],
    seed: int,
    clean: pd.DataFrame,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute features of copies of train windows, each copy with one fault.

    Only the features of the input that fails are computed anew.

    Args:
        windows: of the train part.
        settings: of the features; `settings.fault_copies` is the share of the windows that is copied for each fault,
            less where that would give more than `MOST` copies per window.
        size: rows of a window.
        inputs: which of sensors, thermal and environment the features are of.
        seed: of the choice of windows.
        clean: features of the windows as they were, in their order.

    Returns:
        Features (m, F) float32, and for each copy (m,) the position of its original in `windows`.
    """
    faults = [(group, *fault) for group in inputs for fault in failures(store, [group])]
    share = min(settings.fault_copies, MOST / max(sum(often for *_, often in faults), 1.0))
    train = store.rows_of(set(windows["session"]))
    tables, places = [], []
    for group, name, fail, often in faults:
        rng = np.random.default_rng([seed, *name.encode()])
        chosen = np.sort(rng.permutation(len(windows))[: round(share * often * len(windows))])
        if len(chosen):
            rows = windows["row"].iloc[chosen]
            changed = window_features(fail(store, train, rng), rows, size, settings, [group])
            copies = clean.iloc[chosen].to_numpy(copy=True)
            copies[:, clean.columns.get_indexer(changed.columns)] = changed.to_numpy()
            tables.append(copies)
            places.append(chosen)
    if not tables:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    return np.concatenate(tables), np.concatenate(places)
