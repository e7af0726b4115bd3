"""The training loss: of the window's label, and of every second where the model gives one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

POWERS = {"balanced": 1.0, "sqrt": 0.5, "none": 0.0}


class WindowLoss(nn.Module):
    """Cross-entropy of the window, plus `second_weight` times that of its seconds.

    Args:
        class_counts: train windows per state.
        class_weights: 'balanced' weighs a state by 1 / its count, scaled to sum to the number of states (the seed's);
            'sqrt' by the root of that; 'none'.
        worst_weight: further weight of the worst state: missing it costs more than a false alarm.
        worst_enough: train windows of the worst state with which its border is known well enough to do without the
            further weight; with fewer it is in proportion, up to `worst_weight`. 0: always `worst_weight`.
        label_smoothing: of the window's and the seconds' targets.
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
            raise ValueError(f"loss.class_weights={class_weights}: {', '.join(POWERS)}")
        if worst_enough < 0:
            raise ValueError(f"loss.worst_enough={worst_enough}: windows, or 0 for always worst_weight")
        self.second_weight, self.label_smoothing = second_weight, label_smoothing
        weights = class_weight(class_counts, class_weights)
        if worst_enough:
            worst_weight = min(worst_weight, max(1.0, worst_enough / max(class_counts[-1], 1)))
        weights[-1] *= worst_weight
        self.register_buffer("weights", weights)

    def forward(self, logits: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """Mean loss over the batch: logits window (B, K) and second (B, T, K), targets window (B,) and second (B,
        T)."""
        loss = self._cross_entropy(logits["window"], batch["window"])
        if self.second_weight and "second" in logits:
            second = self._cross_entropy(logits["second"].flatten(0, 1), batch["second"].flatten())
            loss = loss + self.second_weight * second
        return loss

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), target, self.weights, label_smoothing=self.label_smoothing)


def class_weight(counts: np.ndarray, rule: str = "balanced") -> Tensor:
    """1 / count to the rule's power, scaled to sum to the number of states; a state without a train window gets none of
    it."""
    inverse = np.where(counts > 0, np.maximum(counts, 1.0) ** -POWERS[rule], 0)
    return torch.tensor(inverse / inverse.sum() * len(counts), dtype=torch.float32)
