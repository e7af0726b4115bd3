"""Predictions of validation by the runs of the folds, each session by a model that was not trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.runs.saved import SavedRun

KEY = ["session", "start"]


def is_out_of_fold(split: Mapping[str, Any]) -> bool:
    """Return whether a `split` block trains on all of train and validation, which the runs of folds predict."""
    return split["name"] == "out_of_fold" and split["fold"] is None


def predicted_by_folds(split: Mapping[str, Any], data: Windows) -> pd.DataFrame:
    """Return the rows of `predictions.parquet`, up to the last of p0, p1, ..., of all judged windows of validation.

    Args:
        split: settings, for which `is_out_of_fold` holds.
        data: windows of the run that is trained on all of them.

    Raises:
        RunError: `split.runs` is not set, a fold's run is missing, or the runs hold other windows than the data.
    """
    if not split["runs"]:
        raise RunError(
            "split=out_of_fold with split.fold=null needs the runs of the folds: train split.fold=0 to "
            f"{split['n_folds'] - 1} into FOLDER/fold0, ..., and set split.runs=FOLDER"
        )
    folder = Path(split["runs"])
    table = pooled([SavedRun(folder / f"fold{fold}").rows("val") for fold in range(split["n_folds"])])
    wanted = data.judged("val")[[*KEY, "label"]].astype({"session": str})
    placed = wanted.merge(table.astype({"session": str}), on=KEY, how="left")
    if len(placed) != len(table) or not (placed["y_true"] == placed["label"]).all():
        raise RunError(
            f"{folder}: its runs predict {len(table):,} windows of validation, the data have {len(wanted):,} with "
            "their labels; train the folds again with the same data and window settings"
        )
    return placed[list(table)]


def pooled(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the validation rows of folds, without what each run made of them alone (c0, c1, ...)."""
    rows = pd.concat(tables, ignore_index=True)
    return rows[[name for name in map(str, rows) if not (name[:1] == "c" and name[1:].isdigit())]]
