"""Runs side by side: which belong together, and whether they may be compared.

Everything is computed from the predictions in the run directories. Runs that differ only in their seed are one arm,
runs that differ only in their fold are pooled into one set of out-of-fold predictions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from conveyorguard.errors import RunError
from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.evaluation.comparison import NOT_THE_MODEL, Comparison, Row, model_settings
from conveyorguard.metrics.bootstrap import Resampling, resample
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun

KEY = ["session", "start"]
Folds = dict[int, SavedRun]  # by fold


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
    part = _common_part(runs)
    if part == "val":
        notes.append("No run was evaluated on test: these are validation figures, which the best epoch was chosen by")
    refuse_other_protocols(runs)
    groups = _group(runs, notes)
    first = next(iter(next(iter(groups.values())).values()))
    windows = _pooled(first, part)[[*KEY, "end", "device", "kind", "y_true"]]
    resampling = resample(windows["session"].to_numpy(), windows["device"].to_numpy())
    labels = _labels([next(iter(next(iter(seeds.values())).values())) for seeds in groups.values()])
    rows = []
    for (label, cell, model), seeds in zip(labels, groups.values(), strict=True):
        tables = [_pooled(folds, part) for folds in seeds.values()]
        for folds, table in zip(seeds.values(), tables, strict=True):
            _refuse_other_windows(label, folds, table, first, windows, part)
        rows.append(Row(label, cell, model, seeds, [as_predictions(table) for table in tables], resampling))
    rows += _shortcut_rows(first, part, windows, resampling)
    run = next(iter(first.values()))
    return Comparison(rows, windows, part, run.schema, _protocol(run, part, windows, first), resampling, notes)


def _common_part(runs: list[SavedRun]) -> str:
    """The part that figures are of: test, or val where no run was tested.

    Raises:
        RunError: some were tested and others were not.
    """
    untested = [run.folder.name for run in runs if "test" not in run.scores]
    if untested and len(untested) < len(runs):
        raise RunError(
            f"some runs were not evaluated on test ({', '.join(untested)}): leave them out, or run them with test=true"
        )
    return "val" if untested else "test"


def _refuse_other_windows(
    label: str, folds: Folds, table: pd.DataFrame, first: Folds, windows: pd.DataFrame, part: str
) -> None:
    """Raise unless an arm's windows and labels are those of the first arm."""
    if not windows[[*KEY, "y_true"]].equals(table[[*KEY, "y_true"]]):
        raise RunError(
            f"{label} ({next(iter(folds.values())).folder}) has {len(table):,} {part} windows that are not those of "
            f"{next(iter(first.values())).folder} ({len(windows):,}): other data, windows or split. Compare them apart"
        )


def _natural(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdigit() else (10**9, path.name)


def _protocol(run: SavedRun, part: str, windows: pd.DataFrame, folds: Folds) -> str:
    """What was measured, in a sentence."""
    window, split = run.window, run.settings["split"]
    dealt = f"sessions dealt by seed {split.get('seed')}"
    how = {"auto": run.split.note or dealt, "session": dealt, "device": "devices never trained on"}.get(
        split["name"], f"{len(folds)} of {split.get('n_folds')} folds over devices, out-of-fold predictions pooled"
    )
    return (
        f"{run.data_name} data; {part} part of split={split['name']} ({how}); windows of {window.size} s every "
        f"{window.stride} s labelled by their {'commonest' if window.label == 'majority' else 'last'} state; "
        f"{len(windows):,} windows, {windows['session'].nunique()} sessions, {windows['device'].nunique()} devices"
    )


def refuse_other_protocols(runs: list[SavedRun]) -> None:
    """The same windows, split and states in all, else one error that names every difference."""

    def protocol(run: SavedRun) -> dict[str, Any]:
        return {
            "data": run.data_name,
            **{f"window.{k}": run.settings["window"][k] for k in ("size", "stride", "label")},
            **{f"split.{k}": v for k, v in run.settings["split"].items() if k != "fold"},
            "states": run.schema.state_names,
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


def _group(runs: list[SavedRun], notes: list[str]) -> dict[str, dict[int, Folds]]:
    """Runs by arm, seed and fold."""
    groups: dict[str, dict[int, Folds]] = {}
    for run in sorted(runs, key=lambda r: r.provenance["start"]):
        fold = run.settings["split"].get("fold", 0)
        identity = json.dumps(model_settings(run), sort_keys=True)
        folds = groups.setdefault(identity, {}).setdefault(run.seed, {})
        if fold in folds:
            notes.append(f"{folds[fold].folder.name} was run again: {run.folder.name} is used")
        folds[fold] = run
    _refuse_missing_folds(groups)
    return groups


def _refuse_missing_folds(groups: dict[str, dict[int, Folds]]) -> None:
    """Raise unless every model and seed has the same folds."""
    every = [folds for seeds in groups.values() for folds in seeds.values()]
    known = set().union(*every)
    missing = [
        f"{next(iter(folds.values())).model_name} seed {seed}: fold {', '.join(map(str, sorted(known - set(folds))))}"
        for seeds in groups.values()
        for seed, folds in seeds.items()
        if known - set(folds)
    ]
    if missing:
        raise RunError("pooling needs the same folds of every model and seed; missing: " + "; ".join(missing))


def _pooled(folds: Folds, part: str) -> pd.DataFrame:
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


def _labels(runs: list[SavedRun]) -> list[tuple[str, str, str]]:
    """(label, cell, model) of each arm; where that leaves two alike, the settings in which they differ are added."""
    cells = {**CELLS, **FURTHER_CELLS}
    names = [(r.model_name, cells.get((r.modality, r.film), f"{r.modality}, film={r.film}")) for r in runs]
    flat = [_flatten(run.settings) for run in runs]
    labels = []
    for (model, cell), settings in zip(names, flat, strict=True):
        alike = [other for name, other in zip(names, flat, strict=True) if name == (model, cell)]
        label = " ".join([_short_name(model, cell, names), *_settings_apart(settings, alike)])
        labels.append((label, cell, model))
    return labels


def _short_name(model: str, cell: str, names: list[tuple[str, str]]) -> str:
    """Model and cell of an arm without the one that all arms share; the model where they share both."""
    models, cells = ({name[i] for name in names} for i in (0, 1))
    if len(cells) == 1:
        return model
    return cell if len(models) == 1 else f"{model}, {cell}"


def _settings_apart(settings: dict[str, Any], alike: list[dict[str, Any]], most: int = 4) -> list[str]:
    """`key=value` of the settings in which arms of one name differ, the first ones by name."""
    keys = [
        key
        for key in sorted(set().union(*alike))
        if key.split(".")[0] not in NOT_THE_MODEL and len({str(other.get(key)) for other in alike}) > 1
    ]
    return [f"{key}={settings.get(key)!s}" for key in keys[:most]]


def _flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        k: v
        for key, value in node.items()
        for k, v in _flatten(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _shortcut_rows(folds: Folds, part: str, windows: pd.DataFrame, resampling: Resampling) -> list[Row]:
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
