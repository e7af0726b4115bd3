"""What `best` is going to train, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conveyorguard.evaluation.choice import ModelChoice
from conveyorguard.metrics.intervals import Interval
from conveyorguard.runs.saved import SavedRun

HALF = "half of the devices"  # of the learning curve


@dataclass(frozen=True)
class SearchPlan:
    """What is trained, fixed before the first training.

    Attributes:
        candidates: name and overrides of each, cheapest in use first.
        left_out: names of those that do not fit into the minutes.
        seconds: expected time of all folds, by candidate.
        overrides: of the user, without modality= and film=.
        base: overrides that describe the split which decides what is test.
        folds: their number.
        unit: what a fold holds out: device, recording or time.
        threads: of each training.
        minutes: the budget.
        data: fingerprint of the data.
        code: digest of the package.
    """

    candidates: list[dict[str, Any]]
    left_out: list[str]
    seconds: dict[str, float]
    overrides: list[str]
    base: list[str]
    folds: int
    unit: str
    threads: int
    minutes: float
    data: str
    code: str

    def split(self, fold: int | None, runs: Path | None = None) -> list[str]:
        """Return the overrides of the split of a fold, or of the model that is trained on all."""
        place = [f"split.fold={'null' if fold is None else fold}", f"split.n_folds={self.folds}"]
        return ["split=out_of_fold", *self.base, *place, *([f"split.runs='{runs}'"] if runs else [])]


@dataclass(frozen=True)
class Result:
    """What `best` found.

    Attributes:
        folder: that holds it all.
        plan: what was to be trained.
        choice: of a candidate, and why.
        curve: macro-F1 out of fold of the chosen candidate on half of the devices and on all, with the paired
            difference; None where there is none.
        model: run of the chosen candidate, trained on all of train and validation.
        seconds: spent in the trainings of all folds, by candidate.
        data_name: of the data set.
    """

    folder: Path
    plan: SearchPlan
    choice: ModelChoice
    curve: tuple[Interval, Interval, Interval] | None
    model: SavedRun
    seconds: dict[str, float]
    data_name: str
