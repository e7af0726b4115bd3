"""What a recording was like when it began: devices differ, so what has changed since says more than what is."""

from __future__ import annotations

import warnings

import numpy as np

from conveyorguard.data.store import Array, Store

START = 30  # valid seconds at the beginning of a recording
AT_A_TIME = 4096  # windows


def first_seconds(store: Store, first: np.ndarray, last: np.ndarray, flag: int) -> tuple[np.ndarray, np.ndarray]:
    """The first START valid seconds of each window's recording.

    Args:
        first, last: (n,) rows of the windows' first and last seconds. flag: of `quality`, what makes a second invalid.

    Returns:
        Their rows (n, START), and (n, START) True where there is such a second and it is not after the window's end.
    """
    session = store.session_index
    good = np.flatnonzero(np.asarray(store.quality) & flag == 0)
    begins = np.searchsorted(session[good], np.arange(session[-1] + 2))
    own = session[first]
    place = begins[own][:, None] + np.arange(START)
    rows = np.append(good, len(session))[np.minimum(place, len(good))]  # past the store's end: after any window
    there = (place < begins[own + 1][:, None]) & (rows <= last[:, None])
    return np.where(there, rows, last[:, None]), there


def start_means(store: Store, values: Array, first: np.ndarray, size: int, flag: int) -> np.ndarray:
    """Mean of each series over `first_seconds` of each window's recording; NaN where none of them was measured.

    Args:
        values: (N, C), a row a second of the store. first: (n,) rows of the windows' first seconds. size: of a window,
            s.

    Returns:
        (n, C) float32.
    """
    found = np.empty((len(first), values.shape[1]), np.float32)
    for begin in range(0, len(first), AT_A_TIME):
        part = slice(begin, begin + AT_A_TIME)
        rows, valid = first_seconds(store, first[part], first[part] + size - 1, flag)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            found[part] = np.nanmean(np.where(valid[..., None], values[rows].astype(np.float64), np.nan), axis=1)
    return found
