"""Fit a tabular model on window features, load it from its checkpoint, and measure the importance of its features."""

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
from conveyorguard.data.fault_copies import WEIGHT, fault_copies
from conveyorguard.data.features import FeatureSettings, feature_sources, window_features
from conveyorguard.data.schema import Schema
from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.models.tabular import Tabular
from conveyorguard.runs.shapes import Features, read_record, write_record
from conveyorguard.training.recipe import model_settings, path_of

__all__ = ["TabularClassifier", "fit_tabular"]


@dataclass(frozen=True)
class TabularClassifier:
    """A fitted tabular model with the features it is given; `inference.predict.predict` accepts it like a network.

    Attributes:
        model: the fitted model.
        settings: which features are computed.
        inputs: what they are computed from: sensors, thermal, environment.
        names: the F feature names, in the order of the columns.
        path: its checkpoint.
        config: plain values from which it can be rebuilt.
        parameter_count: None; trees have no parameters that compare with a network's.
    """

    model: Tabular
    settings: FeatureSettings
    inputs: list[str]
    names: list[str]
    path: Path
    config: Mapping[str, Any]
    parameter_count = None

    @property
    def size_in_bytes(self) -> int:
        """Size of the checkpoint file [bytes]."""
        return self.path.stat().st_size

    def features(self, dataset: WindowDataset) -> np.ndarray:
        """Return the features of the dataset's windows in their order, (n, F) float32.

        Raises:
            RunError: this version of the package computes other features than the model was trained on.
        """
        rows, size = pd.Series(dataset.rows), dataset.settings.size
        table = window_features(dataset.store, rows, size, self.settings, self.inputs)
        if list(table) != self.names:
            raise RunError(
                f"{self.path}: the model was trained on other features than this version computes; train it again"
            )
        return table.to_numpy()

    def predict(self, dataset: WindowDataset) -> np.ndarray:
        """Return the probabilities of the dataset's windows in their order, (n, K) float32."""
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
    """Fit a tabular model on the train windows and return it as reloaded from its checkpoint.

    Args:
        model: a class or factory, called as `model(schema=..., seed=..., threads=..., **settings)`.
        data: windows with their split.
        inputs: what the features are computed from: sensors, thermal, environment.
        folder: the run directory; `checkpoints/best.*` and `checkpoints/features.json` are written there.
        settings: keyword arguments of the model.
        features: which features are computed; None for the default ones.
        seed: seed of the model.
        threads: number of threads of the model.
    """
    settings, features = settings or {}, features or FeatureSettings()
    windows, schema = data.part("train"), data.store.schema
    table = window_features(data.store, windows["row"], data.settings.size, features, inputs)
    tabular = model(schema=schema, seed=seed, threads=threads, **settings)
    x, y, weight = table.to_numpy(), windows["label"].to_numpy(), None
    if features.fault_copies:
        copies, place = fault_copies(data.store, windows, data.settings.size, features, inputs, seed, table)
        x, weight = np.concatenate([x, copies]), np.repeat([1.0, WEIGHT], [len(y), len(place)])
        y = np.concatenate([y, y[place]])
    tabular.fit(x, y, weight)
    checkpoints = Path(folder) / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    path = checkpoints / tabular.FILE
    tabular.save(path)
    names = [str(name) for name in table]
    write_record(checkpoints / "features.json", Features, {"inputs": inputs, "names": names})
    tabular.load(path)  # evaluate what was saved: text may hold fewer digits than memory
    config = {
        "model": model_settings(type(tabular), settings),
        "features": {"_target_": path_of(FeatureSettings), **asdict(features)},
        "scaling": {"fit_on": "train"},
        "seed": seed,
    }
    return TabularClassifier(tabular, features, inputs, names, path, config)


def tabular_of(settings: Mapping[str, Any]) -> Callable[..., Tabular]:
    """Return a factory for the model of a config, called as `factory(schema=..., seed=..., threads=...)`.

    Args:
        settings: the resolved config as nested plain values.
    """
    return partial(build, {key: value for key, value in settings["model"].items() if key != "name"})


def load_tabular(path: Path) -> TabularClassifier:
    """Load a tabular model from RUN/checkpoints/best.*, with the settings in RUN/config.yaml.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    saved = read_record(path.parent / "features.json", Features)
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        raise RunError(f"{config}: missing; load a tabular model from within its run directory")
    settings = load_settings(config)
    schema = Schema.from_config(settings["data"]["schema"])
    model = tabular_of(settings)(schema=schema, seed=settings["seed"], threads=1)
    try:
        model.load(path)
    except RunError:
        raise
    except Exception as error:  # each library raises its own errors
        raise RunError(
            f"{path}: cannot be read as a {type(model).__name__} ({error}). If the file is damaged, train the run again"
        ) from error
    return TabularClassifier(model, build(settings["features"]), saved.inputs, saved.names, path, settings)


def importance(classifier: TabularClassifier, data: Windows) -> pd.DataFrame:
    """Return the importance of each feature, the most useful first.

    Returns:
        feature, source (a channel, or 'thermal'), modality, gain (the model's own measure, summing to 1) and shap (mean
        |SHAP value| over validation windows and states [log-odds]; NaN where the library does not compute it).
    """
    table = feature_sources(classifier.names, data.store.schema).assign(gain=classifier.model.gain())
    dataset = WindowDataset(data.store, data.part("val"), data.settings, classifier.inputs)
    table["shap"] = classifier.model.contributions(classifier.features(dataset))
    return table.sort_values("gain", ascending=False, kind="stable")
