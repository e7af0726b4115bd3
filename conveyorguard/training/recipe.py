"""How a network is trained, in plain values: from Python, or from the settings of a config."""

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

ADAMW = partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.1)
TRAINER = partial(pl.Trainer, devices=1, gradient_clip_val=1.0)


@dataclass(frozen=True)
class Recipe:
    """Network, loss, optimizer and schedule of a training. `Recipe(Fusion, {"width": 32}, epochs=10)` is enough.

    Attributes:
        network: a class, or what builds one, called as `network(schema=..., inputs=..., **settings)`; see
            `conveyorguard.models.check_model`.
        settings: of the network.
        scaling: of its inputs.
        loss: built as `loss(class_counts=...)`, (K,) train windows per state.
        augment: built as `augment(schema=...)`, raw train batch to raw train batch.
        optimizer: parameters to optimizer; it must pickle.
        trainer: builds Lightning's trainer; `max_epochs` and what belongs to a run are passed to it.
        epochs: at most, and of the cosine schedule.
        patience: epochs without a better `objective` after which training stops.
        average: decay of the exponential average of the weights over steps; None: the last weights.
        mixup: alpha of the Beta distribution by whose draws train windows are blended; 0: none.
        objective: the metric on validation that chooses the epoch that is kept.
        checkpoint: `last.ckpt` of a training to go on with.
        config: plain values kept in every checkpoint, from which the network can be rebuilt.
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
    seed: int = 0
    checkpoint: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Recipe:
        """The recipe of a config.

        Args:
            settings: the resolved config as nested plain values.

        Raises:
            ConfigError: something in it may not be built, or does not take its settings.
        """
        return cls(
            network=partial(build, {key: value for key, value in settings["model"].items() if key != "name"}),
            scaling=build(settings["scaling"]),
            loss=partial(build, settings["loss"]),
            augment=partial(build, settings["augment"]),
            optimizer=partial(_optimizer, settings["optimizer"]),
            trainer=partial(build, settings["trainer"]),
            epochs=settings["trainer"]["max_epochs"],
            batch_size=settings["batch_size"],
            patience=settings["patience"],
            average=settings["average"],
            mixup=settings.get("mixup", 0.0),
            objective=settings["objective"],
            seed=settings["seed"],
            checkpoint=settings["ckpt_path"],
            config=dict(settings),
        )

    @property
    def saved(self) -> dict[str, Any]:
        """The plain values that a checkpoint keeps."""
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
        """The bare network, untrained, its weights drawn from torch's random state."""
        network = self.network(schema=schema, inputs=inputs, **self.settings)
        # convolutions of frames are faster so
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _optimizer(settings: Mapping[str, Any], parameters: Any) -> torch.optim.Optimizer:
    """The optimizer of a config; a plain function, because what Hydra builds partially does not reach spawned
    processes."""
    return build(settings, _partial_=True)(parameters)


def model_settings(model: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The `model` block of a config, from which a class with these settings can be built again."""
    path = path_of(model)
    return {"name": path.rpartition(".")[2].lower(), "_target_": path, **settings}


def path_of(cls: Callable[..., Any]) -> str:
    """The dotted path by which a class is imported."""
    return f"{cls.__module__}.{cls.__qualname__}"
