"""Apply a run while sessions are recorded: alarms within a second of the last file, none lost or repeated by a restart.

Every predicted window is appended to `windows.csv` and flushed to disk before an alarm that follows from it is
appended to `alarms.csv`. `checkpoint.json` holds what is known of each session at a size of both files. A restart takes
up the checkpoint, goes through the windows after it, and appends events that follow from them but are missing among
the alarms; as windows are predicted only once, the events are always the same. A row cut short by a crash is removed:
nothing has followed from it yet.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.config.compose import build
from conveyorguard.data.durations import plain
from conveyorguard.data.live import Follower, follow
from conveyorguard.data.ranges import odd_inputs
from conveyorguard.data.recording_start import START
from conveyorguard.data.reduce import ReducedSession, reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.data.views import bridge_gaps
from conveyorguard.errors import ConfigError
from conveyorguard.inference.data_schema import schema_for
from conveyorguard.inference.journal import DISK, AppendedTable, WindowJournal, bytes_of, text_of_bytes
from conveyorguard.inference.loaded_run import LoadedRun, TooShortError
from conveyorguard.inference.tail import Ringing, Tail
from conveyorguard.metrics.memory import runs_of
from conveyorguard.system.files import locked, read_json, replacing, write_json
from conveyorguard.system.progress import no_bars

PAUSE = 0.2  # s between two polls of the folder
BETWEEN_CHECKPOINTS = 60.0  # s; a restart goes through as much of windows.csv again
ALARMS = ("session", "device", "event", "begin_time", "end_time", "begin", "end", "peak", "windows", "written")


class Watch:
    """A run that watches a folder.

    Args:
        loaded: the run.
        follower: what reads the folder.
        schema: the schema by which the data are read.
        folder: where windows.csv, alarms.csv, checkpoint.json and watch.json are kept between restarts.
        disk: bytes of the files of windows, above which the oldest are removed.
    """

    def __init__(self, loaded: LoadedRun, follower: Follower, schema: Schema, folder: Path, disk: int = bytes_of(DISK)):
        self.loaded, self.follower, self.schema, self.folder = loaded, follower, schema, folder
        self.states = len(loaded.schema.states)
        columns = (
            *("session", "device", "kind", "start_time", "end_time", "start", "end"),
            *("state", "y_pred", "score"),
        )
        probabilities = (*(f"c{k}" for k in range(self.states)), *(f"p{k}" for k in range(self.states)))
        self.windows = WindowJournal(folder / "windows.csv", (*columns, *probabilities), disk)
        self.alarms = AppendedTable(folder / "alarms.csv", ALARMS)
        self.tails: dict[str, Tail] = {}
        self.reported: set[str] = set()
        self.saved = time.monotonic()
        self._recover()

    def _recover(self) -> None:
        """Continue from the checkpoint and the windows after it; append events that a crash kept from being written."""
        path = self.folder / "checkpoint.json"
        saved: dict[str, Any] = {"windows": 0, "alarms": 0, "day": self.windows.day}
        if path.exists():
            saved = read_json(path)
        self.windows.day = saved["day"]
        for name, facts in saved.get("sessions", {}).items():
            ringing = Ringing(**facts.pop("ringing"))
            self.tails[name] = Tail(ReducedSession(name), ringing=ringing, **facts)
        written = {(row["session"], row["event"], float(row["begin"])) for row in self.alarms.rows(saved["alarms"])}
        for row in self.windows.rows(saved["windows"]):
            tail = self.tails.setdefault(row["session"], Tail(ReducedSession(row["session"])))
            tail.took([row], self.states)
            for event in self._events(row, tail):
                if (event["session"], event["event"], event["begin"]) not in written:
                    self.announce([event])
        if not self.loaded.from_start:
            for name, tail in self.tails.items():
                self.follower.skip(name, tail.first)
        self.save()

    def save(self) -> None:
        """Write the checkpoint; only between two polls, when all events of the windows are written."""
        sessions = {name: tail.to_dict() for name, tail in self.tails.items() if tail.start >= 0}
        sizes = {"windows": self.windows.size, "alarms": self.alarms.size}
        with replacing(self.folder / "checkpoint.json") as path, path.open("w", encoding="utf-8") as stream:
            json.dump({**sizes, "day": self.windows.day, "sessions": sessions}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        self.saved = time.monotonic()

    def _close_file(self) -> None:
        """Begin a new windows.csv, and remove the oldest files above the cap."""
        self.save()  # after a crash between the two, the new file is smaller than the size in this checkpoint
        self.windows.rotate()
        self.save()
        for path in self.windows.remove_oldest():
            cap = text_of_bytes(self.windows.disk)
            print_line(f"removed {path.name}: the windows take more than {cap} (disk={cap})")

    def _events(self, window: dict[str, Any], tail: Tail) -> list[dict[str, Any]]:
        """Return the events of a window; none if the run has no operating point."""
        if not self.loaded.point:
            return []
        start, end, score = float(window["start"]), float(window["end"]), float(window["score"])
        source = {"session": window["session"], "device": window["device"]}
        return [
            {**source, **event}
            for event in tail.ringing.step(
                start, end, score, self.loaded.point, self.loaded.settings.period, window.get("end_time") or ""
            )
        ]

    def announce(self, events: list[dict[str, Any]]) -> None:
        """Append and print the begin or end of alarms.

        Args:
            events: session, device, event ('begin' or 'end'), begin and end with their clock times, peak and windows of
                each.
        """
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self.alarms.append([{**event, "written": now} for event in events])
        for e in events:
            where = f"{e['session']} ({e['device']})"
            if e["event"] == "begin":
                at = e["begin_time"] or f"{e['begin']} s"
                print_line(f"ALARM: {where} at {at}: probability of {self.loaded.schema.alarming} {e['peak']:.1%}")
            else:
                times = [e[f"{name}_time"] or f"{e[name]} s" for name in ("begin", "end")]
                print_line(f"alarm over: {where} from {' to '.join(times)}, largest probability {e['peak']:.1%}")

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
        if self.windows.is_due():
            self._close_file()
        elif time.monotonic() - self.saved > BETWEEN_CHECKPOINTS:
            self.save()
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
        tail.add(new)
        return self._predict(session.name, tail)

    def _predict(self, name: str, tail: Tail) -> int:
        """Predict a session's new windows and return their number.

        They are appended to windows.csv, their events to alarms.csv; seconds that no later window needs are dropped.
        """
        settings = self.loaded.settings
        store = bridge_gaps(store_in_memory([tail.session], self.schema), settings.max_gap)
        try:
            windows = self.loaded.windows_of(store, stride=1)
        except TooShortError:  # so far
            return 0
        new = self._new(windows, tail)
        if not len(new):
            return 0
        self._report_odd_inputs(store)
        p = self.loaded.probabilities(store, new)
        deployed = self._deployed(new, p, tail)
        score = deployed[:, self.loaded.schema.alarm :].sum(axis=1)
        names, predicted = self.loaded.schema.state_names, deployed.argmax(axis=1)
        clock = new[["start_time", "end_time"]].astype(object).fillna("")
        rows = [
            {
                "session": name,
                "device": w.device,
                "kind": w.kind,
                "start_time": clock["start_time"].iloc[i],
                "end_time": clock["end_time"].iloc[i],
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
        tail.took(rows, self.states)
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

    def _new(self, windows: pd.DataFrame, tail: Tail) -> pd.DataFrame:
        """Return the windows to predict: after the last one, spaced from it, or from the start of a later run.

        Args:
            windows: all windows of the tail, one per row.
            tail: of the session.
        """
        settings = self.loaded.settings
        row = np.rint(windows["start"].to_numpy(float) / settings.period).astype(int)
        run = runs_of(windows, settings.period)
        origin = row[np.searchsorted(run, run)]
        last = np.flatnonzero(row == round(tail.start / settings.period))
        if len(last):
            origin[run == run[last[0]]] = row[last[0]]
        due = (windows["end"].to_numpy(float) > tail.end) & ((row - origin) % settings.judged_stride == 0)
        return windows[due].reset_index(drop=True)

    def _deployed(self, new: pd.DataFrame, p: np.ndarray, tail: Tail) -> np.ndarray:
        """Return the deployed probabilities (n, K) of new windows, given those as trained.

        Args:
            new: the windows.
            p: (n, K).
            tail: of the session, with the windows before.
        """
        before = np.array(tail.recent).reshape(-1, 1 + self.states)
        end = np.concatenate([before[:, 0], new["end"].to_numpy(float)])
        windows = pd.DataFrame({"session": new["session"].iloc[0], "end": end})
        return self.loaded.deployed(windows, np.concatenate([before[:, 1:].astype(np.float32), p]))[len(before) :]

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


def watch(loaded: LoadedRun, data: Mapping[str, Any], folder: Path, disk: str = DISK) -> None:
    """Follow the folder `data.root` until Ctrl-C.

    Args:
        loaded: the run.
        data: the `data` block of a config as plain values.
        folder: where windows.csv, alarms.csv, checkpoint.json and watch.json are written; with the same folder a watch
            continues.
        disk: size that the files of windows may take, e.g. 20GB; the oldest are removed.

    Raises:
        ConfigError: the data cannot be followed, or the folder belongs to another watch.
        DataError: the data do not have the inputs, states or period that the run was trained on.
        RunError: another process watches into the folder.
    """
    schema, root, cap = schema_for(loaded, data), Path(data["root"]), bytes_of(disk)
    identity = {"run": loaded.run.folder.resolve().name, "root": str(root.resolve())}
    identity |= {"alarms": " ".join(loaded.overrides)}
    with locked(folder), no_bars():
        path = folder / "watch.json"
        saved: dict[str, Any] = read_json(path) if path.exists() else {**identity, "known": {}}
        if other := {key: saved.get(key, "") for key in identity if saved.get(key, "") != identity[key]}:
            described = ", ".join(f"{key} {value or 'of the run'}" for key, value in other.items())
            raise ConfigError(f"{folder}: belongs to a watch of {described}; give another out=FOLDER")
        follower = follow(build(data["reader"], _partial_=True), root, schema, saved["known"])
        write_json(path, saved)
        watching = Watch(loaded, follower, schema, folder, cap)
        print_line(f"watching {root}; alarms go to {folder / 'alarms.csv'}; Ctrl-C stops, the same command continues")
        print_line(f"each day starts a new windows.csv; above {disk} in all, the oldest are removed (disk={disk})")
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
