"""Apply a run while sessions are recorded: alarms within a second of the last file, none lost or repeated by a restart.

`windows.csv` is the memory: every predicted window is appended to it and flushed to disk before an alarm that follows
from it is appended to `alarms.csv`. After a restart, events that follow from the windows but are missing among the
alarms are appended; as windows are predicted only once, the events are always the same. A row cut short by a crash is
removed: nothing has followed from it yet.
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
from conveyorguard.data.durations import plain
from conveyorguard.data.live import Follower, follow
from conveyorguard.data.ranges import filled, odd_inputs
from conveyorguard.data.recording_start import START
from conveyorguard.data.reduce import ReducedSession, reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.data.views import bridge_gaps
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.inference.loaded_run import LoadedRun, TooShortError, schema_for
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.alarms import OperatingPoint, silent
from conveyorguard.metrics.memory import LAGS
from conveyorguard.runs.data import conditioned
from conveyorguard.system.files import alone, read_json, write_json
from conveyorguard.system.progress import no_bars

PAUSE = 0.2  # s between two polls of the folder
ALARMS = ("session", "device", "event", "begin", "end", "peak", "windows", "written")


@dataclass
class Ringing:
    """Whether an alarm of a session is on: the hysteresis of `alarms.episodes`, window by window.

    Attributes:
        begin: end of the window at which the alarm began [s]; None while it is off.
        end: end of its latest window [s].
        peak: its largest score.
        windows: number of its windows.
    """

    begin: float | None = None
    end: float = -1.0
    peak: float = 0.0
    windows: int = 0

    def step(
        self, start: float, end: float, score: float, point: OperatingPoint, period: float = 1.0
    ) -> list[dict[str, Any]]:
        """Take the next window and return its events: the end of an alarm, the begin of another, both or none.

        Args:
            start: time of the first row of the window [s].
            end: time of the last row of the window [s].
            score: calibrated probability of a state worth an alarm.
            point: scores at which an alarm begins and ends.
            period: of a row of the data [s].
        """
        events = []
        if self.begin is not None and (score < point.off or silent(self.end, start, end, period)):
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
        assert self.begin is not None
        times = {"begin": plain(self.begin), "end": plain(self.end)}
        return {"event": event, **times, "peak": self.peak, "windows": self.windows}


class AppendedTable:
    """A csv file that is only appended to; opening it removes a last row that a crash cut short.

    Args:
        path: the file; created with a header if it is missing or empty.
        columns: the names in its header.

    Raises:
        RunError: the file has other columns.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns = path, columns
        self.stream = path.open("a+b")
        self.stream.seek(0)
        content = self.stream.read()
        self.stream.truncate(content.rfind(b"\n") + 1)
        if not content.strip():
            self._append([columns])
        elif next(csv.reader(io.StringIO(content.decode("utf-8").partition("\n")[0]))) != list(columns):
            raise RunError(f"{path}: its columns are not those of this run; give another out=DIRECTORY")

    def rows(self) -> list[dict[str, str]]:
        """Return all rows as text, by column."""
        return list(csv.DictReader(io.StringIO(self.path.read_text(encoding="utf-8"))))

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Append rows and flush them to disk."""
        if rows:
            self._append([[row[name] for name in self.columns] for row in rows])

    def _append(self, rows: list) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.stream.write(text.getvalue().encode("utf-8"))  # a single write: complete, or cut short at its end
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self.stream.close()


@dataclass
class Tail:
    """The part of a session that its next windows need.

    Attributes:
        session: its last seconds and, for a model that uses the start of the session, its first.
        last_end: end of the last predicted window [s].
        recent: session, end and p0.. of the last predicted windows, for the memory of the run.
        ringing: whether its alarm is on.
    """

    session: ReducedSession
    last_end: float = -1.0
    recent: list[dict[str, Any]] = field(default_factory=list)
    ringing: Ringing = field(default_factory=Ringing)


class Watch:
    """A run that watches a folder.

    Args:
        loaded: the run.
        follower: what reads the folder.
        schema: the schema by which the data are read.
        folder: where windows.csv, alarms.csv and watch.json are kept between restarts.
    """

    def __init__(self, loaded: LoadedRun, follower: Follower, schema: Schema, folder: Path):
        self.loaded, self.follower, self.schema, self.folder = loaded, follower, schema, folder
        states = range(len(loaded.schema.states))
        columns = ("session", "device", "kind", "start", "end", "state", "y_pred", "score")
        probabilities = (*(f"c{k}" for k in states), *(f"p{k}" for k in states))
        self.windows = AppendedTable(folder / "windows.csv", (*columns, *probabilities))
        self.alarms = AppendedTable(folder / "alarms.csv", ALARMS)
        self.tails: dict[str, Tail] = {}
        self.reported: set[str] = set()
        self._recover()

    def _recover(self) -> None:
        """Continue from the windows written so far, and append events that a crash kept from being written."""
        written = {(row["session"], row["event"], float(row["begin"])) for row in self.alarms.rows()}
        for row in self.windows.rows():
            tail = self.tails.setdefault(row["session"], Tail(ReducedSession(row["session"])))
            tail.last_end = float(row["end"])
            tail.recent = [*tail.recent[-max(LAGS) :], row]
            if not self.loaded.from_start:
                first = round(float(row["start"]) / self.loaded.settings.period)
                self.follower.skip(row["session"], first)  # the next windows are counted from here
            for event in self._events(row, tail):
                if (event["session"], event["event"], event["begin"]) not in written:
                    self.announce([event])

    def _events(self, window: dict[str, Any], tail: Tail) -> list[dict[str, Any]]:
        """Return the events of a window; none if the run has no operating point."""
        if not self.loaded.point:
            return []
        start, end, score = float(window["start"]), float(window["end"]), float(window["score"])
        source = {"session": window["session"], "device": window["device"]}
        return [
            {**source, **event}
            for event in tail.ringing.step(start, end, score, self.loaded.point, self.loaded.settings.period)
        ]

    def announce(self, events: list[dict[str, Any]]) -> None:
        """Append and print the begin or end of alarms.

        Args:
            events: session, device, event ('begin' or 'end'), begin, end, peak and windows of each.
        """
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self.alarms.append([{**event, "written": now} for event in events])
        for e in events:
            where = f"{e['session']} ({e['device']})"
            if e["event"] == "begin":
                print_line(
                    f"ALARM: {where} at {e['end']} s: probability of {self.loaded.schema.alarming} {e['peak']:.1%}"
                )
            else:
                print_line(
                    f"alarm over: {where} from {e['begin']} s to {e['end']} s, largest probability {e['peak']:.1%}"
                )

    def poll(self) -> int:
        """Predict the windows that are complete since the last call, and return their number."""
        count, known = 0, repr(self.follower.known)
        for session in self.follower.poll():
            if repr(self.follower.known) != known:  # before windows are written that depend on it
                self.remember()
                known = repr(self.follower.known)
            count += self._take(session)
        for sentence in self.follower.notices:
            print_line(sentence)
        self.follower.notices.clear()
        return count

    def remember(self) -> None:
        """Save in watch.json what the follower knows about the sessions of the folder."""
        saved = read_json(self.folder / "watch.json")
        write_json(self.folder / "watch.json", {**saved, "known": self.follower.known})

    def _take(self, session: Session) -> int:
        """Add new seconds of a session, predict its new windows, and return their number."""
        new = reduce_session(session, self.schema)
        tail = self.tails.setdefault(session.name, Tail(ReducedSession(session.name)))
        if new.columns is None:
            print_line(f"{session.name}: not predicted: {new.failure.message if new.failure else 'no usable row'}")
            return 0
        earlier = tail.session.columns or {name: values[:0] for name, values in new.columns.items()}
        columns = {name: np.concatenate([earlier[name], values]) for name, values in new.columns.items()}
        for name in ("sensors", "environment"):  # a missing value keeps the last one
            columns[name] = pd.DataFrame(columns[name]).ffill().to_numpy()
        tail.session = replace(new, columns=columns, rows=len(columns["tick"]))
        return self._predict(session.name, tail)

    def _predict(self, name: str, tail: Tail) -> int:
        """Predict a session's new windows and return their number.

        They are appended to windows.csv, their events to alarms.csv; seconds that no later window needs are dropped.
        """
        settings = self.loaded.settings
        store = bridge_gaps(store_in_memory([tail.session], self.schema), settings.max_gap)
        store = conditioned(store, self.loaded.run.settings)
        try:
            windows = self.loaded.windows_of(store)
        except TooShortError:  # so far
            return 0
        new = windows[windows["end"] > tail.last_end].reset_index(drop=True)
        if not len(new):
            return 0
        self._report_odd_inputs(store)
        usable = filled(store, self.loaded.ranges)
        p = predict(self.loaded.model, WindowDataset(usable, new, settings, self.loaded.inputs))
        names_of_p = [f"p{k}" for k in range(p.shape[1])]
        latest = new[["session", "end"]].assign(**dict(zip(names_of_p, p.T, strict=True)))
        tail.recent += [{str(k): v for k, v in row.items()} for row in latest.to_dict("records")]
        recent = pd.DataFrame(tail.recent).astype({"end": float} | dict.fromkeys(names_of_p, np.float32))
        deployed = self.loaded.deployed(recent, recent[names_of_p].to_numpy())[-len(new) :]
        score = deployed[:, self.loaded.schema.alarm :].sum(axis=1)
        names, predicted = self.loaded.schema.state_names, deployed.argmax(axis=1)
        rows = [
            {
                "session": name,
                "device": w.device,
                "kind": w.kind,
                "start": plain(float(new["start"].iloc[i])),
                "end": plain(float(new["end"].iloc[i])),
                "state": names[predicted[i]],
                "y_pred": predicted[i],
                "score": repr(float(score[i])),
                **{f"c{k}": f"{v:.6f}" for k, v in enumerate(deployed[i])},
                **{f"p{k}": repr(float(v)) for k, v in enumerate(p[i])},
            }
            for i, w in enumerate(new.itertuples())
        ]
        self.windows.append(rows)
        tail.last_end = float(new["end"].iloc[-1])
        tail.recent = tail.recent[-max(LAGS) - 1 :]
        self.announce([event for row in rows for event in self._events(row, tail)])
        assert tail.session.columns is not None
        keep = tail.session.columns["tick"] >= round(new["start"].iloc[-1] / settings.period) - settings.max_gap
        if self.loaded.from_start:
            quality = tail.session.columns["quality"]
            keep |= (
                np.min([np.cumsum(quality & flag == 0) for flag in (SENSORS_REPAIRED, THERMAL_REPAIRED)], axis=0)
                <= START
            )
        columns = {name: values[keep] for name, values in tail.session.columns.items()}
        tail.session = replace(tail.session, columns=columns, rows=int(keep.sum()))
        return len(new)

    def _report_odd_inputs(self, store: Store) -> None:
        """Print each kind of oddity once per session and channel."""
        for name, sentences in odd_inputs(store, self.loaded.ranges).items():
            for sentence in sentences:
                key = f"{name}: {' '.join(sentence.split()[:3])}"  # the channel and what is odd, without figures
                if key not in self.reported:
                    self.reported.add(key)
                    print_line(f"unlike the training: {name}: {sentence}")

    def close(self) -> None:
        """Close both tables."""
        self.windows.close()
        self.alarms.close()


def print_line(sentence: str) -> None:
    """Print a line with the time of day, at once."""
    print(f"{datetime.now():%H:%M:%S} {sentence}", flush=True)


def watch(loaded: LoadedRun, data: Mapping[str, Any], folder: Path) -> None:
    """Follow the folder `data.root` until Ctrl-C.

    Args:
        loaded: the run.
        data: the `data` block of a config as plain values.
        folder: where windows.csv, alarms.csv and watch.json are written; with the same folder a watch continues.

    Raises:
        ConfigError: the data cannot be followed, or the folder belongs to another watch.
        DataError: the data do not have the inputs, states or period that the run was trained on.
        RunError: another process watches into the folder.
    """
    schema, root = schema_for(loaded, data), Path(data["root"])
    identity = {"run": loaded.run.folder.resolve().name, "root": str(root.resolve())}
    with alone(folder), no_bars():
        path = folder / "watch.json"
        saved: dict[str, Any] = read_json(path) if path.exists() else {**identity, "known": {}}
        if other := {key: saved[key] for key in identity if saved[key] != identity[key]}:
            described = ", ".join(f"{key} {value}" for key, value in other.items())
            raise ConfigError(f"{folder}: belongs to a watch of {described}; give another out=DIRECTORY")
        follower = follow(build(data["reader"], _partial_=True), root, schema, saved["known"])
        write_json(path, saved)
        watching = Watch(loaded, follower, schema, folder)
        print_line(f"watching {root}; alarms go to {folder / 'alarms.csv'}; Ctrl-C stops, the same command continues")
        if not loaded.point:
            print_line(
                "no alarms: the run has no operating point, because its validation part had no fault; states are in "
                "windows.csv"
            )
        for number in (signal.SIGTERM, signal.SIGINT):  # a shell makes background processes ignore SIGINT
            signal.signal(number, signal.default_int_handler)
        try:
            while True:
                began = time.monotonic()
                watching.poll()
                time.sleep(max(PAUSE - (time.monotonic() - began), 0.01))
        except KeyboardInterrupt:
            print_line("stopped")
        finally:
            watching.close()
