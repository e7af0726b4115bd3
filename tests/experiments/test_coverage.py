"""Coverage of the intervals over simulated data sets, a few cells of experiments/coverage.csv."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.metrics.intervals import clopper_pearson
from experiments import coverage

pytestmark = pytest.mark.promise(
    "numbers", "Over simulated data sets, 93 to 97 of 100 intervals hold the true value: experiments/coverage.csv."
)

SETS = 400
SLACK = 0.025  # two standard errors of a coverage of 95 % over SETS


def drawn(devices, sessions, sets=SETS, effect=True):
    """Return confusion matrices by session (2, R, G, S, K, K) and the true values of the two models."""
    rng = np.random.default_rng(0)
    state, predicted, there = coverage.latent(rng, sets, devices, sessions, effect)
    apart = [array.reshape(sets, devices * sessions, 1, -1) for array in (state, there)]
    guesses = predicted.reshape(2, sets, devices * sessions, 1, -1)
    confusion, _ = coverage.confusions((apart[0], guesses, apart[1]))
    return confusion.reshape(2, sets, devices, sessions, 4, 4), coverage.truth_of(coverage.latent, effect)


def two_stage(confusion, metric, replicates=200):
    """Return the bounds of the difference by drawing devices, then their sessions: the method of earlier versions."""
    rng, (sets, devices, sessions) = np.random.default_rng(1), confusion.shape[1:4]
    bounds = []
    for i in range(sets):
        device = rng.integers(devices, size=(replicates, devices))
        session = rng.integers(sessions, size=(replicates, devices, sessions))
        first, second = coverage.values_of(confusion[:, i][:, device[..., None], session].sum((2, 3)), metric)
        bounds.append(np.quantile(first - second, [0.025, 0.975]))
    return np.transpose(bounds)


def held(low, high, truth):
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize(("devices", "sessions"), [(10, 1), (12, 2), (20, 9)])
def test_intervals_cover_at_the_nominal_rate(devices, sessions):
    confusion, truth = drawn(devices, sessions)
    metrics = ("accuracy", "macro_f1", *(("severe_recall",) if sessions == 9 else ()))
    for metric in metrics:
        for name, low, high in coverage.bounds_of(confusion.sum(3), metric):
            assert np.isfinite(low).all(), name
            assert 0.93 - SLACK <= held(low, high, truth[name]) <= 0.97 + SLACK, name


@pytest.mark.parametrize(("devices", "sessions", "off"), [(10, 1, -1), (36, 9, 1)])
def test_two_stage_bootstrap_does_not_cover(devices, sessions, off):
    """With one session a device it covers too little of the severe recall; with nine, its intervals are too wide."""
    confusion, truth = drawn(devices, sessions, 100, effect=False)
    metric = "severe_recall" if off < 0 else "macro_f1"
    low, high = two_stage(confusion, metric)
    ((_, *_), (name, own_low, own_high)) = coverage.bounds_of(confusion.sum(3), metric)
    if off < 0:
        assert held(low, high, truth[name]) < 0.93 - SLACK
    else:
        assert (high - low).mean() > 1.2 * (own_high - own_low).mean()


def test_windows_taken_as_independent_do_not_cover():
    confusion, truth = drawn(20, 9, 200)
    part, total = coverage.counts_of(confusion[0].sum(2), "accuracy")
    part, total = part.sum(-1), total.sum(-1)
    low, high = clopper_pearson(part / total, total)
    assert held(low, high, truth["accuracy"]) < 0.7


def test_four_devices_or_six_sessions_are_given_no_interval():
    truth = coverage.truth_of(coverage.spells, False)
    for devices, sessions in ((4, 9), (6, 1)):
        rows = pd.DataFrame(coverage.cell(coverage.latent, False, devices, sessions, 20, truth))
        assert (rows["given"] == 0).all() and rows["coverage"].isna().all()


def test_committed_table_covers_as_it_should():
    table = pd.read_csv(coverage.FILE)
    assert len(coverage.uncovered(table, 2000)) == 0
    intervals = table[(table["kind"] == "interval") & (table["devices"] >= 10)]
    common = intervals[~intervals["metric"].str.startswith("severe")]
    assert (common["given"] == 1).all() and len(common) == 4 * 4 * 3 * 4
    severe = table[(table["kind"] == "interval") & (table["metric"] == "severe_recall") & (table["sessions"] == 9)]
    assert (severe.query("devices == 36")["given"] > 0.99).all()
    compared = table.query(
        "kind == 'interval' and metric == 'severe_recall, a - b' and sessions == 9 and devices >= 20"
    )
    assert (compared["given"] >= 0.9).all() and len(compared) == 8
    low = table.assign(coverage=0.9, given=1.0)
    assert set(coverage.uncovered(low, 2000)["kind"]) == {"interval", "bound"}
