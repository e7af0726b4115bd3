"""Alarms on sequences whose results were worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.metrics.alarm_threshold import choose_operating_point
from conveyorguard.metrics.alarms import (
    OperatingPoint,
    episodes,
    fault_sessions,
    summarise,
    with_scores,
    without_fault,
)

pytestmark = pytest.mark.promise(
    "numbers",
    "Lead and delay count from the end of the window, the delay from the onset of the alarm state itself. An alarm "
    "before the onset of wear, or after all is normal again, is false; the rate of false alarms has the upper bound "
    "that the hours observed allow.",
)


def recording(name, scores, actual, onset=None):
    """Return windows of 30 s every 10 s.

    Args:
        name: Session; its first letter is the device.
        scores: Score of each window.
        actual: Whether each window is in a state that warrants an alarm.
        onset: Second from which the device is in the first worn state.
    """
    n = len(scores)
    start = 10 * np.arange(n)
    lesser = start + 29 > onset if onset is not None else np.zeros(n, bool)
    return pd.DataFrame(
        {
            "session": name,
            "device": name[0],
            "start": start,
            "end": start + 29,
            "seconds_to_end": (10 * (n - 1 - np.arange(n))),
            "seconds_since_onset": start + 29.0 - onset if onset is not None else np.nan,
            "score": np.array(scores, float),
            "y_true_alarm": np.array(actual, bool),
            "y_true": np.where(actual, 2, lesser.astype(int)),
        }
    )


def chosen(table):
    """Return the operating point of windows every 10 s."""
    return choose_operating_point(table, stride=10).point


def test_alarm_begins_at_on_and_ends_below_off():
    table = recording("a", [0.1, 0.7, 0.5, 0.6, 0.2, 0.5, 0.8], [0, 0, 1, 1, 0, 0, 0])
    alarms = episodes(table, OperatingPoint(on=0.7, off=0.4))
    assert alarms[["begin", "end", "windows", "true"]].to_dict("records") == [
        {"begin": 39, "end": 59, "windows": 3, "true": True},  # 0.5 continues it, 0.2 ends it, 0.5 begins none
        {"begin": 89, "end": 89, "windows": 1, "true": False},
    ]


def test_lead_and_delay_count_from_end_of_window():
    table = recording("a", [0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], onset=25)
    row = fault_sessions(table, episodes(table, OperatingPoint(0.5, 0.2))).iloc[0]
    assert (row["alarm_at"], row["lead"], row["delay"], row["missed"]) == (49, 10, 0, False)


def test_delay_counts_from_onset_of_alarm_state_itself():
    """Worn from 25 s on, in the alarm state from 59 s on, the alarm at 79 s: 20 s late, not 54."""
    table = recording("a", [0.1, 0.1, 0.1, 0.1, 0.1, 0.9], [0, 0, 0, 1, 1, 1], onset=25)
    point = OperatingPoint(0.5, 0.2)
    assert fault_sessions(table, episodes(table, point)).iloc[0]["delay"] == 20
    assert fault_sessions(table, episodes(table, point), lookback=15).iloc[0]["delay"] == 35
    early = table.assign(score=[0.1, 0.9, 0.9, 0.9, 0.9, 0.9])
    row = fault_sessions(early, episodes(early, point)).iloc[0]
    assert (row["alarm_at"], row["delay"]) == (39, 0), "an alarm between both onsets is not late, and keeps its lead"
    begun = table.assign(y_true_alarm=True)
    assert np.isnan(fault_sessions(begun, episodes(begun, point)).iloc[0]["delay"]), "its onset was not recorded"


def test_false_alarm_does_not_detect_later_fault():
    table = recording("a", [0.9, 0.1, 0.1, 0.1], [0, 0, 1, 1], onset=35)
    point = OperatingPoint(0.5, 0.2)
    row = fault_sessions(table, episodes(table, point)).iloc[0]
    assert row["missed"] and np.isnan(row["lead"])
    summary = summarise(table, point, stride=10)
    assert summary["missed"] == 1 == summary["false_alarms"] and summary["lead_seconds"] is None


def test_alarm_before_onset_is_false_and_after_it_early():
    """A score that is always high misses no fault, and raises a false alarm in every session."""
    always = pd.concat([recording(name, [0.9] * 6, [0, 0, 0, 0, 1, 1], onset=45) for name in "abc"])
    summary = summarise(always, OperatingPoint(0.5, 0.2), stride=10)
    assert (summary["missed"], summary["false_alarms"], summary["early_alarms"]) == (0, 3, 0)
    assert summary["delay_seconds"]["median"] == 0 and summary["lead_seconds"]["median"] == 30, (
        "the lead counts from the window at the onset of wear"
    )
    assert (summary["alarms"], summary["true_alarms"]) == (3, 3)
    assert summary["exposure_hours"] == pytest.approx(3 * 2 * 10 / 3600), "the windows that end before the onset"
    early = recording("a", [0.1, 0.1, 0.9, 0.1, 0.9, 0.9], [0, 0, 0, 0, 1, 1], onset=45)
    summary = summarise(early, OperatingPoint(0.5, 0.2), stride=10)
    assert (summary["missed"], summary["false_alarms"], summary["early_alarms"]) == (0, 0, 1)
    quiet = recording("n", [0.1, 0.9, 0.1], [0, 0, 0])
    assert summarise(pd.concat([early, quiet]), OperatingPoint(0.5, 0.2), stride=10)["false_alarms"] == 1


def test_session_without_alarm_state_is_all_exposure():
    worn = recording("a", [0.1, 0.1, 0.9, 0.9], [0] * 4, onset=20)  # in a less worn state from the first window on
    faulty = recording("b", [0.1, 0.1, 0.9], [0, 0, 1], onset=45)
    summary = summarise(pd.concat([worn, faulty]), OperatingPoint(0.5, 0.2), stride=10)
    assert (summary["false_alarms"], summary["early_alarms"], summary["fault_sessions"]) == (1, 0, 1)
    assert summary["exposure_hours"] == pytest.approx((4 + 2) * 10 / 3600)
    held = chosen(pd.concat([recording("a", [0.1, 0.6, 0.6], [0] * 3, onset=20), faulty]))
    assert held.on > 0.6, "false alarms of a worn session count for the threshold"


def test_missed_share_has_interval_over_devices():
    def faulty(name, device, missed):
        return recording(name, [0.1, 0.1 if missed else 0.9], [0, 1], onset=35).assign(device=device)

    point = OperatingPoint(0.5, 0.2)
    none = pd.concat([faulty(f"s{i:02}", f"d{i}", False) for i in range(10)])
    assert summarise(none, point, 10)["missed_share_interval"] == pytest.approx([0, 1 - 0.025 ** (1 / 10)])
    none = pd.concat([faulty(f"s{i:02}", f"d{i // 5}", False) for i in range(60)])
    assert summarise(none, point, 10)["missed_share_interval"] == pytest.approx([0, 1 - 0.025 ** (1 / 12)])
    # half of twelve devices miss all of their five sessions: the sample size is twelve, not sixty
    devices = pd.concat([faulty(f"s{i:02}", f"d{i // 5}", (i // 5) % 2) for i in range(60)])
    low, high = summarise(devices, point, 10)["missed_share_interval"]
    assert low < 0.3 and high > 0.7
    few = pd.concat([faulty(f"s{i}", "d", i == 0) for i in range(4)])
    assert summarise(few, point, 10)["missed_share_interval"] is None, "four sessions are too few for an interval"
    # eight of twelve devices have faults: the sample size is eight
    healthy = pd.concat([recording(f"n{i}", [0.1, 0.1], [0, 0]).assign(device=f"d{8 + i}") for i in range(4)])
    eight = pd.concat([healthy, *(faulty(f"s{i:02}", f"d{i // 5}", False) for i in range(40))])
    assert summarise(eight, point, 10)["missed_share_interval"] == pytest.approx([0, 1 - 0.025 ** (1 / 8)])


def test_share_of_alarms_in_a_fault_has_interval_over_devices():
    def alarming(i, true):
        return recording(f"s{i:02}", [0.1, 0.9], [0, int(true)], onset=35 if true else -1).assign(device=f"d{i}")

    all_true = pd.concat([alarming(i, True) for i in range(10)])
    summary = summarise(all_true, OperatingPoint(0.5, 0.2), 10)
    assert summary["true_share_interval"] == pytest.approx([0.025 ** (1 / 10), 1])
    half = pd.concat([alarming(i, i % 2) for i in range(10)])
    low, high = summarise(half, OperatingPoint(0.5, 0.2), 10)["true_share_interval"]
    assert 0.1 < low < 0.3 and 0.7 < high < 0.9
    quiet = pd.concat([recording(f"s{i}", [0.1, 0.1], [0, 0]).assign(device=f"d{i}") for i in range(10)])
    assert summarise(quiet, OperatingPoint(0.5, 0.2), 10)["true_share_interval"] is None, "no alarm, no share"


def test_fault_with_tiny_score_still_has_operating_point():
    hidden = pd.concat([recording("a", [0.2, 0.00002], [0, 1], onset=35), recording("b", [0.1, 0.9], [0, 1], onset=35)])
    point = chosen(hidden)
    assert summarise(hidden, point, 10)["missed"] == 0 and point.on == pytest.approx(0.00002)


def test_no_false_alarm_in_short_exposure_allows_high_rate():
    table = recording("n", [0.1] * 36, [0] * 36)  # 360 s
    summary = summarise(table, OperatingPoint(0.5, 0.2), stride=10)
    assert summary["false_alarms"] == 0 and summary["exposure_hours"] == pytest.approx(0.1)
    assert summary["false_alarms_per_hour_bound"] == pytest.approx(-np.log(0.05) / 0.1)  # the rule of three


def test_no_fault_session_gives_no_operating_point():
    assert choose_operating_point(recording("n", [0.1, 0.9], [0, 0])) is None


def test_operating_point_keeps_distance_from_both_ends():
    table = pd.concat([recording("a", [0.01, 0.1, 0.99999], [0, 0, 1]), recording("b", [0.05, 0.9999, 0.2], [0, 1, 0])])
    point = chosen(table)
    assert 0.2 < point.on < 0.99, "the next fault session may have a slightly lower score"
    assert summarise(table, point, 10)["missed"] == summarise(table, point, 10)["false_alarms"] == 0
    crossing = pd.concat([recording("a", [0.7, 0.1], [0, 0]), recording("b", [0.1, 0.6], [0, 1])])
    point = chosen(crossing)
    assert 0.2 < point.on <= 0.6, "the only fault is not missed, at the cost of one false alarm, not two"
    assert summarise(crossing, point, 10)["false_alarms"] == 1


def test_scores_after_onset_do_not_affect_threshold():
    """The window before the alarm state often has a score as high; a threshold above it would miss everything else."""
    faulty = recording("a", [0.01, 0.02, 0.999999, 0.99999, 0.99], [0, 0, 0, 1, 1], onset=45)
    point = chosen(pd.concat([faulty, recording("n", [0.03] * 4, [0] * 4)]))
    assert 0.1 < point.on < 0.99
    begun, quiet = (recording("a", [0.01, 0.02, score, 0.9999], [0, 0, 0, 1], onset=45) for score in (0.6, 0.01))
    assert chosen(begun) == chosen(quiet)
    before_it = chosen(pd.concat([faulty, recording("n", [0.03, 0.96] * 2, [0] * 4)]))
    assert before_it.on > point.on, "the same score on a healthy device is a false alarm"


def test_alarm_does_not_continue_into_next_session():
    table = pd.concat([recording("a", [0.1, 0.9], [0, 1]), recording("b", [0.5, 0.5, 0.9], [0, 0, 1])])
    alarms = episodes(table, OperatingPoint(on=0.8, off=0.4))
    assert alarms[["session", "begin", "windows"]].to_dict("records") == [
        {"session": "a", "begin": 39, "windows": 1},
        {"session": "b", "begin": 49, "windows": 1},
    ]


def test_score_sums_probabilities_from_alarm_state_on():
    p = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    table = with_scores(pd.DataFrame({"y_true": [1, 2]}), p, alarm=2)
    assert table["score"].tolist() == pytest.approx([0.7, 0.2]) and table["y_true_alarm"].tolist() == [False, True]


def test_alarm_after_return_to_normal_is_false():
    """A fault of 20 s at the beginning; windows that overlap it are no exposure."""
    table = recording("a", [0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1], [0, 1, 1, 0, 0, 0, 0, 0, 0], onset=35)
    table["y_true"] = [0, 2, 2, 0, 0, 0, 0, 0, 0]
    summary = summarise(table, OperatingPoint(0.5, 0.2), stride=10)
    assert (summary["false_alarms"], summary["early_alarms"], summary["missed"]) == (1, 0, 0)
    assert without_fault(table).tolist() == [True, False, False, False, False, True, True, True, True]
    held = chosen(table.assign(score=[0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.6, 0.1]))
    assert held.on > 0.6, "such a false alarm counts for the threshold"
    shuffled = table.sample(frac=1, random_state=0)
    assert (without_fault(shuffled) == without_fault(table)[shuffled.index]).all()


def test_window_overlapping_second_fault_is_no_exposure():
    table = recording("a", [0.1] * 9, [0, 1, 0, 0, 0, 0, 0, 1, 0], onset=35)
    table["y_true"] = [0, 2, 0, 0, 0, 0, 0, 2, 0]
    assert without_fault(table).tolist() == [True, False, False, False, True, False, False, False, False]


def test_early_onset_before_normal_time_keeps_exposure():
    n = 100
    table = recording("a", [0.1] * n, [0] * (n - 1) + [1], onset=5)
    table["y_true"] = [0] * (n - 4) + [1, 1, 1, 2]
    table.loc[50, "score"] = 0.9
    summary = summarise(table, OperatingPoint(0.5, 0.2), stride=10)
    assert summary["false_alarms"] == 1 and summary["exposure_hours"] > 90 * 10 / 3600


def test_alarm_ends_at_long_gap():
    table = pd.concat(
        [
            recording("a", [0.9, 0.4, 0.9], [0, 0, 0]),
            recording("a", [0.4, 0.9, 0.9], [0, 0, 0]).assign(
                start=lambda t: t["start"] + 10_000, end=lambda t: t["end"] + 10_000
            ),
        ]
    )
    point = OperatingPoint(0.5, 0.2)
    assert episodes(table, point)[["begin", "end"]].to_numpy().tolist() == [[29, 49], [10_039, 10_049]]
    assert summarise(table, point, 10)["false_alarms"] == 2
    short = pd.concat([recording("a", [0.9], [0]), recording("a", [0.4], [0]).assign(start=60, end=89)])
    assert len(episodes(short, point)) == 1 and episodes(short, point)["end"].item() == 89, "a gap of a window is short"


def test_exposure_of_window_is_at_most_its_length():
    sparse = recording("n", [0.1] * 3, [0] * 3).assign(start=[0, 60, 120], end=[29, 89, 149])
    assert summarise(sparse, OperatingPoint(0.5, 0.2), stride=60)["exposure_hours"] == pytest.approx(90 / 3600)


def test_no_fault_free_time_gives_no_false_alarm_rate():
    table = pd.concat([recording(name, [0.3, 0.9, 0.95], [1, 1, 1], onset=0) for name in "ab"])
    point = chosen(table)
    assert point.on == 0.5, "no lower than 0.5: the cost of a lower threshold is unknown"
    summary = summarise(table, point, 10)
    assert summary["exposure_hours"] == 0 and summary["false_alarms_per_hour_bound"] is None
    weak = pd.concat([recording(name, [0.2, 0.3], [1, 1], onset=0) for name in "ab"])
    assert chosen(weak).on == pytest.approx(0.3) and summarise(weak, OperatingPoint(0.3, 0.15), 10)["missed"] == 0


def test_false_alarms_of_two_devices_have_exact_poisson_bound():
    alone = [recording(name, [0.9, *[0.1] * 17], [0] * 18) for name in "ab"]  # one false alarm each in 180 s
    summary = summarise(pd.concat(alone), OperatingPoint(0.5, 0.2), stride=10)
    expected = summary["false_alarms_per_hour_bound"] * 0.1
    assert summary["false_alarms"] == 2 and expected == pytest.approx(6.2958, abs=1e-4)  # from a table of Poisson


def test_false_alarms_of_one_session_count_as_one_burst():
    table = recording("n", [0.9, 0.1, 0.9, *[0.1] * 33], [0] * 36)  # two false alarms in 360 s
    summary = summarise(table, OperatingPoint(0.5, 0.2), stride=10)
    assert summary["false_alarms"] == 2
    assert summary["false_alarms_per_hour_bound"] * 0.1 == pytest.approx(2 * 4.7439, abs=1e-3)


def test_off_threshold_is_half_of_on():
    point = chosen(pd.concat([recording("a", [0.01, 0.9], [0, 1]), recording("n", [0.3, 0.3], [0, 0])]))
    assert point.off == pytest.approx(point.on / 2)
