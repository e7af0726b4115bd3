"""What a data set measures: names and units of channels, the camera, states and kinds of device.

A `Schema` is read from the `schema` block of a `conf/data/*.yaml` and copied into the manifest of the frame store.
Everything downstream reads it there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from conveyorguard.errors import ConfigError

# Computed from the full-resolution frame before it is reduced; x is the column and y the row of the maximum.
THERMAL_STATISTICS = ("max", "p99", "mean", "sd", "x_max", "y_max")
UNLABELLED = -1
FRAME_COLUMNS = (
    "session",
    "device",
    "kind",
    "time",
    "state",
    "seconds_to_end",
    "seconds_since_onset",
    "quality",
    *(f"thermal_{name}" for name in THERMAL_STATISTICS),
)


@dataclass(frozen=True)
class Channel:
    """One measured quantity.

    Attributes:
        unit: e.g. "degC".
        scaling: "linear", or "log" for positive values that span decades, such as currents.
        column: its name in the files of a table; empty if it is the name of the channel.
        aggregate: statistic of the samples in one period: mean (if empty), rms, sd, min, max, p2p, kurtosis,
            crest, or rms within a band of frequencies, as 100-1000Hz.
    """

    unit: str
    scaling: str = "linear"
    column: str = ""
    aggregate: str = ""


@dataclass(frozen=True)
class Thermal:
    """The camera. Shapes are (rows, columns) [pixels], temperatures in degC.

    Attributes:
        shape: of a frame in the files.
        stored: of a frame in the store, with `reduce="mean_max"`.
        stride: every how many pixels are kept, with `reduce="stride"`.
        range: mapped to -1..1 for a network; values outside are kept.
        valid: possible temperatures; pixels outside are repaired.
    """

    shape: tuple[int, int]
    stored: tuple[int, int]
    stride: int = 2
    reduce: str = "mean_max"
    range: tuple[float, float] = (20.0, 100.0)
    valid: tuple[float, float] = (-20.0, 150.0)

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the names of the stored channels."""
        return ("mean", "max") if self.reduce == "mean_max" else ("pixel",)

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Return (channels, rows, columns) of a frame in the store."""
        if self.reduce == "mean_max":
            return (2, *self.stored)
        rows, columns = (-(-size // self.stride) for size in self.shape)
        return (1, rows, columns)


@dataclass(frozen=True)
class State:
    """One state of wear; `label` is its name in the files or in the language of the plant."""

    name: str
    label: str = ""


@dataclass(frozen=True)
class Schema:
    """Channels, camera, states and kinds of a data set.

    Attributes:
        channels, environment: by name.
        thermal: None without a camera.
        states: from normal to worst.
        alarm: number of the lowest state that is worth an alarm.
        kinds: types of device.
        device_split: devices of validation and test, for `split=device`.
        columns: names of the columns session, device, kind, time and state in the files of a table.
    """

    channels: dict[str, Channel]
    environment: dict[str, Channel]
    thermal: Thermal | None
    states: tuple[State, ...]
    alarm: int
    kinds: tuple[str, ...]
    device_split: dict[str, list[str]] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> Schema:
        """Read the `schema` block of a data config (a plain mapping).

        Raises:
            ConfigError: naming every key that is missing, unknown or impossible.
        """
        problems = _problems(node)
        if problems:
            raise ConfigError("data.schema:\n" + "\n".join(f"  - {p}" for p in problems))
        alarm = node.get("alarm")
        return cls(
            channels=_channels(node["channels"]),
            environment=_channels(node.get("environment") or {}),
            thermal=_camera(node["thermal"]) if node.get("thermal") else None,
            states=tuple(State(**s) for s in node["states"]),
            alarm=len(node["states"]) - 1 if alarm is None else int(alarm),
            kinds=tuple(node.get("kinds") or ()),
            device_split={k: list(v) for k, v in (node.get("device_split") or {}).items()},
            columns=dict(node.get("columns") or {}),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain mappings, lists and scalars from which `from_config` makes the same schema."""
        plain = asdict(self)
        plain["states"] = list(plain["states"])
        plain["kinds"] = list(self.kinds)
        for channel in [*plain["channels"].values(), *plain["environment"].values()]:
            for key in ("column", "aggregate"):
                if not channel[key]:
                    del channel[key]
        if not self.columns:
            del plain["columns"]
        if self.thermal:
            plain["thermal"] = {k: list(v) if isinstance(v, tuple) else v for k, v in plain["thermal"].items()}
        return plain

    @property
    def state_names(self) -> list[str]:
        """Return the names of the states, from normal to worst."""
        return [state.name for state in self.states]

    @property
    def alarming(self) -> str:
        """Name the states that are worth an alarm: the worst state, or the first that alarms with "or worse"."""
        return self.states[self.alarm].name + " or worse" * (self.alarm < len(self.states) - 1)

    @property
    def inputs(self) -> list[str]:
        """Return which of "sensors", "thermal" and "environment" the data have."""
        present = {"sensors": self.channels, "thermal": self.thermal, "environment": self.environment}
        return [name for name, there in present.items() if there]


def _channels(node: Mapping[str, str | Mapping[str, Any]]) -> dict[str, Channel]:
    """Read channels; `temperature: degC` is short for `temperature: {unit: degC}`.

    `vibration: {unit: g, aggregate: [rms, sd]}` stands for the channels vibration_rms and vibration_sd.
    """
    channels = {}
    for name, value in node.items():
        if isinstance(value, str):
            channels[name] = Channel(value)
        elif isinstance(statistics := value.get("aggregate", ""), str):
            channels[name] = Channel(**value)
        else:
            for statistic in statistics:
                without_unit = {"unit": "-", "scaling": "linear"} if statistic in UNITLESS else {}
                settings = {**value, "column": value.get("column") or name, "aggregate": statistic, **without_unit}
                channels[f"{name}_{statistic}"] = Channel(**settings)
    return channels


def _camera(node: Mapping[str, Any]) -> Thermal:
    pairs = {key: tuple(node[key]) for key in ("shape", "stored", "range", "valid") if key in node}
    return Thermal(**{**node, **pairs})


AGGREGATES = ("mean", "rms", "sd", "min", "max", "p2p", "kurtosis", "crest")
UNITLESS = ("kurtosis", "crest")
BAND = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?) ?Hz")


def band_of(aggregate: str) -> tuple[float, float] | None:
    """Return the lowest and highest frequency [Hz] of an aggregate such as `100-1000Hz`; None for another."""
    match = BAND.fullmatch(aggregate)
    return (float(match[1]), float(match[2])) if match and float(match[1]) < float(match[2]) else None


COLUMNS = ("session", "device", "kind", "time", "state")
_BLOCKS: dict[str, tuple[type, str]] = {
    "channels": (dict, "read {name: {unit: ..., scaling: linear|log}, ...}"),
    "environment": (dict, "read {name: {unit: ..., scaling: linear|log}, ...}"),
    "thermal": (dict, "read {shape: [rows, columns], stored: [rows, columns], ...}, or be null without a camera"),
    "states": (list, "be a list of {name: ..., label: ...}, ordered from normal to worst"),
    "kinds": (list, "be a list of names"),
    "device_split": (dict, "read {val: [devices], test: [devices]}"),
    "columns": (dict, f"name columns of a table: {', '.join(COLUMNS)}"),
}


def _problems(node: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with a schema block, as sentences."""
    known = sorted({*_BLOCKS, "alarm"})
    problems = [f"unknown key '{key}'; known are {', '.join(known)}" for key in node if key not in known]
    blocks: dict[str, Any] = {}
    for key, (kind, form) in _BLOCKS.items():
        blocks[key] = node.get(key) or kind()
        if not isinstance(blocks[key], kind):
            problems.append(f"`{key}` must {form}, found {blocks[key]!r}")
            blocks[key] = kind()
    if not node.get("channels"):
        problems.append("`channels` is empty: name at least one, e.g. `temperature: {unit: degC, scaling: linear}`")
    return [
        *problems,
        *_channel_problems(blocks["channels"], blocks["environment"]),
        *_column_problems(blocks["columns"]),
        *_device_split_problems(blocks["device_split"]),
        *_state_problems(blocks["states"], node.get("alarm")),
        *(_camera_problems(blocks["thermal"]) if blocks["thermal"] else []),
    ]


def _channel_problems(channels: dict[str, Any], environment: dict[str, Any]) -> list[str]:
    problems = []
    for names in (_names(channels), _names(environment)):
        problems += [f"two channels are called '{name}'" for name in dict.fromkeys(names) if names.count(name) > 1]
    for name, channel in {**channels, **environment}.items():
        if name in FRAME_COLUMNS:
            problems.append(f"a channel cannot be called '{name}': the frame store has a column of that name")
        if isinstance(channel, str):
            continue
        if not _is_entry(channel, "unit", {"unit", "scaling", "column", "aggregate"}):
            problems.append(f"channel '{name}' must read {{unit: ..., scaling: linear|log}}, found {channel!r}")
        elif not _is_aggregate(channel.get("aggregate", "")):
            known = ", ".join([*AGGREGATES, "bands as 100-1000Hz"])
            problems.append(f"channel '{name}': aggregate is one or several of {known}, not {channel['aggregate']!r}")
        elif channel.get("scaling", "linear") not in ("linear", "log"):
            problems.append(f"channel '{name}': scaling is linear or log, not {channel['scaling']!r}")
    both = [name for name in channels if name in environment]
    return problems + [f"'{name}' is both a channel and an environment channel" for name in both]


def _names(channels: Mapping[str, Any]) -> list[str]:
    """Return the names of the channels of a block, with lists of aggregates expanded."""
    aggregates = {name: c["aggregate"] for name, c in channels.items() if isinstance(c, Mapping) and "aggregate" in c}
    lists = {name: how for name, how in aggregates.items() if isinstance(how, list | tuple)}
    return [
        full for name in channels for full in ([f"{name}_{how}" for how in lists[name]] if name in lists else [name])
    ]


def _is_aggregate(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(how, str) and how and _is_aggregate(how) for how in value)
    return isinstance(value, str) and (value in ("", *AGGREGATES) or band_of(value) is not None)


def _column_problems(columns: dict[str, Any]) -> list[str]:
    problems = []
    for role, column in columns.items():
        several = role == "time" and isinstance(column, list) and all(isinstance(c, str) for c in column)
        if role not in COLUMNS or not (column is None or isinstance(column, str) or several):
            problems.append(f"`columns` must {_BLOCKS['columns'][1]}, found {role}: {column!r}")
    return problems


def _device_split_problems(parts: dict[str, Any]) -> list[str]:
    problems = [
        f"`device_split` must {_BLOCKS['device_split'][1]}, found {part}: {devices!r}"
        for part, devices in parts.items()
        if part not in ("train", "val", "test") or not isinstance(devices, list)
    ]
    listed = [device for devices in parts.values() if isinstance(devices, list) for device in devices]
    if twice := sorted({str(device) for device in listed if listed.count(device) > 1}):
        problems.append(f"`device_split` names {', '.join(twice)} more than once: a device belongs to one part")
    return problems


def _state_problems(states: list, alarm: Any) -> list[str]:
    if len(states) < 2:
        return ["`states` needs two or more, ordered from normal to worst"]
    problems, names = [], []
    for i, state in enumerate(states):
        if not _is_entry(state, "name", {"name", "label"}):
            problems.append(f"state {i} must read {{name: ..., label: ...}}, found {state!r}")
        elif state["name"] in names:
            problems.append(f"two states are called '{state['name']}'")
        else:
            names.append(state["name"])
    if alarm is not None and not (isinstance(alarm, int) and 0 < alarm < len(states)):
        problems.append(f"`alarm` is the lowest state worth an alarm, 1..{len(states) - 1}, not {alarm!r}")
    return problems


def _camera_problems(camera: Mapping[str, Any]) -> list[str]:
    known = sorted(Thermal.__dataclass_fields__)
    problems = [f"unknown key 'thermal.{key}'; known are {', '.join(known)}" for key in camera if key not in known]
    problems += _size_problems(camera)
    for key in ("range", "valid"):
        limits = camera.get(key, [0, 1])
        if not (_is_pair(limits, (int, float)) and limits[0] < limits[1]):
            problems.append(f"`thermal.{key}` must be [lowest, highest] in degC, found {limits!r}")
    stride = camera.get("stride", 1)
    if not (isinstance(stride, int) and stride > 0):
        problems.append(f"`thermal.stride` must be a whole number, 1 or more, not {stride!r}")
    if camera.get("reduce", "mean_max") not in ("mean_max", "stride"):
        problems.append(f"`thermal.reduce` is mean_max or stride, not {camera['reduce']!r}")
    return problems


def _size_problems(camera: Mapping[str, Any]) -> list[str]:
    problems = [f"`thermal.{key}` is missing: [rows, columns]" for key in ("shape", "stored") if key not in camera]
    sizes = {key: camera[key] for key in ("shape", "stored") if key in camera}
    impossible = [key for key, size in sizes.items() if not (_is_pair(size, int) and min(size) > 0)]
    problems += [f"`thermal.{key}` must be [rows, columns], 1 or more each, found {sizes[key]!r}" for key in impossible]
    if len(sizes) == 2 and not impossible and any(a > b for a, b in zip(sizes["stored"], sizes["shape"], strict=True)):
        problems.append(f"`thermal.stored` {sizes['stored']} is larger than `thermal.shape` {sizes['shape']}")
    return problems


def _is_entry(value: Any, required: str, known: set[str]) -> bool:
    """Return whether a value is a mapping with the required key and no unknown one."""
    return isinstance(value, Mapping) and required in value and set(value) <= known


def _is_pair(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, kind) for v in value)


def modality_with(modality: str, sensors: bool, camera: bool) -> str:
    """Return what of a modality data can serve: of `both`, `sensor` without a camera, and `image` without channels.

    Args:
        sensors: whether the data have channels.
        camera: whether they have a camera.
    """
    if modality != "both" or sensors == camera:
        return modality
    return "sensor" if sensors else "image"
