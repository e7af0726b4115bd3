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
        statistics, frames = self.statistics(batch["thermal_stats"], batch["thermal_stats_bins"]), self.frames(batch["thermal"])
        seconds = torch.arange(statistics.shape[1], device=frames.device) * frames.shape[1] // statistics.shape[1]
        return statistics + frames[:, seconds]


class Fusion(nn.Module):
    """Encode each second, let the frames correct the sensors, condition on the environment, look along time, classify.

    The camera joins through a gate that begins at zero, so that training with both starts from sensors alone.

    Args:
        inputs: 'sensors', 'thermal' or both, with 'environment' for FiLM.
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
        encoded = {"sensors": len(schema.channels), "thermal": len(THERMAL_STATISTICS)}
        self.encoded = [n for n in ("sensors", "thermal") if n in inputs]
        self.stat = nn.Sequential(nn.Linear(4*bins*sum(encoded[n] for n in self.encoded), width), nn.Dropout(dropout))
        self.window = nn.Sequential(
            nn.Linear(4 * width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, len(schema.states))
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scaled batch to {"window": (B, K), "second": (B, T, K)} logits."""
        x = self.base(batch)
        for gate, branch in zip(self.gates, self.others, strict=True):
            x = x + gate * branch(batch)
        x = self.temporal(self.film(x, batch))
        e = torch.cat([batch[{"sensors":"sensors_bins","thermal":"thermal_stats_bins"}[n]] for n in self.encoded], -1)
        stat = self.stat(torch.cat([e.mean(1), e.amax(1), e.amin(1), e[:, -1]], -1))
        pooled = torch.cat([x.mean(1), x.amax(1), x[:, -1], stat], dim=-1)
        return {"window": self.window(pooled), "second": self.second(x)}
