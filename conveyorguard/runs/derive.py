"""What follows from the probabilities of a run's windows alone: calibration, operating point, metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.data.store import Store
from conveyorguard.metrics.alarms import choose_operating_point, summarise, with_scores
from conveyorguard.metrics.calibration import calibrate
from conveyorguard.metrics.scores import Predictions, evaluate


@dataclass(frozen=True)
class Derived:
    """What follows from the probabilities of the windows alone: the table with c0, c1, ... and the content of three
    files."""

    predictions: pd.DataFrame
    metrics: dict[str, Any]
    calibration: dict[str, Any]
    alarms: dict[str, Any]


def derive(tables: list[pd.DataFrame], schema: Schema, stride: int) -> Derived:
    """Calibrate, choose the operating point, evaluate.

    Args:
        tables: one a part of the split, validation among them: the columns of `predictions.parquet` up to p0, p1, ...
    """
    parts = {str(table["split"].iloc[0]): table for table in tables}
    own = {part: as_predictions(rows) for part, rows in parts.items()}
    rest = {part: predictions for part, predictions in own.items() if part != "val"}
    calibrated, facts = calibrate(own["val"], parts["val"]["device"].to_numpy(), rest)
    scored = {part: with_scores(rows, calibrated[part], schema.alarm) for part, rows in parts.items()}
    columns = [f"c{k}" for k in range(len(schema.states))]
    whole = [
        rows.assign(**dict(zip(columns, calibrated[part].T.astype(np.float32), strict=True)))
        for part, rows in parts.items()
    ]
    point = choose_operating_point(scored["val"])
    alarms = {
        "state": schema.states[schema.alarm].name,
        "operating_point": point.to_dict() if point else None,
        "parts": {part: summarise(table, point, stride) for part, table in scored.items()} if point else {},
    }
    metrics = {part: evaluate(predictions, schema.state_names) for part, predictions in own.items()}
    return Derived(pd.concat(whole, ignore_index=True), metrics, facts, alarms)


def as_predictions(rows: pd.DataFrame, prefix: str = "p") -> Predictions:
    """Rows of `predictions.parquet` as arrays; probabilities in the order of the states. prefix: p, or c for
    calibrated."""
    columns = sorted((str(c) for c in rows if re.fullmatch(prefix + r"\d+", str(c))), key=lambda c: int(c[1:]))
    return Predictions(rows["y_true"].to_numpy(), rows[columns].to_numpy(np.float64), rows["session"].to_numpy())


def data_facts(store: Store, sessions: dict[str, list[str]]) -> dict[str, Any]:
    """Devices, and hours of each state, by part of the split: what the card says of the data, kept in the provenance.

    Args:
        sessions: of each part, by name.
    """
    states = store.schema.state_names
    hours, devices = {}, {}
    for part, names in sessions.items():
        state = store.state[store.rows_of(names)]
        counts = np.bincount(state[state >= 0], minlength=len(states))
        hours[part] = {name: round(float(count) / 3600, 4) for name, count in zip(states, counts, strict=True)}
        devices[part] = sorted(store.sessions.loc[store.sessions["name"].isin(names), "device"].unique())
    return {"hours": hours, "devices": devices}
