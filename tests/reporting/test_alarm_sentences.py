"""Sentences about alarms, on the page and the card of a run."""

import json

import pytest

from conveyorguard.metrics.alarms import OperatingPoint
from conveyorguard.reporting.alarm_section import highest_cost
from conveyorguard.reporting.alarm_sentences import (
    alarm_rule,
    duration,
    threshold_choice,
    weekly_claim,
)
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from tests.support.made_runs import windows


def figures(false=0, hours=0.0, bound=None, missed=0, faults=2):
    return {
        "false_alarms": false,
        "exposure_hours": hours,
        "false_alarms_per_hour_bound": bound,
        "missed": missed,
        "fault_sessions": faults,
    }


def test_rule_states_both_thresholds():
    rule = alarm_rule("worn or broken", OperatingPoint(0.8, 0.4))
    assert "of worn or broken reaches 0.800" in rule and "falls below 0.400" in rule


def test_threshold_without_time_without_a_fault_is_the_highest_that_misses_none():
    assert "no missed fault, fewest false alarms" in threshold_choice({"parts": {"val": figures(hours=0.1)}})
    assert "the highest, up to 0.5, that misses no fault" in threshold_choice({"parts": {"val": figures()}})


def choice(**values):
    """Return the facts of an alarms.json."""
    record = {
        "rule": "conformal",
        "fault_sessions": 12,
        "sessions_needed": 9,
        "guaranteed": True,
        "missed": 0,
        "false_per_week": 0.0,
        "yields": None,
        "deciding": [],
    }
    return {"choice": {**record, **values}, "settings": {"miss_rate": 0.1, "max_false_per_week": 1.0}}


def test_choice_says_guarantee_yielding_demand_and_deciding_sessions():
    sentence = threshold_choice(choice())
    assert "12 validation sessions with a fault, so that" in sentence and "at most 10%" in sentence
    assert "No single session decides it" in sentence
    few = threshold_choice(choice(rule="leave-one-out", guaranteed=False, fault_sessions=3, false_per_week=None))
    assert "too few to guarantee a miss rate of 10%, which takes 9" in few and "median" in few
    assert "no time without a fault" in few
    yields = threshold_choice(choice(guaranteed=False, yields="miss_rate", missed=2))
    assert "The cap comes first: 2 of 12 validation faults do not reach the threshold" in yields
    assert "here it yields" in threshold_choice(choice(yields="max_false_per_week", false_per_week=250.4))
    deciding = [{"session": "a", "fault": True, "on": 0.25}, {"session": "b", "fault": True, "on": None}]
    assert "without a it would be 0.250; without b there would be none" in threshold_choice(choice(deciding=deciding))


def test_claim_of_few_false_alarms_names_hours_it_takes():
    short = weekly_claim(figures(hours=0.66, bound=4.539))
    assert "40 min without one still allows 763 a week" in short
    assert "Fewer than one a week can be claimed after 503 h without a fault and without a false alarm." in short
    assert "2 in 10.0 h still allow" in weekly_claim(figures(2, 10.0, 0.63))
    assert "nothing can be said" in weekly_claim(figures())


@pytest.mark.parametrize(("hours", "text"), [(0.01, "36 s"), (0.1, "6 min"), (2.99, "179 min"), (3, "3.0 h")])
def test_duration_has_a_unit_that_suits_it(hours, text):
    assert duration(hours) == text


def test_page_and_card_without_time_without_a_fault_say_so(make_run):
    table = windows(devices=3).assign(label=3, seconds_since_onset=40)
    folder = make_run(table=table)
    page, card = write_report(folder).read_text(encoding="utf-8"), write_card(folder).read_text(encoding="utf-8")
    assert "No time without a fault was recorded, so false alarms could not be counted." in page
    assert " in 0 s" not in page
    assert "Validation has no time without a fault" in page and "Validation has no time without a fault" in card


def test_page_and_card_have_curve_precision_and_cost(make_run):
    folder = make_run()
    page, card = write_report(folder).read_text(encoding="utf-8"), write_card(folder).read_text(encoding="utf-8")
    for text in (
        "alarms that were in a fault (precision)",
        "expected cost a month, at 1 fault a month",
        "Guaranteed lead",
    ):
        assert text in page, text
    facts = json.loads((folder / "alarms.json").read_text())["parts"]["test"]
    low, high = (f"{100 * bound:.0f} %" for bound in facts["true_share_interval"])
    assert f"(precision); 95 % interval of the share {low} to {high}" in page and f"({low} to {high})" in card
    assert "at the upper bounds" in page and "at the upper bounds)" in card
    assert "False alarms and lead by threshold" in page and "guaranteed lead |" in card and " \\* |" in card
    assert "calibrated probabilities, as deployed" in page
    assert "of 60 windows in 12 sessions, 10 s to 50 s before the end of the session" in page


def test_run_of_earlier_version_keeps_the_sense_of_its_delays(make_run):
    folder = make_run()
    path = folder / "alarms.json"
    facts = json.loads(path.read_text())
    for part in facts["parts"].values():
        for key in ("curve", "alarms", "true_alarms", "true_share_interval"):
            del part[key]
    del facts["choice"], facts["settings"]
    path.write_text(json.dumps(facts))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "delay after the onset of the fault, median" in page and "expected cost" not in page
    assert "no missed fault, fewest false alarms" in page and "no missed fault" in write_card(folder).read_text()


def test_highest_cost_takes_upper_bounds_of_misses_and_false_alarms():
    facts = {"settings": {"faults_per_month": 2.0, "cost": {"miss": 100.0, "false": 1.0, "late": 3600.0}}}
    figures = {
        "missed_share_interval": [0.0, 0.5],
        "false_alarms_per_hour_bound": 1.0,
        "sessions": [{"delay": 2.0}, {"delay": 4.0}, {"delay": None}],
    }
    # half of 2 faults missed, an alarm an hour for a month, 3 s late for the other fault
    assert highest_cost(facts, figures) == f"{100 + 365.25 / 12 * 24 + 3:,.0f}"
    assert highest_cost(facts, {**figures, "missed_share_interval": None}) == ""
