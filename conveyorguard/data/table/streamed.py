"""Read a large csv block by block; memory holds one block and one row per period.

Properties of the whole file (format of the times, decimal sign, presence of states) are derived from the first block
and checked in every later one. If a later block contradicts the first, the file is read again, or read at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from conveyorguard.data.schema import UNLABELLED
from conveyorguard.data.session import Dropped
from conveyorguard.data.table import columns
from conveyorguard.data.table.block_clock import BlockClock, NotInBlocks, blocks_of
from conveyorguard.data.table.blocks import csv_blocks
from conveyorguard.data.table.cells import FillWatch, NumberSigns, Table, words_of
from conveyorguard.data.table.clock import Times
from conveyorguard.data.table.layout import STOPS
from conveyorguard.data.table.recording import (
    GridRows,
    TableJob,
    TablePart,
    constant_columns,
    dates_of,
    distinct_words,
    piece_of,
    timed_rows,
    usual_notes,
)
from conveyorguard.data.table.resample import ON_THE_GRID, SEVERAL, aggregate, aggregate_note, resample
from conveyorguard.data.table.rows import Rows, fill_notes, no_usable_row, twice
from conveyorguard.data.table.states import StateSource, state_source

LARGE = 1 << 24  # bytes; smaller files are read at once
SPREAD = 20  # readings of the file that its sessions may need in sum; beyond, each session reads all blocks


def is_large(job: TableJob) -> bool:
    """Return whether a session is read in blocks: a csv of at least `LARGE` bytes, complete and without a camera."""
    return _has_blocks(job.path) and not job.growing and not job.schema.thermal and _size(job.path) >= LARGE


def _has_blocks(path: Path) -> bool:
    """Return whether a file is text that can be read in blocks."""
    return not path.is_dir() and path.suffix.lower() not in (".parquet", ".xlsx")


def _size(path: Path) -> int:
    """Return the size of a file [bytes]."""
    return os.stat(path).st_size


def picked_parts(path: Path, encoding: str, column: str, growing: bool) -> tuple[list[TablePart], int]:
    """Return the sessions that a column names, sorted by name, and the number of rows that name none.

    Args:
        column: the session column.
        growing: the file is being written; ignore what follows its last line end.
    """
    blocks: dict[str, list[int]] = {}
    blank = number = 0
    tables = (
        csv_blocks(path, encoding, [column], growing) if _has_blocks(path) else [columns.read(path, encoding, [column])]
    )
    for number, table in enumerate(tables):
        text = table.frame[column]
        known = ~columns.is_missing(text)
        blank += int((~known).sum())
        for word in set(words_of(text[known].drop_duplicates())):
            blocks.setdefault(word, [number, number])[1] = number
    spread = sum(last - first + 1 for first, last in blocks.values()) > SPREAD * (number + 1)
    return [
        TablePart(word, word, word, blocks=None if spread else (b[0], b[1])) for word, b in sorted(blocks.items())
    ], blank


def cut_parts(job: TableJob) -> list[TablePart]:
    """Return the parts into which `data.reader.split_every` cuts a session; the session itself if it is not cut."""
    if is_large(job) and job.layout.split_every != STOPS:
        try:
            return _parts_by_blocks(job)
        except NotInBlocks:
            pass
    _, times = timed_rows(job)
    numbers = np.unique(piece_of(times.seconds, job.layout)).tolist()
    if len(numbers) < 2:
        return [job.part]
    return [replace(job.part, name=f"{job.part.name}#{k + 1}", number=k) for k in numbers]


def _parts_by_blocks(job: TableJob) -> list[TablePart]:
    """Return the parts of a session as `cut_parts` does, with the blocks that hold each.

    Raises:
        DataError: the times are not understood.
        NotInBlocks: the times are out of order, or differ in form between blocks.
    """
    clock = BlockClock(job)
    blocks: dict[int, list[int]] = {}
    wanted = tuple(column for role in ("session", "time") for column in job.roles.get(role, []))
    for number, table in blocks_of(job, wanted):
        seconds = clock.seconds(table)
        for k in np.unique(piece_of(seconds, job.layout, clock.begin)).tolist():
            blocks.setdefault(k, [number, number])[1] = number
    if len(blocks) < 2:
        return [job.part]
    return [
        replace(
            job.part,
            name=f"{job.part.name}#{k + 1}",
            number=k,
            blocks=(b[0], b[1]),
            begin=clock.begin,
            origin=clock.times.origin,
        )
        for k, b in sorted(blocks.items())
    ]


def read_in_blocks(job: TableJob) -> GridRows:
    """Read a session block by block and return the same rows as `read_at_once`.

    Raises:
        DataError: the session cannot be read.
        NotInBlocks: its rows are not sorted by time, or differ in form from those of the first block.
    """
    signs, labelled = NumberSigns(), False
    while True:  # repeats if a later block changes how earlier ones are read; each of 4 flags can change once
        reading = _BlockReading(job, signs, labelled)
        if reading.run():
            pa.default_memory_pool().release_unused()
            return reading.result()
        signs, labelled = reading.signs, reading.labelled


class _BlockReading:
    """One pass through the blocks of a session.

    Args:
        signs: evidence for decimal commas and separators of thousands from earlier passes.
        labelled: an earlier pass met states.
    """

    def __init__(self, job: TableJob, signs: NumberSigns, labelled: bool):
        self.job, self.signs, self.labelled = job, signs, labelled
        self.clock = BlockClock(job)
        self.source: StateSource | None = None
        self.rows: _SingleRows | _PeriodRows | None = None
        self.watches = {name: FillWatch() for name in job.channels}
        self.constants: dict[str, list[str]] = {}
        self.columns: list[str] = []
        self.dropped: list[Dropped] = []
        self.notes: list[str] = []
        self.begin: float | None = None

    def run(self) -> bool:
        """Read all blocks; return False if one shows that earlier blocks were read wrongly."""
        sure = True
        for i, (_, table) in enumerate(blocks_of(self.job, self.job.wanted)):
            before = replace(self.signs), self.labelled
            self._add(table)
            sure &= i == 0 or (self.signs, self.labelled) == before
            if not sure:
                return False
        return True

    def _add(self, table: Table) -> None:
        """Check the rows of a block and keep the sound ones that belong to the session."""
        job, part = self.job, self.job.part
        seconds = self.clock.seconds(table)
        if part.number is not None:
            mine = piece_of(seconds, job.layout, self.clock.begin) == part.number
            table, seconds = columns.rows_of(table, mine), seconds[mine]
        if not len(seconds) and not table.ragged:
            return
        self._note_columns(table)
        if self.begin is None and np.isfinite(seconds).any():
            self.begin = float(np.nanmin(seconds))
        rows = Rows(job.path, table, dates_of(job, self.clock.times))
        time = rows.times(seconds, job.roles.get("time", []), job.layout.period, self.begin)
        values = rows.numbers(job.channels, job.layout.missing, self.signs)
        for i, name in enumerate(job.channels):
            self.watches[name].add(values[:, i])
        if self.source is None:
            times = replace(self.clock.times, seconds=np.array([self.clock.begin]))
            self.source = state_source(part.whole, job.schema, job.layout, job.root, times)
        state = rows.states(self.source, seconds, self.labelled)
        self.labelled |= state is not None
        self.dropped += rows.dropped
        keep = rows.keep
        if keep.any():
            state = np.full(len(keep), UNLABELLED) if state is None else state
            self._collect(time[keep], values[keep], state[keep].astype(np.int8), table.row[keep], seconds[keep])

    def _note_columns(self, table: Table) -> None:
        """Keep what describes all rows: column names, notes, devices and kinds."""
        self.columns = self.columns or [*table.frame]
        self.notes = self.notes or [*table.notes]
        for name in constant_columns(self.job):
            if name in table.frame:
                words = [*self.constants.get(name, []), *distinct_words(table, name)]
                self.constants[name] = list(dict.fromkeys(words))

    def _collect(self, time: np.ndarray, *others: np.ndarray) -> None:
        """Add sound rows; the first ones decide whether rows are aggregated.

        Args:
            time: (n,) times since the session's start [s].
            others: values (n, C), state, row and seconds (n,).
        """
        if self.rows is None:
            several = len(time) / len(np.unique(np.round(time / self.job.layout.period))) >= SEVERAL
            self.rows = (_PeriodRows if several else _SingleRows)(self.job)
        self.rows.add(time, *others)

    def result(self) -> GridRows:
        """Return one row per period.

        Raises:
            DataError: no row is sound.
            NotInBlocks: the rate of the rows changes.
        """
        if self.rows is None or self.begin is None:
            raise no_usable_row(self.job.path, self.dropped)
        grid = self.rows.result()
        self.dropped += grid.dropped
        return replace(
            grid,
            states=grid.states if self.labelled else None,
            times=self.clock.times,
            begin=self.begin,
            constants=self.constants,
            columns=self.columns,
            dropped=self.dropped,
            notes=[*self.notes, *fill_notes(self.watches), *grid.notes],
        )


def _grid_rows(columns: Iterable[np.ndarray], averaged: bool, notes: list[str]) -> GridRows:
    """Return m rows, one per period, without what the caller adds for the whole session.

    Args:
        columns: period (m,), values (m, C), state, row and seconds (m,).
        averaged: a value stands for several rows.
        notes: remarks on all rows.
    """
    second, values, states, row, seconds = columns
    return GridRows(second, values, states, row, seconds, Times(seconds), 0.0, {}, [], averaged, [], notes)


class _SingleRows:
    """Collects a session of about one row per period, or fewer."""

    def __init__(self, job: TableJob):
        self.job = job
        self.blocks: list[tuple[np.ndarray, ...]] = []

    def add(
        self, time: np.ndarray, values: np.ndarray, state: np.ndarray, row: np.ndarray, seconds: np.ndarray
    ) -> None:
        """Add the sound rows of a block; values are kept as float32, as in the store.

        Args:
            time: (n,) times since the session's start [s].
            values: (n, C) values.
            state: (n,) states.
            row: (n,) row numbers in the file.
            seconds: (n,) times on the clock of the session [s].
        """
        with np.errstate(over="ignore"):
            self.blocks.append((time, values.astype(np.float32), state, row, seconds))

    def result(self) -> GridRows:
        """Return one row per period.

        Raises:
            NotInBlocks: the rows have to be aggregated, although the first block had one row per period.
        """
        parts = [*zip(*self.blocks, strict=True)]
        self.blocks = []
        time, values, state, row, seconds = (np.concatenate(parts.pop(0)) for _ in range(5))
        grid = resample(time, values, self.job.layout.period, self.job.aggregates)
        if grid.starts is not None:
            raise NotInBlocks("its rows are not equally far apart")
        source = grid.source
        columns = (grid.second, grid.values, state[source], row[source], seconds[source])
        rows = _grid_rows(columns, False, usual_notes("", grid.note, False))
        rows.dropped = [twice(f"{self.job.path.name}: row {row[i]}", time[i]) for i in grid.twice]
        return rows


class _PeriodRows:
    """Aggregates a session of several rows per period; the last period stays open until the next block."""

    def __init__(self, job: TableJob):
        self.job = job
        self.open: tuple[np.ndarray, ...] | None = None
        self.done: list[tuple[np.ndarray, ...]] = []
        self.mixed = False
        self.whole = True
        self.intervals: list[float] = []
        self.rows = self.nearest = 0
        self.last = -1.0

    def add(self, *block: np.ndarray) -> None:
        """Add the sound rows of a block: time, values, state, row and seconds, as for `_SingleRows.add`."""
        self._count(block[0] / self.job.layout.period)
        rows = block if self.open is None else tuple(map(np.concatenate, zip(self.open, block, strict=True)))
        second = np.floor(rows[0] / self.job.layout.period + 1e-6)
        complete = int(np.searchsorted(second, second[-1]))
        self._aggregate(tuple(values[:complete] for values in rows))
        self.open = tuple(values[complete:] for values in rows)

    def _count(self, place: np.ndarray) -> None:
        """Update the statistics by which `resample` decides.

        Args:
            place: (n,) times since the session's start [periods].
        """
        nearest = np.round(place)
        self.whole &= bool(np.abs(place - nearest).max() <= ON_THE_GRID)
        self.rows += len(place)
        distinct = np.unique(nearest)
        self.nearest += len(distinct) - (distinct[0] == self.last)
        self.last = float(distinct[-1])
        steps = np.diff(np.unique(place))
        self.intervals += [float(np.median(steps))] * bool(len(steps))

    def _aggregate(self, rows: tuple[np.ndarray, ...]) -> None:
        """Aggregate the rows of complete periods."""
        time, values, state, row, seconds = rows
        if not len(time):
            return
        grid = aggregate(time / self.job.layout.period, values, self.job.aggregates, self.job.layout.period)
        states, mixed = grid.states(state)
        self.mixed |= mixed
        self.done.append((grid.second, grid.values, states, row[grid.source], seconds[grid.source]))

    def result(self) -> GridRows:
        """Return one row per period.

        Raises:
            NotInBlocks: the session has too few rows per period to be aggregated.
        """
        self._aggregate(self.open or ())
        if self.rows / self.nearest < SEVERAL:
            raise NotInBlocks("its rows are not equally far apart")
        interval = float(np.median(self.intervals)) * self.job.layout.period if self.intervals else 0.0
        note = aggregate_note(self.whole, interval, self.job.layout.period, self.job.aggregates)
        columns = [np.concatenate(part) for part in zip(*self.done, strict=True)]
        return _grid_rows(columns, True, usual_notes("", note, self.mixed))
