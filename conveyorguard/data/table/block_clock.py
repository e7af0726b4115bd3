"""Read the times of a csv file in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from conveyorguard.data.table import columns
from conveyorguard.data.table.blocks import csv_blocks
from conveyorguard.data.table.cells import Table
from conveyorguard.data.table.clock import Times
from conveyorguard.data.table.recording import TableJob
from conveyorguard.data.table.rows import places_of
from conveyorguard.errors import DataError


class NotInBlocks(Exception):
    """A session that cannot be read in blocks; the message is a clause that gives the reason."""


def blocks_of(job: TableJob, wanted: tuple[str, ...]) -> Iterator[tuple[int, Table]]:
    """Yield the number and the rows of each block that has rows of the session.

    Args:
        job: the session; rows of other sessions in the file are left out, those of other parts of a cut one are not.
        wanted: columns to read.
    """
    first, last = job.part.blocks or (0, None)
    for number, table in enumerate(csv_blocks(job.path, job.layout.encoding, wanted, first=first), first):
        if job.part.picked is not None:
            table = columns.part_of(table, job.roles["session"][0], job.part.picked)
        if len(table.row) or table.ragged:
            yield number, table
        if number == last:
            return


class BlockClock:
    """Converts the times of successive blocks to seconds from one origin.

    Attributes:
        times: times of the first block; its origin, zone and unit apply to all blocks.
        begin: time of the session's first row that has one [s].
    """

    def __init__(self, job: TableJob):
        self.job = job
        self.times = Times(np.zeros(0))
        self.begin: float | None = job.part.begin
        self.last = -np.inf
        self.rows = 0
        self.format: str | None = None
        self.started = False

    def seconds(self, table: Table) -> np.ndarray:
        """Return the times of the next block's rows, (n,) [s] from the origin.

        Raises:
            DataError: the times are not understood.
            NotInBlocks: the times are out of order, or differ in form from those of earlier blocks.
        """
        if not self.job.roles.get("time"):
            place, count = places_of(table)
            self.rows += count
            seconds = (self.rows - count + place) * (self.job.layout.row_every or self.job.layout.period)
        else:
            seconds = self._of_columns(table)
        known = seconds[np.isfinite(seconds)]
        if len(known):
            if known[0] < self.last or (np.diff(known) < 0).any():
                raise NotInBlocks("its rows are not in the order of their times")
            self.last = float(known[-1])
            if self.begin is None:
                self.begin = float(known[0])
        elif self.begin is None:
            raise NotInBlocks("its first rows have no time")
        return seconds

    def _of_columns(self, table: Table) -> np.ndarray:
        """Return the times (n,) [s] of a block from its time columns; raises as `seconds` does."""
        try:
            times = self.job.times(table, self.format)
        except DataError as error:
            if self.started:
                raise NotInBlocks("its times are not written alike in all rows") from error
            if "several ways" not in str(error):
                raise
            self.format = self._deciding_format()
            times = self.job.times(table, self.format)
        if not self.started:
            self.started = True
            origin = times.origin if self.job.part.origin is None else self.job.part.origin
            self.times = replace(times, origin=origin)
        first = self.times
        alike = (times.origin is None, times.unit, times.zone is None) == (
            first.origin is None,
            first.unit,
            first.zone is None,
        )
        if times.note or not alike:
            raise NotInBlocks(times.note or "its times are not written alike in all rows")
        if times.origin is None or first.origin is None:
            return times.seconds
        if times.unit is not None:
            return times.seconds + (times.origin - first.origin) / 1e9
        later = times.origin - first.origin
        return (np.round(times.seconds * 1e9) + later) / 1e9

    def _deciding_format(self) -> str:
        """Return the format of ambiguous times, taken from the first block of the file that decides it."""
        job = replace(self.job, part=replace(self.job.part, blocks=None))
        for _, table in blocks_of(job, tuple(c for role in ("session", "time") for c in job.roles.get(role, []))):
            try:
                times = job.times(table)
            except DataError:
                continue
            if times.format:
                return times.format
        raise NotInBlocks("its times can be read in several ways")
