"""How a network is trained, as plain values given from Python or read from a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from conveyorguard.config.compose import build
from conveyorguard.data.scaling import ScalingSettings
from conveyorguard.training.augment import Augment
from conveyorguard.training.loss import WindowLoss

__all__ = ["Recipe"]

ADAMW = partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.1)
TRAINER = partial(pl.Trainer, devices=1, gradient_clip_val=1.0)


@dataclass(frozen=True)
class Recipe:
    """Network, loss, optimizer and schedule of a training; `Recipe(Fusion, {"width": 32}, epochs=10)` is enough.

    Attributes:
        network: a class or factory, called as `network(schema=..., inputs=..., **settings)`; see
            `conveyorguard.models.check_model`.
        settings: keyword arguments of the network.
        scaling: how its inputs are scaled.
        loss: called as `loss(class_counts=...)` with the number of train windows per state, (K,).
        augment: called as `augment(schema=...)`, returns a module from raw train batch to raw train batch.
        optimizer: called with the parameters, returns the optimizer; it must pickle.
        trainer: returns Lightning's trainer; `max_epochs` and the run's own arguments are passed to it.
        epochs: largest number of epochs, and length of the cosine schedule.
        batch_size: windows per batch.
        patience: epochs without an improvement of `objective` after which training stops.
        average: largest decay of the exponential average of the weights, see `moving_average`; None for no averaging.
        mixup: `alpha` of `Mixup`; 0 for no mixup.
        objective: validation metric by which the best epoch is chosen.
        keep: epoch whose weights are kept: `best` by the objective, or `last`, after all `epochs`.
        seed: seed of initial weights, shuffling, dropout and augmentation.
        checkpoint: `last.ckpt` of a training to resume; None to start anew.
        config: plain values kept in every checkpoint, from which the network can be rebuilt; derived from the other
            fields when empty.
    """

    network: Callable[..., nn.Module]
    settings: Mapping[str, Any] = field(default_factory=dict)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    loss: Callable[..., nn.Module] = WindowLoss
    augment: Callable[..., nn.Module] = Augment
    optimizer: Callable[[Any], torch.optim.Optimizer] = ADAMW
    trainer: Callable[..., pl.Trainer] = TRAINER
    epochs: int = 30
    batch_size: int = 64
    patience: int = 7
    average: float | None = None
    mixup: float = 0.0
    objective: str = "val/macro_f1"
    keep: str = "best"
    seed: int = 0
    checkpoint: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Recipe:
        """Build the recipe of a config.

        Args:
            settings: the resolved config as nested plain values.

        Raises:
            ConfigError: a `_target_` is not allowed, or does not accept its settings.
        """
        return cls(
            network=partial(build, {key: value for key, value in settings["model"].items() if key != "name"}),
            scaling=build(settings["scaling"]),
            loss=partial(build, settings["loss"]),
            augment=partial(build, settings["augment"]),
            optimizer=partial(_build_optimizer, settings["optimizer"]),
            trainer=partial(build, settings["trainer"]),
            epochs=settings["trainer"]["max_epochs"],
            batch_size=settings["batch_size"],
            patience=settings["patience"],
            average=settings["average"],
            mixup=settings.get("mixup", 0.0),
            objective=settings["objective"],
            keep=settings.get("keep", "best"),
            seed=settings["seed"],
            checkpoint=settings["ckpt_path"],
            config=dict(settings),
        )

    @property
    def saved(self) -> dict[str, Any]:
        """Plain values that every checkpoint keeps."""
        return self.config or {
            "model": model_settings(self.network, self.settings),
            "scaling": {"_target_": path_of(ScalingSettings), **asdict(self.scaling)},
            "loss": {"_target_": path_of(WindowLoss)},
            "trainer": {"max_epochs": self.epochs},
            "data": {},
            "objective": self.objective,
            "seed": self.seed,
        }

    def build_network(self, schema: Any, inputs: list[str]) -> nn.Module:
        """Build the untrained network, with weights drawn from torch's global random state.

        Args:
            schema: channels, camera and states of the data.
            inputs: what the network is given: sensors, thermal, environment.
        """
        network = self.network(schema=schema, inputs=inputs, **self.settings)
        # faster convolutions of thermal frames
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _build_optimizer(settings: Mapping[str, Any], parameters: Any) -> torch.optim.Optimizer:
    """Build the optimizer of a config.

    A function of this module, because a partial built by Hydra cannot be pickled for spawned processes.
    """
    return build(settings, _partial_=True)(parameters)


def model_settings(model: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `model` block of a config that rebuilds a model.

    Args:
        model: its class.
        settings: keyword arguments it was built with.
    """
    path = path_of(model)
    return {"name": path.rpartition(".")[2].lower(), "_target_": path, **settings}


def path_of(cls: Callable[..., Any]) -> str:
    """Return the dotted path by which a class is imported."""
    return f"{cls.__module__}.{cls.__qualname__}"
