"""Training loss: cross-entropy of the windows and, where the model predicts them, of the seconds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

POWERS = {"balanced": 1.0, "sqrt": 0.5, "none": 0.0}


class WindowLoss(nn.Module):
    """Cross-entropy of the windows, plus `second_weight` times that of their seconds.

    Args:
        class_counts: number of train windows per state, (K,).
        class_weights: weight of each state, see `class_weight`: 'balanced' (as in the seed study), 'sqrt' or 'none'.
        second_weight: weight of the seconds' loss.
        worst_weight: factor on the weight of the worst state, because missing it costs more than a false alarm.
        worst_enough: fades this factor out as data grow, to clip(worst_enough / n_worst, 1, worst_weight) with
            n_worst train windows of the worst state; 0 keeps it at `worst_weight`.
        label_smoothing: smoothing of all targets, as in `torch.nn.functional.cross_entropy`.

    Raises:
        ValueError: class_weights is unknown, or worst_enough is negative.
    """

    weights: Tensor

    def __init__(
        self,
        class_counts: np.ndarray,
        class_weights: str = "balanced",
        second_weight: float = 0.0,
        worst_weight: float = 1.0,
        worst_enough: int = 0,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        if class_weights not in POWERS:
            raise ValueError(f"loss.class_weights={class_weights}: must be one of {', '.join(POWERS)}")
        if worst_enough < 0:
            raise ValueError(
                f"loss.worst_enough={worst_enough}: must be a number of windows, or 0 to keep worst_weight constant"
            )
        self.second_weight, self.label_smoothing = second_weight, label_smoothing
        weights = class_weight(class_counts, class_weights)
        if worst_enough:
            worst_weight = min(worst_weight, max(1.0, worst_enough / max(class_counts[-1], 1)))
        weights[-1] *= worst_weight
        self.register_buffer("weights", weights)

    def forward(self, logits: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            logits: window (B, K) and, if the model predicts them, second (B, T, K).
            batch: targets window (B,) and second (B, T).
        """
        loss = self._cross_entropy(logits["window"], batch["window"])
        if self.second_weight and "second" in logits:
            second = self._cross_entropy(logits["second"].flatten(0, 1), batch["second"].flatten())
            loss = loss + self.second_weight * second
        return loss

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), target, self.weights, label_smoothing=self.label_smoothing)


def class_weight(counts: np.ndarray, rule: str = "balanced") -> Tensor:
    """Return the weight of each state, (K,): 1 / count to the power of the rule, scaled to sum to K.

    A state without train windows gets weight 0.

    Args:
        counts: number of train windows per state, (K,).
        rule: 'balanced' (power 1), 'sqrt' (1/2) or 'none' (0).
    """
    inverse = np.where(counts > 0, np.maximum(counts, 1.0) ** -POWERS[rule], 0)
    return torch.tensor(inverse / inverse.sum() * len(counts), dtype=torch.float32)
