"""What is told of the recordings that a run was applied to: a line each, and what they come to together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import norm

from conveyorguard.data.schema import Schema
from conveyorguard.evaluation.bootstrap import FEWEST_SESSIONS, LEVEL, Interval, exact


@dataclass
class Told:
    """One recording, as recordings.csv and the page tell it. Times in s since the recording began."""

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
class Totals:
    """What all recordings come to."""

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
    squares: np.ndarray = field(
        default_factory=lambda: np.zeros(3)
    )  # sums over them: right^2, right x windows, windows^2
    faults: int = 0  # recordings labelled with a state worth an alarm
    missed: int = 0  # of these, without an alarm
    false: int = 0  # labelled recordings without such a state, with an alarm

    @classmethod
    def of(cls, states: int) -> Totals:
        return cls(confusion=np.zeros((states, states), int))

    def add(self, told: Told, windows: pd.DataFrame | None, seconds: pd.DataFrame | None, alarm: int) -> None:
        """Count a recording.

        Args:
            windows, seconds: its tables, as in `Predicted`; None where it could not be predicted.
            alarm: the lowest state worth an alarm.
        """
        self.recordings += 1
        if windows is None or seconds is None:
            self.unpredicted += 1
            return
        self.windows += told.windows
        self.seconds.update(seconds["state"].tolist())
        self.alarms += told.alarms
        self.with_alarm += told.alarms > 0
        self.reached += bool((seconds["y_pred"] >= alarm).any())
        self.unlike += bool(told.unlike_training)
        actual, guess = windows["y_true"].to_numpy(), windows["y_pred"].to_numpy()
        known = actual >= 0
        np.add.at(self.confusion, (actual[known], guess[known]), 1)
        if known.any():
            right, of = int((actual[known] == guess[known]).sum()), int(known.sum())
            self.judged += 1
            self.squares += (right**2, right * of, of**2)
            faulty = bool((actual >= alarm).any())
            self.faults += faulty
            self.missed += faulty and not told.alarms
            self.false += not faulty and told.alarms > 0

    @property
    def labelled(self) -> int:
        return int(self.confusion.sum())

    @property
    def right(self) -> float:
        return float(np.trace(self.confusion) / max(self.labelled, 1))

    @property
    def right_interval(self) -> Interval:
        """The share of right windows; recordings, not windows, are drawn (ratio estimator: Cochran, 1977, section 6.3)."""
        n, windows, share = self.judged, self.labelled, self.right
        if share in (0.0, 1.0):
            return exact(share, n)
        if n < FEWEST_SESSIONS:
            return Interval(share, np.nan, np.nan)
        squares = self.squares[0] - 2 * share * self.squares[1] + share**2 * self.squares[2]
        half = float(norm.ppf((1 + LEVEL) / 2) * np.sqrt(max(squares, 0.0) * n / (n - 1)) / windows)
        return Interval(share, max(0.0, share - half), min(1.0, share + half))


INDEPENDENT = "; intervals take recordings for independent of each other, which several of one device are not quite"


def labelled_sentence(totals: Totals, schema: Schema) -> str:
    """How the prediction agrees with the labels, where there are any."""
    said = f"{totals.right:.1%}{_bounds(totals.right_interval)} of {totals.labelled:,} labelled windows are predicted as they are labelled"
    if totals.faults:
        name = schema.states[schema.alarm].name
        share = exact(totals.missed / totals.faults, totals.faults)
        said += f"; {totals.missed} of {totals.faults}{_bounds(share)} recordings that reach {name} have no alarm"
    if totals.false:
        healthy = totals.judged - totals.faults
        share = exact(totals.false / healthy, healthy)
        said += f"; {totals.false} of {healthy}{_bounds(share)} recordings that do not reach it have one"
    return said + (INDEPENDENT if "95 %" in said else "")


def _bounds(share: Interval) -> str:
    return f" (95 %: {share.low:.1%} to {share.high:.1%})" if np.isfinite(share.low) else ""
