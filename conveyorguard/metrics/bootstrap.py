"""Intervals of metrics by resampling whole recordings: windows of one session, and sessions of one device, are not
independent.

A replicate draws devices with replacement, then within each drawn device its sessions with replacement (two-stage
cluster bootstrap: Davison and Hinkley, 1997, section 3.8). All models of a table are resampled alike, so differences
are paired; seeds of one model are averaged inside each replicate.
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
FEWEST_DEVICES = 10  # with fewer, resampling devices says little
FEWEST_SESSIONS = 5  # with fewer, resampling sessions says nothing; nor with fewer in which there is what a share is of
NONE = 1e-9  # of so many no share is taken
SHARES = ("accuracy", "severe_recall", "severe_precision")  # metrics that are a share of some windows


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; NaN where there is none."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, row: Mapping[Any, Any] | pd.Series, name: str, low: str = "", high: str = "") -> Interval:
        """A figure of a table's row with its bounds, by default `name_low` and `name_high`."""
        return cls(row[name], row[low or f"{name}_low"], row[high or f"{name}_high"])

    def columns(self, name: str) -> dict[str, float]:
        """The interval as the columns of a table's row: name, name_low, name_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def times(self, factor: float) -> Interval:
        """The interval in another unit."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """The fixed rule on a difference in which more is better."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not shown"


@dataclass(frozen=True)
class Resampling:
    """How often each session counts in each replicate.

    weights: (replicates, sessions). sessions: their names, sorted. owner: the number of each session's device, below
    `devices`. by_device: whether devices were resampled, or, where they are too few, sessions alone.
    """

    weights: np.ndarray
    sessions: np.ndarray
    owner: np.ndarray
    devices: int
    by_device: bool

    @property
    def note(self) -> str:
        """What the intervals mean, in a sentence."""
        count = f"{len(self.sessions)} sessions of {self.devices} devices"
        unit, units = ("a device", "devices") if self.by_device else ("a session", "sessions")
        exact = (
            f"Shares of all, of none or of fewer than {FEWEST_SESSIONS} {units} have the exact bound, {unit} "
            "counting once."
        )
        if len(self.sessions) < FEWEST_SESSIONS:
            return f"No intervals but of shares: {count} are too few to resample. {exact}"
        if self.by_device:
            return (
                f"Intervals are {LEVEL:.0%}: devices, then their sessions, resampled {len(self.weights):,} times "
                f"({count}). {exact}"
            )
        return (
            f"Intervals are {LEVEL:.0%}, sessions resampled {len(self.weights):,} times ({count}): fewer than "
            f"{FEWEST_DEVICES} devices cannot say how much devices differ, so they hold for these devices only. {exact}"
        )

    def share(self, value: float, concerned: np.ndarray, replicates: np.ndarray) -> Interval:
        """A share with its interval. Exact of all (1) or none (0), or where all sessions have the same, which
        resampling can only repeat; and of what too few devices or sessions have, of which it knows too few kinds.

        Args:
            concerned: (sessions,) how many windows of each it is of. replicates: the share in each replicate.
        """
        units = self.units(concerned)
        low, high = self.bounds(replicates)
        return Interval(value, low, high) if units >= FEWEST_SESSIONS and low < high else exact(value, units)

    def units(self, concerned: np.ndarray) -> int:
        """How many devices, or where these are too few sessions, have any of what is counted, (sessions,)."""
        some = concerned > 0
        return len(np.unique(self.owner[some])) if self.by_device else int(some.sum())

    def bounds(self, replicates: np.ndarray) -> tuple[float, float]:
        """The interval of the values of replicates; NaN where there are too few sessions for one."""
        known = replicates[np.isfinite(replicates)]
        if not len(known) or len(self.sessions) < FEWEST_SESSIONS:
            return np.nan, np.nan
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)


def resample(session: np.ndarray, device: np.ndarray, seed: int = 0, replicates: int = REPLICATES) -> Resampling:
    """Draw the replicates of a set of windows, given the session and the device of each (n,)."""
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
    for own, drawn in zip(members, times.T, strict=True):
        # a device drawn m times brings m independent draws of its sessions
        weights[:, own] = rng.multinomial(drawn * len(own), np.full(len(own), 1 / len(own)))
    return Resampling(weights, names, owner, len(devices), by_device)


class Arm:
    """A model's predictions by one or more seeds, over the same windows, ready to be resampled."""

    def __init__(self, seeds: list[Predictions], resampling: Resampling):
        self.totals = []
        for predictions in seeds:
            assert predictions.session is not None
            index = np.searchsorted(resampling.sessions, predictions.session)
            self.totals.append(Totals.of(predictions, index, len(resampling.sessions)))
        self.resampling = resampling

    def by_seed(self, metric: str) -> np.ndarray:
        """The metric of each seed, (seeds,)."""
        one = np.ones(len(self.resampling.sessions))
        return np.array([METRICS[metric].function(totals.weighted(one)) for totals in self.totals])

    def replicates(self, metric: str) -> np.ndarray:
        """The metric of each replicate, (replicates,), seeds averaged."""
        values = [METRICS[metric].function(totals.weighted(self.resampling.weights)) for totals in self.totals]
        return np.mean(values, axis=0)

    def interval(self, metric: str) -> Interval:
        """The metric, seeds averaged, with its interval."""
        value, replicates = float(self.by_seed(metric).mean()), self.replicates(metric)
        worst = self.totals[0].confusion[:, -1].sum(-1)
        if metric in SHARES or (METRICS[metric].percent and value in (0.0, 1.0)):
            return self.resampling.share(value, self._concerned(metric), replicates)
        of = {"severe_as_normal": worst.sum(), "severe_sessions_missed": (worst > 0).sum()}.get(metric)
        if of == 0:  # of nothing nothing can be missed
            return Interval(value, value, value)
        units = self.resampling.units(worst)
        if of and (units < FEWEST_SESSIONS or value in (0.0, float(of))):
            share = exact(value / of, units)
            return Interval(value, float(of * share.low), float(of * share.high))
        low, high = self.resampling.bounds(replicates)
        return Interval(value, low, high) if low < high else Interval(value, np.nan, np.nan)

    def _concerned(self, metric: str) -> np.ndarray:
        """(sessions,) of how many windows of each a share is."""
        confusion = self.totals[0].confusion
        of = {"severe_recall": confusion[:, -1].sum(-1), "severe_precision": confusion[..., -1].sum(-1)}
        return of.get(metric, confusion.sum((-2, -1)))

    def class_intervals(self, state: int) -> tuple[Interval, Interval, Interval]:
        """Precision, recall and F1 of a state, seeds averaged, with their intervals."""
        one = np.ones(len(self.resampling.sessions))
        confusion = self.totals[0].confusion
        called, actual = confusion[..., state].sum(-1), confusion[:, state].sum(-1)
        found = []
        for i, concerned in enumerate((called, actual, called + actual)):
            at, replicates = (
                np.mean(
                    [per_class(totals.weighted(weights).confusion)[i][..., state] for totals in self.totals], axis=0
                )
                for weights in (one, self.resampling.weights)
            )
            found.append(self.resampling.share(float(at), concerned, replicates))
        return found[0], found[1], found[2]

    def bin_bounds(self, i: int) -> tuple[float, float]:
        """Interval of the share that is right among the windows of a calibration bin."""
        of_each = self.totals[0].calibration[:, i]
        count, _, right = self.totals[0].weighted(self.resampling.weights).calibration[:, i].T
        replicates = np.divide(right, count, out=np.full(len(count), np.nan), where=count > 0)
        total = of_each[:, 0].sum()
        share = self.resampling.share(
            float(of_each[:, 2].sum() / total) if total else np.nan, of_each[:, 0], replicates
        )
        return share.low, share.high

    def difference(self, other: Arm, metric: str) -> Interval:
        """This minus the other, paired: both in the same replicates."""
        value = float(self.by_seed(metric).mean() - other.by_seed(metric).mean())
        return Interval(value, *self.resampling.bounds(self.replicates(metric) - other.replicates(metric)))


def exact(value: float, count: int) -> Interval:
    """The exact binomial bound of a share of so many (Clopper and Pearson, 1934; a share between two counts as between
    the bounds of these: Korn and Graubard, 1998)."""
    if not count or not np.isfinite(value):
        return Interval(value, np.nan, np.nan)
    of, rest = value * count, (1 - value) * count
    low = beta.ppf((1 - LEVEL) / 2, of, rest + 1) if of > NONE else 0.0
    high = beta.ppf((1 + LEVEL) / 2, of + 1, rest) if rest > NONE else 1.0
    return Interval(value, float(low), float(high))
