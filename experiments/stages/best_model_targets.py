"""Targets of the best model, by fixed rules from pooled comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.evaluation.comparison import Row
from conveyorguard.evaluation.robustness import TOLERATED
from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.notation import MISSING, PERCENT, Notation
from conveyorguard.metrics.resampling import Arm
from experiments.stages.best_model import HALF_A_POINT

FASTER, LATENCY_MS, PARAMETERS, FIT_MINUTES = 10, 4, 1_000_000, 15
GAIN = Notation("+.2f", 100)  # points of a difference


def targets(
    rows: Mapping[str, Row], robust: pd.DataFrame | None, speed: pd.DataFrame, minutes: float, full: bool
) -> pd.DataFrame:
    """Return a row for each target: target, figure, interval, verdict (reached, not reached, or why it is unknown).

    A target on a difference is reached where the end of its interval reaches it. The worst state is that of the best
    arm.

    Args:
        rows: rows of a comparison by arm: fusion_both_film, fusion_<modality>_film and _plain, lightgbm,
            lightgbm_extended_both_film.
        robust: table of `robustness.against_single`.
        speed: table of `speed.side_by_side`.
        minutes: time to the best epoch [min].
        full: whether the data have the size that the targets refer to.
    """
    best = best_arm(rows)
    table = pd.DataFrame(
        [_best_target(best, rows[best]), *_tree_targets(rows), *_worst_state_targets(rows[best]), *_film_targets(rows)]
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


def best_arm(rows: Mapping[str, Row]) -> str:
    """Return the arm of the highest macro-F1 on validation, of whichever model; test does not choose."""
    return max(rows, key=lambda name: rows[name].validation)


def _best_target(name: str, row: Row) -> dict[str, str]:
    score = row.arm.interval("macro_f1")
    bounds = PERCENT.range(score) or MISSING
    return _target(f"best arm by validation: {name}; its macro-F1", PERCENT.number(score.value), bounds, "reported")


def _tree_targets(rows: Mapping[str, Row]) -> list[dict[str, str]]:
    fusion = rows["fusion_both_film"].arm
    plain = fusion.difference(rows["lightgbm"].arm, "macro_f1")
    extended = fusion.difference(rows["lightgbm_extended_both_film"].arm, "macro_f1")
    above = "fusion: macro-F1 above LightGBM on the window's statistics"
    near = "fusion: macro-F1 not more than half a point below LightGBM extended"
    return [_gain(above, plain, plain.low > 0), _gain(near, extended, extended.low >= -HALF_A_POINT)]


def _worst_state_targets(best: Row) -> list[dict[str, str]]:
    severe = best.arm.totals[0].confusion[:, -1].sum(-1)  # windows of the worst state in each session
    targets = []
    for metric, of, target in (
        ("severe_sessions_missed", int((severe > 0).sum()), "no session's worst state missed entirely, by any seed"),
        ("severe_as_normal", int(severe.sum()), "no window of the worst state called normal, by any seed"),
    ):
        target = f"best arm: {target}"
        if not of:
            targets.append(_target(target, "–", "–", "no window has the worst state"))
            continue
        seed = best.predictions[int(best.arm.by_seed(metric).argmax())]
        bound = Arm([seed], best.arm.resampling).interval(metric)
        interval = f"up to {bound.high:.1f}" if np.isfinite(bound.high) else MISSING
        targets.append(_target(target, f"{bound.value:.0f} of {of} by the worst seed", interval, bound.value == 0))
    if severe.any():
        recall = best.arm.interval("severe_recall")
        interval = f"from {PERCENT.number(recall.low)}" if np.isfinite(recall.low) else MISSING
        target = "best arm: recall of the worst state, with its lower bound"
        targets.append(_target(target, PERCENT.number(recall.value), interval, "reported"))
    return targets


def _film_targets(rows: Mapping[str, Row]) -> list[dict[str, str]]:
    targets = []
    for modality in ("sensor", "image", "both"):
        film, plain = (rows.get(f"fusion_{modality}_{name}") for name in ("film", "plain"))
        target = f"fusion: film=true not more than half a point below film=false, {modality}"
        if film and plain:
            d = film.arm.difference(plain.arm, "macro_f1")
            targets.append(_gain(target, d, d.low >= -HALF_A_POINT))
        else:
            targets.append(_target(target, "–", "–", "not run"))
    return targets


def _failure_target(robust: pd.DataFrame) -> dict[str, str]:
    least: Any = min(robust.to_dict("records"), key=lambda row: row["difference_low"])
    d = Interval(least["difference"], least["difference_low"], least["difference_high"])
    target = f"fusion: never more than a point below its better arm of one modality; worst with {least['corruption']}"
    return _gain(target, d, d.low >= -TOLERATED)


def _cost_targets(speed: pd.DataFrame, minutes: float) -> list[dict[str, str]]:
    costs: Any = speed.set_index("model").to_dict("index")
    fusion, tuned = costs["fusion"], costs["dl_tuned"]
    ratio = fusion["windows_per_second"] / tuned["windows_per_second"]
    latency, parameters = fusion["latency_ms"], fusion["parameters"]
    faster = f"fusion: trains {FASTER} times as many windows a second as dl_tuned"
    return [
        _target(faster, f"{ratio:.1f} times", "–", ratio >= FASTER),
        _target(
            f"fusion: a single window in under {LATENCY_MS} ms on one core",
            f"{latency:.2f} ms",
            "–",
            latency < LATENCY_MS,
        ),
        _target("fusion: under a million parameters", f"{parameters:,.0f}", "–", parameters < PARAMETERS),
        _target(
            f"fusion: trained to its best epoch in under {FIT_MINUTES} minutes",
            f"{minutes:.1f} min",
            "–",
            minutes < FIT_MINUTES,
        ),
    ]
