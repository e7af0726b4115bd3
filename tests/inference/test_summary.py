"""Totals over sessions: shares with intervals, computed from sums alone."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conveyorguard.inference.label_figures import labelled_sentence
from conveyorguard.inference.summary import PredictionTotals, SessionSummary

pytestmark = pytest.mark.promise(
    "numbers", "Each share that `predict` prints has an interval: over devices where there are ten, else over sessions."
)

SCHEMA = SimpleNamespace(alarm=2, states=[SimpleNamespace(name=n) for n in ("normal", "minor", "moderate", "severe")])


def totals(recordings, alarms=None, devices=None):
    """Return the totals of sessions.

    recordings: for each session the actual and predicted states of its windows; alarms: its number of alarms; devices:
        its
    device.
    """
    result = PredictionTotals.of(4)
    for i, (actual, guess) in enumerate(recordings):
        windows = pd.DataFrame({"y_true": actual, "y_pred": guess})
        seconds = pd.DataFrame({"state": ["normal"], "y_pred": [0]})
        summary = SessionSummary(
            f"r{i}", device=devices[i] if devices else "d", windows=len(windows), alarms=alarms[i] if alarms else 0
        )
        result.add(summary, windows, seconds, SCHEMA.alarm)
    return result


def test_share_of_right_windows_has_the_bootstrap_interval_over_sessions():
    rng = np.random.default_rng(0)
    recordings, right, sizes = [], [], []
    for _ in range(40):  # each of another quality
        n, quality = int(rng.integers(20, 60)), rng.beta(8, 2)
        hit = rng.random(n) < quality
        recordings.append((np.ones(n, int), np.where(hit, 1, 0)))
        right.append(hit.sum())
        sizes.append(n)
    interval = totals(recordings).right_interval
    drawn = rng.integers(40, size=(5000, 40))
    low, high = np.quantile(np.array(right)[drawn].sum(1) / np.array(sizes)[drawn].sum(1), [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.01)
    assert interval.value == sum(right) / sum(sizes)


def test_degenerate_share_or_few_sessions_use_exact_interval():
    right = [(np.ones(9, int), np.ones(9, int))] * 3
    assert totals(right).right_interval.low == pytest.approx(0.025 ** (1 / 3))
    few = totals([*right, (np.ones(9, int), np.zeros(9, int))]).right_interval
    assert few.value == 0.75 and few.low < 0.25 and few.high > 0.99
    same = totals([(np.ones(9, int), np.array([0, 0, 0, 1, 1, 1, 1, 1, 1]))] * 6).right_interval
    assert same.low < 0.3 and same.high > 0.9, "six equal sessions do not make it certain"


def test_ten_devices_give_intervals_over_devices():
    """Twelve devices with five sessions each; three devices are always wrong and miss their faults."""
    devices = [f"d{i // 5:02d}" for i in range(60)]
    bad = [i // 5 < 3 for i in range(60)]
    faulty = [(np.array([0, 3]), np.array([3, 0]) if wrong else np.array([0, 3])) for wrong in bad]
    by_device = totals(faulty, [0 if wrong else 1 for wrong in bad], devices)
    by_session = totals(faulty, [0 if wrong else 1 for wrong in bad])
    for name in ("right_interval", "missed_interval"):
        wide, narrow = getattr(by_device, name), getattr(by_session, name)
        assert wide.value == narrow.value and wide.high - wide.low > 1.8 * (narrow.high - narrow.low), name
    half = 1.96 * np.std([0.0] * 3 + [1.0] * 9, ddof=1) / np.sqrt(12)
    assert by_device.right_interval.low == pytest.approx(0.75 - half, abs=1e-3)
    none_missed = totals([faulty[-1]] * 60, [1] * 60, devices)
    assert none_missed.missed_interval.high == pytest.approx(1 - 0.025 ** (1 / 12))
    sentence = labelled_sentence(none_missed, SCHEMA)
    assert sentence.endswith("; intervals are over devices, which are taken as independent")


def test_labelled_sentence_gives_each_share_with_its_interval():
    faulty, healthy = (np.array([0, 3, -1]), np.array([0, 3, 0])), (np.array([0, 0]), np.array([0, 0]))
    sentence = labelled_sentence(totals([faulty] * 4 + [healthy] * 4, alarms=[1, 1, 1, 1, 1, 0, 0, 0]), SCHEMA)
    assert sentence == (
        "100.0% (95 %: 63.1% to 100.0%) of 16 labelled windows are predicted correctly; "
        "0 of 4 (95 %: 0.0% to 60.2%) sessions that reach moderate have no alarm; "
        "1 of 4 (95 %: 0.6% to 80.6%) sessions that do not reach moderate have an alarm; "
        "intervals are over sessions, taken as independent although several come from one device, because fewer than "
        "10 devices were labelled"
    )
