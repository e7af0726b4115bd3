"""A run directory, read back. Reports, comparison and ensembles read it and never a model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from conveyorguard.config.compose import is_tabular
from conveyorguard.config.saved import load_saved, merge_saved, plain_values
from conveyorguard.data.schema import Schema
from conveyorguard.data.splits import Split
from conveyorguard.data.store import FORMAT
from conveyorguard.data.windows import WindowSettings
from conveyorguard.errors import RunError
from conveyorguard.metrics.scores import evaluate
from conveyorguard.runs import shapes as run_shapes
from conveyorguard.runs.derive import as_predictions
from conveyorguard.system.files import damaged, read_json, read_parquet, refuse

# runs of earlier code have narrower ones: the same windows must compare as the same
TYPES = {
    **dict.fromkeys(("start", "end", "seconds_to_end", "y_true", "y_pred"), "int64"),
    "seconds_since_onset": "float64",
}


class SavedRun:
    """A run directory, read back. Every file is held against what it must hold (`run_shapes`) before it is used.

    `settings` is its config as plain values, of which the common ones are properties; `config` is the same for what
    composes, merges or reproduces configs.

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
        """The whole config as nested plain values."""
        return plain_values(self.config)

    def setting(self, key: str) -> Any:
        """A value of the config by its dotted key, None where there is none."""
        value: Any = self.settings
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    @property
    def model_name(self) -> str:
        return str(self.settings["model"].get("name", "model"))

    @property
    def data_name(self) -> str:
        return str(self.settings["data"]["name"])

    @property
    def is_ensemble(self) -> bool:
        """Whether the run combines others, and has neither a model nor a training of its own."""
        return "_target_" not in self.settings["model"]

    @cached_property
    def is_tabular(self) -> bool:
        """Whether its model is an estimator of window features rather than a network."""
        return not self.is_ensemble and is_tabular(self.config)

    @property
    def modality(self) -> str:
        """'sensor', 'image' or 'both'; 'mixed' for an ensemble of several."""
        return str(self.settings["modality"])

    @property
    def film(self) -> bool | str:
        """Whether the model is conditioned on the environment; 'mixed' for an ensemble of both."""
        return self.settings["film"]

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def objective(self) -> str:
        """The metric by which the best epoch was chosen, e.g. 'val/macro_f1'."""
        return str(self.settings["objective"])

    @property
    def window(self) -> WindowSettings:
        return WindowSettings(**self.settings["window"])

    @property
    def wanted_parts(self) -> list[str]:
        """The parts of the split that the run was to be evaluated on."""
        return ["val", "test"] if self.settings.get("test", True) else ["val"]

    def merged(self, overrides: list[str]) -> dict[str, Any]:
        """The settings with value overrides, and with what follows from them: `merge_saved`."""
        return plain_values(merge_saved(self.config, overrides, self.provenance))

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
        return table.astype(TYPES)

    @property
    def data_fingerprint(self) -> str | None:
        """Of the store that the run was made on; None where stores had another layout then, so that it says nothing."""
        store = self.provenance["store"]
        return store["fingerprint"] if store.get("format") == FORMAT else None

    def rows(self, part: str) -> pd.DataFrame:
        """The predictions of a part of the split, in the order of session and start."""
        table = self.predictions[self.predictions["split"] == part]
        return table.sort_values(["session", "start"], ignore_index=True)

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
        path, objective = self.folder / "history.csv", self.objective
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
        table = table.astype(TYPES)
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
        return Schema.from_config(self.settings["data"]["schema"])

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
        except (OSError, ValueError, EOFError, BadZipFile) as error:  # ValueError: objects, which nobody unpickles
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
