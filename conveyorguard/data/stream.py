"""Recordings one after another, as frame stores in memory, so that memory does not grow with their number."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import joblib

from conveyorguard.data.reduce import ReducedSession, reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Unreadable
from conveyorguard.data.store import Store
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.errors import DataError

PER_PROCESS = 4  # recordings; with fewer, starting a process costs more than it saves
AHEAD = 2  # recordings that each process reads before the first of them is used


@dataclass(frozen=True)
class StreamedRecording:
    """A recording as a store; `notes` are sentences on what was left out or changed while it was read."""

    name: str
    store: Store
    notes: list[str]


def stream(
    reader: Any, schema: Schema, root: str | Path | None, strict: bool = False, jobs: int | None = None
) -> tuple[int, Iterator[StreamedRecording | Unreadable]]:
    """Read recordings one after another, a few at a time in memory.

    Args:
        reader: `sessions(root, schema)`, as for `prepare`.
        strict: raise at the first defect.
        jobs: processes; None: as many as there are processors, fewer for few recordings.

    Returns:
        Their number, and an iterator over them in the reader's order.

    Raises:
        DataError: the reader finds nothing; with `strict`, the first defect.
    """
    root = None if root is None else Path(root).absolute()  # workers may have another working directory
    items = list(reader(root, schema))  # names and paths; nothing is read yet
    processes = jobs or max(1, min(os.cpu_count() or 1, len(items) // PER_PROCESS))
    return len(items), _read(items, schema, strict, processes)


def _read(items: list, schema: Schema, strict: bool, processes: int) -> Iterator[StreamedRecording | Unreadable]:
    waiting = iter(items)
    with joblib.Parallel(n_jobs=processes) as workers:
        while batch := list(islice(waiting, AHEAD * processes)):
            unreadable = [item for item in batch if isinstance(item, Unreadable)]
            if strict and unreadable:
                raise DataError(f"data.strict=true: {unreadable[0].name}: {unreadable[0].message}")
            readable = [item for item in batch if not isinstance(item, Unreadable)]
            reduced = iter(workers(joblib.delayed(reduce_session)(item, schema) for item in readable))
            for item in batch:
                yield item if isinstance(item, Unreadable) else _recording(next(reduced), schema, strict)


def _recording(session: ReducedSession, schema: Schema, strict: bool) -> StreamedRecording | Unreadable:
    problem = session.problem(labels=False)  # predictions need no labels
    if strict and problem:
        raise DataError(f"data.strict=true: {problem}")
    if session.failure:
        return session.failure
    notes = list(session.notes)
    if session.dropped:
        first = session.dropped[0]
        notes.append(f"{len(session.dropped)} periods or rows left out, first: {first.where}: {first.message}")
    return StreamedRecording(session.name, store_in_memory([session], schema), notes)


def lenient(reader: Callable) -> Callable:
    """Return a reader that accepts recordings without some channels, where it has the option `incomplete`."""
    options = inspect.signature(getattr(reader, "func", reader)).parameters
    return partial(reader, incomplete=True) if "incomplete" in options else reader
