"""Checks of the windows that a run's page shows: against the predictions, and against the recordings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, Subject
from conveyorguard.runs.examples import choose_examples


def of_the_predictions(subject: Subject) -> str:
    shown = subject.run.examples
    if not shown:
        raise NotChecked("there is no examples.npz: no windows were kept")
    classes = range(shown["p"].shape[1])
    rows = subject.run.predictions.drop_duplicates(["session", "start"]).set_index(["session", "start"])
    for i, key in enumerate(zip(shown["session"].astype(str), shown["start"].tolist(), strict=True)):
        window = f"the window of {key[0]} at {key[1]} s in examples.npz"
        if key not in rows.index:
            raise Failed(f"{window} in predictions.parquet", "none")
        row = rows.loc[key]
        for name in ("y_true", "y_pred"):
            if row[name] != shown[name][i]:
                raise Failed(f"{name} = {row[name]} of {window}", str(shown[name][i]))
        if not np.allclose(row[[f"p{k}" for k in classes]].to_numpy(float), shown["p"][i], atol=SAME_MODEL):
            raise Failed(f"the probabilities of {window} as in predictions.parquet", "others")
    return f"{len(shown['start'])} windows are as in predictions.parquet"


def show_the_data(subject: Subject) -> str:
    """They are chosen again, and what they show is read again."""
    shown, part = subject.run.examples, subject.run.wanted_parts[-1]
    if not shown:
        raise NotChecked("there is no examples.npz: no windows were kept")
    windows, rows = subject.data.part(part)[["session", "start"]], subject.parts.get(part, pd.DataFrame())
    keys = pd.MultiIndex.from_arrays([windows["session"].astype(str), windows["start"]])
    saved = rows.drop_duplicates(["session", "start"]).set_index(["session", "start"]) if len(rows) else rows
    if not keys.isin(saved.index).all():
        raise NotChecked("predictions.parquet lacks windows of the data, of which another check tells")
    p = saved.loc[keys, [f"p{k}" for k in range(len(subject.run.schema.states))]].to_numpy()
    with tempfile.TemporaryDirectory() as folder:
        choose_examples(subject.data, part, p, Path(folder) / "examples.npz")
        with np.load(Path(folder) / "examples.npz", allow_pickle=False) as arrays:
            again = dict(arrays)
    for name, expected in again.items():
        found = shown.get(name, np.empty(0))
        close = np.allclose if expected.dtype.kind == "f" else np.array_equal
        if found.shape != expected.shape or not close(found, expected):
            raise Failed(
                f"{name} of the {len(again['start'])} windows that matter most in examples.npz, as the data have it",
                "others",
            )
    return f"{len(again['start'])} windows, chosen again, show what the data hold"
