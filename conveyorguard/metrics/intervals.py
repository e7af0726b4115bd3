"""Intervals over groups (devices, or sessions where there is one device) by leaving out one group at a time.

All functions take arrays whose last axis is the group, (..., G), so that a simulation of thousands of data sets is one
call (`experiments/coverage.py`). Windows of a device are never taken as independent, nor its sessions.

A measure or a difference has the delete-one-group jackknife-t interval (Tukey, 1958), with the degrees of freedom that
the spread of the groups allows (Satterthwaite, 1946). A share has the interval of Clopper and Pearson (1934) on an
effective number of windows (Korn and Graubard, 1998): as many as independent windows would need for the same variance.
Where the rarer answer (mostly the errors) lies in one device alone or in none, that variance says nothing, and a device
counts once; from there to ALL_GROUPS devices the number passes from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta, chi2, norm, t

LEVEL = 0.95
FEWEST_DEVICES = 5  # with fewer devices there is no interval
FEWEST_SESSIONS = 10  # with fewer sessions there is no interval
# devices and sessions with a state, below which the interval of its recall is a worst-case bound
RARE_DEVICES, RARE_SESSIONS = 15, 40
# and below which a difference of its recall has no interval
COMPARED_DEVICES, COMPARED_SESSIONS = 10, 30
ONE_GROUP = 1.0  # effective number of groups with the rarer answer up to which a group counts once
ALL_GROUPS = 3.0  # number from which the variance between groups counts alone
NONE = 1e-9  # counts below this are rounding errors of zero
CONSTANT = 1e-12  # a standard error below this is a rounding error of zero


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
        ends = sorted((factor * self.low, factor * self.high))
        return Interval(factor * self.value, ends[0], ends[1])

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0

    @property
    def verdict(self) -> str:
        """Verdict on a difference in which more is better: better, worse, or not shown if it may be zero."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not shown"


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference with its interval, standard error and degrees of freedom; NaN where there is no interval."""

    error: float = np.nan
    freedom: float = np.nan

    def p(self, null: float = 0.0) -> float:
        """Return the two-sided p-value against a true difference of `null`; NaN where there is no interval."""
        return float(2 * t.sf(abs(self.value - null) / self.error, self.freedom)) if self.known else np.nan


def holm(p: np.ndarray) -> np.ndarray:
    """Return the p-values (n,) of n tests adjusted by Holm (1979); NaN, which is no test, stays NaN."""
    p = np.asarray(p, float)
    adjusted, known = np.full(len(p), np.nan), np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def verdicts(differences: list[Difference]) -> list[str]:
    """Return better, worse or not shown for each difference of a table, after Holm's correction for their number."""
    adjusted = holm(np.array([difference.p() for difference in differences]))
    return [
        difference.verdict if p < 1 - LEVEL else "not shown"
        for difference, p in zip(differences, adjusted, strict=True)
    ]


def non_inferiority(differences: list[Difference], margin: float) -> list[str]:
    """Return holds, falls below or not shown for each difference of a table, after Holm's correction.

    Args:
        differences: Differences in which more is better.
        margin: Loss that is tolerated, positive: 'holds' is a lower bound above -margin.
    """
    adjusted = holm(np.array([difference.p(-margin) for difference in differences]))
    shown = ["holds" if difference.value > -margin else "falls below" for difference in differences]
    return [name if p < 1 - LEVEL else "not shown" for name, p in zip(shown, adjusted, strict=True)]


def jackknife(without: np.ndarray, concerned: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard error (...) of a measure and the degrees of freedom (...) of that error.

    Args:
        without: (..., G) the measure without each group.
        concerned: (..., G) mask of the groups that the measure is about; None for all of them.
    """
    inside = np.ones(without.shape, bool) if concerned is None else concerned
    groups = np.maximum(inside.sum(-1), 2)
    mean = np.where(inside, without, 0).sum(-1, keepdims=True) / groups[..., None]
    apart = np.where(inside, without - mean, 0.0)
    error = np.sqrt((groups - 1) / groups * (apart**2).sum(-1))
    square, fourth = (apart**2).sum(-1) / groups, (apart**4).sum(-1) / groups
    kurtosis = np.divide(fourth, square**2, out=np.full(np.shape(error), 3.0), where=error > CONSTANT)
    return error, np.clip(2 * groups / np.maximum(kurtosis - 1, 0.5), 1, groups - 1)


def t_bounds(value: np.ndarray, without: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds (...) of a jackknife-t interval; NaN where the measure is the same without each group.

    Args:
        value: (...) the measure.
        without: (..., G) the measure without each group.
        level: Nominal coverage.
    """
    error, freedom = jackknife(without)
    half = np.where(error > CONSTANT, t.ppf((1 + level) / 2, freedom) * error, np.nan)
    return value - half, value + half


def difference_of(value: float, without: np.ndarray) -> Difference:
    """Return a difference with its jackknife-t interval.

    Args:
        value: The difference.
        without: (G,) the difference without each group.
    """
    low, high = t_bounds(np.asarray(value), without)
    error, freedom = jackknife(without)
    return Difference(value, float(low), float(high), float(error), float(freedom))


def effective_number(counts: np.ndarray) -> np.ndarray:
    """Return by how many groups of equal size the counts (..., G) are as concentrated (Kish, 1965); 0 without any."""
    total, squares = counts.sum(-1), (counts**2).sum(-1)
    return np.divide(total**2, squares, out=np.zeros(np.shape(total)), where=squares > 0)


def share_bounds(
    value: np.ndarray, without: np.ndarray, part: np.ndarray, total: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds (...) of a share; NaN where fewer than FEWEST_DEVICES groups are concerned.

    Args:
        value: (...) the share.
        without: (..., G) the share without each group.
        part: (..., G) windows of each group that the share counts.
        total: (..., G) windows of each group that it is a share of.
    """
    concerned = total > NONE
    error, freedom = jackknife(without, concerned)
    wider = norm.ppf((1 + LEVEL) / 2) / t.ppf((1 + LEVEL) / 2, freedom)
    groups, windows = effective_number(total), total.sum(-1)
    varies = error > CONSTANT
    alike = np.divide(value * (1 - value) * wider**2, error**2, out=np.array(groups, float), where=varies)
    rarer = np.minimum(effective_number(part), effective_number(np.maximum(total - part, 0)))
    once = np.where(varies, np.clip((ALL_GROUPS - rarer) / (ALL_GROUPS - ONE_GROUP), 0, 1), 1.0)
    size = np.maximum(np.minimum(alike, windows), NONE) ** (1 - once) * np.maximum(groups, NONE) ** once
    low, high = clopper_pearson(value, size)
    enough = (concerned.sum(-1) >= FEWEST_DEVICES) & np.isfinite(value)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def share_interval(part: np.ndarray, total: np.ndarray) -> Interval:
    """Return the share of counts in groups, with its interval over the groups.

    Args:
        part: (G,) what is counted in each group.
        total: (G,) what it is a share of.
    """
    part, total = np.asarray(part, float), np.asarray(total, float)
    if not total.sum():
        return Interval(np.nan, np.nan, np.nan)
    value, rest = part.sum() / total.sum(), total.sum() - total
    without = np.divide(part.sum() - part, rest, out=np.full(len(part), value), where=rest > NONE)
    low, high = share_bounds(value, without, part, total)
    return Interval(float(value), float(low), float(high))


def rate_bound(events: np.ndarray, exposure: np.ndarray) -> float:
    """Return the upper bound of a rate of events at the one-sided level LEVEL; NaN without exposure.

    The exact Poisson bound (Garwood, 1936) on an effective exposure: the exposure divided by the dispersion of the
    events over groups, at least 1, so that a burst in one group counts as one event.

    Args:
        events: (G,) number of events in each group.
        exposure: (G,) time in which they could happen, e.g. [h].
    """
    total, time = float(np.sum(events)), float(np.sum(exposure))
    if not time > 0:
        return np.nan
    groups, apart = int(np.count_nonzero(exposure)), events - total / time * np.asarray(exposure)
    dispersion = groups / max(groups - 1, 1) * float((apart**2).sum()) / total if total else 1.0
    burst = max(dispersion if groups > 1 else total, 1.0)  # of one group nothing tells how its events come
    return float(chi2.ppf(LEVEL, 2 * (total / burst + 1)) / 2 * burst / time)


def clopper_pearson(value: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact binomial bounds (...) of shares (Clopper and Pearson, 1934), for any positive number `size`.

    Bounds of a share that is no multiple of 1 / size lie between those of the neighbouring counts.
    """
    count, rest = np.asarray(value * size), np.asarray((1 - value) * size)
    low = np.where(count > NONE, beta.ppf((1 - LEVEL) / 2, np.maximum(count, NONE), rest + 1), 0.0)
    high = np.where(rest > NONE, beta.ppf((1 + LEVEL) / 2, count + 1, np.maximum(rest, NONE)), 1.0)
    return low, high
