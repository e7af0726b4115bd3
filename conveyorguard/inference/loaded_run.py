"""Apply a trained run to sessions, labelled or not.

from conveyorguard import load_run
windows = load_run("outputs/2026-01-31/10-00-00-fusion-both").predict(frame_table)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.ranges import CAMERA, filled, odd_inputs
from conveyorguard.data.reduce import reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.store import Store
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.data.windows import make_windows
from conveyorguard.errors import ConfigError, DataError, RunError
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.alarms import OperatingPoint, episodes, with_scores
from conveyorguard.metrics.calibration import scale
from conveyorguard.runs.data import conditioned
from conveyorguard.runs.predictions import PREDICTION_COLUMNS
from conveyorguard.runs.saved import SavedRun
from conveyorguard.training.fit import load_module
from conveyorguard.training.fit_tabular import TabularClassifier, load_tabular
from conveyorguard.training.module import WindowClassifier


class TooShortError(DataError):
    """No session of the data is as long as a window of the run."""


@dataclass
class Predicted:
    """What a run predicts for sessions; times count periods (1 s, unless data.reader.period is set) of a session.

    Attributes:
        windows: one row per window: session, device, kind, start, end, seconds_to_end, seconds_since_onset, state (its
            name), y_true (-1 where it is unknown), y_pred, p0.. (as trained), c0.. (calibrated) and score (calibrated
            probability of a state worth an alarm).
        seconds: one row per second that a window covers: session, time, y_pred, state and c0.., the mean of the windows
            that cover it.
        alarms: one row per alarm: session, device, begin, end, peak (largest score), windows (their number); empty if
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
        point: the operating point, scores at which an alarm begins and ends; None if the run has none.

    Raises:
        RunError: the directory is not that of a finished run, or has no model.
    """

    def __init__(self, folder: str | Path | SavedRun):
        self.run = folder if isinstance(folder, SavedRun) else SavedRun(folder)
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
        self.schema = self.run.schema
        self.settings = self.run.window
        channels = {"sensors": [*self.schema.channels], "environment": [*self.schema.environment], "thermal": [*CAMERA]}
        used = [name for group in self.inputs for name in channels[group]]
        self.ranges = {name: values.plain() for name, values in (self.run.ranges or {}).items() if name in used}
        self.temperature = self.run.calibration.temperature if self.run.calibration else 1.0
        point = self.run.alarms.operating_point if self.run.alarms else None
        self.point = OperatingPoint(point.on, point.off) if point else None

    @property
    def from_start(self) -> bool:
        """Whether the prediction for a window also depends on the start of its session."""
        if isinstance(self.model, TabularClassifier):
            return self.model.settings.from_start
        return bool(self.run.settings["scaling"]["from_start"])

    def predict(self, frames: pd.DataFrame, thermal: np.ndarray | None = None) -> pd.DataFrame:
        """Predict the states of sessions given as a table, labelled or not.

        A window is `self.settings.size` consecutive seconds; one begins every `self.settings.stride` seconds from the
        start of each run of seconds without a gap. Rows may be in any order, and sessions mixed. A NaN is filled from
        its neighbours, or with the median of the training if a session has no value of the channel.

        Args:
            frames: n rows, one per second, with the columns session (str), time (whole seconds since the session
                began), every channel of `self.schema.channels` and, if the run uses the environment, of
                `self.schema.environment`, each a float in the unit given there; optionally device and kind (str).
            thermal: (n, rows, columns) [degC], the camera frame of each row of `frames`, of `self.schema.thermal.shape`
                pixels; only if the run uses the camera ("thermal" in `self.inputs`).

        Returns:
            One row per window, as `Predicted.windows`: start and end [s] are the window's first and last second, y_true
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
        _refuse_table(frames, required[2:])
        camera = self.schema.thermal if "thermal" in self.inputs else None
        if camera and (thermal is None or np.shape(thermal) != (len(frames), *camera.shape)):
            actual = "none" if thermal is None else f"an array of shape {np.shape(thermal)}"
            raise DataError(
                f"the run uses the camera: expected thermal of shape {(len(frames), *camera.shape)} in degC, found "
                f"{actual}"
            )
        schema = self.schema if "thermal" in self.inputs else replace(self.schema, thermal=None)
        sessions = [reduce_session(session, schema) for session in _sessions(schema, frames, thermal)]
        return self.predict_store(store_in_memory(sessions, schema)).windows

    def refuse_other(self, schema: Schema) -> None:
        """Check that data have the inputs and states that the run was trained on; inputs it does not use may differ.

        Args:
            schema: channels, units, camera and states of the data.

        Raises:
            DataError: channels, units, camera or number of states differ.
        """
        for group, trained, current in (
            ("sensors", self.schema.channels, schema.channels),
            ("environment", self.schema.environment, schema.environment),
        ):
            if group not in self.inputs:
                continue
            if list(trained) != list(current):
                raise DataError(
                    f"the run was trained on the {group} {', '.join(trained)}; the data have "
                    f"{', '.join(current) or 'none'}. In data.schema, name the channels as in the training and "
                    "give the column of each as `column`"
                )
            wrong = [
                f"{name} in {current[name].unit}, not {trained[name].unit}"
                for name in trained
                if trained[name].unit != current[name].unit
            ]
            if wrong:
                raise DataError(
                    f"the data have other units than the run was trained on: {'; '.join(wrong)}. Convert the data"
                )
        if "thermal" in self.inputs:
            trained_frames, frames = (
                s.thermal and (s.thermal.stored_shape, s.thermal.reduce) for s in (self.schema, schema)
            )
            if trained_frames != frames:
                raise DataError(
                    f"the run was trained on thermal frames of stored shape and reduction {trained_frames}, the data "
                    f"have {frames or 'none'}. Set data.schema.thermal as in the run's config.yaml"
                )
        if len(schema.states) != len(self.schema.states):
            raise DataError(
                f"the run was trained on {len(self.schema.states)} states, the data have {len(schema.states)}. Set "
                "data.schema.states as in the run's config.yaml"
            )

    def windows_of(self, store: Store) -> pd.DataFrame:
        """Return the run's windows over all sessions of a store, labelled or not.

        Raises:
            TooShortError: no session is as long as a window.
        """
        try:
            return make_windows(store, self.settings, labelled=False)
        except ConfigError as error:  # in training the length of a window could be changed; here the data are wrong
            raise TooShortError(
                f"no session is long enough: a window of this run is {self.settings.size} consecutive seconds. Give at "
                "least that many without a gap"
            ) from error

    def predict_store(self, store: Store) -> Predicted:
        """Predict windows, seconds and alarms of all sessions of a store, labelled or not, and list odd inputs.

        Raises:
            TooShortError: no session is as long as a window. It is a `DataError`.
            DataError: the data do not have the inputs or states that the run was trained on.
        """
        self.refuse_other(store.schema)
        windows = self.windows_of(store)
        store = conditioned(store, self.run.settings)
        p = predict(self.model, WindowDataset(filled(store, self.ranges), windows, self.settings, self.inputs))
        calibrated = scale(p.astype(np.float64), self.temperature)
        names = np.array(self.schema.state_names)
        predicted = p.argmax(axis=1)
        table = windows[list(PREDICTION_COLUMNS)].assign(
            state=names[predicted], y_true=windows["label"], y_pred=predicted
        )
        for prefix, values in (("p", p), ("c", calibrated)):
            for k in range(values.shape[1]):
                table[f"{prefix}{k}"] = values[:, k].astype(np.float32)
        scored = with_scores(table, calibrated, self.schema.alarm)
        alarms = (
            episodes(scored, self.point).drop(columns="true")
            if self.point
            else pd.DataFrame(columns=["session", "device", "begin", "end", "peak", "windows"])
        )
        seconds = self._seconds(store, windows["row"].to_numpy(), calibrated)
        return Predicted(scored.drop(columns="y_true_alarm"), seconds, alarms, odd_inputs(store, self.ranges))

    def _seconds(self, store: Store, rows: np.ndarray, p: np.ndarray) -> pd.DataFrame:
        """Return the mean of the windows over each second; seconds that no window covers are left out.

        Args:
            store: the sessions.
            rows: row of the store at which each window starts, (n,).
            p: calibrated probabilities of the windows, (n, K).
        """
        total, count = np.zeros((len(store) + 1, p.shape[1])), np.zeros(len(store) + 1)
        for values, target in ((p, total), (np.ones(len(p)), count)):
            np.add.at(target, rows, values)
            np.add.at(target, rows + self.settings.size, -values)  # the cumulative sum ends here
        total, count = total.cumsum(axis=0)[:-1], np.rint(count.cumsum()[:-1])
        covered = count > 0
        mean = total[covered] / count[covered, None]
        names, predicted = np.array(self.schema.state_names), mean.argmax(axis=1)
        table = pd.DataFrame(
            {
                "session": store.sessions["name"].to_numpy().astype(str)[store.session_index[covered]],
                "time": store.tick[covered],
                "y_pred": predicted,
                "state": names[predicted],
            }
        )
        return table.assign(**{f"c{k}": mean[:, k].astype(np.float32) for k in range(mean.shape[1])})


def _refuse_table(frames: pd.DataFrame, numbers: list[str]) -> None:
    """Check the values of a table.

    Args:
        frames: the table.
        numbers: columns that must hold numbers or nothing.

    Raises:
        DataError: naming the column, the row (from 0) and its value.
    """

    def refuse(column: str, wrong: np.ndarray, expected: str) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            more = f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else ""
            raise DataError(
                f"the table, row {row} counting from 0, column {column}: expected {expected}, found "
                f"{frames[column].iloc[row]!r}{more}"
            )

    refuse("session", frames["session"].isna().to_numpy(), "the name of a session")
    for name in ("time", *numbers):
        values = pd.to_numeric(frames[name], errors="coerce").to_numpy(float, na_value=np.nan)
        refuse(name, np.isnan(values) & ~frames[name].isna().to_numpy(), "a number")
        if name == "time":
            whole = (values == np.floor(values)) & (values >= 0) & (values < 2**31)
            refuse(name, ~whole, "whole seconds since the session began")
    refuse("time", frames.duplicated(["session", "time"]).to_numpy(), "one row per second and session")


def _sessions(schema: Schema, frames: pd.DataFrame, thermal: np.ndarray | None) -> list[Session]:
    """Split a table and its camera frames into sessions, sorted by time."""
    sessions = []
    position = np.arange(len(frames))
    for name, index in pd.Series(position).groupby(frames["session"].to_numpy()).groups.items():
        rows = frames.iloc[index].sort_values("time")
        order = position[index][np.argsort(frames["time"].to_numpy()[index], kind="stable")]
        first = rows.iloc[0]
        environment = rows.reindex(columns=list(schema.environment)).to_numpy(float)
        sessions.append(
            Session(
                str(name),
                str(first.get("device", "unknown")),
                str(first.get("kind", "")),
                rows["time"].to_numpy().astype(int),
                rows[list(schema.channels)].to_numpy(float),
                environment,
                None if thermal is None else thermal[order],
            )
        )
    return sessions


def schema_for(loaded: LoadedRun, data: Mapping[str, Any]) -> Schema:
    """Return the schema by which a data set is read for a run; without the camera if the run does not use it.

    Args:
        loaded: the run.
        data: the `data` block of a config as plain values.

    Raises:
        DataError: the data do not have the inputs, states or period that the run was trained on.
        ConfigError: the run is a control that is given the environment of other sessions.
    """
    settings = loaded.run.settings
    if settings["film"] and settings.get("film_input") == "shuffled":
        raise ConfigError(
            "the run was trained with film_input=shuffled, a control that is given the environment of other sessions: "
            "it can be compared, but not applied. Train with film_input=environment"
        )
    node = data["schema"]
    schema = Schema.from_config(node if "thermal" in loaded.inputs else {**node, "thermal": None})
    loaded.refuse_other(schema)
    period, trained = ((d.get("reader") or {}).get("period", 1) for d in (data, settings["data"]))
    if period != trained:
        raise DataError(
            f"the run was trained on one row every {trained} s, the data are read as one every {period} s: "
            f"set data.reader.period={trained}"
        )
    return schema
