"""Repairing values and pixels from their neighbours."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from conveyorguard.data.schema import Thermal


def repair_series(values: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace NaN, Inf and values beyond float32 by interpolation between the nearest good rows of the channel.

    Args:
        values: (n, channels).
        time: (n,) [periods].

    Returns:
        The repaired values, float32, and (n, channels) True where a value was bad. A channel without any good value
        stays NaN.
    """
    with np.errstate(over="ignore"):
        repaired = values.astype(np.float32)
    bad = ~np.isfinite(repaired)
    for channel in np.flatnonzero(bad.any(axis=0)):
        wrong = bad[:, channel]
        if wrong.all():
            repaired[:, channel] = np.nan
        else:
            repaired[wrong, channel] = np.interp(time[wrong], time[~wrong], values[~wrong, channel])
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
