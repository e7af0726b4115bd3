"""What a reader yields: a session, a recording that is read later, or one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Dropped(NamedTuple):
    """A row that was left out: reason (a short category), place, and a message with the problem and the remedy."""

    reason: str
    where: str
    message: str


@dataclass
class Session:
    """One continuous recording of a device, as a reader yields it.

    Attributes:
        name: unique in the data set.
        time: (n,) whole periods since the recording began, increasing; a missing one is a gap.
        sensors: (n, C) in the units of `schema.channels`; NaN or Inf is repaired by the store.
        environment: (n, E), likewise.
        thermal: (n, rows, columns) in degC, an array or anything that gives one when sliced; None without a camera.
        state: (n,) 0..K-1, or None for an unlabelled recording.
        dropped: rows that the reader had to leave out.
        notes: what was done to the whole session, e.g. that it was resampled; the summary lists them with the number of
            sessions.
        averaged: a value is the mean of several samples, so that the last row is complete only when the next has begun.
        where: `where(part, i)` returns the source file and row of row i of "sensors", "environment" or "thermal", for
            messages; None where that is not known. It must pickle.
        period: time between two values of `time` [s].
        start: clock time of the beginning in UTC, or the wall time of files that name no zone; None without dates.
        zone: time zone of the files' clock, as pandas names it; None where they name none.
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
    notes: list[str] = field(default_factory=list)
    averaged: bool = False
    where: Callable[[str, int], str] | None = None
    period: float = 1.0
    start: datetime | None = None
    zone: str | None = None


@dataclass(frozen=True)
class Recording:
    """A session that is read later, so that the store can read several at once.

    Attributes:
        files: that it consists of; their names, sizes and times enter the key of the store.
        read: returns the session; it must pickle.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Session]


@dataclass(frozen=True)
class Unreadable:
    """A session that cannot be read; a reader yields it so that it is counted and named."""

    name: str
    reason: str
    message: str
