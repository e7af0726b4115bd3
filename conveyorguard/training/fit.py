"""Train a network with Lightning and return its best checkpoint."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger

from conveyorguard.config.compose import build
from conveyorguard.config.saved import saved_settings
from conveyorguard.data.datamodule import WindowDataModule
from conveyorguard.data.scaling import Scaling
from conveyorguard.data.schema import Schema
from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.metrics.scores import OBJECTIVES
from conveyorguard.system.interruption import interrupt, pass_over
from conveyorguard.training.callbacks import Averaging, History, Progression, Ranks
from conveyorguard.training.checkpoints import WholeFiles, read_checkpoint
from conveyorguard.training.module import WindowClassifier
from conveyorguard.training.recipe import Recipe

__all__ = ["fit"]


def build_module(recipe: Recipe, data: Windows, inputs: list[str]) -> WindowClassifier:
    """Build the untrained network of a recipe, with its scaling fitted on the data.

    Args:
        recipe: network, scaling, loss and optimizer.
        data: windows with their split.
        inputs: what the network is given: sensors, thermal, environment.
    """
    pl.seed_everything(recipe.seed, verbose=False)
    schema = data.store.schema
    rows = fitted_rows(data, recipe.scaling.fit_on)
    scaling = Scaling(schema, recipe.scaling).fit(data.store, rows, data.settings.size)
    return WindowClassifier(
        recipe.build_network(schema, inputs),
        scaling,
        recipe.loss(class_counts=data.class_counts()),
        recipe.optimizer,
        recipe.epochs,
        len(schema.states),
        recipe.seed,
        {"config": recipe.saved, "schema": schema.to_dict(), "inputs": inputs},
        augment=recipe.augment(schema=schema),
        mixup=recipe.mixup,
    )


def fitted_rows(data: Windows, fit_on: str) -> np.ndarray:
    """Return a mask of the store's rows that scaling is fitted on, (n,).

    Args:
        data: windows with their split.
        fit_on: 'train' for the rows of the train sessions, 'all' for every row.
    """
    if fit_on == "all":
        return np.ones(len(data.store), bool)
    return data.store.rows_of(data.split.sessions["train"])


def fit(
    recipe: Recipe,
    data: Windows,
    inputs: list[str],
    folder: str | Path,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> WindowClassifier:
    """Train a network and return its module with the weights of the kept epoch: the best on validation, or the last.

    Args:
        recipe: network, loss, optimizer and schedule.
        data: windows with their split.
        inputs: what the network is given: sensors, thermal, environment.
        folder: the run directory; checkpoints, history.csv and, with several processes, ranks.json are written there.
        loggers: Lightning loggers that get the curves.
        callbacks: further callbacks.

    Raises:
        RunError: a checkpoint cannot be read, or the ranks train different jobs.
        KeyboardInterrupt: training was interrupted.
    """
    folder = Path(folder)
    module = build_module(recipe, data, inputs)
    datamodule = WindowDataModule(data, recipe.batch_size, inputs, recipe.seed)
    mode = "max" if OBJECTIVES[recipe.objective] else "min"
    checkpoints = folder / "checkpoints"
    by_validation = recipe.keep == "best"
    best = ModelCheckpoint(
        checkpoints,
        "best",
        monitor=recipe.objective if by_validation else None,  # None: that of the last epoch
        mode=mode,
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
        auto_insert_metric_name=False,
    )
    # Lightning's save_last is written only when the monitored metric improves; this one after every epoch
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    finite = recipe.objective == "val/loss"  # other metrics are undefined in an epoch that predicts one state alone
    stopping = EarlyStopping(
        recipe.objective, patience=recipe.patience, mode=mode, check_finite=finite, check_on_train_epoch_end=False
    )
    every_callback = [
        History(folder / "history.csv"),
        Ranks(folder / "ranks.json"),
        Progression(recipe.objective, OBJECTIVES[recipe.objective]),
        *([stopping] if by_validation else []),
        *([Averaging(recipe.average)] if recipe.average else []),
        *callbacks,
        best,
        last,
    ]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # devices are recorded in provenance.json
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does not have many workers.*")  # batches are slices of the store
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # a resumed run continues there
        warnings.filterwarnings("ignore", ".*number of training batches.*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")
        trainer = recipe.trainer(
            max_epochs=recipe.epochs,
            logger=list(loggers) or False,
            callbacks=every_callback,
            plugins=[WholeFiles()],
            default_root_dir=str(folder),
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        if signal.getsignal(signal.SIGTERM) is interrupt:
            # Lightning's part of the handler would wait for ranks that have ended, and end with exit status 0
            trainer._signal_connector.__dict__["_sigterm_notifier_fn"] = pass_over
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=recipe.checkpoint, weights_only=True)
        finally:
            for rank in getattr(trainer.strategy.launcher, "procs", []):
                rank.kill()  # after Ctrl-C Lightning would wait until they have trained to the end
    if trainer.interrupted:
        raise KeyboardInterrupt
    return load_weights(module, checkpoints / "best.ckpt")


def load_weights(module: WindowClassifier, path: Path) -> WindowClassifier:
    """Load a checkpoint's weights into a module and return it in evaluation mode.

    Raises:
        RunError: the file is missing, damaged or not a checkpoint.
    """
    module.load_state_dict(read_checkpoint(path)["state_dict"])
    return module.eval()


def load_module(path: Path) -> tuple[WindowClassifier, dict[str, Any]]:
    """Rebuild a trained module from its checkpoint alone.

    Returns:
        The module in evaluation mode, and the plain values saved with it: config, schema, inputs.

    Raises:
        RunError: the file cannot be read, or its weights do not fit the network that its config describes (the run was
            trained by another version).
    """
    state = read_checkpoint(path)
    saved = state["conveyorguard"]
    settings = saved_settings(saved["config"], path)
    schema = Schema.from_config(saved["schema"])
    network = {key: value for key, value in settings["model"].items() if key != "name"}
    module = WindowClassifier(
        build(network, schema=schema, inputs=saved["inputs"]),
        Scaling(schema, build(settings["scaling"])),
        build(settings["loss"], class_counts=np.ones(len(schema.states))),
        torch.optim.AdamW,
        settings["trainer"]["max_epochs"],
        len(schema.states),
        settings["seed"],
        saved,
    )
    try:
        module.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{path}: its weights do not fit the {settings['model']['name']} or scaling of this version of "
            f"ConveyorGuard; predict with the version that trained it, or train the run again ({reason})"
        ) from error
    return module.eval(), saved
