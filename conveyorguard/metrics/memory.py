"""Memory: what a model said a few seconds ago, taken into account when it is asked for the state now.

A multinomial logistic regression on the log-probabilities of the window that ends now and of those that ended 3, 8 and
15 periods ago. It is causal, is fitted on validation, and calibrates as temperature scaling does, which it replaces.
It is kept only where it helps devices that had no part in fitting it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.resampling import Arm, resample
from conveyorguard.metrics.scores import Predictions

LAGS = (0, 3, 8, 15)  # periods
FOLDS = 5  # and the fewest devices by which a memory is judged
SMALLEST = 1e-6  # a probability below it is no surer
PENALTY = 0.01  # C of the regression: windows of neighbouring seconds are hardly independent


@dataclass(frozen=True)
class Memory:
    """Weights on log-probabilities, now and before.

    Attributes:
        lags: (L,) periods.
        coefficients: (K, L x K), for each state the weights of `log p` at each lag, lags outermost.
        intercept: (K,).
    """

    lags: tuple[int, ...]
    coefficients: np.ndarray
    intercept: np.ndarray

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities (n, K) of `lagged` features (n, L x K)."""
        return softmax(features @ self.coefficients.T + self.intercept, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values of `memory.json`."""
        return {
            "lags": list(self.lags),
            "smallest": SMALLEST,
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept.tolist(),
        }

    @classmethod
    def of(cls, values: dict[str, Any]) -> Memory:
        """Read what `to_dict` wrote."""
        return cls(tuple(values["lags"]), np.array(values["coefficients"]), np.array(values["intercept"]))


def log_probabilities(p: np.ndarray) -> np.ndarray:
    """Return log p (n, K), probabilities clipped to `SMALLEST` and above."""
    return np.log(np.clip(p, SMALLEST, 1))


def lagged(p: np.ndarray, end: np.ndarray, run: np.ndarray, lags: tuple[int, ...] = LAGS) -> np.ndarray:
    """Return the log-probabilities of each window and of those before it.

    The value at a lag is that of the last window that had ended by then; before the first window of a run, the first.

    Args:
        p: (n, K), windows in the order of time within a run, runs one after another.
        end: (n,) when a window ends, in periods.
        run: (n,) number of the run of windows without a gap, increasing.

    Returns:
        (n, L x K).
    """
    logs = log_probabilities(p)
    first = np.searchsorted(run, run)
    span = (end.max() - end.min() + 1 + max(lags)) if len(end) else 1
    key = run * span + (end - (end.min() if len(end) else 0))  # increasing: runs do not meet, whatever the lag
    columns = []
    for lag in lags:
        place = np.searchsorted(key, key - lag, side="right") - 1
        columns.append(logs[np.maximum(place, first)])
    return np.concatenate(columns, axis=1)


def runs_of(windows: pd.DataFrame, longest: float) -> np.ndarray:
    """Number the runs of windows without a gap, (n,).

    Args:
        windows: session and end [s], in the order of time within a session.
        longest: time between the ends of two windows of one run [s].
    """
    session, end = windows["session"].to_numpy(str), windows["end"].to_numpy(float)
    begins = np.ones(len(windows), bool)
    begins[1:] = (session[1:] != session[:-1]) | (np.diff(end) > longest * 1.001) | (np.diff(end) <= 0)
    return np.cumsum(begins) - 1


def fit_memory(features: np.ndarray, y: np.ndarray, states: int) -> Memory:
    """Fit the regression on lagged features (n, L x K) and states (n,); a state that is absent stays improbable."""
    model = LogisticRegression(C=PENALTY, solver="newton-cholesky").fit(features, y)
    coefficients, intercept = np.zeros((states, features.shape[1])), np.full(states, -20.0)
    if len(model.classes_) == 2:  # one row of weights stands for both
        coefficients[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
        intercept[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        coefficients[model.classes_], intercept[model.classes_] = model.coef_, model.intercept_
    return Memory(LAGS, coefficients, intercept)


@dataclass(frozen=True)
class MemoryTrial:
    """What a memory was worth on validation.

    Attributes:
        memory: fitted on all of validation; None where it is not kept.
        crossed: (n, K) probabilities of validation, each device by a memory fitted on the others; None where not kept.
        gain: of macro-F1 over the calibrated probabilities, paired; None where it was not tried.
        reason: why it is kept or not, a sentence.
    """

    memory: Memory | None
    crossed: np.ndarray | None
    gain: Interval | None
    reason: str


def try_memory(features: np.ndarray, calibrated: Predictions, device: np.ndarray) -> MemoryTrial:
    """Fit a memory on validation and keep it where it helps devices that it was not fitted on.

    Args:
        features: (n, L x K) of `lagged`.
        calibrated: the probabilities that it would replace, cross-fitted, with the session of each window.
        device: (n,).
    """
    states, devices = calibrated.p.shape[1], len(set(device))
    if devices < FOLDS:
        reason = f"not tried: validation has {devices} {'device' if devices == 1 else 'devices'}, {FOLDS} are needed"
        return MemoryTrial(None, None, None, reason)
    if len(np.unique(calibrated.y_true)) < states:  # a state that it never saw would never be answered
        return MemoryTrial(None, None, None, "not tried: validation does not have every state")
    crossed = calibrated.p.copy()
    for others, held_out in GroupKFold(FOLDS).split(features, groups=device):
        if len(np.unique(calibrated.y_true[others])) > 1:
            fitted = fit_memory(features[others], calibrated.y_true[others], states)
            crossed[held_out] = fitted.apply(features[held_out])
    assert calibrated.session is not None
    resampling = resample(calibrated.session, device)
    arms = [Arm([Predictions(calibrated.y_true, p, calibrated.session)], resampling) for p in (crossed, calibrated.p)]
    gain = arms[0].difference(arms[1], "macro_f1")
    if resampling.shortage:
        return MemoryTrial(None, None, gain, f"not kept: no interval of its gain, {resampling.shortage} of validation")
    if not gain.low > 0:
        loss = "macro-F1 on validation is lower with it" if gain.high < 0 else "its gain on validation may be zero"
        return MemoryTrial(None, None, gain, f"not kept: {loss}")
    return MemoryTrial(
        fit_memory(features, calibrated.y_true, states), crossed, gain, "kept: macro-F1 on validation is higher with it"
    )
