"""Probabilities of windows by a trained model, and how long one window takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.errors import RunError
from conveyorguard.system.progress import track
from conveyorguard.training.module import WindowClassifier

if TYPE_CHECKING:
    from conveyorguard.training.fit_tabular import TabularClassifier


def predict(model: WindowClassifier | TabularClassifier, dataset: WindowDataset, batch_size: int = 256) -> np.ndarray:
    """Return the probabilities of the dataset's windows in their order, (n, K) float32.

    A network predicts on the device that it is on.

    Args:
        model: network or tabular model.
        dataset: the windows.
        batch_size: windows per batch of a network.

    Raises:
        RunError: a probability of a network is not finite.
    """
    if not len(dataset):
        return np.zeros((0, len(dataset.store.schema.states)), np.float32)
    if not isinstance(model, WindowClassifier):
        return model.predict(dataset)
    model.eval()
    batches = [list(range(i, min(i + batch_size, len(dataset)))) for i in range(0, len(dataset), batch_size)]
    probabilities = np.concatenate(
        [_network_probabilities(model, dataset, rows) for rows in track(batches, "predicting")]
    )
    if not np.isfinite(probabilities).all():
        raise RunError("the network predicts NaN: its training diverged. Train it again with a lower optimizer.lr")
    return probabilities


@torch.inference_mode()
def _network_probabilities(model: WindowClassifier, dataset: WindowDataset, rows: list[int]) -> np.ndarray:
    """Return a network's probabilities for some windows of the dataset, (len(rows), K)."""
    batch = {name: value.to(model.device) for name, value in dataset.__getitems__(rows).items()}
    return model(batch)["window"].float().softmax(-1).cpu().numpy()


def latency_ms(model: WindowClassifier | TabularClassifier, dataset: WindowDataset, repeats: int = 30) -> float:
    """Return the median time of predicting a dataset's first window [ms], reading the store included.

    Args:
        model: network or tabular model; it uses the threads and the device that are set.
        dataset: the windows.
        repeats: number of measurements.
    """
    first = WindowDataset(dataset.store, dataset.windows.iloc[[0]], dataset.settings, dataset.inputs)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        _network_probabilities(model, first, [0]) if isinstance(model, WindowClassifier) else model.predict(first)
        times.append(1e3 * (time.perf_counter() - began))
    return float(np.median(times))
