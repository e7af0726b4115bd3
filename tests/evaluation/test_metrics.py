"""Metrics against values worked out by hand, and their properties."""

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from conveyorguard.evaluation.metrics import METRICS, OBJECTIVES, Predictions, Totals, evaluate, metric_values

STATES = ["a", "b", "c", "d"]


def certain(y_true, y_pred, sessions=None):
    p = np.full((len(y_true), 4), 0.02)
    p[np.arange(len(y_true)), y_pred] = 0.94
    return Predictions(np.array(y_true), p, None if sessions is None else np.array(sessions))


def test_by_hand():
    #           normal  minor   moderate severe
    y_true = [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]
    y_pred = [0, 0, 1, 1, 1, 2, 3, 3, 2, 0]
    m = evaluate(certain(y_true, y_pred, list("aaabbccddd")), STATES)
    assert m["accuracy"] == 0.6
    assert m["severe_recall"] == pytest.approx(1 / 3) and m["severe_precision"] == 0.5 and m["severe_as_normal"] == 1
    assert m["confusion"] == [[2, 1, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1]]
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


def test_a_severe_session_is_missed_when_none_of_its_severe_windows_is_called_so():
    missed = certain([3, 3, 3, 3], [2, 1, 3, 2], ["a", "a", "b", "b"])
    assert metric_values(missed)["severe_sessions_missed"] == 1


def test_metrics_without_a_value_are_none_not_nan():
    m = evaluate(certain([0, 0], [0, 0]), STATES)
    assert m["severe_recall"] is None and m["severe_precision"] is None and m["qwk"] is None and m["accuracy"] == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40), st.randoms())
def test_order_of_windows_does_not_matter_and_the_confusion_matrix_holds_all(pairs, random):
    m = evaluate(certain(*zip(*pairs, strict=True)), STATES)
    shuffled = pairs.copy()
    random.shuffle(shuffled)
    again = evaluate(certain(*zip(*shuffled, strict=True)), STATES)
    assert m["confusion"] == again["confusion"] and m["macro_f1"] == pytest.approx(again["macro_f1"])
    assert sum(map(sum, m["confusion"])) == m["n"] == len(pairs)
    assert m["accuracy"] == pytest.approx(np.trace(m["confusion"]) / m["n"])


def test_every_metric_is_an_objective_with_its_direction():
    windows = {f"val/{name}": m.higher_is_better for name, m in METRICS.items() if m.level == "window"}
    assert windows.items() <= OBJECTIVES.items()
    assert OBJECTIVES["val/loss"] is False


@st.composite
def any_predictions(draw):
    n, states = draw(st.integers(1, 60)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p = rng.dirichlet(np.full(states, draw(st.sampled_from([0.1, 1.0, 10.0]))), n)
    return Predictions(rng.integers(states, size=n), p, rng.choice(list("abcde"), n))


@given(any_predictions())
def test_metrics_are_those_of_scikit_learn_and_torchmetrics(predictions):
    y, guess, states = predictions.y_true, predictions.y_pred, predictions.p.shape[1]
    labels = np.arange(states)
    m = metric_values(predictions)
    assert m["accuracy"] == pytest.approx(sk.accuracy_score(y, guess))
    assert m["macro_f1"] == pytest.approx(sk.f1_score(y, guess, average="macro"))
    if (y == states - 1).any():
        assert m["severe_recall"] == pytest.approx(sk.recall_score(y == states - 1, guess == states - 1))
    if len(set(y) | set(guess)) > 1:
        assert m["qwk"] == pytest.approx(sk.cohen_kappa_score(y, guess, weights="quadratic", labels=labels))
    assert m["nll"] == pytest.approx(sk.log_loss(y, predictions.p.clip(1e-12, 1), labels=labels), rel=1e-4, abs=1e-6)
    if predictions.p.astype(np.float32).max() == 1:  # torchmetrics gives certainty a bin of its own
        return
    ece = multiclass_calibration_error(torch.tensor(predictions.p), torch.tensor(y), num_classes=states, n_bins=15)
    assert m["ece"] == pytest.approx(float(ece), abs=1e-5)


@given(any_predictions(), st.integers(0, 2**32 - 1))
def test_weighted_totals_are_those_of_repeated_sessions(predictions, seed):
    names, index = np.unique(predictions.session, return_inverse=True)
    weights = np.random.default_rng(seed).integers(0, 4, len(names))
    rows = np.concatenate([np.tile(np.flatnonzero(index == i), w) for i, w in enumerate(weights)]).astype(int)
    copies = np.concatenate([np.repeat([f"{n}{k}" for k in range(w)], (index == i).sum())
                             for i, (n, w) in enumerate(zip(names, weights, strict=True))])  # fmt: skip
    if len(rows):
        repeated = metric_values(Predictions(predictions.y_true[rows], predictions.p[rows], copies))
        totals = Totals.of(predictions, index, len(names)).weighted(weights)
        for name, metric in METRICS.items():
            assert float(metric.function(totals)) == pytest.approx(repeated[name], nan_ok=True), name
