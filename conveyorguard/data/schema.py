"""What a data set measures: the one place that knows channel, camera, state and kind names.

A `Schema` is read from the `schema` block of a `conf/data/*.yaml`, copied into the frame store's manifest and taken
from there by everything downstream. `Session` is what a reader yields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from conveyorguard.errors import ConfigError

# Taken from the full-resolution frame before it is reduced; x is the column, y the row of the maximum.
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
    """One measured quantity. `scaling` is 'linear' or 'log' (positive and spread over decades, e.g. currents)."""

    unit: str
    scaling: str = "linear"


@dataclass(frozen=True)
class Thermal:
    """The camera. Shapes are (rows, columns) in pixels, temperatures in degC."""

    shape: tuple[int, int]
    stored: tuple[int, int]
    stride: int = 2
    reduce: str = "mean_max"
    range: tuple[float, float] = (20.0, 100.0)
    valid: tuple[float, float] = (-20.0, 150.0)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the stored channels."""
        return ("mean", "max") if self.reduce == "mean_max" else ("pixel",)

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of a frame in the store."""
        if self.reduce == "mean_max":
            return (2, *self.stored)
        rows, columns = (-(-size // self.stride) for size in self.shape)
        return (1, rows, columns)


@dataclass(frozen=True)
class State:
    """One state of wear; `label` is its name in the plant's language."""

    name: str
    label: str = ""


@dataclass(frozen=True)
class Schema:
    """Channels, camera, states and kinds of a data set. States are ordered from normal to worst."""

    channels: dict[str, Channel]
    environment: dict[str, Channel]
    thermal: Thermal | None
    states: tuple[State, ...]
    alarm: int
    kinds: tuple[str, ...]
    device_split: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> Schema:
        """Read the `schema` block of a data config (a plain mapping).

        Raises:
            ConfigError: naming every key that is missing, unknown or impossible.
        """
        problems = _problems(node)
        if problems:
            raise ConfigError("data.schema:\n" + "\n".join(f"  - {p}" for p in problems))
        thermal = node.get("thermal")
        if thermal:
            pairs = {k: tuple(thermal[k]) for k in ("shape", "stored", "range", "valid") if k in thermal}
            thermal = Thermal(**{**thermal, **pairs})
        return cls(
            channels={name: Channel(**c) for name, c in node["channels"].items()},
            environment={name: Channel(**c) for name, c in (node.get("environment") or {}).items()},
            thermal=thermal or None,
            states=tuple(State(**s) for s in node["states"]),
            alarm=int(node.get("alarm", len(node["states"]) - 1)),
            kinds=tuple(node.get("kinds") or ()),
            device_split={k: list(v) for k, v in (node.get("device_split") or {}).items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain mappings, lists and scalars, from which `from_config` gives the same schema back."""
        plain = asdict(self)
        plain["states"] = list(plain["states"])
        plain["kinds"] = list(self.kinds)
        if self.thermal:
            plain["thermal"] = {k: list(v) if isinstance(v, tuple) else v for k, v in plain["thermal"].items()}
        return plain

    @property
    def state_names(self) -> list[str]:
        return [state.name for state in self.states]

    @property
    def inputs(self) -> list[str]:
        """What a model may be given: 'sensors', 'thermal', 'environment', as far as the data have them."""
        present = {"sensors": self.channels, "thermal": self.thermal, "environment": self.environment}
        return [name for name, there in present.items() if there]


def _problems(node: Mapping[str, Any]) -> list[str]:
    """Everything wrong with a schema block, as sentences."""
    known = {"channels", "environment", "thermal", "states", "alarm", "kinds", "device_split"}
    found = [f"unknown key '{key}'; known are {', '.join(sorted(known))}" for key in node if key not in known]
    channels, environment = node.get("channels") or {}, node.get("environment") or {}
    if not channels:
        found.append("`channels` is empty: name at least one, e.g. `temperature: {unit: degC, scaling: linear}`")
    for name, channel in {**channels, **environment}.items():
        if name in FRAME_COLUMNS:
            found.append(f"a channel cannot be called '{name}': the frame store has a column of that name")
        if not isinstance(channel, Mapping) or "unit" not in channel or not set(channel) <= {"unit", "scaling"}:
            found.append(f"channel '{name}' must read {{unit: ..., scaling: linear|log}}, found {channel!r}")
        elif channel.get("scaling", "linear") not in ("linear", "log"):
            found.append(f"channel '{name}': scaling is linear or log, not {channel['scaling']!r}")
    found += [f"'{name}' is both a channel and an environment channel" for name in channels if name in environment]
    states = node.get("states") or []
    if len(states) < 2:
        found.append("`states` needs two or more, ordered from normal to worst")
    elif not 0 < int(node.get("alarm", len(states) - 1)) < len(states):
        found.append(f"`alarm` is the lowest state worth an alarm, 1..{len(states) - 1}, not {node.get('alarm')}")
    return found + _camera_problems(node.get("thermal"))


def _camera_problems(thermal: Mapping[str, Any] | None) -> list[str]:
    if not thermal:
        return []
    known = set(Thermal.__dataclass_fields__)
    found = [f"unknown key 'thermal.{key}'; known are {', '.join(sorted(known))}" for key in set(thermal) - known]
    found += [f"`thermal.{key}` is missing: [rows, columns]" for key in ("shape", "stored") if key not in thermal]
    if thermal.get("reduce", "mean_max") not in ("mean_max", "stride"):
        found.append(f"`thermal.reduce` is mean_max or stride, not {thermal['reduce']!r}")
    if not found and any(small > large for small, large in zip(thermal["stored"], thermal["shape"], strict=True)):
        found.append(f"`thermal.stored` {thermal['stored']} is larger than `thermal.shape` {thermal['shape']}")
    return found


class Dropped(NamedTuple):
    """A second that was left out: why (a short category), where, and what was found."""

    reason: str
    where: str
    message: str


@dataclass
class Session:
    """One recording, as a reader yields it.

    Attributes:
        name: unique in the data set.
        time: (n,) whole seconds since the recording began, increasing; a missing second is a gap.
        sensors: (n, C) in the units of `schema.channels`; NaN or Inf is repaired by the store.
        environment: (n, E), likewise.
        thermal: (n, rows, columns) in degC, an array or anything that gives one when sliced; None without a camera.
        state: (n,) 0..K-1, or None for an unlabelled recording.
        dropped: seconds the reader had to leave out.
    """

    name: str
    device: str
    kind: str
    time: np.ndarray
    sensors: np.ndarray
    environment: np.ndarray
    thermal: Any = None
    state: np.ndarray | None = None
    dropped: list[Dropped] = field(default_factory=list)


@dataclass(frozen=True)
class Recording:
    """A session that has not been read yet, so that the store can read several at once.

    `files` are what it is made of: they enter the key of the store. `read` must pickle.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Session]


@dataclass(frozen=True)
class Unreadable:
    """A session of which nothing can be had: yielded by a reader so that it is counted and named."""

    name: str
    reason: str
    message: str
