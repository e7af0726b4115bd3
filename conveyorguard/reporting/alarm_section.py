"""What an operating point is worth: tiles, curve and table of the run's page, its card and the page of `predict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.metrics.alarm_settings import HOURS_PER_WEEK, AlarmSettings
from conveyorguard.metrics.alarms import OperatingPoint
from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.notation import MISSING, WHOLE_PERCENT
from conveyorguard.reporting import figures as drawing
from conveyorguard.reporting import pages
from conveyorguard.reporting.alarm_sentences import (
    STAMPED,
    alarm_rule,
    duration,
    per_week,
    threshold_choice,
    weekly_claim,
)

PARTS = {"val": "validation", "test": "test"}
ROWS = 8  # of the curve as a table


def alarm_section(facts: Mapping[str, Any], part: str, schema: Schema, applied: bool = False) -> dict[str, Any] | None:
    """Return what the operating point means on a part; None where validation gave none.

    Args:
        facts: those of alarms.json; empty where the run has none.
        part: of the split.
        schema: of the data.
        applied: whether the page is of other sessions, and says above when an alarm starts.
    """
    if not facts.get("operating_point"):
        return None
    of_part = facts["parts"][part]
    points = [point for point in of_part.get("curve") or [] if _is_drawn(point)]
    return {
        "tiles": _tiles(facts, of_part),
        "choice": _choice(facts, schema, applied),
        "note": _note(facts, part, schema, applied),
        "plot": (
            pages.figure(
                drawing.alarm_curve(points, "False alarms and lead by threshold"),
                f"false alarms a week over the guaranteed lead, on {PARTS[part]}",
            )
            if any(point["chosen"] for point in points)
            else None
        ),
        "plot_note": curve_note(facts, part),
        "sessions": pages.sortable(
            ["session", "device", "alarm at", "lead before its end, s", f"delay after {_zero(facts)}, s"],
            [
                [
                    row["session"],
                    row["device"],
                    "missed" if row["missed"] else f"{row['alarm_at']} s",
                    _whole(row["lead"]),
                    _whole(row["delay"]),
                ]
                for row in of_part["sessions"]
            ],
        ),
    }


def precision(figures: Mapping[str, Any]) -> str:
    """Return how many of the alarms were in a fault: `8 of 9`; a dash in runs of earlier versions."""
    count, true = figures.get("alarms"), figures.get("true_alarms")
    return MISSING if not count or true is None else f"{true} of {count}"


def share_range(bounds: Sequence[float] | None) -> str:
    """Return the interval of a share, as in `69 % to 100 %`; empty if there is none."""
    return WHOLE_PERCENT.range(Interval(np.nan, *bounds)) if bounds else ""


def monthly_cost(figures: Mapping[str, Any]) -> str:
    """Return the expected cost a month at the operating point; a dash where it is unknown."""
    costs = [point["cost_per_month"] for point in figures.get("curve") or [] if point["chosen"]]
    return _cost(costs[0] if costs else None)


def highest_cost(facts: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Return the cost a month at the upper bounds of missed faults and false alarms; empty where one is unknown.

    Args:
        facts: those of alarms.json.
        figures: those of one part in it.
    """
    missed, false = figures["missed_share_interval"], figures["false_alarms_per_hour_bound"]
    if missed is None or false is None:
        return ""
    delays = [row["delay"] for row in figures["sessions"] if row["delay"] is not None]
    late = float(np.mean(delays)) / 3600 if delays else 0.0
    return _cost(AlarmSettings.of(facts["settings"]).cost_per_month(missed[1], false * HOURS_PER_WEEK, late))


def _cost(cost: float | None) -> str:
    if cost is None:
        return MISSING
    return f"{cost:,.0f}" if cost >= 10 else f"{cost:.2f}" if cost >= 0.01 or not cost else "under 0.01"


def curve_rows(figures: Mapping[str, Any]) -> list[list[str]]:
    """Return the curve as rows of a table, from low to high thresholds, the one in use marked by a star."""
    points = figures.get("curve") or []
    different = [
        point
        for before, point in zip([{}, *points], points, strict=False)
        if point["chosen"] or _worth(before) != _worth(point)
    ]
    step = max(-(-len(different) // ROWS), 1)
    return [
        [
            f"{point['on']:.4f}{' *' if point['chosen'] else ''}",
            MISSING if point["false_per_week"] is None else per_week(point["false_per_week"]),
            MISSING if point["lead_seconds"] is None else f"{point['lead_seconds']:,.0f} s",
            str(point["missed"]),
            _cost(point["cost_per_month"]),
        ]
        for i, point in enumerate(different)
        if point["chosen"] or i % step == 0
    ]


def curve_note(facts: Mapping[str, Any], part: str) -> str:
    """Say what the guaranteed lead is; nothing for a run of an earlier version."""
    if not facts.get("choice"):
        return ""
    settings, figures = facts["settings"], facts["parts"][part]
    share, count, hours = f"{1 - settings['miss_rate']:.0%}", figures["fault_sessions"], figures["exposure_hours"]
    if count >= facts["choice"]["sessions_needed"]:
        lead = (
            f"Guaranteed lead: by the {count} faults of the {PARTS[part]} part, the next one has at least this time "
            f"from its alarm to the end of the session with a probability of {share}"
        )
    else:
        lead = (
            f"The lead is the shortest of {count} faults on the {PARTS[part]} part: a lead for {share} of faults takes "
            f"{facts['choice']['sessions_needed']}"
        )
    week = (
        f" False alarms a week are extrapolated: one in the {duration(hours)} without a fault makes "
        f"{per_week(HOURS_PER_WEEK / hours)} a week."
        if hours
        else ""
    )
    return f"{lead}; a missed fault counts as 0. A lower threshold gives more lead and more false alarms.{week}"


def times_sentence(facts: Mapping[str, Any], part: str) -> str:
    """Say how late the alarms came and how long before the end of the session."""
    figures = facts["parts"][part]
    return (
        f"On the {PARTS[part]} part the median delay (least to most) after {_zero(facts)} is "
        f"{_spread(figures['delay_seconds'])}, the median lead before the end of the session "
        f"{_spread(figures['lead_seconds'])}."
    )


def _tiles(facts: Mapping[str, Any], figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    hours, bound = figures["exposure_hours"], figures["false_alarms_per_hour_bound"]
    missed, right = share_range(figures["missed_share_interval"]), share_range(figures.get("true_share_interval"))
    interval = "; 95 % interval of the share "
    tiles = [
        (
            "sessions with a fault, missed" + (interval + missed if missed else ""),
            f"{figures['missed']} of {figures['fault_sessions']}",
        ),
        ("lead before the session's end, median (least to most)", _spread(figures["lead_seconds"])),
        (f"delay after {_zero(facts)}, median (least to most)", _spread(figures["delay_seconds"])),
        ("alarms that were in a fault (precision)" + (interval + right if right else ""), precision(figures)),
        (
            "false alarms in the time without a fault",
            f"{figures['false_alarms']} in {duration(hours)}" if hours else MISSING,
        ),
        ("false alarms a week, 95 % upper bound", MISSING if bound is None else per_week(bound * HOURS_PER_WEEK)),
    ]
    if facts.get("choice"):
        faults = facts["settings"]["faults_per_month"]
        noun = "fault" if faults == 1 else "faults"
        caption, most = f"expected cost a month, at {faults:g} {noun} a month", highest_cost(facts, figures)
        tiles.append((f"{caption}; {most} at the upper bounds" if most else caption, monthly_cost(figures)))
    return tiles


def _choice(facts: Mapping[str, Any], schema: Schema, applied: bool) -> str:
    """Say when an alarm starts and ends, and how the threshold was chosen; `applied` as for `alarm_section`."""
    point = facts["operating_point"]
    rule = alarm_rule(schema.alarming, OperatingPoint(point["on"], point["off"]))
    return threshold_choice(facts) if applied else f"{rule} {STAMPED} {threshold_choice(facts)}"


def _note(facts: Mapping[str, Any], part: str, schema: Schema, applied: bool) -> str:
    """Say what the figures of a part are of; `applied` as for `alarm_section`."""
    figures = facts["parts"][part]
    sentences = [
        f"These figures are of the {PARTS[part]} part of the run{', not of the sessions above' if applied else ''}.",
        _delay_note(facts, schema),
    ]
    if figures["exposure_hours"]:
        sentences.append(weekly_claim(figures))
    else:
        sentences.append("No time without a fault was recorded, so false alarms could not be counted.")
    if early := figures.get("early_alarms", 0):  # runs of earlier versions lack it
        sentences.append(
            f"Started after an onset without reaching {schema.alarming}, and counted neither as false nor as a hit: "
            f"{early} alarm{'' if early == 1 else 's'}."
        )
    if facts.get("choice"):
        cost = facts["settings"]["cost"]
        sentences.append(
            f"Expected cost: {cost['miss']:g} for a missed fault, {cost['false']:g} for a false alarm and "
            f"{cost['late']:g} for each hour of delay (alarms.cost), at the rates seen here; in the tile also at the "
            "upper bounds of missed faults and false alarms."
        )
    return " ".join(sentences)


def _delay_note(facts: Mapping[str, Any], schema: Schema) -> str:
    if not facts.get("choice"):
        return (
            f"Delays count from the onset, the first second that is not {schema.states[0].name}; a session that starts "
            "with the fault has none."
        )
    return (
        f"The delay counts from the first second in {schema.alarming}; it is 0 for an earlier alarm, and unknown for a "
        "session that starts in that state."
    )


def _zero(facts: Mapping[str, Any]) -> str:
    """Return from what delays count; runs of earlier versions counted from the first worn state."""
    return f"the onset of {facts['state']}" if facts.get("choice") else "the onset of the fault"


def _is_drawn(point: Mapping[str, Any]) -> bool:
    return point["false_per_week"] is not None and point["lead_seconds"] is not None


def _worth(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(point.get(key) for key in ("missed", "false_per_week", "lead_seconds", "cost_per_month"))


def _spread(seconds: Mapping[str, float] | None) -> str:
    if seconds is None:
        return MISSING
    return f"{seconds['median']:.0f} s ({seconds['least']:.0f} to {seconds['most']:.0f})"


def _whole(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f}"
