"""Apply a trained run to sessions, labelled or not.

from conveyorguard import load_run
windows = load_run("outputs/2026-01-31/10-00-00-fusion-both").predict(frame_table)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.clock_times import clock_times
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.durations import text_of
from conveyorguard.data.ranges import CAMERA, filled, odd_inputs
from conveyorguard.data.reduce import reduce_session
from conveyorguard.data.session_digests import session_digests
from conveyorguard.data.store import Store
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.data.views import bridge_gaps
from conveyorguard.data.windows import make_windows
from conveyorguard.errors import ConfigError, DataError, RunError
from conveyorguard.inference.frame_table import refuse_table, sessions_of
from conveyorguard.inference.input_check import refuse_other
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.alarm_settings import AlarmSettings
from conveyorguard.metrics.alarms import OperatingPoint, episodes, with_scores
from conveyorguard.metrics.calibration import scale
from conveyorguard.runs.data import conditioned
from conveyorguard.runs.derive import alarm_facts, as_predictions, memory_features
from conveyorguard.runs.predictions import PREDICTION_COLUMNS
from conveyorguard.runs.saved import SavedRun
from conveyorguard.training.fit import load_module
from conveyorguard.training.fit_tabular import TabularClassifier, load_tabular
from conveyorguard.training.module import WindowClassifier

__all__ = ["LoadedRun", "SessionPredictions", "TooShortError"]

WARMING_UP = "warming up"  # state before the first window of a session has ended


class TooShortError(DataError):
    """No session of the data is as long as a window of the run."""


@dataclass
class SessionPredictions:
    """What a run predicts for sessions; times are counted from the beginning of a session.

    Attributes:
        windows: one row per window: session, device, kind, start, end, seconds_to_end, seconds_since_onset [s], state
            (name of the most probable state as deployed), y_true (-1 where it is unknown), y_pred (number of that
            state), p0.. (as trained), c0.. (as deployed) and score (deployed probability of a state worth an alarm).
        seconds: one row per row of the data: session, time [s], y_pred, state and c0... With `window.label=last` it is
            the answer of the last window that had ended by then; before the first window the state is `WARMING_UP`,
            y_pred -1 and c0.. NaN. With `majority` it is the mean of the windows that cover the row, which looks
            ahead by up to a window; rows that no window covers are left out.
        alarms: one row per alarm: session, device, begin_time and end_time (clock times, ISO 8601, None where the data
            have none), begin and end [s], peak (largest score), windows (their number); empty if
            the run has no operating point.
        odd: sentences on inputs unlike those of the training, by session.
    """

    windows: pd.DataFrame
    seconds: pd.DataFrame
    alarms: pd.DataFrame
    odd: dict[str, list[str]]


class LoadedRun:
    """A trained run, ready to be applied.

    Args:
        folder: the run directory, or the run already opened.

    Attributes:
        run: the opened run directory.
        model: the network or tabular model.
        inputs: what the model is given: sensors, thermal, environment.
        schema: channels, units, camera and states of the training.
        settings: length and step of a window.
        ranges: range and median of each input channel in the training.
        temperature: temperature of the calibration; 1 if the run has none.
        memory: of what the model predicted before; None if the run has none. It replaces the temperature.
        alarms: content of alarms.json; empty if the run has none.
        point: the operating point, scores at which an alarm begins and ends; None if the run has none.
        overrides: settings of alarms with which the point was chosen anew; empty for the run's.

    Raises:
        RunError: the directory is not that of a finished run, or has no model.
    """

    def __init__(self, folder: str | Path | SavedRun):
        self.run = folder if isinstance(folder, SavedRun) else SavedRun(folder)
        self._load()
        self.schema = self.run.schema
        self.settings = self.run.window
        channels = {"sensors": [*self.schema.channels], "environment": [*self.schema.environment], "thermal": [*CAMERA]}
        used = [name for group in self.inputs for name in channels[group]]
        self._all_ranges = {name: values.plain() for name, values in (self.run.ranges or {}).items()}
        self.ranges = {name: values for name, values in self._all_ranges.items() if name in used}
        self.temperature = self.run.calibration.temperature if self.run.calibration else 1.0
        self.memory = self.run.memory
        self.overrides: list[str] = []
        self._set_alarms(self.run.facts("alarms"))

    def _load(self) -> None:
        """Load the model, and set `inputs`, which it is given, and `from_start`.

        Raises:
            RunError: there is none.
        """
        checkpoints = self.run.folder / "checkpoints"
        paths = sorted(checkpoints.glob("best.*")) if checkpoints.is_dir() else []
        if not paths:
            raise RunError(
                f"{self.run.folder}: no checkpoints/best.*, so there is no model to predict with; an ensemble has "
                "none. Give the directory of a trained run"
            )
        self.model: WindowClassifier | TabularClassifier
        self.inputs: list[str]
        if paths[0].suffix == ".ckpt":
            self.model, saved = load_module(paths[0])
            self.inputs = saved["inputs"]
        else:
            tabular = load_tabular(paths[0])
            self.model, self.inputs = tabular, tabular.inputs

    def _set_alarms(self, facts: Mapping[str, Any]) -> None:
        self.alarms = facts
        point = facts.get("operating_point")
        self.point = OperatingPoint(point["on"], point["off"]) if point else None

    def choose_alarms(self, settings: AlarmSettings, overrides: list[str]) -> None:
        """Choose the operating point anew on the run's stored validation predictions.

        Args:
            settings: what is asked of alarms.
            overrides: by which they differ from the run's, for pages and messages.
        """
        parts = {part: self.run.rows(part) for part in self.run.metrics}
        scored = {part: with_scores(rows, self._stored(rows), self.schema.alarm) for part, rows in parts.items()}
        self.overrides = overrides
        self._set_alarms(alarm_facts(scored, self.schema, self.settings, settings))

    def _stored(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the stored deployed probabilities (n, K); earlier versions stored those as trained alone."""
        if "c0" in rows:
            return as_predictions(rows, "c").p
        return scale(as_predictions(rows).p, self.temperature)

    @property
    def parts(self) -> list[LoadedRun]:
        """The runs with a model of which this one consists: itself."""
        return [self]

    @cached_property
    def parts_by_content(self) -> dict[str, str] | None:
        """Part of the split, train or val, by the digest of a session; None for a run that does not record them."""
        if not (self.run.folder / "split.json").is_file():
            return None
        split = self.run.saved_split
        if split.content is None:
            return None
        names = [(part, name) for part in ("val", "train") for name in split.sessions[part]]
        return {split.content[name]: part for part, name in names if name in split.content}

    @property
    def from_start(self) -> bool:
        """Whether the prediction for a window also depends on the start of its session."""
        if isinstance(self.model, TabularClassifier):
            return self.model.settings.from_start
        return bool(self.run.settings["scaling"]["from_start"])

    def predict(self, frames: pd.DataFrame, thermal: np.ndarray | None = None) -> pd.DataFrame:
        """Predict the states of sessions given as a table, labelled or not.

        A window is `self.settings.size` consecutive rows; one begins every `self.settings.judged_stride` rows from the
        start of each run of rows without a gap. Rows may be in any order, and sessions mixed. A NaN holds the
        last value of the channel, or has the median of the training before the first one.

        Args:
            frames: n rows, one per period, with the columns session (str), time (s since the session began, multiples
                of the period), every channel of `self.schema.channels` and, if the run uses the environment, of
                `self.schema.environment`, each a float in the unit given there; optionally device and kind (str).
            thermal: (n, rows, columns) [degC], the camera frame of each row of `frames`, of `self.schema.thermal.shape`
                pixels; only if the run uses the camera ("thermal" in `self.inputs`).

        Returns:
            One row per window, as `SessionPredictions.windows`: start and end [s] are its first and last second, y_true
            is -1, y_pred is in 0..K-1, and p0.. and c0.. each sum to 1 over the K states.

        Raises:
            TooShortError: no session is as long as a window. It is a `DataError`.
            DataError: a column is missing or holds a value other than described above, or `thermal` does not match.

        Example:
            run = load_run("outputs/2026-01-31/10-00-00-fusion-sensor")
            windows = run.predict(pd.read_parquet("last_hour.parquet"))
            windows.loc[windows["score"] >= run.point.on, ["session", "end", "state", "score"]]
        """
        required = [
            "session",
            "time",
            *self.schema.channels,
            *(self.schema.environment if "environment" in self.inputs else ()),
        ]
        if missing := [name for name in required if name not in frames]:
            raise DataError(
                f"the table lacks the columns {', '.join(missing)}; it has {', '.join(map(str, frames.columns))}. "
                "Rename its columns, or add the missing ones"
            )
        refuse_table(frames, required[2:], self.settings.period)
        camera = self.schema.thermal if "thermal" in self.inputs else None
        if camera and (thermal is None or np.shape(thermal) != (len(frames), *camera.shape)):
            actual = "none" if thermal is None else f"an array of shape {np.shape(thermal)}"
            raise DataError(
                f"the run uses the camera: expected thermal of shape {(len(frames), *camera.shape)} in degC, found "
                f"{actual}"
            )
        schema = self.schema if "thermal" in self.inputs else replace(self.schema, thermal=None)
        sessions = sessions_of(schema, frames, thermal, self.settings.period)
        reduced = [reduce_session(session, schema) for session in sessions]
        return self.predict_store(store_in_memory(reduced, schema)).windows

    def part_of(self, store: Store) -> str:
        """Return the part of the run's split, train or val, that holds the session of a store; empty for neither.

        Args:
            store: of one session; it is recognised by its content, whatever its name, and with or without labels.
        """
        if not self.parts_by_content:
            return ""
        store = bridge_gaps(store, self.settings.max_gap)
        (digest,) = session_digests(filled(store, self._all_ranges)).values()
        return self.parts_by_content.get(digest, "")

    def windows_of(self, store: Store, stride: int | None = None) -> pd.DataFrame:
        """Return the run's windows over all sessions of a store, labelled or not.

        Args:
            store: the sessions.
            stride: rows between two windows; None: that of the windows by which the run is judged.

        Raises:
            TooShortError: no session is as long as a window.
        """
        try:
            return make_windows(store, self.settings, labelled=False, stride=stride or self.settings.judged_stride)
        except ConfigError as error:  # in training the length of a window could be changed; here the data are wrong
            length = text_of(self.settings.size * self.settings.period)
            raise TooShortError(
                f"no session is long enough: its windows are {length} long. Give at least that much without a gap"
            ) from error

    def predict_store(self, store: Store) -> SessionPredictions:
        """Predict windows, seconds and alarms of all sessions of a store, labelled or not, and list odd inputs.

        Raises:
            TooShortError: no session is as long as a window. It is a `DataError`.
            DataError: the data do not have the inputs or states that the run was trained on.
        """
        refuse_other(self.schema, store.schema, self.inputs)
        store = bridge_gaps(store, self.settings.max_gap)
        windows = self.windows_of(store)
        p = self.probabilities(store, windows)
        deployed = self.deployed(windows, p)
        names = np.array(self.schema.state_names)
        predicted = deployed.argmax(axis=1)
        table = windows[list(PREDICTION_COLUMNS)].assign(
            state=names[predicted], y_true=windows["label"], y_pred=predicted
        )
        for prefix, values in (("p", p), ("c", deployed)):
            for k in range(values.shape[1]):
                table[f"{prefix}{k}"] = values[:, k].astype(np.float32)
        scored = with_scores(table, deployed, self.schema.alarm)
        alarms = (
            episodes(scored, self.point, self.settings.period).drop(columns="true")
            if self.point
            else pd.DataFrame(columns=["session", "device", "begin", "end", "peak", "windows"])
        )
        place = pd.Index(store.sessions["name"].astype(str)).get_indexer(pd.Index(alarms["session"].astype(str)))
        for name in ("end", "begin"):
            alarms.insert(2, f"{name}_time", clock_times(store.sessions, place, alarms[name].to_numpy(float)))
        answers = self._answers if self.settings.label == "last" else self._means
        seconds = answers(store, windows["row"].to_numpy(), deployed)
        return SessionPredictions(scored.drop(columns="y_true_alarm"), seconds, alarms, odd_inputs(store, self.ranges))

    def probabilities(self, store: Store, windows: pd.DataFrame) -> np.ndarray:
        """Return the probabilities as trained (n, K) of windows of a store, whose gaps are bridged.

        Args:
            store: the sessions, with the environment as recorded.
            windows: of `windows_of`.
        """
        usable = filled(conditioned(store, self.run.settings), self.ranges)
        return predict(self.model, WindowDataset(usable, windows, self.settings, self.inputs))

    def deployed(self, windows: pd.DataFrame, p: np.ndarray) -> np.ndarray:
        """Return the deployed probabilities (n, K): with memory where the run has one, else calibrated.

        Args:
            windows: session and end [s], in the order of time within each session.
            p: probabilities as trained, (n, K).
        """
        if self.memory is None:
            return scale(p.astype(np.float64), self.temperature)
        return self.memory.apply(memory_features(windows, p, self.settings))

    def _answers(self, store: Store, rows: np.ndarray, p: np.ndarray) -> pd.DataFrame:
        """Return the answer at each row of the store: that of the last window that had ended by then.

        Args:
            store: the sessions.
            rows: row of the store at which each window starts, (n,), increasing.
            p: deployed probabilities of the windows, (n, K).
        """
        last = rows + self.settings.size - 1
        place = np.searchsorted(last, np.arange(len(store)), side="right") - 1
        age = np.arange(len(store)) - last[np.maximum(place, 0)]
        ready = (place >= 0) & (age < self.settings.judged_stride)
        # rows are consecutive in time within the age of an answer only if no gap lies between
        ready &= np.asarray(store.tick) - np.asarray(store.tick)[last[np.maximum(place, 0)]] == age
        ready &= store.session_index == store.session_index[last[np.maximum(place, 0)]]
        answers = np.where(ready[:, None], p[np.maximum(place, 0)], np.nan)
        predicted = np.where(ready, np.nan_to_num(answers, nan=-1.0).argmax(axis=1), -1)
        names = np.array([*self.schema.state_names, WARMING_UP])
        return self._table(store, np.ones(len(store), bool), predicted, names[predicted], answers)

    def _table(
        self, store: Store, rows: np.ndarray, predicted: np.ndarray, state: np.ndarray, p: np.ndarray
    ) -> pd.DataFrame:
        columns = {
            "session": store.sessions["name"].to_numpy().astype(str)[store.session_index[rows]],
            "time": np.asarray(store.tick)[rows] * store.period,
            "y_pred": predicted,
            "state": state,
        }
        return pd.DataFrame(columns | {f"c{k}": p[:, k].astype(np.float32) for k in range(p.shape[1])})

    def _means(self, store: Store, rows: np.ndarray, p: np.ndarray) -> pd.DataFrame:
        """Return the mean of the windows over each second; seconds that no window covers are left out.

        Args:
            store: the sessions.
            rows: row of the store at which each window starts, (n,).
            p: deployed probabilities of the windows, (n, K).
        """
        total, count = np.zeros((len(store) + 1, p.shape[1])), np.zeros(len(store) + 1)
        for values, target in ((p, total), (np.ones(len(p)), count)):
            np.add.at(target, rows, values)
            np.add.at(target, rows + self.settings.size, -values)  # the cumulative sum ends here
        total, count = total.cumsum(axis=0)[:-1], np.rint(count.cumsum()[:-1])
        covered = count > 0
        mean = total[covered] / count[covered, None]
        names, predicted = np.array(self.schema.state_names), mean.argmax(axis=1)
        return self._table(store, covered, predicted, names[predicted], mean)
