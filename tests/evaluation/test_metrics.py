"""Metrics against values worked out by hand, and their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyorguard.evaluation.metrics import METRICS, OBJECTIVES, Predictions, evaluate

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
    assert METRICS["severe_sessions_missed"].function(missed) == 1


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
