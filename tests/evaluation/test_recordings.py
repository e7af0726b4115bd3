"""What recordings come to together: shares with intervals, from sums alone."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conveyorguard.evaluation.recordings import Told, Totals, labelled_sentence

SCHEMA = SimpleNamespace(alarm=2, states=[SimpleNamespace(name=n) for n in ("normal", "minor", "moderate", "severe")])


def totals(recordings, alarms=None):
    """recordings: of each its windows' actual and predicted states; alarms: how many each has."""
    found = Totals.of(4)
    for i, (actual, guess) in enumerate(recordings):
        windows = pd.DataFrame({"y_true": actual, "y_pred": guess})
        seconds = pd.DataFrame({"state": ["normal"], "y_pred": [0]})
        told = Told(f"r{i}", windows=len(windows), alarms=alarms[i] if alarms else 0)
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
    assert np.isnan(totals([*right, (np.ones(9, int), np.zeros(9, int))]).right_interval.low)


def test_every_share_of_the_sentence_has_its_bounds():
    faulty, healthy = (np.array([0, 3, -1]), np.array([0, 3, 0])), (np.array([0, 0]), np.array([0, 0]))
    said = labelled_sentence(totals([faulty] * 4 + [healthy] * 4, alarms=[1, 1, 1, 1, 1, 0, 0, 0]), SCHEMA)
    assert said == (
        "100.0% (95 %: 63.1% to 100.0%) of 16 labelled windows are predicted as they are labelled; "
        "0 of 4 (95 %: 0.0% to 60.2%) recordings that reach moderate have no alarm; "
        "1 of 4 (95 %: 0.6% to 80.6%) recordings that do not reach it have one; "
        "intervals take recordings for independent of each other, which several of one device are not quite"
    )
