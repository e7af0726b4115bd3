"""Small encoders of sensor values and of thermal frames, and a convolution over time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LAGS = (1, 5, 10)  # [rows]


def with_differences(x: Tensor) -> Tensor:
    """Append the differences over LAGS to x, (B, T, C) to (B, T, 4C); the first value stands for those before it."""
    differences = [x]
    for lag in LAGS:
        lag = min(lag, x.shape[1])
        earlier = torch.cat([x[:, :1].expand(-1, lag, -1), x], dim=1)[:, : x.shape[1]]
        differences.append(x - earlier)
    return torch.cat(differences, dim=-1)


class SeriesEncoder(nn.Module):
    """Encode the values and their differences of each second, (B, T, channels) to (B, T, width)."""

    def __init__(self, channels: int, width: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels * (1 + len(LAGS)), width),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, T, width) of values (B, T, channels)."""
        return self.layers(with_differences(x))


class FrameEncoder(nn.Module):
    """Encode thermal frames by strided convolutions, (B, Tf, channels, rows, columns) to (B, Tf, width).

    They are pooled by mean and maximum: a hot component covers few pixels, and a mean alone would lose it.
    """

    def __init__(self, channels: int, width: int, dropout: float):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 16, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, width, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.project = nn.Sequential(nn.Linear(2 * width, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout))

    def forward(self, frames: Tensor) -> Tensor:
        """Return features (B, Tf, width) of frames (B, Tf, channels, rows, columns)."""
        features = self.convolutions(frames.flatten(0, 1)).flatten(2)
        pooled = torch.cat([features.mean(-1), features.amax(-1)], dim=-1)
        return self.project(pooled).view(*frames.shape[:2], -1)


class TemporalBlock(nn.Module):
    """Residual dilated convolution over time (Bai et al., 2018, here not causal)."""

    def __init__(self, width: int, dilation: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.after = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, T, width) with what its neighbours in time add."""
        mixed = self.convolution(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.after(mixed)
