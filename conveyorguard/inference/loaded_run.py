"""Applying a trained run to recordings, labelled or not.

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


@dataclass
class Predicted:
    """What a run says about recordings.

    windows: one row a window: session, device, kind, start, end, state (name), y_pred, p0.. as trained, c0..
    calibrated,
        score (probability of a state worth an alarm), y_true where it is known, else -1.
    seconds: one row a second: session, time, y_pred, state, c0..: the mean of the windows over that second. alarms: one
    row an episode: session, device, begin, end (s), peak, windows; empty where the run has no operating point. odd:
    sentences on inputs unlike those of the training, by recording.
    """

    windows: pd.DataFrame
    seconds: pd.DataFrame
    alarms: pd.DataFrame
    odd: dict[str, list[str]]


class LoadedRun:
    """A trained run, ready to be applied; given as its directory, or opened already.

    Raises:
        RunError: the directory is not that of a finished run, or has no model.
    """

    def __init__(self, folder: str | Path | SavedRun):
        self.run = folder if isinstance(folder, SavedRun) else SavedRun(folder)
        checkpoints = self.run.folder / "checkpoints"
        found = sorted(checkpoints.glob("best.*")) if checkpoints.is_dir() else []
        if not found:
            raise RunError(
                f"{self.run.folder}: no checkpoints/best.*; a run without a model, such as an ensemble, cannot predict"
            )
        self.model: WindowClassifier | TabularClassifier
        self.inputs: list[str]
        if found[0].suffix == ".ckpt":
            self.model, saved = load_module(found[0])
            self.inputs = saved["inputs"]
        else:
            tabular = load_tabular(found[0])
            self.model, self.inputs = tabular, tabular.inputs
        self.schema = self.run.schema
        self.settings = self.run.window
        of = {"sensors": [*self.schema.channels], "environment": [*self.schema.environment], "thermal": [*CAMERA]}
        used = [name for group in self.inputs for name in of[group]]
        self.ranges = {name: known.plain() for name, known in (self.run.ranges or {}).items() if name in used}
        self.temperature = self.run.calibration.temperature if self.run.calibration else 1.0
        point = self.run.alarms.operating_point if self.run.alarms else None
        self.point = OperatingPoint(point.on, point.off) if point else None

    @property
    def from_start(self) -> bool:
        """Whether a window is judged by the beginning of its recording too."""
        if isinstance(self.model, TabularClassifier):
            return self.model.settings.from_start
        return bool(self.run.settings["scaling"]["from_start"])

    def predict(self, frames: pd.DataFrame, thermal: np.ndarray | None = None) -> pd.DataFrame:
        """States of the windows of recordings given as a table, labelled or not.

        A window is `self.settings.size` consecutive seconds; one begins every `self.settings.stride` seconds from the
        start of each run of seconds without a gap. Rows may be in any order, recordings one after another or mixed. NaN
        is filled in from its neighbours, and by the middle of the training where a recording has none.

        Args:
            frames: n rows, one a second, with the columns session (str), time (s since the recording began, whole
                numbers), every channel of `self.schema.channels` and, if the run uses the environment, of
                `self.schema.environment`, each a float in the unit given there; optional device and kind (str).
            thermal: (n, rows, columns) in degC, the frame of each row of `frames`, of `self.schema.thermal.shape`
                pixels; only where the run uses the camera ("thermal" in `self.inputs`).

        Returns:
            One row a window, as `Predicted.windows`: session, device, kind, start and end (s, both within the window),
            seconds_to_end, seconds_since_onset, state (name), y_true (-1), y_pred (0..K-1), p0.. (as trained) and c0..
            (calibrated), each summing to 1 over the K states, score (probability of a state worth an alarm,
            calibrated).

        Raises:
            DataError: a column is missing, holds something else than is said above, the frames do not match, or no
                recording is as long as a window.

        Example:
            run = load_run("outputs/2026-01-31/10-00-00-fusion-sensor")
            windows = run.predict(pd.read_parquet("last_hour.parquet"))
            windows.loc[windows["score"] >= run.point.on, ["session", "end", "state", "score"]]
        """
        needed = [
            "session",
            "time",
            *self.schema.channels,
            *(self.schema.environment if "environment" in self.inputs else ()),
        ]
        if missing := [name for name in needed if name not in frames]:
            raise DataError(f"the table lacks {', '.join(missing)}; it has {', '.join(map(str, frames.columns))}")
        _refuse_table(frames, needed[2:])
        camera = self.schema.thermal if "thermal" in self.inputs else None
        if camera and (thermal is None or np.shape(thermal) != (len(frames), *camera.shape)):
            found = "none" if thermal is None else f"an array of shape {np.shape(thermal)}"
            raise DataError(
                f"this run uses the camera: give thermal, {(len(frames), *camera.shape)} in degC; found {found}"
            )
        schema = self.schema if "thermal" in self.inputs else replace(self.schema, thermal=None)
        sessions = [reduce_session(session, schema) for session in _sessions(schema, frames, thermal)]
        return self.predict_store(store_in_memory(sessions, schema)).windows

    def refuse_other(self, schema: Schema) -> None:
        """Refuse data that are not those the run was trained on, as far as it uses them.

        Raises:
            DataError: channels, units, camera or states differ.
        """
        for group, known, given in (
            ("sensors", self.schema.channels, schema.channels),
            ("environment", self.schema.environment, schema.environment),
        ):
            if group not in self.inputs:
                continue
            if list(known) != list(given):
                raise DataError(
                    f"the run was trained on the {group} {', '.join(known)}; the data have "
                    f"{', '.join(given) or 'none'}: name the "
                    "columns of these as `column` of those in data.schema"
                )
            wrong = [
                f"{name} in {given[name].unit}, not {known[name].unit}"
                for name in known
                if known[name].unit != given[name].unit
            ]
            if wrong:
                raise DataError(f"the data have other units than the run was trained on: {'; '.join(wrong)}")
        if "thermal" in self.inputs:
            stored, found = (s.thermal and (s.thermal.stored_shape, s.thermal.reduce) for s in (self.schema, schema))
            if stored != found:
                raise DataError(
                    f"the run was trained on thermal frames stored as {stored}, the data give {found or 'none'}"
                )
        if len(schema.states) != len(self.schema.states):
            raise DataError(f"the run knows {len(self.schema.states)} states, the data have {len(schema.states)}")

    def predict_store(self, store: Store) -> Predicted:
        """Windows, seconds, alarms and odd inputs of all recordings of a store, labelled or not.

        Raises:
            DataError: the data are not those the run was trained on.
            ConfigError: no recording is as long as a window.
        """
        self.refuse_other(store.schema)
        windows = make_windows(store, self.settings, labelled=False)
        store = conditioned(store, self.run.settings)
        p = predict(self.model, WindowDataset(filled(store, self.ranges), windows, self.settings, self.inputs))
        calibrated = scale(p.astype(np.float64), self.temperature)
        names = np.array(self.schema.state_names)
        guess = p.argmax(axis=1)
        table = windows[list(PREDICTION_COLUMNS)].assign(state=names[guess], y_true=windows["label"], y_pred=guess)
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
        """The mean of the windows over each second; seconds that no window covers are left out."""
        total, count = np.zeros((len(store) + 1, p.shape[1])), np.zeros(len(store) + 1)
        for values, target in ((p, total), (np.ones(len(p)), count)):
            np.add.at(target, rows, values)
            np.add.at(target, rows + self.settings.size, -values)  # a window ends: running sums of these differences
        total, count = total.cumsum(axis=0)[:-1], np.rint(count.cumsum()[:-1])
        covered = count > 0
        mean = total[covered] / count[covered, None]
        names, guess = np.array(self.schema.state_names), mean.argmax(axis=1)
        table = pd.DataFrame(
            {
                "session": store.sessions["name"].to_numpy().astype(str)[store.session_index[covered]],
                "time": store.tick[covered],
                "y_pred": guess,
                "state": names[guess],
            }
        )
        return table.assign(**{f"c{k}": mean[:, k].astype(np.float32) for k in range(mean.shape[1])})


def _refuse_table(frames: pd.DataFrame, numbers: list[str]) -> None:
    """Refuse a table of which some rows could not be what they are taken for.

    Raises:
        DataError: naming the column, the row (from 0) and what it holds.
    """

    def refuse(column: str, wrong: np.ndarray, expected: str) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            more = f" ({int(wrong.sum())} rows in all)" if wrong.sum() > 1 else ""
            raise DataError(
                f"the table's column {column}: expected {expected}, found {frames[column].iloc[row]!r} in row "
                f"{row}{more}"
            )

    refuse("session", frames["session"].isna().to_numpy(), "the name of a recording in each row")
    for name in ("time", *numbers):
        given = pd.to_numeric(frames[name], errors="coerce").to_numpy(float, na_value=np.nan)
        refuse(name, np.isnan(given) & ~frames[name].isna().to_numpy(), "numbers")
        if name == "time":
            whole = (given == np.floor(given)) & (given >= 0) & (given < 2**31)
            refuse(name, ~whole, "whole seconds since the recording began")
    refuse("time", frames.duplicated(["session", "time"]).to_numpy(), "a row a second of each recording")


def _sessions(schema: Schema, frames: pd.DataFrame, thermal: np.ndarray | None) -> list[Session]:
    """A table as sessions."""
    found = []
    place = np.arange(len(frames))
    for name, index in pd.Series(place).groupby(frames["session"].to_numpy()).groups.items():
        rows = frames.iloc[index].sort_values("time")
        order = place[index][np.argsort(frames["time"].to_numpy()[index], kind="stable")]
        first = rows.iloc[0]
        environment = rows.reindex(columns=list(schema.environment)).to_numpy(float)
        found.append(
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
    return found


def schema_for(loaded: LoadedRun, data: Mapping[str, Any]) -> Schema:
    """The schema by which a data set is read for a run; without the camera where the run has no use for one.

    Args:
        data: the `data` block of a config as plain values.

    Raises:
        DataError: the data are not those the run was trained on, as far as it uses them.
        ConfigError: the run is a control that is given the environment of other recordings.
    """
    settings = loaded.run.settings
    if settings["film"] and settings.get("film_input") == "shuffled":
        raise ConfigError(
            "the run was trained with film_input=shuffled, a control that is given the environment of other "
            "recordings: it can be measured and compared, not applied; train with film_input=environment"
        )
    node = data["schema"]
    schema = Schema.from_config(node if "thermal" in loaded.inputs else {**node, "thermal": None})
    loaded.refuse_other(schema)
    period, known = ((d.get("reader") or {}).get("period", 1) for d in (data, settings["data"]))
    if period != known:
        raise DataError(
            f"the run was trained on a row every {known} s, the data are read as one every {period} s: "
            f"set data.reader.period={known}"
        )
    return schema
