"""Check the rows of a session: keep the sound ones and say why each other row is dropped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from conveyorguard.data.schema import UNLABELLED
from conveyorguard.data.session import Dropped
from conveyorguard.data.table import columns
from conveyorguard.data.table.cells import FillWatch
from conveyorguard.data.table.columns import Table
from conveyorguard.data.table.states import StateSource
from conveyorguard.errors import DataError

RESTART = 10  # rows; a shorter stretch of time is rows out of order, not a restart


def places_of(table: Table) -> tuple[np.ndarray, int]:
    """Return the position of each row among all rows, (n,) from 0, and the number of all rows.

    Ragged rows count too, since a camera has frames for them.
    """
    every = np.union1d(table.row, [*table.ragged])
    return np.searchsorted(every, table.row), len(every)


def refuse_restarts(path: Path, seconds: np.ndarray, names: list[str]) -> None:
    """Refuse numeric times that restart, because a counter wraps or the file holds several sessions.

    Sorted by time, rows hours apart would be interleaved.

    Args:
        seconds: (n,) times of the rows of one session [s]; NaN where a row has none.
        names: the columns of the time, for the message.

    Raises:
        DataError: the time restarts, and the stretches between restarts overlap.
    """
    known = seconds[np.isfinite(seconds)]
    steps = np.diff(known)
    if not len(steps) or np.mean(steps >= 0) < 0.9:  # the rows are unordered
        return
    drops = np.flatnonzero(steps < -np.ptp(known) / 2) + 1
    stretches = sorted((part for part in np.split(known, drops) if len(part) >= RESTART), key=lambda part: part[0])
    if all(before.max() < after.min() for before, after in itertools.pairwise(stretches)):
        return
    raise DataError(
        f"{path.name}: column {columns.quoted(names)}: the time begins anew {len(drops)} times (from "
        f"{known[drops[0] - 1]:g} s to {known[drops[0]]:g} s), so that rows of different hours would be joined: if the "
        "file holds several recordings, name the column that tells them apart as data.schema.columns.session; if a "
        "counter wraps, write a time that does not"
    )


class Rows:
    """Checks the n rows of a session; `keep` (n,) marks the sound rows, `dropped` lists the others with a reason.

    Args:
        path: the file, for messages.
        table: the rows.
        dates: columns of the times if they are dates; messages quote their cells.
    """

    def __init__(self, path: Path, table: Table, dates: list[str] | None = None):
        self.path, self.table, self.dates = path, table, dates or []
        self.notes = list(table.notes)
        self.keep = np.ones(len(table.row), bool)
        self.dropped = [Dropped("ragged_row", f"{path.name}: row {row}", why) for row, why in table.ragged.items()]
        self.place, self.count = places_of(table)

    def refuse(self, reason: str, where: np.ndarray | list[int], message: Callable[[int], str]) -> None:
        """Drop rows; those that are dropped already keep their first reason.

        Args:
            reason: key of the reason, e.g. bad_time.
            where: (n,) bool, or indices of rows.
            message: returns the message for row i.
        """
        for i in np.arange(len(self.keep))[where]:
            if self.keep[i]:
                self.dropped.append(Dropped(reason, self._where(int(i)), message(int(i))))
        self.keep[where] = False

    def _where(self, i: int) -> str:
        """Return file and row number, with the text of its date cells if times are dates."""
        cells = " ".join(str(self.table.frame[name].iloc[i]) for name in self.dates)
        return f"{self.path.name}: row {self.table.row[i]}" + (f" ({cells})" if cells else "")

    def _cell(self, i: int, names: list[str]) -> str:
        return (
            f"column '{names[0]}': found '{' '.join(str(self.table.frame[name].iloc[i]) for name in names)}', expected "
        )

    def times(self, seconds: np.ndarray, names: list[str], period: float, begin: float | None = None) -> np.ndarray:
        """Return the times of the rows since the session's first time, (n,) [s]; drop rows without a usable time.

        Args:
            seconds: (n,) times of the rows [s], from any origin.
            names: columns of the time; empty if rows have no times.
            period: period of the store [s].
            begin: first time of the session [s, same origin], if the table is only a part of it.
        """
        self.refuse("bad_time", np.isnan(seconds), lambda i: self._cell(i, names) + "a time")
        if np.isnan(seconds).all():
            return seconds
        time = seconds - (np.nanmin(seconds) if begin is None else begin)
        far = time >= period * 2**31
        self.refuse("bad_time", far, lambda i: self._cell(i, names) + "a time near the others")
        return time

    def numbers(
        self, names: list[str], missing: tuple[str, ...] = (), signs: columns.NumberSigns | None = None
    ) -> np.ndarray:
        """Return columns as numbers, (n, C) float64; drop rows with a cell that is not a number.

        Args:
            names: C columns; a name may repeat, and a column that the table lacks is NaN.
            missing, signs: as for `columns.numbers`.
        """
        there = list(dict.fromkeys(name for name in names if name in self.table.frame))
        read, unread = columns.numbers(self.table, there, missing, signs)
        values = np.full((len(self.table.row), len(names)), np.nan)
        bad = np.zeros(values.shape, bool)
        for i, name in enumerate(names):
            if name in there:
                values[:, i], bad[:, i] = read[:, there.index(name)], unread[:, there.index(name)]

        def message(i: int) -> str:
            name = names[bad[i].argmax()]
            return self._cell(i, [name]) + "a number" + _remedy(str(self.table.frame[name].iloc[i]), self.table)

        self.refuse("bad_number", np.asarray(bad.any(axis=1)), message)
        return values

    def states(self, source: StateSource, seconds: np.ndarray, labelled: bool = False) -> np.ndarray | None:
        """Return the state of each row, (n,) 0..K-1; drop rows whose state is unknown.

        Args:
            source: where the states come from.
            seconds: (n,) times of the rows [s], on the clock of the session.
            labelled: other rows of the session have states, so a table without any is dropped.

        Returns:
            (n,) int, `UNLABELLED` where the state is unknown; None if the session has no states.

        Raises:
            DataError: the source does not suit the session.
        """
        state = source.of(self.table, seconds)
        if state is None:
            if not labelled:
                return None
            state = np.full(len(self.keep), UNLABELLED)
        self.refuse(
            source.reason,
            state == UNLABELLED,
            lambda i: self._cell(i, source.columns or [*self.table.frame][:1]) + source.expected,
        )
        return state

    def refuse_twice(self, rows: np.ndarray, time: np.ndarray) -> None:
        """Drop rows whose period another row already fills.

        Args:
            rows: indices of the rows to drop.
            time: (n,) times of all rows [s].
        """
        for i in rows.tolist():
            self.refuse("duplicate_second", [i], lambda i: twice("", time[i]).message)

    def sound(self, time: np.ndarray) -> np.ndarray:
        """Return the indices of the sound rows, sorted by time.

        Args:
            time: (n,) times of all rows [s].

        Raises:
            DataError: no row is sound.
        """
        if not self.keep.any():
            raise no_usable_row(self.path, self.dropped)
        return np.flatnonzero(self.keep)[np.argsort(time[self.keep], kind="stable")]


def twice(where: str, second: float) -> Dropped:
    """Return the entry for a dropped row at `second` [s], whose period another row already fills."""
    message = (
        f"expected one row per period, found a further one: second {second:g} is there already; remove one of them"
    )
    return Dropped("duplicate_second", where, message)


def no_usable_row(path: Path, dropped: list[Dropped]) -> DataError:
    """Return the error for a session without a sound row; it quotes the first dropped row."""
    why = f"{dropped[0].where}: {dropped[0].message}" if dropped else "it has none"
    return DataError(f"{path.name}: no usable row ({why})")


def fill_notes(watches: Mapping[str, FillWatch]) -> list[str]:
    """Return a note for each column with a likely fill value."""
    suspects = [(name, watch.suspect()) for name, watch in watches.items()]
    return [
        f"column '{name}': {suspect[0]:.10g} comes {suspect[1]} times, far from all other values: if it stands for a "
        f"missing one, set data.reader.missing=[{suspect[0]:.10g}]"
        for name, suspect in suspects
        if suspect
    ]


def _remedy(cell: str, table: Table) -> str:
    """Return how to correct a cell that is not a number, as the end of a message."""
    if "," in cell and "." in cell:
        return "; write thousands without a separator"
    if "," in cell:
        return "; write decimals with a point, or separate the columns with ;"
    if "." in cell and table.separator:
        return "; other numbers of this file have a decimal comma, and a point may mean thousands: write all alike"
    return "; a blank cell stands for a missing value"
