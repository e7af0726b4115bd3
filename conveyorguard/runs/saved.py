"""A run directory, read back. Reports, comparisons and ensembles read it and need no model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from conveyorguard.config.compose import is_tabular
from conveyorguard.config.records import R, SavedConfig
from conveyorguard.config.saved import alarm_settings, load_saved, merge_saved, plain_values
from conveyorguard.data.schema import Schema, modality_with
from conveyorguard.data.splits import Split
from conveyorguard.data.store import FORMAT
from conveyorguard.data.windows import WindowSettings, period_of
from conveyorguard.errors import RunError
from conveyorguard.metrics.alarm_settings import AlarmSettings
from conveyorguard.metrics.memory import Memory
from conveyorguard.metrics.scores import evaluate
from conveyorguard.runs import shapes, tables
from conveyorguard.runs.derive import as_predictions
from conveyorguard.system.files import damaged, read_json, read_parquet, refuse

# Earlier versions wrote narrower types; the same windows must compare as equal.
TYPES = {
    **dict.fromkeys(("y_true", "y_pred"), "int64"),
    **dict.fromkeys(("start", "end", "seconds_to_end"), "float64"),
    "seconds_since_onset": "float64",
}

Parted = TypeVar("Parted", shapes.Calibration, shapes.Alarms)  # of files with an entry for each part


class SavedRun:
    """A run directory, read back. Each file is checked against its shape (`shapes`, `tables`) when it is read.

    `settings` is the config as plain values, of which the common ones are properties; `config` is the same as a
    `DictConfig`, for code that composes, merges or reproduces configs.

    Args:
        folder: the run directory.
        lazily: read provenance, metrics and predictions when they are first used, so that a defect of one file does not
            hide those of the others; else at once.

    Raises:
        RunError: the folder is no run directory, the run is not finished, or a file holds an impossible value.
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
                f"{self.folder}: the run is not finished (status {status} in provenance.json); resume it with "
                "ckpt_path=RUN/checkpoints/last.ckpt, or train it again"
            )
        if not lazily:
            _ = self.provenance, self.window
            self._refuse_other_parts()

    def _refuse_other_parts(self) -> None:
        evaluated, predicted = list(self.metrics), list(self.predictions["split"].unique())
        if set(evaluated) != set(predicted):
            refuse(
                self.folder / "predictions.parquet",
                f"expected windows of {' and '.join(evaluated)}, as metrics.json has them, found those of "
                f"{' and '.join(predicted)}",
            )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The whole config as nested plain values."""
        return plain_values(self.config)

    @cached_property
    def _typed(self) -> SavedConfig:
        return SavedConfig.model_validate(self.settings)

    def setting(self, key: str) -> Any:
        """Return a value of the config by its dotted key; None if there is none."""
        value: Any = self.settings
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    @property
    def model_name(self) -> str:
        """Name of the model's yaml, or the class's where it was trained from Python."""
        return str(self._typed.model.name)

    @property
    def data_name(self) -> str:
        """Name of the data set."""
        return str(self._typed.data.name)

    @property
    def is_ensemble(self) -> bool:
        """Whether the run combines the predictions of others; such a run has no model and no training."""
        return self._typed.model.target is None

    @cached_property
    def is_tabular(self) -> bool:
        """Whether the model is a classifier of window features rather than a network."""
        return not self.is_ensemble and is_tabular(self.config)

    @property
    def modality(self) -> str:
        """'sensor', 'image' or 'both', as far as the data have them; 'mixed' for an ensemble of several."""
        return modality_with(self._typed.modality, bool(self.schema.channels), bool(self.schema.thermal))

    @property
    def film(self) -> bool | str:
        """Whether the model is conditioned on the environment that the data have; 'mixed' for an ensemble of both."""
        return self._typed.film if self.schema.environment else False

    @property
    def seed(self) -> int:
        """Seed of weights, shuffling and dropout."""
        return self._typed.seed

    @property
    def objective(self) -> str:
        """The metric that chose the best epoch, such as 'val/macro_f1'."""
        return self._typed.objective

    @property
    def window(self) -> WindowSettings:
        """Length, spacing and label rule of the windows.

        Raises:
            RunError: config.yaml holds an impossible value.
        """
        typed = self._typed.window
        block = {"label": typed.label, "thermal_frames": typed.thermal_frames, **self.settings["window"]}
        settings = WindowSettings.of(block, period_of(self.settings["data"]))
        refuse(self.folder / "config.yaml", "; ".join(settings.problems()) or None)
        return settings

    @property
    def alarm_settings(self) -> AlarmSettings:
        """What the run's config asks of alarms."""
        return alarm_settings(self.config)

    @property
    def wanted_parts(self) -> list[str]:
        """The parts of the split that the config asks to evaluate."""
        return ["val", "test"] if self._typed.test else ["val"]

    def merged(self, overrides: list[str]) -> dict[str, Any]:
        """Return the settings with value overrides and what follows from them; see `merge_saved`."""
        return plain_values(merge_saved(self.config, overrides, self.provenance))

    @cached_property
    def provenance(self) -> shapes.Provenance:
        """Where the run comes from and what it cost."""
        return self._read("provenance", shapes.Provenance)

    @cached_property
    def metrics(self) -> dict[str, shapes.Metrics]:
        """Metrics by part of the split, as metrics.json states them."""
        return self._read("metrics", shapes.SavedMetrics).parts

    @cached_property
    def calibration(self) -> shapes.Calibration | None:
        """The temperature and what it changed on each part; None for a run of an early version."""
        return self._of_each_part(self._read_if_there("calibration", shapes.Calibration))

    @cached_property
    def memory(self) -> Memory | None:
        """The memory that the deployed answer carries; None where the run has none."""
        saved = self._read_if_there("memory", shapes.SavedMemory)
        return Memory.of(saved.memory.plain()) if saved and saved.memory else None

    @cached_property
    def alarms(self) -> shapes.Alarms | None:
        """The operating point and what it means on each part; None for a run of an early version."""
        alarms = self._read_if_there("alarms", shapes.Alarms)
        return self._of_each_part(alarms) if alarms and alarms.operating_point else alarms

    @cached_property
    def ranges(self) -> shapes.Ranges | None:
        """Range of each input over the train seconds; None for an ensemble and for a run of an early version."""
        return self._read_if_there("ranges", shapes.Ranges)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per window, as predictions.parquet holds it."""
        path = self.folder / "predictions.parquet"
        table = read_parquet(path)
        refuse(path, tables.predictions_problem(table, len(self.schema.states)))
        return table.astype(TYPES)

    @property
    def data_fingerprint(self) -> str | None:
        """Fingerprint of the run's frame store; None if stores had another layout then and it cannot be compared."""
        store = self.provenance.store
        return store.fingerprint if store.format == FORMAT else None

    def rows(self, part: str) -> pd.DataFrame:
        """Return the predictions of a part of the split, sorted by session and start."""
        table = self.predictions[self.predictions["split"] == part]
        return table.sort_values(["session", "start"], ignore_index=True)

    def facts(self, name: str) -> Any:
        """Return the record of a file that a run may lack (calibration, alarms, ranges); empty if it does."""
        return getattr(self, name) or {}

    def _read(self, name: str, kind: type[R]) -> R:
        return shapes.read_record(self.folder / f"{name}.json", kind)

    def _read_if_there(self, name: str, kind: type[R]) -> R | None:
        return self._read(name, kind) if (self.folder / f"{name}.json").exists() else None

    def _of_each_part(self, record: Parted | None) -> Parted | None:
        """The record, if it has an entry for each part of metrics.json."""
        missing = [part for part in self.metrics if record and part not in record.parts]
        name = "calibration.json" if isinstance(record, shapes.Calibration) else "alarms.json"
        refuse(self.folder / name, f"expected parts.{missing[0]}, found none" if missing else None)
        return record

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """Metrics of the deployed answer by part, computed again from the predictions; pages show these."""
        parts = self.predictions.groupby("split", sort=False)
        return {str(part): evaluate(as_predictions(rows, self.answer), self.schema.state_names) for part, rows in parts}

    @cached_property
    def answer(self) -> str:
        """Prefix of the probabilities that pages show: c as deployed; p as trained for runs of earlier versions."""
        return "c" if self._read("metrics", shapes.SavedMetrics).now and "c0" in self.predictions else "p"

    @property
    def history(self) -> pd.DataFrame | None:
        """One row per epoch; None for a model that is not trained in epochs."""
        path, objective = self.folder / "history.csv", self.objective
        if not path.exists():
            return None
        table = tables.read_csv(path, {**tables.HISTORY, objective: "number"})
        refuse(path, None if table[objective].notna().any() else f"expected numbers in column {objective}, found none")
        return table

    @property
    def importance(self) -> pd.DataFrame | None:
        """One row per feature, the most useful first; None for a model that takes no features."""
        path = self.folder / "importance.csv"
        return tables.read_csv(path, tables.IMPORTANCE) if path.exists() else None

    @property
    def shortcuts(self) -> pd.DataFrame | None:
        """Predictions of the shortcut baselines on the run's windows; None if it has none."""
        path = self.folder / "shortcuts.parquet"
        if not path.exists():
            return None
        table = read_parquet(path)
        refuse(path, tables.predictions_problem(table, len(self.schema.states), tables.SHORTCUTS))
        table = table.astype(TYPES)
        place = ["split", "session", "start"]
        windows = self.predictions[place].sort_values(place, ignore_index=True)
        for name, rows in table.groupby("shortcut", sort=False):
            same = rows[place].sort_values(place, ignore_index=True).equals(windows)
            refuse(path, None if same else f"expected the windows of predictions.parquet for '{name}', found others")
        return table

    @cached_property
    def saved_split(self) -> shapes.SavedSplit:
        """The content of split.json."""
        return self._read("split", shapes.SavedSplit)

    @property
    def split(self) -> Split:
        """Sessions of each part of the split."""
        saved = self.saved_split
        return Split(saved.settings.plain(), saved.sessions, saved.note)

    @cached_property
    def schema(self) -> Schema:
        """Schema of the data that the run was trained on."""
        return Schema.from_config(self.settings["data"]["schema"])

    @property
    def examples(self) -> dict[str, np.ndarray]:
        """Arrays of `examples.npz` by name (`tables.EXAMPLES`); empty if the run has none."""
        path = self.folder / "examples.npz"
        if not path.exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError, BadZipFile) as error:  # ValueError: an array of pickled objects
            raise damaged(path, error) from error
        refuse(path, tables.examples_problem(arrays, len(self.schema.states)))
        return arrays
