"""Every metric, once: validation, metrics.json, comparisons, pages and loggers all iterate over `METRICS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score, confusion_matrix, precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_calibration_error


@dataclass(frozen=True)
class Predictions:
    """True states (n,) and probabilities (n, K) of windows, with the session of each where it is known."""

    y_true: np.ndarray
    p: np.ndarray
    session: np.ndarray | None = None

    @property
    def y_pred(self) -> np.ndarray:
        return self.p.argmax(axis=1)

    @property
    def worst(self) -> int:
        """The last state, 'severe'."""
        return self.p.shape[1] - 1


@dataclass(frozen=True)
class Metric:
    """`level` says what a value is an average or count of: 'window' or 'session'."""

    function: Callable[[Predictions], float]
    higher_is_better: bool
    level: str = "window"
    title: str = ""


def _macro_f1(p: Predictions) -> float:
    return float(_per_class(p)[2].mean())


def _per_class(p: Predictions) -> tuple[np.ndarray, ...]:
    """Precision, recall, F1 and support per state; 0 where there is nothing to divide by."""
    labels = np.arange(p.p.shape[1])
    return precision_recall_fscore_support(p.y_true, p.y_pred, labels=labels, zero_division=0)


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(np.count_nonzero(part & whole) / whole.sum()) if whole.any() else float("nan")


def _severe_sessions_missed(p: Predictions) -> float:
    if p.session is None:
        return float("nan")
    severe = p.y_true == p.worst
    caught = set(p.session[severe & (p.y_pred == p.worst)])
    return float(len(set(p.session[severe]) - caught))


def _qwk(p: Predictions) -> float:
    labels = np.arange(p.p.shape[1])
    if len(set(p.y_true) | set(p.y_pred)) < 2:
        return float("nan")
    return float(cohen_kappa_score(p.y_true, p.y_pred, weights="quadratic", labels=labels))


def _nll(p: Predictions) -> float:
    return float(-np.log(np.clip(p.p[np.arange(len(p.y_true)), p.y_true], 1e-12, 1)).mean())


def _brier(p: Predictions) -> float:
    return float(((p.p - np.eye(p.p.shape[1])[p.y_true]) ** 2).sum(axis=1).mean())


def _ece(p: Predictions) -> float:
    probabilities, target = torch.tensor(p.p), torch.tensor(p.y_true)
    return float(multiclass_calibration_error(probabilities, target, num_classes=p.p.shape[1], n_bins=15))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(lambda p: float((p.y_pred == p.y_true).mean()), True, title="accuracy"),
    "macro_f1": Metric(_macro_f1, True, title="macro-F1"),
    "severe_recall": Metric(lambda p: _share(p.y_pred == p.worst, p.y_true == p.worst), True, title="severe recall"),
    "severe_precision": Metric(
        lambda p: _share(p.y_true == p.worst, p.y_pred == p.worst), True, title="severe precision"
    ),
    "severe_as_normal": Metric(
        lambda p: float(((p.y_true == p.worst) & (p.y_pred == 0)).sum()),
        False,
        title="severe windows called normal",
    ),
    "severe_sessions_missed": Metric(_severe_sessions_missed, False, "session", "severe sessions missed entirely"),
    "qwk": Metric(_qwk, True, title="quadratic weighted kappa"),
    "ordinal_error": Metric(
        lambda p: float(np.abs(p.y_pred - p.y_true).mean()), False, title="mean distance in states"
    ),
    "nll": Metric(_nll, False, title="negative log-likelihood"),
    "brier": Metric(_brier, False, title="Brier score"),
    "ece": Metric(_ece, False, title="expected calibration error, 15 bins"),
}
# what validation can choose an epoch by: computed after every epoch, on windows
OBJECTIVES = {
    "val/loss": False,
    **{f"val/{name}": metric.higher_is_better for name, metric in METRICS.items() if metric.level == "window"},
}


def evaluate(predictions: Predictions, state_names: list[str]) -> dict[str, Any]:
    """All metrics with the per-class table and the confusion matrix (rows actual), ready for json.

    A metric without a value, e.g. the severe recall of windows none of which is severe, is None.
    """
    labels = np.arange(predictions.p.shape[1])
    values: dict[str, Any] = {}
    for name, metric in METRICS.items():
        value = metric.function(predictions)
        values[name] = value if np.isfinite(value) else None
    precision, recall, f1, support = _per_class(predictions)
    values["per_class"] = [
        {"class": state_names[k], "precision": float(precision[k]), "recall": float(recall[k]), "f1": float(f1[k]),
         "support": int(support[k])} for k in labels
    ]  # fmt: skip
    values["confusion"] = confusion_matrix(predictions.y_true, predictions.y_pred, labels=labels).tolist()
    values["n"] = len(predictions.y_true)
    return values
