"""Checks of the windows shown on a run's page, against its predictions and against the data."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, Subject
from conveyorguard.runs.examples import choose_examples


def examples_match_predictions(subject: Subject) -> str:
    """Check label, prediction and probabilities of each shown window against predictions.parquet."""
    shown = subject.run.examples
    if not shown:
        raise NotChecked("there is no examples.npz")
    classes = range(shown["p"].shape[1])
    rows = subject.run.predictions.drop_duplicates(["session", "start"]).set_index(["session", "start"])
    for i, key in enumerate(zip(shown["session"].astype(str), shown["start"].tolist(), strict=True)):
        window = f"the window of {key[0]} at {key[1]} s in examples.npz"
        if key not in rows.index:
            raise Failed(f"{window} to be in predictions.parquet too", "no such row")
        row = rows.loc[key]
        for name in ("y_true", "y_pred"):
            if row[name] != shown[name][i]:
                raise Failed(f"{name} = {row[name]} of {window}", str(shown[name][i]))
        if not np.allclose(row[[f"p{k}" for k in classes]].to_numpy(float), shown["p"][i], atol=SAME_MODEL):
            raise Failed(f"the probabilities of {window} as in predictions.parquet", "other values")
    return f"{len(shown['start'])} windows as in predictions.parquet"


def examples_match_data(subject: Subject) -> str:
    """Choose the shown windows again, and check what they show against the data."""
    shown, part = subject.run.examples, subject.run.wanted_parts[-1]
    if not shown:
        raise NotChecked("there is no examples.npz")
    windows, rows = subject.data.judged(part)[["session", "start"]], subject.parts.get(part, pd.DataFrame())
    keys = pd.MultiIndex.from_arrays([windows["session"].astype(str), windows["start"]])
    saved = rows.drop_duplicates(["session", "start"]).set_index(["session", "start"]) if len(rows) else rows
    if not keys.isin(saved.index).all():
        raise NotChecked("predictions.parquet lacks windows of the data, which is reported by another check")
    p = saved.loc[keys, [f"p{k}" for k in range(len(subject.run.schema.states))]].to_numpy()
    with tempfile.TemporaryDirectory() as folder:
        choose_examples(subject.data, part, p, Path(folder) / "examples.npz")
        with np.load(Path(folder) / "examples.npz", allow_pickle=False) as arrays:
            again = dict(arrays)
    for name, expected in again.items():
        saved_values = shown.get(name, np.empty(0))
        close = np.allclose if expected.dtype.kind == "f" else np.array_equal
        if saved_values.shape != expected.shape or not close(saved_values, expected):
            raise Failed(
                f"{name} of the {len(again['start'])} windows chosen for the page in examples.npz, as in the data",
                "other values",
            )
    return f"{len(again['start'])} windows chosen again show the same data"
