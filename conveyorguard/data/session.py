"""What a reader yields: a session, or a recording to be read later, or one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


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
        time: (n,) whole periods since the recording began, increasing; a missing one is a gap.
        sensors: (n, C) in the units of `schema.channels`; NaN or Inf is repaired by the store.
        environment: (n, E), likewise.
        thermal: (n, rows, columns) in degC, an array or anything that gives one when sliced; None without a camera.
        state: (n,) 0..K-1, or None for an unlabelled recording.
        dropped: seconds the reader had to leave out.
        notes: what was done to all of it, e.g. that it was resampled; told in the summary with the number of sessions.
        averaged: a value is the mean of several samples, so the last second is whole only when the next has begun.
        where: `where(part, i)`: source file and row of second i of 'sensors', 'environment' or 'thermal', for messages;
            None where nobody knows. It must pickle.
        period: between two values of `time`, s.
        start: clock time of period 0 in UTC; None where the files have no dates. Where they name no zone, their wall
            time as it stands.
        zone: of the files' clock, as pandas names it; None where they name none.
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
