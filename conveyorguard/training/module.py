"""The LightningModule that trains any network with its scaling and loss."""

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
    """Scale a raw batch and classify its windows.

    Args:
        model: network from a scaled batch to logits {"window": (B, K)} and, if it predicts seconds, {"second":
            (B, T, K)}.
            Its method `shrink`, if it has one, is called with the learning rate after each step.
        scaling: raw batch to scaled batch.
        loss: logits and batch to a scalar.
        optimizer: called with the parameters, returns the optimizer.
        epochs: length of the cosine schedule.
        states: number of states, K.
        seed: seed of what is drawn at random in each epoch.
        saved: plain values kept in every checkpoint, from which the run can be rebuilt.
        augment: raw train batch to raw train batch; None for no augmentation.
        mixup: `alpha` of `Mixup`; 0 for no mixup.
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
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the logits of a raw batch."""
        return self.model(self.scaling(batch))

    @property
    def inputs(self) -> list[str]:
        """What the network is given: sensors, thermal, environment."""
        return self.saved["inputs"]

    @property
    def config(self) -> dict[str, Any]:
        """Plain values from which the module can be rebuilt."""
        return self.saved["config"]

    @property
    def parameter_count(self) -> int:
        """Number of parameters of the network."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def size_in_bytes(self) -> int:
        """Size of the module's tensors [bytes]; a checkpoint holds the optimizer's state too."""
        return sum(value.numel() * value.element_size() for value in self.state_dict().values())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer, with a cosine schedule stepped once per epoch."""
        optimizer = self.make_optimizer(self.model.parameters())
        if shrink := getattr(self.model, "shrink", None):
            optimizer.register_step_post_hook(lambda optimizer, *_: shrink(optimizer.param_groups[0]["lr"]))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Seed torch at the start of an epoch by run seed, epoch and rank."""
        # checkpoints hold no random state: seeded by epoch, a resumed run draws what an uninterrupted one would
        if batch_index == 0:
            source = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank])
            torch.manual_seed(int(source.generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of a train batch, augmented and blended as configured."""
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
        """Collect the loss and the predictions of a validation batch."""
        logits = self(batch)
        self.val_loss(self.loss(logits, batch), len(batch["window"]))
        self._validated.append((batch["index"], batch["window"], logits["window"].float().softmax(-1)))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of all validation windows, each counted once; NaN where a metric is undefined.

        A metric that is left out would keep its value of the epoch before.
        """
        index, target, probability = (dim_zero_cat([step[i] for step in self._validated]) for i in range(3))
        self._validated.clear()
        if self.trainer.world_size > 1:  # some windows come twice: ranks are padded to equal numbers of steps
            index, target, probability = (self._gathered(x) for x in (index, target, probability))
        order = np.unique(index.cpu().numpy(), return_index=True)[1]
        predictions = Predictions(target.cpu().numpy()[order], probability.cpu().numpy()[order].astype(np.float64))
        self.log("val/loss", self.val_loss)
        for name, value in metric_values(predictions).items():
            if f"val/{name}" in OBJECTIVES:
                self.log(f"val/{name}", value, rank_zero_only=False, sync_dist=False)

    def _gathered(self, values: Tensor) -> Tensor:
        """Return the values of all processes, concatenated."""
        gathered = self.all_gather(values)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the saved plain values to the checkpoint."""
        checkpoint["conveyorguard"] = self.saved
