"""What goes wrong in a plant, done to recordings on purpose: missing values, a dead sensor, a camera that fails, noise.

A corruption is a view of a store. Everything downstream reads views as it reads stores, so a network's batches and a
tree's features are corrupted alike, before any scaling: channels, frames, the frames' own statistics, and the flags of
what was not measured. What is known to be missing takes the last value held and is flagged; what fails silently is not
flagged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.views import IndexedFrames, view_of

MISSING = 0.10  # share of the sensor values
NOISE = (1, 2, 4)  # times a channel's own on devices of the kind, added to it
TYPICAL_FRAMES = 500  # that stand for all in the median frame
AMPERE = ("A", "mA")


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt a store.

    name: as tables show it. group: missing, dead, camera or noise. level: of noise, how many times the normal.
    apply: (store, train, rng) to a view, with train (N,) True at the seconds of the training.
    """

    name: str
    group: str
    apply: Callable[[Store, np.ndarray, np.random.Generator], Store]
    level: float = 0.0

    def view(self, store: Store, train: np.ndarray, seed: int) -> Store:
        """The corrupted store; the same seed gives the same view to every model."""
        return self.apply(store, train, np.random.default_rng([seed, *self.name.encode()]))


def corruptions(schema: Schema) -> list[Corruption]:
    """All that can happen to data of this schema. Currents are the channels in ampere, and those that it scales
    logarithmically."""
    found = [Corruption(f"{MISSING:.0%} of sensor values missing", "missing", missing)]
    for i, (name, channel) in enumerate(schema.channels.items()):
        if channel.scaling == "log" or channel.unit in AMPERE:
            found.append(Corruption(f"{name} dead", "dead", partial(dead, channel=i)))
    if schema.thermal:
        found += [
            Corruption(f"camera {name}", "camera", make)
            for name, make in (("frozen", frozen_camera), ("black", black_camera), ("absent", absent_camera))
        ]
    found += [Corruption(f"sensor noise x{times}", "noise", partial(_noisy, times=times), times) for times in NOISE]
    return found


def hold(values: np.ndarray, missing: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Series (N, C) in which what is missing takes the last value held in the recording, at its beginning the next one.

    A channel that is missing throughout a recording stays as it is.
    """
    place = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(missing, -1, place), axis=0)
    following = np.minimum.accumulate(np.where(missing, len(values), place)[::-1], axis=0)[::-1]
    there = np.minimum(following, len(values) - 1)
    same = (following < len(values)) & (starts[there] == starts[:, None])
    rows = np.where(last >= starts[:, None], last, np.where(same, there, place))
    return np.take_along_axis(values, rows, axis=0)


def missing(store: Store, train: np.ndarray, rng: np.random.Generator) -> Store:
    """Take out a tenth of the sensor values; what is missing holds the last value and is flagged."""
    absent = rng.random(store.sensors.shape) < MISSING
    flags = np.where(absent.any(axis=1), SENSORS_REPAIRED, 0)
    return view_of(store, flags, sensors=hold(np.asarray(store.sensors), absent, store.session_start))


def dead(store: Store, train: np.ndarray, rng: np.random.Generator, channel: int) -> Store:
    """It reads zero, and nothing says that it is dead."""
    sensors = np.array(store.sensors)
    sensors[:, channel] = 0
    return view_of(store, sensors=sensors)


def stuck(store: Store, train: np.ndarray, rng: np.random.Generator, channel: int) -> Store:
    """Repeat a sensor's first value throughout each recording, and say nothing of it."""
    sensors = np.array(store.sensors)
    sensors[:, channel] = sensors[store.session_start, channel]
    return view_of(store, sensors=sensors)


def _noisy(store: Store, train: np.ndarray, rng: np.random.Generator, times: float) -> Store:
    noise = rng.standard_normal(store.sensors.shape) * normal_noise(store, train) * times
    return view_of(store, sensors=(np.asarray(store.sensors) + noise).astype(np.float32))


def normal_noise(store: Store, train: np.ndarray) -> np.ndarray:
    """(N, C) sd of a channel from second to second in the first state, on devices of the kind of each second: of
    differences, over the root of two, so that what is slow, and what differs between devices, is no noise. Kinds are
    apart because one may be many times as noisy as another; one that the training lacks has the noise of all."""
    state = np.asarray(store.state)
    next_to = (np.diff(store.session_index) == 0) & (np.diff(np.asarray(store.tick)) == 1)
    usable = next_to & train[1:] & (state[1:] == 0) & (state[:-1] == 0)
    differences = np.diff(np.asarray(store.sensors), axis=0)
    kind, kinds = pd.factorize(store.sessions["kind"])
    kind = kind[store.session_index]
    noise = np.zeros(store.sensors.shape, np.float32)
    for i in range(len(kinds)) if usable.any() else ():
        own = usable & (kind[1:] == i)
        spread = np.nanstd(differences[own if own.any() else usable], axis=0) / np.sqrt(2)
        noise[kind == i] = np.nan_to_num(spread)
    return noise


def frozen_camera(store: Store, train: np.ndarray, rng: np.random.Generator) -> Store:
    """It goes on delivering the recording's first frame."""
    assert store.thermal is not None
    first = store.session_start
    frames = cast(Any, IndexedFrames(store.thermal, first))
    return view_of(store, thermal=frames, thermal_statistics=store.thermal_statistics[first])


def black_camera(store: Store, train: np.ndarray, rng: np.random.Generator) -> Store:
    """Every pixel at 0 degC or, of a camera that cannot say so, the nearest value it can say."""
    assert store.schema.thermal is not None
    value = float(np.clip(0.0, *store.schema.thermal.valid))
    statistics = np.array([value, value, value, 0.0, 0.0, 0.0], np.float32)
    return _one_frame(store, np.full(store.schema.thermal.stored_shape, value, np.float16), statistics, 0)


def absent_camera(store: Store, train: np.ndarray, rng: np.random.Generator) -> Store:
    """There is no frame to hold: the median of the training stands for all of them, and all are flagged."""
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
