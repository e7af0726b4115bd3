"""Write a network as an ONNX graph, from the raw batch of a window to its probabilities."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.inference.export.onnx_format import OPSET, require_packages
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.training.module import WindowClassifier

TARGETS = ("index", "window", "second")  # entries of a batch that are not inputs
OUTPUTS = ("probabilities", "calibrated", "seconds")
DIMENSIONS = {
    "sensors": ("seconds", "channels"),
    "sensors_start": ("channels",),
    "thermal_stats_start": ("statistics",),
    "environment": ("seconds", "channels"),
    "mask": ("seconds", "kinds"),
    "thermal_stats": ("seconds", "statistics"),
    "thermal": ("frames", "channels", "rows", "columns"),
}


class Graph(nn.Module):
    """The exported module: raw inputs by position to probabilities as trained, calibrated and, if predicted, by second.

    Args:
        classifier: the trained module.
        names: names of the inputs, in their order.
        temperature: of the calibration.
    """

    def __init__(self, classifier: WindowClassifier, names: list[str], temperature: float):
        super().__init__()
        self.classifier, self.names, self.temperature = classifier, names, temperature

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return probabilities (B, K) as trained and calibrated and, if predicted, those of seconds (B, T, K)."""
        logits = self.classifier.model(self.classifier.scaling(dict(zip(self.names, inputs, strict=True))))
        outputs = [logits["window"].softmax(-1), (logits["window"] / self.temperature).softmax(-1)]
        if "second" in logits:
            outputs.append(logits["second"].softmax(-1))
        return tuple(outputs)


def write_network(
    classifier: WindowClassifier, loaded: LoadedRun, dataset: WindowDataset, path: Path
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Write a network as ONNX.

    Args:
        classifier: the trained module.
        loaded: its run.
        dataset: windows on which the graph is traced.
        path: the file to write.

    Returns:
        The raw inputs of the dataset's windows by name, and a description of each: name, shape, dimensions, type.

    Raises:
        ConfigError: onnxscript is not installed.
    """
    require_packages("onnxscript")
    classifier = classifier.eval().cpu()
    batch = dataset.__getitems__(list(range(len(dataset))))
    raw = {k: v if v.dtype == torch.bool else v.float() for k, v in batch.items() if k not in TARGETS}
    used = _used_inputs(classifier, raw, loaded.from_start)
    raw = {name: values for name, values in raw.items() if name in used}
    _write_graph(Graph(classifier, list(raw), loaded.temperature).eval(), raw, path)
    inputs = [
        {
            "name": name,
            "shape": ["batch", *values.shape[1:]],
            "dimensions": ["windows", *DIMENSIONS.get(name, ())],
            "type": "bool" if values.dtype == torch.bool else "float32",
        }
        for name, values in raw.items()
    ]
    return {name: values.numpy() for name, values in raw.items()}, inputs


class _WatchedBatch(dict):
    """A batch that records which of its tensors are read."""

    def __init__(self, batch: dict[str, Tensor]):
        super().__init__(batch)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return super().__getitem__(name)


def _used_inputs(classifier: WindowClassifier, raw: dict[str, Tensor], from_start: bool) -> set[str]:
    """Return the names of the raw inputs from which the scaled inputs that the model reads are computed."""
    batch = _WatchedBatch(classifier.scaling(raw))
    with torch.inference_mode():
        classifier.model(batch)
    used = {name.removesuffix("_window").removesuffix("_change") for name in batch.read}
    if from_start:
        used |= {f"{name.rsplit('_', 1)[0]}_start" for name in batch.read if name.endswith(("_window", "_change"))}
    return used


def _write_graph(graph: Graph, raw: dict[str, Tensor], path: Path) -> None:
    """Trace the graph on a few windows and write it, with a batch of any size."""
    values = tuple(raw.values())
    outputs = graph(*(value[:2] for value in values))
    batch_size = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # warns that torchvision is missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's internals; the file itself is checked
        program = torch.onnx.export(
            graph,
            tuple(value[:3] for value in values),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(raw),
            output_names=list(OUTPUTS[: len(outputs)]),
            dynamic_shapes={"inputs": tuple({0: batch_size} for _ in values)},
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
