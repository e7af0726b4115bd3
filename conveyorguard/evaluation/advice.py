"""Advice on fusion: one modality, a cascade or the fused model, by a fixed rule on validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.notation import POINTS
from conveyorguard.metrics.resampling import Arm, Resampling, resample
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun

CLOSE = 0.005  # macro-F1, half a point: what fusion must gain at least, and what a cascade may cost at most
RARELY = 0.5  # largest share of windows for which a cascade may ask the fused model
SINGLE = {"sensor": "sensors alone", "image": "camera alone"}
RULE = (
    "Sensor only (or image only), unless fusion improves macro-F1 over the better single modality by more than half a "
    "point and the interval of the paired difference lies above zero. Then a cascade, if it costs at most half a point "
    "while it asks the fused model for at most half of the windows, those where the single model is least sure. Else "
    "fuse. All figures are from validation; where it is too small for intervals, nothing is recommended. The "
    "rule ignores failures of a modality: see the tables below."
)


@dataclass
class Advice:
    """What to build by the fixed rule, and the figures behind it.

    Attributes:
        choice: 'sensor only', 'image only', 'cascade', 'fuse', or '' if the rule cannot be applied.
        reasons: Sentences with the figures.
    """

    choice: str
    reasons: list[str]


def advise(run: SavedRun, arms: dict[str, SavedRun], part: str) -> Advice:
    """Apply RULE to the saved predictions of a run and its single-modality arms.

    Args:
        run: The fused run.
        arms: Runs by label; those labelled as in SINGLE count.
        part: Part of the split, beside validation, whose figures are reported as well.
    """
    if run.modality != "both":
        return Advice("", [f"The run has one modality ({run.modality}), so there is nothing to fuse."])
    single = {role: arms[name] for role, name in SINGLE.items() if name in arms}
    if not single:
        return Advice("", ["No run of the same model with one modality is given, so the gain by fusion is unknown."])
    role = max(single, key=lambda name: single[name].scores["val"]["macro_f1"])
    gains = {name: fusing_gain(run, single[role], name) for name in dict.fromkeys(["val", part])}
    reasons = [_gain_sentence(SINGLE[role], gains), *_lead_of_single(single, role)]
    if shortage := _resampling(run, "val").shortage:
        return Advice("", [*reasons, f"Nothing is recommended: {shortage} of validation, too few for an interval."])
    if not (gains["val"].low > 0 and gains["val"].value > CLOSE):
        return Advice(f"{role} only", reasons)
    threshold, asked, cost = cascade_threshold(*_answers(run, single[role], "val"))
    (fused, alone), resampling = _answers(run, single[role], part), _resampling(run, part)
    mixed = cascade(fused, alone, threshold)
    before, after = (Arm([x], resampling).by_seed("macro_f1").mean() for x in (fused, mixed))
    share = float((alone.p.max(axis=1) < threshold).mean())
    reasons.append(
        f"A cascade that asks the fused model where the largest probability by {SINGLE[role]} is below {threshold:.2f} "
        f"asks it for {asked:.0%} of the windows on validation, at a cost of {100 * cost:.1f} points of macro-F1; on "
        f"{part} for {share:.0%} of the windows, with macro-F1 {after:.3f} instead of {before:.3f}."
    )
    return Advice("cascade" if asked <= RARELY else "fuse", reasons)


def _gain_sentence(single: str, gains: dict[str, Interval]) -> str:
    """Return a sentence on the gain by fusion over the better single modality on each part of the split."""
    changes = [
        f"{POINTS.number(gain.value)} points of macro-F1 on {'validation' if name == 'val' else name}"
        + (f" ({bounds})" if (bounds := POINTS.range(gain)) else "")
        + f": {gain.verdict}"
        for name, gain in gains.items()
    ]
    return f"Fusion against {single}, the better single modality on validation: {'; '.join(changes)}."


def _lead_of_single(single: dict[str, SavedRun], role: str) -> list[str]:
    """Return a sentence on how far the better modality leads the other on validation; empty with one modality."""
    sentences = []
    for other in single:
        if other != role:
            lead = fusing_gain(single[role], single[other], "val")
            bounds = POINTS.range(lead)
            sentences.append(
                f"{SINGLE[role].capitalize()} against {SINGLE[other]}: {POINTS.number(lead.value)} points of macro-F1 "
                f"on validation{f' ({bounds})' if bounds else ''}: {lead.verdict}."
            )
    return sentences


def fusing_gain(run: SavedRun, single: SavedRun, part: str) -> Interval:
    """Return the paired difference of macro-F1, the fused run minus a single-modality arm."""
    resampling = _resampling(run, part)
    fused, alone = _answers(run, single, part)
    return Arm([fused], resampling).difference(Arm([alone], resampling), "macro_f1")


def cascade(fused: Predictions, single: Predictions, threshold: float) -> Predictions:
    """Use the single model where its largest probability reaches the threshold, else the fused model."""
    sure = single.p.max(axis=1) >= threshold
    return Predictions(single.y_true, np.where(sure[:, None], single.p, fused.p), single.session)


def cascade_threshold(fused: Predictions, single: Predictions) -> tuple[float, float, float]:
    """Find the lowest threshold at which a cascade costs at most CLOSE.

    Returns:
        Threshold, share of windows for which the fused model is asked, cost in macro-F1.
    """
    resampling = resample(np.zeros(len(fused.y_true), int), np.zeros(len(fused.y_true), int))

    def score(p: Predictions) -> float:
        return float(Arm([Predictions(p.y_true, p.p, np.zeros(len(p.y_true), int))], resampling).by_seed("macro_f1")[0])

    whole, sureness = score(fused), single.p.max(axis=1)
    for threshold in np.unique(np.quantile(sureness, np.linspace(0, 1, 41))):
        cost = whole - score(cascade(fused, single, threshold))
        if cost <= CLOSE:
            return float(threshold), float((sureness < threshold).mean()), float(cost)
    return float(np.nextafter(1, 2)), 1.0, 0.0


def _answers(run: SavedRun, single: SavedRun, part: str) -> tuple[Predictions, Predictions]:
    """Return the answers of two runs: as deployed, or as trained where either is of an earlier version."""
    prefix = "c" if run.answer == single.answer == "c" else "p"
    return as_predictions(run.rows(part), prefix), as_predictions(single.rows(part), prefix)


def _resampling(run: SavedRun, part: str) -> Resampling:
    rows = run.rows(part)
    return resample(rows["session"].to_numpy(), rows["device"].to_numpy())
