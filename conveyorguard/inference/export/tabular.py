"""Write a tabular model as an ONNX graph, from the features of a window to its probabilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.errors import ConfigError
from conveyorguard.inference.export.onnx_format import IR, OPSET, require_packages
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.models.log_mean import SMALLEST, LogMean
from conveyorguard.training.fit_tabular import TabularClassifier

CONVERTERS = {  # packages
    "LightGBM": ("onnxmltools",),
    "XGBoost": ("onnxmltools",),
    "CatBoost": ("catboost",),
    "ExtraTrees": ("skl2onnx",),
    "RandomForest": ("skl2onnx",),
    "LogisticRegression": ("skl2onnx",),
    "LogMean": ("onnxmltools", "skl2onnx"),
}
AS_TRAINED = "as_trained"  # name of the converted model's probabilities in the graph


def write_tabular(
    classifier: TabularClassifier, loaded: LoadedRun, dataset: WindowDataset, path: Path
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Write a tabular model as ONNX.

    Args:
        classifier: the fitted model.
        loaded: its run.
        dataset: windows whose features are returned.
        path: the file to write.

    Returns:
        The features of the dataset's windows, under the name of the input, and a description of it: name, shape,
        dimensions, type, features.

    Raises:
        ConfigError: no converter is known for the model, or its package is missing.
    """
    kind = type(classifier.model).__name__
    if kind not in CONVERTERS:
        raise ConfigError(f"{kind}: no converter to ONNX is known; models with one are {', '.join(CONVERTERS)}")
    require_packages(*CONVERTERS[kind])
    features = classifier.features(dataset)
    if isinstance(classifier.model, LogMean):
        model = _log_mean(classifier.model, features.shape[1], path)
    else:
        model = _converted(classifier.model, features.shape[1], path)
    _append_calibration(model.graph, len(loaded.schema.states), loaded.temperature)
    path.write_bytes(model.SerializeToString())
    inputs = [
        {
            "name": "features",
            "shape": ["batch", features.shape[1]],
            "dimensions": ["windows", "features"],
            "type": "float32",
            "features": classifier.names,
        }
    ]
    return {"features": features}, inputs


def _converted(model: Any, width: int, path: Path) -> Any:
    """Convert a model; the graph has one output, the probabilities, named `AS_TRAINED`."""
    from onnx import TensorProto, helper

    graph = _CONVERT[CONVERTERS[type(model).__name__][0]](model, width, path)
    _declare_versions(graph)
    _take_probabilities(graph.graph)
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info(AS_TRAINED, TensorProto.FLOAT, [None, model.states]))
    return graph


def _log_mean(model: LogMean, width: int, path: Path) -> Any:
    """Convert the members into one graph that takes the features once, and append their geometric mean."""
    from onnx import TensorProto, compose, helper, numpy_helper

    names = [Path(name).stem for name in model.members]
    first, second = (
        compose.add_prefix(_converted(member, width, path), f"{name}_")
        for name, member in zip(names, model.members.values(), strict=True)
    )
    merged = compose.merge_models(first, second, io_map=[])
    graph = merged.graph
    for node in graph.node:
        node.input[:] = ["features" if value.endswith("_features") else value for value in node.input]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])
    del graph.input[:]
    graph.input.append(features)
    values = {"smallest": np.float32(SMALLEST), "largest": np.float32(1), "count": np.float32(len(names))}
    graph.initializer.extend(numpy_helper.from_array(np.array(v), f"mean_{k}") for k, v in values.items())
    for name in names:
        clipped = [f"{name}_{AS_TRAINED}", "mean_smallest", "mean_largest"]
        graph.node.append(helper.make_node("Clip", clipped, [f"mean_{name}"]))
        graph.node.append(helper.make_node("Log", [f"mean_{name}"], [f"mean_log_{name}"]))
    graph.node.extend(
        [
            helper.make_node("Sum", [f"mean_log_{name}" for name in names], ["mean_sum"]),
            helper.make_node("Div", ["mean_sum", "mean_count"], ["mean_log"]),
            helper.make_node("Softmax", ["mean_log"], [AS_TRAINED], axis=1),
        ]
    )
    return merged


def _by_onnxmltools(model: Any, width: int, path: Path) -> Any:
    """Convert a LightGBM or XGBoost model."""
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("features", FloatTensorType([None, width]))]
    if type(model).__name__ == "XGBoost":
        return onnxmltools.convert_xgboost(model.booster, initial_types=types, target_opset=15)
    booster = _with_float_thresholds(model.booster)
    return onnxmltools.convert_lightgbm(booster, initial_types=types, target_opset=15, zipmap=False)


def _with_float_thresholds(booster: Any) -> Any:
    """Return the same trees with each threshold rounded down to a float32.

    The features are float32 too, so none falls on the other side of a threshold.
    """
    import lightgbm

    lines = booster.model_to_string().split("\n")
    for i, line in enumerate(lines):
        if line.startswith("threshold="):
            exact = np.array(line.removeprefix("threshold=").split(), np.float64)
            near = exact.astype(np.float32)
            below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
            lines[i] = "threshold=" + " ".join(repr(float(value)) for value in below)
    # tree_sizes count the bytes of the original text
    return lightgbm.Booster(model_str="\n".join(line for line in lines if not line.startswith("tree_sizes=")))


def _by_skl2onnx(model: Any, width: int, path: Path) -> Any:
    """Convert a scikit-learn model."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    estimator = model.estimator
    return skl2onnx.convert_sklearn(
        estimator,
        initial_types=[("features", FloatTensorType([None, width]))],
        options={id(estimator): {"zipmap": False}},
        target_opset=OPSET,
    )


def _by_catboost(model: Any, width: int, path: Path) -> Any:
    """Convert a CatBoost model."""
    import onnx

    model.booster.save_model(str(path), format="onnx")
    return onnx.load(str(path))


_CONVERT: dict[str, Callable[[Any, int, Path], Any]] = {
    "onnxmltools": _by_onnxmltools,
    "skl2onnx": _by_skl2onnx,
    "catboost": _by_catboost,
}


def _declare_versions(model: Any) -> None:
    """Declare the opset and format in use, because converters declare older ones than they need."""
    from onnx import helper

    others = [item for item in model.opset_import if item.domain not in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), *others])
    model.ir_version = max(model.ir_version, IR)


def _take_probabilities(graph: Any) -> None:
    """Rename the probabilities to `AS_TRAINED`, without the dictionaries that a ZipMap of CatBoost makes of them."""
    from onnx import TensorProto

    maps = [node for node in graph.node if node.op_type == "ZipMap"]
    floats = [output.name for output in graph.output if output.type.tensor_type.elem_type == TensorProto.FLOAT]
    source = maps[0].input[0] if maps else floats[0]
    for node in maps:
        graph.node.remove(node)
    for node in graph.node:
        for names in (node.output, node.input):
            names[:] = [AS_TRAINED if name == source else name for name in names]


def _append_calibration(graph: Any, states: int, temperature: float) -> None:
    """Replace the outputs by those of networks: probabilities as trained, and softmax(log p / temperature)."""
    from onnx import TensorProto, helper, numpy_helper

    values = {"least": np.float32(1e-12), "most": np.float32(1), "temperature": np.float32(temperature)}
    graph.initializer.extend(numpy_helper.from_array(np.array(v), f"calibration_{k}") for k, v in values.items())
    graph.node.extend(
        [
            helper.make_node("Identity", [AS_TRAINED], ["probabilities"]),
            helper.make_node("Clip", [AS_TRAINED, "calibration_least", "calibration_most"], ["calibration_clipped"]),
            helper.make_node("Log", ["calibration_clipped"], ["calibration_log"]),
            helper.make_node("Div", ["calibration_log", "calibration_temperature"], ["calibration_logits"]),
            helper.make_node("Softmax", ["calibration_logits"], ["calibrated"], axis=1),
        ]
    )
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", states])
        for name in ("probabilities", "calibrated")
    )
