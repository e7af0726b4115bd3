"""Compare runs: group them into arms and refuse those that are not comparable.

Everything is computed from the predictions in the run directories. Runs that differ only in their seed form one arm;
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
from conveyorguard.metrics.resampling import Resampling, resample
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun

KEY = ["session", "start"]
THRESHOLD = " threshold"  # end of the name of the shortcut of one channel
ANY_THRESHOLD = "threshold of the best channel"  # of each fold
Folds = dict[int, SavedRun]  # runs by fold


def find_runs(paths: Iterable[str | Path]) -> tuple[list[SavedRun], list[str]]:
    """Read the finished runs in the given directories or directly inside them.

    Returns:
        Runs, and a note on each unfinished run that was left out.

    Raises:
        RunError: A path does not exist or holds no finished run.
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
    """Read runs and compare them.

    Raises:
        RunError: The runs differ in windows, labels, split or states, so their figures are not comparable.
    """
    runs, notes = find_runs(paths)
    part = _common_part(runs)
    if part == "val":
        notes.append("No run was evaluated on test: these are validation figures, by which the best epoch was chosen")
    refuse_other_protocols(runs)
    groups = _group(runs, notes)
    first = next(iter(next(iter(groups.values())).values()))
    windows = _pooled(first, part)[[*KEY, "end", "device", "kind", "y_true"]]
    resampling = resample(windows["session"].to_numpy(), windows["device"].to_numpy())
    labels = _labels([next(iter(next(iter(seeds.values())).values())) for seeds in groups.values()])
    # what is deployed, where all runs know it; runs of earlier versions are compared as trained
    prefix = "c" if all(run.answer == "c" for run in runs) else "p"
    rows = []
    for (label, cell, model), seeds in zip(labels, groups.values(), strict=True):
        tables = [_pooled(folds, part) for folds in seeds.values()]
        for folds, table in zip(seeds.values(), tables, strict=True):
            _refuse_other_windows(label, folds, table, first, windows, part)
        rows.append(Row(label, cell, model, seeds, [as_predictions(table, prefix) for table in tables], resampling))
    rows += _shortcut_rows(first, part, windows, resampling)
    run = next(iter(first.values()))
    return Comparison(rows, windows, part, run.schema, _protocol(run, part, windows, first), resampling, notes)


def _common_part(runs: list[SavedRun]) -> str:
    """Return the part of the split to compare on: test, or val if no run was evaluated on test.

    Raises:
        RunError: Some runs were evaluated on test and others were not.
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
    """Raise a RunError if an arm has other windows or labels than the first arm."""
    if not windows[[*KEY, "y_true"]].equals(table[[*KEY, "y_true"]]):
        raise RunError(
            f"{label} ({next(iter(folds.values())).folder}) has {len(table):,} {part} windows that are not those of "
            f"{next(iter(first.values())).folder} ({len(windows):,}): other data, windows or split. Compare them "
            "separately"
        )


def _natural(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdigit() else (10**9, path.name)


def _protocol(run: SavedRun, part: str, windows: pd.DataFrame, folds: Folds) -> str:
    """Return a sentence on what was measured: data, split, windows and their number."""
    window, split = run.window, run.settings["split"]
    by_session = f"sessions drawn with seed {split.get('seed')}"
    how = {"auto": run.split.note or by_session, "session": by_session, "device": "devices never trained on"}.get(
        split["name"], f"{len(folds)} of {split.get('n_folds')} folds over devices, out-of-fold predictions pooled"
    )
    return (
        f"{run.data_name} data; {part} part of split={split['name']} ({how}); {window.question}; "
        f"{len(windows):,} windows, {windows['session'].nunique()} sessions, {windows['device'].nunique()} devices"
    )


def refuse_other_protocols(runs: list[SavedRun]) -> None:
    """Raise a RunError that names every difference if runs differ in data, windows, split or states."""

    def protocol(run: SavedRun) -> dict[str, Any]:
        return {
            "data": run.data_name,
            **{f"window.{k}": v for k, v in run.window.in_seconds().items() if k in ("size", "eval_stride", "label")},
            **{f"split.{k}": v for k, v in run.settings["split"].items() if k != "fold"},
            "states": run.schema.state_names,
        }

    first = protocol(runs[0])
    differences = []
    for run in runs[1:]:
        other = protocol(run)
        for key in dict.fromkeys([*first, *other]):
            if first.get(key) != other.get(key):
                where = f"{first.get(key)} in {runs[0].folder.name}, {other.get(key)} in {run.folder.name}"
                differences.append(f"{key}: {where}")
    if differences:
        raise RunError(
            "these runs have different protocols, so their figures are not comparable; compare them separately:\n"
            + "\n".join(f"  - {line}" for line in dict.fromkeys(differences))
        )


def _group(runs: list[SavedRun], notes: list[str]) -> dict[str, dict[int, Folds]]:
    """Group runs by arm, seed and fold; of repeated runs the latest counts."""
    groups: dict[str, dict[int, Folds]] = {}
    for run in sorted(runs, key=lambda r: r.provenance["start"]):
        fold = run.settings["split"].get("fold", 0)
        identity = json.dumps(model_settings(run), sort_keys=True)
        folds = groups.setdefault(identity, {}).setdefault(run.seed, {})
        if fold in folds:
            notes.append(f"{folds[fold].folder.name} was repeated: {run.folder.name} is used instead")
        folds[fold] = run
    _refuse_missing_folds(groups)
    return groups


def _refuse_missing_folds(groups: dict[str, dict[int, Folds]]) -> None:
    """Raise a RunError unless every model and seed has the same folds."""
    every = set().union(*(folds for seeds in groups.values() for folds in seeds.values()))
    missing = [
        f"{next(iter(folds.values())).model_name} seed {seed}: fold {', '.join(map(str, sorted(every - set(folds))))}"
        for seeds in groups.values()
        for seed, folds in seeds.items()
        if every - set(folds)
    ]
    if missing:
        raise RunError("pooling needs the same folds for every model and seed; missing: " + "; ".join(missing))


def _pooled(folds: Folds, part: str) -> pd.DataFrame:
    """Pool the predictions of the folds of one seed, sorted by session and start.

    Raises:
        RunError: A window is predicted by two folds, or folds whose validation parts overlap would be pooled on them.
    """
    table = pd.concat([r.predictions[r.predictions["split"] == part] for r in folds.values()], ignore_index=True)
    overlap = any(run.settings["split"]["name"] != "out_of_fold" for run in folds.values())
    if len(folds) > 1 and part == "val" and overlap:
        raise RunError("folds are pooled on test only, because their validation parts overlap: run them with test=true")
    if table.duplicated(KEY).any():
        folder = next(iter(folds.values())).folder
        raise RunError(f"{folder}: a window is predicted more than once, the folds overlap; compare folds of one split")
    return table.sort_values(KEY, ignore_index=True)


def _labels(runs: list[SavedRun]) -> list[tuple[str, str, str]]:
    """Return (label, cell, model) of each arm; labels of arms that share model and cell name their other settings."""
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
    """Return the model, the cell, or both, whichever differs between arms; the model if neither does."""
    models, cells = ({name[i] for name in names} for i in (0, 1))
    if len(cells) == 1:
        return model
    return cell if len(models) == 1 else f"{model}, {cell}"


def _settings_apart(settings: dict[str, Any], alike: list[dict[str, Any]], most: int = 4) -> list[str]:
    """Return `key=value` of the first settings, by name, in which arms with the same model and cell differ."""
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
    """Return a row for each shortcut saved in the run directories; none if a fold has none."""
    tables = [table for run in folds.values() if (table := run.shortcuts) is not None]
    if len(tables) < len(folds):
        return []
    table = pd.concat(_same_names(tables))
    table = table[table["split"] == part]
    rows = []
    for name in table["shortcut"].unique():
        predictions = table[table["shortcut"] == name].sort_values(KEY, ignore_index=True)
        if not predictions[KEY].equals(windows[KEY]):
            raise RunError(
                f"{next(iter(folds.values())).folder}/shortcuts.parquet: does not match predictions.parquet; train the "
                "run again"
            )
        rows.append(Row(name, "", "shortcut", {}, [as_predictions(predictions)], resampling, shortcut=True))
    return rows


def _same_names(tables: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the shortcuts of each fold with the same names: the channel of the threshold is chosen in each fold."""
    common = set.intersection(*(set(table["shortcut"]) for table in tables))
    chosen = {name for table in tables for name in table["shortcut"].unique() if str(name).endswith(THRESHOLD)} - common
    return [table.assign(shortcut=table["shortcut"].replace(dict.fromkeys(chosen, ANY_THRESHOLD))) for table in tables]
