"""Apply an ensemble to sessions: its members predict, and their probabilities are combined as on validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.data.store import Store
from conveyorguard.errors import RunError
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.metrics.stacking import StackingWeights
from conveyorguard.runs.saved import SavedRun


class LoadedEnsemble(LoadedRun):
    """An ensemble whose members are loaded from the paths that it recorded, ready to be applied.

    Args:
        folder: the directory of a strategy, such as `weighted`, or the run already opened.

    Attributes:
        members: the loaded members.

    Raises:
        RunError: a member is missing or has no model, or the ensemble is of a version that recorded no paths.
    """

    def __init__(self, folder: str | Path | SavedRun):
        super().__init__(folder)
        self.ranges = {name: values for member in self.members for name, values in member.ranges.items()}

    def _load(self) -> None:
        facts = self.run.provenance
        paths = facts.get("member_paths")
        if not paths:
            raise RunError(
                f"{self.run.folder}: the ensemble does not record where its members are; combine them again with "
                "python -m conveyorguard ensemble RUN RUN"
            )
        self.members = [load_any(self._member(path)) for path in paths]
        self.inputs = list(dict.fromkeys(name for member in self.members for name in member.inputs))
        self.stacking = StackingWeights.of(facts["stacking"]) if facts.get("stacking") else None
        self.weights = facts.get("weights") or [1.0] * len(self.members)

    def _member(self, path: str) -> Path:
        """Return the directory of a member, recorded relative to that of the ensemble."""
        folder = self.run.folder.resolve() / path
        if not (folder / "config.yaml").is_file():
            raise RunError(
                f"{self.run.folder}: its member {folder.name} is missing; it was at {folder}. Move it back, or combine "
                "the runs again"
            )
        return folder

    @property
    def parts(self) -> list[LoadedRun]:
        """The runs with a model of which this one consists."""
        return [part for member in self.members for part in member.parts]

    @property
    def from_start(self) -> bool:
        """Whether the prediction for a window also depends on the start of its session."""
        return any(member.from_start for member in self.members)

    def probabilities(self, store: Store, windows: pd.DataFrame) -> np.ndarray:
        """Return the combined probabilities (n, K) of windows of a store, whose gaps are bridged."""
        p = np.stack([member.probabilities(store, windows) for member in self.members])
        if self.stacking:
            return self.stacking.combine(p).astype(np.float32)
        return np.average(p, axis=0, weights=self.weights).astype(np.float32)


def load_any(folder: str | Path) -> LoadedRun:
    """Load a trained run or an ensemble.

    Raises:
        RunError: the directory is not that of a finished run, or it or a member has no model.
    """
    run = SavedRun(folder)
    return LoadedEnsemble(run) if run.is_ensemble else LoadedRun(run)
