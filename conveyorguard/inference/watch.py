"""A run applied while recordings are written: alarms within a second of the last file, none lost or repeated by a
restart.

`windows.csv` is the memory: every judged window is appended to it, and is on the disk before an alarm that follows from
it is appended to `alarms.csv`. After a restart whatever follows from the windows and is not among the alarms is
appended; windows are judged once, so they cannot come out otherwise. Of a row cut short by a crash nothing has
followed: it is removed.
"""

from __future__ import annotations

import csv
import io
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.config.compose import build
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.live import Follower, follow
from conveyorguard.data.ranges import filled, odd_inputs
from conveyorguard.data.recording_start import START
from conveyorguard.data.reduce import ReducedSession, reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.data.windows import make_windows
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.inference.loaded_run import LoadedRun, schema_for
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.alarms import OperatingPoint, silent
from conveyorguard.metrics.calibration import scale
from conveyorguard.runs.data import conditioned
from conveyorguard.system.files import alone, read_json, write_json
from conveyorguard.system.progress import no_bars

PAUSE = 0.2  # s between two looks at the folder
ALARMS = ("session", "device", "event", "begin", "end", "peak", "windows", "written")


@dataclass
class Ringing:
    """Whether a recording's alarm is on: the hysteresis of `alarms.episodes`, window by window.

    Times in s, stamped at the end of a window.
    """

    begin: int | None = None
    end: int = -1
    peak: float = 0.0
    windows: int = 0

    def step(self, start: int, end: int, score: float, point: OperatingPoint) -> list[dict[str, Any]]:
        """Take the next window; returns the events that it is: an alarm has ended, one begins."""
        events = []
        if self.begin is not None and (score < point.off or silent(self.end, start, end)):
            events.append(self._event("end"))
            self.begin = None
        if self.begin is None:
            if score >= point.on:
                self.begin, self.end, self.peak, self.windows = end, end, score, 1
                events.append(self._event("begin"))
        else:
            self.end, self.peak, self.windows = end, max(self.peak, score), self.windows + 1
        return events

    def _event(self, event: str) -> dict[str, Any]:
        return {"event": event, "begin": self.begin, "end": self.end, "peak": self.peak, "windows": self.windows}


class AppendedTable:
    """A csv file that is only appended to; a row that a crash cut short is removed when it is opened."""

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns = path, columns
        self.stream = path.open("a+b")
        self.stream.seek(0)
        content = self.stream.read()
        self.stream.truncate(content.rfind(b"\n") + 1)
        if not content.strip():
            self._append([columns])
        elif next(csv.reader(io.StringIO(content.decode("utf-8").partition("\n")[0]))) != list(columns):
            raise RunError(f"{path}: has other columns than this run writes; give another out=DIRECTORY")

    def rows(self) -> list[dict[str, str]]:
        """All rows as text."""
        return list(csv.DictReader(io.StringIO(self.path.read_text(encoding="utf-8"))))

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Append rows; they are on the disk when this returns."""
        if rows:
            self._append([[row[name] for name in self.columns] for row in rows])

    def _append(self, rows: list) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.stream.write(text.getvalue().encode("utf-8"))  # one write: whole, or cut short at its end
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def close(self) -> None:
        self.stream.close()


@dataclass
class Tail:
    """What of a recording its next windows need: its last seconds and, for features from the start, its first."""

    session: ReducedSession
    last_end: int = -1
    ringing: Ringing = field(default_factory=Ringing)


class Watch:
    """A run watching a folder.

    Args:
        folder: where windows.csv, alarms.csv and watch.json are kept between restarts.
    """

    def __init__(self, loaded: LoadedRun, follower: Follower, schema: Schema, folder: Path):
        self.loaded, self.follower, self.schema, self.folder = loaded, follower, schema, folder
        states = range(len(loaded.schema.states))
        columns = ("session", "device", "kind", "start", "end", "state", "y_pred", "score", *(f"c{k}" for k in states))
        self.windows = AppendedTable(folder / "windows.csv", columns)
        self.alarms = AppendedTable(folder / "alarms.csv", ALARMS)
        self.tails: dict[str, Tail] = {}
        self.told: set[str] = set()
        self._recover()

    def _recover(self) -> None:
        """Go on from what is written, and append what should have been."""
        written = {(row["session"], row["event"], int(row["begin"])) for row in self.alarms.rows()}
        for row in self.windows.rows():
            tail = self.tails.setdefault(row["session"], Tail(ReducedSession(row["session"])))
            tail.last_end = int(row["end"])
            if not self.loaded.from_start:
                self.follower.skip(row["session"], int(row["start"]))  # where the next window's place is counted from
            for event in self._events(row, tail):
                if (event["session"], event["event"], event["begin"]) not in written:
                    self.announce([event])

    def _events(self, window: dict[str, Any], tail: Tail) -> list[dict[str, Any]]:
        if not self.loaded.point:
            return []
        start, end, score = int(window["start"]), int(window["end"]), float(window["score"])
        whose = {"session": window["session"], "device": window["device"]}
        return [{**whose, **event} for event in tail.ringing.step(start, end, score, self.loaded.point)]

    def announce(self, events: list[dict[str, Any]]) -> None:
        """Append and print alarms that begin or end."""
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self.alarms.append([{**event, "written": now} for event in events])
        for e in events:
            said = (
                f"probability of {self.loaded.schema.alarming} {e['peak']:.1%}"
                if e["event"] == "begin"
                else (f"it lasted from second {e['begin']} to {e['end']}, up to {e['peak']:.1%}")
            )
            what = "ALARM" if e["event"] == "begin" else "over"
            say(f"{what}: {e['session']} ({e['device']}) at second {e['end']}: {said}")

    def poll(self) -> int:
        """Judge what is new; returns the number of windows."""
        count, known = 0, repr(self.follower.known)
        for session in self.follower.poll():
            if repr(self.follower.known) != known:  # a recording's clock, before anything is judged by it
                self.remember()
                known = repr(self.follower.known)
            count += self._take(session)
        for sentence in self.follower.notices:
            say(sentence)
        self.follower.notices.clear()
        return count

    def remember(self) -> None:
        """Keep what tells the recordings of the folder apart."""
        saved = read_json(self.folder / "watch.json")
        write_json(self.folder / "watch.json", {**saved, "known": self.follower.known})

    def _take(self, session: Session) -> int:
        """New seconds of a recording."""
        new = reduce_session(session, self.schema)
        tail = self.tails.setdefault(session.name, Tail(ReducedSession(session.name)))
        if new.columns is None:
            say(f"{session.name}: {new.failure.message if new.failure else 'nothing usable'}")
            return 0
        earlier = tail.session.columns or {name: values[:0] for name, values in new.columns.items()}
        columns = {name: np.concatenate([earlier[name], values]) for name, values in new.columns.items()}
        for name in ("sensors", "environment"):  # what is missing now is what it was last
            columns[name] = pd.DataFrame(columns[name]).ffill().to_numpy()
        tail.session = replace(new, columns=columns, rows=len(columns["tick"]))
        return self._judge(session.name, tail)

    def _judge(self, name: str, tail: Tail) -> int:
        store = conditioned(store_in_memory([tail.session], self.schema), self.loaded.run.settings)
        try:
            windows = make_windows(store, self.loaded.settings, labelled=False)
        except ConfigError:  # too short yet
            return 0
        new = windows[windows["end"] > tail.last_end].reset_index(drop=True)
        if not len(new):
            return 0
        self._tell_what_is_odd(store)
        usable = filled(store, self.loaded.ranges)
        p = predict(self.loaded.model, WindowDataset(usable, new, self.loaded.settings, self.loaded.inputs))
        calibrated = scale(p.astype(np.float64), self.loaded.temperature)
        score = calibrated[:, self.loaded.schema.alarm :].sum(axis=1)
        names, guess = self.loaded.schema.state_names, p.argmax(axis=1)
        rows = [
            {
                "session": name,
                "device": w.device,
                "kind": w.kind,
                "start": w.start,
                "end": w.end,
                "state": names[guess[i]],
                "y_pred": guess[i],
                "score": repr(float(score[i])),
                **{f"c{k}": f"{v:.6f}" for k, v in enumerate(calibrated[i])},
            }
            for i, w in enumerate(new.itertuples())
        ]
        self.windows.append(rows)
        tail.last_end = int(new["end"].iloc[-1])
        self.announce([event for row in rows for event in self._events(row, tail)])
        assert tail.session.columns is not None
        keep = tail.session.columns["tick"] >= new["start"].iloc[-1]
        if self.loaded.from_start:
            quality = tail.session.columns["quality"]
            keep |= (
                np.min([np.cumsum(quality & flag == 0) for flag in (SENSORS_REPAIRED, THERMAL_REPAIRED)], axis=0)
                <= START
            )
        columns = {name: values[keep] for name, values in tail.session.columns.items()}
        tail.session = replace(tail.session, columns=columns, rows=int(keep.sum()))
        return len(new)

    def _tell_what_is_odd(self, store: Store) -> None:
        """Say once of each recording and channel that it is unlike the training."""
        for name, sentences in odd_inputs(store, self.loaded.ranges).items():
            for sentence in sentences:
                what = f"{name}: {' '.join(sentence.split()[:3])}"
                if what not in self.told:
                    self.told.add(what)
                    say(f"unlike the training: {name}: {sentence}")

    def close(self) -> None:
        self.windows.close()
        self.alarms.close()


def say(sentence: str) -> None:
    """A line with the time, at once."""
    print(f"{datetime.now():%H:%M:%S} {sentence}", flush=True)


def watch(loaded: LoadedRun, data: Mapping[str, Any], folder: Path) -> None:
    """Follow the folder `data.root` until Ctrl-C.

    Args:
        data: the `data` block of a config as plain values.
        folder: where it is written what has been judged; the same folder goes on where it was.

    Raises:
        ConfigError: the data cannot be followed, or the folder belongs to another watch.
        RunError: another process watches into the folder.
    """
    schema, root = schema_for(loaded, data), Path(data["root"])
    own = {"run": loaded.run.folder.resolve().name, "root": str(root.resolve())}
    with alone(folder), no_bars():
        path = folder / "watch.json"
        saved: dict[str, Any] = read_json(path) if path.exists() else {**own, "known": {}}
        if other := {key: saved[key] for key in own if saved[key] != own[key]}:
            raise ConfigError(f"{folder}: belongs to a watch of {other}; give another out=DIRECTORY")
        follower = follow(build(data["reader"], _partial_=True), root, schema, saved["known"])
        write_json(path, saved)
        watching = Watch(loaded, follower, schema, folder)
        say(f"watching {root}; alarms are appended to {folder / 'alarms.csv'}; Ctrl-C stops, the same command goes on")
        if not loaded.point:
            say(
                "no alarms: the run has no operating point (no fault recording in its validation part); states are "
                "in windows.csv"
            )
        for wish in (signal.SIGTERM, signal.SIGINT):  # a shell starts what runs in the background deaf to Ctrl-C
            signal.signal(wish, signal.default_int_handler)
        try:
            while True:
                began = time.monotonic()
                watching.poll()
                time.sleep(max(PAUSE - (time.monotonic() - began), 0.01))
        except KeyboardInterrupt:
            say("stopped")
        finally:
            watching.close()
