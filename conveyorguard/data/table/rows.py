"""The rows of a recording: which are sound, and what is wrong with the others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from conveyorguard.data.schema import UNLABELLED, Schema
from conveyorguard.data.session import Dropped
from conveyorguard.data.table import columns
from conveyorguard.data.table.clock import clock
from conveyorguard.data.table.columns import Table, words_of
from conveyorguard.data.table.layout import Layout
from conveyorguard.errors import DataError


class Rows:
    """The rows of a recording: which are still sound, and what is wrong with the others."""

    def __init__(self, path: Path, table: Table):
        self.path, self.table = path, table
        self.keep = np.ones(len(table.row), bool)
        self.dropped = [Dropped("ragged_row", f"{path.name}: row {row}", why) for row, why in table.ragged.items()]
        every = np.union1d(table.row, [*table.ragged])
        self.place, self.count = np.searchsorted(every, table.row), len(every)  # a camera has frames of bad rows too

    def refuse(self, reason: str, where: np.ndarray | list[int], message: Callable[[int], str]) -> None:
        """Leave out the given rows that were sound so far."""
        for i in np.arange(len(self.keep))[where]:
            if self.keep[i]:
                self.dropped.append(Dropped(reason, f"{self.path.name}: row {self.table.row[i]}", message(int(i))))
        self.keep[where] = False

    def _cell(self, i: int, names: list[str]) -> str:
        return (
            f"column '{names[0]}': found '{' '.join(str(self.table.frame[name].iloc[i]) for name in names)}', expected "
        )

    def times(self, names: list[str] | None, layout: Layout) -> np.ndarray:
        """(n,) s since the first row that has a time, be it sound otherwise or not."""
        if not names:
            return self.place * layout.period
        try:
            time = clock(self.table, names, layout.time_unit, layout.time_format)
        except DataError as error:
            raise DataError(f"{self.path.name}: {error}") from error
        self.refuse("bad_time", np.isnan(time), lambda i: self._cell(i, names) + "a time")
        time = time - np.nanmin(time)
        far = time >= layout.period * 2**31
        self.refuse("bad_time", far, lambda i: self._cell(i, names) + "a time near the others")
        return time

    def numbers(self, names: list[str]) -> np.ndarray:
        """(n, columns) float64."""
        there = [name for name in names if name in self.table.frame]
        values = np.full((len(self.table.row), len(names)), np.nan)
        bad = np.zeros(values.shape, bool)
        places = [i for i, name in enumerate(names) if name in self.table.frame]
        values[:, places], bad[:, places] = columns.numbers(self.table, there)

        def message(i: int) -> str:
            name = names[bad[i].argmax()]
            return self._cell(i, [name]) + "a number" + _remedy(str(self.table.frame[name].iloc[i]), self.table)

        self.refuse("bad_number", np.asarray(bad.any(axis=1)), message)
        return values

    def states(self, names: list[str] | None, schema: Schema) -> np.ndarray | None:
        """(n,) 0..K-1; None if the recording has none."""
        if not names or names[0] not in self.table.frame or columns.is_missing(self.table.frame[names[0]]).all():
            return None
        words = state_words(schema)
        state = np.array([words.get(word, UNLABELLED) for word in words_of(self.table.frame[names[0]])], np.int64)
        expected = f"one of {', '.join(words)} (data.schema.states; a name, or the label of one)"
        self.refuse("bad_state", state == UNLABELLED, lambda i: self._cell(i, names) + expected)
        return state

    def sound(self, time: np.ndarray) -> np.ndarray:
        """Numbers of the sound rows in the order of their times."""
        if not self.keep.any():
            why = f"{self.dropped[0].where}: {self.dropped[0].message}" if self.dropped else "it has none"
            raise DataError(f"{self.path.name}: no usable row ({why})")
        return np.flatnonzero(self.keep)[np.argsort(time[self.keep], kind="stable")]


def _remedy(found: str, table: Table) -> str:
    if "," in found and "." in found:
        return "; write thousands without a separator"
    if "," in found:
        return "; write decimals with a point, or separate the columns with ;"
    if "." in found and table.separator:
        return "; other numbers of this file have a decimal comma, and a point may mean thousands: write all alike"
    return "; a blank cell stands for a missing value"


def state_words(schema: Schema) -> dict[str, int]:
    """What may stand for each state: its name or its label; also its number from 0, if no name or label is a number."""
    words = {word: k for k, state in enumerate(schema.states) for word in (state.label, state.name) if word}
    if any(re.fullmatch(r"-?\d+", word) for word in words):
        return words
    return words | {str(k): k for k in range(len(schema.states))}
