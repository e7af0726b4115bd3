"""The normalised geometric mean of boosted and of extremely randomised trees."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.errors import RunError
from conveyorguard.models.tabular import ExtraTrees, LightGBM, Tabular

SMALLEST = 1e-6  # a probability below it is taken as it, so that one member cannot veto a state
LARGEST = 2**31  # bytes of a member


class LogMean(Tabular):
    """Mean of the log-probabilities of `LightGBM` and `ExtraTrees`, with their default settings.

    A geometric mean is below the arithmetic one wherever the members disagree, so that it is less sure there (a product
    of experts: Hinton, 2002). The checkpoint is a zip archive of the members' own files.
    """

    FILE = "best.zip"

    def __init__(
        self, schema: Schema, seed: int, threads: int, class_weight: str = "balanced", n_estimators: int = 300
    ):
        super().__init__(schema, seed, threads, class_weight)
        self.members: dict[str, Tabular] = {
            "lightgbm.txt": LightGBM(schema, seed, threads, class_weight, n_estimators),
            "extra_trees.skops": ExtraTrees(schema, seed, threads, class_weight, n_estimators),
        }

    def fit(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        for member in self.members.values():
            member.fit(x, y, weight)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return log_mean([member.probabilities(x) for member in self.members.values()])

    def save(self, path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, member in self.members.items():
                member.save(Path(folder) / name)
                archive.write(Path(folder) / name, name)

    def load(self, path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if set(sizes) != set(self.members) or max(sizes.values()) > LARGEST:
                raise RunError(
                    f"{path}: expected {' and '.join(self.members)}, found {', '.join(sorted(sizes)) or 'nothing'}; "
                    "train the model again"
                )
            for name, member in self.members.items():
                (Path(folder) / name).write_bytes(archive.read(name))
                member.load(Path(folder) / name)

    def gain(self) -> np.ndarray:
        return np.mean([member.gain() for member in self.members.values()], axis=0)


def log_mean(probabilities: list[np.ndarray]) -> np.ndarray:
    """Return the normalised geometric mean (n, K) of probabilities (n, K) each."""
    mean = np.exp(np.mean([np.log(np.clip(p, SMALLEST, 1)) for p in probabilities], axis=0))
    return mean / mean.sum(axis=1, keepdims=True)
