"""The run directory under check, and what checks share: verdicts, tolerances, comparison of plain values."""

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
from conveyorguard.runs.out_of_fold import is_out_of_fold
from conveyorguard.runs.saved import SavedRun
from conveyorguard.runs.shapes import SavedSplit

SAME = 1e-6  # relative tolerance of figures recomputed from the same numbers
SAME_MODEL = 1e-4  # tolerance of probabilities of the same model on another machine


class Failed(Exception):
    """A check failed.

    Args:
        expected: what should be there.
        actual: what is there.
    """

    def __init__(self, expected: str, actual: str):
        super().__init__(f"expected {expected}, found {actual}")


class NotChecked(Exception):
    """A check cannot be made; the message says why."""


class Subject:
    """A run directory with what its checks need, each part read when first used.

    Args:
        folder: the run directory.
        overrides: of the run's config, for example where its recordings are now (data.root=...).
    """

    def __init__(self, folder: str | Path, overrides: list[str] | None = None):
        self.run = SavedRun(folder, lazily=True)  # a damaged file fails only the checks that need it
        self.overrides = overrides or []

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's config with the overrides, as nested plain values."""
        return self.run.merged(self.overrides)

    @property
    def saved_split(self) -> SavedSplit:
        """Content of split.json."""
        return self.run.saved_split

    @cached_property
    def windows_today(self) -> Windows:
        """Windows and split as the run's config gives them today."""
        return load_windows(self.settings)

    @cached_property
    def data(self) -> Windows:
        """Windows as the run's config gives them today, in the parts of the saved split."""
        data = self.windows_today
        split = Split(data.split.settings, self.saved_split.sessions, data.split.note)
        return replace(data, split=split, frame=data.frame.assign(part=split.part_of(data.frame["session"])))

    @property
    def out_of_fold(self) -> bool:
        """Whether the model was trained on validation too, which the runs of folds predict."""
        return is_out_of_fold(self.saved_split["settings"])

    @cached_property
    def loaded(self) -> LoadedRun:
        """The run with its model."""
        if self.run.is_ensemble:
            raise NotChecked("the run directory is that of an ensemble and holds no model")
        return LoadedRun(self.run)

    @property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The saved predictions of each part."""
        table = self.run.predictions
        return {str(part): table[table["split"] == part].reset_index(drop=True) for part in table["split"].unique()}


def must_equal(file: str, expected: Any, actual: Any) -> None:
    """Compare two trees of plain values, up to rounding.

    Args:
        file: the file that holds the second, for the message.
        expected: what the tree should be.
        actual: what it is.

    Raises:
        Failed: they differ; it names the first difference.
    """
    differences = list(_differences(expected, actual, ""))
    if differences:
        place, wanted, actual = differences[0]
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise Failed(f"{place or 'content'} = {wanted} in {file}", f"{actual}{more}")


def _differences(expected: Any, actual: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield where two trees of plain values differ by more than rounding: place, expected and actual value."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key in [*expected, *(key for key in actual if key not in expected)]:
            yield from _differences(expected.get(key), actual.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for i, pair in enumerate(zip(expected, actual, strict=True)):
            yield from _differences(*pair, f"{place}[{i}]")
    elif isinstance(expected, float) and isinstance(actual, int | float):
        if not np.isclose(expected, actual, rtol=SAME, atol=1e-9):
            yield place, expected, actual
    elif expected != actual:
        yield place, expected, actual


def difference_of(wanted: set, actual: set, where: str) -> str:
    """Return which names are missing from a set and which are extra, a few of each.

    Args:
        wanted: the expected set.
        actual: the actual set.
        where: what the extra names do not belong to, as in 'in the split'.
    """
    missing, extra = sorted(map(str, wanted - actual)), sorted(map(str, actual - wanted))
    sentences = [f"missing {some(missing)}"] if missing else []
    return "; ".join([*sentences, *([f"not {where}: {some(extra)}"] if extra else [])])


def some(names: Iterable[Any]) -> str:
    """Return the first three names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
