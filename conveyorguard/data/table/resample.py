"""Samples at any times onto whole periods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from conveyorguard.data.schema import band_of
from conveyorguard.data.table.bands import band_rms
from conveyorguard.errors import DataError

ON_THE_GRID = 0.02  # periods; a sample as near as this to a full period is that period's
GAP = 1.5  # usual intervals between samples; nothing is held for longer
SEVERAL = 1.5  # rows a period from which on they are aggregated
COARSEST = 60  # periods from sample to sample: beyond it, the unit of time is wrong rather than the data sparse
OF_SEVERAL = ("sd", "p2p", "kurtosis", "crest")  # of one sample they say nothing


class Grid(NamedTuple):
    """A recording on whole periods.

    Attributes:
        second: (m,) int64, periods since the start.
        values: (m, C).
        source: (m,) the sample at or before each.
        twice: samples given twice.
        note: what was done, if anything.
        averaged: whether a value stands for all samples of its period.
        starts: (m,) the first sample of each period where it has several; else None.
    """

    second: np.ndarray
    values: np.ndarray
    source: np.ndarray
    twice: list[int]
    note: str = ""
    averaged: bool = False
    starts: np.ndarray | None = None

    def states(self, state: np.ndarray) -> tuple[np.ndarray, bool]:
        """(m,) the state of each period, of several the worst; and whether any period had several.

        Args:
            state: (n,) of the samples.
        """
        if self.starts is None:
            return state[self.source], False
        worst = np.maximum.reduceat(state, self.starts)
        return worst, bool((worst != np.minimum.reduceat(state, self.starts)).any())


def resample(time: np.ndarray, values: np.ndarray, period: float, aggregates: Sequence[str] = ()) -> Grid:
    """Put samples on whole periods: as they are if they lie there, aggregates of more frequent ones; a rarer one is
    held until the next.

    A gap stays a gap, and what is missing stays missing: only aggregates leave out NaN and Inf.

    Args:
        time: (n,) s since the start, not decreasing.
        values: (n, C).
        period: s.
        aggregates: of each column, a key of `AGGREGATES` or a band as 100-1000Hz; "" or none at all is the mean.

    Raises:
        DataError: samples are too rare for the period, or for an aggregate.
    """
    place = time / period
    interval = float(np.median(np.diff(np.unique(place)))) if place[-1] > place[0] else 1.0
    nearest = np.round(place)
    whole = np.abs(place - nearest).max() <= ON_THE_GRID
    several = len(place) / len(np.unique(nearest)) >= SEVERAL
    seconds = f"{interval * period:.3g} s"
    if interval > COARSEST:
        raise DataError(
            f"time: expected a row every {period:g} s or some more, found one every {seconds}; if its unit is not "
            f"s set data.reader.time_unit (ms, min, ...), else data.reader.period={interval * period:.3g}"
        )
    if several or (interval < 0.75 and not whole):
        grid = aggregate(place, values, aggregates, period)
        return grid._replace(note=aggregate_note(whole, interval * period, period, aggregates))
    _refuse_aggregates_of_one(aggregates, period, interval)
    new = np.diff(nearest if whole else place, prepend=-1) > 0
    twice = np.flatnonzero(~new).tolist()
    if whole and interval < GAP:
        kept = values[new] if twice else values
        return Grid(nearest[new].astype(np.int64), kept, np.flatnonzero(new), twice)
    place, rows = place[new], np.flatnonzero(new)
    second, left = _held(place, interval)
    note = f"a row every {seconds}, held until the next one (data.reader.period={period:g} s)"
    return Grid(second, values[new][left], rows[left], twice, note)


def _refuse_aggregates_of_one(aggregates: Sequence[str], period: float, interval: float) -> None:
    """Raise where an aggregate needs several samples a period, which has one.

    Args:
        interval: from sample to sample [periods].
    """
    alone = [name for name in dict.fromkeys(aggregates) if name in OF_SEVERAL or band_of(name)]
    if alone:
        raise DataError(
            f"time: expected several rows a period of {period:g} s, for aggregate {', '.join(alone)}, found one every "
            f"{interval * period:.3g} s; set data.reader.period={interval * period * 10:.3g} or longer, or leave the "
            "aggregate out"
        )


def _held(place: np.ndarray, interval: float) -> tuple[np.ndarray, np.ndarray]:
    """Periods that have a sample, or lie before the next where that is not further than usual; and their samples."""
    steps = np.arange(int(np.ceil(GAP * interval)) + 1)
    second = np.unique(np.ceil(place - ON_THE_GRID).astype(np.int64)[:, None] + steps)
    second = second[second <= place[-1] + ON_THE_GRID]
    left = np.searchsorted(place, second + ON_THE_GRID, side="right") - 1
    right = np.minimum(left + 1, len(place) - 1)
    near = (second - place[left] <= ON_THE_GRID) | (place[right] - place[left] <= GAP * interval)
    return second[near], left[near]


def aggregate(place: np.ndarray, values: np.ndarray, aggregates: Sequence[str], period: float) -> Grid:
    """Aggregate the samples of each period.

    Args:
        place: (n,) periods since the start, not decreasing.
        values: (n, C).
        aggregates: as for `resample`.
        period: s.
    """
    second = np.floor(place + 1e-6).astype(np.int64)
    starts = np.flatnonzero(np.diff(second, prepend=second[0] - 1))
    names = [name or "mean" for name in aggregates] or ["mean"] * values.shape[1]
    aggregated = np.empty((len(starts), values.shape[1]))
    for name in dict.fromkeys(names):
        columns = [i for i, other in enumerate(names) if other == name]
        if band := band_of(name):
            aggregated[:, columns] = band_rms(values[:, columns], starts, period, band)
        else:
            aggregated[:, columns] = AGGREGATES[name](_Periods(values[:, columns], starts))
    return Grid(second[starts], aggregated, np.append(starts[1:], len(second)) - 1, [], "", True, starts)


def aggregate_note(whole: bool, interval: float, period: float, aggregates: Sequence[str]) -> str:
    """What was done to a recording of several rows a period.

    Args:
        whole: all rows have the times of whole periods.
        interval: between rows [s].
    """
    every = "several rows a period" if whole else f"one row every {interval:.3g} s"
    how = ", ".join(dict.fromkeys(name or "mean" for name in aggregates)) or "mean"
    return f"resampled from {every} to {period:g} s by the {how}"


class _Periods:
    """Samples by period, without what is missing.

    Args:
        values: (n, C).
        starts: (m,) the first sample of each period.
    """

    def __init__(self, values: np.ndarray, starts: np.ndarray):
        self.values, self.starts = values, starts
        self.known = np.isfinite(values)
        self.count = np.add.reduceat(self.known, starts, axis=0, dtype=np.int64)
        self.lengths = np.diff(starts, append=len(values))

    def mean_of(self, values: np.ndarray) -> np.ndarray:
        """(m, C); NaN where nothing is known."""
        total = np.add.reduceat(np.where(self.known, values, 0), self.starts, axis=0)
        return np.divide(total, self.count, out=np.full(total.shape, np.nan), where=self.count > 0)

    def extreme(self, of: np.ufunc, empty: float) -> np.ndarray:
        """(m, C), the least or largest value."""
        extremes = of.reduceat(np.where(self.known, self.values, empty), self.starts, axis=0)
        return np.where(self.count > 0, extremes, np.nan)

    def central_moment(self, power: int) -> np.ndarray:
        """(m, C) mean power of the distance from the period's mean."""
        mean = np.repeat(self.mean_of(self.values), self.lengths, axis=0)
        with np.errstate(invalid="ignore"):
            return self.mean_of(np.where(self.known, self.values - mean, 0) ** power)


def _rms(of: _Periods) -> np.ndarray:
    return np.sqrt(of.mean_of(np.where(of.known, of.values, 0) ** 2))


def _min(of: _Periods) -> np.ndarray:
    return of.extreme(np.minimum, np.inf)


def _max(of: _Periods) -> np.ndarray:
    return of.extreme(np.maximum, -np.inf)


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.full(over.shape, np.nan), where=under > 0)


AGGREGATES: dict[str, Callable[[_Periods], np.ndarray]] = {  # of the samples of a period
    "mean": lambda of: of.mean_of(of.values),
    "rms": _rms,
    "sd": lambda of: np.sqrt(of.central_moment(2)),
    "min": _min,
    "max": _max,
    "p2p": lambda of: _max(of) - _min(of),
    "kurtosis": lambda of: _ratio(of.central_moment(4), of.central_moment(2) ** 2),  # 3 of Gaussian noise
    "crest": lambda of: _ratio(np.maximum(np.abs(_min(of)), np.abs(_max(of))), _rms(of)),
}
