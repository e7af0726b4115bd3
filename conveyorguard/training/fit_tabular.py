"""Fitting a tabular model: its features, its checkpoint taken back, and what its features are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.config.compose import build
from conveyorguard.config.saved import load_settings
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.features import FeatureSettings, feature_sources, window_features
from conveyorguard.data.schema import Schema
from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.models.tabular import Tabular
from conveyorguard.runs.shapes import Features, read_record, write_record
from conveyorguard.training.recipe import model_settings, path_of


@dataclass(frozen=True)
class TabularClassifier:
    """A fitted model with the features it is given. `evaluation.predict.predict` takes it as it takes a network."""

    model: Tabular
    settings: FeatureSettings
    inputs: list[str]
    names: list[str]
    path: Path  # of its checkpoint
    config: Mapping[str, Any]  # plain values from which it can be built again
    parameter_count = None  # trees have none that compare with a network's

    @property
    def size_in_bytes(self) -> int:
        return self.path.stat().st_size

    def features(self, dataset: WindowDataset) -> np.ndarray:
        """(n, F) float32 of the dataset's windows, in their order.

        Raises:
            RunError: this version of the package makes other features than those the model was trained on.
        """
        rows, size = pd.Series(dataset.rows), dataset.settings.size
        table = window_features(dataset.store, rows, size, self.settings, self.inputs)
        if list(table) != self.names:
            raise RunError("the model was trained on other features than are made now; train it again")
        return table.to_numpy()

    def predict(self, dataset: WindowDataset) -> np.ndarray:
        """Probabilities (n, K) float32 of the dataset's windows, in their order."""
        return self.model.probabilities(self.features(dataset)).astype(np.float32)


def fit_tabular(
    model: Callable[..., Tabular],
    data: Windows,
    inputs: list[str],
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
    features: FeatureSettings | None = None,
    seed: int = 0,
    threads: int = 1,
) -> TabularClassifier:
    """Train on the train windows, and return the model as its checkpoint gives it back.

    Args:
        model: a class, or what builds one, called as `model(schema=..., seed=..., threads=..., **settings)`.
        inputs: what its features are made of: sensors, thermal, environment.
        folder: the run directory; `checkpoints/best.*` and `checkpoints/features.json` are written there.
        features: which statistics; None: the plain ones.
    """
    settings, features = settings or {}, features or FeatureSettings()
    windows, schema = data.part("train"), data.store.schema
    table = window_features(data.store, windows["row"], data.settings.size, features, inputs)
    tabular = model(schema=schema, seed=seed, threads=threads, **settings)
    tabular.fit(table.to_numpy(), windows["label"].to_numpy())
    checkpoints = Path(folder) / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    path = checkpoints / tabular.FILE
    tabular.save(path)
    names = [str(name) for name in table]
    write_record(checkpoints / "features.json", Features, {"inputs": inputs, "names": names})
    tabular.load(path)  # text may keep fewer digits than memory: what is evaluated is what was kept
    config = {
        "model": model_settings(type(tabular), settings),
        "features": {"_target_": path_of(FeatureSettings), **asdict(features)},
        "scaling": {"fit_on": "train"},
        "seed": seed,
    }
    return TabularClassifier(tabular, features, inputs, names, path, config)


def tabular_of(settings: Mapping[str, Any]) -> Callable[..., Tabular]:
    """What builds the model of a config, given as nested plain values, from schema, seed and threads."""
    return partial(build, {key: value for key, value in settings["model"].items() if key != "name"})


def load_tabular(path: Path) -> TabularClassifier:
    """A trained model from RUN/checkpoints/best.*; the config of its run says how it was made.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    saved = read_record(path.parent / "features.json", Features)
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        raise RunError(f"{config}: not there; a tabular model is loaded from within its run directory")
    settings = load_settings(config)
    schema = Schema.from_config(settings["data"]["schema"])
    model = tabular_of(settings)(schema=schema, seed=settings["seed"], threads=1)
    try:
        model.load(path)
    except RunError:
        raise
    except Exception as error:  # each library has errors of its own
        raise RunError(
            f"{path}: cannot be read as a {type(model).__name__} ({error}); it is damaged, train the run again"
        ) from error
    return TabularClassifier(model, build(settings["features"]), saved.inputs, saved.names, path, settings)


def importance(classifier: TabularClassifier, data: Windows) -> pd.DataFrame:
    """What the model makes of its features: feature, source (a channel, or 'thermal'), modality, gain, shap; the most
    useful first.

    gain is the model's own measure as a share of 1; shap, where the library computes it, the mean |SHAP value| over the
    validation windows and the states, in log-odds.
    """
    table = feature_sources(classifier.names, data.store.schema).assign(gain=classifier.model.gain())
    dataset = WindowDataset(data.store, data.part("val"), data.settings, classifier.inputs)
    table["shap"] = classifier.model.contributions(classifier.features(dataset))
    return table.sort_values("gain", ascending=False, kind="stable")
