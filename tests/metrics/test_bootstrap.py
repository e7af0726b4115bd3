"""Intervals of metrics: coverage, pairing, clusters, and exact bounds where the bootstrap degenerates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from conveyorguard.metrics.bootstrap import Arm, exact, resample
from conveyorguard.metrics.scores import Predictions

pytestmark = pytest.mark.promise(
    "numbers",
    "95 % intervals cover the true value about as often as they say. Devices are resampled, then their "
    "sessions; with fewer than 10 devices, sessions alone. A share of 0 or 1, or over fewer than 5 "
    "sessions, has the exact bounds.",
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


def test_drawn_device_contributes_as_many_sessions_as_it_has():
    session, device = windows()
    resampling = resample(session, device, replicates=500)
    assert resampling.by_device and resampling.devices == 12 and resampling.weights.shape == (500, 36)
    per_device = resampling.weights.reshape(500, 12, 3).sum(-1)
    assert (per_device % 3 == 0).all() and (per_device.sum(1) == 36).all()
    assert (per_device == 0).any()  # some devices are left out entirely


def test_fewer_than_ten_devices_resample_sessions():
    session, device = windows(devices=4)
    resampling = resample(session, device, replicates=200)
    assert not resampling.by_device and (resampling.weights.sum(1) == 12).all()
    assert "hold for these devices only" in resampling.note


def test_fewer_than_five_sessions_have_intervals_for_shares_only():
    session, device = windows(devices=2, sessions=2)
    y = np.tile([0, 1, 2, 3, 0], 8)
    resampling = resample(session, device)
    arm, same = (Arm([predictions(y, guess, session)], resampling) for guess in (np.where(np.arange(40) < 5, 0, y), y))
    interval, difference = arm.interval("macro_f1"), same.difference(arm, "accuracy")
    assert (
        np.isnan([interval.low, interval.high, difference.low]).all()
        and "too few for a bootstrap interval" in resampling.note
    )
    assert difference.value > 0 and difference.verdict == "not shown"
    share = arm.interval("accuracy")
    assert (share.low, share.high) == pytest.approx((exact(share.value, 4).low, exact(share.value, 4).high))
    assert 0 < share.low < share.value < share.high < 1


def test_clustered_errors_widen_interval():
    session, device = windows()
    y = np.tile([0, 0, 0, 1, 1, 1, 2, 2, 3, 3], 36)
    clustered, spread = y.copy(), y.copy()
    clustered[:30] = (y[:30] + 1) % 4
    spread[::12] = (y[::12] + 1) % 4
    resampling = resample(session, device)
    together, apart = (
        Arm([predictions(y, guess, session)], resampling).interval("accuracy") for guess in (clustered, spread)
    )
    assert together.value == pytest.approx(apart.value)
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_constant_paired_difference_has_narrow_interval():
    session, device = windows()
    y = np.tile([0, 1, 2, 3, 0, 1, 2, 3, 0, 1], 36)
    worse = y.copy()
    worse[::10] = (y[::10] + 1) % 4  # one window of every session
    resampling = resample(session, device)
    hard = np.arange(len(y)) < 60
    a, b = (Arm([predictions(y, np.where(hard, (y + 2) % 4, guess), session)], resampling) for guess in (y, worse))
    difference = a.difference(b, "accuracy")
    assert (
        difference.excludes_zero and difference.verdict == "better" and b.difference(a, "accuracy").verdict == "worse"
    )
    alone = a.interval("accuracy")
    assert difference.high - difference.low < (alone.high - alone.low) / 3


def test_seeds_are_averaged_within_replicate():
    session, device = windows()
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=len(session))
    seeds = [predictions(y, np.where(rng.random(len(y)) < 0.2, (y + 1) % 4, y), session) for _ in range(3)]
    resampling = resample(session, device)
    arm = Arm(seeds, resampling)
    single = np.mean([Arm([s], resampling).replicates("macro_f1") for s in seeds], axis=0)
    assert np.allclose(arm.replicates("macro_f1"), single)
    assert (
        arm.interval("macro_f1").value == pytest.approx(arm.by_seed("macro_f1").mean())
        and len(arm.by_seed("macro_f1")) == 3
    )


@pytest.mark.parametrize(("devices", "units"), [(12, 3), (4, 9)])
def test_recall_of_one_has_exact_lower_bound(devices, units):
    """Nine sessions are severe: of three of twelve devices, or counted as nine where devices are too few."""
    session, device = windows(devices, 36 // devices)
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], 36)
    y[90:] = np.minimum(y[90:], 2)
    interval = Arm([predictions(y, y, session)], resample(session, device)).interval("severe_recall")
    assert interval.value == interval.high == 1 and interval.low == pytest.approx(0.025 ** (1 / units))


@pytest.mark.slow
def test_interval_covers_true_value_at_nominal_rate():
    """300 simulated studies of 14 devices, with random effects of devices and sessions.

    A percentile interval covers slightly less than 95 %.
    """
    rng, hits = np.random.default_rng(1), 0
    session, device = windows(devices=14, sessions=4)
    for study in range(300):
        rate = np.clip(0.8 + np.repeat(rng.normal(0, 0.06, 14), 40) + np.repeat(rng.normal(0, 0.06, 56), 10), 0, 1)
        y = rng.integers(4, size=len(session))
        guess = np.where(rng.random(len(y)) < rate, y, (y + 1) % 4)
        interval = Arm([predictions(y, guess, session)], resample(session, device, seed=study)).interval("accuracy")
        hits += interval.low <= 0.8 <= interval.high
    assert 0.88 <= hits / 300 <= 0.99


def test_same_seed_gives_same_interval():
    session, device = windows()
    y = np.random.default_rng(0).integers(4, size=len(session))
    guess = np.where(np.arange(len(y)) % 7 == 0, (y + 1) % 4, y)
    first, second = (
        Arm([predictions(y, guess, session)], resample(session, device)).interval("macro_f1") for _ in range(2)
    )
    assert first == second


def test_precision_of_zero_or_one_counts_sessions_with_prediction():
    """Severe occurs in nine sessions. It is predicted correctly in four; then only wrongly, in five."""
    session, device = windows(4, 9)
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], 36)
    y[90:] = np.minimum(y[90:], 2)
    guess = y.copy()
    guess[40:] = np.minimum(y[40:], 2)
    resampling = resample(session, device)
    right = Arm([predictions(y, guess, session)], resampling)
    assert right.interval("severe_precision").low == pytest.approx(0.025 ** (1 / 4))
    guess = np.minimum(y, 2)
    guess[300:350:10] = 3
    wrong = Arm([predictions(y, guess, session)], resampling).interval("severe_precision")
    assert wrong.value == wrong.low == 0 and wrong.high == pytest.approx(1 - 0.025 ** (1 / 5))


def test_accuracy_of_one_and_counts_of_zero_have_exact_bounds():
    session, device = windows(4, 9)
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], 36)
    arm = Arm([predictions(y, y, session)], resample(session, device))
    assert arm.interval("accuracy").low == pytest.approx(0.025 ** (1 / 36))
    missed = arm.interval("severe_sessions_missed")
    assert (missed.value, missed.low, missed.high) == (0, 0, pytest.approx(36 * (1 - 0.025 ** (1 / 36))))
    called = arm.interval("severe_as_normal")
    assert (called.value, called.low, called.high) == (0, 0, pytest.approx(72 * (1 - 0.025 ** (1 / 36))))
    never = Arm([predictions(y, np.where(y == 3, 0, y), session)], resample(session, device))
    assert never.interval("severe_sessions_missed").low == pytest.approx(36 * 0.025 ** (1 / 36))
    assert never.interval("severe_as_normal").high == 72
    without = Arm([predictions(y % 3, y % 3, session)], resample(session, device)).interval("severe_sessions_missed")
    assert (without.value, without.low, without.high) == (0, 0, 0), "without a severe session none can be missed"
    once = np.where((y == 3) & (np.arange(len(y)) % 10 != 3), 0, y)  # one window of the worst state in each session
    seen = Arm([predictions(once, once, session)], resample(session, device)).interval("severe_sessions_missed")
    assert seen.high == pytest.approx(36 * (1 - 0.025 ** (1 / 36)))
    some = Arm([predictions(y, np.where(np.arange(len(y)) < 100, 0, y), session)], resample(session, device))
    for name in ("severe_sessions_missed", "severe_as_normal"):
        assert some.interval(name).low < some.interval(name).value < some.interval(name).high, name


def test_macro_f1_of_zero_or_one_has_exact_bounds():
    session, device = windows()
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], 36)
    whole, none = (
        Arm([predictions(y, guess, session)], resample(session, device)).interval("macro_f1")
        for guess in (y, (y + 1) % 4)
    )
    assert (whole.value, whole.high) == (1, 1) and whole.low == pytest.approx(0.025 ** (1 / 12))
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(1 - 0.025 ** (1 / 12))
    undefined = [exact(np.nan, 5), exact(0.5, 0)]
    assert np.isnan([bound for interval in undefined for bound in (interval.low, interval.high)]).all()


def test_bin_interval_uses_replicates_with_windows_in_it():
    rng = np.random.default_rng(4)
    session, device = windows(devices=1, sessions=60)
    p = np.tile([0.9, 0.05, 0.05], (600, 1))
    inside = np.isin(np.arange(600) // 10, range(6)) & (rng.random(600) < 0.6)
    p[inside] = [0.5, 0.3, 0.2]
    y = np.where(inside & (rng.random(600) < 0.4), 1, 0)
    resampling = resample(session, device, replicates=3000)
    weights = resampling.weights[:, np.searchsorted(resampling.sessions, session)]
    known = (weights * inside).sum(1)
    assert (known == 0).any(), "some replicates have none of the six sessions"
    share = ((weights * (inside & (y == 0))).sum(1)[known > 0]) / known[known > 0]
    assert Arm([Predictions(y, p, session)], resampling).bin_bounds(7) == pytest.approx(
        tuple(np.quantile(share, [0.025, 0.975]))
    )


def test_class_intervals_match_values_by_hand():
    rng = np.random.default_rng(3)
    session, device = windows()
    y = rng.integers(3, size=len(session))  # severe does not occur
    guess = np.where(rng.random(len(y)) < 0.3, (y + 1) % 3, y)
    resampling = resample(session, device)
    arm = Arm([predictions(y, guess, session)], resampling)
    precision, recall, f1 = arm.class_intervals(1)
    right, called, actual = ((y == 1) & (guess == 1)).sum(), (guess == 1).sum(), (y == 1).sum()
    assert (precision.value, recall.value) == pytest.approx((right / called, right / actual))
    assert f1.value == pytest.approx(2 * right / (called + actual))
    for interval in (precision, recall, f1):
        assert 0 < interval.low < interval.value < interval.high < 1
    weights = resampling.weights[:, np.searchsorted(resampling.sessions, session)]
    by_hand = np.quantile((weights * ((y == 1) & (guess == 1))).sum(1) / (weights * (y == 1)).sum(1), [0.025, 0.975])
    assert (recall.low, recall.high) == pytest.approx(tuple(by_hand))
    of_called = (weights * ((y == 1) & (guess == 1))).sum(1) / (weights * (guess == 1)).sum(1)
    assert (precision.low, precision.high) == pytest.approx(tuple(np.quantile(of_called, [0.025, 0.975])))
    assert all(np.isnan(interval.value) and np.isnan(interval.low) for interval in arm.class_intervals(3))


def test_bin_without_variation_has_exact_bounds():
    session, device = windows()
    y = np.zeros(len(session), int)
    guess = np.where(np.arange(len(y)) % 5 == 0, 1, 0)
    arm = Arm([predictions(y, guess, session)], resample(session, device))
    bounds = [arm.bin_bounds(i) for i in range(15)]
    filled = [pair for pair in bounds if np.isfinite(pair[0])]
    bound = exact(0.8, 12)  # all sessions have the same share, so replicates do not vary: twelve devices are counted
    assert len(filled) == 1 and filled[0] == pytest.approx((bound.low, bound.high)) and bound.low < 0.55


def test_difference_equals_difference_of_values():
    rng = np.random.default_rng(5)
    session, device = windows()
    y = rng.integers(4, size=len(session))
    guesses = [np.where(rng.random(len(y)) < share, (y + 1) % 4, y) for share in (0.1, 0.4)]
    resampling = resample(session, device)
    good, bad = (Arm([predictions(y, guess, session)], resampling) for guess in guesses)
    difference = good.difference(bad, "accuracy")
    assert difference.value == pytest.approx((guesses[0] == y).mean() - (guesses[1] == y).mean())
    assert difference.low < difference.value < difference.high and difference.verdict == "better"
    assert (
        bad.difference(good, "accuracy").verdict == "worse" and bad.difference(bad, "accuracy").verdict == "not shown"
    )


@pytest.mark.parametrize(("devices", "all_of_them", "severe"), [(4, 36, 9), (12, 12, 3)])
def test_state_always_or_never_recognised_has_exact_bounds(devices, all_of_them, severe):
    """State 1 occurs in 36 sessions and is always recognised; state 3 occurs in nine and is never predicted.

    With ten devices or more, devices are counted instead of sessions.
    """
    session, device = windows(devices, 36 // devices)
    y = np.tile([0, 1, 2, 3, 3, 0, 0, 1, 1, 2], 36)
    y[90:] = np.minimum(y[90:], 2)
    arm = Arm([predictions(y, np.minimum(y, 2), session)], resample(session, device))
    _, recall, _ = arm.class_intervals(1)
    assert (recall.value, recall.high) == (1, 1) and recall.low == pytest.approx(0.025 ** (1 / all_of_them))
    precision, recall, f1 = arm.class_intervals(3)
    assert np.isnan([precision.value, precision.low, precision.high]).all()
    assert (recall.value, recall.low) == (0, 0) and recall.high == pytest.approx(1 - 0.025 ** (1 / severe))
    assert (f1.value, f1.low) == (0, 0) and f1.high == pytest.approx(1 - 0.025 ** (1 / severe))


def test_share_without_windows_has_no_interval():
    session, device = windows()
    y = np.zeros(len(session), int)
    arm = Arm([predictions(y, y, session)], resample(session, device))
    for metric in ("severe_recall", "severe_precision"):
        interval = arm.interval(metric)
        assert np.isnan([interval.value, interval.low, interval.high]).all()


def test_ten_devices_and_five_sessions_are_resampled():
    session, device = windows(devices=10, sessions=1)
    assert resample(session, device, replicates=10).by_device
    assert not resample(*windows(devices=9, sessions=1), replicates=10).by_device
    session, device = windows(devices=1, sessions=5)
    y = np.tile([0, 1, 2, 3, 0, 1, 2, 3, 0, 1], 5)
    guess = np.where(np.arange(50) < 15, 0, y)
    arm = Arm([predictions(y, guess, session)], resample(session, device))
    for metric in ("accuracy", "macro_f1", "qwk"):
        interval = arm.interval(metric)
        assert interval.low < interval.value < interval.high, metric
    counted = exact(arm.interval("accuracy").value, 5)
    assert arm.interval("accuracy").low != counted.low, "five sessions have a bootstrap interval"


def test_bin_filled_by_one_session_has_exact_bounds():
    """One of five sessions has a window in the bin, which is correct: the bound of one of one."""
    session, device = windows(devices=1, sessions=5)
    p = np.tile([0.9, 0.05, 0.05], (50, 1))
    p[0] = [0.5, 0.3, 0.2]
    arm = Arm([Predictions(np.zeros(50, int), p, session)], resample(session, device, replicates=200))
    with np.errstate(all="raise"):
        assert arm.bin_bounds(7) == pytest.approx((0.025, 1))
        assert np.isnan(arm.bin_bounds(3)).all()


def test_share_over_few_sessions_uses_exact_interval():
    """The worst state occurs in one or two of eight sessions, so replicates with it hardly vary."""
    session, device = windows(devices=1, sessions=8)
    y = np.zeros(len(session), int)
    y[:10] = 3  # the first session
    guess = np.where(np.arange(len(y)) < 3, 0, y)
    single = Arm([predictions(y, guess, session)], resample(session, device)).interval("severe_recall")
    assert single.value == pytest.approx(0.7) and single.low < 0.05 and single.high > 0.95
    y[10:20] = 3
    guess = np.where(np.arange(len(y)) < 3, 0, y)
    arm = Arm([predictions(y, guess, session)], resample(session, device))
    double, (_, recall, _) = arm.interval("severe_recall"), arm.class_intervals(3)
    assert double.value == pytest.approx(0.85) and single.low < double.low < 0.3 and double.high > 0.95
    assert recall == double
    right = arm.interval("accuracy")
    assert right.low > 0.85, "accuracy is over the windows of all eight sessions"
    called = arm.interval("severe_as_normal")
    assert called.value == 3 and called.low < 1 and called.high > 13, "out of twenty windows of two sessions"


@settings(max_examples=200)
@given(st.integers(1, 60), st.floats(0, 1))
def test_exact_bounds_lie_between_those_of_neighbouring_counts(count, value):
    bound, below, above = (
        exact(x, count) for x in (value, np.floor(value * count) / count, np.ceil(value * count) / count)
    )
    assert below.low - 1e-9 <= bound.low <= above.low + 1e-9 and below.high - 1e-9 <= bound.high <= above.high + 1e-9
    for whole in (below, above):
        known = binomtest(round(whole.value * count), count).proportion_ci(0.95, "exact")
        assert (whole.low, whole.high) == pytest.approx((known.low, known.high))


def test_constant_metric_that_is_no_share_has_no_interval():
    session, device = windows()
    y = np.tile([0, 1, 2, 3], len(session) // 4)
    arm = Arm([predictions(y, y, session)], resample(session, device))
    for name in ("qwk", "ordinal_error"):
        assert np.isnan(arm.interval(name).low), name
