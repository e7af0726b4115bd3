"""Calibration, operating point and metrics: what follows from the probabilities of a run's windows alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.data.store import Store
from conveyorguard.data.windows import WindowSettings
from conveyorguard.metrics.alarm_curve import alarm_curve
from conveyorguard.metrics.alarm_settings import AlarmSettings
from conveyorguard.metrics.alarm_threshold import choose_operating_point
from conveyorguard.metrics.alarms import OperatingPoint, summarise, with_scores
from conveyorguard.metrics.calibration import calibrate
from conveyorguard.metrics.memory import lagged, runs_of, try_memory
from conveyorguard.metrics.scores import Predictions, evaluate


@dataclass(frozen=True)
class Derived:
    """What follows from the probabilities of the windows alone.

    Attributes:
        predictions: content of `predictions.parquet`: the tables with c0, c1, ..., the deployed probabilities.
        metrics: content of `metrics.json`.
        calibration: content of `calibration.json`.
        memory: content of `memory.json`; None with `window.label=majority`.
        alarms: content of `alarms.json`.
    """

    predictions: pd.DataFrame
    metrics: dict[str, Any]
    calibration: dict[str, Any]
    memory: dict[str, Any] | None
    alarms: dict[str, Any]


def derive(
    tables: list[pd.DataFrame],
    schema: Schema,
    window: WindowSettings,
    settings: AlarmSettings | None = None,
    point: OperatingPoint | None = None,
) -> Derived:
    """Calibrate the probabilities, try a memory, choose the operating point and evaluate.

    Args:
        tables: one per part of the split, validation among them, with the columns of `predictions.parquet` up to the
            last of p0, p1, ...
        schema: of the data.
        window: settings of the windows.
        settings: what is asked of alarms; None: the defaults.
        point: an operating point that was chosen by an earlier version, to be evaluated; None: choose it.
    """
    parts = {str(table["split"].iloc[0]): table for table in tables}
    predictions = {part: as_predictions(rows) for part, rows in parts.items()}
    others = {part: of_part for part, of_part in predictions.items() if part != "val"}
    calibrated, calibration = calibrate(predictions["val"], parts["val"]["device"].to_numpy(), others)
    deployed, memory = calibrated, None
    if window.label == "last":
        deployed, memory = _with_memory(parts, predictions, calibrated, window)
    scored = {part: with_scores(rows, deployed[part], schema.alarm) for part, rows in parts.items()}
    columns = [f"c{k}" for k in range(len(schema.states))]
    complete = [
        rows.assign(**dict(zip(columns, deployed[part].T.astype(np.float32), strict=True)))
        for part, rows in parts.items()
    ]
    if point is None:
        alarms = alarm_facts(scored, schema, window, settings or AlarmSettings())
    else:
        parts_at_point = {part: _of_part(table, point, window, AlarmSettings()) for part, table in scored.items()}
        alarms = {
            "state": schema.states[schema.alarm].name,
            "operating_point": point.to_dict(),
            "parts": parts_at_point,
        }
    metrics: dict[str, Any] = {part: evaluate(rows, schema.state_names) for part, rows in predictions.items()}
    metrics["now"] = {
        # of c0, c1, ... as the file holds them
        part: evaluate(
            Predictions(of_part.y_true, deployed[part].astype(np.float32).astype(float), of_part.session),
            schema.state_names,
        )
        for part, of_part in predictions.items()
    }
    return Derived(pd.concat(complete, ignore_index=True), metrics, calibration, memory, alarms)


def alarm_facts(
    scored: dict[str, pd.DataFrame], schema: Schema, window: WindowSettings, settings: AlarmSettings
) -> dict[str, Any]:
    """Choose the operating point on validation and evaluate it on each part.

    Args:
        scored: windows by part, validation among them, with the columns of `with_scores`.
        schema: of the data.
        window: settings of the windows.
        settings: what is asked of alarms.

    Returns:
        The content of `alarms.json`.
    """
    stride = window.judged_stride * window.period
    choice = choose_operating_point(scored["val"], settings, stride, window.period)
    return {
        "state": schema.states[schema.alarm].name,
        "operating_point": choice.point.to_dict() if choice else None,
        "settings": settings.to_dict(),
        "choice": choice.to_dict() if choice else None,
        "parts": (
            {part: _of_part(table, choice.point, window, settings) for part, table in scored.items()} if choice else {}
        ),
    }


def _of_part(
    table: pd.DataFrame, point: OperatingPoint, window: WindowSettings, settings: AlarmSettings
) -> dict[str, Any]:
    """Return what an operating point means on a part, and what other thresholds would."""
    lookback = window.size // 2 * window.period if window.label == "majority" else 0.0
    stride = window.judged_stride * window.period
    return {
        **summarise(table, point, stride, window.period, lookback),
        "curve": alarm_curve(table, point, settings, stride, window.period, lookback),
    }


def _with_memory(
    parts: dict[str, pd.DataFrame],
    predictions: dict[str, Predictions],
    calibrated: dict[str, np.ndarray],
    window: WindowSettings,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the deployed probabilities by part, and the content of `memory.json`."""
    features = {part: memory_features(rows, predictions[part].p, window) for part, rows in parts.items()}
    val = predictions["val"]
    trial = try_memory(
        features["val"], Predictions(val.y_true, calibrated["val"], val.session), parts["val"]["device"].to_numpy()
    )
    facts: dict[str, Any] = {
        "reason": trial.reason,
        "gain": [trial.gain.value, trial.gain.low, trial.gain.high] if trial.gain and trial.gain.known else None,
        "memory": trial.memory and trial.memory.to_dict(),
    }
    if trial.memory is None or trial.crossed is None:
        return calibrated, facts
    others = {part: trial.memory.apply(table) for part, table in features.items() if part != "val"}
    return {"val": trial.crossed, **others}, facts


def memory_features(windows: pd.DataFrame, p: np.ndarray, window: WindowSettings) -> np.ndarray:
    """Return the lagged log-probabilities (n, L x K) of windows in the order of time within each session.

    Args:
        windows: session and end [s].
        p: (n, K) as trained.
    """
    run = runs_of(windows, window.judged_stride * window.period)
    return lagged(p, np.rint(windows["end"].to_numpy(float) / window.period).astype(np.int64), run)


def as_predictions(rows: pd.DataFrame, prefix: str = "p") -> Predictions:
    """Return rows of `predictions.parquet` as arrays, probabilities in the order of the states.

    Args:
        rows: the windows.
        prefix: of the columns of probabilities: p as trained, c calibrated.
    """
    columns = sorted((str(c) for c in rows if re.fullmatch(prefix + r"\d+", str(c))), key=lambda c: int(c[1:]))
    return Predictions(rows["y_true"].to_numpy(), rows[columns].to_numpy(np.float64), rows["session"].to_numpy())


def data_facts(store: Store, sessions: dict[str, list[str]]) -> dict[str, Any]:
    """Return the hours of each state and the devices, by part of the split; kept in the provenance for the card.

    Args:
        store: of the data.
        sessions: names of the sessions, by part.
    """
    states = store.schema.state_names
    hours, devices = {}, {}
    for part, names in sessions.items():
        state = store.state[store.rows_of(names)]
        counts = np.bincount(state[state >= 0], minlength=len(states))
        spent = counts * store.period / 3600
        hours[part] = {name: round(float(value), 4) for name, value in zip(states, spent, strict=True)}
        devices[part] = sorted(store.sessions.loc[store.sessions["name"].isin(names), "device"].unique())
    return {"hours": hours, "devices": devices}
