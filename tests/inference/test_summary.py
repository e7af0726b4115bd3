"""Totals over sessions: shares with intervals, computed from sums alone."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conveyorguard.inference.label_figures import labelled_sentence
from conveyorguard.inference.summary import PredictionTotals, SessionSummary

pytestmark = pytest.mark.promise(
    "numbers", "Each share that `predict` prints has an interval over devices, or over the sessions of a single device."
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


def test_share_of_right_windows_has_the_interval_over_sessions_of_one_device():
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
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.015)
    assert interval.value == sum(right) / sum(sizes)


def test_few_sessions_or_devices_have_no_interval():
    right = (np.ones(9, int), np.ones(9, int))
    for few in (totals([right] * 9), totals([right] * 40, devices=[f"d{i % 4}" for i in range(40)])):
        assert few.right_interval.value == 1 and np.isnan(few.right_interval.low)
    assert totals([right] * 10).right_interval.low == pytest.approx(0.025 ** (1 / 10))
    same = totals([(np.ones(9, int), np.array([0, 0, 0, 1, 1, 1, 1, 1, 1]))] * 12).right_interval
    assert same.low < 0.4 and same.high > 0.9, "twelve equal sessions do not make it certain"


def test_sessions_of_a_device_are_not_independent():
    """Twelve devices with five sessions each; three devices are always wrong and miss their faults."""
    devices = [f"d{i // 5:02d}" for i in range(60)]
    bad = [i // 5 < 3 for i in range(60)]
    faulty = [(np.array([0, 3]), np.array([3, 0]) if wrong else np.array([0, 3])) for wrong in bad]
    by_device = totals(faulty, [0 if wrong else 1 for wrong in bad], devices)
    by_session = totals(faulty, [0 if wrong else 1 for wrong in bad])
    for name in ("right_interval", "missed_interval"):
        wide, narrow = getattr(by_device, name), getattr(by_session, name)
        assert wide.value == narrow.value and wide.high - wide.low > 1.8 * (narrow.high - narrow.low), name
    assert by_device.right_interval.low < 0.43 and by_device.right_interval.high > 0.93, "twelve devices, nine right"
    none_missed = totals([faulty[-1]] * 60, [1] * 60, devices)
    assert none_missed.missed_interval.high == pytest.approx(1 - 0.025 ** (1 / 12))
    sentence = labelled_sentence(none_missed, SCHEMA)
    assert sentence.endswith("; ranges are 95 % intervals over devices, which are taken as independent")


def test_labelled_sentence_gives_each_share_with_its_interval():
    faulty, healthy = (np.array([0, 3, -1]), np.array([0, 3, 0])), (np.array([0, 0]), np.array([0, 0]))
    sentence = labelled_sentence(totals([faulty] * 6 + [healthy] * 6, alarms=[1] * 7 + [0] * 5), SCHEMA)
    assert sentence == (
        "100.0 % (73.5 % to 100.0 %) of 24 labelled windows are predicted correctly; "
        "0 of 6 (0.0 % to 45.9 %) sessions that reach moderate have no alarm; "
        "1 of 6 (0.4 % to 64.1 %) sessions that do not reach moderate have an alarm; "
        "ranges are 95 % intervals over sessions of the one device, which are taken as independent"
    )
    few = labelled_sentence(totals([faulty] * 4 + [healthy] * 4, alarms=[1] * 5 + [0] * 3), SCHEMA)
    assert few == (
        "100.0 % of 16 labelled windows are predicted correctly; 0 of 4 sessions that reach moderate have no alarm; 1 "
        "of 4 sessions that do not reach moderate have an alarm; too few were labelled for intervals, which need 10 "
        "sessions, and 5 devices where there are several"
    )
