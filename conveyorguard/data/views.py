"""Views of a store: the same recordings with something about them changed, for controls and tests of a model.

Everything downstream reads a view as it reads a store, so windows, batches and features change together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.errors import ConfigError

LONGEST_CUT = 100  # s, of what may be cut off a recording's start
FILM_INPUTS = ("environment", "kind", "shuffled")


def view_of(store: Store, quality: np.ndarray | None = None, **arrays: Any) -> Store:
    """A store with some of its arrays (sensors, environment, thermal, thermal_statistics) exchanged; nothing is copied.

    Args:
        quality: (N,) flags to be set beside those that are set.
    """
    view = Store.__new__(type(store))  # a store that is pickled or copied opens its files anew
    view.__dict__ |= store.__dict__
    frames = store.frames if quality is None else store.frames.assign(quality=store.frames["quality"] | quality)
    view.__dict__ |= {"frames": frames, **arrays}
    for name in ("sensors", "environment", "thermal", "thermal_statistics"):
        view.__dict__.setdefault(name, getattr(store, name))
    return view


def session_starts(store: Store) -> np.ndarray:
    """(N,) the row at which each row's recording begins."""
    codes = store.frames["session"].cat.codes.to_numpy()
    first = np.diff(codes, prepend=codes[:1] - 1) != 0
    return np.maximum.accumulate(np.where(first, np.arange(len(codes)), 0))


def cut_starts(store: Store, seed: int, longest: int = LONGEST_CUT) -> tuple[Store, np.ndarray]:
    """A view in which a part of each recording's start, drawn from 0 to `longest` s, counts as not measured.

    Features relative to the start are then relative to the first seconds after it.

    Returns:
        The view, and (N,) the second of its recording at which each row's recording now begins; windows that start
        before it are to be left out.
    """
    starts = session_starts(store)
    places, own = np.unique(starts, return_inverse=True)
    time = store.frames["time"].to_numpy()
    begin = time[places] + np.random.default_rng(seed).integers(0, longest + 1, len(places))
    flags = np.where(time < begin[own], SENSORS_REPAIRED | THERMAL_REPAIRED, 0).astype(np.int8)
    return view_of(store, flags), begin[own]


def film_view(store: Store, film_input: str, seed: int) -> Store:
    """The store with what `film=true` conditions on: the environment, or one of the controls for it.

    kind: every environment channel is the number of the device's kind among `schema.kinds`, nothing else. shuffled: a
    recording has the environment of another recording of its kind, drawn by `seed` so that none keeps its own where
    there are two or more; of a shorter one it is repeated.

    Raises:
        ConfigError: film_input=kind, and the schema names no kinds.
    """
    if film_input == "environment" or not store.schema.environment:
        return store
    kind = store.frames["kind"].astype(str).to_numpy()
    if film_input == "kind":
        if not store.schema.kinds:
            raise ConfigError("film_input=kind: data.schema.kinds is empty; list the kinds of your devices there")
        number = np.full(len(kind), np.nan, np.float32)  # an unknown kind: scaled to the middle
        for i, name in enumerate(store.schema.kinds):
            number[kind == name] = i
        return view_of(store, environment=np.repeat(number[:, None], len(store.schema.environment), axis=1))
    starts = session_starts(store)
    places, own = np.unique(starts, return_inverse=True)
    lengths, rng = np.bincount(own), np.random.default_rng(seed)
    other = np.arange(len(places))
    for name in np.unique(kind[places]):
        members = rng.permutation(np.flatnonzero(kind[places] == name))
        other[members] = np.roll(members, 1)
    rows = places[other[own]] + (np.arange(len(own)) - starts) % lengths[other[own]]
    return view_of(store, environment=store.environment[rows])
