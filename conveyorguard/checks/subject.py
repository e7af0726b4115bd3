"""What is checked, a run directory, and what the checks share: verdicts, tolerances, comparison of plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.splits import Split
from conveyorguard.data.windows import Windows
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.saved import SavedRun
from conveyorguard.runs.shapes import SavedSplit

SAME = 1e-6  # relative, of figures computed again from the same numbers
SAME_MODEL = 1e-4  # of probabilities of the same model on another machine


class Failed(Exception):
    """A check did not hold."""

    def __init__(self, expected: str, found: str):
        super().__init__(f"expected {expected}, found {found}")


class NotChecked(Exception):
    """A check has nothing to look at, for a reason."""


class Subject:
    """A run directory with what its checks need, each read when it is first asked for."""

    def __init__(self, folder: str | Path, overrides: list[str] | None = None):
        self.run = SavedRun(folder, lazily=True)  # a file that is not what it should be fails the checks that need it
        self.overrides = overrides or []

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's config with the overrides, as nested plain values."""
        return self.run.merged(self.overrides)

    @property
    def saved_split(self) -> SavedSplit:
        return self.run.saved_split

    @cached_property
    def windows_today(self) -> Windows:
        """The windows and the split as the run's config makes them today."""
        return load_windows(self.settings)

    @cached_property
    def data(self) -> Windows:
        """The windows as the run's config makes them today, with the parts of the split as saved."""
        data = self.windows_today
        split = Split(data.split.settings, self.saved_split.sessions, data.split.note)
        return replace(data, split=split, frame=data.frame.assign(part=split.part_of(data.frame["session"])))

    @cached_property
    def loaded(self) -> LoadedRun:
        if self.run.is_ensemble:
            raise NotChecked("there is no model in the run directory, as in that of an ensemble")
        return LoadedRun(self.run)

    @property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The saved predictions of each part."""
        table = self.run.predictions
        return {str(part): table[table["split"] == part].reset_index(drop=True) for part in table["split"].unique()}


def must_equal(file: str, expected: Any, found: Any) -> None:
    """Fail where two trees of plain values differ by more than rounding, naming the first place."""
    differences = list(_differences(expected, found, ""))
    if differences:
        place, want, have = differences[0]
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise Failed(f"{place or 'content'} = {want} in {file}", f"{have}{more}")


def _differences(expected: Any, found: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two trees of plain values differ by more than rounding: (place, expected, found)."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in [*expected, *(key for key in found if key not in expected)]:
            yield from _differences(expected.get(key), found.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for i, pair in enumerate(zip(expected, found, strict=True)):
            yield from _differences(*pair, f"{place}[{i}]")
    elif isinstance(expected, float) and isinstance(found, int | float):
        if not np.isclose(expected, found, rtol=SAME, atol=1e-9):
            yield place, expected, found
    elif expected != found:
        yield place, expected, found


def difference_of(wanted: set, found: set, where: str) -> str:
    """What is missing from a set and what is too much in it, a few names of each."""
    missing, more = sorted(map(str, wanted - found)), sorted(map(str, found - wanted))
    sentences = [f"missing {some(missing)}"] if missing else []
    return "; ".join([*sentences, *([f"not {where}: {some(more)}"] if more else [])])


def some(names: Iterable[Any]) -> str:
    """The first three names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
