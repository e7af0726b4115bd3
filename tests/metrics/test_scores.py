"""Metrics against values worked out by hand, against scikit-learn and torchmetrics, and their properties."""

from dataclasses import fields

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from conveyorguard.metrics.scores import METRICS, OBJECTIVES, Predictions, Totals, evaluate, metric_values, per_class

pytestmark = pytest.mark.promise("numbers", "Metrics equal those of scikit-learn and torchmetrics.")

STATES = ["a", "b", "c", "d"]


def certain(y_true, y_pred, sessions=None):
    p = np.full((len(y_true), 4), 0.02)
    p[np.arange(len(y_true)), y_pred] = 0.94
    return Predictions(np.array(y_true), p, None if sessions is None else np.array(sessions))


def test_metrics_match_values_by_hand():
    #           normal  minor   moderate severe
    y_true = [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]
    y_pred = [0, 0, 1, 1, 1, 2, 3, 3, 2, 0]
    m = evaluate(certain(y_true, y_pred, list("aaabbccddd")), STATES)
    assert m["accuracy"] == 0.6
    assert m["severe_recall"] == pytest.approx(1 / 3) and m["severe_precision"] == 0.5 and m["severe_as_normal"] == 1
    assert m["confusion"] == [[2, 1, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1]]
    assert all(isinstance(count, int) for row in m["confusion"] for count in row), "metrics.json holds integers"
    f1 = [2 / 3, 0.8, 0.5, 0.4]
    assert [row["f1"] for row in m["per_class"]] == pytest.approx(f1) and m["macro_f1"] == pytest.approx(np.mean(f1))
    assert m["ordinal_error"] == pytest.approx((0 + 0 + 1 + 0 + 0 + 0 + 1 + 0 + 1 + 3) / 10)
    assert m["nll"] == pytest.approx(-(6 * np.log(0.94) + 4 * np.log(0.02)) / 10)
    assert m["brier"] == pytest.approx((6 * (0.06**2 + 3 * 0.02**2) + 4 * (0.94**2 + 0.98**2 + 2 * 0.02**2)) / 10)
    assert m["ece"] == pytest.approx(0.94 - 0.6)
    # quadratic weighted kappa: 1 - observed / expected squared distance
    t, g = np.array(y_true), np.array(y_pred)
    expected = np.mean([(a - b) ** 2 for a in t for b in g])
    assert m["qwk"] == pytest.approx(1 - np.mean((t - g) ** 2) / expected)
    assert m["severe_sessions_missed"] == 0 and m["n"] == 10
    assert [row["class"] for row in m["per_class"]] == STATES and [row["support"] for row in m["per_class"]] == [
        3,
        2,
        2,
        3,
    ]
    assert [row["precision"] for row in m["per_class"]] == pytest.approx([2 / 3, 2 / 3, 1 / 2, 1 / 2])
    assert [row["recall"] for row in m["per_class"]] == pytest.approx([2 / 3, 1, 1 / 2, 1 / 3])


def test_session_without_recognised_severe_window_is_missed():
    missed = certain([3, 3, 3, 3], [2, 1, 3, 2], ["a", "a", "b", "b"])
    assert metric_values(missed)["severe_sessions_missed"] == 1


def test_undefined_metrics_are_none():
    m = evaluate(certain([0, 0], [0, 0]), STATES)
    assert m["severe_recall"] is None and m["severe_precision"] is None and m["qwk"] is None and m["accuracy"] == 1
    assert m["severe_sessions_missed"] is None, "the sessions are unknown"
    assert m["per_class"][3] == {"class": "d", "precision": 0, "recall": 0, "f1": 0, "support": 0}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.randoms())
def test_window_order_does_not_matter_and_confusion_sums_to_n(pairs, random):
    m = evaluate(certain(*zip(*pairs, strict=True)), STATES)
    shuffled = pairs.copy()
    random.shuffle(shuffled)
    again = evaluate(certain(*zip(*shuffled, strict=True)), STATES)
    assert m["confusion"] == again["confusion"] and m["macro_f1"] == pytest.approx(again["macro_f1"])
    assert sum(map(sum, m["confusion"])) == m["n"] == len(pairs)
    assert m["accuracy"] == pytest.approx(np.trace(m["confusion"]) / m["n"])


def test_every_window_metric_is_an_objective_with_its_direction():
    windows = {f"val/{name}": m.higher_is_better for name, m in METRICS.items() if m.level == "window"}
    assert windows.items() <= OBJECTIVES.items()
    assert OBJECTIVES["val/loss"] is False
    assert {name for name, m in METRICS.items() if m.higher_is_better} == {
        "accuracy",
        "macro_f1",
        "severe_recall",
        "severe_precision",
        "qwk",
    }
    assert {name for name, m in METRICS.items() if m.level != "window"} == {"severe_sessions_missed"}


@st.composite
def any_predictions(draw):
    n, states = draw(st.integers(1, 60)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p = rng.dirichlet(np.full(states, draw(st.sampled_from([0.1, 1.0, 10.0]))), n)
    return Predictions(rng.integers(states, size=n), p, rng.choice(list("abcde"), n))


@given(any_predictions())
def test_metrics_match_scikit_learn_and_torchmetrics(predictions):
    y, guess, states = predictions.y_true, predictions.y_pred, predictions.p.shape[1]
    labels = np.arange(states)
    m = metric_values(predictions)
    assert m["accuracy"] == pytest.approx(sk.accuracy_score(y, guess))
    assert m["macro_f1"] == pytest.approx(sk.f1_score(y, guess, average="macro"))
    worst, called = y == states - 1, guess == states - 1
    if worst.any():
        assert m["severe_recall"] == pytest.approx(sk.recall_score(worst, called))
    if called.any():
        assert m["severe_precision"] == pytest.approx(sk.precision_score(worst, called))
    assert m["severe_as_normal"] == (worst & (guess == 0)).sum()
    assert m["severe_sessions_missed"] == sum(
        worst[rows].any() and not (worst & called)[rows].any()
        for rows in (predictions.session == name for name in set(predictions.session))
    )
    assert m["ordinal_error"] == pytest.approx(sk.mean_absolute_error(y, guess))
    assert m["brier"] == pytest.approx(states * sk.mean_squared_error(np.eye(states)[y], predictions.p))
    if len(set(y) | set(guess)) > 1:
        assert m["qwk"] == pytest.approx(sk.cohen_kappa_score(y, guess, weights="quadratic", labels=labels))
    assert m["nll"] == pytest.approx(sk.log_loss(y, predictions.p.clip(1e-12, 1), labels=labels), rel=1e-4, abs=1e-6)
    if predictions.p.astype(np.float32).max() == 1:  # torchmetrics has a separate bin for probability 1
        return
    ece = multiclass_calibration_error(torch.tensor(predictions.p), torch.tensor(y), num_classes=states, n_bins=15)
    assert m["ece"] == pytest.approx(float(ece), abs=1e-5)


@given(any_predictions())
def test_totals_without_session_are_those_of_the_others(predictions):
    names, index = np.unique(predictions.session, return_inverse=True)
    rest = Totals.of(predictions, index, len(names)).without_each()
    for i in range(len(names)):
        others = index != i
        if others.any():
            alone = metric_values(
                Predictions(predictions.y_true[others], predictions.p[others], predictions.session[others])
            )
            for name, metric in METRICS.items():
                assert float(metric.function(rest)[i]) == pytest.approx(alone[name], nan_ok=True, abs=1e-9), name


def test_totals_match_values_by_hand():
    """Five windows of three states in sessions 0 and 1, none in session 2. A probability of 0 counts as 1e-12."""
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.8, 0.0], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.05, 0.05, 0.9]])
    totals = Totals.of(Predictions(np.array([0, 2, 2, 2, 2]), p), np.array([0, 0, 1, 1, 1]), 3)
    nothing = np.zeros((3, 3))
    np.testing.assert_array_equal(
        totals.confusion, [[[1, 0, 0], [0, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0], [2, 0, 1]], nothing]
    )
    smallest = -np.log(1e-12)
    np.testing.assert_allclose(totals.nll, [-np.log(0.6) + smallest, -np.log(0.25) + smallest - np.log(0.9), 0])
    np.testing.assert_allclose(totals.brier, [0.26 + 1.68, 0.875 + 2 + 0.015, 0])
    np.testing.assert_array_equal(totals.worst_sessions, [[1, 1], [1, 0], [0, 0]])
    np.testing.assert_array_equal(totals.n, [2, 3, 0])
    bins = np.zeros((3, 15, 3))
    bins[0, 8], bins[0, 11] = [1, 0.6, 1], [1, 0.8, 0]  # 0.6 is the upper edge of the ninth bin
    bins[1, 7], bins[1, 13], bins[1, 14] = [1, 0.5, 0], [1, 0.9, 1], [1, 1, 0]
    np.testing.assert_allclose(totals.calibration, bins)
    both = totals.grouped(np.array([0, 0, 1]), 2)
    np.testing.assert_allclose(both.nll, [totals.nll[0] + totals.nll[1], 0])
    np.testing.assert_array_equal(both.worst_sessions, [[2, 1], [0, 0]])
    rest = totals.without_each()
    np.testing.assert_allclose(rest.nll, [totals.nll[1], totals.nll[0], totals.nll.sum()])
    np.testing.assert_array_equal(rest.worst_sessions, [[1, 0], [1, 1], [2, 1]])


def test_uniform_probabilities_of_many_states_fall_in_lowest_bin():
    totals = Totals.of(Predictions(np.zeros(2, int), np.full((2, 20), 0.05)))
    assert totals.calibration.shape == (1, 15, 3)
    np.testing.assert_allclose(totals.calibration[0, 0], [2, 0.1, 2])
    assert totals.calibration[0, 1:].sum() == 0


def test_probability_rounded_above_one_counts_as_one():
    totals = Totals.of(Predictions(np.array([1]), np.array([[-1e-7, 1 + 1e-7]])))
    np.testing.assert_allclose(totals.calibration[0, 14], [1, 1, 1], rtol=1e-6)
    assert totals.calibration[0, :14].sum() == 0 and totals.nll.tolist() == [0]


def test_metrics_of_many_sums_match_single_ones():
    rng = np.random.default_rng(0)
    predictions = Predictions(rng.integers(4, size=60), rng.dirichlet(np.ones(4), 60))
    rest = Totals.of(predictions, rng.integers(5, size=60), 5).without_each()
    for name, metric in METRICS.items():
        each = [metric.function(Totals(*(getattr(rest, f.name)[i] for f in fields(rest)))) for i in range(5)]
        np.testing.assert_allclose(metric.function(rest), each, atol=1e-12, err_msg=name)


def test_unknown_sessions_leave_missed_sessions_undefined():
    totals = Totals.over(certain([3, 0], [0, 0]))
    assert totals.worst_sessions.shape == (2,) and np.isnan(totals.worst_sessions).all()
    assert totals.n == 2 and totals.confusion[3, 0] == 1


def test_share_without_windows_is_nan():
    half = Totals.of(Predictions(np.array([1, 1]), np.array([[0.9, 0.1], [0.2, 0.8]])))
    nothing = half.without_each()
    assert METRICS["accuracy"].function(half).tolist() == [0.5]
    for name in METRICS.keys() - {"severe_as_normal", "severe_sessions_missed"}:
        with np.errstate(all="raise"):
            assert np.isnan(METRICS[name].function(nothing)).tolist() == [True], name
    precision, recall, f1, support = per_class(np.array([[0, 1], [0, 0]]))
    np.testing.assert_array_equal(precision, [np.nan, 0])
    np.testing.assert_array_equal(recall, [0, np.nan])
    np.testing.assert_array_equal(f1, [0, 0])
    np.testing.assert_array_equal(support, [1, 0])


def test_titles_name_first_and_worst_state():
    assert METRICS["severe_as_normal"].named(["good", "so-so", "bad"]) == "bad windows called good"
    assert METRICS["accuracy"].named(["good", "bad"]) == "accuracy"
