"""Augmentation of training batches, in raw units: what does not change how worn a device is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from conveyorguard.data.schema import THERMAL_STATISTICS, Schema

Batch = dict[str, Tensor]


class Augment(nn.Module):
    """Random changes to the frames of each window of a batch.

    Boards differ from device to device and a network learns them by heart. Mirrored they are new ones; and a window whose
    frames are blank must be told from its sensors, so that the network does not come to lean on frames alone.

    Args:
        flip: mirror a window's frames, each of the two ways in half of the windows, all frames of a window alike.
        drop_thermal: share of the windows whose frames are blanked to the middle of the camera's range.
    """

    def __init__(self, schema: Schema, flip: bool = False, drop_thermal: float = 0.0):
        super().__init__()
        if not 0 <= drop_thermal < 1:
            raise ValueError(f"augment.drop_thermal={drop_thermal}: 0 or more and below 1")
        self.flip, self.drop_thermal, self.camera = flip, drop_thermal, schema.thermal

    def forward(self, batch: Batch) -> Batch:
        """Raw batch to raw batch; frames (B, Tf, channels, rows, columns), statistics of each second's frame (B, T, 6)
        and of the recording's start (B, 6)."""
        if "thermal" not in batch or self.camera is None:
            return batch
        frames = batch["thermal"]
        statistics = torch.cat([batch["thermal_stats"], batch["thermal_stats_start"][:, None]], dim=1)
        if self.flip:
            for axis, name, length in ((-2, "y_max", self.camera.shape[0]), (-1, "x_max", self.camera.shape[1])):
                chosen = _some(len(frames), 0.5, frames.device)
                frames = torch.where(chosen.view(-1, 1, 1, 1, 1), frames.flip(axis), frames)
                place = THERMAL_STATISTICS.index(name)
                mirrored = length - 1 - statistics[..., place]
                statistics[..., place] = torch.where(chosen.view(-1, 1), mirrored, statistics[..., place])
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


def _some(windows: int, share: float, device: torch.device) -> Tensor:
    """True for a random share of the windows, (B,)."""
    return torch.rand(windows, device=device) < share
