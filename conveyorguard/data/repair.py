"""Repairing values from the last good one, and pixels from the nearest."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from conveyorguard.data.schema import Thermal


def repair_series(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace NaN, Inf and values beyond float32 by the last good value of the channel.

    A held value is all that is known at the plant until the next one comes: a later value never changes an earlier row.

    Args:
        values: (n, channels), in the order of time.

    Returns:
        The repaired values, float32, NaN before the first good value of a channel; and (n, channels) True where a
        value was bad.
    """
    with np.errstate(over="ignore"):
        repaired = values.astype(np.float32, copy=False)
    bad = ~np.isfinite(repaired)
    if bad.any():
        last = np.maximum.accumulate(np.where(bad, -1, np.arange(len(values))[:, None]), axis=0)
        held = np.take_along_axis(repaired, np.maximum(last, 0), axis=0)
        repaired = np.where(last < 0, np.float32(np.nan), held)
    return repaired, bad


def repair_frames(frames: np.ndarray, camera: Thermal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Replace NaN, Inf and impossible pixels by the nearest good pixel of the same frame.

    Args:
        frames: (n, rows, columns) degC.

    Returns:
        The frames, the number of repaired pixels of each, and whether each is usable: most of its pixels were good.
    """
    low, high = camera.valid
    if len(frames) and frames.min() >= low and frames.max() <= high:  # NaN compares false; nearly always
        return frames, np.zeros(len(frames), int), np.ones(len(frames), bool)
    good = (frames >= low) & (frames <= high)
    repaired = frames.shape[1] * frames.shape[2] - np.count_nonzero(good, axis=(1, 2))
    usable = repaired <= frames.shape[1] * frames.shape[2] // 2
    if repaired.any():
        frames = frames.copy()
        for i in np.flatnonzero(repaired):
            if usable[i]:
                rows, columns = ndimage.distance_transform_edt(~good[i], return_distances=False, return_indices=True)
                frames[i] = frames[i][rows, columns]
            else:
                frames[i] = 0
    return frames, np.where(usable, repaired, 0), usable
