"""Choose the operating point on validation: by a cap on false alarms, and by a share of faults that may be missed.

With n fault sessions and a = miss_rate, the largest threshold t with n / (n + 1) * R(t) + 1 / (n + 1) <= a, where R(t)
is the share of sessions missed on validation, misses the next fault with a probability of at most a (conformal risk
control: Angelopoulos et al., 2022). Below n = ceil(1 / a) - 1 there is no such threshold: none of the faults may be
missed, and the median of the thresholds chosen without each fault session is taken.

A lower threshold misses no more, so the guarantee stays with it. Of the thresholds with as few false alarms, the middle
in log-odds is taken: one at either end was just reached by some session, and the next session may just miss it.

Where the cap cannot be kept, the order is: the cap holds and the miss rate yields, as long as half of the faults are
caught under the cap; else the cap yields, and of the thresholds that catch half of the faults the cheapest is taken.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from conveyorguard.metrics.alarm_settings import HOURS_PER_MONTH, HOURS_PER_WEEK, AlarmSettings
from conveyorguard.metrics.alarms import HYSTERESIS, OperatingPoint, begins, exposure, ringing, without_fault

UNDECIDED = 0.5  # upper limit of the threshold if validation has no window in which an alarm would be false
SURE = 1e-4  # thresholds are looked for in [SURE, 1 - SURE]
STEP = 0.25  # distance of the candidate thresholds in log-odds
SMALLEST = 1e-9  # of a threshold, which a score of exactly 0 does not reach
SAME = 1e-9  # thresholds that differ by less in log-odds are the same
NAMED = 5  # deciding sessions that are named
EDGE = float(logit(1 - SURE))
GRID = expit(np.arange(-EDGE, EDGE + STEP, STEP))
MISS_RATE, MAX_FALSE = "miss_rate", "max_false_per_week"


@dataclass(frozen=True)
class Deciding:
    """A session without which the threshold would be another: its name, and that threshold, None for no threshold."""

    session: str
    fault: bool
    on: float | None


@dataclass(frozen=True)
class Choice:
    """The operating point, and how it was chosen on validation.

    Attributes:
        point: Scores at which an alarm begins and ends.
        rule: 'conformal', or 'leave-one-out' with too few fault sessions for a guarantee.
        fault_sessions: Number of validation sessions with a fault.
        sessions_needed: Fewest with which a guarantee can be claimed.
        guaranteed: Whether the miss rate is guaranteed.
        missed: Validation fault sessions that do not reach the threshold while in the alarm state.
        false_per_week: Most false alarms a week at this threshold or a higher one; None without time without a fault.
        yields: 'miss_rate' or 'max_false_per_week' if both could not be had, else None.
        deciding: Sessions without which the threshold would be another, the most influential first.
    """

    point: OperatingPoint
    rule: str
    fault_sessions: int
    sessions_needed: int
    guaranteed: bool
    missed: int
    false_per_week: float | None
    yields: str | None
    deciding: list[Deciding] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the choice without the point, as in alarms.json."""
        return {key: value for key, value in asdict(self).items() if key != "point"}


@dataclass(frozen=True)
class _Sessions:
    """What of each session S the choice depends on.

    Attributes:
        names: (S,) sorted.
        peaks: (S,) highest score in the alarm state; NaN without a fault.
        false: (S, G) false alarms at each threshold of GRID.
        hours: (S,) time in which an alarm would be false [h].
    """

    names: np.ndarray
    peaks: np.ndarray
    false: np.ndarray
    hours: np.ndarray

    def without(self, place: int) -> _Sessions:
        keep = np.arange(len(self.names)) != place
        return _Sessions(self.names[keep], self.peaks[keep], self.false[keep], self.hours[keep])

    @property
    def faults(self) -> np.ndarray:
        """Places of the fault sessions."""
        return np.flatnonzero(np.isfinite(self.peaks))

    def most_false(self) -> np.ndarray:
        """Return the false alarms (G,) at each threshold of GRID or any above it: alarms that merge are not fewer."""
        return np.maximum.accumulate(self.false.sum(axis=0)[::-1])[::-1]


def choose_operating_point(
    table: pd.DataFrame, settings: AlarmSettings | None = None, stride: float | None = None, period: float = 1.0
) -> Choice | None:
    """Choose the operating point on validation; None without a fault session.

    Args:
        table: Validation windows: session, start, end, seconds_since_onset, y_true, y_true_alarm (bool), score.
        settings: Cap on false alarms, miss rate and costs; None: the defaults.
        stride: Of the windows [s]; None: they do not overlap.
        period: Of a row of the data [s].
    """
    settings = settings or AlarmSettings()
    sessions = _sessions_of(table.sort_values(["session", "start"], ignore_index=True), stride, period)
    on = _chosen(sessions, settings)
    if on is None:
        return None
    count = len(sessions.faults)
    missed = int((sessions.peaks[sessions.faults] < on).sum())
    hours = sessions.hours.sum()
    per_week = float(sessions.most_false()[_place(on)] * HOURS_PER_WEEK / hours) if hours else None
    too_many = per_week is not None and per_week > settings.max_false_per_week
    enough = count >= settings.sessions_needed
    kept = missed <= settings.allowed_misses(count)
    return Choice(
        with_hysteresis(on),
        "conformal" if enough else "leave-one-out",
        count,
        settings.sessions_needed,
        enough and kept,
        missed,
        per_week,
        MAX_FALSE if too_many else None if kept else MISS_RATE,
        _deciding(sessions, settings, on),
    )


def with_hysteresis(on: float) -> OperatingPoint:
    """Return the operating point of a threshold."""
    return OperatingPoint(on, HYSTERESIS * on)


def _sessions_of(table: pd.DataFrame, stride: float | None, period: float) -> _Sessions:
    """Count what the choice depends on; the windows are in the order of session and time."""
    names, session = np.unique(table["session"].to_numpy(str), return_inverse=True)
    faulty = table["y_true_alarm"].to_numpy(bool)
    peaks = np.full(len(names), -np.inf)  # clipped below: a score, a sum of probabilities, may exceed 1 by rounding
    np.maximum.at(peaks, session[faulty], table["score"].to_numpy(float)[faulty])
    healthy = without_fault(table)
    hours = np.bincount(session, exposure(table, stride, period) * healthy, len(names))
    false = np.zeros((len(names), len(GRID)))
    if healthy.any():
        for place, on in enumerate(GRID):
            begun = begins(table, ringing(table, with_hysteresis(on), period), period) & healthy
            false[:, place] = np.bincount(session[begun], minlength=len(names))
    return _Sessions(names, np.where(np.isneginf(peaks), np.nan, np.clip(peaks, SMALLEST, 1.0)), false, hours)


def _chosen(sessions: _Sessions, settings: AlarmSettings) -> float | None:
    """Return the threshold by the rule that the number of fault sessions allows; None without a fault session."""
    count = len(sessions.faults)
    if not count:
        return None
    if count == 1 or count >= settings.sessions_needed:
        return _threshold(sessions, settings)
    left_out = sorted(_threshold(sessions.without(place), settings) for place in sessions.faults)
    return left_out[(count - 1) // 2]  # of two in the middle the lower, which misses less


def _threshold(sessions: _Sessions, settings: AlarmSettings) -> float:
    """Return the threshold for sessions of which at least one has a fault."""
    peaks = np.sort(sessions.peaks[sessions.faults])
    limit = peaks[settings.allowed_misses(len(peaks))]  # the largest threshold that keeps the miss rate
    hours = sessions.hours.sum()
    if not hours:
        return float(min(limit, UNDECIDED))
    false = sessions.most_false()
    if false[_place(limit)] * HOURS_PER_WEEK > settings.max_false_per_week * hours:
        limit = _compromise(peaks, false, hours, settings)
    lowest = GRID[np.flatnonzero(false == false[_place(limit)])[0]]
    top = min(float(logit(limit)), EDGE)
    return float(expit((min(float(logit(lowest)), top) + top) / 2))


def _compromise(peaks: np.ndarray, false: np.ndarray, hours: float, settings: AlarmSettings) -> float:
    """Return the largest threshold to consider where cap and miss rate cannot both be had.

    Args:
        peaks: (n,) highest score of each fault session, sorted.
        false: (G,) false alarms at each threshold of GRID.
        hours: Time in which they were counted [h].
        settings: Cap and costs.
    """
    under_cap = np.flatnonzero(false * HOURS_PER_WEEK <= settings.max_false_per_week * hours)
    caught = peaks[peaks >= GRID[under_cap[0]]] if len(under_cap) else peaks[:0]
    if 2 * len(caught) >= len(peaks):
        return float(caught[0])
    candidates = peaks[: len(peaks) // 2 + 1]  # a threshold at any of them catches half of the faults
    missed = np.searchsorted(peaks, candidates)
    costs = settings.cost.miss * settings.faults_per_month * missed / len(peaks) + settings.cost.false * (
        false[[_place(peak) for peak in candidates]] * HOURS_PER_MONTH / hours
    )
    return float(candidates[costs.argmin()])


def _place(threshold: float) -> int:
    """Return the place in GRID of the last threshold that is not above this one."""
    return max(int(np.searchsorted(GRID, threshold, side="right")) - 1, 0)


def _deciding(sessions: _Sessions, settings: AlarmSettings, on: float) -> list[Deciding]:
    """Return the sessions without which the threshold would be another, the most influential first."""
    effects = []
    for place, name in enumerate(sessions.names):
        other = _chosen(sessions.without(place), settings)
        effect = np.inf if other is None else abs(logit(other) - logit(on))
        if effect > SAME:
            effects.append((effect, Deciding(str(name), bool(np.isfinite(sessions.peaks[place])), other)))
    return [session for _, session in sorted(effects, key=lambda pair: -pair[0])[:NAMED]]
