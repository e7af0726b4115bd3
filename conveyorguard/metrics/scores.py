"""All metrics: validation, metrics.json, intervals, comparisons, pages and loggers iterate over `METRICS`.

A metric is a function of `Totals`, sums over windows that add up over sessions. The metric without a device is then
that of the whole sum minus the device's (`resampling.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Predictions:
    """True states (N,) and probabilities (N, K) of windows, and the session of each window (N,) if known."""

    y_true: np.ndarray
    p: np.ndarray
    session: np.ndarray | None = None

    @property
    def y_pred(self) -> np.ndarray:
        """Predicted states (N,), those of the largest probability."""
        return self.p.argmax(axis=1)


@dataclass(frozen=True)
class Totals:
    """Sums over windows; leading dimensions (...) are sessions or groups, the last of K states is the worst.

    Attributes:
        confusion: (..., K, K) counts, rows actual.
        nll: (...) sum of negative log-likelihoods [nat].
        brier: (...) sum of squared errors of the probabilities.
        calibration: (..., bins, 3) by bin of the largest probability: number of windows, sum of that probability,
            number of correct windows.
        worst_sessions: (..., 2) number of sessions with the worst state, and of those in which no such window was
            recognised; NaN if the sessions are unknown.
    """

    confusion: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    calibration: np.ndarray
    worst_sessions: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions, session: np.ndarray | None = None, sessions: int = 1) -> Totals:
        """Compute the totals of each session, (S, ...).

        Args:
            predictions: Predictions on N windows.
            session: (N,) index of each window's session; None takes all windows as one session.
            sessions: Number of sessions S.
        """
        y, p, guess = predictions.y_true.astype(np.int64), predictions.p, predictions.y_pred
        states, rows = p.shape[1], np.arange(len(y))
        group = np.zeros(len(y), np.int64) if session is None else session

        def add(index: np.ndarray, size: int, weights: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(group * size + index, weights, sessions * size).astype(float)

        confusion = add(y * states + guess, states**2).reshape(sessions, states, states)
        confidence = p.max(axis=1)
        bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
        calibration = [
            add(bins, CALIBRATION_BINS, weights) for weights in (None, confidence, (guess == y).astype(float))
        ]
        zeros = np.zeros(len(y), np.int64)
        return cls(
            confusion,
            add(zeros, 1, -np.log(np.clip(p[rows, y], 1e-12, 1))),
            add(zeros, 1, ((p - np.eye(states)[y]) ** 2).sum(axis=1)),
            np.stack([part.reshape(sessions, CALIBRATION_BINS) for part in calibration], axis=-1),
            np.stack([confusion[:, -1].sum(-1) > 0, (confusion[:, -1].sum(-1) > 0) & (confusion[:, -1, -1] == 0)], -1)
            * 1.0,
        )

    @classmethod
    def over(cls, predictions: Predictions) -> Totals:
        """Compute the totals over all windows."""
        if predictions.session is None:
            return replace(cls.of(predictions).summed(), worst_sessions=np.full(2, np.nan))
        names, index = np.unique(predictions.session, return_inverse=True)
        return cls.of(predictions, index, len(names)).summed()

    def summed(self) -> Totals:
        """Sum over the first dimension, sessions or groups of them."""
        return Totals(*(getattr(self, f.name).sum(0) for f in fields(self)))

    def grouped(self, owner: np.ndarray, groups: int) -> Totals:
        """Sum sessions (S, ...) by group, (G, ...).

        Args:
            owner: (S,) index of each session's group.
            groups: Number of groups G.
        """
        sums = []
        for field in fields(self):
            values = getattr(self, field.name)
            sums.append(np.zeros((groups, *values.shape[1:])))
            np.add.at(sums[-1], owner, values)
        return Totals(*sums)

    def without_each(self) -> Totals:
        """Return the sum of all groups but one, for each group, (G, ...)."""
        return Totals(*(getattr(self, f.name).sum(0) - getattr(self, f.name) for f in fields(self)))

    @property
    def n(self) -> np.ndarray:
        """Number of windows (...)."""
        return self.confusion.sum((-2, -1))


@dataclass(frozen=True)
class Metric:
    """A metric computed from totals; NaN where its denominator is zero.

    Attributes:
        function: Maps `Totals` with leading dimensions (...) to values (...).
        higher_is_better: Whether a higher value is better.
        level: 'window' or 'session', what it averages or counts; validation epochs know windows only.
        title: Name for people, with {first} and {worst} for the names of these states, see `named`.
        percent: Whether it is a share of 1 that is shown in percent.
        range: Least and greatest value.
        worst_alone: Whether only windows of the worst state, or called so, count.
    """

    function: Callable[[Totals], np.ndarray]
    higher_is_better: bool
    level: str = "window"
    title: str = ""
    percent: bool = False
    range: tuple[float, float] = (0, np.inf)
    worst_alone: bool = False

    def named(self, states: Sequence[str]) -> str:
        """Return the title with the names of the first and the worst state."""
        return self.title.format(first=states[0], worst=states[-1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where whole is 0."""
    whole = np.asarray(whole, float)
    return np.divide(
        part, whole, out=np.full(np.broadcast_shapes(np.shape(part), whole.shape), np.nan), where=whole != 0
    )


def _diagonal(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def per_class(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall, F1 and support, each (..., K), of confusion matrices (..., K, K); NaN for 0 / 0."""
    right, actual, called = _diagonal(confusion), confusion.sum(-1), confusion.sum(-2)
    return _ratio(right, called), _ratio(right, actual), _ratio(2 * right, actual + called), actual


def _macro_f1(t: Totals) -> np.ndarray:
    """Return the mean F1 of the states that occur, actual or predicted, as scikit-learn does."""
    f1 = per_class(t.confusion)[2]
    known = np.isfinite(f1)
    return _ratio(np.where(known, f1, 0).sum(-1), known.sum(-1))


def _distance(states: int) -> np.ndarray:
    return np.abs(np.arange(states)[:, None] - np.arange(states))


def _qwk(t: Totals) -> np.ndarray:
    squared = _distance(t.confusion.shape[-1]) ** 2
    actual, called = t.confusion.sum(-1), t.confusion.sum(-2)
    expected = (actual[..., :, None] * called[..., None, :] * squared).sum((-2, -1))
    return 1 - _ratio((t.confusion * squared).sum((-2, -1)) * t.n, expected)


def _ece(t: Totals) -> np.ndarray:
    count, confidence, right = np.moveaxis(t.calibration, -1, 0)
    return _ratio(np.abs(confidence - right).sum(-1), count.sum(-1))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(lambda t: _ratio(_diagonal(t.confusion).sum(-1), t.n), True, title="accuracy", percent=True),
    "macro_f1": Metric(_macro_f1, True, title="macro-F1", percent=True),
    "severe_recall": Metric(
        lambda t: per_class(t.confusion)[1][..., -1], True, title="{worst} recall", percent=True, worst_alone=True
    ),
    "severe_precision": Metric(
        lambda t: per_class(t.confusion)[0][..., -1], True, title="{worst} precision", percent=True, worst_alone=True
    ),
    "severe_as_normal": Metric(
        lambda t: t.confusion[..., -1, 0], False, title="{worst} windows called {first}", worst_alone=True
    ),
    "severe_sessions_missed": Metric(
        lambda t: t.worst_sessions[..., 1], False, "session", "{worst} sessions missed entirely", worst_alone=True
    ),
    "qwk": Metric(_qwk, True, title="quadratic weighted kappa", range=(-1, 1)),
    "ordinal_error": Metric(
        lambda t: _ratio((t.confusion * _distance(t.confusion.shape[-1])).sum((-2, -1)), t.n),
        False,
        title="mean distance in states",
    ),
    "nll": Metric(lambda t: _ratio(t.nll, t.n), False, title="negative log-likelihood"),
    "brier": Metric(lambda t: _ratio(t.brier, t.n), False, title="Brier score"),
    "ece": Metric(
        _ece, False, title=f"expected calibration error, {CALIBRATION_BINS} bins", percent=True, range=(0, 1)
    ),
}
# metrics by which validation can choose an epoch, and whether higher is better; only those of windows are computed then
OBJECTIVES = {
    "val/loss": False,
    **{f"val/{name}": metric.higher_is_better for name, metric in METRICS.items() if metric.level == "window"},
}


def metric_values(predictions: Predictions) -> dict[str, float]:
    """Compute every metric of the predictions by name; NaN where one has no value."""
    totals = Totals.over(predictions)
    return {name: float(metric.function(totals)) for name, metric in METRICS.items()}


def evaluate(predictions: Predictions, state_names: list[str]) -> dict[str, Any]:
    """Compute all metrics, the per-class table and the confusion matrix (rows actual), ready for json.

    A metric without a value, such as the severe recall without a severe window, is None; per class it is 0.
    """
    values: dict[str, Any] = {k: v if np.isfinite(v) else None for k, v in metric_values(predictions).items()}
    confusion = Totals.over(predictions).confusion
    precision, recall, f1, support = (np.nan_to_num(column) for column in per_class(confusion))
    values["per_class"] = [
        {
            "class": state_names[k],
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            "support": int(support[k]),
        }
        for k in range(len(support))
    ]
    values["confusion"] = confusion.astype(int).tolist()
    values["n"] = len(predictions.y_true)
    return values
