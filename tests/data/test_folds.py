"""Folds over train and validation together."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.data.folds import beside, fold_of_sessions, number_of_folds, unit_of_folds
from conveyorguard.data.splits import make_split
from conveyorguard.data.windows import WindowSettings, make_windows
from conveyorguard.errors import ConfigError

BASE = {"name": "session", "seed": 3}
SETTINGS = {"name": "out_of_fold", "seed": 42, "n_folds": 3, "base": BASE, "fold": 0, "runs": None}


def pool(sessions_by_device, seed=0):
    """Windows of devices with some sessions each, all four states in every session."""
    rng = np.random.default_rng(seed)
    rows = [
        pd.DataFrame({"session": f"{d}-{s}", "device": d, "kind": "k", "label": rng.permutation([0, 0, 1, 2, 3])})
        for d, count in sessions_by_device.items()
        for s in range(count)
    ]
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def windows(twin):
    """Windows of the full-size simulated set."""
    return make_windows(twin, WindowSettings())


def of_folds(split):
    """The split of each fold."""
    return [{**SETTINGS, "fold": fold} for fold in range(split["n_folds"])]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 4), min_size=3), st.integers(2, 6), st.integers(0, 9)
)
def test_each_session_is_held_out_once_and_no_device_is_in_two_folds(devices, wanted, seed):
    table = pool(devices)
    folds = number_of_folds(table, table["session"], wanted)
    fold_of = fold_of_sessions(table, table["session"], {"n_folds": folds, "seed": seed})
    assert set(fold_of) == set(table["session"])
    by_device = table.assign(fold=table["session"].map(fold_of)).groupby("device")["fold"].nunique()
    assert (by_device == 1).all() and set(fold_of.values()) == set(range(folds))


def test_few_devices_are_left_out_one_at_a_time():
    table = pool({"a": 3, "b": 3, "c": 3, "d": 3})
    assert unit_of_folds(table, table["session"]) == "device" and number_of_folds(table, table["session"], 3) == 4


def test_recordings_of_two_devices_are_held_out_whole():
    table = pool({"a": 4, "b": 4})
    assert unit_of_folds(table, table["session"]) == "recording"
    assert number_of_folds(table, table["session"], 5) == 5


def test_parts_of_one_recording_are_held_out_in_blocks_without_their_neighbours():
    table = pool({"a": 10}).assign(session=lambda t: "r#" + t["session"].str[2:].str.zfill(2))
    recordings = pd.Series("r", table.index)
    assert unit_of_folds(table, recordings) == "time"
    fold_of = fold_of_sessions(table, recordings, {"n_folds": 5, "seed": 0})
    assert list(fold_of.values()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert beside(fold_of, 2, "time") == {"r#03", "r#06"} and beside(fold_of, 0, "time") == {"r#02"}


def test_folds_cover_train_and_validation_and_leave_test_alone(windows, twin):
    base = make_split(windows, twin.schema, BASE)
    inside = sorted([*base.sessions["train"], *base.sessions["val"]])
    held_out = []
    for split in (make_split(windows, twin.schema, values) for values in of_folds(SETTINGS)):
        assert split.sessions["test"] == base.sessions["test"]
        assert sorted([*split.sessions["train"], *split.sessions["val"]]) == inside
        held_out += split.sessions["val"]
    assert sorted(held_out) == inside
    whole = make_split(windows, twin.schema, {**SETTINGS, "fold": None})
    assert whole.sessions == {"train": inside, "val": inside, "test": base.sessions["test"]}


@pytest.mark.parametrize("changes", [{"n_folds": 1}, {"n_folds": 99}, {"fold": 3}, {"fold": -1}])
def test_impossible_folds_are_refused_by_key(windows, twin, changes):
    with pytest.raises(ConfigError, match=r"split\.(n_folds|fold)="):
        make_split(windows, twin.schema, {**SETTINGS, **changes})
