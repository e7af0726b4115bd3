"""The result of a comparison: arms on the same windows, figures with intervals, a conclusion by fixed rules."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.evaluation import breakdown
from conveyorguard.evaluation.cells import CELLS
from conveyorguard.metrics.intervals import Interval, non_inferiority, verdicts
from conveyorguard.metrics.notation import PERCENT, POINTS, Notation
from conveyorguard.metrics.resampling import Arm, Resampling
from conveyorguard.metrics.scores import METRICS, Predictions
from conveyorguard.runs.saved import SavedRun

# config keys that do not change the model or its training data
NOT_THE_MODEL = ("seed", "threads", "test", "ckpt_path", "paths", "logger", "sweep", "hydra")
CELL_KEYS = ("modality", "film", "inputs")  # config keys that define a cell of the ablation
FACTS = ("fit_seconds", "parameters", "model_bytes", "latency_ms")  # read from a run's provenance
CHEAP_WITHIN = 0.005  # macro-F1: half a point
PRECISE = 0.5  # least precision of the worst state on validation of a model that can be the safest
SPREAD = Notation(".1f", 100)  # points, without a sign


@dataclass
class Row:
    """An arm of the comparison: a model in one configuration, with one or more seeds.

    Attributes:
        label: Name of the arm.
        cell: Cell of the ablation.
        model: Name of the model.
        runs: runs[seed][fold].
        predictions: One per seed, all on the same windows.
        resampling: Groups of sessions, shared by all arms.
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
        """The predictions, ready for intervals."""
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
        """Return a metric on validation, averaged over seeds and folds; NaN for a shortcut, or where it is unknown."""
        values = [run.scores["val"][metric] for run in self.sources]
        return float("nan") if not values or None in values else float(np.mean(values))

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
        resampling: Groups of sessions, shared by all arms.
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
        """The arms that are models, best macro-F1 on validation first."""
        return sorted((row for row in self.rows if not row.shortcut), key=lambda row: -row.validation)

    @property
    def shortcuts(self) -> list[Row]:
        """The arms that are shortcut baselines."""
        return [row for row in self.rows if row.shortcut]

    @property
    def chosen(self) -> Row:
        """The arm with the highest validation macro-F1."""
        return self.models[0]

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

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The paired differences of accuracy and macro-F1 to sensors alone and to the arm chosen on validation.

        The verdicts are those after Holm's correction for the number of rows.

        Columns are arm, reference, metric, difference, low, high, verdict.
        """
        references = {id(row): row for row in (self.sensor_only, self.chosen) if row is not None}.values()
        pairs = [
            (row, reference, name)
            for reference in references
            for row in self.models
            for name in ("accuracy", "macro_f1")
            if row is not reference
        ]
        differences = [row.arm.difference(reference.arm, name) for row, reference, name in pairs]
        table = [
            [row.label, reference.label, name, d.value, d.low, d.high, verdict]
            for (row, reference, name), d, verdict in zip(pairs, differences, verdicts(differences), strict=True)
        ]
        return pd.DataFrame(table, columns=["arm", "reference", "metric", "difference", "low", "high", "verdict"])

    def by_device(self) -> pd.DataFrame:
        """Return the accuracy of the models by device, see `breakdown.by_device`."""
        return breakdown.by_device(self.windows, {row.label: row.predictions for row in self.models})

    def conclusion(self) -> list[str]:
        """Return sentences by fixed rules: winner, fastest that is as good, safest, spread of seeds, shortcuts."""
        sentences = [_winner(self)]
        if len(self.models) > 1:
            sentences += [_fastest(self), _safest(self)]
        return [f"{sentence}." for sentence in [*sentences, *_retraining(self), *_shortcut_warnings(self)] if sentence]


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


def _winner(comparison: Comparison) -> str:
    """Return a sentence on the arm chosen on validation: a winner if its lead over every other is shown on test."""
    chosen, *others = comparison.models
    score = f"macro-F1 {chosen.mean('macro_f1'):.3f} on {_part(comparison)}"
    if not others:
        return f"{chosen.label}: {score}"
    reason = _no_winner(comparison)
    if reason:
        return f"No winner: {reason}. Highest macro-F1 on validation: {chosen.label}, {score}"
    closest = max(others, key=lambda row: row.mean("macro_f1"))
    lead = chosen.arm.difference(closest.arm, "macro_f1")
    return (
        f"Best: {chosen.label}, chosen on validation, {score}; its lead over each other model is shown, the least "
        f"{POINTS.with_range(lead)} points over {closest.label}"
    )


def _no_winner(comparison: Comparison) -> str:
    """Say why the arm chosen on validation is no winner; empty if it is."""
    if comparison.part == "val":
        return "no run was evaluated on test"
    if comparison.resampling.shortage:
        return f"{comparison.resampling.shortage} of test"
    chosen, table = comparison.chosen, comparison.differences
    against = table[(table["reference"] == chosen.label) & (table["metric"] == "macro_f1")]
    rest = against[against["verdict"] != "worse"].sort_values("difference").to_dict("records")
    if not rest:
        return ""
    lead = Interval.of(rest[-1], "difference", "low", "high").times(-1)
    return f"{chosen.label} minus {rest[-1]['arm']} is {_points(lead)} of macro-F1, not shown to be above zero"


def _points(difference: Interval) -> str:
    """Write a difference in points with its interval."""
    bounds = POINTS.range(difference)
    return f"{POINTS.number(difference.value)} points" + (f" (95 % interval {bounds})" if bounds else "")


def _part(comparison: Comparison) -> str:
    return "validation" if comparison.part == "val" else comparison.part


def _fastest(comparison: Comparison) -> str:
    """Return a sentence on the fastest arm to train that is not inferior to the chosen one; empty without times.

    Not inferior: the lower bound of its paired difference lies above -CHEAP_WITHIN.
    """
    chosen, *others = comparison.models
    seconds = {row.label: row.mean_fact("fit_seconds") for row in comparison.models}
    faster = [row for row in others if seconds[row.label] < seconds[chosen.label]]
    if not faster:
        return ""
    differences = [row.arm.difference(chosen.arm, "macro_f1") for row in faster]
    equal = [
        row.label
        for row, verdict in zip(faster, non_inferiority(differences, CHEAP_WITHIN), strict=True)
        if verdict == "holds"
    ]
    if not equal:
        return f"No model that trains faster is shown to be at most half a point of macro-F1 below {chosen.label}"
    label = min(equal, key=seconds.__getitem__)
    return (
        f"Fastest to train of those shown to be at most half a point of macro-F1 below {chosen.label}: {label}, "
        f"{seconds[label]:.1f} s"
    )


def _safest(comparison: Comparison) -> str:
    """Return a sentence on the arm that recognises most of the worst state on validation, without crying wolf.

    Of the models whose calls of the worst state are right at least PRECISE of the time on validation, it is the one
    that misses the fewest sessions of it, then has the highest recall. It is called safest if its recall on test is
    shown to be above that of each other such model.
    """
    first, *_, worst = comparison.schema.state_names
    rows = [row for row in comparison.models if row.mean_validation("severe_precision") >= PRECISE]
    rule = f"whose calls of {worst} are right at least {PRECISE:.0%} of the time on validation"
    if not rows:
        return f"No safest model: there is none {rule}"
    row = min(rows, key=lambda r: (r.mean_validation("severe_sessions_missed"), -r.mean_validation("severe_recall")))
    others = [other.arm for other in rows if other is not row]
    shown = comparison.part == "test" and set(verdicts([row.arm.difference(o, "severe_recall") for o in others]))
    title = "Safest:" if shown == {"better"} else "No safest model is shown; on validation it is"
    return (
        f"{title} {row.label}, which misses the fewest sessions of {worst} of the models {rule}; on "
        f"{_part(comparison)} "
        f"{row.mean('severe_sessions_missed'):.3g} sessions with no {worst} window recognised, "
        f"{row.mean('severe_as_normal'):.3g} {worst} windows predicted as {first}, {worst} recall "
        f"{PERCENT.with_range(row.arm.interval('severe_recall'))}"
    )


def _retraining(comparison: Comparison) -> list[str]:
    """Return a sentence on what training again with another seed moves; none with one seed."""
    spreads = {row.label: row.arm.by_seed("macro_f1") for row in comparison.models}
    known = [f"{SPREAD.number(by_seed.std(ddof=1))} ({name})" for name, by_seed in spreads.items() if len(by_seed) > 1]
    if not known:
        return []
    return [
        "The intervals are for these trained models; training again with another seed moves macro-F1 by, standard "
        f"deviation in points, {', '.join(known)}"
    ]


def _shortcut_warnings(comparison: Comparison) -> list[str]:
    """Return a warning for each shortcut over which the chosen arm has no shown lead."""
    chosen = comparison.chosen
    if comparison.shortcuts and comparison.resampling.shortage:
        return [f"Warning: {comparison.resampling.shortage}, too few to show that {chosen.label} beats a shortcut"]
    leads = [chosen.arm.difference(row.arm, "macro_f1") for row in comparison.shortcuts]
    return [
        f"Warning: {chosen.label} is not shown to be better than the shortcut '{row.label}'"
        for row, verdict in zip(comparison.shortcuts, verdicts(leads), strict=True)
        if verdict != "better"
    ]


def _merge(p: Predictions) -> Predictions:
    """Merge the states between the first and the last, so that three remain."""
    states = p.p.shape[1]
    to = np.clip(np.arange(states), 0, 1) + (np.arange(states) == states - 1) if states > 2 else np.arange(states)
    merged = np.zeros((len(p.p), int(to.max()) + 1))
    for k in range(states):
        merged[:, to[k]] += p.p[:, k]
    return Predictions(to[p.y_true], merged, p.session)
