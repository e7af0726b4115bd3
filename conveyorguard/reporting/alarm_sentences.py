"""Sentences about a run's operating point, shared by its page, its model card and the page of `predict`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from conveyorguard.metrics.alarm_curve import hours_to_claim
from conveyorguard.metrics.alarm_settings import HOURS_PER_WEEK
from conveyorguard.metrics.alarms import OperatingPoint

STAMPED = "The time of an alarm is the end of its window."


def alarm_rule(states: str, point: OperatingPoint) -> str:
    """Say when an alarm starts and ends.

    Args:
        states: the states that are worth an alarm, as `Schema.alarming`.
    """
    return (
        f"An alarm starts when the calibrated probability of {states} reaches {point.on:.3f}. It ends when the "
        f"probability falls below {point.off:.3f}, or at a gap longer than a window."
    )


def threshold_choice(facts: Mapping[str, Any]) -> str:
    """Say how the threshold was chosen on validation.

    Args:
        facts: those of alarms.json.
    """
    if facts.get("choice"):
        return " ".join(_choice_sentences(facts["choice"], facts["settings"]))
    if facts["parts"]["val"]["exposure_hours"]:
        return "The threshold was set on validation: no missed fault, fewest false alarms."
    return (
        "The threshold was set on validation: the highest, up to 0.5, that misses no fault. Validation has no time "
        "without a fault, so false alarms were not counted."
    )


def _choice_sentences(choice: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Say by which rule the threshold was chosen, which demand yields and which sessions decide."""
    count, share = choice["fault_sessions"], f"{settings['miss_rate']:.0%}"
    sessions = f"{count} validation session{'' if count == 1 else 's'} with a fault"
    if choice["guaranteed"]:
        sentences = [
            f"The threshold was chosen on {sessions}, so that a fault like those is missed with a probability of at "
            f"most {share}."
        ]
    elif choice["rule"] == "conformal":
        sentences = [f"The threshold was chosen on {sessions}; a miss rate of {share} is not guaranteed."]
    else:
        sentences = [
            f"The threshold was chosen on {sessions}. That is too few to guarantee a miss rate of {share}, which takes "
            f"{choice['sessions_needed']}."
        ]
        if count > 1:
            sentences.append("It is the median of the thresholds chosen without each of them.")
    if choice["false_per_week"] is None:
        sentences.append("Validation has no time without a fault, so false alarms were not counted.")
    else:
        sentences.append(
            f"Extrapolated from validation it gives {per_week(choice['false_per_week'])} false alarms in a week "
            f"without a fault; the cap is {settings['max_false_per_week']:g}."
        )
    if choice["yields"] == "miss_rate":
        sentences.append(
            f"Cap and miss rate cannot both be had. The cap comes first: {choice['missed']} of {count} validation "
            "faults do not reach the threshold."
        )
    elif choice["yields"]:
        sentences.append(
            "Cap and miss rate cannot both be had. The cap comes first only while it lets half of the faults be "
            "caught; here it yields, and the threshold is the cheapest by alarms.cost of those that catch half."
        )
    moved = [
        f"without {row['session']} " + ("there would be none" if row["on"] is None else f"it would be {row['on']:.3f}")
        for row in choice["deciding"]
    ]
    if moved:
        sentences.append(f"Single sessions decide the threshold: {'; '.join(moved)}.")
    else:
        sentences.append("No single session decides it: without any one it would be the same.")
    return sentences


def per_week(rate: float) -> str:
    """Write a rate: whole numbers from 10 on, two digits below."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def weekly_claim(figures: Mapping[str, Any]) -> str:
    """Say how many false alarms a week the recordings allow, and how long it takes to claim fewer than one.

    Args:
        figures: those of one part in alarms.json.
    """
    bound, count = figures["false_alarms_per_hour_bound"], figures["false_alarms"]
    if bound is None:
        return "No time without a fault was recorded, so nothing can be said of false alarms a week."
    time = duration(figures["exposure_hours"])
    seen = f"{time} without one" if not count else f"{count} in {time}"
    hours = hours_to_claim(1.0, count)
    return (
        f"False alarms: {seen} still allow{'s' if not count else ''} {per_week(bound * HOURS_PER_WEEK)} a week (95 % "
        f"bound). Fewer than one a week can be claimed after {hours:,.0f} h without a fault "
        f"{'and without a false alarm' if not count else 'and no further false alarm'}."
    )


def duration(hours: float) -> str:
    """Write a time as seconds, minutes or hours, whichever reads best."""
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 3 else f"{hours:.1f} h"


def moment(seconds: float) -> str:
    """Write a time since the beginning of a session: `119 s`, `19 h 50 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{seconds:.10g} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" + (f" {rest} s" if rest else "")


def span(alarm: Mapping[Any, Any] | pd.Series) -> str:
    """Say from when to when an alarm lasted, as clock times where the data have them.

    Args:
        alarm: begin and end [s], begin_time and end_time (ISO 8601, empty without dates).
    """
    if alarm["begin_time"]:
        return f"from {alarm['begin_time']} to {alarm['end_time']}"
    return f"from {moment(alarm['begin'])} to {moment(alarm['end'])}"
