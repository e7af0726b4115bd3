"""Augmentation of training batches: what does not change how worn a device is, and what goes wrong at a plant."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from conveyorguard.data.schema import THERMAL_STATISTICS, Schema

Batch = dict[str, Tensor]

MOST_DEAD = 0.8  # share of the windows in which some sensor may be dead, however many there are
NORMAL_STEP = 0.6745 * 2**0.5  # median distance of two values of a normal distribution with sd 1


class Augment(nn.Module):
    """Random changes to each window of a batch in raw units.

    Boards differ from device to device and a network learns them by heart. Mirrored they are new ones; and a window
    whose frames are blank must be told from its sensors, so that the network does not come to lean on frames alone. Nor
    is it to lean on one sensor, or to take a camera that has stopped for a board that stays cool.

    Args:
        flip: mirror a window's frames, each of the two ways in half of the windows, all frames of a window alike.
        drop_thermal: share of the windows whose frames are blanked to the middle of the camera's range.
        freeze_thermal: share of the windows whose camera has stopped: the frames' statistics stay what they were when
            the recording began, and the pixels are of another window, for a batch has none of that time.
        dead_sensor: share of the windows in which a sensor has read zero since the recording began; of each sensor, one
            at a time, so that of many each gets less: in a fifth of the windows none is dead.
        noise: at most so many times a channel's own noise is added to it; how many is drawn for each window and
            channel. Its own is that of the window, and none where the channel's steps are coarser than it.
    """

    NEEDS: ClassVar[dict[str, str]] = {  # the input that each setting acts on
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
                raise ValueError(f"augment.{name}={share}: 0 or more and below 1")
        if not 0 <= noise < float("inf"):
            raise ValueError(f"augment.noise={noise}: 0 or more")
        self.flip, self.camera, self.noise = flip, schema.thermal, noise
        self.drop_thermal, self.freeze_thermal, self.dead_sensor = shares.values()

    def forward(self, batch: Batch) -> Batch:
        """Raw batch to raw batch; sensors (B, T, C), frames (B, Tf, channels, rows, columns), statistics of each
        second's frame (B, T, 6), and both at the recording's start (B, C) and (B, 6)."""
        if "thermal" in batch:
            batch = self._camera(batch)
        if "sensors" in batch and self.noise:
            values = batch["sensors"]
            times = self.noise * torch.rand(len(values), 1, values.shape[-1], device=values.device)
            batch = {**batch, "sensors": values + times * _own_noise(values) * torch.randn_like(values)}
        if "sensors" in batch and self.dead_sensor:
            values = batch["sensors"]
            windows, channels, device = len(values), values.shape[-1], values.device
            dead = torch.randint(channels, (windows, 1), device=device) == torch.arange(channels, device=device)
            dead &= _some(windows, min(channels * self.dead_sensor, MOST_DEAD), device)[:, None]
            start = batch["sensors_start"].masked_fill(dead, 0)
            batch = {**batch, "sensors": values.masked_fill(dead[:, None], 0), "sensors_start": start}
        return batch

    def _camera(self, batch: Batch) -> Batch:
        assert self.camera is not None
        frames = batch["thermal"]
        statistics = torch.cat([batch["thermal_stats"], batch["thermal_stats_start"][:, None]], dim=1)
        if self.flip:
            for axis, name, length in ((-2, "y_max", self.camera.shape[0]), (-1, "x_max", self.camera.shape[1])):
                chosen = _some(len(frames), 0.5, frames.device)
                frames = torch.where(chosen.view(-1, 1, 1, 1, 1), frames.flip(axis), frames)
                place = THERMAL_STATISTICS.index(name)
                mirrored = length - 1 - statistics[..., place]
                statistics[..., place] = torch.where(chosen.view(-1, 1), mirrored, statistics[..., place])
        if self.freeze_thermal:
            chosen = _some(len(frames), self.freeze_thermal, frames.device)
            frames = torch.where(chosen.view(-1, 1, 1, 1, 1), frames.roll(1, 0), frames)
            statistics = torch.where(chosen.view(-1, 1, 1), statistics[:, -1:], statistics)
        if self.drop_thermal:
            chosen = _some(len(frames), self.drop_thermal, frames.device)
            blank = sum(self.camera.range) / 2
            frames = frames.masked_fill(chosen.view(-1, 1, 1, 1, 1), blank)
            flat = torch.tensor([blank if n in ("max", "p99", "mean") else 0.0 for n in THERMAL_STATISTICS]).to(
                statistics
            )
            statistics = torch.where(chosen.view(-1, 1, 1), flat, statistics)
        return {
            **batch,
            "thermal": frames,
            "thermal_stats": statistics[:, :-1],
            "thermal_stats_start": statistics[:, -1],
        }


class Mixup:
    """A batch blended with itself in another order (Zhang et al., 2018): between the windows it has seen a network is
    to be as unsure as their labels differ.

    Args:
        alpha: of the Beta distribution that a batch's weight is drawn from.
    """

    def __init__(self, batch: Batch, alpha: float):
        self.order = torch.randperm(len(batch["window"]), device=batch["window"].device)
        drawn = float(torch.distributions.Beta(alpha, alpha).sample())
        self.weight = max(drawn, 1 - drawn)  # of a window's own

    def inputs(self, batch: Batch) -> Batch:
        """The scaled batch, blended; what is no floating-point number stays."""
        return {
            name: torch.lerp(value[self.order], value, self.weight) if value.is_floating_point() else value
            for name, value in batch.items()
        }

    def others(self, batch: Batch) -> Batch:
        """The targets that are blended in."""
        return {name: batch[name][self.order] for name in ("window", "second")}


def _own_noise(values: Tensor) -> Tensor:
    """Standard deviation of each channel from second to second, as the middle of its steps tells it, whatever its slope
    and its outliers; (B, T, C) to (B, 1, C)."""
    if values.shape[1] == 1:
        return torch.zeros_like(values)
    steps = values.diff(dim=1)
    return _middle((steps - _middle(steps)).abs()) / NORMAL_STEP


def _middle(values: Tensor) -> Tensor:
    """The middle value over time of what is there; (B, T, C) to (B, 1, C), 0 where nothing is."""
    # sorted, what is missing last, because the median of a GPU is not the same every time
    middle = (values.isfinite().sum(dim=1, keepdim=True) // 2).clamp_max(values.shape[1] - 1)
    return values.sort(dim=1).values.gather(1, middle).nan_to_num(0.0)


def _some(windows: int, share: float, device: torch.device) -> Tensor:
    """True for a random share of the windows, (B,)."""
    return torch.rand(windows, device=device) < share
