"""The result of a comparison: arms on the same windows, figures with intervals, a conclusion by fixed rules."""

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

# config keys that do not change the model or its training data
NOT_THE_MODEL = ("seed", "threads", "test", "ckpt_path", "paths", "logger", "sweep", "hydra")
CELL_KEYS = ("modality", "film", "inputs")  # config keys that define a cell of the ablation
FACTS = ("fit_seconds", "parameters", "model_bytes", "latency_ms")  # read from a run's provenance
CHEAP_WITHIN = 0.005  # macro-F1: half a point
LEAD = Notation(".1f", 100)  # points, without a sign: a lead is never negative


@dataclass
class Row:
    """An arm of the comparison: a model in one configuration, with one or more seeds.

    Attributes:
        label: Name of the arm.
        cell: Cell of the ablation.
        model: Name of the model.
        runs: runs[seed][fold].
        predictions: One per seed, all on the same windows.
        resampling: Replicates shared by all arms.
        shortcut: Whether it is a shortcut baseline rather than a model.
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
        """The predictions, ready to be resampled."""
        return Arm(self.predictions, self.resampling)

    @cached_property
    def merged(self) -> Arm:
        """The same with all states between the first and the last merged into one."""
        return Arm([_merge(p) for p in self.predictions], self.resampling)

    def mean(self, metric: str) -> float:
        """Return a metric, averaged over seeds."""
        return float(self.arm.by_seed(metric).mean())

    def mean_fact(self, name: str) -> float:
        """Return the mean over runs of a number in their provenance; NaN if it is not recorded."""
        values = [run.provenance.get(name) for run in self.sources]
        known = [float(v) for v in values if v is not None]
        return float(np.mean(known)) if known else float("nan")

    def mean_validation(self, metric: str) -> float:
        """Return a metric on validation, averaged over seeds and folds; NaN for a shortcut."""
        values = [run.scores["val"][metric] for run in self.sources]
        return float(np.mean(values)) if values else float("nan")

    @property
    def validation(self) -> float:
        """Mean validation macro-F1, by which the arm is chosen."""
        return self.mean_validation("macro_f1")

    @property
    def sources(self) -> list[SavedRun]:
        """All runs of the arm."""
        return [run for folds in self.runs.values() for run in folds.values()]

    @property
    def family(self) -> str:
        """The config without modality and FiLM as text, equal for all cells of one ablation."""
        settings = model_settings(self.sources[0])
        return json.dumps({key: value for key, value in settings.items() if key not in CELL_KEYS}, sort_keys=True)


def model_settings(run: SavedRun) -> dict[str, Any]:
    """Return the settings that define a run's model and its training: without seed, fold, paths and the like."""
    settings = {key: value for key, value in run.settings.items() if key not in NOT_THE_MODEL}
    return {**settings, "split": {key: value for key, value in run.settings["split"].items() if key != "fold"}}


@dataclass
class Comparison:
    """Arms on the same windows.

    Attributes:
        rows: The arms.
        windows: One row per window: session, device, kind, start, end, y_true.
        part: test, or val if no run was evaluated on test.
        schema: Schema of the data.
        protocol: Sentence on data, split and windows.
        resampling: Replicates shared by all arms.
        notes: Sentences on runs that were left out or replaced.
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
        """The arms that are shortcut baselines."""
        return [row for row in self.rows if row.shortcut]

    @property
    def chosen(self) -> Row:
        """The arm with the highest validation macro-F1."""
        return max(self.models, key=lambda row: row.validation)

    @property
    def sensor_only(self) -> Row | None:
        """The reference of the ablation: the chosen arm's model with sensors alone, or None."""
        cell, model = CELLS["sensor", False], self.chosen.model
        return next((row for row in self.models if (row.cell, row.model) == (cell, model)), None)

    @property
    def ablations(self) -> list[dict[str, Row]]:
        """Groups of two or more arms that differ in modality and FiLM alone, by the name of their cell."""
        families: dict[str, dict[str, Row]] = {}
        for row in self.models:
            families.setdefault(row.family, {}).setdefault(row.cell, row)
        return [cells for cells in families.values() if len(cells) > 1]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per arm, models ranked first, then shortcuts.

        Columns are <metric>, <metric>_low, <metric>_high, <metric>_sd (over seeds) and figures from the provenance.
        """
        return pd.DataFrame([_facts(row) for row in [*self.models, *self.shortcuts]])

    def differences(self, reference: Row, metrics: Iterable[str] = ("accuracy", "macro_f1")) -> pd.DataFrame:
        """Return the paired difference of each model arm minus the reference, with interval and verdict."""
        rows = []
        for row in self.models:
            if row is reference:
                continue
            for name in metrics:
                d = row.arm.difference(reference.arm, name)
                rows.append([row.label, reference.label, name, d.value, d.low, d.high, d.verdict])
        return pd.DataFrame(rows, columns=["arm", "reference", "metric", "difference", "low", "high", "verdict"])

    def by_device(self) -> pd.DataFrame:
        """Return the accuracy of the models by device, see `breakdown.by_device`."""
        return breakdown.by_device(self.windows, {row.label: row.predictions for row in self.models})

    def conclusion(self) -> list[str]:
        """Return sentences by fixed rules: best arm, cheapest within half a point, safest, warnings about shortcuts."""
        sentences = [_best(self)]
        if len(self.models) > 1:
            sentences += [*_cheapest(self), _safest(self)]
        return [f"{sentence}." for sentence in [*sentences, *_shortcut_warnings(self)]]


def _facts(row: Row) -> dict[str, Any]:
    """Return a row of `Comparison.table`."""
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
    """Return a sentence on the arm with the highest macro-F1 and its lead over the next."""
    best, *others = comparison.models
    sentence = f"Best: {best.label}, macro-F1 {best.mean('macro_f1'):.3f}"
    if not others:
        return sentence
    lead = best.arm.difference(others[0].arm, "macro_f1")
    sentence += f", {LEAD.number(lead.value)} points above {others[0].label}"
    if not np.isfinite(lead.low):
        return sentence
    verdict = "which excludes zero" if lead.excludes_zero else "which includes zero: the lead is not shown"
    return f"{sentence} (95 % interval {LEAD.range(lead)}, {verdict})"


def _cheapest(comparison: Comparison) -> list[str]:
    """Return a sentence on the arm that trained fastest within half a point of the best; none without times."""
    best = comparison.models[0].mean("macro_f1")
    seconds = {
        row.label: row.mean_fact("fit_seconds")
        for row in comparison.models
        if best - row.mean("macro_f1") <= CHEAP_WITHIN and np.isfinite(row.mean_fact("fit_seconds"))
    }
    if not seconds:
        return []
    label = min(seconds, key=seconds.__getitem__)
    return [f"Fastest to train within half a point of the best: {label}, {seconds[label]:.1f} s"]


def _safest(comparison: Comparison) -> str:
    """Return a sentence on the arm that misses the fewest sessions with the worst state.

    Of several, it is the arm that predicts the fewest windows of the worst state as the first state.
    """
    row = min(
        comparison.models,
        key=lambda r: (r.mean("severe_sessions_missed"), r.mean("severe_as_normal"), -r.mean("severe_recall")),
    )
    first, *_, worst = comparison.schema.state_names
    return (
        f"Safest: {row.label}, {row.mean('severe_sessions_missed'):.3g} sessions with no {worst} window recognised, "
        f"{row.mean('severe_as_normal'):.3g} {worst} windows predicted as {first}, {worst} recall "
        f"{row.mean('severe_recall'):.3f}"
    )


def _shortcut_warnings(comparison: Comparison) -> list[str]:
    """Return a warning for each shortcut over which the best arm has no shown lead."""
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
    """Merge the states between the first and the last, so that three remain."""
    states = p.p.shape[1]
    to = np.clip(np.arange(states), 0, 1) + (np.arange(states) == states - 1) if states > 2 else np.arange(states)
    merged = np.zeros((len(p.p), int(to.max()) + 1))
    for k in range(states):
        merged[:, to[k]] += p.p[:, k]
    return Predictions(to[p.y_true], merged, p.session)
