"""Runs side by side: which belong together, whether they may be compared, and every figure with its interval.

Everything is computed from the predictions in the run directories. Runs that differ only in their seed are one arm,
runs that differ only in their fold are pooled into one set of out-of-fold predictions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from conveyorguard.data.schema import Schema
from conveyorguard.errors import RunError
from conveyorguard.evaluation import breakdown
from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.metrics.bootstrap import Arm, Interval, Resampling, resample
from conveyorguard.metrics.scores import METRICS, Predictions
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun

# config keys that say where, how long or how a run was logged, not what it learns from what
NOT_THE_MODEL = ("seed", "threads", "test", "ckpt_path", "paths", "logger", "sweep", "hydra")
CELL_KEYS = ("modality", "film", "inputs")  # what makes a cell of the ablation
KEY = ["session", "start"]
CHEAP_WITHIN = 0.005  # macro-F1: half a point


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
        """The arm with all states between the first and the last taken as one: their borders are arbitrary."""
        return Arm([_merge(p) for p in self.predictions], self.resampling)

    def mean_fact(self, name: str) -> float:
        """Mean over the runs of a number in their provenance, NaN where it is not recorded."""
        values = [run.provenance.get(name) for folds in self.runs.values() for run in folds.values()]
        known = [float(v) for v in values if v is not None]
        return float(np.mean(known)) if known else float("nan")

    @property
    def validation(self) -> float:
        """Mean validation macro-F1: what choosing uses."""
        values = [run.scores["val"]["macro_f1"] for folds in self.runs.values() for run in folds.values()]
        return float(np.mean(values)) if values else float("nan")

    @property
    def sources(self) -> list[SavedRun]:
        """The runs of everything in the row."""
        return [run for folds in self.runs.values() for run in folds.values()]

    @property
    def family(self) -> str:
        """What the arm has in common with the other cells of its ablation: the config but for modality and film."""
        config = OmegaConf.to_container(self.sources[0].config)
        assert isinstance(config, dict)
        config["split"].pop("fold", None)
        kept = {key: value for key, value in config.items() if key not in (*NOT_THE_MODEL, *CELL_KEYS)}
        return json.dumps(kept, sort_keys=True)


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
    def models(self) -> list[Row]:
        """The arms that are models, best macro-F1 first."""
        found = [row for row in self.rows if not row.shortcut]
        return sorted(found, key=lambda row: -row.arm.by_seed("macro_f1").mean())

    @property
    def chosen(self) -> Row:
        """The best arm on validation."""
        return max(self.models, key=lambda row: row.validation)

    @property
    def sensor_only(self) -> Row | None:
        """The arm the ablation is measured against: of the chosen one's model, sensors alone."""
        return next((r for r in self.models if r.cell == "Sensor Only" and r.model == self.chosen.model), None)

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
        found = []
        for row in [*self.models, *(r for r in self.rows if r.shortcut)]:
            facts: dict[str, Any] = {
                "arm": row.label,
                "cell": row.cell,
                "model": row.model,
                "shortcut": row.shortcut,
                "seeds": len(row.predictions),
                "runs": " ".join(run.folder.resolve().name for run in row.sources),
            }
            for name in METRICS:
                seeds, interval = row.arm.by_seed(name), row.arm.interval(name)
                sd = float(seeds.std(ddof=1)) if len(seeds) > 1 else np.nan
                facts |= {
                    name: interval.value,
                    f"{name}_low": interval.low,
                    f"{name}_high": interval.high,
                    f"{name}_sd": sd,
                }
            for name in ("accuracy", "macro_f1"):
                merged = row.merged.interval(name)
                facts |= {
                    f"merged_{name}": merged.value,
                    f"merged_{name}_low": merged.low,
                    f"merged_{name}_high": merged.high,
                }
            facts |= {name: row.mean_fact(name) for name in ("fit_seconds", "parameters", "model_bytes", "latency_ms")}
            facts["validation_macro_f1"] = row.validation
            facts["validation_accuracy"] = (
                float(np.mean([run.scores["val"]["accuracy"] for folds in row.runs.values() for run in folds.values()]))
                if row.runs
                else np.nan
            )
            found.append(facts)
        return pd.DataFrame(found)

    def differences(self, reference: Row, metrics: Iterable[str] = ("accuracy", "macro_f1")) -> pd.DataFrame:
        """Each model arm minus the reference, paired, with interval and verdict."""
        found = []
        for row in self.models:
            if row is reference:
                continue
            for name in metrics:
                d: Interval = row.arm.difference(reference.arm, name)
                found.append(
                    {
                        "arm": row.label,
                        "reference": reference.label,
                        "metric": name,
                        "difference": d.value,
                        "low": d.low,
                        "high": d.high,
                        "verdict": d.verdict,
                    }
                )
        return pd.DataFrame(found, columns=["arm", "reference", "metric", "difference", "low", "high", "verdict"])

    def by_device(self) -> pd.DataFrame:
        """`breakdown.by_device` of the models."""
        return breakdown.by_device(self.windows, {row.label: row.predictions for row in self.models})

    def conclusion(self) -> list[str]:
        """What the numbers say, by fixed rules: best, cheapest within half a point, safest, and whether shortcuts do as
        well."""
        models = self.models
        best = models[0]

        def value(row: Row, metric: str) -> float:
            return float(row.arm.by_seed(metric).mean())

        worst, first = self.schema.states[-1].name, self.schema.states[0].name
        said = [f"Best: {best.label}, macro-F1 {best.arm.interval('macro_f1').value:.3f}"]
        if len(models) > 1:
            lead = best.arm.difference(models[1].arm, "macro_f1")
            shown = "shown" if lead.excludes_zero else "not shown: the interval includes zero"
            said[0] += f", {100 * lead.value:.1f} points above {models[1].label}"
            said[0] += (
                f" ({100 * lead.low:.1f} to {100 * lead.high:.1f}): its lead is {shown}"
                if np.isfinite(lead.low)
                else ""
            )
            near = [
                r
                for r in models
                if best.arm.by_seed("macro_f1").mean() - r.arm.by_seed("macro_f1").mean() <= CHEAP_WITHIN
            ]
            timed = [r for r in near if np.isfinite(r.mean_fact("fit_seconds"))]
            if timed:
                cheap = min(timed, key=lambda r: r.mean_fact("fit_seconds"))
                said.append(
                    f"Cheapest within half a point of it: {cheap.label}, {cheap.mean_fact('fit_seconds'):.1f} s of "
                    "training"
                )
            safe = min(
                models,
                key=lambda r: (
                    value(r, "severe_sessions_missed"),
                    value(r, "severe_as_normal"),
                    -value(r, "severe_recall"),
                ),
            )
            said.append(
                f"Safest: {safe.label}, {value(safe, 'severe_sessions_missed'):.3g} sessions whose {worst} state "
                "was missed "
                f"entirely, {value(safe, 'severe_as_normal'):.3g} {worst} windows called {first}, {worst} recall "
                f"{value(safe, 'severe_recall'):.3f}"
            )
        leads = {r.label: best.arm.difference(r.arm, "macro_f1") for r in self.rows if r.shortcut}
        if leads and not any(np.isfinite(lead.low) for lead in leads.values()):
            count = len(self.resampling.sessions)
            said.append(f"Warning: {count} sessions are too few to show that {best.label} is better than a shortcut")
        else:
            said += [
                f"Warning: {best.label} is not shown to be better than the shortcut '{name}'"
                for name, lead in leads.items()
                if not lead.low > 0
            ]
        return [f"{sentence}." for sentence in said]


def find_runs(paths: Iterable[str | Path]) -> tuple[list[SavedRun], list[str]]:
    """Finished runs: the given directories, or those directly inside them; with a note on each that is unfinished.

    Raises:
        RunError: a path does not exist or holds no finished run.
    """
    runs, notes = [], []
    for path in map(Path, paths):
        if not path.is_dir():
            raise RunError(f"{path}: no such directory; give run directories, or the directory of a multirun")
        if (path / "config.yaml").is_file():
            runs.append(SavedRun(path))
            continue
        inside = [p for p in sorted(path.iterdir(), key=_natural) if (p / "config.yaml").is_file()]
        finished = []
        for folder in inside:
            try:
                finished.append(SavedRun(folder))
            except RunError:
                notes.append(f"{folder.name} of {path.name} is unfinished and left out")
        if not finished:
            raise RunError(f"{path}: holds no finished run; give run directories, or the directory of a multirun")
        runs += finished
    return runs, notes


def compare(paths: Iterable[str | Path]) -> Comparison:
    """Read runs and put them side by side.

    Raises:
        RunError: they are not over the same windows, labels, split or states: such figures do not belong into one
            table.
    """
    runs, notes = find_runs(paths)
    tested = ["test" in run.scores for run in runs]
    if any(tested) and not all(tested):
        without = ", ".join(r.folder.name for r, t in zip(runs, tested, strict=True) if not t)
        raise RunError(f"some runs were not evaluated on test ({without}): leave them out, or run them with test=true")
    part = "test" if all(tested) else "val"
    if part == "val":
        notes.append("No run was evaluated on test: these are validation figures, which the best epoch was chosen by")
    refuse_other_protocols(runs)
    groups = _group(runs, notes)
    first = next(iter(next(iter(groups.values())).values()))
    windows = _pooled(first, part)[[*KEY, "end", "device", "kind", "y_true"]]
    resampling = resample(windows["session"].to_numpy(), windows["device"].to_numpy())
    labels = _labels([next(iter(next(iter(seeds.values())).values())).config for seeds in groups.values()])
    rows = []
    for (label, cell, model), seeds in zip(labels, groups.values(), strict=True):
        predictions = []
        for folds in seeds.values():
            table = _pooled(folds, part)
            if not windows[[*KEY, "y_true"]].equals(table[[*KEY, "y_true"]]):
                raise RunError(
                    f"{label} ({next(iter(folds.values())).folder}) has {len(table):,} {part} windows that are not "
                    "those of "
                    f"{next(iter(first.values())).folder} ({len(windows):,}): other data, windows or split. Compare "
                    "them apart"
                )
            predictions.append(as_predictions(table))
        rows.append(Row(label, cell, model, seeds, predictions, resampling))
    rows += _shortcut_rows(first, part, windows, resampling)
    config = next(iter(first.values())).config
    schema = next(iter(first.values())).schema
    return Comparison(rows, windows, part, schema, _protocol(config, part, windows, first), resampling, notes)


def _natural(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdigit() else (10**9, path.name)


def _protocol(config: Any, part: str, windows: pd.DataFrame, folds: dict[int, SavedRun]) -> str:
    """What was measured, in a sentence."""
    w, s = config.window, config.split
    how = {"session": f"sessions dealt by seed {s.get('seed')}", "device": "devices never trained on"}.get(
        s.name, f"{len(folds)} of {s.get('n_folds')} folds over devices, out-of-fold predictions pooled"
    )
    return (
        f"{config.data.name} data; {part} part of split={s.name} ({how}); windows of {w.size} s every {w.stride} s "
        "labelled by "
        f"their {'commonest' if w.label == 'majority' else 'last'} state; {len(windows):,} windows, "
        f"{windows['session'].nunique()} sessions, {windows['device'].nunique()} devices"
    )


def refuse_other_protocols(runs: list[SavedRun]) -> None:
    """The same windows, split and states in all, else one error that names every difference."""

    def protocol(run: SavedRun) -> dict[str, Any]:
        c = run.config
        return {
            "data": c.data.name,
            **{f"window.{k}": c.window[k] for k in ("size", "stride", "label")},
            **{f"split.{k}": v for k, v in c.split.items() if k != "fold"},
            "states": [s["name"] for s in c.data.schema.states],
        }

    first = protocol(runs[0])
    found = []
    for run in runs[1:]:
        other = protocol(run)
        for key in dict.fromkeys([*first, *other]):
            if first.get(key) != other.get(key):
                found.append(f"{key}: {first.get(key)} in {runs[0].folder.name}, {other.get(key)} in {run.folder.name}")
    if found:
        raise RunError(
            "these runs have different protocols, their figures do not belong into one table:\n"
            + "\n".join(f"  - {line}" for line in dict.fromkeys(found))
        )


def _group(runs: list[SavedRun], notes: list[str]) -> dict[str, dict[int, dict[int, SavedRun]]]:
    """Runs by arm, seed and fold."""
    groups: dict[str, dict[int, dict[int, SavedRun]]] = {}
    for run in sorted(runs, key=lambda r: r.provenance["start"]):
        config = OmegaConf.to_container(run.config)
        assert isinstance(config, dict)
        fold = config["split"].pop("fold", 0)
        identity = json.dumps({k: v for k, v in config.items() if k not in NOT_THE_MODEL}, sort_keys=True)
        folds = groups.setdefault(identity, {}).setdefault(run.config.seed, {})
        if fold in folds:
            notes.append(f"{folds[fold].folder.name} was run again: {run.folder.name} is used")
        folds[fold] = run
    all_folds = set().union(*(folds for seeds in groups.values() for folds in seeds.values()))
    missing = [
        f"{next(iter(folds.values())).config.model.name} seed {seed}: fold "
        f"{', '.join(map(str, sorted(all_folds - set(folds))))}"
        for seeds in groups.values()
        for seed, folds in seeds.items()
        if all_folds - set(folds)
    ]
    if missing:
        raise RunError("pooling needs the same folds of every model and seed; missing: " + "; ".join(missing))
    return groups


def _pooled(folds: dict[int, SavedRun], part: str) -> pd.DataFrame:
    """Predictions of one seed, those of its folds together, in the order of session and start.

    Raises:
        RunError: a window is predicted by two folds.
    """
    table = pd.concat([r.predictions[r.predictions["split"] == part] for r in folds.values()], ignore_index=True)
    if len(folds) > 1 and part == "val":
        raise RunError("folds are pooled on test only: their validation parts overlap; run them with test=true")
    if table.duplicated(KEY).any():
        raise RunError(f"{next(iter(folds.values())).folder}: a window is predicted more than once; the folds overlap")
    return table.sort_values(KEY, ignore_index=True)


def _labels(configs: list[Any]) -> list[tuple[str, str, str]]:
    """(label, cell, model) of each arm; where that leaves two alike, the keys in which they differ are added."""
    cells = {**CELLS, **FURTHER_CELLS}
    names = [
        (c.model.get("name", "model"), cells.get((c.modality, c.film), f"{c.modality}, film={c.film}")) for c in configs
    ]
    one_model, one_cell = len({m for m, _ in names}) == 1, len({c for _, c in names}) == 1
    flat = [_flatten(OmegaConf.to_container(c, resolve=False)) for c in configs]
    found = []
    for i, (model, cell) in enumerate(names):
        label = cell if one_model and not one_cell else model if one_cell else f"{model}, {cell}"
        alike = [j for j, other in enumerate(names) if other == (model, cell)]
        if len(alike) > 1:
            keys = [
                k
                for k in sorted(set().union(*(flat[j] for j in alike)))
                if k.split(".")[0] not in NOT_THE_MODEL and len({str(flat[j].get(k)) for j in alike}) > 1
            ]
            label += " " + " ".join(f"{k}={flat[i].get(k)!s}" for k in keys[:4])
        found.append((label, cell, model))
    return found


def _flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        k: v
        for key, value in node.items()
        for k, v in _flatten(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _shortcut_rows(folds: dict[int, SavedRun], part: str, windows: pd.DataFrame, resampling: Resampling) -> list[Row]:
    """The shortcuts that each run directory keeps beside its predictions."""
    tables = [table for run in folds.values() if (table := run.shortcuts) is not None]
    if len(tables) < len(folds):
        return []
    table = pd.concat(tables)
    table = table[table["split"] == part]
    rows = []
    for name in table["shortcut"].unique():
        own = table[table["shortcut"] == name].sort_values(KEY, ignore_index=True)
        if not own[KEY].equals(windows[KEY]):
            raise RunError(
                f"shortcuts.parquet of {next(iter(folds.values())).folder} does not match its predictions.parquet"
            )
        rows.append(Row(name, "", "shortcut", {}, [as_predictions(own)], resampling, shortcut=True))
    return rows


def _merge(p: Predictions) -> Predictions:
    """First, middle and last state."""
    states = p.p.shape[1]
    to = np.clip(np.arange(states), 0, 1) + (np.arange(states) == states - 1) if states > 2 else np.arange(states)
    merged = np.zeros((len(p.p), int(to.max()) + 1))
    for k in range(states):
        merged[:, to[k]] += p.p[:, k]
    return Predictions(to[p.y_true], merged, p.session)
