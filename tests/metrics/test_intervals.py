"""Bounds of shares and differences: exact binomial bounds, effective numbers, Holm's correction, non-inferiority."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, t

from conveyorguard.metrics.intervals import (
    Difference,
    Interval,
    clopper_pearson,
    difference_of,
    effective_number,
    holm,
    jackknife,
    non_inferiority,
    rate_bound,
    share_interval,
    verdicts,
)

pytestmark = pytest.mark.promise(
    "numbers", "A share near 0 or 1 has bounds in which a device counts once, next to those of a share of 0 or 1."
)


@settings(max_examples=200)
@given(st.integers(1, 60), st.floats(0, 1))
def test_exact_bounds_lie_between_those_of_neighbouring_counts(count, value):
    sides = [np.floor(value * count) / count, value, np.ceil(value * count) / count]
    low, high = clopper_pearson(np.array(sides), np.array(count))
    assert low[0] - 1e-9 <= low[1] <= low[2] + 1e-9 and high[0] - 1e-9 <= high[1] <= high[2] + 1e-9
    for i in (0, 2):
        known = binomtest(round(sides[i] * count), count).proportion_ci(0.95, "exact")
        assert (low[i], high[i]) == pytest.approx((known.low, known.high))


@settings(max_examples=200)
@given(st.integers(5, 60), st.integers(1, 50), st.data())
def test_more_misses_of_one_device_never_lower_a_bound(groups, windows, data):
    """From no miss to all windows of a device missed, both bounds only rise."""
    total = np.full(groups, windows)
    total[0] = data.draw(st.integers(1, 50))
    before = share_interval(np.zeros(groups), total)
    assert before.low == 0 and before.high == pytest.approx(1 - 0.025 ** (1 / effective_number(total)))
    for missed in range(1, total[0] + 1):
        part = np.zeros(groups)
        part[0] = missed
        after = share_interval(part, total)
        assert after.low >= before.low - 1e-9 and after.high >= before.high - 1e-9
        before = after


@settings(max_examples=200)
@given(st.integers(8, 60))
def test_more_missing_devices_raise_both_bounds(groups):
    """Of devices that are right or wrong altogether, each more that is wrong raises both bounds."""
    total = np.full(groups, 20)
    bounds = [share_interval(np.where(np.arange(groups) < wrong, 20, 0), total) for wrong in range(groups + 1)]
    assert (np.diff([interval.low for interval in bounds]) >= -1e-9).all()
    assert (np.diff([interval.high for interval in bounds]) >= -1e-9).all()


@settings(max_examples=300)
@given(st.lists(st.integers(0, 20), min_size=8, max_size=40), st.data())
def test_one_window_more_changes_bounds_little(missed, data):
    part, total = np.array(missed), np.full(len(missed), 20)
    i = data.draw(st.integers(0, len(missed) - 1))
    if part[i] < 20:
        before = share_interval(part, total)
        part[i] += 1
        after = share_interval(part, total)
        assert abs(after.low - before.low) < 0.15 and abs(after.high - before.high) < 0.15


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=5, max_size=30))
def test_bounds_of_share_hold_it_and_mirror_its_complement(counts):
    part, rest = np.array(counts).T
    share, other = share_interval(part, part + rest), share_interval(rest, part + rest)
    if share.known:
        assert 0 <= share.low <= share.value + 1e-9 and share.value - 1e-9 <= share.high <= 1
        assert (share.low, share.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-9)


def test_share_over_nothing_or_few_groups_has_no_interval():
    assert np.isnan(share_interval(np.zeros(6), np.zeros(6)).value)
    assert not share_interval(np.ones(4), np.full(4, 3)).known
    assert not share_interval(np.array([1, 2, 0, 1, 0, 0]), np.array([3, 3, 3, 3, 0, 0])).known
    assert share_interval(np.array([1, 2, 0, 1, 1, 0]), np.array([3, 3, 3, 3, 3, 0])).known


def test_jackknife_error_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=20)
    without = (values.sum() - values) / 19
    error, freedom = jackknife(without)
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(20)) and 1 <= freedom <= 19
    twice = np.stack([without, without])
    assert jackknife(twice)[0] == pytest.approx([error, error])
    lonely = np.where(np.arange(20) == 0, -1.0, 0.0)
    assert jackknife(lonely)[1] < 3, "one device that differs leaves few degrees of freedom"


def test_groups_that_are_not_concerned_do_not_count():
    values = np.random.default_rng(0).normal(size=8)
    without = (values.sum() - values) / 7
    padded, concerned = np.append(without, [values.mean()] * 4), np.arange(12) < 8
    assert jackknife(padded, concerned) == pytest.approx(jackknife(without))


def test_p_value_is_where_interval_touches():
    difference = difference_of(0.1, 0.1 + np.random.default_rng(0).normal(0, 0.01, 12))
    assert difference.p(difference.low) == pytest.approx(0.05) and difference.p(difference.high) == pytest.approx(0.05)
    assert difference.p() == pytest.approx(2 * t.sf(0.1 / difference.error, difference.freedom))
    assert np.isnan(Difference(0.1, np.nan, np.nan).p())


def test_holm_adjusts_by_rank_and_leaves_out_what_is_no_test():
    adjusted = holm(np.array([0.01, 0.04, 0.03, np.nan, 0.9]))
    assert adjusted[[0, 1, 2, 4]] == pytest.approx([0.04, 0.09, 0.09, 0.9]) and np.isnan(adjusted[3])
    assert len(holm(np.array([]))) == 0


def test_difference_shown_alone_may_not_be_among_many():
    narrow = Difference(0.02, 0.001, 0.039, 0.0088, 14)
    assert narrow.verdict == "better" and verdicts([narrow]) == ["better"]
    assert verdicts([narrow] * 3) == ["not shown"] * 3
    clear = Difference(-0.2, -0.22, -0.18, 0.01, 14)
    assert verdicts([clear, narrow]) == ["worse", "better"], "the least p-value counts twice, the last once"


def test_non_inferiority_is_a_lower_bound_above_the_margin():
    values = {"holds": (0.0, 0.003), "not shown": (-0.005, 0.01), "falls below": (-0.05, 0.01)}
    for verdict, (value, error) in values.items():
        half = t.ppf(0.975, 15) * error
        difference = Difference(value, value - half, value + half, error, 15)
        assert non_inferiority([difference], 0.01) == [verdict]
    assert non_inferiority([Difference(0.5, np.nan, np.nan)], 0.01) == ["not shown"]


def test_interval_in_negative_unit_keeps_its_order():
    assert Interval(1, 0.5, 2).times(-1) == Interval(-1, -2, -0.5)


def test_burst_of_one_device_counts_once_in_bound_of_rate():
    hours, alone = np.full(10, 0.5), np.zeros(10)
    assert rate_bound(alone, hours) == pytest.approx(-np.log(0.05) / 5), "none in five hours: the Poisson bound"
    spread, burst = np.ones(10), np.where(np.arange(10) == 0, 10, 0)
    poisson = chi2.ppf(0.95, 22) / 2 / 5
    assert rate_bound(spread, hours) == pytest.approx(poisson)
    assert rate_bound(burst, hours) == pytest.approx(10 * chi2.ppf(0.95, 4) / 2 / 5) and poisson < 4
    assert rate_bound(np.array([3]), np.array([5.0])) > chi2.ppf(0.95, 8) / 2 / 5, "one device tells nothing of others"
    assert np.isnan(rate_bound(np.zeros(2), np.zeros(2)))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.data())
def test_more_events_of_one_device_raise_bound_of_rate(events, data):
    """From none to many in one device, the bound only rises; one more anywhere never halves it."""
    hours, events = np.full(len(events), 2.0), np.array(events)
    alone = [rate_bound(np.where(np.arange(len(events)) == 0, count, 0), hours) for count in range(20)]
    assert (np.diff(alone) > 0).all()
    more = events.copy()
    more[data.draw(st.integers(0, len(events) - 1))] += 1
    assert rate_bound(more, hours) > rate_bound(events, hours) / 2
    assert rate_bound(events, hours) >= events.sum() / hours.sum()
