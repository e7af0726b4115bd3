"""A trial of a sweep that is a training on each fold of train and validation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from conveyorguard.commands.learning_curve import finished, trained
from conveyorguard.commands.train import objective_value
from conveyorguard.config.checks import resolve_window_of
from conveyorguard.config.compose import config_dir, is_tabular
from conveyorguard.errors import ConfigError
from conveyorguard.metrics.scores import OBJECTIVES
from conveyorguard.runs.provenance import code_hash
from conveyorguard.runs.saved import SavedRun
from conveyorguard.runs.shapes import Provenance, read_record, write_record
from conveyorguard.sweeps.space import override
from conveyorguard.sweeps.trial import TrialHandle

BASE = ("name", "seed", "n_folds", "fold")  # of the split that decides what is test


def train_folds(cfg: DictConfig, folder: Path, overrides: list[str], trial: TrialHandle) -> float:
    """Train a trial's config on each of `sweep.folds` folds, in `<folder>/fold<k>`, and report it to the study.

    Its value is the mean of the folds' objectives; the pruner gets the mean so far after each fold. Folds that an
    earlier attempt at the same trial has finished are taken over.

    Args:
        cfg: the composed config; its split decides what is test.
        folder: of the trial.
        overrides: of the trial, as given on the command line.
        trial: this process's trial.

    Returns:
        The value; NaN for a pruned trial.

    Raises:
        ConfigError: the data do not allow so many folds.
    """
    resolve_window_of(cfg)
    earlier, runs, values = trial.retried_folders(), [], []
    for fold in range(cfg.sweep.folds):
        config, name = config_of_fold(cfg, fold), f"fold{fold}"
        _take_over([place / name for place in earlier], folder / name, config)
        words = [*overrides, *split_overrides(config.split)]
        try:
            runs.append(trained(config, folder / name, words, draw=False))
        except ConfigError as error:
            raise ConfigError(f"sweep.folds={cfg.sweep.folds}: {error}") from error
        _note_split(folder / name)
        values.append(objective_value(cfg.objective, runs[-1].metrics, folder / name))
        mean = float(np.mean(values))
        if trial.report(fold, mean, is_mean=True) and len(values) < cfg.sweep.folds:
            trial.finish("PRUNED", mean, folds=values)
            return float("nan")
    trial.finish("COMPLETE", mean, folds=values, retrain=_retraining(cfg, folder, runs))
    return mean


def config_of_fold(cfg: DictConfig, fold: int | None, runs: str | None = None) -> DictConfig:
    """Return the config of the training on a fold, or on all folds together.

    Args:
        cfg: of a trial.
        fold: that validates; None for all.
        runs: folder of the folds' runs, whose predictions are those of validation where fold is None.
    """
    config = cfg.copy()
    OmegaConf.set_struct(config, False)
    split = OmegaConf.load(config_dir() / "split" / "out_of_fold.yaml")
    OmegaConf.update(split, "base", {key: cfg.split[key] for key in BASE if key in cfg.split})
    split.n_folds, split.fold, split.runs = cfg.sweep.folds, fold, runs
    split.train_devices = cfg.split.get("train_devices")
    config.split = split
    return config


def split_overrides(split: DictConfig) -> list[str]:
    """Return the overrides that give a split over folds."""
    values: dict[str, Any] = {f"base.{key}": value for key, value in split.base.items()}
    values |= {"n_folds": split.n_folds, "fold": split.fold}
    values |= {key: split[key] for key in ("runs", "train_devices") if split[key] is not None}
    return ["split=out_of_fold", *(override(f"split.{key}", value) for key, value in values.items())]


def epochs_overrides(runs: Sequence[SavedRun]) -> list[str]:
    """Return the overrides by which a network trains without validation for the median of the folds' best epochs.

    None for a tabular model.

    Args:
        runs: of the folds.
    """
    if is_tabular(runs[0].settings):
        return []
    return ["keep=last", f"trainer.max_epochs={int(np.median([best_epoch(run) + 1 for run in runs]))}"]


def best_epoch(run: SavedRun) -> int:
    """Return the epoch, from 0, with the best objective on validation."""
    history = run.history
    assert history is not None
    values = history[run.objective].to_numpy(float)
    place = np.nanargmax(values) if OBJECTIVES[run.objective] else np.nanargmin(values)
    return int(history["epoch"].iloc[place])


def _retraining(cfg: DictConfig, folder: Path, runs: Sequence[SavedRun]) -> list[str]:
    """Return the overrides that train a trial's config on all sessions of train and validation."""
    place = Path(os.path.relpath(folder)).as_posix()  # pages show it, and no absolute path
    return [*split_overrides(config_of_fold(cfg, None, place).split), *epochs_overrides(runs)]


def _take_over(earlier: Sequence[Path], folder: Path, cfg: DictConfig) -> None:
    """Copy the finished run of a fold from the first of some folders that has it, trained by the same code."""
    for place in earlier:
        run = finished(place, cfg)
        if run and run.provenance.get("code") == code_hash():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(place, part)
            part.rename(folder)
            return


def _note_split(folder: Path) -> None:
    """Record in a fold's run that its split is not the one that the trial was composed with."""
    path = folder / "provenance.json"
    facts = read_record(path, Provenance)
    write_record(path, Provenance, {**facts, "choices": {**facts.get("choices", {}), "split": "out_of_fold"}})
