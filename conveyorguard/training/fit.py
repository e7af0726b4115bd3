"""Fitting a network with Lightning: what is built from the config, trained, and taken back as the best checkpoint."""

from __future__ import annotations

import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from conveyorguard.config.compose import build
from conveyorguard.config.saved import refuse_interpolations
from conveyorguard.data.datamodule import WindowDataModule
from conveyorguard.data.scaling import Scaling
from conveyorguard.data.schema import Schema
from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.metrics.scores import OBJECTIVES
from conveyorguard.training.callbacks import Averaging, History, Progression, Ranks
from conveyorguard.training.checkpoints import WholeFiles, read_checkpoint
from conveyorguard.training.loss import WindowLoss
from conveyorguard.training.module import WindowClassifier


def build_module(cfg: DictConfig, data: Windows, inputs: list[str]) -> WindowClassifier:
    """The network of a config with its scaling fitted on the data, not yet trained."""
    pl.seed_everything(cfg.seed, verbose=False)
    schema = data.store.schema
    scaling = Scaling(schema, build(cfg.scaling)).fit(
        data.store, fitted_rows(data, cfg.scaling.fit_on), data.settings.size
    )
    model = build_model(cfg, schema, inputs)
    loss: WindowLoss = build(cfg.loss, class_counts=data.class_counts())
    saved = {
        "config": OmegaConf.to_container(cfg, resolve=True),
        "schema": schema.to_dict(),
        "inputs": inputs,
    }
    optimizer = partial(build_optimizer, cfg.optimizer)
    return WindowClassifier(
        model,
        scaling,
        loss,
        optimizer,
        cfg.trainer.max_epochs,
        len(schema.states),
        cfg.seed,
        saved,
        augment=build(cfg.augment, schema=schema),
        mixup=cfg.get("mixup", 0.0),
    )


def build_optimizer(node: DictConfig, parameters: Any) -> torch.optim.Optimizer:
    """The optimizer of a config. A plain function, because what Hydra builds partially does not reach spawned
    processes."""
    return build(node, _partial_=True)(parameters)


def build_model(cfg: DictConfig, schema: Schema, inputs: list[str]) -> nn.Module:
    """The bare network of a config."""
    settings = {key: value for key, value in cfg.model.items() if key != "name"}
    network: nn.Module = build(OmegaConf.create(settings), schema=schema, inputs=inputs)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions of frames are faster so


def fitted_rows(data: Windows, fit_on: str) -> np.ndarray:
    """Seconds of the store that scaling is fitted on: those of the train sessions, or all."""
    if fit_on == "all":
        return np.ones(len(data.store), bool)
    return data.store.rows_of(data.split.sessions["train"])


def fit(
    cfg: DictConfig, data: Windows, inputs: list[str], folder: Path, loggers: list, extra: list[pl.Callback]
) -> WindowClassifier:
    """Train, and return the module with the weights of the best epoch on validation.

    Args:
        folder: the run directory; checkpoints and history.csv are written there.
        loggers, extra: Lightning loggers and further callbacks.
    """
    module = build_module(cfg, data, inputs)
    datamodule = WindowDataModule(data, cfg.batch_size, inputs, cfg.seed)
    mode = "max" if OBJECTIVES[cfg.objective] else "min"
    checkpoints = folder / "checkpoints"
    best = ModelCheckpoint(
        checkpoints,
        "best",
        monitor=cfg.objective,
        mode=mode,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
        auto_insert_metric_name=False,
    )
    # Lightning's own save_last follows the monitored metric; this one is written after every epoch
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks = [
        History(folder / "history.csv"),
        Ranks(folder / "ranks.json"),
        Progression(cfg.objective, OBJECTIVES[cfg.objective]),
        EarlyStopping(cfg.objective, patience=cfg.patience, mode=mode, check_on_train_epoch_end=False),
        *([Averaging(cfg.average)] if cfg.average else []),
        *extra,
        best,
        last,
    ]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # devices are in the provenance, tips nowhere
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")  # batches are cut by index, not loaded
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # a resumed run writes where it wrote
        warnings.filterwarnings("ignore", ".*number of training batches.*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")
        trainer = build(
            cfg.trainer,
            logger=loggers or False,
            callbacks=callbacks,
            plugins=[WholeFiles()],
            default_root_dir=str(folder),
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
        finally:
            for rank in getattr(trainer.strategy.launcher, "procs", []):
                rank.kill()  # after Ctrl-C Lightning would let them train on, and wait for them
    if trainer.interrupted:
        raise KeyboardInterrupt
    return load_weights(module, checkpoints / "best.ckpt")


def load_weights(module: WindowClassifier, path: Path) -> WindowClassifier:
    """Put a checkpoint's weights into the module; nothing in the file is executed."""
    module.load_state_dict(read_checkpoint(path)["state_dict"])
    return module.eval()


def load_module(path: Path) -> tuple[WindowClassifier, dict[str, Any]]:
    """Rebuild a trained module from its checkpoint alone: weights, scaling, schema and the config it was made from.

    Raises:
        RunError: its weights do not fit the network that its config describes, as of an earlier version.
    """
    state = read_checkpoint(path)
    saved = state["conveyorguard"]
    cfg = refuse_interpolations(OmegaConf.create(saved["config"]), path)
    schema = Schema.from_config(saved["schema"])
    scaling = Scaling(schema, build(cfg.scaling))
    loss = build(cfg.loss, class_counts=np.ones(len(schema.states)))
    module = WindowClassifier(
        build_model(cfg, schema, saved["inputs"]),
        scaling,
        loss,
        torch.optim.AdamW,
        cfg.trainer.max_epochs,
        len(schema.states),
        cfg.seed,
        saved,
    )
    try:
        module.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{path}: trained by a version of ConveyorGuard whose {cfg.model.name} or scaling was another; predict "
            "with "
            f"that version, or train the run again ({reason})"
        ) from error
    return module.eval(), saved
