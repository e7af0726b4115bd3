"""Views of a store: the same recordings with some arrays replaced.

Everything downstream reads a view as it reads a store, so that windows, batches and features change together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from conveyorguard.data.store import ENVIRONMENT_REPAIRED, NO_ONSET, SENSORS_REPAIRED, THERMAL_REPAIRED, Array, Store
from conveyorguard.errors import ConfigError

REPAIRED = SENSORS_REPAIRED | ENVIRONMENT_REPAIRED | THERMAL_REPAIRED
LONGEST_CUT = 100  # rows; the longest part that `cut_starts` removes from the start of a recording
FILM_INPUTS = ("environment", "kind", "shuffled")


def view_of(store: Store, flags: np.ndarray | None = None, **arrays: Any) -> Store:
    """Return the store with other arrays; nothing is copied.

    Args:
        flags: (N,) bits of `quality` that are set in addition.
        arrays: any of sensors, environment, thermal, thermal_statistics.
    """
    if flags is not None:
        arrays["quality"] = np.asarray(store.quality) | flags.astype(np.uint8)
    return replace(store, **arrays)


class IndexedFrames:
    """Thermal frames read through an index, with as much of an array's behaviour as batches and features need.

    Args:
        frames: (n, ...), memory-mapped or in memory.
        rows: (N,) which frame stands in each row.
    """

    def __init__(self, frames: Array, rows: np.ndarray):
        self.frames, self.rows = frames, rows
        self.shape = (len(rows), *frames.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        values = np.asarray(self.frames[self.rows[first]])
        return values[(*[slice(None)] * np.ndim(self.rows[first]), *rest)] if rest else values


def bridge_gaps(store: Store, longest: int) -> Store:
    """Return a view in which short gaps are filled with the row before them, flagged as repaired.

    A held row is what a display at the plant shows until the next value comes; nothing later is used. States are held
    too. The frames are read through an index, so that none is copied.

    Args:
        longest: missing rows of a gap that is bridged; longer gaps stay.
    """
    tick = np.asarray(store.tick)
    missing = np.diff(tick, append=tick[-1] + 1) - 1  # rows that lack after each row
    last = store.sessions["first"].to_numpy() + store.sessions["rows"].to_numpy() - 1
    missing[last] = 0
    missing[(missing < 0) | (missing > longest)] = 0
    if not missing.any():
        return store
    source = np.repeat(np.arange(len(store)), missing + 1)
    offset = np.arange(len(source)) - np.repeat(np.cumsum(missing + 1) - missing - 1, missing + 1)
    onset = np.asarray(store.ticks_since_onset)[source]
    rows = np.add.reduceat(missing + 1, store.sessions["first"].to_numpy())
    arrays: dict[str, Any] = {
        name: np.asarray(getattr(store, name))[source]
        for name in ("state", "sensors", "environment", "thermal_statistics")
    }
    return replace(
        store,
        sessions=store.sessions.assign(rows=rows, first=np.cumsum([0, *rows])[:-1]),
        tick=tick[source] + offset,
        ticks_to_end=np.asarray(store.ticks_to_end)[source] - offset,
        ticks_since_onset=np.where(onset == NO_ONSET, NO_ONSET, onset + offset),
        quality=(np.asarray(store.quality)[source] | np.where(offset > 0, REPAIRED, 0)).astype(np.uint8),
        thermal=None if store.thermal is None else cast(Any, IndexedFrames(store.thermal, source)),
        **arrays,
    )


def cut_starts(store: Store, seed: int, longest: int = LONGEST_CUT) -> tuple[Store, np.ndarray]:
    """Return a view in which the first 0 to `longest` rows of each recording count as not measured.

    Features relative to the start are then relative to the first rows after the cut.

    Args:
        seed: of the lengths that are drawn.

    Returns:
        The view, and for each row (N,) the tick at which its recording now begins; leave out windows that start before.
    """
    tick, first = np.asarray(store.tick), store.sessions["first"].to_numpy()
    begin = tick[first] + np.random.default_rng(seed).integers(0, longest + 1, len(first))
    begin = begin[store.session_index]
    return view_of(store, np.where(tick < begin, SENSORS_REPAIRED | THERMAL_REPAIRED, 0)), begin


def film_view(store: Store, film_input: str, seed: int) -> Store:
    """Return the store with the environment that `film=true` conditions on.

    Args:
        film_input: "environment", or a control: "kind" sets every environment channel to the number of the device's
            kind in `schema.kinds`; "shuffled" permutes environments between sessions of a kind without fixed points
            (a shorter environment is repeated).
        seed: of the permutation.

    Raises:
        ConfigError: `film_input="kind"` and the schema names no kinds.
    """
    if film_input == "environment" or not store.schema.environment:
        return store
    kind = store.sessions["kind"].to_numpy().astype(str)
    if film_input == "kind":
        if not store.schema.kinds:
            raise ConfigError("film_input=kind: data.schema.kinds is empty; list the kinds of your devices there")
        number = np.full(len(kind), np.nan, np.float32)  # an unknown kind: scaled to the middle
        for i, name in enumerate(store.schema.kinds):
            number[kind == name] = i
        environment = np.repeat(number[store.session_index, None], len(store.schema.environment), axis=1)
        return view_of(store, environment=environment)
    first, count = store.sessions["first"].to_numpy(), store.sessions["rows"].to_numpy()
    other, rng = np.arange(len(first)), np.random.default_rng(seed)
    for name in np.unique(kind):
        members = rng.permutation(np.flatnonzero(kind == name))
        other[members] = np.roll(members, 1)
    source = other[store.session_index]
    rows = first[source] + (np.arange(len(store)) - store.session_start) % count[source]
    return view_of(store, environment=store.environment[rows])
