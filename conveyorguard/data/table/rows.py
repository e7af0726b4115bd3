"""The rows of a recording: which are sound, and what is wrong with the others."""

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

RESTART = 10  # rows of a stretch of time; a shorter one is a row out of its place


def places_of(table: Table) -> tuple[np.ndarray, int]:
    """(n,) which row of all each is, and how many there are: ragged ones are rows, and have frames of a camera."""
    every = np.union1d(table.row, [*table.ragged])
    return np.searchsorted(every, table.row), len(every)


def refuse_restarts(path: Path, seconds: np.ndarray, names: list[str]) -> None:
    """Raise where a time of numbers begins anew, as a counter that wraps or a file of several recordings does.

    Sorted by time, rows of different hours would be joined to one.

    Args:
        seconds: (n,) of the rows of one recording.

    Raises:
        DataError: it begins anew, and the stretches overlap.
    """
    known = seconds[np.isfinite(seconds)]
    steps = np.diff(known)
    if not len(steps) or np.mean(steps >= 0) < 0.9:  # rows in no order
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
    """The rows of a recording: which are still sound, and what is wrong with the others.

    Args:
        dates: columns of the times, where they are dates: messages quote them.
    """

    def __init__(self, path: Path, table: Table, dates: list[str] | None = None):
        self.path, self.table, self.dates = path, table, dates or []
        self.notes = list(table.notes)
        self.keep = np.ones(len(table.row), bool)
        self.dropped = [Dropped("ragged_row", f"{path.name}: row {row}", why) for row, why in table.ragged.items()]
        self.place, self.count = places_of(table)

    def refuse(self, reason: str, where: np.ndarray | list[int], message: Callable[[int], str]) -> None:
        """Leave out the given rows that were sound so far."""
        for i in np.arange(len(self.keep))[where]:
            if self.keep[i]:
                self.dropped.append(Dropped(reason, self._where(int(i)), message(int(i))))
        self.keep[where] = False

    def _where(self, i: int) -> str:
        """The file, its row, and its date as it stands there."""
        cells = " ".join(str(self.table.frame[name].iloc[i]) for name in self.dates)
        return f"{self.path.name}: row {self.table.row[i]}" + (f" ({cells})" if cells else "")

    def _cell(self, i: int, names: list[str]) -> str:
        return (
            f"column '{names[0]}': found '{' '.join(str(self.table.frame[name].iloc[i]) for name in names)}', expected "
        )

    def times(self, seconds: np.ndarray, names: list[str], period: float, begin: float | None = None) -> np.ndarray:
        """(n,) s since the first row that has a time, be it sound otherwise or not.

        Args:
            seconds: (n,) of the rows, on any clock.
            names: of the columns of the time; none where a row is a period.
            begin: of the first row, where these are not all rows.
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
        """(n, columns) float64; a name may come several times. Rows with something that is no number are left out.

        Args:
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
        """(n,) 0..K-1; None if the recording has none. Rows whose state is not known are left out.

        Args:
            seconds: (n,) of the rows, on the clock of the recording.
            labelled: other rows of the recording have states.

        Raises:
            DataError: what the states are taken from does not suit the recording.
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
        """Leave out rows whose time another one has.

        Args:
            time: (n,) s of all rows.
        """
        for i in rows.tolist():
            self.refuse("duplicate_second", [i], lambda i: twice("", time[i]).message)

    def sound(self, time: np.ndarray) -> np.ndarray:
        """Numbers of the sound rows in the order of their times."""
        if not self.keep.any():
            raise no_usable_row(self.path, self.dropped)
        return np.flatnonzero(self.keep)[np.argsort(time[self.keep], kind="stable")]


def twice(where: str, second: float) -> Dropped:
    """A row whose time another one has."""
    message = (
        f"expected each second once, found another row of one: second {second:g} is there already; remove one of them"
    )
    return Dropped("duplicate_second", where, message)


def no_usable_row(path: Path, dropped: list[Dropped]) -> DataError:
    """The error of a recording without a sound row, with the first reason."""
    why = f"{dropped[0].where}: {dropped[0].message}" if dropped else "it has none"
    return DataError(f"{path.name}: no usable row ({why})")


def fill_notes(watches: Mapping[str, FillWatch]) -> list[str]:
    """Name the values that may stand for missing ones, by column."""
    suspects = [(name, watch.suspect()) for name, watch in watches.items()]
    return [
        f"column '{name}': {suspect[0]:.10g} comes {suspect[1]} times, far from all other values: if it stands for a "
        f"missing one, set data.reader.missing=[{suspect[0]:.10g}]"
        for name, suspect in suspects
        if suspect
    ]


def _remedy(cell: str, table: Table) -> str:
    if "," in cell and "." in cell:
        return "; write thousands without a separator"
    if "," in cell:
        return "; write decimals with a point, or separate the columns with ;"
    if "." in cell and table.separator:
        return "; other numbers of this file have a decimal comma, and a point may mean thousands: write all alike"
    return "; a blank cell stands for a missing value"
