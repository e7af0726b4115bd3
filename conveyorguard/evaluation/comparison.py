"""What a comparison holds: arms over the same windows, every figure with its interval, a conclusion by fixed rules."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.evaluation import breakdown
from conveyorguard.evaluation.cells import CELLS
from conveyorguard.metrics.bootstrap import Arm, Resampling
from conveyorguard.metrics.notation import Notation
from conveyorguard.metrics.scores import METRICS, Predictions
from conveyorguard.runs.saved import SavedRun

# config keys that say where, how long or how a run was logged, not what it learns from what
NOT_THE_MODEL = ("seed", "threads", "test", "ckpt_path", "paths", "logger", "sweep", "hydra")
CELL_KEYS = ("modality", "film", "inputs")  # what makes a cell of the ablation
FACTS = ("fit_seconds", "parameters", "model_bytes", "latency_ms")  # of a run's provenance
CHEAP_WITHIN = 0.005  # macro-F1: half a point
LEAD = Notation(".1f", 100)  # points that are never below zero


@dataclass
class Row:
    """An arm of the comparison: a model in one configuration, by one or more seeds.

    runs: by seed, by fold. predictions: one a seed, over the same windows. shortcut: a rule of thumb, no model.
    """

    label: str
    cell: str
    model: str
    runs: dict[int, dict[int, SavedRun]]
    predictions: list[Predictions]
    resampling: Resampling
    shortcut: bool = False

    @cached_property
    def arm(self) -> Arm:
        return Arm(self.predictions, self.resampling)

    @cached_property
    def merged(self) -> Arm:
        """The arm with all states between the first and the last taken as one."""
        return Arm([_merge(p) for p in self.predictions], self.resampling)

    def mean(self, metric: str) -> float:
        """The metric, seeds averaged."""
        return float(self.arm.by_seed(metric).mean())

    def mean_fact(self, name: str) -> float:
        """Mean over the runs of a number in their provenance, NaN where it is not recorded."""
        values = [run.provenance.get(name) for run in self.sources]
        known = [float(v) for v in values if v is not None]
        return float(np.mean(known)) if known else float("nan")

    def mean_validation(self, metric: str) -> float:
        """Mean of a metric on validation, over seeds and folds; NaN for a shortcut."""
        values = [run.scores["val"][metric] for run in self.sources]
        return float(np.mean(values)) if values else float("nan")

    @property
    def validation(self) -> float:
        """Mean validation macro-F1: what choosing uses."""
        return self.mean_validation("macro_f1")

    @property
    def sources(self) -> list[SavedRun]:
        """The runs of everything in the row."""
        return [run for folds in self.runs.values() for run in folds.values()]

    @property
    def family(self) -> str:
        """What the arm has in common with the other cells of its ablation: the config but for modality and film."""
        settings = model_settings(self.sources[0])
        return json.dumps({key: value for key, value in settings.items() if key not in CELL_KEYS}, sort_keys=True)


def model_settings(run: SavedRun) -> dict[str, Any]:
    """The settings that make a run's model what it is: not its seed, its fold, or where things lie."""
    settings = {key: value for key, value in run.settings.items() if key not in NOT_THE_MODEL}
    return {**settings, "split": {key: value for key, value in run.settings["split"].items() if key != "fold"}}


@dataclass
class Comparison:
    """Arms over the same windows.

    windows: one row a window: session, device, kind, start, end, y_true. part: test, or val where no run was tested.
    """

    rows: list[Row]
    windows: pd.DataFrame
    part: str
    schema: Schema
    protocol: str
    resampling: Resampling
    notes: list[str] = field(default_factory=list)

    @property
    def data(self) -> str:
        """Name of the data set."""
        return str(self.models[0].sources[0].data_name)

    @property
    def models(self) -> list[Row]:
        """The arms that are models, best macro-F1 first."""
        return sorted((row for row in self.rows if not row.shortcut), key=lambda row: -row.mean("macro_f1"))

    @property
    def shortcuts(self) -> list[Row]:
        """The arms that are rules of thumb."""
        return [row for row in self.rows if row.shortcut]

    @property
    def chosen(self) -> Row:
        """The best arm on validation."""
        return max(self.models, key=lambda row: row.validation)

    @property
    def sensor_only(self) -> Row | None:
        """The arm the ablation is measured against: of the chosen one's model, sensors alone."""
        cell, model = CELLS["sensor", False], self.chosen.model
        return next((row for row in self.models if (row.cell, row.model) == (cell, model)), None)

    @property
    def ablations(self) -> list[dict[str, Row]]:
        """Arms that differ in modality and film alone, by the name of their cell; those that come in several cells."""
        families: dict[str, dict[str, Row]] = {}
        for row in self.models:
            families.setdefault(row.family, {}).setdefault(row.cell, row)
        return [cells for cells in families.values() if len(cells) > 1]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row an arm, models ranked first; metric, metric_low, metric_high, metric_sd (over seeds), and the run's
        facts."""
        return pd.DataFrame([_facts(row) for row in [*self.models, *self.shortcuts]])

    def differences(self, reference: Row, metrics: Iterable[str] = ("accuracy", "macro_f1")) -> pd.DataFrame:
        """Each model arm minus the reference, paired, with interval and verdict."""
        rows = []
        for row in self.models:
            if row is reference:
                continue
            for name in metrics:
                d = row.arm.difference(reference.arm, name)
                rows.append([row.label, reference.label, name, d.value, d.low, d.high, d.verdict])
        return pd.DataFrame(rows, columns=["arm", "reference", "metric", "difference", "low", "high", "verdict"])

    def by_device(self) -> pd.DataFrame:
        """`breakdown.by_device` of the models."""
        return breakdown.by_device(self.windows, {row.label: row.predictions for row in self.models})

    def conclusion(self) -> list[str]:
        """What the numbers say, by fixed rules: best, cheapest within half a point, safest, and whether shortcuts do as
        well."""
        sentences = [_best(self)]
        if len(self.models) > 1:
            sentences += [*_cheapest(self), _safest(self)]
        return [f"{sentence}." for sentence in [*sentences, *_shortcut_warnings(self)]]


def _facts(row: Row) -> dict[str, Any]:
    """A row of `Comparison.table`."""
    facts: dict[str, Any] = {
        "arm": row.label,
        "cell": row.cell,
        "model": row.model,
        "shortcut": row.shortcut,
        "seeds": len(row.predictions),
        "runs": " ".join(run.folder.resolve().name for run in row.sources),
    }
    for name in METRICS:
        seeds = row.arm.by_seed(name)
        facts |= row.arm.interval(name).columns(name)
        facts[f"{name}_sd"] = float(seeds.std(ddof=1)) if len(seeds) > 1 else np.nan
    for name in ("accuracy", "macro_f1"):
        facts |= row.merged.interval(name).columns(f"merged_{name}")
    facts |= {name: row.mean_fact(name) for name in FACTS}
    return facts | {f"validation_{name}": row.mean_validation(name) for name in ("macro_f1", "accuracy")}


def _best(comparison: Comparison) -> str:
    """The arm with the highest macro-F1, and whether its lead over the next is shown."""
    best, *others = comparison.models
    sentence = f"Best: {best.label}, macro-F1 {best.mean('macro_f1'):.3f}"
    if not others:
        return sentence
    lead = best.arm.difference(others[0].arm, "macro_f1")
    sentence += f", {LEAD.number(lead.value)} points above {others[0].label}"
    if not np.isfinite(lead.low):
        return sentence
    shown = "shown" if lead.excludes_zero else "not shown: the interval includes zero"
    return f"{sentence} ({LEAD.range(lead)}): its lead is {shown}"


def _cheapest(comparison: Comparison) -> list[str]:
    """The arm within half a point of the best that took the least time to train, where times are known."""
    best = comparison.models[0].mean("macro_f1")
    seconds = {
        row.label: row.mean_fact("fit_seconds")
        for row in comparison.models
        if best - row.mean("macro_f1") <= CHEAP_WITHIN and np.isfinite(row.mean_fact("fit_seconds"))
    }
    if not seconds:
        return []
    label = min(seconds, key=seconds.__getitem__)
    return [f"Cheapest within half a point of it: {label}, {seconds[label]:.1f} s of training"]


def _safest(comparison: Comparison) -> str:
    """The arm that misses the fewest sessions, then windows, of the worst state."""
    row = min(
        comparison.models,
        key=lambda r: (r.mean("severe_sessions_missed"), r.mean("severe_as_normal"), -r.mean("severe_recall")),
    )
    first, *_, worst = comparison.schema.state_names
    return (
        f"Safest: {row.label}, {row.mean('severe_sessions_missed'):.3g} sessions whose {worst} state was missed "
        f"entirely, {row.mean('severe_as_normal'):.3g} {worst} windows called {first}, {worst} recall "
        f"{row.mean('severe_recall'):.3f}"
    )


def _shortcut_warnings(comparison: Comparison) -> list[str]:
    """A warning for each shortcut that the best arm is not shown to be better than."""
    best = comparison.models[0]
    leads = {row.label: best.arm.difference(row.arm, "macro_f1") for row in comparison.shortcuts}
    if leads and not any(np.isfinite(lead.low) for lead in leads.values()):
        count = len(comparison.resampling.sessions)
        return [f"Warning: {count} sessions are too few to show that {best.label} is better than a shortcut"]
    return [
        f"Warning: {best.label} is not shown to be better than the shortcut '{name}'"
        for name, lead in leads.items()
        if not lead.low > 0
    ]


def _merge(p: Predictions) -> Predictions:
    """First, middle and last state."""
    states = p.p.shape[1]
    to = np.clip(np.arange(states), 0, 1) + (np.arange(states) == states - 1) if states > 2 else np.arange(states)
    merged = np.zeros((len(p.p), int(to.max()) + 1))
    for k in range(states):
        merged[:, to[k]] += p.p[:, k]
    return Predictions(to[p.y_true], merged, p.session)
