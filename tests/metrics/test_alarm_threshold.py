"""The alarm threshold: its guarantee, the order in which demands yield, the sessions that decide it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from conveyorguard.errors import ConfigError
from conveyorguard.metrics.alarm_curve import alarm_curve, expected_cost, guaranteed_lead, hours_to_claim
from conveyorguard.metrics.alarm_settings import AlarmCost, AlarmSettings
from conveyorguard.metrics.alarm_threshold import choose_operating_point, with_hysteresis
from conveyorguard.metrics.alarms import OperatingPoint, episodes, fault_sessions, summarise, with_scores
from tests.metrics.test_alarms import recording

pytestmark = pytest.mark.promise(
    "numbers",
    "With enough validation faults the next fault is missed with a probability of at most `alarms.miss_rate`, unless "
    "the cap `alarms.max_false_per_week` does not allow it, which is said; one mislabelled session in ten does not "
    "multiply false alarms.",
)


def faults(peaks):
    """Return sessions with a fault that reach these scores in the alarm state."""
    return [recording(f"f{i:03}", [0.001, 0.001, peak], [0, 0, 1], onset=45) for i, peak in enumerate(peaks)]


def healthy(peaks, windows=40):
    """Return sessions without a fault that reach these scores once."""
    return [recording(f"h{i:03}", [*[0.001] * (windows - 1), peak], [0] * windows) for i, peak in enumerate(peaks)]


def choose(*sessions, **values):
    return choose_operating_point(pd.concat([*sessions]), AlarmSettings(**values), stride=10)


@settings(max_examples=25)
@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=30), st.sampled_from([0.05, 0.1, 0.25, 0.5]))
def test_conformal_threshold_keeps_bound_and_fewer_sessions_claim_nothing(peaks, rate):
    choice = choose(*faults(peaks), *healthy([0.002]), miss_rate=rate, max_false_per_week=1e9)
    n = len(peaks)
    if n < np.ceil(1 / rate) - 1:
        assert choice.rule == "leave-one-out" and not choice.guaranteed
        return
    missed = np.count_nonzero(np.array(peaks) < choice.point.on)
    assert choice.rule == "conformal" and choice.guaranteed and choice.missed == missed
    assert n / (n + 1) * missed / n + 1 / (n + 1) <= rate + 1e-9


@pytest.mark.parametrize(("n", "allowed"), [(8, 0), (9, 0), (18, 0), (19, 1), (28, 1), (29, 2), (99, 9)])
def test_misses_allowed_are_those_of_conformal_risk_control(n, allowed):
    assert AlarmSettings(miss_rate=0.1).sessions_needed == 9
    assert AlarmSettings(miss_rate=0.1).allowed_misses(n) == allowed


def test_next_fault_is_missed_no_more_often_than_promised():
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(60):
        choice = choose(*faults(rng.random(20)), *healthy([0.0005]), miss_rate=0.2, max_false_per_week=1e9)
        missed.append(np.mean(rng.random(500) < choice.point.on))
    assert np.mean(missed) <= 0.2


def test_few_faults_take_median_of_thresholds_without_each():
    choice = choose(*faults([0.3, 0.8, 0.9]), *healthy([0.01] * 3))
    alone = [choose(*faults(peaks), *healthy([0.01] * 3)) for peaks in ([0.3, 0.8], [0.3, 0.9], [0.8, 0.9])]
    assert choice.rule == "leave-one-out" and not choice.guaranteed and choice.sessions_needed == 9
    of_pairs = sorted(c.point.on for c in alone)
    assert choice.point.on <= of_pairs[-1] and choice.missed == 0


def test_one_mislabelled_session_does_not_move_threshold():
    """A healthy session labelled as a fault: the lowest score of a fault was 0.73, now it is 0.0004."""
    clean = choose(*faults([0.73, 0.8, 0.9, 0.95]), *healthy([0.05] * 8))
    wrong = choose(*faults([0.73, 0.8, 0.9, 0.95, 0.0004]), *healthy([0.05] * 8))
    assert wrong.point.on == pytest.approx(clean.point.on, rel=0.05)
    assert wrong.yields == "miss_rate" and wrong.missed == 1 and not wrong.guaranteed


def test_cap_comes_first_as_long_as_half_of_faults_are_caught():
    noise = healthy([0.5] * 4)
    choice = choose(*faults([0.2, 0.3, *[0.9] * 10]), *noise)
    assert choice.yields == "miss_rate" and choice.missed == 2 and choice.false_per_week == 0 and choice.point.on > 0.5
    lost = choose(*faults([*[0.3] * 8, 0.9, 0.9, 0.9, 0.9]), *noise)
    assert lost.yields == "max_false_per_week" and lost.missed == 0 and lost.false_per_week > 1
    patient = choose(*faults([0.2, 0.3, *[0.9] * 10]), *noise, max_false_per_week=1e6)
    assert patient.yields is None and patient.missed == 0 and patient.guaranteed


def test_costs_decide_where_cap_yields():
    sessions = [*faults([0.1, *[0.3] * 6, *[0.9] * 5]), *healthy([*[0.2] * 30, 0.5])]
    cheap = choose(*sessions, cost=AlarmCost(miss=1.0))
    dear = choose(*sessions, cost=AlarmCost(miss=1e9))
    assert cheap.yields == dear.yields == "max_false_per_week"
    assert cheap.missed == 1 and dear.missed == 0


def test_deciding_sessions_are_named_with_threshold_without_them():
    sessions = [*faults([0.4, 0.9, 0.9]), *healthy([0.01, 0.02])]
    choice = choose(*sessions)
    first = choice.deciding[0]
    without = choose(*[s for s in sessions if s["session"].iloc[0] != first.session])
    assert first.on == pytest.approx(without.point.on) and first.on != choice.point.on
    only = choose(*faults([0.9]), *healthy([0.01]))
    assert [(d.session, d.on) for d in only.deciding if d.fault] == [("f000", None)]
    effects = [abs(logit(d.on) - logit(choice.point.on)) for d in choice.deciding]
    assert effects == sorted(effects, reverse=True)


def test_scores_of_exactly_zero_and_one_and_one_exceeded_by_rounding_give_valid_point():
    for peak in (0.0, 1.0, 1 + 1e-7):
        for count in (1, 2, 20):
            point = choose(*faults([peak] * count), *healthy([0.0, 1.0])).point
            assert 0 < point.off <= point.on <= 1


def test_curve_has_chosen_point_and_fewer_false_alarms_at_higher_thresholds():
    table = pd.concat([*faults([0.6, 0.7, 0.9]), *healthy([0.1, 0.3, 0.65])])
    point = OperatingPoint(0.5, 0.25)
    curve = alarm_curve(table, point, AlarmSettings(), stride=10)
    (chosen,) = [entry for entry in curve if entry["chosen"]]
    summary = summarise(table, point, 10)
    assert chosen["on"] == 0.5 and chosen["missed"] == summary["missed"] == 0
    assert chosen["false_per_week"] == pytest.approx(summary["false_alarms"] / summary["exposure_hours"] * 168)
    assert [entry["on"] for entry in curve] == sorted(entry["on"] for entry in curve)
    assert curve[-1]["missed"] == 3 and curve[-1]["lead_seconds"] == 0 and curve[-1]["false_per_week"] == 0


def test_each_threshold_of_the_curve_has_the_figures_of_its_summary():
    rng = np.random.default_rng(0)
    sessions = [recording(f"f{i}", rng.random(20) ** 3, np.arange(20) > 12, onset=99) for i in range(6)]
    table = pd.concat([*sessions, *healthy(rng.random(3))]).sample(frac=1, random_state=0)
    curve = alarm_curve(table, OperatingPoint(0.3, 0.2), AlarmSettings(miss_rate=0.5), stride=10)
    for entry in curve:
        point = OperatingPoint(0.3, 0.2) if entry["chosen"] else with_hysteresis(entry["on"])
        summary = summarise(table, point, 10)
        each = [fault_sessions(session, episodes(session, point)) for session in sessions]
        assert entry["missed"] == summary["missed"] == sum(int(row["missed"].sum()) for row in each)
        assert entry["false_per_week"] == summary["false_alarms"] * 168 / summary["exposure_hours"]
        assert entry["lead_seconds"] == guaranteed_lead(pd.concat(each), 0.5)
    assert len({entry["missed"] for entry in curve}) > 3 < len({entry["lead_seconds"] for entry in curve})


def test_guaranteed_lead_is_order_statistic_and_missed_fault_has_none():
    leads = pd.DataFrame({"lead": [100.0, 50.0, np.nan, *range(200, 217)]})  # 20 sessions
    assert guaranteed_lead(leads, 0.1) == 50 and guaranteed_lead(leads, 0.05) == 0
    assert guaranteed_lead(leads[:2], 0.1) == 50 and guaranteed_lead(leads[:0], 0.1) is None


def test_cost_a_month_adds_misses_false_alarms_and_late_hours():
    table = pd.DataFrame({"missed": [True, False, False, False], "delay": [np.nan, 3600.0, 7200.0, np.nan]})
    demands = AlarmSettings(cost=AlarmCost(miss=100, false=2, late=10), faults_per_month=4)
    weeks = 365.25 / 12 / 7
    assert expected_cost(table, 3.0, demands) == pytest.approx(100 * 4 * 0.25 + 2 * 3 * weeks + 10 * 4 * 0.75 * 1.5)
    assert expected_cost(table, None, demands) is None and expected_cost(table[:0], 3.0, demands) is None


def test_hours_to_claim_less_than_one_a_week_follow_rule_of_three():
    assert hours_to_claim(1.0) == pytest.approx(-np.log(0.05) * 168)
    assert hours_to_claim(1.0, false_alarms=1) > hours_to_claim(1.0)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"miss_rate": 0}, "alarms.miss_rate=0: must be a share between 0 and 1"),
        ({"miss_rate": True}, "alarms.miss_rate=True"),
        ({"max_false_per_week": float("nan")}, "alarms.max_false_per_week=nan: must be a finite number"),
        ({"cost": {"miss": -1}}, "alarms.cost.miss=-1"),
        ({"faults_per_month": "often"}, "alarms.faults_per_month=often"),
    ],
)
def test_impossible_settings_are_problems(block, message):
    assert any(problem.startswith(message) for problem in AlarmSettings.of(block).problems())


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match=r"alarms\.cost\.misses: no such key"):
        AlarmSettings.of({"cost": {"misses": 1}})
    with pytest.raises(ConfigError, match="must be a block"):
        AlarmSettings.of(5)
    assert AlarmSettings.of(None) == AlarmSettings() and AlarmSettings.of(AlarmSettings().to_dict()) == AlarmSettings()


def test_probabilities_whose_rounded_sum_exceeds_one_give_a_threshold():
    table = pd.concat([*faults([0.5] * 12), *healthy([0.002])])
    p = np.where(table["y_true_alarm"].to_numpy()[:, None], [0.0, np.float64(np.float32(0.7)), 0.3000001], [1.0, 0, 0])
    assert p.sum(axis=1).max() > 1
    scored = with_scores(table.assign(y_true=table["y_true"]), p, alarm=1)
    choice = choose_operating_point(scored, AlarmSettings(), stride=10)
    assert 0 < choice.point.off <= choice.point.on <= 1
