"""Summaries of the sessions that a run was applied to: a line for each, and totals over all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.resampling import resample


@dataclass
class SessionSummary:
    """One session, as a row of recordings.csv and of the page.

    Attributes:
        session: its name.
        device: the device it was recorded on.
        kind: the kind of the device.
        seconds: its length [s].
        windows: number of predicted windows.
        state_at_end: predicted state of its last second; `warming up` if it ends less than a window after a gap.
        worst_state: worst predicted state of a second.
        alarms: number of alarms.
        first_alarm: begin of the first alarm, since the session began [s].
        first_alarm_time: the same as a clock time; empty where the data have none.
        unlike_training: inputs unlike those of the training, in sentences.
        noticed: what was noticed while it was read, or why it was not predicted.
        used_in: part of the run's split that holds the same measurements, `train` or `val`; empty for other sessions.
    """

    session: str
    device: str = ""
    kind: str = ""
    seconds: float = 0.0
    windows: int = 0
    state_at_end: str = ""
    worst_state: str = ""
    alarms: int = 0
    first_alarm: float | None = None
    first_alarm_time: str = ""
    unlike_training: str = ""
    noticed: str = ""
    used_in: str = ""

    @property
    def predicted(self) -> bool:
        """Whether at least one window was predicted."""
        return self.windows > 0


@dataclass
class PredictionTotals:
    """Counts over all sessions.

    Attributes:
        recordings: sessions, including those that were not predicted.
        unpredicted: sessions that were not predicted.
        windows: predicted windows.
        seconds: predicted seconds by state.
        warming_up: seconds before the first window of a session, or of a part of it after a gap, has ended.
        alarms: alarms.
        with_alarm: sessions with an alarm.
        reached: sessions with a second predicted in a state worth an alarm.
        unlike: sessions with inputs unlike those of the training.
        confusion: labelled windows, (K, K), rows actual, columns predicted.
        judged: sessions with labelled windows.
        counts: of each judged session its device, and [right, labelled] windows, [missed, all] sessions with a fault,
            [false, all] labelled sessions without a fault, (3, 2).
        faults: labelled sessions that reach a state worth an alarm.
        missed: those of them without an alarm.
        false: labelled sessions that reach no such state, but have an alarm.
        used: predicted sessions by `used_in`.
        unused: the same counts over the sessions that the run was neither trained nor validated on; None where the run
            does not record what it was trained on.
    """

    recordings: int = 0
    unpredicted: int = 0
    windows: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    warming_up: int = 0
    alarms: int = 0
    with_alarm: int = 0
    reached: int = 0
    unlike: int = 0
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), int))
    judged: int = 0
    counts: list[tuple[str, np.ndarray]] = field(default_factory=list)
    faults: int = 0
    missed: int = 0
    false: int = 0
    used: Counter[str] = field(default_factory=Counter)
    unused: PredictionTotals | None = None

    @classmethod
    def of(cls, states: int, apart: bool = False) -> PredictionTotals:
        """Return empty totals.

        Args:
            states: number of states, K.
            apart: count the sessions that the run was not trained on apart, in `unused`.
        """
        return cls(confusion=np.zeros((states, states), int), unused=cls.of(states) if apart else None)

    def add(
        self, summary: SessionSummary, windows: pd.DataFrame | None, seconds: pd.DataFrame | None, alarm: int
    ) -> None:
        """Count a session.

        Args:
            summary: its line.
            windows: its windows, as in `SessionPredictions`; None if it was not predicted.
            seconds: its seconds, as in `SessionPredictions`; None if it was not predicted.
            alarm: the lowest state worth an alarm.
        """
        self.recordings += 1
        if windows is None or seconds is None:
            self.unpredicted += 1
            return
        self.windows += summary.windows
        answered = seconds["y_pred"] >= 0
        self.seconds.update(seconds.loc[answered, "state"].tolist())
        self.warming_up += int((~answered).sum())
        self.alarms += summary.alarms
        self.with_alarm += summary.alarms > 0
        self.reached += bool((seconds["y_pred"] >= alarm).any())
        self.unlike += bool(summary.unlike_training)
        self._judge(summary, windows["y_true"].to_numpy(), windows["y_pred"].to_numpy(), alarm)
        if summary.used_in:
            self.used[summary.used_in] += 1
        elif self.unused is not None:
            self.unused.add(summary, windows, seconds, alarm)

    def _judge(self, summary: SessionSummary, actual: np.ndarray, predicted: np.ndarray, alarm: int) -> None:
        """Compare a session's predictions with its labels.

        Args:
            summary: its line.
            actual: labels of its windows, -1 where there is none, (n,).
            predicted: predicted states of its windows, (n,).
            alarm: the lowest state worth an alarm.
        """
        known = actual >= 0
        if not known.any():
            return
        np.add.at(self.confusion, (actual[known], predicted[known]), 1)
        right, labelled = int((actual[known] == predicted[known]).sum()), int(known.sum())
        self.judged += 1
        faulty = bool((actual >= alarm).any())
        missed, false = faulty and not summary.alarms, not faulty and summary.alarms > 0
        self.faults += faulty
        self.missed += missed
        self.false += false
        counts = np.array([[right, labelled], [missed, faulty], [false, not faulty]], float)
        self.counts.append((summary.device, counts))

    @property
    def labelled(self) -> int:
        """Number of labelled windows."""
        return int(self.confusion.sum())

    @property
    def right(self) -> float:
        """Share of labelled windows that are predicted as labelled."""
        return float(np.trace(self.confusion) / max(self.labelled, 1))

    @property
    def devices(self) -> int:
        """Number of devices with labelled windows."""
        return len({device for device, _ in self.counts})

    @property
    def right_interval(self) -> Interval:
        """Interval of `right`, over devices; over sessions where there is one device; never over windows."""
        return self._interval(0)

    @property
    def missed_interval(self) -> Interval:
        """Interval of the share of sessions with a fault that have no alarm."""
        return self._interval(1)

    @property
    def false_interval(self) -> Interval:
        """Interval of the share of labelled sessions without a fault that have an alarm."""
        return self._interval(2)

    def _interval(self, row: int) -> Interval:
        """Return a share and its interval.

        Args:
            row: row of the arrays in `counts`.
        """
        groups = resample(np.arange(self.judged), np.array([device for device, _ in self.counts]))
        part, total = np.array([counts[row] for _, counts in self.counts]).T
        sums = (np.bincount(groups.owner, values, groups.groups) for values in (part, total))
        return groups.share(*sums)
