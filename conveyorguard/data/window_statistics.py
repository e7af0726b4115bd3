"""Statistics of a window as tensors: levels, rises within the window, and changes since the recording began."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

LEVELS = ("mean", "max", "min", "last", "last_5", "first_third", "middle_third", "last_third")
RISES = ("sd", "change", "slope", "dip", "over_thirds", "over_first_thirds")
SINCE_START = ("mean_since_start", "scaled_mean_since_start")


def statistics(from_start: bool) -> int:
    """Return the number of statistics per channel."""
    return len(LEVELS) + len(RISES) + (len(SINCE_START) if from_start else 0)


def levels(x: Tensor) -> Tensor:
    """Compute `LEVELS` of each channel; (B, T, C) to (B, len(LEVELS), C)."""
    return torch.stack([x.mean(1), x.amax(1), x.amin(1), x[:, -1], x[:, -5:].mean(1), *_thirds(x)], dim=1)


def rises(x: Tensor) -> Tensor:
    """Compute `RISES` of each channel, as inverse hyperbolic sine; (B, T, C) to (B, len(RISES), C).

    The current of a fault adds to the load, whose level differs between devices; changes within a window do not depend
    on it. asinh is linear within the noise and logarithmic far above it.

    Args:
        x: values in units of the channel's noise, not their logarithm.
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
    """Compute `SINCE_START` of each channel, the change since the recording's first rows; (B, T, C) to (B, 2, C).

    Args:
        rise: values minus their mean at the recording's start, in units of the channel's noise.
        change: scaled values minus the scaled mean; for a logarithm, the log of the factor by which a value has grown.
    """
    return torch.stack([torch.asinh(rise.mean(1)), change.mean(1)], dim=1)


def _thirds(x: Tensor) -> list[Tensor]:
    """Return the means of the thirds of the window, each of at least one row."""
    begins = [i * x.shape[1] // 3 for i in range(4)]
    return [x[:, a : max(b, a + 1)].mean(1) for a, b in pairwise(begins)]
