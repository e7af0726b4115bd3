"""Describe an exported model well enough that it can be served without this package."""

from __future__ import annotations

from typing import Any

from conveyorguard.data.recording_start import START
from conveyorguard.inference.loaded_run import LoadedRun


def describe(loaded: LoadedRun, inputs: list[dict[str, Any]], model: Any) -> dict[str, Any]:
    """Return the description of an exported model.

    Args:
        loaded: the run.
        inputs: name, shape, dimensions and type of each input.
        model: the model, an `onnx.ModelProto`.
    """
    schema, settings = loaded.schema, loaded.settings
    contents = _input_contents(loaded)
    return {
        "run": loaded.run.folder.resolve().name,
        "model": loaded.run.model_name,
        "opset": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "inputs": [{**entry, "content": contents[entry["name"]]} for entry in inputs],
        "units": _units(loaded),
        "outputs": _outputs(loaded, [output.name for output in model.graph.output]),
        "states": [state.name for state in schema.states],
        "window": {"size": settings.size, "stride": settings.stride, "judged_stride": settings.judged_stride},
        "deployed": {
            "temperature": loaded.temperature,
            "memory": loaded.memory.to_dict() if loaded.memory else None,
            "content": "the answer of `predict`: softmax(coefficients @ x + intercept). x joins log p of each lag: "
            "that of the last window that had ended `lag` periods ago, or of the first window since a start or gap if "
            "none had. Without memory the answer is softmax(log p / temperature), the output `calibrated`",
        },
        "alarm": {
            "state": schema.states[schema.alarm].name,
            "first": schema.alarm,
            **(loaded.point.to_dict() if loaded.point else {}),
        },
        "missing_values": {name: values["middle"] for name, values in loaded.ranges.items() if "middle" in values},
    }


def _input_contents(loaded: LoadedRun) -> dict[str, str]:
    """Return what each input holds, in words."""
    thermal, seconds = loaded.schema.thermal, loaded.settings.thermal_seconds.tolist()
    every_channel = "every second of the window, each channel in its unit"
    at_start = (
        f"mean over the first {START} measured seconds of the session, or as many as had passed; NaN or the window's "
        "own mean if unknown"
    )
    return {
        "sensors": every_channel,
        "environment": every_channel,
        "mask": "true where sensors, thermal frame and environment of a second were measured, not filled in",
        "thermal": f"[degC] frames of the seconds {seconds} of the window, as stored: "
        f"{thermal.reduce if thermal else ''} (conveyorguard.data.reduce.reduce_frames)",
        "thermal_stats": "every second of the window: max, p99, mean and sd [degC], x and y of the maximum [pixels], "
        "of the frame at full resolution (conveyorguard.data.reduce.reduce_frames)",
        "sensors_start": f"sensors: {at_start}",
        "thermal_stats_start": f"thermal_stats: {at_start}",
        "features": "features of one window, in this order (conveyorguard.data.features.window_features)",
    }


def _units(loaded: LoadedRun) -> dict[str, dict[str, str]]:
    """Return the unit of each channel that the run uses, by input."""
    groups = {"sensors": loaded.schema.channels, "environment": loaded.schema.environment}
    return {
        group: {name: channel.unit for name, channel in channels.items()}
        for group, channels in groups.items()
        if group in loaded.inputs
    }


def _outputs(loaded: LoadedRun, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return shape and content of the model's outputs."""
    states = len(loaded.schema.states)
    outputs = {
        "probabilities": {"shape": ["batch", states], "content": "probability of each state, as trained"},
        "calibrated": {
            "shape": ["batch", states],
            "content": "probability of each state, calibrated; the operating point refers to "
            + ("the deployed ones, with the memory" if loaded.memory else "these"),
        },
        "seconds": {
            "shape": ["batch", loaded.settings.size, states],
            "content": "probability of each state in each second, as trained",
        },
    }
    return {name: output for name, output in outputs.items() if name in names}


def summary(description: dict[str, Any]) -> str:
    """Return the description as a few lines for the terminal."""
    opset = ", ".join(f"{domain} {version}" for domain, version in description["opset"].items())
    lines = [f"opset {opset}"]
    lines += [f"input {i['name']} {i['type']} {i['shape']}: {i['content']}" for i in description["inputs"]]
    lines += [f"output {name} float32 {o['shape']}: {o['content']}" for name, o in description["outputs"].items()]
    checked, latency = description["checked"], description["latency_ms"]
    lines.append(
        f"checked on {checked['windows']} windows: probabilities differ from the run's own model by at most "
        f"{checked['largest_difference']:.2g}"
    )
    lines.append(
        f"one window on one core: {latency['onnxruntime']:.2f} ms with ONNX Runtime, {latency['own']:.2f} ms with "
        "the run's own model, reading the store included"
    )
    return "\n".join(lines)
