"""Resample rows at arbitrary times to one row per period."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from conveyorguard.data.schema import band_of
from conveyorguard.data.table.bands import band_rms
from conveyorguard.errors import DataError

ON_THE_GRID = 0.02  # periods; a sample this close to the start of a period counts as lying on it
GAP = 1.5  # usual intervals between samples; over a longer gap no sample is held
SEVERAL = 1.5  # rows per period from which rows are aggregated
COARSEST = 60  # periods between samples; beyond it, the unit of time is more likely wrong than the data sparse
OF_SEVERAL = ("sd", "p2p", "kurtosis", "crest")  # aggregates that need several samples


class Grid(NamedTuple):
    """A session with one row per period, m periods and C columns.

    Attributes:
        second: (m,) int64, periods since the start; gaps are left out.
        values: (m, C) values.
        source: (m,) index of the sample each row is from; the last one of its period if aggregated.
        twice: indices of samples left out because another one fills their period.
        note: how samples were resampled; empty if they were not.
        averaged: True if a value is an aggregate of all samples of its period.
        starts: (m,) index of the first sample of each period; None unless aggregated.
    """

    second: np.ndarray
    values: np.ndarray
    source: np.ndarray
    twice: list[int]
    note: str = ""
    averaged: bool = False
    starts: np.ndarray | None = None

    def states(self, state: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return the worst state of each period, (m,), and whether any period has several states.

        Args:
            state: (n,) states of the samples.
        """
        if self.starts is None:
            return state[self.source], False
        worst = np.maximum.reduceat(state, self.starts)
        return worst, bool((worst != np.minimum.reduceat(state, self.starts)).any())


def resample(time: np.ndarray, values: np.ndarray, period: float, aggregates: Sequence[str] = ()) -> Grid:
    """Resample a session to one row per period.

    Samples on whole periods are kept, more frequent ones are aggregated, and a rarer sample is held until the next.
    Gaps remain gaps. Aggregates ignore NaN and Inf; elsewhere these stay in place.

    Args:
        time: (n,) times since the start [s], not decreasing.
        values: (n, C) values.
        period: period [s].
        aggregates: C keys of `AGGREGATES` or bands such as 100-1000Hz; "" or an empty sequence is the mean.

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
    """Refuse aggregates that need several samples per period.

    Args:
        period: period [s].
        interval: time between samples [periods].

    Raises:
        DataError: one of the aggregates needs several samples.
    """
    alone = [name for name in dict.fromkeys(aggregates) if name in OF_SEVERAL or band_of(name)]
    if alone:
        raise DataError(
            f"time: expected several rows a period of {period:g} s, for aggregate {', '.join(alone)}, found one every "
            f"{interval * period:.3g} s; set data.reader.period={interval * period * 10:.3g} or longer, or leave the "
            "aggregate out"
        )


def _held(place: np.ndarray, interval: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the periods filled by holding each sample until the next, (m,), and the indices of the held samples, (m,).

    A sample is not held over a gap of more than `GAP` intervals.

    Args:
        place: (n,) times [periods], increasing.
        interval: usual time between samples [periods].
    """
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
        place: (n,) times since the start [periods], not decreasing.
        values: (n, C) values.
        aggregates: as for `resample`.
        period: period [s].

    Returns:
        The periods that have samples, without a note.
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
    """Return the note of an aggregated session.

    Args:
        whole: all rows lie on whole periods.
        interval: time between rows [s].
        period: period [s].
        aggregates: as for `resample`.
    """
    every = "several rows a period" if whole else f"one row every {interval:.3g} s"
    how = ", ".join(dict.fromkeys(name or "mean" for name in aggregates)) or "mean"
    return f"resampled from {every} to {period:g} s by the {how}"


class _Periods:
    """Statistics of the finite samples in each of m periods.

    Args:
        values: (n, C) samples.
        starts: (m,) index of the first sample of each period.
    """

    def __init__(self, values: np.ndarray, starts: np.ndarray):
        self.values, self.starts = values, starts
        self.known = np.isfinite(values)
        self.count = np.add.reduceat(self.known, starts, axis=0, dtype=np.int64)
        self.lengths = np.diff(starts, append=len(values))

    def mean_of(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of other values (n, C) over the finite samples, (m, C); NaN for a period without any."""
        total = np.add.reduceat(np.where(self.known, values, 0), self.starts, axis=0)
        return np.divide(total, self.count, out=np.full(total.shape, np.nan), where=self.count > 0)

    def extreme(self, of: np.ufunc, empty: float) -> np.ndarray:
        """Return the minimum or maximum, (m, C); NaN for a period without finite samples.

        Args:
            of: np.minimum or np.maximum.
            empty: stands for missing samples: Inf for the minimum, -Inf for the maximum.
        """
        extremes = of.reduceat(np.where(self.known, self.values, empty), self.starts, axis=0)
        return np.where(self.count > 0, extremes, np.nan)

    def central_moment(self, power: int) -> np.ndarray:
        """Return the central moment of an order, (m, C)."""
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


AGGREGATES: dict[str, Callable[[_Periods], np.ndarray]] = {  # each returns (m, C)
    "mean": lambda of: of.mean_of(of.values),
    "rms": _rms,
    "sd": lambda of: np.sqrt(of.central_moment(2)),
    "min": _min,
    "max": _max,
    "p2p": lambda of: _max(of) - _min(of),
    "kurtosis": lambda of: _ratio(of.central_moment(4), of.central_moment(2) ** 2),  # 3 for Gaussian noise
    "crest": lambda of: _ratio(np.maximum(np.abs(_min(of)), np.abs(_max(of))), _rms(of)),
}
