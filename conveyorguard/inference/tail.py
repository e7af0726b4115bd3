"""What a watch keeps of a session between two polls: its last rows and windows, and whether its alarm is on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from conveyorguard.data.durations import plain
from conveyorguard.data.reduce import ReducedSession
from conveyorguard.metrics.alarms import OperatingPoint, silent
from conveyorguard.metrics.memory import LAGS

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
        if self.begin is not None and (score < point.off or silent(self.end, start, end, period)):
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
    """

    session: ReducedSession
    start: float = -1.0
    end: float = -1.0
    recent: list[list[float]] = field(default_factory=list)
    ringing: Ringing = field(default_factory=Ringing)
    seen: float = 0.0

    def took(self, windows: list[dict[str, Any]], states: int) -> None:
        """Take note of predicted windows, given as rows of windows.csv."""
        last = windows[-1]
        self.start, self.end, self.seen = float(last["start"]), float(last["end"]), time.time()
        probabilities = [[float(w["end"]), *(float(w[f"p{k}"]) for k in range(states))] for w in windows]
        self.recent = [*self.recent, *probabilities][-max(LAGS) - 1 :]

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        recent = self.recent if time.time() - self.seen < FORGOTTEN else []
        return {
            "start": self.start,
            "end": self.end,
            "recent": recent,
            "ringing": asdict(self.ringing),
            "seen": self.seen,
        }
