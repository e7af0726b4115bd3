"""Statistics of a window as tensors: its levels, and its rises, within it and since the recording began."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

LEVELS = ("mean", "max", "min", "last", "last_5", "first_third", "middle_third", "last_third")
RISES = ("sd", "change", "slope", "dip", "over_thirds", "over_first_thirds")
SINCE_START = ("mean_since_start", "scaled_mean_since_start")


def statistics(from_start: bool) -> int:
    """How many a channel has."""
    return len(LEVELS) + len(RISES) + (len(SINCE_START) if from_start else 0)


def levels(x: Tensor) -> Tensor:
    """LEVELS of each channel of a window; (B, T, C) to (B, len(LEVELS), C)."""
    return torch.stack([x.mean(1), x.amax(1), x.amin(1), x[:, -1], x[:, -5:].mean(1), *_thirds(x)], dim=1)


def rises(x: Tensor) -> Tensor:
    """RISES of each channel of a window, as the inverse hyperbolic sine; (B, T, C) to (B, len(RISES), C).

    A fault current rides on the device's load, whose level differs from device to device. What happens within a window
    does not depend on the load; as the sine's inverse it is linear within the noise and logarithmic far above it.

    Args:
        x: values in units of the channel's noise, without a logarithm.
    """
    size, mean = x.shape[1], x.mean(1)
    first, middle, last = _thirds(x)
    time = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    slope = (x * time[:, None]).sum(1) / max(float(size * (size**2 - 1)) / 12, 1.0) * size
    sd = (x - mean[:, None]).square().mean(1).sqrt()
    return torch.asinh(
        torch.stack([sd, x[:, -1] - x[:, 0], slope, x.amin(1) - mean, last - first, middle - first], dim=1)
    )


def since_start(rise: Tensor, change: Tensor) -> Tensor:
    """SINCE_START of each channel: what has changed since the recording's first seconds; (B, T, C) to (B, 2, C).

    Args:
        rise: values less their mean at the recording's start, in units of the channel's noise.
        change: scaled values less that mean, scaled: of a logarithm it is the factor that a value has grown by.
    """
    return torch.stack([torch.asinh(rise.mean(1)), change.mean(1)], dim=1)


def _thirds(x: Tensor) -> list[Tensor]:
    """Means of the window's thirds, each of at least a second."""
    begins = [i * x.shape[1] // 3 for i in range(4)]
    return [x[:, a : max(b, a + 1)].mean(1) for a, b in pairwise(begins)]
