"""A run directory, read back. Reports, comparison and ensembles read it and never a model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from conveyorguard.config.saved import load_saved, plain_values
from conveyorguard.data.schema import Schema
from conveyorguard.data.splits import Split
from conveyorguard.errors import RunError
from conveyorguard.metrics.scores import evaluate
from conveyorguard.runs import shapes as run_shapes
from conveyorguard.runs.derive import as_predictions
from conveyorguard.system.files import damaged, read_json, read_parquet, refuse


class SavedRun:
    """A run directory, read back. Every file is held against what it must hold (`run_shapes`) before it is used.

    Args:
        lazily: provenance, metrics and predictions are read when they are first asked for, as by who tells of each file
            by itself; else at once.

    Raises:
        RunError: it is not a run directory, or not a finished one, or a file of it is not what a run leaves.
    """

    def __init__(self, folder: str | Path, lazily: bool = False):
        self.folder = Path(folder)
        for name in ("config.yaml", "provenance.json", "metrics.json", "predictions.parquet"):
            if not (self.folder / name).is_file():
                raise RunError(
                    f"{self.folder}: no {name}; give the directory of a finished run (its last printed line)"
                )
        self.config = load_saved(self.folder / "config.yaml")
        facts = read_json(self.folder / "provenance.json")
        status = facts.get("status", "complete") if isinstance(facts, dict) else "complete"
        if status != "complete":
            raise RunError(
                f"{self.folder}: the run is not finished (status {status} in provenance.json); go on with "
                "ckpt_path=RUN/checkpoints/last.ckpt, or train it again"
            )
        if not lazily:
            _ = self.provenance
            wanted, found = list(self.metrics), list(self.predictions["split"].unique())
            if set(wanted) != set(found):
                refuse(
                    self.folder / "predictions.parquet",
                    f"expected windows of {' and '.join(wanted)}, as metrics.json has them, found those of "
                    f"{' and '.join(found)}",
                )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The config as nested plain values."""
        return plain_values(self.config)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return self._json("provenance", run_shapes.PROVENANCE)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return self._json("metrics", run_shapes.METRICS)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        path = self.folder / "predictions.parquet"
        table = read_parquet(path)
        refuse(path, run_shapes.predictions_problem(table, len(self.schema.states)))
        return table

    def _json(self, name: str, shape: Any) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        found = read_json(path)
        refuse(path, run_shapes.problem(found, shape))
        return found

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """What metrics.json says, computed anew from the predictions, by part; pages and comparisons show these
        figures."""
        parts = self.predictions.groupby("split", sort=False)
        return {str(part): evaluate(as_predictions(rows), self.schema.state_names) for part, rows in parts}

    @property
    def history(self) -> pd.DataFrame | None:
        """A row an epoch; None for a model that has no epochs."""
        path, objective = self.folder / "history.csv", self.config.objective
        if not path.exists():
            return None
        table = read_csv(path, {**run_shapes.HISTORY, objective: "number"})
        refuse(path, None if table[objective].notna().any() else f"expected numbers in column {objective}, found none")
        return table

    @property
    def importance(self) -> pd.DataFrame | None:
        """A row a feature, the most useful first; None for a model that is given no features."""
        path = self.folder / "importance.csv"
        return read_csv(path, run_shapes.IMPORTANCE) if path.exists() else None

    @property
    def shortcuts(self) -> pd.DataFrame | None:
        """Predictions of the shortcut baselines on the same windows."""
        path = self.folder / "shortcuts.parquet"
        if not path.exists():
            return None
        table = read_parquet(path)
        refuse(path, run_shapes.predictions_problem(table, len(self.schema.states), {"shortcut": "text"}))
        place = ["split", "session", "start"]
        own = self.predictions[place].sort_values(place, ignore_index=True)
        for name, rows in table.groupby("shortcut", sort=False):
            same = rows[place].sort_values(place, ignore_index=True).equals(own)
            refuse(path, None if same else f"expected the windows of predictions.parquet for '{name}', found others")
        return table

    @cached_property
    def saved_split(self) -> dict[str, Any]:
        """The content of split.json."""
        return self._json("split", run_shapes.SPLIT)

    @property
    def split(self) -> Split:
        return Split(*(self.saved_split[key] for key in ("settings", "sessions", "note")))

    @cached_property
    def schema(self) -> Schema:
        """Of the data the run was made on."""
        return Schema.from_config(OmegaConf.to_container(self.config.data.schema, resolve=True))  # type: ignore[arg-type]

    def facts(self, name: str) -> dict[str, Any]:
        """A json file of the directory (calibration, alarms, ranges); empty where the run has none."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return {}
        found = self._json(name, run_shapes.FACTS[name])
        if name == "calibration" or found.get("operating_point"):  # what it means on each part
            missing = [part for part in self.metrics if part not in found["parts"]]
            refuse(path, f"expected parts.{missing[0]}, found none" if missing else None)
        return found

    @property
    def examples(self) -> dict[str, np.ndarray]:
        path = self.folder / "examples.npz"
        if not path.exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = dict(arrays)
        except (
            OSError,
            ValueError,
            EOFError,
            BadZipFile,
        ) as error:  # ValueError: it holds objects, which nobody unpickles
            raise damaged(path, error) from error
        wanted = [*run_shapes.EXAMPLES, *(["thermal_seconds"] if "thermal" in found else [])]
        missing = [name for name in wanted if name not in found]
        refuse(path, f"expected arrays {', '.join(wanted)}, found no {', '.join(missing)}" if missing else None)
        known = all(np.isin(found[name], range(len(self.schema.states))).all() for name in ("y_true", "y_pred"))
        refuse(path, None if known else "expected states of the data in y_true and y_pred, found others")
        return found


def read_csv(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read a table of the given columns and their kinds (`run_shapes.KINDS`).

    Raises:
        RunError: the file is missing or damaged, or lacks rows or columns.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise damaged(path, error) from error
    refuse(path, run_shapes.table_problem(table, columns))
    return table
