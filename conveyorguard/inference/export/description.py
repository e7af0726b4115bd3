"""The description of an exported model: enough to serve it without this package."""

from __future__ import annotations

from typing import Any

from conveyorguard.data.recording_start import START
from conveyorguard.inference.loaded_run import LoadedRun


def describe(loaded: LoadedRun, inputs: list[dict[str, Any]], model: Any) -> dict[str, Any]:
    """Describe an ONNX model of a run.

    Args:
        inputs: name, shape, dimensions and type of each. model: an `onnx.ModelProto`.
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
        "window": {"size": settings.size, "stride": settings.stride},
        "alarm": {
            "state": schema.states[schema.alarm].name,
            "first": schema.alarm,
            **(loaded.point.to_dict() if loaded.point else {}),
        },
        "missing_values": {name: known["middle"] for name, known in loaded.ranges.items() if "middle" in known},
    }


def _input_contents(loaded: LoadedRun) -> dict[str, str]:
    """What each input holds, in words."""
    thermal, seconds = loaded.schema.thermal, loaded.settings.thermal_seconds.tolist()
    every_channel = "every second of the window, each channel in its unit"
    at_start = (
        f"the mean of the recording's first {START} seconds that were measured, as far as they had passed; NaN or the "
        "window's own mean where they are not known"
    )
    return {
        "sensors": every_channel,
        "environment": every_channel,
        "mask": "whether sensors, thermal frame and environment of a second were measured rather than filled in",
        "thermal": f"degC; the frames of the seconds {seconds} of the window as the store holds them: "
        f"{thermal.reduce if thermal else ''} (conveyorguard.data.reduce.reduce_frames)",
        "thermal_stats": "every second of the window: max, p99, mean and sd in degC, x and y of the maximum in pixels, "
        "of the frame at full resolution (conveyorguard.data.reduce.reduce_frames)",
        "sensors_start": f"sensors: {at_start}",
        "thermal_stats_start": f"thermal_stats: {at_start}",
        "features": "by name, in this order, of one window (conveyorguard.data.features.window_features)",
    }


def _units(loaded: LoadedRun) -> dict[str, dict[str, str]]:
    groups = {"sensors": loaded.schema.channels, "environment": loaded.schema.environment}
    return {
        group: {name: channel.unit for name, channel in channels.items()}
        for group, channels in groups.items()
        if group in loaded.inputs
    }


def _outputs(loaded: LoadedRun, names: list[str]) -> dict[str, dict[str, Any]]:
    states = len(loaded.schema.states)
    outputs = {
        "probabilities": {"shape": ["batch", states], "content": "of each state, as trained"},
        "calibrated": {
            "shape": ["batch", states],
            "content": "of each state, calibrated; what the operating point is for",
        },
        "seconds": {
            "shape": ["batch", loaded.settings.size, states],
            "content": "of each state, of each second",
        },
    }
    return {name: output for name, output in outputs.items() if name in names}


def summary(description: dict[str, Any]) -> str:
    """Say what was written, in a few lines."""
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
        "the run's own model, reading the store included"
    )
    return "\n".join(lines)
