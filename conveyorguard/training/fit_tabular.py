"""Fitting a tabular model: its features, its checkpoint taken back, and what its features are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from conveyorguard.config.compose import build
from conveyorguard.config.saved import load_saved
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.features import FeatureSettings, feature_sources, window_features
from conveyorguard.data.schema import Schema
from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.models.tabular import Tabular
from conveyorguard.system.files import read_json, write_json


@dataclass(frozen=True)
class TabularClassifier:
    """A fitted model with the features it is given. `evaluation.predict.predict` takes it as it takes a network."""

    model: Tabular
    settings: FeatureSettings
    inputs: list[str]
    names: list[str]
    path: Path  # of its checkpoint
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


def fit_tabular(cfg: DictConfig, data: Windows, inputs: list[str], folder: Path, threads: int) -> TabularClassifier:
    """Train on the train windows, and return the model as its checkpoint gives it back.

    Args:
        folder: the run directory; `checkpoints/best.*` and `checkpoints/features.json` are written there.
    """
    settings, windows = build(cfg.features), data.part("train")
    table = window_features(data.store, windows["row"], data.settings.size, settings, inputs)
    model = build_tabular(cfg, data.store.schema, threads)
    model.fit(table.to_numpy(), windows["label"].to_numpy())
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    model.save(checkpoints / model.FILE)
    names = [str(name) for name in table]
    write_json(checkpoints / "features.json", {"inputs": inputs, "names": names})
    model.load(checkpoints / model.FILE)  # text may keep fewer digits than memory: what is evaluated is what was kept
    return TabularClassifier(model, settings, inputs, names, checkpoints / model.FILE)


def build_tabular(cfg: DictConfig, schema: Schema, threads: int) -> Tabular:
    """The model of a config, not yet trained."""
    settings = OmegaConf.create({key: value for key, value in cfg.model.items() if key != "name"})
    return build(settings, schema=schema, seed=cfg.seed, threads=threads)


def load_tabular(path: Path) -> tuple[TabularClassifier, DictConfig]:
    """A trained model from RUN/checkpoints/best.*, and the config of its run, which says how it was made.

    Raises:
        RunError: a file of the run is missing or damaged.
    """
    saved = read_json(path.parent / "features.json")
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        raise RunError(f"{config}: not there; a tabular model is loaded from within its run directory")
    cfg = load_saved(config)
    schema = Schema.from_config(OmegaConf.to_container(cfg.data.schema, resolve=True))  # type: ignore[arg-type]
    model = build_tabular(cfg, schema, threads=1)
    try:
        model.load(path)
    except RunError:
        raise
    except Exception as error:  # each library has errors of its own
        raise RunError(
            f"{path}: cannot be read as a {type(model).__name__} ({error}); it is damaged, train the run again"
        ) from error
    return TabularClassifier(model, build(cfg.features), saved["inputs"], saved["names"], path), cfg


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
