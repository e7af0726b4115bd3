"""Summaries of the recordings that a run was applied to: a line each, and the totals over all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import norm

from conveyorguard.data.schema import Schema
from conveyorguard.metrics.bootstrap import FEWEST_DEVICES, FEWEST_SESSIONS, LEVEL, NONE, Interval, exact
from conveyorguard.metrics.notation import Notation

SHARE = Notation(".1%")


@dataclass
class RecordingSummary:
    """A recording, as a row of recordings.csv and of the page. Times in s since the recording began."""

    session: str
    device: str = ""
    kind: str = ""
    seconds: int = 0
    windows: int = 0
    state_at_end: str = ""
    worst_state: str = ""
    alarms: int = 0
    first_alarm: int | None = None
    unlike_training: str = ""
    noticed: str = ""  # while it was read, or why it was not

    @property
    def predicted(self) -> bool:
        return self.windows > 0


@dataclass
class PredictionTotals:
    """Counts over all recordings."""

    recordings: int = 0
    unpredicted: int = 0
    windows: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    alarms: int = 0
    with_alarm: int = 0
    reached: int = 0  # recordings with a second in a state worth an alarm
    unlike: int = 0
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), int))  # labelled windows: actual, predicted
    judged: int = 0  # recordings with labelled windows
    # sums over judged recordings: right^2, right x windows, windows^2
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3))
    # of each device right windows, missed faults, false alarms, and what they are of, (3, 2)
    by_device: dict[str, np.ndarray] = field(default_factory=dict)
    faults: int = 0  # recordings labelled with a state worth an alarm
    missed: int = 0  # of these, without an alarm
    false: int = 0  # labelled recordings without such a state, with an alarm

    @classmethod
    def of(cls, states: int) -> PredictionTotals:
        return cls(confusion=np.zeros((states, states), int))

    def add(
        self, summary: RecordingSummary, windows: pd.DataFrame | None, seconds: pd.DataFrame | None, alarm: int
    ) -> None:
        """Count a recording.

        Args:
            windows, seconds: its tables, as in `Predicted`; None where it could not be predicted.
            alarm: the lowest state worth an alarm.
        """
        self.recordings += 1
        if windows is None or seconds is None:
            self.unpredicted += 1
            return
        self.windows += summary.windows
        self.seconds.update(seconds["state"].tolist())
        self.alarms += summary.alarms
        self.with_alarm += summary.alarms > 0
        self.reached += bool((seconds["y_pred"] >= alarm).any())
        self.unlike += bool(summary.unlike_training)
        self._judge(summary, windows["y_true"].to_numpy(), windows["y_pred"].to_numpy(), alarm)

    def _judge(self, summary: RecordingSummary, actual: np.ndarray, predicted: np.ndarray, alarm: int) -> None:
        """Count the labelled windows of a recording, (n,); those without a label have the actual state -1."""
        known = actual >= 0
        if not known.any():
            return
        np.add.at(self.confusion, (actual[known], predicted[known]), 1)
        right, of = int((actual[known] == predicted[known]).sum()), int(known.sum())
        self.judged += 1
        self.squares += (right**2, right * of, of**2)
        faulty = bool((actual >= alarm).any())
        missed, false = faulty and not summary.alarms, not faulty and summary.alarms > 0
        self.faults += faulty
        self.missed += missed
        self.false += false
        counts = self.by_device.setdefault(summary.device, np.zeros((3, 2)))
        counts += [[right, of], [missed, faulty], [false, not faulty]]

    @property
    def labelled(self) -> int:
        return int(self.confusion.sum())

    @property
    def right(self) -> float:
        return float(np.trace(self.confusion) / max(self.labelled, 1))

    @property
    def clustered(self) -> bool:
        """Whether intervals are of devices: where there are enough of them."""
        return len(self.by_device) >= FEWEST_DEVICES

    @property
    def right_interval(self) -> Interval:
        """The share of right windows; devices, or recordings where devices are too few, are drawn, not windows."""
        if self.clustered:
            return self._of_devices(0)
        return _ratio(self.right, self.labelled, self.judged, self.squares)

    @property
    def missed_interval(self) -> Interval:
        """The share of the fault recordings that have no alarm."""
        return self._of_devices(1) if self.clustered else exact(self.missed / self.faults, self.faults)

    @property
    def false_interval(self) -> Interval:
        """The share of the other recordings that have one."""
        healthy = self.judged - self.faults
        return self._of_devices(2) if self.clustered else exact(self.false / healthy, healthy)

    def _of_devices(self, share: int) -> Interval:
        count, of = np.array([counts[share] for counts in self.by_device.values()]).T
        count, of = count[of > 0], of[of > 0]
        return _ratio(count.sum() / of.sum(), of.sum(), len(of), np.array([count @ count, count @ of, of @ of]))


def _ratio(share: float, of: float, units: int, squares: np.ndarray) -> Interval:
    """A share of so many with its interval, units drawn (ratio estimator: Cochran, 1977, section 6.3); the exact one of
    so many units where all have the same share, as of all or none, or they are too few.

    Args:
        squares: sums over the units of count^2, count x of, of^2.
    """
    if units < FEWEST_SESSIONS or share in (0.0, 1.0):
        return exact(share, units)
    spread = max(squares[0] - 2 * share * squares[1] + share**2 * squares[2], 0.0)
    half = float(norm.ppf((1 + LEVEL) / 2) * np.sqrt(spread * units / (units - 1)) / of)
    if half < NONE:
        return exact(share, units)
    return Interval(share, max(0.0, share - half), min(1.0, share + half))


CLUSTERED = "; intervals take devices for independent of each other, not their recordings"
INDEPENDENT = (
    "; intervals take recordings for independent of each other, which several of one device are not "
    f"quite: devices are fewer than {FEWEST_DEVICES}"
)


def labelled_sentence(totals: PredictionTotals, schema: Schema) -> str:
    """How the prediction agrees with the labels, where there are any."""
    sentence = (
        f"{totals.right:.1%}{_bounds(totals.right_interval)} of {totals.labelled:,} labelled windows are "
        "predicted as they are labelled"
    )
    if totals.faults:
        name = schema.states[schema.alarm].name
        share = totals.missed_interval
        sentence += f"; {totals.missed} of {totals.faults}{_bounds(share)} recordings that reach {name} have no alarm"
    if totals.false:
        healthy = totals.judged - totals.faults
        share = totals.false_interval
        sentence += f"; {totals.false} of {healthy}{_bounds(share)} recordings that do not reach it have one"
    return sentence + ((CLUSTERED if totals.clustered else INDEPENDENT) if "95 %" in sentence else "")


def _bounds(share: Interval) -> str:
    bounds = SHARE.range(share)
    return f" (95 %: {bounds})" if bounds else ""
