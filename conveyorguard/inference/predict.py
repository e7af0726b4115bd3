"""Probabilities of windows, from a trained model."""

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
    """Probabilities (n, K) float32 of the dataset's windows, in their order; of a network on the device where it is.

    Raises:
        RunError: they are not numbers.
    """
    if not len(dataset):
        return np.zeros((0, len(dataset.store.schema.states)), np.float32)
    if not isinstance(model, WindowClassifier):
        return model.predict(dataset)
    model.eval()
    batches = [list(range(i, min(i + batch_size, len(dataset)))) for i in range(0, len(dataset), batch_size)]
    found = np.concatenate([_of_network(model, dataset, rows) for rows in track(batches, "predicting")])
    if not np.isfinite(found).all():
        raise RunError("the network gives no numbers (NaN): its training diverged; write a lower optimizer.lr")
    return found


@torch.inference_mode()
def _of_network(model: WindowClassifier, dataset: WindowDataset, rows: list[int]) -> np.ndarray:
    batch = {name: value.to(model.device) for name, value in dataset.__getitems__(rows).items()}
    return model(batch)["window"].float().softmax(-1).cpu().numpy()


def latency_ms(model: WindowClassifier | TabularClassifier, dataset: WindowDataset, repeats: int = 30) -> float:
    """Median time of one window in ms, from the store to probabilities, with the threads that the run has."""
    one = WindowDataset(dataset.store, dataset.windows.iloc[[0]], dataset.settings, dataset.inputs)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        _of_network(model, one, [0]) if isinstance(model, WindowClassifier) else model.predict(one)
        times.append(1e3 * (time.perf_counter() - began))
    return float(np.median(times))
