"""Augmentation of training batches: changes that leave a window's label valid, and faults that occur at a plant."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from conveyorguard.data.schema import THERMAL_STATISTICS, Schema

Batch = dict[str, Tensor]

MOST_DEAD = 0.8  # largest share of windows with a dead sensor, so that some are always whole
NORMAL_STEP = 0.6745 * 2**0.5  # median |difference| of two standard normal values


class Augment(nn.Module):
    """Change each window of a batch of raw values at random.

    Circuit boards differ from device to device, and a network would memorise them; mirrored frames are new boards.
    Blank or frozen frames and dead sensors keep the network from relying on one modality or one sensor alone.

    Args:
        schema: channels and camera of the data.
        flip: mirror the frames of a window, upside down in half of the windows and left to right in half of them,
            independently; all frames of a window alike.
        drop_thermal: share of windows whose frames are all set to the middle of the camera's range.
        freeze_thermal: share of windows with a stopped camera: their frame statistics stay at those of the start of the
            session, and their pixels are those of another window of the batch, which holds no pixels of the start.
        dead_sensor: probability per sensor of reading zero since the start of the session; at most one sensor per
            window and in at most 80 % of the windows, however many sensors there are.
        noise: largest added noise, as a multiple of the channel's own noise within the window; the multiple is drawn
            uniformly from [0, noise] per window and channel. A channel recorded in steps coarser than its noise gets
            none.

    Raises:
        ValueError: a share is not in [0, 1), or noise is negative or not finite.
    """

    NEEDS: ClassVar[dict[str, str]] = {  # the input that each setting changes
        "flip": "thermal",
        "drop_thermal": "thermal",
        "freeze_thermal": "thermal",
        "dead_sensor": "sensors",
        "noise": "sensors",
    }

    def __init__(
        self,
        schema: Schema,
        flip: bool = False,
        drop_thermal: float = 0.0,
        freeze_thermal: float = 0.0,
        dead_sensor: float = 0.0,
        noise: float = 0.0,
    ):
        super().__init__()
        shares = {"drop_thermal": drop_thermal, "freeze_thermal": freeze_thermal, "dead_sensor": dead_sensor}
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise ValueError(f"augment.{name}={share}: must be at least 0 and below 1")
        if not 0 <= noise < float("inf"):
            raise ValueError(f"augment.noise={noise}: must be a finite number, at least 0")
        self.flip, self.camera, self.noise = flip, schema.thermal, noise
        self.drop_thermal, self.freeze_thermal, self.dead_sensor = shares.values()

    def forward(self, batch: Batch) -> Batch:
        """Return a changed copy of the batch; inputs that the batch lacks are skipped.

        Args:
            batch: raw values: sensors (B, T, C) with sensors_start (B, C), thermal (B, Tf, Ct, H, W), thermal_stats
                (B, T, 6) with thermal_stats_start (B, 6).
        """
        if "thermal" in batch:
            batch = self._change_frames(batch)
        if "sensors" in batch and self.noise:
            values = batch["sensors"]
            factor = self.noise * torch.rand(len(values), 1, values.shape[-1], device=values.device)
            batch = {**batch, "sensors": values + factor * _noise_sd(values) * torch.randn_like(values)}
        if "sensors" in batch and self.dead_sensor:
            values = batch["sensors"]
            windows, channels, device = len(values), values.shape[-1], values.device
            dead = torch.randint(channels, (windows, 1), device=device) == torch.arange(channels, device=device)
            dead &= _random_mask(windows, min(channels * self.dead_sensor, MOST_DEAD), device)[:, None]
            start = batch["sensors_start"].masked_fill(dead, 0)
            batch = {**batch, "sensors": values.masked_fill(dead[:, None], 0), "sensors_start": start}
        return batch

    def _change_frames(self, batch: Batch) -> Batch:
        """Mirror, freeze and blank the frames of a batch, and change their statistics to match."""
        assert self.camera is not None
        frames = batch["thermal"]
        statistics = torch.cat([batch["thermal_stats"], batch["thermal_stats_start"][:, None]], dim=1)
        if self.flip:
            for axis, name, length in ((-2, "y_max", self.camera.shape[0]), (-1, "x_max", self.camera.shape[1])):
                chosen = _random_mask(len(frames), 0.5, frames.device)
                frames = torch.where(chosen.view(-1, 1, 1, 1, 1), frames.flip(axis), frames)
                column = THERMAL_STATISTICS.index(name)
                mirrored = length - 1 - statistics[..., column]
                statistics[..., column] = torch.where(chosen.view(-1, 1), mirrored, statistics[..., column])
        if self.freeze_thermal:
            chosen = _random_mask(len(frames), self.freeze_thermal, frames.device)
            frames = torch.where(chosen.view(-1, 1, 1, 1, 1), frames.roll(1, 0), frames)
            statistics = torch.where(chosen.view(-1, 1, 1), statistics[:, -1:], statistics)
        if self.drop_thermal:
            chosen = _random_mask(len(frames), self.drop_thermal, frames.device)
            blank = sum(self.camera.range) / 2
            frames = frames.masked_fill(chosen.view(-1, 1, 1, 1, 1), blank)
            of_blank = [blank if name in ("max", "p99", "mean") else 0.0 for name in THERMAL_STATISTICS]
            statistics = torch.where(chosen.view(-1, 1, 1), torch.tensor(of_blank).to(statistics), statistics)
        return {
            **batch,
            "thermal": frames,
            "thermal_stats": statistics[:, :-1],
            "thermal_stats_start": statistics[:, -1],
        }


class Mixup:
    """Blend a batch with a permutation of itself (mixup; Zhang et al., 2018).

    Between two training windows the network should be as uncertain as their labels differ.

    Args:
        batch: a batch with its targets.
        alpha: both parameters of the Beta distribution from which the weight of the batch is drawn.

    Attributes:
        order: the permutation, (B,).
        weight: weight of a window in its blend, in [0.5, 1]; its partner has the rest.
    """

    def __init__(self, batch: Batch, alpha: float):
        self.order = torch.randperm(len(batch["window"]), device=batch["window"].device)
        drawn = float(torch.distributions.Beta(alpha, alpha).sample())
        self.weight = max(drawn, 1 - drawn)

    def inputs(self, batch: Batch) -> Batch:
        """Return the scaled batch with its floating-point tensors blended; other tensors stay as they are."""
        return {
            name: torch.lerp(value[self.order], value, self.weight) if value.is_floating_point() else value
            for name, value in batch.items()
        }

    def others(self, batch: Batch) -> Batch:
        """Return the targets of the partners that are blended in."""
        return {name: batch[name][self.order] for name in ("window", "second")}


def _noise_sd(values: Tensor) -> Tensor:
    """Return the standard deviation of each channel's noise within each window, (B, T, C) to (B, 1, C).

    Estimated from the median absolute deviation of the differences between rows, so that neither a trend nor an
    outlier changes it; 0 for windows of one row.
    """
    if values.shape[1] == 1:
        return torch.zeros_like(values)
    steps = values.diff(dim=1)
    return _median((steps - _median(steps)).abs()) / NORMAL_STEP


def _median(values: Tensor) -> Tensor:
    """Return the median over time of the finite values, (B, T, C) to (B, 1, C); 0 where there are none."""
    # by sorting (missing values come last), because torch's median is not deterministic on a GPU
    half = (values.isfinite().sum(dim=1, keepdim=True) // 2).clamp_max(values.shape[1] - 1)
    return values.sort(dim=1).values.gather(1, half).nan_to_num(0.0)


def _random_mask(windows: int, share: float, device: torch.device) -> Tensor:
    """Return (B,) booleans, each true with probability `share`."""
    return torch.rand(windows, device=device) < share
