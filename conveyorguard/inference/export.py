"""A trained run as an ONNX file that any runtime can serve: scaling and calibration are inside the graph.

Networks take the raw batch of a window; tabular models its features by name. Every file is checked: ONNX Runtime must
give the probabilities of the run's own model on real windows.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.ranges import filled
from conveyorguard.data.recording_start import START
from conveyorguard.data.store import Store
from conveyorguard.data.windows import make_windows
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.calibration import scale
from conveyorguard.runs.data import load_store
from conveyorguard.system.files import write_json
from conveyorguard.training.fit_tabular import TabularClassifier
from conveyorguard.training.module import WindowClassifier

OPSET = 18
IR = 8  # of the file format; before it constants are inputs
TOLERANCE = 1e-4  # of a probability, against the run's own model
CHECKED = 256  # windows
REPEATS = 200  # of the latency's measurement
CONVERTERS = {
    "LightGBM": "onnxmltools",
    "XGBoost": "onnxmltools",
    "CatBoost": "catboost",
    "ExtraTrees": "skl2onnx",
    "RandomForest": "skl2onnx",
    "LogisticRegression": "skl2onnx",
}
DIMENSIONS = {
    "sensors": ("seconds", "channels"),
    "sensors_start": ("channels",),
    "thermal_stats_start": ("statistics",),
    "environment": ("seconds", "channels"),
    "mask": ("seconds", "kinds"),
    "thermal_stats": ("seconds", "statistics"),
    "thermal": ("frames", "channels", "rows", "columns"),
}


def export(loaded: LoadedRun, config: DictConfig, folder: Path) -> dict[str, Any]:
    """Write `model.onnx` and its description `model.json`.

    Args:
        config: of data with real windows to check on; the run's own.
        folder: made if it is not there.

    Returns:
        The description: inputs (name, shape, type, content), outputs, opset, states, window, operating point, the
            largest
        difference from the run's own model and the latency of one window, ms.

    Raises:
        ConfigError: a package of the extra `export` is missing, or the model's library cannot write ONNX.
        RunError: the file does not give the probabilities of the run's own model.
    """
    _need("onnx", "onnxruntime")
    store = filled(load_store(config), loaded.ranges)
    loaded.refuse_other(store.schema)
    windows = make_windows(store, loaded.settings, labelled=False)
    chosen = windows.iloc[np.unique(np.linspace(0, len(windows) - 1, CHECKED).astype(int))].reset_index(drop=True)
    dataset = WindowDataset(store, chosen, loaded.settings, loaded.inputs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    if isinstance(loaded.model, WindowClassifier):
        feed, inputs = _network(loaded.model, loaded, dataset, path)
    else:
        feed, inputs = _tabular(loaded.model, loaded, dataset, path)
    description = _description(loaded, store, inputs, path)
    _embed(path, description)
    expected = predict(loaded.model, dataset).astype(np.float64)
    description |= _check(path, feed, expected, scale(expected, loaded.temperature))
    one = WindowDataset(store, chosen.iloc[[0]], loaded.settings, loaded.inputs)
    description["latency_ms"] = _latency(path, {k: v[:1] for k, v in feed.items()}, lambda: predict(loaded.model, one))
    write_json(folder / "model.json", description)
    return description


def _need(*packages: str) -> None:
    missing = [name for name in packages if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"export needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}: pip install "
            "'conveyorguard[export]'"
        )


# --- networks ------------------------------------------------------------------------------------------------------


class Graph(nn.Module):
    """What is exported: raw inputs by name to probabilities as trained, calibrated and, if the model has them, by
    second."""

    def __init__(self, classifier: WindowClassifier, names: list[str], temperature: float):
        super().__init__()
        self.classifier, self.names, self.temperature = classifier, names, temperature

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        logits = self.classifier.model(self.classifier.scaling(dict(zip(self.names, inputs, strict=True))))
        found = [logits["window"].softmax(-1), (logits["window"] / self.temperature).softmax(-1)]
        if "second" in logits:
            found.append(logits["second"].softmax(-1))
        return tuple(found)


class _Noting(dict):
    """A batch that notes what of it is asked for."""

    def __init__(self, batch: dict[str, Tensor]):
        super().__init__(batch)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.asked.add(name)
        return super().__getitem__(name)


def _network(classifier: WindowClassifier, loaded: LoadedRun, dataset: WindowDataset, path: Path) -> tuple[dict, list]:
    _need("onnxscript")
    classifier = classifier.eval().cpu()
    batch = dataset.__getitems__(list(range(len(dataset))))
    targets = ("index", "window", "second")
    raw = {k: v if v.dtype == torch.bool else v.float() for k, v in batch.items() if k not in targets}
    noting = _Noting(classifier.scaling(raw))
    with torch.inference_mode():
        classifier.model(noting)
    wanted = {name.removesuffix("_window").removesuffix("_change") for name in noting.asked}
    if loaded.from_start:
        wanted |= {f"{name.rsplit('_', 1)[0]}_start" for name in noting.asked if name.endswith(("_window", "_change"))}
    names = [name for name in raw if name in wanted]
    graph = Graph(classifier, names, loaded.temperature).eval()
    values = tuple(raw[name] for name in names)
    outputs = ["probabilities", "calibrated", "seconds"][: len(graph(*(value[:2] for value in values)))]
    batch_size = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # of operators that torchvision would have
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own insides; the file itself is checked
        program = torch.onnx.export(
            graph,
            tuple(value[:3] for value in values),
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_shapes={"inputs": tuple({0: batch_size} for _ in names)},
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)
    inputs = [
        {
            "name": name,
            "shape": ["batch", *raw[name].shape[1:]],
            "dimensions": ["windows", *DIMENSIONS.get(name, ())],
            "type": "bool" if raw[name].dtype == torch.bool else "float32",
        }
        for name in names
    ]
    return {name: raw[name].numpy() for name in names}, inputs


# --- tabular models ------------------------------------------------------------------------------------------------


def _tabular(classifier: TabularClassifier, loaded: LoadedRun, dataset: WindowDataset, path: Path) -> tuple[dict, list]:
    kind = type(classifier.model).__name__
    if kind not in CONVERTERS:
        raise ConfigError(f"{kind}: no converter to ONNX is known; known are {', '.join(CONVERTERS)}")
    _need(CONVERTERS[kind])
    features = classifier.features(dataset)
    model = _CONVERT[CONVERTERS[kind]](classifier.model, features.shape[1], path)
    _name_outputs(model, len(loaded.schema.states), loaded.temperature)
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


def _by_onnxmltools(model: Any, width: int, path: Path) -> Any:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("features", FloatTensorType([None, width]))]
    if type(model).__name__ == "XGBoost":
        return onnxmltools.convert_xgboost(model.booster, initial_types=types, target_opset=15)
    booster = _with_float_thresholds(model.booster)
    return onnxmltools.convert_lightgbm(booster, initial_types=types, target_opset=15, zipmap=False)


def _with_float_thresholds(booster: Any) -> Any:
    """The same trees with each threshold rounded down to a float32, as the features are: none falls on the other
    side."""
    import lightgbm

    lines = booster.model_to_string().split("\n")
    for i, line in enumerate(lines):
        if line.startswith("threshold="):
            exact = np.array(line.removeprefix("threshold=").split(), np.float64)
            near = exact.astype(np.float32)
            below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
            lines[i] = "threshold=" + " ".join(repr(float(value)) for value in below)
    # tree_sizes are in bytes, of the text as it was
    return lightgbm.Booster(model_str="\n".join(line for line in lines if not line.startswith("tree_sizes=")))


def _by_skl2onnx(model: Any, width: int, path: Path) -> Any:
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
    import onnx

    model.booster.save_model(str(path), format="onnx")
    return onnx.load(str(path))


_CONVERT: dict[str, Callable[[Any, int, Path], Any]] = {
    "onnxmltools": _by_onnxmltools,
    "skl2onnx": _by_skl2onnx,
    "catboost": _by_catboost,
}


def _name_outputs(model: Any, states: int, temperature: float) -> None:
    """Call the outputs as those of networks, and append the calibration: softmax(log p / temperature)."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    maps = [node for node in graph.node if node.op_type == "ZipMap"]  # catboost wraps probabilities in dictionaries
    floats = [output.name for output in graph.output if output.type.tensor_type.elem_type == TensorProto.FLOAT]
    source = maps[0].input[0] if maps else floats[0]
    for node in maps:
        graph.node.remove(node)
    for node in graph.node:
        node.output[:] = ["as_trained" if name == source else name for name in node.output]
        node.input[:] = ["as_trained" if name == source else name for name in node.input]
    source = "as_trained"
    others = [item for item in model.opset_import if item.domain not in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), *others])  # converters declare older ones than they need
    model.ir_version = max(model.ir_version, IR)
    values = {"least": np.float32(1e-12), "most": np.float32(1), "temperature": np.float32(temperature)}
    graph.initializer.extend(numpy_helper.from_array(np.array(v), f"calibration_{k}") for k, v in values.items())
    graph.node.extend(
        [
            helper.make_node("Identity", [source], ["probabilities"]),
            helper.make_node("Clip", [source, "calibration_least", "calibration_most"], ["calibration_clipped"]),
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


# --- what is written beside it -------------------------------------------------------------------------------------


def _description(loaded: LoadedRun, store: Store, inputs: list[dict[str, Any]], path: Path) -> dict[str, Any]:
    import onnx

    schema, settings = loaded.schema, loaded.settings
    opset = {
        item.domain or "ai.onnx": item.version for item in onnx.load(str(path), load_external_data=False).opset_import
    }
    units = {
        group: {name: c.unit for name, c in channels.items()}
        for group, channels in (("sensors", schema.channels), ("environment", schema.environment))
        if group in loaded.inputs
    }
    contents = {
        "sensors": "every second of the window, each channel in its unit",
        "environment": "every second of the window, each channel in its unit",
        "mask": "whether sensors, thermal frame and environment of a second were measured rather than filled in",
        "thermal": f"degC; the frames of the seconds {settings.thermal_seconds.tolist()} of the window as the store "
        "holds them: "
        f"{schema.thermal.reduce if schema.thermal else ''} (conveyorguard.data.repair.reduce_frames)",
        "thermal_stats": "every second of the window: max, p99, mean and sd in degC, x and y of the maximum in "
        "pixels, of the "
        "frame at full resolution (conveyorguard.data.repair.reduce_frames)",
        **{
            f"{name}_start": f"{name}: the mean of the recording's first {START} seconds that were measured, as far "
            "as they had passed; "
            "NaN or the window's own mean where they are not known"
            for name in ("sensors", "thermal_stats")
        },
        "features": "by name, in this order, of one window (conveyorguard.data.features.window_features)",
    }
    states = [state.name for state in schema.states]
    return {
        "run": loaded.run.folder.resolve().name,
        "model": loaded.run.config.model.get("name", "model"),
        "opset": opset,
        "inputs": [{**one, "content": contents[one["name"]]} for one in inputs],
        "units": units,
        "outputs": {
            "probabilities": {"shape": ["batch", len(states)], "content": "of each state, as trained"},
            "calibrated": {
                "shape": ["batch", len(states)],
                "content": "of each state, calibrated; what the operating point is for",
            },
        }
        | (
            {"seconds": {"shape": ["batch", settings.size, len(states)], "content": "of each state, of each second"}}
            if _has_output(path, "seconds")
            else {}
        ),
        "states": states,
        "window": {"size": settings.size, "stride": settings.stride},
        "alarm": {
            "state": states[schema.alarm],
            "first": schema.alarm,
            **(loaded.point.to_dict() if loaded.point else {}),
        },
        "missing_values": {name: known["middle"] for name, known in loaded.ranges.items() if "middle" in known},
    }


def _has_output(path: Path, name: str) -> bool:
    import onnx

    return name in [output.name for output in onnx.load(str(path), load_external_data=False).graph.output]


def _embed(path: Path, description: dict[str, Any]) -> None:
    """Keep the description in the file, too: a model that travels alone explains itself."""
    import onnx

    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {"conveyorguard": json.dumps(description, ensure_ascii=False)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _session(path: Path, threads: int = 0) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _check(path: Path, feed: dict[str, np.ndarray], p: np.ndarray, calibrated: np.ndarray) -> dict[str, Any]:
    """Hold the file against the run's own model, all windows at once and one alone."""
    session = _session(path)
    found = session.run(["probabilities", "calibrated"], feed)
    alone = session.run(["probabilities"], {name: value[:1] for name, value in feed.items()})[0]
    difference = max(float(np.abs(found[0] - p).max()), float(np.abs(alone - p[:1]).max()))
    calibrated_difference = float(np.abs(found[1] - calibrated).max())
    if not max(difference, calibrated_difference) <= TOLERANCE:
        path.unlink()
        raise RunError(
            f"ONNX Runtime gives probabilities that differ by up to {max(difference, calibrated_difference):.2g} on "
            f"{len(p)} "
            f"windows, more than {TOLERANCE:g}; the file is not kept"
        )
    return {
        "checked": {
            "windows": len(p),
            "largest_difference": max(difference, calibrated_difference),
            "tolerance": TOLERANCE,
        }
    }


def _latency(path: Path, feed: dict[str, np.ndarray], own: Callable[[], Any]) -> dict[str, float]:
    """Median time of one window, ms, on one core: ONNX Runtime, and the run's own model from the store."""
    session, threads = _session(path, 1), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "onnxruntime": _median_ms(lambda: session.run(None, feed), REPEATS),
            "own": _median_ms(own, REPEATS // 10),
        }
    finally:
        torch.set_num_threads(threads)


def _median_ms(call: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return round(float(np.median(times[3:])), 4)


def summary(description: dict[str, Any]) -> str:
    """What was written, in a few lines."""
    opset = ", ".join(f"{domain} {version}" for domain, version in description["opset"].items())
    lines = [f"opset {opset}"]
    lines += [f"input {i['name']} {i['type']} {i['shape']}: {i['content']}" for i in description["inputs"]]
    lines += [f"output {name} float32 {o['shape']}: {o['content']}" for name, o in description["outputs"].items()]
    checked, latency = description["checked"], description["latency_ms"]
    lines.append(
        f"checked on {checked['windows']} windows: differs by up to {checked['largest_difference']:.2g} from the "
        "run's own model"
    )
    lines.append(
        f"one window on one core: {latency['onnxruntime']:.2f} ms with ONNX Runtime, {latency['own']:.2f} ms with "
        "the run's own "
        "model, reading the store included"
    )
    return "\n".join(lines)
