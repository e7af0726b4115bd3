"""Temperature scaling (Guo et al., 2017): one number, fitted on validation, that calibrates the probabilities.

The calibrated probabilities of validation itself are cross-fitted by device: those of a device use a temperature fitted
on other devices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.model_selection import GroupKFold

from conveyorguard.metrics.resampling import Arm, Resampling
from conveyorguard.metrics.scores import CALIBRATION_BINS, METRICS, Predictions, Totals

FOLDS = 5
FIGURES = ("nll", "brier", "ece")
WIDEST = np.log(20.0)  # largest log-temperature in absolute value
SPREAD = 0.5  # sd of the normal prior on the log-temperature; a few dozen windows outweigh it


def fit_temperature(p: np.ndarray, y: np.ndarray) -> float:
    """Return the temperature of maximum posterior for probabilities p (N, K) and states y (N,); above 1 softens.

    On a small validation without an error, the likelihood alone drives the temperature to 0 and every probability to 0
    or 1. A normal prior on the log-temperature, centred on temperature 1, prevents that.
    """

    def loss(log_temperature: float) -> float:
        scaled = scale(p, float(np.exp(log_temperature)))
        likelihood = np.log(np.clip(scaled[np.arange(len(y)), y], 1e-12, 1)).sum()
        return float(log_temperature**2 / (2 * SPREAD**2) - likelihood)

    return float(np.exp(minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded").x))


def scale(p: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log p / temperature), (N, K)."""
    logits = np.log(np.clip(p, 1e-12, 1)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def calibrate(
    val: Predictions, device: np.ndarray, others: dict[str, Predictions]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Calibrate the probabilities of validation and of other parts.

    Args:
        val: Predictions on validation.
        device: (N,) device of each validation window.
        others: Predictions on further parts, by name.

    Returns:
        Calibrated probabilities (N, K) by part, and the content of calibration.json: {method, temperature, crossed_by,
        parts: {part: {before, after: {nll, brier, ece}}}}.
    """
    temperature = fit_temperature(val.p, val.y_true)
    groups, by = (device, "device") if len(set(device)) > 1 else (val.session, "session")
    crossed = val.p.copy()
    if groups is not None and len(set(groups)) > 1:
        for fitted, held_out in GroupKFold(min(FOLDS, len(set(groups)))).split(val.p, groups=groups):
            crossed[held_out] = scale(val.p[held_out], fit_temperature(val.p[fitted], val.y_true[fitted]))
    else:
        by = "nothing: there is one validation session"
    parts = {"val": crossed, **{name: scale(other.p, temperature) for name, other in others.items()}}
    facts = {}
    for name, before in {"val": val, **others}.items():
        after = Predictions(before.y_true, parts[name], before.session)
        facts[name] = {
            when: {k: float(METRICS[k].function(Totals.over(p))) for k in FIGURES}
            for when, p in (("before", before), ("after", after))
        }
    return parts, {"method": "temperature", "temperature": temperature, "crossed_by": by, "parts": facts}


def reliability(predictions: Predictions, resampling: Resampling | None = None) -> pd.DataFrame:
    """Return the reliability diagram as a table of the non-empty bins of the largest probability.

    Returns:
        windows, confidence (mean largest probability), accuracy, and with a resampling the 95 % interval of the
        accuracy, low and high; NaN where there is none.
    """
    bins = Totals.over(predictions).calibration
    count, confidence, right = bins.T
    table = pd.DataFrame({"windows": count.astype(int), "confidence": confidence, "accuracy": right})
    table[["confidence", "accuracy"]] = table[["confidence", "accuracy"]].div(np.maximum(count, 1), axis=0)
    assert len(table) == CALIBRATION_BINS
    if resampling is not None:
        arm = Arm([predictions], resampling)
        low, high = np.transpose([arm.bin_bounds(i) for i in range(CALIBRATION_BINS)])
        table = table.assign(low=low, high=high)
    return table[count > 0].reset_index(drop=True)
