"""The start of a recording, as a reference: devices differ, so the change since then says more than the level."""

from __future__ import annotations

import warnings

import numpy as np

from conveyorguard.data.store import Array, Store

START = 30  # valid rows at the beginning of a recording
CHUNK = 4096  # windows that are computed at a time


def first_seconds(store: Store, first: np.ndarray, last: np.ndarray, flag: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `START` valid rows of each window's recording.

    Args:
        first, last: (n,) first and last row of each window.
        flag: bits of `quality` that make a row invalid.

    Returns:
        The rows (n, START), and (n, START) True where there is such a row and it is not after the end of the window.
    """
    session = store.session_index
    good = np.flatnonzero(np.asarray(store.quality) & flag == 0)
    begins = np.searchsorted(session[good], np.arange(session[-1] + 2))
    of_window = session[first]
    place = begins[of_window][:, None] + np.arange(START)
    rows = np.append(good, len(session))[np.minimum(place, len(good))]  # past the store's end: after any window
    valid = (place < begins[of_window + 1][:, None]) & (rows <= last[:, None])
    return np.where(valid, rows, last[:, None]), valid


def start_means(store: Store, values: Array, first: np.ndarray, size: int, flag: int) -> np.ndarray:
    """Return the mean of each series over the first valid rows of each window's recording; NaN where there is none.

    Args:
        values: (N, C), rows of the store.
        first: (n,) first row of each window.
        size: rows of a window.
        flag: bits of `quality` that make a row invalid.

    Returns:
        (n, C) float32.
    """
    means = np.empty((len(first), values.shape[1]), np.float32)
    for begin in range(0, len(first), CHUNK):
        part = slice(begin, begin + CHUNK)
        rows, valid = first_seconds(store, first[part], first[part] + size - 1, flag)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            means[part] = np.nanmean(np.where(valid[..., None], values[rows].astype(np.float64), np.nan), axis=1)
    return means
