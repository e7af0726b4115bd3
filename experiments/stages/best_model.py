"""The best model's targets, and what each input buys, by fixed rules from pooled comparisons."""

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
from conveyorguard.metrics.bootstrap import Arm, Interval
from conveyorguard.metrics.notation import MISSING, Notation
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.provenance import code_hash
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_parquet

HALF_A_POINT = 0.005  # macro-F1
FASTER, LATENCY_MS, PARAMETERS, FIT_MINUTES = 10, 4, 1_000_000, 15
GAIN = Notation("+.2f", 100)  # points of a difference
RULE = (
    "Helps: the interval of the paired difference of macro-F1 lies above zero. Does not: it lies below half a "
    "point. Else not shown."
)


def verdict(gain: Interval) -> str:
    """RULE."""
    return "helps" if gain.low > 0 else "does not" if gain.high < HALF_A_POINT else "not shown"


def findings(rows: Mapping[str, Row], pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """What the first arm of each pair has before the second: question, difference, low, high, verdict, arm, minus, and
    how many seeds each of the two has.

    Args:
        pairs: question -> names of two arms; those that are not there are left out.
    """
    found = []
    for question, (arm, reference) in pairs.items():
        if arm in rows and reference in rows:
            d = rows[arm].arm.difference(rows[reference].arm, "macro_f1")
            found.append(
                {
                    "question": question,
                    "difference": d.value,
                    "low": d.low,
                    "high": d.high,
                    "verdict": verdict(d),
                    "arm": arm,
                    "minus": reference,
                    "seeds": ", ".join(str(len(rows[name].predictions)) for name in (arm, reference)),
                }
            )
    return pd.DataFrame(found, columns=["question", "difference", "low", "high", "verdict", "arm", "minus", "seeds"])


# what a model says about windows of a trial, by the name of what was done to the recordings
How = Callable[[LoadedRun, EvaluationSet], tuple[pd.DataFrame, dict[str, Predictions]]]


def corrupted(model: LoadedRun, trial: EvaluationSet) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """All windows of the trial, and what a model says about them under each corruption."""
    return trial.windows, under_corruption(model, trial)


def pooled_arm(
    runs: Mapping[int, Mapping[int, SavedRun]], data: Mapping[int, Windows], folder: Path, how: How, workers: int = 1
) -> dict[str, Arm]:
    """An arm by what was done to the recordings, the test windows of its folds pooled.

    Args:
        runs: by seed, by fold. data: by fold. folder: keeps the predictions, so that the same code makes them once.
        how: `corrupted`, `with_starts_cut` or `second_by_second`. workers: runs tried at a time, each in a process.
    """
    every = [(run, data[fold]) for folds in runs.values() for fold, run in folds.items()]
    with warnings.catch_warnings():
        # joblib starts a worker anew that has grown, as by a store's frames
        warnings.filterwarnings("ignore", "A worker stopped")
        tables = iter(joblib.Parallel(workers)(joblib.delayed(_tried)(run, own, folder, how) for run, own in every))
    return _arms([pd.concat([next(tables) for _ in folds]) for folds in runs.values()])


def elapsed_arm(data: Mapping[int, Windows]) -> dict[str, Arm]:
    """The shortcut that knows the elapsed seconds alone, as `with_starts_cut` tries models; the folds pooled.

    Args:
        data: by fold.
    """
    tables = []
    for own in data.values():
        _, kept, begin = EvaluationSet(own.store, own.split, own.settings, "test").starts_cut
        if not len(kept):
            continue
        shortcut = fit_shortcuts(own)[ELAPSED]
        for name, end in (("whole", kept["end"]), ("cut", kept["end"] - begin)):
            p = shortcut_probabilities(shortcut, end.to_numpy(float)[:, None], len(own.store.schema.states))
            tables.append(_table(name, Predictions(kept["label"].to_numpy(), p, kept["session"].to_numpy()), kept))
    return _arms([pd.concat(tables)]) if tables else {}


def on_other_recordings(runs: Iterable[SavedRun], data: Windows, folder: Path) -> Arm:
    """An arm on all windows of other recordings than its runs were made on; each run counts as a seed.

    Args:
        folder: keeps the predictions, so that the same code makes them once.
    """
    return _arms([_tried(run, data, folder, _every_window) for run in runs])["whole"]


def _every_window(model: LoadedRun, trial: EvaluationSet) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    windows = make_windows(trial.store, trial.settings)
    return windows, {"whole": predictions_on(model, trial.store, windows)}


def _arms(tables: list[pd.DataFrame]) -> dict[str, Arm]:
    """Arms by what was done to the recordings, of tables as of `_tried`, one a seed; none of tables without a
    window."""
    found = {}
    for name in tables[0]["corruption"].unique():
        own = [t[t["corruption"] == name].sort_values(["session", "start"], ignore_index=True) for t in tables]
        found[str(name)] = Arm([as_predictions(t) for t in own], resampled(own[0]))
    return found


def _tried(run: SavedRun, data: Windows, folder: Path, how: How) -> pd.DataFrame:
    """Predictions of a run, made once by the same code: corruption, session, device, start, y_true, p0, p1, ..."""
    folder = folder / code_hash()
    path, made = folder / f"{run.folder.name}.parquet", run.folder / "predictions.parquet"
    if path.is_file() and path.stat().st_mtime > made.stat().st_mtime:
        return pd.read_parquet(path)
    windows, found = how(LoadedRun(run.folder), EvaluationSet(data.store, data.split, data.settings, "test"))
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(path, pd.concat([_table(name, p, windows) for name, p in found.items()], ignore_index=True))
    return pd.read_parquet(path)


def _table(name: str, found: Predictions, windows: pd.DataFrame) -> pd.DataFrame:
    table = windows[["session", "device", "start"]].assign(corruption=name, y_true=found.y_true)
    return table.assign(**{f"p{k}": found.p[:, k] for k in range(found.p.shape[1])})


def starts_cut_table(arms: Mapping[str, dict[str, Arm]], reference: str) -> pd.DataFrame:
    """What arms lose without the recordings' start, and what they then have before one of them that knows no start.

    Args:
        arms: by name, of `with_starts_cut`. reference: name of the one that knows no start.

    Returns:
        arm, whole, cut and change with intervals, beside (the cut arm less the cut reference) with its interval, of
        macro-F1; and of the cut arm severe_recall, and by its worst seed severe_sessions_missed and severe_as_normal.
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
                "beside": d.value,
                "beside_low": d.low,
                "beside_high": d.high,
                "severe_recall": float(arm["cut"].by_seed("severe_recall").mean()),
                **worst,
            }
        )
    return pd.DataFrame(rows)


def others_table(arms: Mapping[str, Arm], first: str) -> pd.DataFrame:
    """A row an arm on other recordings: its figures with intervals, the worst of its models, and what the first has
    before it.

    Returns:
        arm, models, macro_f1 and severe_recall with intervals, severe_sessions_missed and severe_as_normal of the worst
        model, difference (the first less it) with its interval.
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
    """`by_label_rule` of each arm, tried by `second_by_second`, with its name as first column."""
    tables = {name: by_label_rule(own) for name, own in arms.items()}
    return pd.concat(tables, names=["arm"]).reset_index("arm").reset_index(drop=True)


def distance_table(windows: pd.DataFrame, data: Windows, arms: breakdown.Arms) -> pd.DataFrame:
    """`breakdown.by_distance` of pooled windows.

    Args:
        windows: of a comparison. data: of any fold, for where they lie in the store.
    """
    placed = windows.merge(data.frame[["session", "start", "row"]], how="left", validate="one_to_one")
    return breakdown.by_distance(data.store, placed, data.settings.size, arms)


def onset_table(runs: Mapping[str, Mapping[int, Mapping[int, SavedRun]]]) -> pd.DataFrame | None:
    """`breakdown.onset_summary` of each seed of each arm, the folds pooled; each fold alarms by its own operating
    point. None where no recording has a state worth an alarm.

    Args:
        runs: by arm, by seed, by fold.
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
    """The longest time to the epoch that was kept, in minutes."""
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
    """The targets, one a row: target, figure, interval, verdict (reached, not reached, or why it cannot be said).

    Args:
        rows: by name: fusion_both_film, fusion_<modality>_film and _plain, lightgbm, lightgbm_extended_both_film.
        robust: of `robustness.against_single`. speed: of `speed.side_by_side`. minutes: to the best epoch.
        full: whether the data have the size that the targets are of.
    """
    best = rows["fusion_both_film"]
    table = pd.DataFrame(
        [*_tree_targets(rows), *_worst_state_targets(best), *_film_targets(rows)]
        + ([] if robust is None else [_failure_target(robust)])
        + [*_cost_targets(speed, minutes)]
    )
    return table if full else table.assign(verdict=[f"{verdict} (not at full size)" for verdict in table["verdict"]])


def _target(target: str, figure: str, interval: str, verdict: str | bool) -> dict[str, str]:
    """A row of `targets`; a verdict is whether the target was reached, or a sentence."""
    if isinstance(verdict, bool | np.bool_):
        verdict = "reached" if verdict else "not reached"
    return {"target": target, "figure": figure, "interval": interval, "verdict": verdict}


def _gain(target: str, d: Interval, reached: bool) -> dict[str, str]:
    """A target of a difference of macro-F1."""
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
        targets.append(_target(target, f"{100 * recall.value:.1f} %", interval, "told"))
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
