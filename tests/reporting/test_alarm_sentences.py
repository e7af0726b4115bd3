"""Sentences about alarms, on the page and the card of a run."""

import json

import pytest

from conveyorguard.metrics.alarms import OperatingPoint
from conveyorguard.reporting.alarm_sentences import (
    alarm_record,
    alarm_rule,
    duration,
    false_alarms,
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


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (figures(), "No time without a fault was recorded, so false alarms could not be counted."),
        (
            figures(hours=1 / 6, bound=17.1),
            "No false alarm in 10 min without a fault: too short to say how often one would come.",
        ),
        (figures(hours=30, bound=0.1), "No false alarm in 30.0 h without a fault: at most 0.1 an hour (95 % bound)."),
        (figures(1, 0.1, 47.4), "1 false alarm in 6 min without a fault: at most 47.4 an hour (95 % bound)."),
        (figures(2, 0.1, 62.96), "2 false alarms in 6 min without a fault: at most 63.0 an hour (95 % bound)."),
    ],
)
def test_false_alarms_are_told_with_the_time_they_were_counted_in(part, sentence):
    assert false_alarms(part) == sentence


def test_record_is_of_the_test_part_where_the_run_has_one():
    validation = figures(missed=1)
    assert alarm_record({"parts": {"val": validation}}).startswith(
        "On the validation sessions of the run it missed 1 of 2 faults. No time without a fault"
    )
    both = alarm_record({"parts": {"val": validation, "test": figures(faults=3)}})
    assert both.startswith("On the test sessions of the run it missed 0 of 3 faults.")


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
    assert "without a 0.250; without b there would be none" in threshold_choice(choice(deciding=deciding))


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
    assert "False alarms and lead by threshold" in page and "guaranteed lead |" in card and " \\* |" in card
    assert "calibrated probabilities, as deployed" in page
    assert "of 60 windows in 12 sessions, 10 s to 50 s before the end of the session" in page


def test_run_of_earlier_version_keeps_the_sense_of_its_delays(make_run):
    folder = make_run()
    path = folder / "alarms.json"
    facts = json.loads(path.read_text())
    for part in facts["parts"].values():
        for key in ("curve", "alarms", "true_alarms"):
            del part[key]
    del facts["choice"], facts["settings"]
    path.write_text(json.dumps(facts))
    page = write_report(folder).read_text(encoding="utf-8")
    assert "delay after the onset of the fault, median" in page and "expected cost" not in page
    assert "no missed fault, fewest false alarms" in page and "no missed fault" in write_card(folder).read_text()
