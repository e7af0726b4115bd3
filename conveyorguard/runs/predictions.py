"""The rows of `predictions.parquet`."""

from __future__ import annotations

import numpy as np
import pandas as pd

PREDICTION_COLUMNS = (
    "session",
    "device",
    "kind",
    "start_time",
    "end_time",
    "start",
    "end",
    "seconds_to_end",
    "seconds_since_onset",
)


def prediction_table(windows: pd.DataFrame, part: str, probabilities: np.ndarray) -> pd.DataFrame:
    """Return rows of `predictions.parquet`: one per window, with its place, label, prediction and p0, p1, ...

    Args:
        windows: see `conveyorguard.data.windows.make_windows`.
        part: of the split.
        probabilities: (n, K) of the windows.
    """
    table = windows[list(PREDICTION_COLUMNS)].copy()
    table.insert(0, "split", part)
    table["y_true"] = windows["label"].to_numpy()
    table["y_pred"] = probabilities.argmax(axis=1)
    for k in range(probabilities.shape[1]):
        table[f"p{k}"] = probabilities[:, k]
    return table
