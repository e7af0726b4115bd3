"""Corruptions: what fails at a plant, simulated on recordings (missing values, a dead sensor, a failing camera, noise).

A corruption is a view of a store, so that the batches of a network and the features of a tree are corrupted alike,
before any scaling. Values that are known to be missing hold the last value and are flagged, as in a store; silent
failures are not flagged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd

from conveyorguard.data.ranges import filled, training_medians
from conveyorguard.data.schema import Schema
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.views import IndexedFrames, view_of

MISSING = 0.10  # share of the sensor values that is missing
NOISE = (1, 2, 4)  # added noise, in units of the channel's normal noise on devices of the kind
TYPICAL_FRAMES = 500  # sample of which the median frame is computed
AMPERE = ("A", "mA")


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt a store.

    Attributes:
        name: as tables show it.
        group: missing, dead, camera or noise.
        apply: maps (store, train, rng) to a view; train (N,) is True at the rows of the train sessions.
        level: of noise, in units of the normal noise.
    """

    name: str
    group: str
    apply: Callable[[Store, np.ndarray, np.random.Generator], Store]
    level: float = 0.0

    def view(self, store: Store, train: np.ndarray, seed: int) -> Store:
        """Return the corrupted store; with the same seed every model gets the same view."""
        return self.apply(store, train, np.random.default_rng([seed, *self.name.encode()]))


def corruptions(schema: Schema) -> list[Corruption]:
    """Return all corruptions of data with this schema.

    Sensors that die are the currents: channels in ampere, and those with `scaling: log`.
    """
    possible = [Corruption(f"{MISSING:.0%} of sensor values missing", "missing", missing)]
    for i, (name, channel) in enumerate(schema.channels.items()):
        if channel.scaling == "log" or channel.unit in AMPERE:
            possible.append(Corruption(f"{name} dead", "dead", partial(dead, channel=i)))
    if schema.thermal:
        possible += [
            Corruption(f"camera {name}", "camera", make)
            for name, make in (("frozen", frozen_camera), ("black", black_camera), ("absent", absent_camera))
        ]
    possible += [Corruption(f"sensor noise x{times}", "noise", partial(_noisy, times=times), times) for times in NOISE]
    return possible


def hold(values: np.ndarray, missing: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return series (N, C) in which missing values hold the last value of the recording; NaN before its first value.

    So does a store hold what is missing in a file (`repair_series`): nothing later is used.

    Args:
        values: (N, C), recordings one after another.
        missing: (N, C).
        starts: (N,) row at which each row's recording begins.
    """
    last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(values))[:, None]), axis=0)
    held = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last >= starts[:, None], held, np.float32(np.nan))


def missing(store: Store, train: np.ndarray, rng: np.random.Generator) -> Store:
    """Take out a tenth of the sensor values; what is missing holds the last value and is flagged.

    Before the first value of a recording it has the median of training, as in a prediction.
    """
    absent = rng.random(store.sensors.shape) < MISSING
    flags = np.where(absent.any(axis=1), SENSORS_REPAIRED, 0)
    view = view_of(store, flags, sensors=hold(np.asarray(store.sensors), absent, store.session_start))
    return filled(view, training_medians(store, train))


def dead(store: Store, train: np.ndarray, rng: np.random.Generator, channel: int) -> Store:
    """Set a sensor to zero, without a flag."""
    sensors = np.array(store.sensors)
    sensors[:, channel] = 0
    return view_of(store, sensors=sensors)


def stuck(store: Store, train: np.ndarray, rng: np.random.Generator, channel: int) -> Store:
    """Repeat the first value of a sensor throughout each recording, without a flag."""
    sensors = np.array(store.sensors)
    sensors[:, channel] = sensors[store.session_start, channel]
    return view_of(store, sensors=sensors)


def _noisy(store: Store, train: np.ndarray, rng: np.random.Generator, times: float) -> Store:
    noise = rng.standard_normal(store.sensors.shape) * normal_noise(store, train) * times
    return view_of(store, sensors=(np.asarray(store.sensors) + noise).astype(np.float32))


def normal_noise(store: Store, train: np.ndarray) -> np.ndarray:
    """Return the normal noise of each channel at each row, (N, C): its sd in the first state, by kind of device.

    It is the sd of differences from row to row over sqrt(2), which excludes slow changes and differences between
    devices. Kinds are separate because one may be many times as noisy as another; a kind without train rows takes the
    noise of all.
    """
    state = np.asarray(store.state)
    next_to = (np.diff(store.session_index) == 0) & (np.diff(np.asarray(store.tick)) == 1)
    usable = next_to & train[1:] & (state[1:] == 0) & (state[:-1] == 0)
    differences = np.diff(np.asarray(store.sensors), axis=0)
    kind, kinds = pd.factorize(store.sessions["kind"])
    kind = kind[store.session_index]
    noise = np.zeros(store.sensors.shape, np.float32)
    for i in range(len(kinds)) if usable.any() else ():
        of_kind = usable & (kind[1:] == i)
        spread = np.nanstd(differences[of_kind if of_kind.any() else usable], axis=0) / np.sqrt(2)
        noise[kind == i] = np.nan_to_num(spread)
    return noise


def frozen_camera(store: Store, train: np.ndarray, rng: np.random.Generator) -> Store:
    """Repeat the first frame of each recording, without a flag."""
    assert store.thermal is not None
    first = store.session_start
    frames = cast(Any, IndexedFrames(store.thermal, first))
    return view_of(store, thermal=frames, thermal_statistics=store.thermal_statistics[first])


def black_camera(store: Store, train: np.ndarray, rng: np.random.Generator) -> Store:
    """Set every pixel to 0 degC, or to the nearest temperature that the camera can deliver."""
    assert store.schema.thermal is not None
    value = float(np.clip(0.0, *store.schema.thermal.valid))
    statistics = np.array([value, value, value, 0.0, 0.0, 0.0], np.float32)
    return _one_frame(store, np.full(store.schema.thermal.stored_shape, value, np.float16), statistics, 0)


def absent_camera(store: Store, train: np.ndarray, rng: np.random.Generator) -> Store:
    """Replace all frames with the median of the train frames, and flag them."""
    assert store.thermal is not None
    rows = np.flatnonzero(train)
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), TYPICAL_FRAMES)).astype(int)]
    frame = np.nanmedian(np.asarray(store.thermal[some], np.float32), axis=0).astype(np.float16)
    statistics = np.nanmedian(store.thermal_statistics[rows], axis=0).astype(np.float32)
    return _one_frame(store, frame, statistics, THERMAL_REPAIRED)


def _one_frame(store: Store, frame: np.ndarray, statistics: np.ndarray, flag: int) -> Store:
    count = len(store)
    frames = cast(Any, IndexedFrames(frame[None], np.zeros(count, np.int64)))
    flags = np.full(count, flag)
    return view_of(store, flags, thermal=frames, thermal_statistics=np.tile(statistics, (count, 1)))
