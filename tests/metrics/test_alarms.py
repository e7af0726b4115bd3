"""Alarms against sequences worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.metrics.alarms import (
    OperatingPoint,
    choose_operating_point,
    episodes,
    fault_sessions,
    summarise,
    with_scores,
    without_fault,
)


def recording(name, scores, actual, onset=None):
    """Windows of 30 s every 10 s; actual: in a state worth an alarm or not. In the first lesser state from the onset
    on."""
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


def test_an_episode_begins_at_on_and_ends_below_off():
    table = recording("a", [0.1, 0.7, 0.5, 0.6, 0.2, 0.5, 0.8], [0, 0, 1, 1, 0, 0, 0])
    found = episodes(table, OperatingPoint(on=0.7, off=0.4))
    assert found[["begin", "end", "windows", "true"]].to_dict("records") == [
        {"begin": 39, "end": 59, "windows": 3, "true": True},  # 0.5 holds it, 0.2 ends it, 0.5 does not begin another
        {"begin": 89, "end": 89, "windows": 1, "true": False},
    ]


def test_lead_and_delay_are_stamped_at_the_end_of_the_window():
    table = recording("a", [0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], onset=25)
    row = fault_sessions(table, episodes(table, OperatingPoint(0.5, 0.2))).iloc[0]
    assert (row["alarm_at"], row["lead"], row["delay"], row["missed"]) == (49, 10, 24, False)


def test_a_false_alarm_does_not_save_a_fault_recording():
    table = recording("a", [0.9, 0.1, 0.1, 0.1], [0, 0, 1, 1], onset=35)
    point = OperatingPoint(0.5, 0.2)
    row = fault_sessions(table, episodes(table, point)).iloc[0]
    assert row["missed"] and np.isnan(row["lead"])
    told = summarise(table, point, stride=10)
    assert told["missed"] == 1 == told["false_alarms"] and told["lead_seconds"] is None


def test_what_rings_before_any_fault_is_false_though_one_comes():
    """A score that always rings misses nothing, and rings falsely in every recording."""
    always = pd.concat([recording(name, [0.9] * 6, [0, 0, 0, 0, 1, 1], onset=45) for name in "abc"])
    told = summarise(always, OperatingPoint(0.5, 0.2), stride=10)
    assert (told["missed"], told["false_alarms"], told["early_alarms"]) == (0, 3, 0)
    assert told["delay_seconds"]["median"] == 4 and told["lead_seconds"]["median"] == 30, "of the window at the onset"
    assert told["exposure_hours"] == pytest.approx(3 * 2 * 10 / 3600), "the windows that end before the onset"
    early = recording("a", [0.1, 0.1, 0.9, 0.1, 0.9, 0.9], [0, 0, 0, 0, 1, 1], onset=45)
    told = summarise(early, OperatingPoint(0.5, 0.2), stride=10)
    assert (told["missed"], told["false_alarms"], told["early_alarms"]) == (0, 0, 1)
    quiet = recording("n", [0.1, 0.9, 0.1], [0, 0, 0])
    assert summarise(pd.concat([early, quiet]), OperatingPoint(0.5, 0.2), stride=10)["false_alarms"] == 1


def test_a_recording_that_never_gets_bad_enough_for_an_alarm_is_all_exposure():
    worn = recording("a", [0.1, 0.1, 0.9, 0.9], [0] * 4, onset=20)  # in a lesser state from the first window on
    faulty = recording("b", [0.1, 0.1, 0.9], [0, 0, 1], onset=45)
    told = summarise(pd.concat([worn, faulty]), OperatingPoint(0.5, 0.2), stride=10)
    assert (told["false_alarms"], told["early_alarms"], told["fault_sessions"]) == (1, 0, 1)
    assert told["exposure_hours"] == pytest.approx((4 + 2) * 10 / 3600)
    held = choose_operating_point(pd.concat([recording("a", [0.1, 0.6, 0.6], [0] * 3, onset=20), faulty]))
    assert held.on > 0.6, "and none of its windows may set the threshold"


def test_the_share_of_missed_recordings_has_the_interval_of_devices():
    def faulty(name, device, missed):
        return recording(name, [0.1, 0.1 if missed else 0.9], [0, 1], onset=35).assign(device=device)

    point = OperatingPoint(0.5, 0.2)
    none = pd.concat([faulty(f"s{i}", f"d{i}", False) for i in range(8)])
    assert summarise(none, point, 10)["missed_share_interval"] == pytest.approx([0, 1 - 0.025 ** (1 / 8)])
    none = pd.concat([faulty(f"s{i:02}", f"d{i // 5}", False) for i in range(60)])
    assert summarise(none, point, 10)["missed_share_interval"] == pytest.approx([0, 1 - 0.025 ** (1 / 12)])
    # of twelve devices with five recordings each half miss all of theirs: it is twelve that are known, not sixty
    devices = pd.concat([faulty(f"s{i:02}", f"d{i // 5}", (i // 5) % 2) for i in range(60)])
    low, high = summarise(devices, point, 10)["missed_share_interval"]
    assert low < 0.3 and high > 0.7
    assert summarise(devices.iloc[:4], point, 10)["missed_share_interval"] is not None
    few = pd.concat([faulty(f"s{i}", "d", i == 0) for i in range(4)])
    low, high = summarise(few, point, 10)["missed_share_interval"]
    assert low < 0.01 and high > 0.8, "one of four recordings says little"
    # of twelve devices eight have faults: these are counted, as all other intervals of the part count devices
    healthy = pd.concat([recording(f"n{i}", [0.1, 0.1], [0, 0]).assign(device=f"d{8 + i}") for i in range(4)])
    eight = pd.concat([healthy, *(faulty(f"s{i:02}", f"d{i // 5}", False) for i in range(40))])
    assert summarise(eight, point, 10)["missed_share_interval"] == pytest.approx([0, 1 - 0.025 ** (1 / 8)])


def test_a_fault_that_nothing_points_to_still_has_an_operating_point():
    hidden = pd.concat([recording("a", [0.2, 0.00002], [0, 1], onset=35), recording("b", [0.1, 0.9], [0, 1], onset=35)])
    point = choose_operating_point(hidden)
    assert summarise(hidden, point, 10)["missed"] == 0 and point.on == pytest.approx(0.00002)


def test_no_false_alarm_in_little_time_still_allows_many():
    table = recording("n", [0.1] * 36, [0] * 36)  # 360 s
    told = summarise(table, OperatingPoint(0.5, 0.2), stride=10)
    assert told["false_alarms"] == 0 and told["exposure_hours"] == pytest.approx(0.1)
    assert told["false_alarms_per_hour_bound"] == pytest.approx(-np.log(0.05) / 0.1)  # 3 / exposure, the rule of three


def test_without_a_fault_recording_there_is_no_operating_point():
    assert choose_operating_point(recording("n", [0.1, 0.9], [0, 0])) is None


@settings(max_examples=40)  # a fortieth of a second each
@given(st.lists(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=12), min_size=1, max_size=6))
def test_the_operating_point_misses_no_fault_recording_and_a_higher_one_would(recordings):
    table = pd.concat([recording(f"r{i}", *zip(*r, strict=True)) for i, r in enumerate(recordings)])
    point = choose_operating_point(table)
    if point is None:
        assert not table["y_true_alarm"].any()
        return
    assert summarise(table, point, 10)["missed"] == 0
    highest = table[table["y_true_alarm"]].groupby("session")["score"].max().min()
    above = np.nextafter(highest, 2)
    assert summarise(table, OperatingPoint(above, above), 10)["missed"] > 0


def test_the_operating_point_leaves_room_on_both_sides():
    table = pd.concat([recording("a", [0.01, 0.1, 0.99999], [0, 0, 1]), recording("b", [0.05, 0.9999, 0.2], [0, 1, 0])])
    point = choose_operating_point(table)
    assert 0.2 < point.on < 0.99, "the next fault recording may reach a little less"
    assert summarise(table, point, 10)["missed"] == summarise(table, point, 10)["false_alarms"] == 0
    crossing = pd.concat([recording("a", [0.7, 0.1], [0, 0]), recording("b", [0.1, 0.6], [0, 1])])
    point = choose_operating_point(crossing)
    assert 0.2 < point.on <= 0.6, "nothing is missed, at the cost of a false alarm, and not of another window"
    assert summarise(crossing, point, 10)["false_alarms"] == 1


def test_what_rings_after_the_fault_began_sets_no_threshold():
    """The window before the state is reached is often as sure of it; a threshold above it would ring at nothing
    else."""
    faulty = recording("a", [0.01, 0.02, 0.999999, 0.99999, 0.99], [0, 0, 0, 1, 1], onset=45)
    point = choose_operating_point(pd.concat([faulty, recording("n", [0.03] * 4, [0] * 4)]))
    assert 0.1 < point.on < 0.99
    begun, quiet = (recording("a", [0.01, 0.02, score, 0.9999], [0, 0, 0, 1], onset=45) for score in (0.6, 0.01))
    assert choose_operating_point(begun) == choose_operating_point(quiet)
    before_it = choose_operating_point(pd.concat([faulty, recording("n", [0.03, 0.96] * 2, [0] * 4)]))
    assert before_it.on > point.on, "of a healthy device it would be a false alarm"


def test_windows_of_several_recordings_do_not_hold_each_others_alarms():
    table = pd.concat([recording("a", [0.1, 0.9], [0, 1]), recording("b", [0.5, 0.5, 0.9], [0, 0, 1])])
    found = episodes(table, OperatingPoint(on=0.8, off=0.4))
    assert found[["session", "begin", "windows"]].to_dict("records") == [
        {"session": "a", "begin": 39, "windows": 1},
        {"session": "b", "begin": 49, "windows": 1},
    ]


def test_the_score_is_the_probability_of_the_alarm_state_and_worse():
    p = np.array([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    table = with_scores(pd.DataFrame({"y_true": [1, 2]}), p, alarm=2)
    assert table["score"].tolist() == pytest.approx([0.7, 0.2]) and table["y_true_alarm"].tolist() == [False, True]


def test_what_rings_when_all_is_normal_again_is_false_and_its_time_exposure():
    """A fault of 20 s at the beginning; the windows that share a second with it are no exposure."""
    table = recording("a", [0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1], [0, 1, 1, 0, 0, 0, 0, 0, 0], onset=35)
    table["y_true"] = [0, 2, 2, 0, 0, 0, 0, 0, 0]
    told = summarise(table, OperatingPoint(0.5, 0.2), stride=10)
    assert (told["false_alarms"], told["early_alarms"], told["missed"]) == (1, 0, 0)
    assert without_fault(table).tolist() == [True, False, False, False, False, True, True, True, True]
    held = choose_operating_point(table.assign(score=[0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.6, 0.1]))
    assert held.on > 0.6, "and sets the threshold"
    shuffled = table.sample(frac=1, random_state=0)
    assert (without_fault(shuffled) == without_fault(table)[shuffled.index]).all()


def test_a_window_that_reaches_into_a_second_fault_is_no_exposure():
    table = recording("a", [0.1] * 9, [0, 1, 0, 0, 0, 0, 0, 1, 0], onset=35)
    table["y_true"] = [0, 2, 0, 0, 0, 0, 0, 2, 0]
    assert without_fault(table).tolist() == [True, False, False, False, True, False, False, False, False]


def test_one_stray_second_of_a_lesser_state_takes_no_exposure():
    n = 100
    table = recording("a", [0.1] * n, [0] * (n - 1) + [1], onset=5)
    table["y_true"] = [0] * (n - 4) + [1, 1, 1, 2]
    table.loc[50, "score"] = 0.9
    told = summarise(table, OperatingPoint(0.5, 0.2), stride=10)
    assert told["false_alarms"] == 1 and told["exposure_hours"] > 90 * 10 / 3600


def test_an_alarm_does_not_go_on_over_a_silence():
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
    assert len(episodes(short, point)) == 1 and episodes(short, point)["end"].item() == 89, "a window's length is none"


def test_a_window_stands_for_no_more_time_than_its_own():
    sparse = recording("n", [0.1] * 3, [0] * 3).assign(start=[0, 60, 120], end=[29, 89, 149])
    assert summarise(sparse, OperatingPoint(0.5, 0.2), stride=60)["exposure_hours"] == pytest.approx(90 / 3600)


def test_without_any_time_without_a_fault_nothing_is_said_of_false_alarms():
    table = pd.concat([recording(name, [0.3, 0.9, 0.95], [1, 1, 1], onset=0) for name in "ab"])
    point = choose_operating_point(table)
    assert point.on == 0.5, "no lower than a half: what a lower one costs is not known"
    told = summarise(table, point, 10)
    assert told["exposure_hours"] == 0 and told["false_alarms_per_hour_bound"] is None
    assert told["missed"] == 0 and told["delay_seconds"] is None, "a fault that was there first began nobody knows when"
    weak = pd.concat([recording(name, [0.2, 0.3], [1, 1], onset=0) for name in "ab"])
    assert (
        choose_operating_point(weak).on == pytest.approx(0.3)
        and summarise(weak, OperatingPoint(0.3, 0.15), 10)["missed"] == 0
    )


def test_the_bound_grows_with_the_false_alarms_by_the_poisson_distribution():
    table = recording("n", [0.9, 0.1, 0.9, *[0.1] * 33], [0] * 36)  # two false alarms in 360 s
    told = summarise(table, OperatingPoint(0.5, 0.2), stride=10)
    two_false_alarms = told["false_alarms_per_hour_bound"] * 0.1
    assert told["false_alarms"] == 2 and two_false_alarms == pytest.approx(
        6.2958, abs=1e-4
    )  # as Poisson tables have it


def test_an_alarm_ends_at_half_of_where_it_begins():
    point = choose_operating_point(pd.concat([recording("a", [0.01, 0.9], [0, 1]), recording("n", [0.3, 0.3], [0, 0])]))
    assert point.off == pytest.approx(point.on / 2)
