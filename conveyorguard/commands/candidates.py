"""The plan of `best`: which models are tried on which folds, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from conveyorguard.commands.words.keys import compose_checked
from conveyorguard.config.checks import check, resolve_window_of
from conveyorguard.config.compose import build, is_tabular
from conveyorguard.config.saved import plain_values
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.features import window_features
from conveyorguard.data.windows import Windows
from conveyorguard.training.fit import build_module
from conveyorguard.training.fit_tabular import tabular_of
from conveyorguard.training.recipe import Recipe
from conveyorguard.training.setup import used_inputs

# cheapest in use first; the second word is what the plan says of it
MODELS = {
    "logistic_regression": "a linear model, the floor",
    "lightgbm": "boosted trees",
    "extra_trees": "randomised trees",
    "log_mean": "the geometric mean of both",
    "fusion": "the network",
}
NETWORK = "fusion"
FIRST = ("lightgbm", "logistic_regression", "extra_trees", "log_mean", "fusion")  # planned in this order
PROBED = 400  # windows on which a tabular model is timed
STEPS = 3  # of a network that are timed
START = 4.0  # opening the data and writing a run directory [s]
SHORTER = 0.6  # share of the epochs that early stopping leaves, and of validation among the steps, together about this
LATER = 1.3  # time of the last training, of the learning curve and of the page, as a share of the chosen candidate's


@dataclass(frozen=True)
class ModelCandidate:
    """A model with what it is given.

    Attributes:
        name: of its folder and row.
        overrides: of the config.
    """

    name: str
    overrides: list[str]


def candidates(overrides: Sequence[str], has_sensors: bool, has_camera: bool) -> tuple[list[ModelCandidate], list[str]]:
    """Return the candidates, cheapest in use first, and the user's overrides without modality= and film=.

    `modality=` and `film=` restrict the candidates; they take several values with commas between.

    Args:
        overrides: of the user.
        has_sensors, has_camera: whether the data have them.
    """
    possible = ["sensor"] * has_sensors + ["image"] * has_camera + ["both"] * (has_sensors and has_camera)
    wanted = _values("modality", overrides) or [m for m in possible if m != "image"]
    modalities = [m for m in possible if m in wanted] or wanted  # what the data lack is refused with the config
    films = _values("film", overrides) or ["true"]
    rest = [word for word in overrides if word.partition("=")[0] not in ("modality", "film")]
    trees = [_candidate(model, modalities[-1], films[0]) for model in MODELS if model != NETWORK]
    return [*trees, *(_candidate(NETWORK, modality, film) for modality in modalities for film in films)], rest


def _values(key: str, overrides: Sequence[str]) -> list[str]:
    """Return the values that the last override of a key lists; none without one."""
    lists = [word.partition("=")[2].split(",") for word in overrides if word.startswith(f"{key}=")]
    return lists[-1] if lists else []


def _candidate(model: str, modality: str, film: str) -> ModelCandidate:
    """Return the candidate of a model; the network's name says what it is given."""
    words = [f"model={model}", f"modality={modality}", f"film={film}"]
    without = ["nofilm"] if film == "false" else []
    if model == NETWORK:
        return ModelCandidate("-".join([model, modality, *without]), words)
    return ModelCandidate("-".join([model, *without]), [*words, "features=extended"])


def config_of(candidate: ModelCandidate, overrides: list[str], split: list[str], folder: Path | None) -> DictConfig:
    """Compose and check the config of a candidate.

    Args:
        overrides: of the user.
        split: overrides of the split.
        folder: with yaml files of the user's own.

    Raises:
        ConfigError: the config cannot work.
    """
    cfg = compose_checked([*candidate.overrides, *overrides, *split], folder)
    resolve_window_of(cfg)
    check(cfg)
    OmegaConf.set_struct(cfg, False)
    return cfg


def seconds_of_fold(cfg: DictConfig, data: Windows, threads: int) -> float:
    """Estimate how long a candidate takes on a fold [s], from a small part of the work.

    Args:
        cfg: of the candidate.
        data: windows of a fold.
        threads: of the training.
    """
    settings = plain_values(cfg)
    inputs, _ = used_inputs(settings, data.store.schema)
    judged = len(data.judged("val"))
    if is_tabular(settings):
        return START + _tabular_seconds(settings, data, inputs, judged, threads)
    return START + _network_seconds(settings, data, inputs, judged)


def _tabular_seconds(settings: dict[str, Any], data: Windows, inputs: list[str], judged: int, threads: int) -> float:
    """Estimate features, fit and predictions from a few windows of train."""
    train = data.part("train")
    place = np.linspace(0, len(train) - 1, min(PROBED, len(train))).astype(int)
    few, features = train.iloc[place], build(settings["features"])
    began = time.perf_counter()
    x = window_features(data.store, few["row"], data.settings.size, features, inputs).to_numpy()
    per_window = (time.perf_counter() - began) / len(few)
    model = tabular_of(settings)(schema=data.store.schema, seed=0, threads=threads)
    began = time.perf_counter()
    model.fit(x, few["label"].to_numpy())
    fit = (time.perf_counter() - began) * max(1.0, len(train) / len(few)) ** 0.8  # trees grow slower than windows
    copies = 2 if features.fault_copies else 1
    return copies * (per_window * len(train) + fit) + per_window * judged


def _network_seconds(settings: dict[str, Any], data: Windows, inputs: list[str], judged: int) -> float:
    """Estimate a training from a few steps."""
    recipe, train = Recipe.of(settings), data.part("train")
    module = build_module(recipe, data, inputs).train()
    size = min(recipe.batch_size, len(train))
    dataset = WindowDataset(data.store, train, data.settings, inputs)
    batch = dataset.__getitems__(list(range(size)))
    took = []
    for _ in range(STEPS):
        began = time.perf_counter()
        module.loss(module.model(module.scaling(module.augment(batch))), batch).backward()
        took.append(time.perf_counter() - began)
    steps = recipe.epochs * (len(train) / size) * SHORTER
    return float(min(took)) * (steps + judged / size / 3)


def fit_into(seconds: dict[str, float], minutes: float) -> tuple[list[str], list[str]]:
    """Return the candidates that fit into a budget, and those that do not, both in their order.

    The first of `FIRST` is always planned; the others as long as their folds and what follows the choice fit.

    Args:
        seconds: of all folds by candidate.
        minutes: the budget.
    """
    planned: list[str] = []
    for model in FIRST:
        for name in (n for n in seconds if n.startswith(model)):
            tried = [*planned, name]
            whole = sum(seconds[n] for n in tried) + LATER * max(seconds[n] for n in tried) / 2
            if not planned or whole <= 60 * minutes:
                planned.append(name)
    return [n for n in seconds if n in planned], [n for n in seconds if n not in planned]


def pool_threads(threads: int | None, workers: int) -> int:
    """Return the threads of each training: as set, else the cores shared among the workers."""
    return threads or max(1, torch.get_num_threads() // workers)
