"""Memory: causal features, kept only where it helps devices that it was not fitted on, harmless after a repair."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from conveyorguard.metrics import memory
from conveyorguard.metrics.alarm_threshold import choose_operating_point
from conveyorguard.metrics.alarms import episodes
from conveyorguard.metrics.memory import Memory, fit_memory, lagged, log_probabilities, runs_of, try_memory
from conveyorguard.metrics.scores import Predictions

WEAR = ((0, 60), (1, 50), (2, 50), (3, 60))  # state and seconds


def recorded(rng, phases=WEAR, noise=2.0, states=4):
    """Return the states of a session, one a second, and noisy probabilities of them."""
    y = np.repeat([state for state, _ in phases], [seconds for _, seconds in phases])
    return y, softmax(3 * np.eye(states)[y] + noise * rng.normal(size=(len(y), states)), axis=1)


def validation(devices=6, phases=WEAR, noise=2.0, states=4, seed=0):
    """Return lagged features, predictions and devices of two sessions of each device."""
    rng = np.random.default_rng(seed)
    parts = [recorded(rng, phases, noise, states) for _ in range(2 * devices)]
    y, p = (np.concatenate(values) for values in zip(*parts, strict=True))
    number = np.repeat(np.arange(len(parts)), [len(of_session) for of_session, _ in parts])
    end = np.concatenate([np.arange(len(of_session)) for of_session, _ in parts])
    return (
        lagged(p, end, number),
        Predictions(y, p, np.char.add("s", number.astype(str))),
        np.char.add("d", (number // 2).astype(str)),
    )


def with_memory(fitted, p):
    """Apply a memory to a session of one window a second."""
    return fitted.apply(lagged(p, np.arange(len(p)), np.zeros(len(p), int)))


@pytest.fixture(scope="module")
def fitted():
    features, predictions, device = validation()
    return try_memory(features, predictions, device).memory


# --- Features ------------------------------------------------------------------------------------------------------


def test_lag_reaching_before_the_start_takes_the_first_window_of_its_run():
    p = softmax(np.arange(12.0).reshape(6, 2) ** 1.1, axis=1)
    features = lagged(p, np.arange(6), np.array([0, 0, 0, 0, 1, 1]), lags=(0, 2))
    logs = log_probabilities(p)
    assert np.array_equal(features[:, :2], logs)
    assert np.array_equal(features[:, 2:], logs[[0, 0, 0, 1, 4, 4]])


def test_lag_between_two_windows_takes_the_one_that_had_ended():
    p = softmax(np.random.default_rng(0).normal(size=(4, 3)), axis=1)
    features = lagged(p, np.array([29, 39, 49, 59]), np.zeros(4, int), lags=(0, 3, 15))
    logs = log_probabilities(p)
    assert np.array_equal(features[:, 3:6], logs[[0, 0, 1, 2]]), "3 periods ago the window before was the last to end"
    assert np.array_equal(features[:, 6:], logs[[0, 0, 0, 1]])


def test_gap_and_next_session_begin_a_new_run():
    windows = pd.DataFrame({"session": [*"aaaaabb"], "end": [29, 30, 31, 70, 71, 29, 30]})
    assert runs_of(windows, 1.0).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert runs_of(windows.assign(end=windows["end"] * 0.1), 0.1).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert runs_of(pd.DataFrame({"session": [*"aab"], "end": [29, 30, 31]}), 1.0).tolist() == [0, 0, 1]


def test_empty_table_has_no_features():
    assert lagged(np.zeros((0, 3)), np.zeros(0, int), np.zeros(0, int)).shape == (0, 12)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=2, max_size=40), st.integers(0, 39), st.integers(0)
)
def test_later_windows_change_no_earlier_feature(steps, cut, seed):
    distance, anew = zip(*steps, strict=True)
    rng, n = np.random.default_rng(seed), len(steps)
    end, run, cut = np.cumsum(distance), np.cumsum(anew), min(cut, n - 1)
    p = softmax(rng.normal(size=(n, 3)), axis=1)
    changed = p.copy()
    changed[cut + 1 :] = softmax(rng.normal(size=(n - cut - 1, 3)), axis=1)
    before = lagged(p, end, run)[: cut + 1]
    assert np.array_equal(lagged(changed, end, run)[: cut + 1], before)
    assert np.array_equal(lagged(p[: cut + 1], end[: cut + 1], run[: cut + 1]), before)


# --- Whether it is kept --------------------------------------------------------------------------------------------


def test_memory_of_independent_errors_is_kept_with_a_gain_above_zero():
    trial = try_memory(*validation())
    assert trial.memory is not None and trial.crossed is not None and trial.gain.low > 0
    assert trial.reason == "kept: macro-F1 on validation is higher with it"
    assert np.allclose(trial.crossed.sum(axis=1), 1)


def test_four_devices_are_too_few_to_try():
    trial = try_memory(*validation(devices=4))
    assert (trial.memory, trial.crossed, trial.gain) == (None, None, None)
    assert trial.reason == "not tried: validation has 4 devices, 5 are needed"
    assert "has 1 device, 5" in try_memory(*validation(devices=1)).reason


def test_memory_of_a_model_that_is_always_right_is_not_kept():
    trial = try_memory(*validation(noise=0.1))
    assert trial.memory is None and trial.crossed is None and not trial.gain.low > 0
    assert trial.reason in (
        "not kept: its gain on validation may be zero",
        "not kept: macro-F1 on validation is lower with it",
    )


def test_memory_that_lowers_macro_f1_says_so(monkeypatch):
    features, predictions, device = validation()
    wrong = Memory(memory.LAGS, np.zeros((4, 16)), np.array([5.0, 0, 0, 0]))
    monkeypatch.setattr(memory, "fit_memory", lambda *_: wrong)
    trial = try_memory(features, predictions, device)
    assert trial.memory is None and trial.gain.high < 0
    assert trial.reason == "not kept: macro-F1 on validation is lower with it"


def test_memory_that_changes_nothing_may_gain_zero(monkeypatch):
    features, predictions, device = validation()
    same = Memory(memory.LAGS, np.concatenate([np.eye(4), np.zeros((4, 12))], axis=1), np.zeros(4))
    monkeypatch.setattr(memory, "fit_memory", lambda *_: same)
    trial = try_memory(features, predictions, device)
    assert trial.memory is None and trial.reason == "not kept: its gain on validation may be zero"


def test_each_device_is_judged_by_a_memory_fitted_on_the_others(monkeypatch):
    features, predictions, device = validation()
    fits = []

    def recording_fit(x, y, states):
        fits.append(x)
        return fit_memory(x, y, states)

    monkeypatch.setattr(memory, "fit_memory", recording_fit)
    trial = try_memory(features, predictions, device)
    assert len(fits) == 6, "five folds, and one fit on all"
    for name in np.unique(device):
        rows = features[device == name]
        others = [x for x in fits[:-1] if not (x[:, None, 0] == rows[None, :20, 0]).any()]
        assert len(others) == 1
        expected = fit_memory(others[0], _labels_of(others[0], features, predictions.y_true), 4).apply(rows)
        assert np.allclose(trial.crossed[device == name], expected)


def _labels_of(x, features, y):
    """Return the labels of some rows of the features, by their first value."""
    order = np.argsort(features[:, 0])
    return y[order[np.searchsorted(features[order, 0], x[:, 0])]]


def test_state_absent_from_validation_leaves_the_memory_untried():
    trial = try_memory(*validation(phases=WEAR[:3]))
    assert trial.memory is None and trial.gain is None
    assert trial.reason == "not tried: validation does not have every state"


def test_state_absent_from_a_fit_stays_improbable():
    features, predictions, _ = validation(phases=WEAR[:3])
    p = fit_memory(features, predictions.y_true, 4).apply(features)
    assert p[:, 3].max() < 1e-3 and np.allclose(p.sum(axis=1), 1)


def test_two_states_have_one_memory():
    features, predictions, device = validation(phases=((0, 80), (1, 80)), states=2, noise=3.0)
    trial = try_memory(features, predictions, device)
    assert trial.memory.coefficients.shape == (2, 8)
    right = (trial.crossed.argmax(axis=1) == predictions.y_true).mean()
    assert right > (predictions.p.argmax(axis=1) == predictions.y_true).mean() + 0.05


def test_memory_is_the_same_after_writing_and_reading(fitted):
    features, *_ = validation(seed=1)
    assert np.array_equal(Memory.of(fitted.to_dict()).apply(features), fitted.apply(features))


# --- What it must not spoil ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_normal_seconds_after_a_repair_are_called_normal_as_often_as_without_memory(fitted, seed):
    y, p = recorded(np.random.default_rng(100 + seed), (*WEAR, (0, 300)))
    after = np.arange(len(y)) >= len(y) - 300
    assert (with_memory(fitted, p)[after].argmax(axis=1) == 0).mean() >= (p[after].argmax(axis=1) == 0).mean()


def test_24_normal_hours_raise_no_more_alarms_than_without_memory():
    features, predictions, device = validation()
    trial = try_memory(features, predictions, device)
    seconds = np.arange(24 * 3600)
    _, p = recorded(np.random.default_rng(5), ((0, len(seconds)),))
    alarms = {}
    for name, on_validation, on_day in (
        ("memory", trial.crossed, with_memory(trial.memory, p)),
        ("none", predictions.p, p),
    ):
        end = np.concatenate([np.arange(n) for n in np.unique(predictions.session, return_counts=True)[1]])
        rows = pd.DataFrame(
            {
                "session": predictions.session,
                "start": end - 29,
                "end": end,
                "y_true": predictions.y_true,
                "y_true_alarm": predictions.y_true >= 2,
                "seconds_since_onset": end - 60.0,
                "score": on_validation[:, 2:].sum(axis=1),
            }
        )
        point = choose_operating_point(rows, stride=1).point
        day = pd.DataFrame({"session": "day", "device": "d", "start": seconds - 29, "end": seconds})
        alarms[name] = len(episodes(day.assign(score=on_day[:, 2:].sum(axis=1), y_true_alarm=False), point))
    assert alarms["memory"] <= alarms["none"] and alarms["none"] > 0
