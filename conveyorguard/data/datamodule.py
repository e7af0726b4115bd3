"""Batches: the session-split windows of a store, cut by index when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from conveyorguard.data.recording_start import start_means
from conveyorguard.data.store import ENVIRONMENT_REPAIRED, SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.windows import Windows, WindowSettings

Batch = dict[str, Tensor]


class WindowDataset(Dataset):
    """Windows of a store as batches.

    A batch holds, in raw units and as far as `inputs` asks for them: sensors (B, T, C), thermal (B, Tf, channels, rows,
    columns), thermal_stats (B, T, 6), environment (B, T, E); sensors_start (B, C) and thermal_stats_start (B, 6), the
    means over the recording's first valid rows, as far as they had passed (`recording_start`); mask (B, T, 3), True
    where sensors, frame and environment were measured rather than repaired; index (B,); and the targets window (B,)
    and second (B, T).

    Args:
        windows: see `make_windows`.
        inputs: which of sensors, thermal and environment.
    """

    def __init__(self, store: Store, windows: pd.DataFrame, settings: WindowSettings, inputs: list[str]):
        self.store, self.windows, self.settings, self.inputs = store, windows, settings, inputs
        self.rows = windows["row"].to_numpy()
        self.labels = torch.from_numpy(windows["label"].to_numpy(np.int64, copy=True))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def starts(self) -> dict[str, Tensor]:
        """Return the start of each window's recording, by input; (n, C) and (n, 6)."""
        store, size = self.store, self.settings.size
        compute = {
            "sensors": lambda: start_means(store, store.sensors, self.rows, size, SENSORS_REPAIRED),
            "thermal": lambda: start_means(store, store.thermal_statistics, self.rows, size, THERMAL_REPAIRED),
        }
        return {name: torch.from_numpy(means()) for name, means in compute.items() if name in self.inputs}

    def __getitem__(self, index: int) -> Batch:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a whole batch at once."""
        index = np.asarray(indices)
        first = self.rows[index]
        seconds = first[:, None] + np.arange(self.settings.size)
        quality = self.store.quality[seconds]
        flags = (SENSORS_REPAIRED, THERMAL_REPAIRED, ENVIRONMENT_REPAIRED)
        batch = {
            "index": torch.from_numpy(index),
            "mask": torch.from_numpy(np.stack([quality & flag == 0 for flag in flags], axis=-1)),
            "window": self.labels[index],
            "second": torch.from_numpy(self.store.state[seconds].astype(np.int64)),
        }
        if "sensors" in self.inputs:
            batch["sensors"] = torch.from_numpy(self.store.sensors[seconds])
            batch["sensors_start"] = self.starts["sensors"][index]
        if "environment" in self.inputs:
            batch["environment"] = torch.from_numpy(self.store.environment[seconds])
        if "thermal" in self.inputs:
            frames = first[:, None] + self.settings.thermal_seconds
            assert self.store.thermal is not None
            batch["thermal"] = torch.from_numpy(self.store.thermal[frames])
            batch["thermal_stats"] = torch.from_numpy(self.store.thermal_statistics[seconds])
            batch["thermal_stats_start"] = self.starts["thermal"][index]
        return batch


class BatchSampler(Sampler):
    """Batches of window numbers, shuffled by (seed, epoch), so that a resumed run sees the same order.

    Under DDP a global batch is dealt to the processes. Batches are padded with repeated windows so that every process
    takes the same number of steps; the module drops the repetitions by `index`.

    Args:
        size: number of windows.
        batch_size: of all processes together.
        seed: of the order; None: not shuffled.
        rank, world: index of this process, and number of processes.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None, rank: int = 0, world: int = 1):
        self.size, self.batch_size, self.seed, self.rank, self.world = size, batch_size, seed, rank, world
        self.epoch = 0

    @property
    def sampler(self) -> BatchSampler:
        """Return self: Lightning looks here for `set_epoch`, which it calls before each epoch, also a resumed one."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next order is drawn for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.size)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        for start in range(0, self.size, self.batch_size):
            batch = order[start : start + self.batch_size]
            if len(batch) % self.world:
                batch = np.concatenate([batch, order[: -len(batch) % self.world]])
            yield batch[self.rank :: self.world].tolist()


def whole(batch: Any) -> Any:
    """Collate nothing: the dataset returns whole batches."""
    return batch


class WindowDataModule(pl.LightningDataModule):
    """Loaders of the session-split windows.

    Args:
        batch_size: of all processes together.
        inputs: which of sensors, thermal and environment the model gets.
        seed: of the order of train windows.
    """

    def __init__(self, data: Windows, batch_size: int, inputs: list[str], seed: int):
        super().__init__()
        self.data, self.batch_size, self.inputs, self.seed = data, batch_size, inputs, seed

    def dataset(self, part: str) -> WindowDataset:
        """Return the windows of a part that are spaced for training."""
        return WindowDataset(self.data.store, self.data.part(part), self.data.settings, self.inputs)

    def _loader(self, part: str, seed: int | None) -> DataLoader:
        dataset = self.dataset(part)
        trainer = self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        sampler = BatchSampler(len(dataset), self.batch_size, seed, rank, world)
        pin = bool(trainer) and torch.cuda.is_available()
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=whole, pin_memory=pin)

    def train_dataloader(self) -> DataLoader:
        """Return shuffled batches of the train windows."""
        return self._loader("train", self.seed)

    def val_dataloader(self) -> DataLoader:
        """Return batches of the validation windows in their order."""
        return self._loader("val", None)
