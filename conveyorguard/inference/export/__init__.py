"""Export a trained run as an ONNX file that any runtime can serve, with scaling and calibration inside the graph.

Networks take the raw batch of a window, tabular models its features by name. Every file is checked: ONNX Runtime must
return the probabilities of the run's own model on real windows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.ranges import filled
from conveyorguard.data.store import Store
from conveyorguard.inference.export.description import describe, summary
from conveyorguard.inference.export.network import write_network
from conveyorguard.inference.export.onnx_format import require_packages
from conveyorguard.inference.export.runtime import check_agreement, measure_latency
from conveyorguard.inference.export.tabular import write_tabular
from conveyorguard.inference.input_check import refuse_other
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.calibration import scale
from conveyorguard.system.files import write_json
from conveyorguard.training.module import WindowClassifier

__all__ = ["export", "require_packages", "summary"]

CHECKED = 256  # windows on which the file is compared with the model


def export(loaded: LoadedRun, store: Store, folder: Path) -> dict[str, Any]:
    """Write `model.onnx` and its description `model.json`, and return the description.

    Args:
        loaded: the run.
        store: sessions whose windows check the file, from the data that the run was trained on.
        folder: where the files are written; it is created if missing.

    Returns:
        inputs (name, shape, type, content), outputs, opset, states, window, operating point, the largest difference
        from the run's own model and the latency of one window [ms].

    Raises:
        ConfigError: a package of the extra `export` is missing, or the model's library cannot write ONNX.
        DataError: the store does not have the inputs that the run was trained on, or no session as long as a window.
        RunError: the file does not return the probabilities of the run's own model.
    """
    require_packages("onnx", "onnxruntime")
    store = filled(store, loaded.ranges)
    refuse_other(loaded.schema, store.schema, loaded.inputs)
    windows = loaded.windows_of(store)
    chosen = windows.iloc[np.unique(np.linspace(0, len(windows) - 1, CHECKED).astype(int))].reset_index(drop=True)
    dataset = WindowDataset(store, chosen, loaded.settings, loaded.inputs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    if isinstance(loaded.model, WindowClassifier):
        feed, inputs = write_network(loaded.model, loaded, dataset, path)
    else:
        feed, inputs = write_tabular(loaded.model, loaded, dataset, path)
    description = _embed(path, loaded, inputs)
    expected = predict(loaded.model, dataset).astype(np.float64)
    description["checked"] = check_agreement(path, feed, expected, scale(expected, loaded.temperature))
    first = WindowDataset(store, chosen.iloc[[0]], loaded.settings, loaded.inputs)
    description["latency_ms"] = measure_latency(
        path, {name: values[:1] for name, values in feed.items()}, lambda: predict(loaded.model, first)
    )
    write_json(folder / "model.json", description)
    return description


def _embed(path: Path, loaded: LoadedRun, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Write the description into the file, so that the file explains itself, and return the description."""
    import onnx

    model = onnx.load(str(path))
    description = describe(loaded, inputs, model)
    onnx.helper.set_model_props(model, {"conveyorguard": json.dumps(description, ensure_ascii=False)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return description
