"""Our network: small encoders of each second, gated fusion, dilated convolutions over time, dense supervision."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from conveyorguard.data.schema import THERMAL_STATISTICS, Schema
from conveyorguard.models.encoders import FrameEncoder, SeriesEncoder, TemporalBlock
from conveyorguard.models.film import conditioning

Batch = dict[str, Tensor]


class SensorBranch(nn.Module):
    """Sensor values of each second; (B, T, width)."""

    def __init__(self, schema: Schema, bins: int, width: int, dropout: float):
        super().__init__()
        self.series = SeriesEncoder(len(schema.channels), bins, width, dropout)

    def forward(self, batch: Batch) -> Tensor:
        return self.series(batch["sensors"], batch["sensors_bins"])


class ThermalBranch(nn.Module):
    """The frame's own statistics every second, and its pixels where a frame is used, held until the next; (B, T, width)."""

    def __init__(self, schema: Schema, bins: int, width: int, dropout: float):
        super().__init__()
        assert schema.thermal is not None
        self.statistics = SeriesEncoder(len(THERMAL_STATISTICS), bins, width, dropout)
        self.frames = FrameEncoder(schema.thermal.stored_shape[0], width, dropout)

    def forward(self, batch: Batch) -> Tensor:
        statistics, frames = (
            self.statistics(batch["thermal_stats"], batch["thermal_stats_bins"]),
            self.frames(batch["thermal"]),
        )
        seconds = torch.arange(statistics.shape[1], device=frames.device) * frames.shape[1] // statistics.shape[1]
        return statistics + frames[:, seconds]


class Fusion(nn.Module):
    """Encode each second, let the frames correct the sensors, condition on the environment, look along time, classify.

    The camera joins through a gate that begins at zero, so that training with both starts from sensors alone.

    Args:
        inputs: 'sensors', 'thermal' or both, with 'environment' for FiLM.
        bins: of the piecewise-linear encoding that scaling gives; its mean, maximum, minimum and last value over the window
            go to the head beside the sequence's, so that the network can set the thresholds that trees set.
        width: features of a second.
        dilations: of the convolutions over time, seconds.
    """

    NEEDS: ClassVar[dict[str, str]] = {}
    PER_SECOND: ClassVar[bool] = True

    def __init__(self, schema: Schema, inputs: list[str], bins: int, width: int = 64, dropout: float = 0.2,
                 dilations: tuple[int, ...] = (1, 2, 4, 8)):  # fmt: skip
        super().__init__()
        branches = {"sensors": SensorBranch, "thermal": ThermalBranch}
        first, *others = [make(schema, bins, width, dropout) for name, make in branches.items() if name in inputs]
        self.base, self.others = first, nn.ModuleList(others)
        self.gates = nn.ParameterList([torch.zeros(width) for _ in others])
        self.film = conditioning(len(schema.environment) if "environment" in inputs else 0, width)
        self.temporal = nn.Sequential(*[TemporalBlock(width, d, dropout) for d in dilations], nn.LayerNorm(width))
        self.second = nn.Linear(width, len(schema.states))
        widths = {"sensors_bins": len(schema.channels), "thermal_stats_bins": len(THERMAL_STATISTICS)}
        self.encoded = [
            name for name, there in zip(widths, ("sensors" in inputs, "thermal" in inputs), strict=True) if there
        ]
        self.statistics = nn.Sequential(
            nn.Linear(4 * bins * sum(widths[name] for name in self.encoded), width), nn.Dropout(dropout)
        )
        self.window = nn.Sequential(
            nn.Linear(4 * width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, len(schema.states))
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scaled batch to {"window": (B, K), "second": (B, T, K)} logits."""
        x = self.base(batch)
        for gate, branch in zip(self.gates, self.others, strict=True):
            x = x + gate * branch(batch)
        x = self.temporal(self.film(x, batch))
        encoded = torch.cat([batch[name] for name in self.encoded], dim=-1)
        statistics = self.statistics(
            torch.cat([encoded.mean(1), encoded.amax(1), encoded.amin(1), encoded[:, -1]], dim=-1)
        )
        pooled = torch.cat([x.mean(1), x.amax(1), x[:, -1], statistics], dim=-1)
        return {"window": self.window(pooled), "second": self.second(x)}
