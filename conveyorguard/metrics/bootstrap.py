"""Intervals of metrics by a cluster bootstrap: windows of a session, and sessions of a device, are not independent.

A replicate draws devices with replacement, then the sessions of each drawn device with replacement (two-stage cluster
bootstrap: Davison and Hinkley, 1997, section 3.8). All models of a table use the same replicates, so differences are
paired; seeds of a model are averaged within each replicate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from conveyorguard.metrics.scores import METRICS, Predictions, Totals, per_class

REPLICATES = 2000
LEVEL = 0.95
FEWEST_DEVICES = 10  # with fewer devices, sessions alone are resampled
FEWEST_SESSIONS = 5  # with fewer sessions or devices that have what is counted, there is no bootstrap interval
NONE = 1e-9  # counts below this are rounding errors of zero
SHARES = ("accuracy", "severe_recall", "severe_precision")  # metrics that are a share of windows


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; bounds are NaN where there is none."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, row: Mapping[Any, Any] | pd.Series, name: str, low: str = "", high: str = "") -> Interval:
        """Read a figure and its bounds from the row of a table; bounds are by default `name_low` and `name_high`."""
        return cls(row[name], row[low or f"{name}_low"], row[high or f"{name}_high"])

    def columns(self, name: str) -> dict[str, float]:
        """Return the interval as columns of a table's row: name, name_low, name_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def times(self, factor: float) -> Interval:
        """Return the interval in another unit."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """Verdict on a difference in which more is better: better, worse, or not shown if it may be zero."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not shown"


@dataclass(frozen=True)
class Resampling:
    """How often each session counts in each replicate.

    Attributes:
        weights: (R, S) for R replicates and S sessions.
        sessions: (S,) sorted names.
        owner: (S,) index of each session's device, below `devices`.
        devices: Number of devices.
        by_device: Whether devices were resampled; with too few devices only sessions are.
    """

    weights: np.ndarray
    sessions: np.ndarray
    owner: np.ndarray
    devices: int
    by_device: bool

    @property
    def note(self) -> str:
        """Sentences on how the intervals were computed and what they hold for."""
        sessions, devices = _counted(len(self.sessions), "session"), _counted(self.devices, "device")
        if len(self.sessions) < FEWEST_SESSIONS:
            return (
                f"Only {sessions} of {devices}, too few for a bootstrap interval. Ranges shown are worst-case "
                "bounds of shares (Clopper-Pearson), each session counted once."
            )
        kind, unit = ("two-stage bootstrap", "device") if self.by_device else ("bootstrap", "session")
        exact = (
            f"Shares of 0 or 1, and shares over fewer than {FEWEST_SESSIONS} {unit}s, have worst-case bounds instead "
            f"(Clopper-Pearson), each {unit} counted once."
        )
        note = f"{100 * LEVEL:.0f} % {kind} intervals over {sessions} of {devices}, {len(self.weights):,} replicates."
        if not self.by_device:
            note += f" With fewer than {FEWEST_DEVICES} devices they hold for these devices only."
        return f"{note} {exact}"

    def share(self, value: float, concerned: np.ndarray, replicates: np.ndarray) -> Interval:
        """Return a share with its interval.

        Bootstrap interval; Clopper-Pearson where it degenerates: a share of 0 or 1, no variation, or too few clusters.

        Args:
            value: The share.
            concerned: (S,) number of windows of each session in the share's denominator.
            replicates: (R,) the share in each replicate.
        """
        units = self.units(concerned)
        low, high = self.bounds(replicates)
        return Interval(value, low, high) if units >= FEWEST_SESSIONS and low < high else exact(value, units)

    def units(self, concerned: np.ndarray) -> int:
        """Return how many devices (sessions if not `by_device`) have a positive count in `concerned` (S,)."""
        involved = concerned > 0
        return len(np.unique(self.owner[involved])) if self.by_device else int(involved.sum())

    def bounds(self, replicates: np.ndarray) -> tuple[float, float]:
        """Return the percentile interval of replicates (R,); NaN with fewer than FEWEST_SESSIONS sessions."""
        known = replicates[np.isfinite(replicates)]
        if not len(known) or len(self.sessions) < FEWEST_SESSIONS:
            return np.nan, np.nan
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


def resample(session: np.ndarray, device: np.ndarray, seed: int = 0, replicates: int = REPLICATES) -> Resampling:
    """Draw the replicates for a set of windows.

    Args:
        session: (N,) session of each window.
        device: (N,) device of each window.
        seed: Seed of the draws.
        replicates: Number of replicates.
    """
    names, first = np.unique(session, return_index=True)
    devices, owner = np.unique(device[first], return_inverse=True)
    rng = np.random.default_rng(seed)
    by_device = len(devices) >= FEWEST_DEVICES
    members = [np.flatnonzero(owner == d) for d in range(len(devices))] if by_device else [np.arange(len(names))]
    times = (
        rng.multinomial(len(devices), np.full(len(devices), 1 / len(devices)), replicates)
        if by_device
        else np.ones((replicates, 1), int)
    )
    weights = np.zeros((replicates, len(names)))
    for indices, drawn in zip(members, times.T, strict=True):
        # a device drawn m times contributes m independent draws of its sessions
        weights[:, indices] = rng.multinomial(drawn * len(indices), np.full(len(indices), 1 / len(indices)))
    return Resampling(weights, names, owner, len(devices), by_device)


class Arm:
    """Predictions of a model with one or more seeds on the same windows, ready to be resampled."""

    def __init__(self, seeds: list[Predictions], resampling: Resampling):
        self.totals = []
        for predictions in seeds:
            assert predictions.session is not None
            index = np.searchsorted(resampling.sessions, predictions.session)
            self.totals.append(Totals.of(predictions, index, len(resampling.sessions)))
        self.resampling = resampling

    def by_seed(self, metric: str) -> np.ndarray:
        """Return the metric for each seed, (seeds,)."""
        once = np.ones(len(self.resampling.sessions))
        return np.array([METRICS[metric].function(totals.weighted(once)) for totals in self.totals])

    def replicates(self, metric: str) -> np.ndarray:
        """Return the metric in each replicate, (R,), averaged over seeds."""
        values = [METRICS[metric].function(totals.weighted(self.resampling.weights)) for totals in self.totals]
        return np.mean(values, axis=0)

    def interval(self, metric: str) -> Interval:
        """Return the metric, averaged over seeds, with its interval."""
        value, replicates = float(self.by_seed(metric).mean()), self.replicates(metric)
        worst = self.totals[0].confusion[:, -1].sum(-1)
        if metric in SHARES or (METRICS[metric].percent and value in (0.0, 1.0)):
            return self.resampling.share(value, self._concerned(metric), replicates)
        most = {"severe_as_normal": worst.sum(), "severe_sessions_missed": (worst > 0).sum()}.get(metric)
        if most == 0:  # without a window of the worst state none can be missed
            return Interval(value, value, value)
        units = self.resampling.units(worst)
        if most and (units < FEWEST_SESSIONS or value in (0.0, float(most))):
            share = exact(value / most, units)
            return Interval(value, float(most * share.low), float(most * share.high))
        low, high = self.resampling.bounds(replicates)
        return Interval(value, low, high) if low < high else Interval(value, np.nan, np.nan)

    def _concerned(self, metric: str) -> np.ndarray:
        """Return the number of windows (S,) in the denominator of a share, by session."""
        confusion = self.totals[0].confusion
        denominators = {"severe_recall": confusion[:, -1].sum(-1), "severe_precision": confusion[..., -1].sum(-1)}
        return denominators.get(metric, confusion.sum((-2, -1)))

    def class_intervals(self, state: int) -> tuple[Interval, Interval, Interval]:
        """Return precision, recall and F1 of a state, averaged over seeds, with their intervals."""
        once = np.ones(len(self.resampling.sessions))
        confusion = self.totals[0].confusion
        called, actual = confusion[..., state].sum(-1), confusion[:, state].sum(-1)
        intervals = []
        for i, concerned in enumerate((called, actual, called + actual)):
            at, replicates = (
                np.mean(
                    [per_class(totals.weighted(weights).confusion)[i][..., state] for totals in self.totals], axis=0
                )
                for weights in (once, self.resampling.weights)
            )
            intervals.append(self.resampling.share(float(at), concerned, replicates))
        return intervals[0], intervals[1], intervals[2]

    def bin_bounds(self, i: int) -> tuple[float, float]:
        """Return the interval of the accuracy in the i-th calibration bin."""
        by_session = self.totals[0].calibration[:, i]
        count, _, right = self.totals[0].weighted(self.resampling.weights).calibration[:, i].T
        replicates = np.divide(right, count, out=np.full(len(count), np.nan), where=count > 0)
        total = by_session[:, 0].sum()
        share = self.resampling.share(
            float(by_session[:, 2].sum() / total) if total else np.nan, by_session[:, 0], replicates
        )
        return share.low, share.high

    def difference(self, other: Arm, metric: str) -> Interval:
        """Return this metric minus the other arm's, paired: both in the same replicates."""
        value = float(self.by_seed(metric).mean() - other.by_seed(metric).mean())
        return Interval(value, *self.resampling.bounds(self.replicates(metric) - other.replicates(metric)))


def _counted(number: int, noun: str) -> str:
    """Return `1 session`, `2 sessions`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def exact(value: float, count: int) -> Interval:
    """Return a share with its exact binomial interval (Clopper and Pearson, 1934).

    A share that is no multiple of 1 / count has bounds between those of the neighbouring counts (Korn and Graubard,
    1998).

    Args:
        value: The share.
        count: Number of independent units.
    """
    if not count or not np.isfinite(value):
        return Interval(value, np.nan, np.nan)
    successes, failures = value * count, (1 - value) * count
    low = beta.ppf((1 - LEVEL) / 2, successes, failures + 1) if successes > NONE else 0.0
    high = beta.ppf((1 + LEVEL) / 2, successes + 1, failures) if failures > NONE else 1.0
    return Interval(value, float(low), float(high))
