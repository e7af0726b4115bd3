"""Fit the model of a config, network or tabular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

from conveyorguard.config.compose import build, is_tabular
from conveyorguard.data.windows import Windows
from conveyorguard.training.fit import fit
from conveyorguard.training.module import WindowClassifier
from conveyorguard.training.recipe import Recipe

if TYPE_CHECKING:
    from conveyorguard.training.fit_tabular import TabularClassifier


def fit_by_settings(
    settings: Mapping[str, Any],
    data: Windows,
    inputs: list[str],
    folder: Path,
    threads: int,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> WindowClassifier | TabularClassifier:
    """Train the network of a config, or fit its tabular model.

    Args:
        settings: the resolved config as nested plain values.
        data: windows with their split.
        inputs: what the model is given: sensors, thermal, environment.
        folder: the run directory, where checkpoints are written.
        threads: number of threads of a tabular model.
        loggers: further loggers of a network's training.
        callbacks: further callbacks of a network's training.

    Returns:
        The network with the weights of its best epoch on validation, or the fitted tabular model.
    """
    if not is_tabular(settings):
        return fit(Recipe.of(settings), data, inputs, folder, loggers, callbacks)
    from conveyorguard.training.fit_tabular import fit_tabular, tabular_of  # slow to import

    features, seed = build(settings["features"]), settings["seed"]
    return fit_tabular(tabular_of(settings), data, inputs, folder, features=features, seed=seed, threads=threads)
