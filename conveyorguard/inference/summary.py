"""Summaries of the sessions that a run was applied to: a line for each, and totals over all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.metrics.intervals import FEWEST_DEVICES, FEWEST_SESSIONS, Interval
from conveyorguard.metrics.notation import Notation
from conveyorguard.metrics.resampling import resample

SHARE = Notation(".1%")


@dataclass
class RecordingSummary:
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

    @classmethod
    def of(cls, states: int) -> PredictionTotals:
        """Return empty totals.

        Args:
            states: number of states, K.
        """
        return cls(confusion=np.zeros((states, states), int))

    def add(
        self, summary: RecordingSummary, windows: pd.DataFrame | None, seconds: pd.DataFrame | None, alarm: int
    ) -> None:
        """Count a session.

        Args:
            summary: its line.
            windows: its windows, as in `Predicted`; None if it was not predicted.
            seconds: its seconds, as in `Predicted`; None if it was not predicted.
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

    def _judge(self, summary: RecordingSummary, actual: np.ndarray, predicted: np.ndarray, alarm: int) -> None:
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


OVER_DEVICES = "; intervals are over devices, which are taken as independent"
OVER_SESSIONS = "; intervals are over sessions of the one device, which are taken as independent"
NO_INTERVALS = (
    f"; too few were labelled for intervals, which need {FEWEST_SESSIONS} sessions, and {FEWEST_DEVICES} devices where "
    "there are several"
)


def labelled_sentence(totals: PredictionTotals, schema: Schema) -> str:
    """Return a sentence on how predictions and alarms agree with the labels.

    Args:
        totals: counts, of at least one labelled window.
        schema: the states, and the lowest one worth an alarm.
    """
    sentence = (
        f"{totals.right:.1%}{_bounds(totals.right_interval)} of {totals.labelled:,} labelled windows are predicted "
        "correctly"
    )
    name = schema.states[schema.alarm].name
    if totals.faults:
        bounds = _bounds(totals.missed_interval)
        sentence += f"; {totals.missed} of {totals.faults}{bounds} sessions that reach {name} have no alarm"
    if totals.false:
        bounds = _bounds(totals.false_interval)
        healthy = totals.judged - totals.faults
        sentence += f"; {totals.false} of {healthy}{bounds} sessions that do not reach {name} have an alarm"
    if "95 %" not in sentence:
        return sentence + NO_INTERVALS
    return sentence + (OVER_DEVICES if totals.devices > 1 else OVER_SESSIONS)


def _bounds(share: Interval) -> str:
    """Return the bounds of an interval in parentheses, or nothing if it has none."""
    bounds = SHARE.range(share)
    return f" (95 %: {bounds})" if bounds else ""
