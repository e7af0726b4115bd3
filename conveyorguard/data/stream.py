"""Recordings one after another, as frame stores in memory: for a use that needs each once, however many there are."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import joblib

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Unreadable
from conveyorguard.data.store import Part, Store, first_problem, read_part
from conveyorguard.errors import DataError

A_PROCESS = 4  # recordings; of fewer, starting a process costs more than it saves
AHEAD = 2  # recordings each process reads before the first of them is asked for


class OneRecording(Store):
    """A recording as a frame store in memory; nothing of it is on disk."""

    def __init__(self, part: Part, schema: Schema):
        assert part.table is not None
        self.part, self.schema = part, schema
        self.__dict__ |= {"frames": part.table.to_pandas(), "thermal": part.thermal}

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def noticed(self) -> list[str]:
        """What was left out and done while it was read, in sentences."""
        said = list(self.part.notes)
        if self.part.dropped:
            first = self.part.dropped[0]
            said.append(f"{len(self.part.dropped)} seconds or rows left out, the first: {first.where}: {first.message}")
        return said


def stream(
    reader: Any, schema: Schema, root: str | Path | None, strict: bool = False, jobs: int | None = None
) -> tuple[int, Iterator[OneRecording | Unreadable]]:
    """Read recordings one after another; never more than a few of them are in memory.

    Args:
        reader: `sessions(root, schema)`, as for `prepare`.
        strict: stop at the first defect.
        jobs: processes; None: as many as there are processors, fewer for few recordings.

    Returns:
        Their number, and an iterator over them in the reader's order.

    Raises:
        DataError: nothing is found; when strict, the first defect.
    """
    items = list(reader(root, schema))  # names and paths; nothing is read yet
    processes = jobs or max(1, min(os.cpu_count() or 1, len(items) // A_PROCESS))
    return len(items), _read(items, schema, strict, processes)


def _read(items: list, schema: Schema, strict: bool, processes: int) -> Iterator[OneRecording | Unreadable]:
    waiting = iter(items)
    with joblib.Parallel(n_jobs=processes) as workers:
        while batch := list(islice(waiting, AHEAD * processes)):
            if strict and (lost := [item for item in batch if isinstance(item, Unreadable)]):
                raise DataError(f"data.strict=true: {lost[0].name}: {lost[0].message}")
            readable = [item for item in batch if not isinstance(item, Unreadable)]
            parts = iter(workers(joblib.delayed(read_part)(item, schema, False) for item in readable))
            for item in batch:
                yield item if isinstance(item, Unreadable) else _store(next(parts), schema, strict)


def _store(part: Part, schema: Schema, strict: bool) -> OneRecording | Unreadable:
    problem = first_problem(part, labels=False)  # they are not asked for
    if strict and problem:
        raise DataError(f"data.strict=true: {problem}")
    return part.failure or OneRecording(part, schema)


def lenient(reader: Callable) -> Callable:
    """A reader that accepts recordings lacking some channels, if it knows how to."""
    known = inspect.signature(getattr(reader, "func", reader)).parameters
    return partial(reader, incomplete=True) if "incomplete" in known else reader
