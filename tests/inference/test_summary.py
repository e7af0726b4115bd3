"""What recordings come to together: shares with intervals, from sums alone."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conveyorguard.inference.summary import PredictionTotals, RecordingSummary, labelled_sentence

SCHEMA = SimpleNamespace(alarm=2, states=[SimpleNamespace(name=n) for n in ("normal", "minor", "moderate", "severe")])


def totals(recordings, alarms=None, devices=None):
    """recordings: of each its windows' actual and predicted states; alarms, devices: how many, and whose, each has."""
    found = PredictionTotals.of(4)
    for i, (actual, guess) in enumerate(recordings):
        windows = pd.DataFrame({"y_true": actual, "y_pred": guess})
        seconds = pd.DataFrame({"state": ["normal"], "y_pred": [0]})
        told = RecordingSummary(
            f"r{i}", device=devices[i] if devices else "d", windows=len(windows), alarms=alarms[i] if alarms else 0
        )
        found.add(told, windows, seconds, SCHEMA.alarm)
    return found


def test_the_share_of_right_windows_has_the_interval_of_recordings():
    rng = np.random.default_rng(0)
    recordings, right, sizes = [], [], []
    for _ in range(40):  # each of a quality of its own
        n, quality = int(rng.integers(20, 60)), rng.beta(8, 2)
        hit = rng.random(n) < quality
        recordings.append((np.ones(n, int), np.where(hit, 1, 0)))
        right.append(hit.sum())
        sizes.append(n)
    found = totals(recordings).right_interval
    drawn = rng.integers(40, size=(5000, 40))
    low, high = np.quantile(np.array(right)[drawn].sum(1) / np.array(sizes)[drawn].sum(1), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
    assert found.value == sum(right) / sum(sizes)


def test_all_right_is_bounded_and_few_recordings_say_nothing():
    right = [(np.ones(9, int), np.ones(9, int))] * 3
    assert totals(right).right_interval.low == pytest.approx(0.025 ** (1 / 3))
    few = totals([*right, (np.ones(9, int), np.zeros(9, int))]).right_interval
    assert few.value == 0.75 and few.low < 0.25 and few.high > 0.99
    same = totals([(np.ones(9, int), np.array([0, 0, 0, 1, 1, 1, 1, 1, 1]))] * 6).right_interval
    assert same.low < 0.3 and same.high > 0.9, "six that are alike do not make it certain"


def test_where_there_are_ten_devices_they_are_counted_not_their_recordings():
    """Twelve devices of five recordings; three devices are always wrong, and miss their faults."""
    devices = [f"d{i // 5:02d}" for i in range(60)]
    bad = [i // 5 < 3 for i in range(60)]
    faulty = [(np.array([0, 3]), np.array([3, 0]) if wrong else np.array([0, 3])) for wrong in bad]
    found = totals(faulty, [0 if wrong else 1 for wrong in bad], devices)
    alone = totals(faulty, [0 if wrong else 1 for wrong in bad])
    for name in ("right_interval", "missed_interval"):
        wide, narrow = getattr(found, name), getattr(alone, name)
        assert wide.value == narrow.value and wide.high - wide.low > 1.8 * (narrow.high - narrow.low), name
    half = 1.96 * np.std([0.0] * 3 + [1.0] * 9, ddof=1) / np.sqrt(12)
    assert found.right_interval.low == pytest.approx(0.75 - half, abs=1e-3)
    none = totals([faulty[-1]] * 60, [1] * 60, devices)
    assert none.missed_interval.high == pytest.approx(1 - 0.025 ** (1 / 12))
    said = labelled_sentence(none, SCHEMA)
    assert said.endswith("intervals take devices for independent of each other, not their recordings")


def test_every_share_of_the_sentence_has_its_bounds():
    faulty, healthy = (np.array([0, 3, -1]), np.array([0, 3, 0])), (np.array([0, 0]), np.array([0, 0]))
    said = labelled_sentence(totals([faulty] * 4 + [healthy] * 4, alarms=[1, 1, 1, 1, 1, 0, 0, 0]), SCHEMA)
    assert said == (
        "100.0% (95 %: 63.1% to 100.0%) of 16 labelled windows are predicted as they are labelled; "
        "0 of 4 (95 %: 0.0% to 60.2%) recordings that reach moderate have no alarm; "
        "1 of 4 (95 %: 0.6% to 80.6%) recordings that do not reach it have one; "
        "intervals take recordings for independent of each other, which several of one device are not quite: "
        "devices are fewer than 10"
    )
