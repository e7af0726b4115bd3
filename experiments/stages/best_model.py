"""Targets of the best model, and what each input contributes, by fixed rules from pooled comparisons."""

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
    TOLERATED,
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
from conveyorguard.metrics.notation import MISSING, Notation
from conveyorguard.metrics.resampling import Arm
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.provenance import code_hash
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_parquet

HALF_A_POINT = 0.005  # macro-F1
FASTER, LATENCY_MS, PARAMETERS, FIT_MINUTES = 10, 4, 1_000_000, 15
GAIN = Notation("+.2f", 100)  # points of a difference
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
        question, difference, low, high, verdict, arm, minus, seeds (of the one and of the other).
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


# from a model and an evaluation set to its windows and the predictions on them, by what was done to the recordings
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
    """Return an arm by what was done to the recordings, with the test windows of its folds pooled.

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
        Arms 'whole' and 'cut', as of `with_starts_cut`; empty if no window remains.
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
    """Return arms by what was done to the recordings; empty for tables without a window.

    Args:
        tables: for each seed the predictions as of `_predictions`.
    """
    arms = {}
    for name in tables[0]["corruption"].unique():
        seeds = [t[t["corruption"] == name].sort_values(["session", "start"], ignore_index=True) for t in tables]
        arms[str(name)] = Arm([as_predictions(seed) for seed in seeds], resampled(seeds[0]))
    return arms


def _predictions(run: SavedRun, data: Windows, folder: Path, predict: Predict) -> pd.DataFrame:
    """Return the predictions of a run, from the cache if they are newer than the run and of the same code.

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
    placed = windows.merge(data.frame[["session", "start", "row"]], how="left", validate="one_to_one")
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


def targets(
    rows: Mapping[str, Row], robust: pd.DataFrame | None, speed: pd.DataFrame, minutes: float, full: bool
) -> pd.DataFrame:
    """Return a row for each target: target, figure, interval, verdict (reached, not reached, or why it is unknown).

    Args:
        rows: rows of a comparison by arm: fusion_both_film, fusion_<modality>_film and _plain, lightgbm,
            lightgbm_extended_both_film.
        robust: table of `robustness.against_single`.
        speed: table of `speed.side_by_side`.
        minutes: time to the best epoch [min].
        full: whether the data have the size that the targets refer to.
    """
    best = rows["fusion_both_film"]
    table = pd.DataFrame(
        [*_tree_targets(rows), *_worst_state_targets(best), *_film_targets(rows)]
        + ([] if robust is None else [_failure_target(robust)])
        + [*_cost_targets(speed, minutes)]
    )
    return table if full else table.assign(verdict=[f"{verdict} (not at full size)" for verdict in table["verdict"]])


def _target(target: str, figure: str, interval: str, verdict: str | bool) -> dict[str, str]:
    """Return a row of `targets`; the verdict is whether it was reached, or a sentence."""
    if isinstance(verdict, bool | np.bool_):
        verdict = "reached" if verdict else "not reached"
    return {"target": target, "figure": figure, "interval": interval, "verdict": verdict}


def _gain(target: str, d: Interval, reached: bool) -> dict[str, str]:
    """Return a row of `targets` on a difference of macro-F1."""
    return _target(target, f"{GAIN.number(d.value)} points", GAIN.range(d) or MISSING, reached)


def _tree_targets(rows: Mapping[str, Row]) -> list[dict[str, str]]:
    best = rows["fusion_both_film"].arm
    plain = best.difference(rows["lightgbm"].arm, "macro_f1")
    extended = best.difference(rows["lightgbm_extended_both_film"].arm, "macro_f1")
    above = "macro-F1 above LightGBM on the window's statistics, the interval without zero"
    near = "macro-F1 not more than half a point below LightGBM extended"
    return [_gain(above, plain, plain.low > 0), _gain(near, extended, extended.value >= -HALF_A_POINT)]


def _worst_state_targets(best: Row) -> list[dict[str, str]]:
    severe = best.arm.totals[0].confusion[:, -1].sum(-1)  # windows of the worst state in each session
    targets = []
    for metric, of, target in (
        ("severe_sessions_missed", int((severe > 0).sum()), "no session's worst state missed entirely, by any seed"),
        ("severe_as_normal", int(severe.sum()), "no window of the worst state called normal, by any seed"),
    ):
        if not of:
            targets.append(_target(target, "–", "–", "no window has the worst state"))
            continue
        seed = best.predictions[int(best.arm.by_seed(metric).argmax())]
        bound = Arm([seed], best.arm.resampling).interval(metric)
        interval = f"up to {bound.high:.1f}" if np.isfinite(bound.high) else "–"
        targets.append(_target(target, f"{bound.value:.0f} of {of} by the worst seed", interval, bound.value == 0))
    if severe.any():
        recall = best.arm.interval("severe_recall")
        interval = f"from {100 * recall.low:.1f} %" if np.isfinite(recall.low) else "–"
        target = "recall of the worst state, with its lower bound"
        targets.append(_target(target, f"{100 * recall.value:.1f} %", interval, "reported"))
    return targets


def _film_targets(rows: Mapping[str, Row]) -> list[dict[str, str]]:
    targets = []
    for modality in ("sensor", "image", "both"):
        film, plain = (rows.get(f"fusion_{modality}_{name}") for name in ("film", "plain"))
        target = f"film=true not more than half a point below film=false, {modality}"
        if film and plain:
            d = film.arm.difference(plain.arm, "macro_f1")
            targets.append(_gain(target, d, d.value >= -HALF_A_POINT))
        else:
            targets.append(_target(target, "–", "–", "not run"))
    return targets


def _failure_target(robust: pd.DataFrame) -> dict[str, str]:
    least: Any = min(robust.to_dict("records"), key=lambda row: row["difference"])
    d = Interval(least["difference"], least["difference_low"], least["difference_high"])
    target = f"never more than a point below its better arm of one modality; worst with {least['corruption']}"
    return _gain(target, d, d.value >= -TOLERATED)


def _cost_targets(speed: pd.DataFrame, minutes: float) -> list[dict[str, str]]:
    costs: Any = speed.set_index("model").to_dict("index")
    fusion, tuned = costs["fusion"], costs["dl_tuned"]
    ratio = fusion["windows_per_second"] / tuned["windows_per_second"]
    latency, parameters = fusion["latency_ms"], fusion["parameters"]
    faster = f"trains {FASTER} times as many windows a second as dl_tuned"
    return [
        _target(faster, f"{ratio:.1f} times", "–", ratio >= FASTER),
        _target(
            f"a single window in under {LATENCY_MS} ms on one core", f"{latency:.2f} ms", "–", latency < LATENCY_MS
        ),
        _target("under a million parameters", f"{parameters:,.0f}", "–", parameters < PARAMETERS),
        _target(
            f"trained to its best epoch in under {FIT_MINUTES} minutes",
            f"{minutes:.1f} min",
            "–",
            minutes < FIT_MINUTES,
        ),
    ]
