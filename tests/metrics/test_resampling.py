"""Metrics with intervals: groups left out one at a time, pairs, shares near 0 and 1, and where there is no interval."""

from itertools import pairwise

import numpy as np
import pytest

from conveyorguard.metrics.resampling import Arm, resample
from conveyorguard.metrics.scores import METRICS, Predictions

pytestmark = pytest.mark.promise(
    "numbers",
    "95 % intervals cover the true value about as often as they say: whole devices are left out one at a time, or the "
    "sessions of a single device. Below 5 devices or 10 sessions there is none, and a page says so.",
)


def windows(devices=12, sessions=3, each=10):
    """Return the session and device of each window, the same number of windows in every session."""
    device = np.repeat([f"d{i:02d}" for i in range(devices)], sessions * each)
    session = np.repeat([f"d{i:02d}-s{j}" for i in range(devices) for j in range(sessions)], each)
    return session, device


def predictions(y_true, y_pred, session, states=4):
    p = np.full((len(y_true), states), 0.1 / (states - 1))
    p[np.arange(len(y_true)), y_pred] = 0.9
    return Predictions(np.asarray(y_true), p, session)


def arm_of(y, guess, session, device):
    return Arm([predictions(y, guess, session)], resample(session, device))


def spread(y, share, seed=0):
    """Return predictions with a share of errors at random."""
    return np.where(np.random.default_rng(seed).random(len(y)) < share, (y + 1) % 4, y)


def test_groups_are_devices_or_sessions_of_the_only_one():
    by_device, alone = resample(*windows()), resample(*windows(devices=1, sessions=12))
    assert (by_device.groups, by_device.devices, by_device.by_device) == (12, 12, True)
    assert by_device.owner.tolist() == np.repeat(range(12), 3).tolist()
    assert (alone.groups, alone.devices, alone.by_device) == (12, 1, False)
    assert "other devices" in by_device.note and "other sessions of this device" in alone.note
    assert "these trained models" in by_device.note


@pytest.mark.parametrize(
    ("devices", "sessions", "shortage"),
    [(4, 9, "only 4 devices"), (2, 2, "only 4 sessions"), (1, 9, "only 9 sessions"), (9, 1, "only 9 sessions")],
)
def test_few_devices_or_sessions_have_no_interval(devices, sessions, shortage):
    session, device = windows(devices, sessions)
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], devices * sessions)
    arm, same = arm_of(y, spread(y, 0.3), session, device), arm_of(y, y, session, device)
    assert arm.resampling.shortage == shortage and arm.resampling.note.startswith("No intervals: ")
    for metric in METRICS:
        interval = arm.interval(metric)
        assert np.isfinite(interval.value) and not interval.known, metric
    difference = same.difference(arm, "macro_f1")
    assert difference.value > 0 and difference.verdict == "not shown" and np.isnan(difference.p())
    assert not any(interval.known for interval in arm.class_intervals(3))


@pytest.mark.parametrize(("devices", "sessions"), [(5, 2), (10, 1), (1, 10)])
def test_enough_devices_and_sessions_have_intervals(devices, sessions):
    session, device = windows(devices, sessions)
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], devices * sessions)
    arm = arm_of(y, spread(y, 0.3), session, device)
    for metric in ("accuracy", "macro_f1", "severe_recall", "qwk", "nll"):
        interval = arm.interval(metric)
        assert interval.low < interval.value < interval.high, metric


def test_clustered_errors_give_wider_interval():
    session, device = windows()
    y = np.tile([0, 1, 2, 3, 0, 1, 2, 3, 0, 1], 36)
    clustered, apart = y.copy(), y.copy()
    clustered[:120] = (y[:120] + 1) % 4  # the first four devices
    errors = np.random.default_rng(0).permutation(360)[:120]
    apart[errors] = (y[errors] + 1) % 4
    wide, narrow = (arm_of(y, guess, session, device).interval("accuracy") for guess in (clustered, apart))
    assert wide.value == pytest.approx(narrow.value) and wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_more_sessions_of_same_devices_do_not_narrow_interval():
    """Whole devices are the sample: their sessions repeat what is known of them."""
    rng = np.random.default_rng(0)
    rate = rng.uniform(0.6, 1, 12)
    widths = []
    for sessions in (3, 300):
        session, device = windows(12, sessions)
        y = np.zeros(len(session), int)
        guess = np.where(rng.random(len(y)) < np.repeat(rate, sessions * 10), 0, 1)
        interval = arm_of(y, guess, session, device).interval("accuracy")
        widths.append(interval.high - interval.low)
    assert widths[1] > 0.7 * widths[0]


def test_paired_difference_is_narrower_than_figures():
    session, device = windows()
    y = np.tile([0, 1, 2, 3, 0, 1, 2, 3, 0, 1], 36)
    hard = np.arange(len(y)) < 60
    first = np.where(hard, (y + 2) % 4, y)
    second = np.where(hard, first, spread(y, 0.1))
    a, b = (arm_of(y, guess, session, device) for guess in (first, second))
    difference, alone = a.difference(b, "accuracy"), a.interval("accuracy")
    assert difference.value == pytest.approx((first == y).mean() - (second == y).mean())
    assert difference.verdict == "better" and b.difference(a, "accuracy").verdict == "worse"
    assert difference.high - difference.low < (alone.high - alone.low) / 3
    assert (difference.p() < 0.05) and difference.p(difference.low) == pytest.approx(0.05)


def test_difference_without_variation_has_no_interval():
    """The same predictions, or the same loss on every device: nothing tells how it would vary."""
    session, device = windows()
    y = np.tile([0, 1, 2, 3, 0, 1, 2, 3, 0, 1], 36)
    worse = y.copy()
    worse[::30] = (y[::30] + 1) % 4
    same, less = arm_of(y, y, session, device), arm_of(y, worse, session, device)
    for difference in (same.difference(same, "accuracy"), same.difference(less, "accuracy")):
        assert not difference.known and difference.verdict == "not shown"


def test_difference_of_rare_state_has_no_interval():
    """Severe in 9 of 20 devices: a recall that differs nowhere yet may differ on others."""
    session, device = windows(20, 9)
    y = np.tile([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], 180)
    for devices, known in ((9, False), (10, True)):
        y[9::10] = np.where(np.arange(180) < 9 * devices, 3, 0)
        a, b = (arm_of(y, spread(y, 0.2, seed), session, device) for seed in (0, 1))
        assert a.difference(b, "severe_recall").known == known and a.difference(b, "accuracy").known
        assert a.interval("severe_recall").known


def test_seeds_are_averaged():
    session, device = windows()
    y = np.random.default_rng(0).integers(4, size=len(session))
    seeds = [predictions(y, spread(y, 0.2, seed), session) for seed in range(3)]
    resampling = resample(session, device)
    arm, single = Arm(seeds, resampling), [Arm([seed], resampling) for seed in seeds]
    assert np.allclose(arm.without("macro_f1"), np.mean([each.without("macro_f1") for each in single], axis=0))
    assert arm.interval("macro_f1").value == pytest.approx(arm.by_seed("macro_f1").mean())
    assert len(arm.by_seed("macro_f1")) == 3


def test_interval_of_metric_without_each_device_by_hand():
    session, device = windows()
    y = np.random.default_rng(0).integers(4, size=len(session))
    guess = spread(y, 0.3)
    arm = arm_of(y, guess, session, device)
    names = np.unique(device)
    without = np.array([((y == guess)[device != name]).mean() for name in names])
    assert arm.without("accuracy") == pytest.approx(without)
    error = np.sqrt(11 / 12 * ((without - without.mean()) ** 2).sum())
    other = arm_of(y, y, session, device)
    assert arm.difference(other, "accuracy").error == pytest.approx(error)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "severe_recall", "severe_precision"])
def test_share_of_one_counts_each_device_once(metric):
    session, device = windows()
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], 36)
    interval = arm_of(y, y, session, device).interval(metric)
    assert (interval.value, interval.high) == (1, 1) and interval.low == pytest.approx(0.025 ** (1 / 12))


def test_counts_of_worst_state_have_bounds_of_their_share():
    session, device = windows()
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], 36)
    arm = arm_of(y, y, session, device)
    highest = 1 - 0.025 ** (1 / 12)
    missed, called = arm.interval("severe_sessions_missed"), arm.interval("severe_as_normal")
    assert (missed.value, missed.low, missed.high) == (0, 0, pytest.approx(36 * highest))
    assert (called.value, called.low, called.high) == (0, 0, pytest.approx(72 * highest))
    never = arm_of(y, np.where(y == 3, 0, y), session, device)
    assert never.interval("severe_as_normal").high == 72 and never.interval("severe_as_normal").low > 40
    without = arm_of(y % 3, y % 3, session, device).interval("severe_sessions_missed")
    assert without.value == 0 and not without.known, "without a severe session none can be missed"


def test_one_miss_has_bounds_next_to_those_of_none():
    """289 severe windows of 36 devices: today's question of 0 or 1 called normal, and of 100.0 or 99.7 % recall."""
    device = np.array([f"d{i % 36:02}" for i in range(289)])
    y = np.full(289, 3)
    for metric, factor in (("severe_as_normal", 1), ("severe_recall", 289), ("accuracy", 289)):
        bounds = []
        for missed in range(4):
            arm = arm_of(y, np.where(np.arange(289) < missed, 0, 3), device, device)
            interval = arm.interval(metric).times(factor)
            bounds.append(interval.high if metric == "severe_as_normal" else 289 - interval.low)
        assert bounds[0] == pytest.approx(289 * (1 - 0.025 ** (1 / 36)), rel=0.01), metric
        assert bounds[1] == pytest.approx(bounds[0], rel=0.1), metric
        assert all(0.5 < after / before < 1.2 for before, after in pairwise(bounds)), metric


def test_class_intervals_match_values_by_hand():
    session, device = windows()
    y = np.random.default_rng(3).integers(3, size=len(session))  # severe does not occur
    guess = np.where(np.random.default_rng(4).random(len(y)) < 0.3, (y + 1) % 3, y)
    arm = arm_of(y, guess, session, device)
    precision, recall, f1 = arm.class_intervals(1)
    right, called, actual = ((y == 1) & (guess == 1)).sum(), (guess == 1).sum(), (y == 1).sum()
    assert (precision.value, recall.value) == pytest.approx((right / called, right / actual))
    assert f1.value == pytest.approx(2 * right / (called + actual))
    for interval in (precision, recall, f1):
        assert 0 < interval.low < interval.value < interval.high < 1
    assert all(np.isnan([interval.value, interval.low]).all() for interval in arm.class_intervals(3))


def test_state_in_fewer_than_five_devices_has_no_interval():
    session, device = windows()
    y = np.zeros(len(session), int)
    for devices, known in ((4, False), (5, True)):
        y[: 30 * devices] = 3
        arm = arm_of(y, spread(y, 0.2), session, device)
        assert arm.interval("severe_recall").known == known == arm.class_intervals(3)[1].known
        assert arm.interval("accuracy").known


def test_bin_interval_is_over_devices_with_windows_in_it():
    session, device = windows(devices=20, sessions=3)
    p = np.tile([0.9, 0.05, 0.05], (600, 1))
    inside = np.arange(600) < 180  # six devices
    p[inside] = [0.5, 0.3, 0.2]
    arm = Arm([Predictions(np.zeros(600, int), p, session)], resample(session, device))
    assert arm.bin_bounds(7) == pytest.approx((0.025 ** (1 / 6), 1)) and np.isnan(arm.bin_bounds(3)).all()


def test_metric_that_is_no_share_stays_in_its_range():
    session, device = windows()
    y = np.tile([0, 1, 2, 3, 0, 1, 2, 3, 0, 1], 36)
    guess = y.copy()
    guess[:3] = (y[:3] + 1) % 4
    arm = arm_of(y, guess, session, device)
    for name in ("qwk", "ordinal_error", "nll", "brier", "ece"):
        interval, (least, most) = arm.interval(name), METRICS[name].range
        assert least <= interval.low <= interval.value <= interval.high <= most, name
    perfect = arm_of(y, y, session, device)
    assert not perfect.interval("qwk").known and not perfect.interval("ordinal_error").known
