"""Samples at any times onto whole periods."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from conveyorguard.errors import DataError

ON_THE_GRID = 0.02  # periods; a sample as near as this to a full second is that second's
GAP = 1.5  # usual intervals between samples; nothing is interpolated over more
COARSEST = 60  # periods from sample to sample: beyond it, the unit of time is wrong rather than the data sparse


class Grid(NamedTuple):
    """A recording on whole periods: second (m,), values (m, C), source (m,) the sample at or before each, samples given
    twice, what was done, if anything, and whether a value is the mean of all samples of its second."""

    second: np.ndarray
    values: np.ndarray
    source: np.ndarray
    twice: list[int]
    note: str = ""
    averaged: bool = False


def resample(time: np.ndarray, values: np.ndarray, period: float) -> Grid:
    """Put samples on whole periods: as they are if they lie there, means of more frequent ones, between rarer ones a
    line.

    A gap stays a gap, and what is missing stays missing: only the mean leaves out NaN and Inf.

    Args:
        time: (n,) s since the start, not decreasing.
        values: (n, C).

    Raises:
        DataError: samples are too rare for the period.
    """
    place = time / period
    interval = float(np.median(np.diff(np.unique(place)))) if place[-1] > place[0] else 1.0
    nearest = np.round(place)
    whole = np.abs(place - nearest).max() <= ON_THE_GRID
    several = len(place) / len(np.unique(nearest)) >= 1.5
    seconds = f"{interval * period:.3g} s"
    if interval > COARSEST:
        raise DataError(
            f"time: expected a row every {period:g} s or some more, found one every {seconds}; if its unit is not "
            f"s set data.reader.time_unit (ms, min, ...), else data.reader.period={interval * period:.3g}"
        )
    if several or (interval < 0.75 and not whole):
        second = np.floor(place + 1e-6).astype(np.int64)
        starts = np.flatnonzero(np.diff(second, prepend=second[0] - 1))
        known = np.isfinite(values)
        count = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
        total = np.add.reduceat(np.where(known, values, 0), starts, axis=0)
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        every = "several rows a period" if whole else f"one row every {seconds}"
        return Grid(
            second[starts],
            mean,
            np.append(starts[1:], len(second)) - 1,
            [],
            f"resampled from {every} to {period:g} s by the mean",
            True,
        )
    new = np.diff(nearest if whole else place, prepend=-1) > 0
    twice = np.flatnonzero(~new).tolist()
    if whole and interval < GAP:
        return Grid(nearest[new].astype(np.int64), values[new], np.flatnonzero(new), twice)
    place, values, rows = place[new], values[new], np.flatnonzero(new)
    steps = np.arange(int(np.ceil(GAP * interval)) + 1)
    second = np.unique(np.ceil(place - ON_THE_GRID).astype(np.int64)[:, None] + steps)
    second = second[second <= place[-1] + ON_THE_GRID]
    left = np.searchsorted(place, second + ON_THE_GRID, side="right") - 1
    right = np.minimum(left + 1, len(place) - 1)
    exact = second - place[left] <= ON_THE_GRID
    near = exact | (place[right] - place[left] <= GAP * interval)
    second, left, right, exact = (array[near] for array in (second, left, right, exact))
    weight = np.where(exact, 0, (second - place[left]) / np.maximum(place[right] - place[left], 1e-9))[:, None]
    with np.errstate(invalid="ignore"):  # an infinite value is no measurement: what is made of it is repaired later
        between = np.where(weight == 0, values[left], (1 - weight) * values[left] + weight * values[right])
    return Grid(second, between, rows[left], twice, f"resampled from {seconds} to {period:g} s by interpolation")
