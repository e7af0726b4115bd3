"""Stacking (Wolpert, 1992): a logistic regression on the log-probabilities of several models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

SMALLEST = 1e-6  # of a probability, before its logarithm is taken


@dataclass(frozen=True)
class StackingWeights:
    """Weights of the regression.

    Attributes:
        classes: (C,) states that it was fitted on.
        coefficients: (C, M * K), members outermost.
        intercept: (C,).
    """

    classes: np.ndarray
    coefficients: np.ndarray
    intercept: np.ndarray

    @classmethod
    def fit(cls, p: np.ndarray, y: np.ndarray) -> StackingWeights:
        """Fit the regression.

        Args:
            p: (M, N, K) probabilities of M members.
            y: (N,) states, of two kinds at least.
        """
        model = LogisticRegression(C=0.1, max_iter=2000).fit(_features(p), y)
        coefficients, intercept = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # a row for the second class alone
            coefficients, intercept = (np.stack([0 * values[0], values[0]]) for values in (coefficients, intercept))
        return cls(model.classes_, coefficients, intercept)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> StackingWeights:
        """Read weights from what `to_dict` returned."""
        return cls(np.array(saved["classes"]), np.array(saved["coefficients"]), np.array(saved["intercept"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the weights, ready for json."""
        return {name: getattr(self, name).tolist() for name in ("classes", "coefficients", "intercept")}

    def combine(self, p: np.ndarray) -> np.ndarray:
        """Return the combined probabilities (N, K); states that were absent from validation have 0.

        Args:
            p: (M, N, K) probabilities of the members.
        """
        combined = np.zeros(p.shape[1:])
        combined[:, self.classes] = softmax(_features(p) @ self.coefficients.T + self.intercept, axis=1)
        return combined


def _features(p: np.ndarray) -> np.ndarray:
    """Return log-probabilities (N, M * K) of (M, N, K)."""
    return np.log(np.clip(p, SMALLEST, 1)).transpose(1, 0, 2).reshape(p.shape[1], -1)
