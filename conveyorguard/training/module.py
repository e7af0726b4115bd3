"""The LightningModule: any network, its scaling, its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.utilities import dim_zero_cat

from conveyorguard.data.datamodule import Batch
from conveyorguard.metrics.scores import OBJECTIVES, Predictions, metric_values
from conveyorguard.training.augment import Mixup


class WindowClassifier(pl.LightningModule):
    """Scale a raw batch, classify its windows.

    Args:
        model: takes a scaled batch, returns logits {"window": (B, K)} and, if it has them, {"second": (B, T, K)}. Its
            `shrink`, if it has one, is called with the learning rate after each step.
        optimizer: parameters -> optimizer.
        epochs: of the cosine annealing.
        states: K.
        saved: plain values kept in every checkpoint, from which the run can be rebuilt.
        augment: raw train batch -> raw train batch.
        mixup: alpha of `Mixup`, 0 for none.
    """

    def __init__(
        self,
        model: nn.Module,
        scaling: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Any], torch.optim.Optimizer],
        epochs: int,
        states: int,
        seed: int,
        saved: dict[str, Any] | None = None,
        augment: nn.Module | None = None,
        mixup: float = 0.0,
    ):
        super().__init__()
        self.model, self.scaling, self.loss = model, scaling, loss
        self.augment, self.mixup = augment or nn.Identity(), mixup
        self.make_optimizer, self.epochs, self.seed, self.saved = optimizer, epochs, seed, saved or {}
        self.train_accuracy = MulticlassAccuracy(states, average="micro")
        self.val_loss = MeanMetric()
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Raw batch to logits."""
        return self.model(self.scaling(batch))

    @property
    def inputs(self) -> list[str]:
        """What the network is given."""
        return self.saved["inputs"]

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which it can be built again."""
        return self.saved["config"]

    @property
    def parameter_count(self) -> int:
        """Of the network."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def size_in_bytes(self) -> int:
        """Of all that prediction needs, scaling included; a checkpoint holds the optimizer's state too."""
        return sum(value.numel() * value.element_size() for value in self.state_dict().values())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer(self.model.parameters())
        if shrink := getattr(self.model, "shrink", None):
            optimizer.register_step_post_hook(lambda stepped, *_: shrink(stepped.param_groups[0]["lr"]))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        # random state is not in a checkpoint: derived from the epoch, a resumed run draws what an uninterrupted one
        # does
        if batch_index == 0:
            source = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank])
            torch.manual_seed(int(source.generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        scaled = self.scaling(self.augment(batch))
        if self.mixup:
            mixed = Mixup(scaled, self.mixup)
            logits = self.model(mixed.inputs(scaled))
            loss = torch.lerp(self.loss(logits, mixed.others(batch)), self.loss(logits, batch), mixed.weight)
        else:
            logits = self.model(scaled)
            loss = self.loss(logits, batch)
        self.train_accuracy(logits["window"], batch["window"])
        size = len(batch["window"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        logits = self(batch)
        self.val_loss(self.loss(logits, batch), len(batch["window"]))
        self._seen.append((batch["index"], batch["window"], logits["window"].float().softmax(-1)))

    def on_validation_epoch_end(self) -> None:
        index, target, probability = (dim_zero_cat([step[i] for step in self._seen]) for i in range(3))
        self._seen.clear()
        if self.trainer.world_size > 1:  # padded to the same number of steps; every window counts once
            index, target, probability = (self._of_all(x) for x in (index, target, probability))
        order = np.unique(index.cpu().numpy(), return_index=True)[1]
        predictions = Predictions(target.cpu().numpy()[order], probability.cpu().numpy()[order].astype(np.float64))
        self.log("val/loss", self.val_loss)
        for name, value in metric_values(predictions).items():
            if f"val/{name}" in OBJECTIVES and np.isfinite(value):
                self.log(f"val/{name}", value, rank_zero_only=False, sync_dist=False)

    def _of_all(self, values: Tensor) -> Tensor:
        """Values of all processes, one after another."""
        gathered = self.all_gather(values)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["conveyorguard"] = self.saved
