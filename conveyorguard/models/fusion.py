"""Our network: small encoders of each second, gated fusion, dilated convolutions over time, dense supervision."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from conveyorguard.data.schema import THERMAL_STATISTICS, Schema
from conveyorguard.data.window_statistics import statistics
from conveyorguard.models.encoders import FrameEncoder, SeriesEncoder, TemporalBlock
from conveyorguard.models.film import Batch, conditioning


class Series(nn.Module):
    """Channels of one kind second by second, and what each has changed since the recording began; (B, T, width)."""

    def __init__(self, name: str, channels: int, width: int, dropout: float, from_start: bool):
        super().__init__()
        self.name, self.channels = name, channels
        self.names = [name, f"{name}_change"] if from_start else [name]
        self.encoder = SeriesEncoder(len(self.names) * channels, width, dropout)

    def forward(self, batch: Batch) -> Tensor:
        return self.encoder(torch.cat([batch[name] for name in self.names], dim=-1))


class ThermalSeries(Series):
    """The frame's own statistics every second, and its pixels where a frame is used, held until the next; (B, T,
    width)."""

    def __init__(self, schema: Schema, width: int, dropout: float, from_start: bool):
        super().__init__("thermal_stats", len(THERMAL_STATISTICS), width, dropout, from_start)
        assert schema.thermal is not None
        self.frames = FrameEncoder(schema.thermal.stored_shape[0], width, dropout)

    def forward(self, batch: Batch) -> Tensor:
        statistics, frames = super().forward(batch), self.frames(batch["thermal"])
        seconds = torch.arange(statistics.shape[1], device=frames.device) * frames.shape[1] // statistics.shape[1]
        return statistics + frames[:, seconds]


class WindowStatistics(nn.Module):
    """The first layer on encoded statistics of the window, a group of weights for each statistic; (B, groups * bins) to
    (B, width).

    A network that may use hundreds of statistics learns sessions by heart from those that say little. `shrink` is the
    group lasso (Yuan and Lin, 2006) as a proximal step: a statistic keeps its weights only as far as it earns them, and
    `sparsity` says of each how much that is.
    """

    sparsity: Tensor

    def __init__(self, sparsity: list[float], bins: int, width: int):
        super().__init__()
        self.bins = bins
        self.register_buffer("sparsity", torch.tensor(sparsity), persistent=False)
        self.linear = nn.Linear(len(sparsity) * bins, width)

    def forward(self, encoded: Tensor) -> Tensor:
        return self.linear(encoded)

    @torch.no_grad()
    def shrink(self, lr: float) -> None:
        """Move the norm of each group towards zero by `sparsity * lr`."""
        weight = self.linear.weight
        norm = weight.view(len(weight), -1, self.bins).norm(dim=(0, 2)).clamp_min(1e-12)
        weight.mul_((1 - self.sparsity * lr / norm).clamp_min(0).repeat_interleave(self.bins))


class Fusion(nn.Module):
    """Encode each second, let the frames correct the sensors, condition on the environment, look along time, classify.

    The window is classified by its statistics, as trees would; the sequence joins through a gate that begins at zero,
    and so does the camera beside the sensors within the sequence.

    Args:
        inputs: 'sensors', 'thermal' or both, with 'environment' for FiLM.
        bins: of the piecewise-linear encoding of statistics that scaling gives, with which a network can set the
            thresholds that trees set.
        width: features of a second; the window has twice as many.
        dilations: of the convolutions over time, seconds.
        sparsity: how fast statistics that say little lose their weights. sparsity_beside: of the camera's beside the
            sensors'.
        from_start: whether what has changed since the recording began is told, second by second and among the
            statistics.
        sequence_drop: share of the windows that are trained on without their sequence, so that it adds to the
            statistics rather than takes their place.
    """

    NEEDS: ClassVar[dict[str, str]] = {}
    PER_SECOND: ClassVar[bool] = True

    def __init__(
        self,
        schema: Schema,
        inputs: list[str],
        bins: int = 24,
        width: int = 64,
        dropout: float = 0.2,
        dilations: tuple[int, ...] = (1, 2, 4, 8),
        sparsity: float = 3.0,
        sparsity_beside: float = 9.0,
        from_start: bool = True,
        sequence_drop: float = 0.5,
    ):
        super().__init__()
        branches: list[Series] = []
        if "sensors" in inputs:
            branches.append(Series("sensors", len(schema.channels), width, dropout, from_start))
        if "thermal" in inputs:
            branches.append(ThermalSeries(schema, width, dropout, from_start))
        first, *others = branches
        self.base, self.others = first, nn.ModuleList(others)
        self.gates = nn.ParameterList([torch.zeros(width) for _ in others])
        self.film = conditioning(len(schema.environment) if "environment" in inputs else 0, width)
        self.temporal = nn.Sequential(*[TemporalBlock(width, d, dropout) for d in dilations], nn.LayerNorm(width))
        self.second = nn.Linear(width, len(schema.states))
        self.sequence_drop = sequence_drop
        self.encoded = [f"{branch.name}_window" for branch in branches]
        own, *beside = (statistics(from_start) * branch.channels for branch in branches)
        asked = [sparsity] * own + [sparsity_beside] * sum(beside)
        self.statistics = WindowStatistics(asked, bins, 2 * width)
        self.sequence = nn.Linear(3 * width, 2 * width)
        self.sequence_gate = nn.Parameter(torch.zeros(2 * width))
        self.window = (
            nn.Sequential(  # no activation before it: the sparse layer is to stay a linear choice of statistics
                nn.Linear(2 * width, 2 * width),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(2 * width, 2 * width),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(2 * width, len(schema.states)),
            )
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scaled batch to {"window": (B, K), "second": (B, T, K)} logits."""
        x = self.base(batch)
        for gate, branch in zip(self.gates, self.others, strict=True):
            x = x + gate * branch(batch)
        x = self.temporal(self.film(x, batch))
        sequence = self.sequence(torch.cat([x.mean(1), x.amax(1), x[:, -1]], dim=-1))
        if self.training:
            sequence = sequence * (torch.rand(len(sequence), 1, device=sequence.device) >= self.sequence_drop)
        statistics = self.statistics(torch.cat([batch[name] for name in self.encoded], dim=-1))
        return {"window": self.window(statistics + self.sequence_gate * sequence), "second": self.second(x)}

    def shrink(self, lr: float) -> None:
        """After each step of the optimizer, with its learning rate."""
        self.statistics.shrink(lr)
