"""Building a frame store: each worker reads, repairs and reduces the sessions of a shard.

The store is written under a temporary name and renamed at the end, so that a killed build leaves no store.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from conveyorguard.data.reduce import ReducedSession, reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session, Unreadable
from conveyorguard.data.store import (
    EXAMPLES,
    FORMAT,
    SESSION_COLUMNS,
    Store,
    assemble,
    column_types,
    open_store,
)
from conveyorguard.data.store_key import digest_of, ingredients_of, reason_to_build_again
from conveyorguard.errors import DataError
from conveyorguard.system.progress import track
from conveyorguard.system.text import without_path

SHARDS = 32  # at most; each keeps one open file per column
LARGE_TABLE = 1 << 23  # bytes; two processes that read larger ones take more than 500 MB with the one that waits
TABLES = (".csv", ".tsv", ".txt", ".gz", ".xlsx", ".parquet")


def prepare(
    reader: Any,
    schema: Schema,
    root: str | Path | None,
    cache: str | Path,
    name: str,
    strict: bool = False,
    jobs: int = -1,
) -> Store:
    """Open the frame store of a data set; build it if there is none for these files, settings and code.

    Args:
        reader: `sessions(root, schema)`, yielding `Recording`, `Session` or `Unreadable`.
        root: folder of the recordings; it is only read.
        cache: folder that holds all stores.
        name: of the data set; the name of the store begins with it.
        strict: raise at the first defect instead of counting it.
        jobs: processes, as in joblib.

    Raises:
        DataError: there is nothing usable; with `strict`, the first defect; the store cannot be written.
    """
    # workers that are used again may have another working directory
    root, cache = None if root is None else Path(root).absolute(), Path(cache).absolute()
    recordings = list(reader(root, schema))
    ingredients = ingredients_of(reader, recordings, root, schema)
    key = digest_of(ingredients)
    target = cache / f"{name}-{key[:12]}"
    if not (target / "manifest.json").exists():
        try:
            _build(target, name, recordings, schema, ingredients, strict, jobs)
        except OSError as error:
            raise DataError(
                f"paths.cache={target.parent}: the frame store cannot be written ({without_path(error)}); earlier "
                "stores are unchanged. Free some space, or set paths.cache (or CONVEYORGUARD_CACHE) to a folder that "
                "can be written to"
            ) from error
    store = open_store(target)
    if strict and (problem := store.manifest["first_problem"]):
        raise DataError(f"data.strict=true: {problem}")
    return store


def store_in_memory(sessions: Iterable[ReducedSession], schema: Schema) -> Store:
    """Return a store of reduced sessions in memory.

    Raises:
        DataError: no session could be reduced.
    """
    sessions = list(sessions)
    usable = [session for session in sessions if session.columns is not None]
    if not usable:
        problems = [f"  {s.name}: {s.failure.message}" for s in sessions[:EXAMPLES] if s.failure]
        raise DataError("\n".join(["no session could be read:", *problems]))
    columns = {
        name: np.concatenate([session.columns[name] for session in usable if session.columns])
        for name in column_types(schema)
    }
    return assemble(schema, _session_table([(s, 0, 0) for s in usable]), columns, period=usable[0].period)


def _build(
    target: Path, name: str, recordings: list, schema: Schema, ingredients: dict[str, str], strict: bool, jobs: int
) -> None:
    """Write the store under a temporary name and rename it, so that a folder with the name of a store is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep_leftovers(target.parent)
    reason = reason_to_build_again(target.parent, name, ingredients)
    aside = target.parent / f".{target.name}.{socket.gethostname()}.{os.getpid()}-{_started(os.getpid())}"
    (aside / "shards").mkdir(parents=True)
    try:
        readable, unreadable = _without_repetitions(recordings)
        if strict and unreadable:
            raise DataError(f"data.strict=true: {unreadable[0].message}")
        shards = _write_shards(aside, readable, schema, strict, jobs)
        _write_tables(aside, unreadable, shards, schema, {"ingredients": ingredients, "rebuilt": reason})
        try:
            aside.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            if not (target / "manifest.json").exists():  # an incomplete store
                shutil.rmtree(target)
                aside.rename(target)
            # else another process has written the same store meanwhile
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _without_repetitions(recordings: list) -> tuple[list[Recording | Session], list[Unreadable]]:
    """Separate readable recordings from unreadable ones; of several sessions with one name the first is kept."""
    readable: dict[str, Recording | Session] = {}
    unreadable = []
    for item in recordings:
        if isinstance(item, Unreadable):
            unreadable.append(item)
        elif item.name in readable:
            message = f"another session is called {item.name}; data.reader must give each a unique name"
            unreadable.append(Unreadable(item.name, "duplicate_session", message))
        else:
            readable[item.name] = item
    return list(readable.values()), unreadable


def _write_shards(
    folder: Path, items: list[Recording | Session], schema: Schema, strict: bool, jobs: int
) -> Iterator[tuple[ReducedSession, int]]:
    """Write all shards and yield the sessions with the number of their shard, in order.

    Which sessions a shard holds follows from the list alone, not from the worker that writes it.
    """
    size = max(-(-len(items) // SHARDS), 1)
    shards = [items[i : i + size] for i in range(0, len(items), size)]
    work = (joblib.delayed(_write_shard)(folder, n, shard, schema, strict) for n, shard in enumerate(shards))
    processes = 1 if _has_large_tables(items) else min(_processes(jobs), max(len(shards), 1))
    results = joblib.Parallel(n_jobs=processes, return_as="generator")(work)
    for number, sessions in enumerate(track(results, "preparing", len(shards))):
        yield from ((session, number) for session in sessions)


def _write_shard(
    folder: Path, number: int, items: list[Recording | Session], schema: Schema, strict: bool
) -> list[ReducedSession]:
    """Reduce sessions one after another into a folder of columns, which is renamed when it is complete."""
    aside = folder / "shards" / f".{number:04d}"
    aside.mkdir()
    sessions = []
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(_GrowingArray(aside / f"{name}.npy", dtype, shape))
            for name, (dtype, shape) in column_types(schema).items()
        }
        for item in items:
            session = reduce_session(item, schema, strict)
            if session.columns is not None:
                digest = hashlib.sha256()
                for name, file in files.items():
                    digest.update(file.append(session.columns[name]))
                session = replace(session, columns=None, content=digest.hexdigest())
            sessions.append(session)
    aside.rename(aside.with_name(f"{number:04d}"))
    return sessions


class _GrowingArray:
    """A `.npy` file that rows are appended to; the final header fits into the padding that numpy leaves for it."""

    def __init__(self, path: Path, dtype: type[np.generic], shape: tuple[int, ...]):
        self.dtype, self.shape, self.rows = np.dtype(dtype), shape, 0
        self.stream = path.open("wb")
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_2_0(self.stream, header)

    def append(self, values: np.ndarray) -> memoryview:
        """Append rows and return their bytes."""
        content = np.ascontiguousarray(values, self.dtype).data
        self.stream.write(content)
        self.rows += len(values)
        return content

    def __enter__(self) -> _GrowingArray:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.stream:
            if kind is None:
                self.stream.seek(0)
                self._write_header()
                self.stream.flush()
                os.fsync(self.stream.fileno())


@dataclass
class _Tally:
    """Counts and examples of what was used, left out and repaired, for the manifest."""

    usable: list[tuple[ReducedSession, int, int]] = field(default_factory=list)  # with shard and first row in it
    skipped: list[dict[str, str]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # dropped rows, by reason
    repairs: list[str] = field(default_factory=list)
    first_problem: str | None = None

    def add(self, session: ReducedSession, shard: int) -> None:
        """Count a session of a shard."""
        self.first_problem = self.first_problem or session.problem()
        if failure := session.failure:
            self.skipped.append({"session": session.name, "reason": failure.reason, "message": failure.message})
            return
        before = self.usable[-1] if self.usable else None
        first = before[2] + before[0].rows if before and before[1] == shard else 0
        self.usable.append((session, shard, first))
        for defect in session.dropped:
            self.dropped[defect.reason] += 1
            if len(self.examples.setdefault(defect.reason, [])) < EXAMPLES:
                self.examples[defect.reason].append(defect._asdict())
        self.repaired.update(session.repaired)
        if session.first_repair and len(self.repairs) < EXAMPLES:
            self.repairs.append(session.first_repair)
        self.notes.update(session.notes)


def _write_tables(
    folder: Path,
    unreadable: list[Unreadable],
    written: Iterable[tuple[ReducedSession, int]],
    schema: Schema,
    facts: dict[str, Any],
) -> None:
    """Write the table of sessions and, last, the manifest."""
    tally = _Tally()
    for item in unreadable:
        tally.add(ReducedSession(item.name, failure=item), -1)
    for session, shard in written:
        tally.add(session, shard)
    if not tally.usable:
        problems = [f"  {skip['session']}: {skip['message']}" for skip in tally.skipped[:EXAMPLES]]
        raise DataError("\n".join(["no session could be read:", *problems]))
    periods = {session.period for session, *_ in tally.usable}
    if len(periods) > 1:
        raise DataError(f"sessions have different periods, {sorted(periods)} s: resample them in the reader")
    table = _session_table(tally.usable)
    pq.write_table(pa.Table.from_pandas(table, pa.schema(list(SESSION_COLUMNS.items()))), folder / "sessions.parquet")
    unlabelled = table.loc[~table["labelled"], "name"].tolist()
    manifest = {
        "format": FORMAT,
        "fingerprint": _fingerprint(table),
        "period": periods.pop(),
        "schema": schema.to_dict(),
        "units": {name: c.unit for name, c in {**schema.channels, **schema.environment}.items()},
        "counts": {
            "sessions": len(table),
            "frames": int(table["rows"].sum()),
            "labelled_sessions": len(table) - len(unlabelled),
            "dropped_frames": tally.dropped,
            "repaired": tally.repaired,
        },
        "skipped_sessions": tally.skipped,
        "unlabelled_sessions": unlabelled,
        "notes": tally.notes,
        "dropped_examples": tally.examples,
        "repaired_examples": tally.repairs,
        "first_problem": tally.first_problem,
        **facts,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")


def _session_table(sessions: list[tuple[ReducedSession, int, int]]) -> pd.DataFrame:
    """Return a row per session, with its shard and its first row there."""
    rows = [
        {
            **{key: getattr(session, key) for key in SESSION_COLUMNS if hasattr(session, key)},
            "shard": shard,
            "first": first,
            "dropped": len(session.dropped),
            "repaired": session.repaired["seconds"],
        }
        for session, shard, first in sessions
    ]
    return pd.DataFrame(rows, columns=list(SESSION_COLUMNS))


def _fingerprint(sessions: pd.DataFrame) -> str:
    """Return a digest of the content: names, devices, kinds and columns of the sessions."""
    return digest_of(sessions[["name", "device", "kind", "content"]].to_numpy().tolist())


def _has_large_tables(items: list[Recording | Session]) -> bool:
    """Return whether tables are so large that only one at a time is read, to stay below 500 MB in all."""
    tables = (path for item in items if isinstance(item, Recording) for path in item.files[:1])
    return any(path.suffix.lower() in TABLES and path.stat().st_size > LARGE_TABLE for path in tables)


def _processes(jobs: int) -> int:
    return jobs if jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + jobs)


def _started(pid: int) -> int:
    """Return when a process started [0.01 s]; 0 if there is no such process."""
    try:
        return round(psutil.Process(pid).create_time() * 100)
    except psutil.NoSuchProcess:
        return 0


def _sweep_leftovers(cache: Path) -> None:
    """Remove what killed builds on this host left behind.

    Process numbers are used again (in a container after every start), so the start time is compared too.
    """
    for path in cache.glob(f".*.{socket.gethostname()}.*-*"):
        pid, _, started = path.name.rsplit(".", 1)[-1].partition("-")
        if not (pid.isdigit() and started.isdigit()):
            continue
        if abs(_started(int(pid)) - int(started)) > 500:  # the clock may be adjusted
            shutil.rmtree(path, ignore_errors=True)
