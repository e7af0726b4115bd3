"""Copies of train windows with faults, for tabular models."""

import numpy as np
import pytest

from conveyorguard.data import fault_copies as module
from conveyorguard.data.fault_copies import WEIGHT, failures, fault_copies
from conveyorguard.data.features import FeatureSettings, window_features
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.windows import WindowSettings, split_windows
from conveyorguard.models.tabular import LogisticRegression
from conveyorguard.runs.data import load_windows
from conveyorguard.training.fit_tabular import fit_tabular

SENSORS = ["sensors"]


def schema_of(channels):
    states = [{"name": name} for name in ("normal", "worn")]
    return Schema.from_config({"channels": {f"x{i}": {"unit": "A"} for i in range(channels)}, "states": states})


@pytest.fixture
def data_of(store_of):
    """Cut ten sessions of ten devices into windows, with a number of sensors."""

    def make(channels=2):
        rng = np.random.default_rng(0)
        sessions = [
            Session(
                f"s{i}",
                f"d{i}",
                "d",
                np.arange(80),
                5 + rng.normal(size=(80, channels)),
                np.zeros((80, 0)),
                state=np.repeat([0, 1], 40),
            )
            for i in range(10)
        ]
        store = store_of(sessions, schema_of(channels))
        return split_windows(store, WindowSettings(), {"name": "session", "seed": 0})

    return make


def copies(data, share, seed=0):
    settings = FeatureSettings(fault_copies=share)
    train, size = data.part("train"), data.settings.size
    clean = window_features(data.store, train["row"], size, settings, SENSORS)
    return fault_copies(data.store, train, size, settings, SENSORS, seed, clean)


def test_each_fault_copies_its_share_of_the_train_windows(data_of):
    data = data_of()
    train = data.part("train")
    x, place = copies(data, 0.25)
    expected = sum(round(0.25 * often * len(train)) for _, _, often in failures(data.store, SENSORS))
    assert len(x) == len(place) == expected and set(place) <= set(range(len(train)))


def test_copies_have_the_features_of_the_faulty_windows(data_of):
    data, settings = data_of(), FeatureSettings(fault_copies=0.25)
    train = data.part("train")
    x, place = copies(data, 0.25)
    name, fail, often = next(iter(failures(data.store, SENSORS)))
    assert name == "x0 dead"
    dead = fail(data.store, data.store.rows_of(set(train["session"])), np.random.default_rng(0))
    chosen = place[: round(0.25 * often * len(train))]
    expected = window_features(dead, train["row"].iloc[chosen], data.settings.size, settings, SENSORS).to_numpy()
    assert np.array_equal(x[: len(chosen)], expected, equal_nan=True)


def test_copies_of_all_inputs_equal_features_computed_from_the_whole_faulty_store(compose):
    data, inputs = load_windows(compose()), ["sensors", "thermal", "environment"]
    settings = FeatureSettings(log=True, lags=[1, 5], slopes=True, hot_spot=True, from_start=True, fault_copies=0.1)
    train, size = data.part("train"), data.settings.size
    clean = window_features(data.store, train["row"], size, settings, inputs)
    x, place = fault_copies(data.store, train, size, settings, inputs, 0, clean)
    begin, rows = 0, data.store.rows_of(set(train["session"]))
    faults = list(failures(data.store, inputs))
    share = min(0.1, module.MOST / sum(often for _, _, often in faults))
    for name, fail, often in faults:
        rng = np.random.default_rng([0, *name.encode()])
        chosen = np.sort(rng.permutation(len(train))[: round(share * often * len(train))])
        faulty = fail(data.store, rows, rng)
        expected = window_features(faulty, train["row"].iloc[chosen], size, settings, inputs).to_numpy()
        end = begin + len(chosen)
        assert place[begin:end].tolist() == chosen.tolist(), name
        np.testing.assert_array_equal(x[begin:end], expected, err_msg=name)
        begin = end
    assert begin == len(x) > 0


def test_same_seed_gives_the_same_copies_and_another_seed_others(data_of):
    data = data_of()
    first, second, other = copies(data, 0.25), copies(data, 0.25), copies(data, 0.25, seed=1)
    assert np.array_equal(first[0], second[0], equal_nan=True) and np.array_equal(first[1], second[1])
    assert not np.array_equal(first[1], other[1])


def test_many_sensors_have_at_most_the_cap_of_copies_per_window(data_of):
    data = data_of(60)
    _, place = copies(data, 0.25)
    train, kinds = len(data.part("train")), 2 * 60 + 1
    assert 0.5 * module.MOST * train < len(place) <= module.MOST * train + kinds


def test_share_of_zero_copies_nothing(data_of):
    assert [len(part) for part in copies(data_of(), 0.0)] == [0, 0]


def test_model_is_given_copies_at_their_weight_with_the_state_of_their_window(data_of, tmp_path):
    data, passed = data_of(), {}

    class Recording(LogisticRegression):
        def fit(self, x, y, weight=None):
            passed.update(x=x, y=y, weight=weight)
            super().fit(x, y, weight)

    train = data.part("train")
    fit_tabular(Recording, data, SENSORS, tmp_path, features=FeatureSettings(fault_copies=0.25))
    _, place = copies(data, 0.25)
    assert np.array_equal(passed["y"], [*train["label"], *train["label"].to_numpy()[place]])
    assert passed["weight"].tolist() == [1.0] * len(train) + [WEIGHT] * len(place)
    fit_tabular(Recording, data, SENSORS, tmp_path, features=FeatureSettings())
    assert len(passed["y"]) == len(train) and passed["weight"] is None


@pytest.mark.parametrize(
    ("overrides", "share"),
    [
        (["features=window"], 0.0),
        (["features=extended"], 0.5),
        (["features=extended", "augment=none"], 0.0),
        (["features=window", "augment=faults"], 0.5),
    ],
)
def test_share_follows_from_features_and_augment(compose, overrides, share):
    assert compose("model=lightgbm", *overrides).features.fault_copies == share
