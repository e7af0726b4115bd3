"""Tables of the best model, and what each input contributes by a fixed rule, from pooled comparisons."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from conveyorguard.data.windows import Windows, make_windows
from conveyorguard.evaluation import breakdown
from conveyorguard.evaluation.comparison import Row
from conveyorguard.evaluation.robustness import (
    EvaluationSet,
    by_label_rule,
    predictions_on,
    resampled,
    starts_cut_scores,
    under_corruption,
)
from conveyorguard.evaluation.shortcuts import ELAPSED, fit_shortcuts, shortcut_probabilities
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.metrics.intervals import LEVEL, Interval, holm
from conveyorguard.metrics.resampling import Arm
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.provenance import code_hash
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_parquet

HALF_A_POINT = 0.005  # macro-F1
RULE = (
    "Helps: the interval of the paired difference of macro-F1 lies above zero. Does not: it lies below half a point. "
    "Otherwise not shown. After Holm's correction for the number of rows."
)


def verdict(gain: Interval) -> str:
    """Return the verdict on a difference of macro-F1 by RULE."""
    return "helps" if gain.low > 0 else "does not" if gain.high < HALF_A_POINT else "not shown"


def findings(rows: Mapping[str, Row], pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Return the difference of macro-F1 between the two arms of each pair.

    Args:
        rows: rows of a comparison, by arm.
        pairs: question -> names of two arms; pairs with an arm that was not run are left out.

    Returns:
        question, difference, low, high, verdict, arm, minus, seeds (of arm and of minus).
    """
    known = {question: pair for question, pair in pairs.items() if set(pair) <= set(rows)}
    differences = [rows[arm].arm.difference(rows[reference].arm, "macro_f1") for arm, reference in known.values()]
    above, below = (holm(np.array([d.p(null) for d in differences])) for null in (0.0, HALF_A_POINT))
    table = []
    for i, (question, (arm, reference)) in enumerate(known.items()):
        d, alone = differences[i], verdict(differences[i])
        adjusted = {"helps": above[i], "does not": below[i], "not shown": 1.0}[alone]
        table.append(
            {
                "question": question,
                "difference": d.value,
                "low": d.low,
                "high": d.high,
                "verdict": alone if adjusted < 1 - LEVEL else "not shown",
                "arm": arm,
                "minus": reference,
                "seeds": ", ".join(str(len(rows[name].predictions)) for name in (arm, reference)),
            }
        )
    return pd.DataFrame(table, columns=["question", "difference", "low", "high", "verdict", "arm", "minus", "seeds"])


# maps a model and an evaluation set to windows, and to predictions on them by corruption
Predict = Callable[[LoadedRun, EvaluationSet], tuple[pd.DataFrame, dict[str, Predictions]]]


def corrupted(model: LoadedRun, evaluation: EvaluationSet) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """Return all windows, and a model's predictions on them under each corruption."""
    return evaluation.windows, under_corruption(model, evaluation)


def pooled_arm(
    runs: Mapping[int, Mapping[int, SavedRun]],
    data: Mapping[int, Windows],
    folder: Path,
    predict: Predict,
    workers: int = 1,
) -> dict[str, Arm]:
    """Return an arm by corruption, each with the test windows of all folds pooled.

    Args:
        runs: runs[seed][fold].
        data: data[fold].
        folder: cache of the predictions.
        predict: `corrupted`, `with_starts_cut` or `second_by_second`.
        workers: number of processes, each with a run.
    """
    every = [(run, data[fold]) for folds in runs.values() for fold, run in folds.items()]
    with warnings.catch_warnings():
        # joblib restarts workers whose memory has grown, here by the frames of a store
        warnings.filterwarnings("ignore", "A worker stopped")
        tables = iter(
            joblib.Parallel(workers)(
                joblib.delayed(_predictions)(run, windows, folder, predict) for run, windows in every
            )
        )
    return _arms([pd.concat([next(tables) for _ in folds]) for folds in runs.values()])


def elapsed_arm(data: Mapping[int, Windows]) -> dict[str, Arm]:
    """Return the shortcut of the elapsed seconds with and without the recordings' start, the folds pooled.

    Args:
        data: data[fold].

    Returns:
        Arms 'whole' and 'cut', see `with_starts_cut`; empty if no window remains.
    """
    tables = []
    for windows in data.values():
        _, kept, begin = EvaluationSet(windows.store, windows.split, windows.settings, "test").starts_cut
        if not len(kept):
            continue
        shortcut = fit_shortcuts(windows)[ELAPSED]
        for name, end in (("whole", kept["end"]), ("cut", kept["end"] - begin)):
            p = shortcut_probabilities(shortcut, end.to_numpy(float)[:, None], len(windows.store.schema.states))
            tables.append(_table(name, Predictions(kept["label"].to_numpy(), p, kept["session"].to_numpy()), kept))
    return _arms([pd.concat(tables)]) if tables else {}


def on_other_recordings(runs: Iterable[SavedRun], data: Windows, folder: Path) -> Arm:
    """Return an arm on all windows of recordings that its runs were not trained on; each run counts as a seed.

    Args:
        folder: cache of the predictions.
    """
    return _arms([_predictions(run, data, folder, _every_window) for run in runs])["whole"]


def _every_window(model: LoadedRun, evaluation: EvaluationSet) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    windows = make_windows(evaluation.store, evaluation.settings)
    return windows, {"whole": predictions_on(model, evaluation.store, windows)}


def _arms(tables: list[pd.DataFrame]) -> dict[str, Arm]:
    """Return arms by corruption of the recordings; empty for tables without a window.

    Args:
        tables: for each seed the predictions, see `_predictions`.
    """
    arms = {}
    for name in tables[0]["corruption"].unique():
        seeds = [t[t["corruption"] == name].sort_values(["session", "start"], ignore_index=True) for t in tables]
        arms[str(name)] = Arm([as_predictions(seed) for seed in seeds], resampled(seeds[0]))
    return arms


def _predictions(run: SavedRun, data: Windows, folder: Path, predict: Predict) -> pd.DataFrame:
    """Return the predictions of a run, read from the cache if that is newer than the run and written by the same code.

    Returns:
        corruption, session, device, start, y_true, p0, p1, ...
    """
    folder = folder / code_hash()
    path, trained = folder / f"{run.folder.name}.parquet", run.folder / "predictions.parquet"
    if path.is_file() and path.stat().st_mtime > trained.stat().st_mtime:
        return pd.read_parquet(path)
    windows, predicted = predict(LoadedRun(run.folder), EvaluationSet(data.store, data.split, data.settings, "test"))
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(path, pd.concat([_table(name, p, windows) for name, p in predicted.items()], ignore_index=True))
    return pd.read_parquet(path)


def _table(name: str, predicted: Predictions, windows: pd.DataFrame) -> pd.DataFrame:
    table = windows[["session", "device", "start"]].assign(corruption=name, y_true=predicted.y_true)
    return table.assign(**{f"p{k}": predicted.p[:, k] for k in range(predicted.p.shape[1])})


def starts_cut_table(arms: Mapping[str, dict[str, Arm]], reference: str) -> pd.DataFrame:
    """Return what arms lose without the recordings' start, and their difference from an arm that does not use it.

    Args:
        arms: arms of `with_starts_cut`, by name.
        reference: name of the arm that does not use the start.

    Returns:
        arm; macro-F1 whole, cut, change and difference (the cut arm minus the cut reference), the last three with their
        intervals; severe_recall of the cut arm, and severe_sessions_missed and severe_as_normal of its worst seed.
    """
    rows = []
    for name, arm in arms.items():
        d = arm["cut"].difference(arms[reference]["cut"], "macro_f1")
        worst = {
            metric: float(arm["cut"].by_seed(metric).max()) for metric in ("severe_sessions_missed", "severe_as_normal")
        }
        rows.append(
            {
                "arm": name,
                **starts_cut_scores(arm),
                "difference": d.value,
                "difference_low": d.low,
                "difference_high": d.high,
                "severe_recall": float(arm["cut"].by_seed("severe_recall").mean()),
                **worst,
            }
        )
    return pd.DataFrame(rows)


def others_table(arms: Mapping[str, Arm], first: str) -> pd.DataFrame:
    """Return a row for each arm on other recordings.

    Args:
        arms: arms of `on_other_recordings`, by name.
        first: name of the arm that the others are compared with.

    Returns:
        arm, models, macro_f1 and severe_recall with intervals, severe_sessions_missed and severe_as_normal of the worst
        model, difference (first minus arm) of macro-F1 with its interval.
    """
    rows = []
    for name, arm in arms.items():
        row: dict[str, Any] = {"arm": name, "models": len(arm.by_seed("macro_f1"))}
        for metric in ("macro_f1", "severe_recall"):
            interval = arm.interval(metric)
            row |= {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        row |= {metric: float(arm.by_seed(metric).max()) for metric in ("severe_sessions_missed", "severe_as_normal")}
        d = arms[first].difference(arm, "macro_f1")
        rows.append({**row, "difference": d.value, "difference_low": d.low, "difference_high": d.high})
    return pd.DataFrame(rows)


def causal_table(arms: Mapping[str, dict[str, Arm]]) -> pd.DataFrame:
    """Return `by_label_rule` of arms of `second_by_second`, with the arm's name as first column."""
    tables = {name: by_label_rule(rules) for name, rules in arms.items()}
    return pd.concat(tables, names=["arm"]).reset_index("arm").reset_index(drop=True)


def distance_table(windows: pd.DataFrame, data: Windows, arms: breakdown.Arms) -> pd.DataFrame:
    """Return `breakdown.by_distance` of pooled windows.

    Args:
        windows: windows of a comparison.
        data: data of any fold; gives the windows' rows in the store.
        arms: predictions on the windows, by arm.
    """
    judged = make_windows(data.store, data.settings, stride=data.settings.judged_stride)
    placed = windows.merge(judged[["session", "start", "row"]], how="left", validate="one_to_one")
    return breakdown.by_distance(data.store, placed, data.settings.size, arms)


def onset_table(runs: Mapping[str, Mapping[int, Mapping[int, SavedRun]]]) -> pd.DataFrame | None:
    """Return `breakdown.onset_summary` of each seed of each arm, the folds pooled.

    Each fold uses its own operating point.

    Args:
        runs: runs[arm][seed][fold].

    Returns:
        The table, or None if no recording has a state that needs an alarm.
    """
    tables = [
        breakdown.onsets({f"{arm}, seed {seed}": run}, "test")
        for arm, by_seed in runs.items()
        for seed, by_fold in by_seed.items()
        for run in by_fold.values()
    ]
    faults = pd.concat(tables, ignore_index=True)
    return breakdown.onset_summary(faults) if len(faults) else None


def best_epoch_minutes(runs: list[SavedRun]) -> float:
    """Return the longest time until the kept epoch, in min."""
    times = []
    for run in runs:
        history = run.history
        assert history is not None
        values = history[run.config.objective]
        kept = values.idxmin() if run.config.objective == "val/loss" else values.idxmax()
        times.append(history["seconds"].iloc[: int(kept) + 1].sum() / 60)
    return float(max(times))
