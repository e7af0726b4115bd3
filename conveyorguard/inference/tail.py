"""What a watch keeps of a session between two polls: its last rows and windows, and whether its alarm is on."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.durations import plain
from conveyorguard.data.reduce import ReducedSession
from conveyorguard.metrics.alarms import OperatingPoint, follows_gap
from conveyorguard.metrics.memory import LAGS

HELD = ("sensors", "environment")  # groups of channels in which a missing value keeps the last one
FORGOTTEN = 86_400.0  # s without a window, after which a checkpoint no longer keeps what a session's memory needs


@dataclass
class Ringing:
    """Whether an alarm of a session is on: the hysteresis of `alarms.episodes`, window by window.

    Attributes:
        begin: end of the window at which the alarm began [s]; None while it is off.
        end: end of its latest window [s].
        peak: its largest score.
        windows: number of its windows.
        begin_time, end_time: clock times of begin and end; empty where the data have none.
    """

    begin: float | None = None
    end: float = -1.0
    peak: float = 0.0
    windows: int = 0
    begin_time: str = ""
    end_time: str = ""

    def step(
        self, start: float, end: float, score: float, point: OperatingPoint, period: float = 1.0, clock: str = ""
    ) -> list[dict[str, Any]]:
        """Take the next window and return its events: the end of an alarm, the begin of another, both or none.

        Args:
            start: time of the first row of the window [s].
            end: time of the last row of the window [s].
            score: calibrated probability of a state worth an alarm.
            point: scores at which an alarm begins and ends.
            period: of a row of the data [s].
            clock: clock time of the last row of the window; empty where the data have none.
        """
        events = []
        if self.begin is not None and (score < point.off or follows_gap(self.end, start, end, period)):
            events.append(self._event("end"))
            self.begin = None
        if self.begin is None:
            if score >= point.on:
                self.begin, self.end, self.peak, self.windows = end, end, score, 1
                self.begin_time = self.end_time = clock
                events.append(self._event("begin"))
        else:
            self.end, self.peak, self.windows = end, max(self.peak, score), self.windows + 1
            self.end_time = clock
        return events

    def _event(self, event: str) -> dict[str, Any]:
        assert self.begin is not None
        times: dict[str, Any] = {"begin_time": self.begin_time, "end_time": self.end_time}
        times |= {"begin": plain(self.begin), "end": plain(self.end)}
        return {"event": event, **times, "peak": self.peak, "windows": self.windows}


@dataclass
class Tail:
    """The part of a session that its next windows need.

    Attributes:
        session: its last seconds and, for a model that uses the start of the session, its first.
        start: of the last predicted window [s]; -1 before the first.
        end: of the last predicted window [s].
        recent: end [s] and p0, p1, ... of the last predicted windows, for the memory of the run.
        ringing: whether its alarm is on.
        seen: when its last window was predicted [s since 1970].
        first: row of the data from which a restart reads; 0 where the checkpoint does not know the session.
        held: values of each group of channels at that row, None where none has come; what is missing there holds them.
    """

    session: ReducedSession
    start: float = -1.0
    end: float = -1.0
    recent: list[list[float]] = field(default_factory=list)
    ringing: Ringing = field(default_factory=Ringing)
    seen: float = 0.0
    first: int = 0
    held: dict[str, list[float | None]] = field(default_factory=dict)

    def add(self, new: ReducedSession) -> None:
        """Add rows; a missing value keeps the last one."""
        assert new.columns is not None
        columns = dict(new.columns)
        if self.session.columns is not None:
            columns = {name: np.concatenate([self.session.columns[name], rows]) for name, rows in columns.items()}
        for group in HELD:
            values = np.array(columns[group])
            if self.session.columns is None and group in self.held:  # after a restart
                values[0] = np.where(np.isnan(values[0]), np.array(self.held[group], values.dtype), values[0])
            columns[group] = pd.DataFrame(values).ffill().to_numpy()
        self.session = replace(new, columns=columns, rows=len(columns["tick"]))

    def took(self, windows: list[dict[str, Any]], states: int) -> None:
        """Record predicted windows, rows of windows.csv, as the last ones."""
        last = windows[-1]
        self.start, self.end, self.seen = float(last["start"]), float(last["end"]), time.time()
        probabilities = [[float(w["end"]), *(float(w[f"p{k}"]) for k in range(states))] for w in windows]
        self.recent = [*self.recent, *probabilities][-max(LAGS) - 1 :]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that checkpoint.json keeps of the session."""
        recent = self.recent if time.time() - self.seen < FORGOTTEN else []
        columns, first, held = self.session.columns, self.first, self.held
        if columns is not None and len(columns["tick"]):
            rows = {group: columns[group][0].tolist() for group in HELD}
            held = {group: [None if math.isnan(value) else value for value in row] for group, row in rows.items()}
            first = int(columns["tick"][0])
        return {
            "start": self.start,
            "end": self.end,
            "recent": recent,
            "ringing": asdict(self.ringing),
            "seen": self.seen,
            "first": first,
            "held": held,
        }
