"""Temperature scaling (Guo et al., 2017): one number that makes probabilities mean what they say, learned on
validation.

Validation's own calibrated probabilities are cross-fitted by device: no device helps to calibrate itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.model_selection import GroupKFold

from conveyorguard.metrics.bootstrap import Arm, Resampling
from conveyorguard.metrics.scores import CALIBRATION_BINS, METRICS, Predictions, Totals

FOLDS = 5
FIGURES = ("nll", "brier", "ece")
WIDEST = np.log(20.0)  # of a temperature, either way
SPREAD = 0.5  # sd of a log-temperature before any window is seen; a few dozen windows outweigh it where they disagree


def fit_temperature(p: np.ndarray, y: np.ndarray) -> float:
    """The temperature under which p (n, K) is likeliest for states y (n,); above 1 softens.

    The likelihood alone goes to no temperature at all, and every probability to 0 or 1, where the few windows of a
    small validation are all predicted right. A normal prior on the log-temperature, about 1, keeps it from that.
    """

    def loss(log_temperature: float) -> float:
        scaled = scale(p, float(np.exp(log_temperature)))
        likelihood = np.log(np.clip(scaled[np.arange(len(y)), y], 1e-12, 1)).sum()
        return float(log_temperature**2 / (2 * SPREAD**2) - likelihood)

    return float(np.exp(minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded").x))


def scale(p: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / temperature), (n, K)."""
    logits = np.log(np.clip(p, 1e-12, 1)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def calibrate(
    val: Predictions, device: np.ndarray, others: dict[str, Predictions]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Calibrated probabilities of each part, and what to keep beside the model.

    Args:
        device: (n,) of the validation windows. others: further parts, by name.

    Returns:
        probabilities (n, K) by part, and {temperature, crossed_by, parts: {part: {before, after: {nll, brier, ece}}}}.
    """
    temperature = fit_temperature(val.p, val.y_true)
    groups, by = (device, "device") if len(set(device)) > 1 else (val.session, "session")
    crossed = val.p.copy()
    if groups is not None and len(set(groups)) > 1:
        for rest, own in GroupKFold(min(FOLDS, len(set(groups)))).split(val.p, groups=groups):
            crossed[own] = scale(val.p[own], fit_temperature(val.p[rest], val.y_true[rest]))
    else:
        by = "nothing: there is one validation session"
    parts = {"val": crossed, **{name: scale(other.p, temperature) for name, other in others.items()}}
    facts = {}
    for name, own in {"val": val, **others}.items():
        after = Predictions(own.y_true, parts[name], own.session)
        facts[name] = {
            when: {k: float(METRICS[k].function(Totals.over(p))) for k in FIGURES}
            for when, p in (("before", own), ("after", after))
        }
    return parts, {"method": "temperature", "temperature": temperature, "crossed_by": by, "parts": facts}


def reliability(predictions: Predictions, resampling: Resampling | None = None) -> pd.DataFrame:
    """Of the windows in each bin of the largest probability: windows, mean probability (confidence), share that is
    right (accuracy), and with a resampling the 95 % interval of the latter (low, high; NaN where there is none)."""
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
