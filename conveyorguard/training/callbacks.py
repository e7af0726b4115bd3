"""Callbacks of a training: history.csv, weight averaging, pruning, progress, and the check that all ranks agree."""

from __future__ import annotations

import csv
import math
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from rich.progress import Progress, TaskID
from torch import Tensor, nn

from conveyorguard.errors import RunError
from conveyorguard.sweeps.trial import TrialHandle
from conveyorguard.system.files import replacing, write_json
from conveyorguard.system.progress import bar, console
from conveyorguard.training.module import WindowClassifier

COLUMNS = (
    "epoch",
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "val/macro_f1",
    "lr",
    "seconds",
)


class History(pl.Callback):
    """Write `history.csv`, one row per epoch; the whole file is replaced each time, so that it is never incomplete."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the rows of the epochs before the one that a resumed training starts with."""
        if trainer.current_epoch and self.path.exists():
            with self.path.open(encoding="utf-8") as stream:
                rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]
            self.rows = [row for row in rows if row["epoch"] < trainer.current_epoch]

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, index: int) -> None:
        """Note the time and the learning rate at the start of an epoch."""
        if index == 0:
            self.began, self.lr = time.perf_counter(), trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Add the epoch's row and replace the file; on rank 0 only."""
        if not trainer.is_global_zero:
            return
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        values = {name: value for name, value in logged.items() if not math.isnan(value)}  # else an empty cell
        row = {
            "epoch": trainer.current_epoch,
            **values,
            "lr": self.lr,
            "seconds": round(time.perf_counter() - self.began, 3),
        }
        self.rows.append(row)
        names = [*COLUMNS, *sorted({name for row in self.rows for name in row} - set(COLUMNS))]
        with replacing(self.path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if k != "epoch" else int(v) for k, v in row.items()} for row in self.rows)


class Averaging(WeightAveraging):
    """Average the weights exponentially, with batch norm statistics measured for the averaged weights.

    Averaged batch norm statistics belong to other weights, and are wrong while the weights still move fast. So they are
    measured anew before every validation, on a fixed sample of train windows, as `torch.optim.swa_utils.update_bn` does
    once at the end.

    Args:
        decay: weight of the average in each step, see `moving_average`.
    """

    SAMPLE, BATCH = 512, 64  # windows

    def __init__(self, decay: float):
        super().__init__(multi_avg_fn=partial(moving_average, decay=decay))

    def on_validation_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Swap in the averaged weights and measure their batch norm statistics."""
        super().on_validation_epoch_start(trainer, module)
        norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        if not norms:
            return
        dataset = trainer.datamodule.dataset("train")  # type: ignore[attr-defined]
        sample = np.linspace(0, len(dataset) - 1, min(self.SAMPLE, len(dataset))).astype(int)
        momenta = [layer.momentum for layer in norms]
        for layer in norms:
            layer.reset_running_stats()
            layer.train()
            layer.momentum = None  # equal weight for every batch
        for rows in np.array_split(sample, -(-len(sample) // self.BATCH)):
            module({name: value.to(module.device) for name, value in dataset.__getitems__(rows.tolist()).items()})
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.eval()
            layer.momentum = momentum


def moving_average(averages: list[Tensor], currents: list[Tensor], count: Tensor, decay: float) -> None:
    """Update the averages in place by one step: averages = kept * averages + (1 - kept) * currents.

    `kept` is min(decay, (1 + count) / (10 + count)): early steps are forgotten faster. With few
    sessions an epoch has two steps, and the initial weights would dominate the average until training stops. Counters
    and other integers are copied. This is a module-level function because torch's own is a closure, which
    cannot be pickled for spawned processes.

    Args:
        averages: averaged tensors of one type.
        currents: the tensors after the step, in the same order.
        count: number of steps averaged so far.
        decay: largest weight of the average.
    """
    if not averages[0].is_floating_point():
        torch._foreach_copy_(averages, currents)
        return
    kept = torch.clamp((1 + count) / (10 + count), max=decay)
    torch._foreach_mul_(averages, kept)
    torch._foreach_add_(averages, torch._foreach_mul(currents, 1 - kept))


class Ranks(pl.Callback):
    """With several processes, write `ranks.json` with what each rank trains.

    Raises:
        RunError: (when training starts) the ranks train different models, optimizers or seeds.
    """

    def __init__(self, path: Path):
        self.path = path

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Compare optimizer, model, parameter count and seed of all ranks."""
        if trainer.world_size == 1:
            return
        assert isinstance(module, WindowClassifier)
        defaults = trainer.optimizers[0].defaults  # the arguments that this process gave its optimizer
        mine = {
            "optimizer": {name: value for name, value in defaults.items() if isinstance(value, int | float | tuple)},
            "model": module.saved["config"]["model"],
            "parameters": sum(p.numel() for p in module.parameters()),
            "seed": module.seed,
        }
        ranks: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(ranks, {"rank": trainer.global_rank, "pid": os.getpid(), **mine})
        if trainer.is_global_zero:
            write_json(self.path, ranks)
        others = [rank for rank in ranks if {**rank, **mine} != rank]
        if others:
            raise RunError(
                f"{self.path}: rank {others[0]['rank']} trains another job than rank {trainer.global_rank}; "
                "start all ranks with the same command"
            )


class Pruning(pl.Callback):
    """Report each epoch's objective to the study, and stop all processes when the study prunes the trial.

    Args:
        trial: this process's trial.
        objective: name of the reported metric.
    """

    def __init__(self, trial: TrialHandle, objective: str):
        self.trial, self.objective = trial, objective

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Report the objective; rank 0 decides and all ranks follow."""
        stop = False
        value = float(trainer.callback_metrics[self.objective])
        if trainer.is_global_zero and self.trial.report(trainer.current_epoch, value):
            self.trial.finish("PRUNED", value, epoch=trainer.current_epoch)
            stop = True
        trainer.should_stop = trainer.should_stop or trainer.strategy.broadcast(stop)


class Progression(pl.Callback):
    """Show progress: a bar in a terminal, elsewhere one printed line per epoch.

    Args:
        monitor: name of the metric shown.
        higher_is_better: direction of the metric, to mark the best epoch.
    """

    def __init__(self, monitor: str, higher_is_better: bool):
        self.monitor, self.sign = monitor, 1 if higher_is_better else -1
        self.best = -float("inf")
        self.progress: Progress | None = None
        self.task: TaskID | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the bar on rank 0, at the epoch that training starts with."""
        if trainer.is_global_zero:
            self.progress = bar()
            self.progress.start()
            total = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
            done = int(trainer.num_training_batches) * trainer.current_epoch
            self.task = self.progress.add_task("training", total=total, completed=done, note="")

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *step) -> None:
        """Advance the bar by one step."""
        if self.progress and self.task is not None:
            self.progress.advance(self.task)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Show the metric and its best value so far."""
        value = trainer.callback_metrics.get(self.monitor)
        if not self.progress or self.task is None or value is None:
            return
        better = self.sign * float(value) > self.best
        self.best = max(self.best, self.sign * float(value))
        note = f"{self.monitor} {float(value):.4f} (best {self.sign * self.best:.4f})"
        self.progress.update(self.task, note=note)
        if not console().is_terminal:
            loss = float(trainer.callback_metrics["train/loss"])
            mark = "  best" if better else ""
            print(
                f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  train/loss {loss:.4f}  "
                f"{self.monitor} {float(value):.4f}{mark}",
                flush=True,
            )

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Remove the bar."""
        if self.progress:
            self.progress.stop()
            self.progress = None

    def __getstate__(self) -> dict:
        """Leave out the bar, which cannot be pickled for spawned processes."""
        return {**self.__dict__, "progress": None}
