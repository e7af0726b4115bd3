"""The frame store: a data set as arrays with a row per period, sessions one after another.

On disk it is a folder with `manifest.json`, `sessions.parquet` (a row per session) and `shards/NNNN/` with one
memory-mapped `.npy` file per column. `store_build` writes it. Views, live recordings and tables given from Python are
stores in memory.
"""

from __future__ import annotations

import json
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from conveyorguard.data.durations import text_of
from conveyorguard.data.schema import THERMAL_STATISTICS, Schema
from conveyorguard.errors import ConfigError, DataError

FORMAT = 2  # of the layout on disk
EXAMPLES = 20  # defects per reason that are listed in full; all are counted
MANIFEST = ("period", "counts", "skipped_sessions", "unlabelled_sessions", "dropped_examples", "first_problem")
SENSORS_REPAIRED, ENVIRONMENT_REPAIRED, THERMAL_REPAIRED = 1, 2, 4
NO_ONSET = np.iinfo(np.int64).min  # ticks since the onset, in a session that has none
SESSION_COLUMNS = {
    "name": pa.string(),
    "device": pa.string(),
    "kind": pa.string(),
    "shard": pa.int32(),
    "first": pa.int64(),
    "rows": pa.int64(),
    "start": pa.timestamp("us", "UTC"),
    "zone": pa.string(),
    "content": pa.string(),
    "labelled": pa.bool_(),
    "dropped": pa.int64(),
    "repaired": pa.int64(),
}


def column_types(schema: Schema) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Return the columns of a store by name: type, and shape of one row."""
    columns: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "tick": (np.int64, ()),
        "state": (np.int8, ()),
        "ticks_to_end": (np.int64, ()),
        "ticks_since_onset": (np.int64, ()),
        "quality": (np.uint8, ()),
        "sensors": (np.float32, (len(schema.channels),)),
        "environment": (np.float32, (len(schema.environment),)),
    }
    if schema.thermal:
        columns["thermal_statistics"] = (np.float32, (len(THERMAL_STATISTICS),))
        columns["thermal"] = (np.float16, schema.thermal.stored_shape)
    return columns


class ShardedArray:
    """A read-only array whose rows lie in several `.npy` files, indexed by rows as an array is.

    A file is memory-mapped when one of its rows is first read. Only the paths are pickled.

    Args:
        paths: of the files, in the order of their rows.
        rows: number of rows of each file.
        dtype, shape: of one row.
    """

    def __init__(self, paths: list[Path], rows: list[int], dtype: type[np.generic], shape: tuple[int, ...]):
        self.paths, self.dtype = paths, np.dtype(dtype)
        self.edges = np.cumsum([0, *rows])
        self.shape = (int(self.edges[-1]), *shape)
        self._opened: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Return the size of all rows [bytes]."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def refuse_short_files(self) -> None:
        """Check that every file is there and long enough for its rows, without reading it.

        Raises:
            DataError: naming the first file that is not.
        """
        row = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        for path, rows in zip(self.paths, np.diff(self.edges).tolist(), strict=True):
            if not path.is_file() or path.stat().st_size < rows * row:
                raise _damaged(path, "it is missing" if not path.is_file() else "it is cut short")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows, *rest = index if isinstance(index, tuple) else (index,)
        if rows is None or rows is Ellipsis:
            return np.asarray(self)[index]
        values = self._slice(rows) if isinstance(rows, slice) else self._gather(np.asarray(rows))
        return values[(*[slice(None)] * max(np.ndim(rows), isinstance(rows, slice)), *rest)] if rest else values

    def _slice(self, rows: slice) -> np.ndarray:
        begin, end, step = rows.indices(len(self))
        shard = int(np.searchsorted(self.edges, begin, side="right")) - 1
        if step == 1 and begin < end <= self.edges[min(shard + 1, len(self.edges) - 1)]:
            return self._shard(shard)[begin - self.edges[shard] : end - self.edges[shard]]  # a view
        return self._gather(np.arange(begin, end, step))

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of {len(self)} rows was expected, not of {rows.shape}")
            rows = np.flatnonzero(rows)
        flat = np.where(rows < 0, rows + len(self), rows).ravel()
        shards = np.searchsorted(self.edges, flat, side="right") - 1
        values = np.empty((len(flat), *self.shape[1:]), self.dtype)
        for shard in np.unique(shards):
            here = shards == shard
            values[here] = self._shard(shard)[flat[here] - self.edges[shard]]
        return values.reshape(rows.shape + self.shape[1:])

    def _shard(self, number: int) -> np.ndarray:
        if number not in self._opened:
            path = self.paths[number]
            try:
                values = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
                raise _damaged(path, "it is no array of numbers") from error
            expected = (int(self.edges[number + 1] - self.edges[number]), *self.shape[1:])
            if values.shape != expected or values.dtype != self.dtype:
                raise _damaged(path, f"expected {self.dtype} {expected}, found {values.dtype} {values.shape}")
            self._opened[number] = values
        return self._opened[number]


Array = np.ndarray | ShardedArray


@dataclass(frozen=True, eq=False)
class Store:
    """A data set, opened. Sessions follow one another, so that a session is a range of rows.

    Attributes:
        schema: of the data.
        sessions: a row per session: name, device, kind, first (its first row), rows (number of rows), start (clock
            time in UTC, or NaT), zone (of the files' clock), content (digest), labelled, dropped, repaired (counts).
        tick: (N,) int64, periods since the session began.
        state: (N,) int8, -1 where it is unknown.
        ticks_to_end, ticks_since_onset: (N,) int64, for reporting, never an input; `NO_ONSET` without an onset.
        quality: (N,) uint8, bits that tell which of sensors, environment and thermal frame were repaired.
        sensors: (N, C) float32, in the units of the schema.
        environment: (N, E) float32.
        thermal_statistics: (N, 6) float32 of the full-resolution frames, NaN without a camera.
        thermal: (N, channels, rows, columns) float16; None without a camera.
        period: duration of a tick [s].
        path, fingerprint, manifest: of the folder; empty for a store in memory.
    """

    schema: Schema
    sessions: pd.DataFrame
    tick: Array
    state: Array
    ticks_to_end: Array
    ticks_since_onset: Array
    quality: Array
    sensors: Array
    environment: Array
    thermal_statistics: Array
    thermal: Array | None = None
    period: float = 1.0
    path: Path | None = None
    fingerprint: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tick)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: self.__dict__[f.name] for f in fields(self)}  # cached properties are computed again

    @cached_property
    def session_index(self) -> np.ndarray:
        """Return the index in `sessions` of each row's session, (N,)."""
        return np.repeat(np.arange(len(self.sessions)), self.sessions["rows"])

    @cached_property
    def session_start(self) -> np.ndarray:
        """Return the first row of each row's session, (N,)."""
        return np.repeat(self.sessions["first"].to_numpy(), self.sessions["rows"])

    def rows_of(self, names: Iterable[str]) -> np.ndarray:
        """Return True at the rows of the sessions with these names, (N,)."""
        return np.repeat(self.sessions["name"].isin(list(names)).to_numpy(), self.sessions["rows"])

    def since_onset(self, rows: np.ndarray) -> np.ndarray:
        """Return ticks since the onset at the given rows (n,) as float64: negative before it, NaN without an onset."""
        ticks = self.ticks_since_onset[rows]
        return np.where(ticks == NO_ONSET, np.nan, ticks.astype(np.float64))

    def to_frame(self, rows: slice = slice(None)) -> pd.DataFrame:
        """Return rows as a table, for what fits into memory.

        Columns: session, device and kind (categories), time, seconds_to_end and seconds_since_onset [s], state,
        quality, every channel and frame statistic.
        """
        place = self.session_index[rows]
        columns: dict[str, Any] = {"session": pd.Categorical.from_codes(place, pd.Index(self.sessions["name"]))}
        for name in ("device", "kind"):
            codes, labels = pd.factorize(self.sessions[name])
            columns[name] = pd.Categorical.from_codes(codes[place], labels)
        columns |= {
            "time": self.tick[rows] * self.period,
            "state": self.state[rows],
            "seconds_to_end": self.ticks_to_end[rows] * self.period,
            "seconds_since_onset": self.since_onset(np.arange(len(self))[rows]) * self.period,
            "quality": self.quality[rows],
        }
        for group, names in (("sensors", self.schema.channels), ("environment", self.schema.environment)):
            values = getattr(self, group)[rows]
            columns |= {name: values[:, i] for i, name in enumerate(names)}
        statistics = self.thermal_statistics[rows]
        columns |= {f"thermal_{name}": statistics[:, i] for i, name in enumerate(THERMAL_STATISTICS)}
        return pd.DataFrame(columns)

    def summary(self) -> str:
        """Return lines that say what the store holds, what was left out and why, and why it was built again."""
        counts = self.manifest["counts"]
        hours = counts["frames"] * self.period / 3600
        rows = f"{counts['frames']:,} rows of {text_of(self.period)} ({hours:.3g} h)"
        lines = [f"{counts['sessions']} sessions, {rows}, fingerprint {self.fingerprint[:12]}"]
        if reason := self.manifest.get("rebuilt"):
            lines.append(f"built again: {reason}")
        for title, key in (("dropped rows", "dropped_frames"), ("repaired", "repaired")):
            if counts[key]:
                lines.append(f"{title}: " + ", ".join(f"{n} {reason}" for reason, n in counts[key].items()))
        lines += [f"{note}: {count} sessions" for note, count in self.manifest.get("notes", {}).items()]
        if names := self.manifest["unlabelled_sessions"]:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            lines.append(f"unlabelled, not trained on: {', '.join(names[:5])}{more}")
        for skip in self.manifest["skipped_sessions"][:EXAMPLES]:
            lines.append(f"skipped session {skip['session']}: {skip['reason']}: {skip['message']}")
        return "\n".join(lines)


def assemble(schema: Schema, sessions: pd.DataFrame, columns: Mapping[str, Array], **facts: Any) -> Store:
    """Return a store of columns, by the names of `column_types`; `facts` are further fields of `Store`."""
    first = np.cumsum([0, *sessions["rows"]])[:-1]
    without_camera = np.broadcast_to(np.float32(np.nan), (len(columns["tick"]), len(THERMAL_STATISTICS)))
    arrays: dict[str, Any] = {"thermal_statistics": without_camera, **columns}
    return Store(schema, sessions.assign(first=first), **arrays, **facts)


def open_store(path: str | Path) -> Store:
    """Open the store of a folder; columns are read when their rows are used.

    Raises:
        DataError: the folder holds no store, or a damaged one.
    """
    path = Path(path)
    manifest, schema = _read_manifest(path)
    sessions = _read_sessions(path, manifest["counts"]["frames"])
    shards = sessions.groupby("shard", sort=False)["rows"].sum()
    places = [path / "shards" / f"{number:04d}" for number in shards.index]
    columns = {
        name: ShardedArray([place / f"{name}.npy" for place in places], shards.tolist(), dtype, shape)
        for name, (dtype, shape) in column_types(schema).items()
    }
    for column in columns.values():
        column.refuse_short_files()
    return assemble(
        schema,
        sessions,
        columns,
        period=float(manifest["period"]),
        path=path,
        fingerprint=manifest["fingerprint"],
        manifest=manifest,
    )


def _read_manifest(path: Path) -> tuple[dict[str, Any], Schema]:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        schema = Schema.from_config(manifest["schema"])
        missing = [key for key in ("fingerprint", *MANIFEST) if key not in manifest]
        float(manifest["period"]), int(manifest["counts"]["frames"])
    except (OSError, ValueError, ConfigError) as error:
        raise _no_store(path, str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_store(path, f"manifest.json lacks {error}") from error
    if missing:
        raise _no_store(path, f"manifest.json lacks {', '.join(missing)}")
    return manifest, schema


def _read_sessions(path: Path, frames: int) -> pd.DataFrame:
    place = path / "sessions.parquet"
    try:
        table = pq.read_table(place)
        missing = [name for name in SESSION_COLUMNS if name not in table.column_names]
        sessions = table.to_pandas(ignore_metadata=True)
    except (OSError, ValueError, KeyError, MemoryError, pa.ArrowException) as error:
        raise _damaged(place, str(error)) from error
    if missing:
        raise _damaged(place, f"it lacks the columns {', '.join(missing)}")
    if (sessions["rows"] < 1).any() or sessions["rows"].sum() != frames:
        raise _damaged(place, f"its sessions do not have the {frames} rows of manifest.json")
    return sessions


def _no_store(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: not a frame store ({reason}); delete the folder and run prepare again")


def _damaged(path: Path, reason: str) -> DataError:
    store = path.parent if path.parent.parent.name != "shards" else path.parents[2]
    return DataError(f"{path}: cannot be read ({reason}); delete the folder {store.name} and run prepare again")
