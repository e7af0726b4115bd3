"""Metrics of models on the same windows, with intervals: groups are left out one at a time, the same for all models.

A group is a device; where there is one device, or none is named, it is a session. Intervals are for the trained models
at hand; the seeds of a model are averaged, and their spread is told beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conveyorguard.metrics.intervals import (
    COMPARED_DEVICES,
    COMPARED_SESSIONS,
    FEWEST_DEVICES,
    FEWEST_SESSIONS,
    LEVEL,
    NONE,
    RARE_DEVICES,
    RARE_SESSIONS,
    Difference,
    Interval,
    difference_of,
    share_bounds,
    share_interval,
    t_bounds,
)
from conveyorguard.metrics.scores import METRICS, Predictions, Totals, per_class


@dataclass(frozen=True)
class Resampling:
    """The groups that are left out one at a time.

    Attributes:
        sessions: (S,) sorted names.
        owner: (S,) index of each session's group.
        groups: Number of groups.
        devices: Number of devices.
    """

    sessions: np.ndarray
    owner: np.ndarray
    groups: int
    devices: int

    @property
    def by_device(self) -> bool:
        """Whether a group is a device; with one device it is a session."""
        return self.devices > 1

    @property
    def enough(self) -> bool:
        """Whether there are enough groups and sessions for intervals."""
        return self.groups >= FEWEST_DEVICES and len(self.sessions) >= FEWEST_SESSIONS

    @property
    def shortage(self) -> str:
        """Say what there is too little of for an interval, as in `only 2 sessions`; empty if there is enough."""
        if self.enough:
            return ""
        few_devices = self.by_device and self.groups < FEWEST_DEVICES and len(self.sessions) >= FEWEST_SESSIONS
        return f"only {_counted(self.devices, 'device') if few_devices else _counted(len(self.sessions), 'session')}"

    @property
    def note(self) -> str:
        """Sentences on how the intervals were computed and what they hold for."""
        sessions, devices = _counted(len(self.sessions), "session"), _counted(self.devices, "device")
        if not self.enough:
            need = f"{FEWEST_DEVICES} devices and {FEWEST_SESSIONS} sessions" if self.by_device else FEWEST_SESSIONS
            return f"No intervals: {sessions} of {devices} are too few; they need at least {need}."
        unit, others = ("device", "other devices") if self.by_device else ("session", "other sessions of this device")
        return (
            f"{100 * LEVEL:.0f} % intervals over {sessions} of {devices} (jackknife, one {unit} left out at a time): "
            f"where these trained models would come out on {others}. Near 0 % and 100 %, and for a state in fewer than "
            f"{RARE_DEVICES} devices or {RARE_SESSIONS} sessions, they are wider and hold more often than "
            f"{100 * LEVEL:.0f} %."
        )

    def share(self, part: np.ndarray, total: np.ndarray) -> Interval:
        """Return the share of counts in groups, with its interval if there are enough groups.

        Args:
            part: (G,) what is counted in each group.
            total: (G,) what it is a share of.
        """
        interval = share_interval(part, total)
        return interval if self.enough else Interval(interval.value, np.nan, np.nan)


def resample(session: np.ndarray, device: np.ndarray) -> Resampling:
    """Return the groups of a set of windows.

    Args:
        session: (N,) session of each window.
        device: (N,) device of each window.
    """
    names, first = np.unique(session, return_index=True)
    devices, owner = np.unique(device[first], return_inverse=True)
    if len(devices) == 1:
        owner = np.arange(len(names))
    return Resampling(names, owner, int(owner.max()) + 1 if len(names) else 0, len(devices))


class Arm:
    """Predictions of a model with one or more seeds on the same windows, ready for intervals."""

    def __init__(self, seeds: list[Predictions], resampling: Resampling):
        self.totals = []
        for predictions in seeds:
            assert predictions.session is not None
            index = np.searchsorted(resampling.sessions, predictions.session)
            self.totals.append(Totals.of(predictions, index, len(resampling.sessions)))
        self.resampling = resampling
        self.grouped = [totals.grouped(resampling.owner, resampling.groups) for totals in self.totals]

    def by_seed(self, metric: str) -> np.ndarray:
        """Return the metric for each seed, (seeds,)."""
        return np.array([METRICS[metric].function(groups.summed()) for groups in self.grouped])

    def without(self, metric: str) -> np.ndarray:
        """Return the metric without each group, (G,), averaged over seeds."""
        return np.mean([METRICS[metric].function(groups.without_each()) for groups in self.grouped], axis=0)

    def interval(self, metric: str) -> Interval:
        """Return the metric, averaged over seeds, with its interval."""
        value, without = float(self.by_seed(metric).mean()), self.without(metric)
        counts = self._counts(metric)
        if counts is None:
            if not self.resampling.enough:
                return Interval(value, np.nan, np.nan)
            low, high = t_bounds(np.asarray(value), without)
            least, most = METRICS[metric].range
            return Interval(value, float(np.maximum(low, least)), float(np.minimum(high, most)))
        part, total = counts
        if METRICS[metric].percent:
            return self._share(value, without, part, total)
        most = total.sum()  # a number of windows or sessions: a share of those of the worst state
        return self.resampling.share(part, total).times(float(most)) if most else Interval(value, np.nan, np.nan)

    def _share(self, value: float, without: np.ndarray, part: np.ndarray, total: np.ndarray) -> Interval:
        """Return a share with its interval; the arguments are those of `share_bounds`."""
        if not self.resampling.enough:
            return Interval(value, np.nan, np.nan)
        low, high = share_bounds(np.asarray(value), np.where(total > NONE, without, value), part, total)
        return Interval(value, float(low), float(high))

    def _counts(self, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return how many windows or sessions of each group the metric counts, and of how many; both (G,).

        They are averaged over seeds. None for a metric that is no share of windows or sessions.
        """
        confusion = np.mean([groups.confusion for groups in self.grouped], axis=0)
        right = np.trace(confusion, axis1=-2, axis2=-1)
        worst, called = confusion[:, -1].sum(-1), confusion[..., -1].sum(-1)
        counts = {
            "accuracy": (right, confusion.sum((-2, -1))),
            "macro_f1": (right, confusion.sum((-2, -1))),
            "severe_recall": (confusion[:, -1, -1], worst),
            "severe_precision": (confusion[:, -1, -1], called),
            "severe_as_normal": (confusion[:, -1, 0], worst),
        }
        if metric == "severe_sessions_missed":
            sessions, missed = np.mean([groups.worst_sessions for groups in self.grouped], axis=0).T
            return missed, sessions
        return counts.get(metric)

    def class_intervals(self, state: int) -> tuple[Interval, Interval, Interval]:
        """Return precision, recall and F1 of a state, averaged over seeds, with their intervals."""
        confusion = np.mean([groups.confusion for groups in self.grouped], axis=0)
        right, called, actual = confusion[:, state, state], confusion[..., state].sum(-1), confusion[:, state].sum(-1)
        counts = ((right, called), (right, actual), (2 * right, called + actual))
        intervals = []
        for i, (part, total) in enumerate(counts):
            value, without = (
                np.mean([per_class(totals.confusion)[i][..., state] for totals in sums], axis=0)
                for sums in ([g.summed() for g in self.grouped], [g.without_each() for g in self.grouped])
            )
            intervals.append(self._share(float(value), without, part, total))
        return intervals[0], intervals[1], intervals[2]

    def bin_bounds(self, i: int) -> tuple[float, float]:
        """Return the interval of the accuracy in the i-th calibration bin."""
        count, _, right = self.grouped[0].calibration[:, i].T
        share = self.resampling.share(right, count)
        return share.low, share.high

    def difference(self, other: Arm, metric: str) -> Difference:
        """Return this metric minus the other arm's, paired: the same groups are left out of both.

        A difference of what concerns one state alone has no interval where too few devices or sessions have the state:
        errors that did not happen there say too little about those that may.
        """
        value = float(self.by_seed(metric).mean() - other.by_seed(metric).mean())
        if not self.resampling.enough or (METRICS[metric].worst_alone and not self._worst_is_frequent()):
            return Difference(value, np.nan, np.nan)
        return difference_of(value, self.without(metric) - other.without(metric))

    def _worst_is_frequent(self) -> bool:
        """Return whether enough devices and sessions have the worst state."""
        sessions = self.grouped[0].worst_sessions[:, 0]
        return int((sessions > 0).sum()) >= COMPARED_DEVICES and sessions.sum() >= COMPARED_SESSIONS


def _counted(number: int, noun: str) -> str:
    """Return `1 session`, `2 sessions`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
