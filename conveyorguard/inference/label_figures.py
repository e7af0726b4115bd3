"""How predictions agree with labels: sentences for the terminal and the page, and the content of metrics.json."""

from __future__ import annotations

import math
from typing import Any

from conveyorguard.data.schema import Schema
from conveyorguard.inference.summary import PredictionTotals
from conveyorguard.metrics.intervals import FEWEST_DEVICES, FEWEST_SESSIONS, Interval
from conveyorguard.metrics.notation import PERCENT

PARTS = {"train": "training", "val": "validation"}
OVER_DEVICES = "; ranges are 95 % intervals over devices, which are taken as independent"
OVER_SESSIONS = "; ranges are 95 % intervals over sessions of the one device, which are taken as independent"
NO_INTERVALS = (
    f"; too few were labelled for intervals, which need {FEWEST_SESSIONS} sessions, and {FEWEST_DEVICES} devices where "
    "there are several"
)


def labelled_sentence(totals: PredictionTotals, schema: Schema) -> str:
    """Return a sentence on how predictions and alarms agree with the labels.

    Args:
        totals: counts, of at least one labelled window.
        schema: the states, and the lowest one worth an alarm.
    """
    sentence = (
        f"{PERCENT.with_range(totals.right_interval)} of {totals.labelled:,} labelled windows are predicted correctly"
    )
    name = schema.states[schema.alarm].name
    if totals.faults:
        bounds = _range(totals.missed_interval)
        sentence += f"; {totals.missed} of {totals.faults}{bounds} sessions that reach {name} have no alarm"
    if totals.false:
        bounds = _range(totals.false_interval)
        healthy = totals.judged - totals.faults
        sentence += f"; {totals.false} of {healthy}{bounds} sessions that do not reach {name} have an alarm"
    if not any(interval.known for interval in (totals.right_interval, totals.missed_interval, totals.false_interval)):
        return sentence + NO_INTERVALS
    return sentence + (OVER_DEVICES if totals.devices > 1 else OVER_SESSIONS)


def _range(share: Interval) -> str:
    """Return the interval of a share in parentheses, or nothing if it has none."""
    bounds = PERCENT.range(share)
    return f" ({bounds})" if bounds else ""


def use_sentence(totals: PredictionTotals) -> str:
    """Return a sentence on how many sessions the run was trained or validated on, recognised by their content."""
    if totals.unused is None:
        return (
            "the run is of an earlier version and does not record the content of its training sessions, so some of "
            "these may be among them; train again to see them scored apart"
        )
    predicted = totals.recordings - totals.unpredicted
    if not totals.used:
        return f"none of these {predicted} sessions was used in training or validation"
    parts = " and ".join(f"{totals.used[part]} in {name}" for part, name in PARTS.items() if totals.used[part])
    if totals.unused.recordings == 0:
        return f"all {predicted} sessions were used for this run ({parts}): this says nothing about other sessions"
    return f"of {predicted} sessions, {parts} of this run, by content"


def label_sentences(totals: PredictionTotals, schema: Schema) -> list[str]:
    """Return sentences on all labelled windows, and apart on those of sessions that the run was not trained on.

    Args:
        totals: counts, of at least one labelled window.
        schema: the states, and the lowest one worth an alarm.
    """
    sentences = [labelled_sentence(totals, schema), use_sentence(totals)]
    if totals.used and totals.unused is not None and totals.unused.labelled:
        count = totals.unused.judged
        sentences.append(
            f"of the {count} labelled sessions used in neither: {labelled_sentence(totals.unused, schema)}"
        )
    return sentences


def label_figures(totals: PredictionTotals) -> dict[str, Any]:
    """Return the content of metrics.json: figures over all labelled sessions, and over those not trained on."""
    return {
        "all": _figures(totals),
        "used_in_training": totals.used["train"] if totals.unused is not None else None,
        "used_in_validation": totals.used["val"] if totals.unused is not None else None,
        "not_used": _figures(totals.unused) if totals.unused is not None else None,
    }


def _figures(totals: PredictionTotals) -> dict[str, Any] | None:
    """Return the figures over labelled sessions; None where there is none."""
    if not totals.labelled:
        return None
    bounds = totals.right_interval
    return {
        "sessions": totals.judged,
        "windows": totals.labelled,
        "accuracy": totals.right,
        "accuracy_interval": [bounds.low, bounds.high] if math.isfinite(bounds.low) else None,
        "fault_sessions": totals.faults,
        "missed": totals.missed,
        "false_alarm_sessions": totals.false,
        "confusion": totals.confusion.tolist(),
    }
