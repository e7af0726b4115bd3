"""The default network: window statistics, and a gated sequence of seconds with dense supervision."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from conveyorguard.data.schema import THERMAL_STATISTICS, Schema
from conveyorguard.data.window_statistics import statistics
from conveyorguard.models.encoders import FrameEncoder, SeriesEncoder, TemporalBlock
from conveyorguard.models.film import Batch, conditioning

__all__ = ["Fusion"]


class Series(nn.Module):
    """Encode one input second by second.

    Args:
        name: of the input, `sensors` or `thermal_stats`.
        channels: its number of channels.
        width: number of features.
        dropout: probability.
        from_start: add the change of each channel since the session began.
    """

    def __init__(self, name: str, channels: int, width: int, dropout: float, from_start: bool):
        super().__init__()
        self.name, self.channels = name, channels
        self.names = [name, f"{name}_change"] if from_start else [name]
        self.encoder = SeriesEncoder(len(self.names) * channels, width, dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Return features (B, T, width)."""
        return self.encoder(torch.cat([batch[name] for name in self.names], dim=-1))


class ThermalSeries(Series):
    """Encode the camera: statistics of the frame of every second, plus the pixels of the last frame that is used."""

    def __init__(self, schema: Schema, width: int, dropout: float, from_start: bool):
        super().__init__("thermal_stats", len(THERMAL_STATISTICS), width, dropout, from_start)
        assert schema.thermal is not None
        self.frames = FrameEncoder(schema.thermal.stored_shape[0], width, dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Return features (B, T, width)."""
        statistics, frames = super().forward(batch), self.frames(batch["thermal"])
        seconds = torch.arange(statistics.shape[1], device=frames.device) * frames.shape[1] // statistics.shape[1]
        return statistics + frames[:, seconds]


class WindowStatistics(nn.Module):
    """Linear layer on encoded window statistics, with one group of weights per statistic.

    A network memorises sessions by those of the hundreds of statistics that say little about wear. `shrink` is the
    proximal step of the group lasso (Yuan and Lin, 2006): it drives the weights of such statistics to zero.

    Args:
        sparsity: strength of the penalty on each statistic.
        bins: number of values that encode one statistic.
        width: number of features returned.
    """

    sparsity: Tensor

    def __init__(self, sparsity: list[float], bins: int, width: int):
        super().__init__()
        self.bins = bins
        self.register_buffer("sparsity", torch.tensor(sparsity), persistent=False)
        self.linear = nn.Linear(len(sparsity) * bins, width)

    def forward(self, encoded: Tensor) -> Tensor:
        """Return features (B, width) of encoded statistics (B, statistics * bins)."""
        return self.linear(encoded)

    @torch.no_grad()
    def shrink(self, lr: float) -> None:
        """Move the norm of each group of weights towards zero by `sparsity * lr`."""
        weight = self.linear.weight
        norm = weight.view(len(weight), -1, self.bins).norm(dim=(0, 2)).clamp_min(1e-12)
        weight.mul_((1 - self.sparsity * lr / norm).clamp_min(0).repeat_interleave(self.bins))


class Fusion(nn.Module):
    """Classify a window by its statistics and by the sequence of its seconds.

    The sequence: encode each second, add the camera to the sensors, condition on the environment (FiLM), convolve over
    time. It joins the statistics through a gate that is zero at first, as the camera joins the sensors. Each second is
    classified too, for dense supervision.

    Args:
        schema: of the data.
        inputs: 'sensors', 'thermal' or both, with 'environment' for FiLM.
        bins: intervals of the piecewise-linear encoding of statistics, by which the network can learn thresholds as
            trees do; as in the scaling.
        width: number of features of a second; a window has twice as many.
        dropout: probability.
        dilations: of the convolutions over time, in [s].
        sparsity: strength of the group lasso on the statistics; see `WindowStatistics`.
        sparsity_beside: the same for camera statistics used beside sensors.
        from_start: use the change since the session began, in the seconds and in the statistics.
        sequence_drop: share of the training windows classified without their sequence, so that it adds to the
            statistics instead of replacing them.
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
        count, *beside = (statistics(from_start) * branch.channels for branch in branches)
        penalties = [sparsity] * count + [sparsity_beside] * sum(beside)
        self.statistics = WindowStatistics(penalties, bins, 2 * width)
        self.sequence = nn.Linear(3 * width, 2 * width)
        self.sequence_gate = nn.Parameter(torch.zeros(2 * width))
        self.window = nn.Sequential(  # no activation before it: the sparse layer stays a linear choice of statistics
            nn.Linear(2 * width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, len(schema.states)),
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"window": (B, K), "second": (B, T, K)} logits of a scaled batch."""
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
        """Shrink the statistics layer; called after each step of the optimizer with its learning rate."""
        self.statistics.shrink(lr)
