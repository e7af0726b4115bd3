"""Corruptions of a store: the same for batches and features, flagged where a sensor would report them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyorguard.data.corruption import MISSING, corruptions, hold, missing, normal_noise
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.features import FeatureSettings, window_features
from conveyorguard.data.ranges import filled, training_ranges
from conveyorguard.data.repair import repair_series
from conveyorguard.data.schema import Channel
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED
from conveyorguard.data.views import view_of
from conveyorguard.data.windows import WindowSettings, make_windows

SIZE = 10


@pytest.fixture
def camera_schema(schema_node):
    from conveyorguard.data.schema import Schema

    node = schema_node(
        channels={"heat": {"unit": "degC"}, "amps": {"unit": "A", "scaling": "log"}, "volts": {"unit": "V"}}
    )
    node["thermal"] |= {"shape": [4, 6], "stored": [2, 3]}
    return Schema.from_config(node)


@pytest.fixture
def store(store_of, camera_schema, session_of):
    rng = np.random.default_rng(0)
    sessions = [
        session_of(
            name,
            np.arange(60),
            np.repeat([0, 1, 2, 3], 15),
            device=name,
            kind="oht",
            sensors=rng.normal(20, 1, (60, 3)),
            environment=rng.normal(22, 1, (60, 3)),
            thermal=rng.normal(40, 2, (60, 4, 6)).astype(np.float32),
        )
        for name in ("a", "b")
    ]
    return store_of(sessions, camera_schema)


def by_name(store, seed=0):
    train = np.arange(len(store.to_frame())) < 60
    return {c.name: c.view(store, train, seed) for c in corruptions(store.schema)}


def batch_of(store, rows):
    windows = make_windows(store, WindowSettings(SIZE, SIZE, "majority", "all"))
    dataset = WindowDataset(
        store, windows, WindowSettings(SIZE, SIZE, "majority", "all"), ["sensors", "thermal", "environment"]
    )
    return dataset.__getitems__(rows)


def features_of(store):
    rows = make_windows(store, WindowSettings(SIZE, SIZE))["row"]
    return window_features(store, rows, SIZE, FeatureSettings(hot_spot=True, from_start=True), ["sensors", "thermal"])


def test_corruptions_follow_from_the_schema(camera_schema, plain_schema):
    names = [c.name for c in corruptions(camera_schema)]
    assert [n for n in names if "dead" in n] == ["amps dead"] and [n for n in names if "camera" in n] == [
        "camera frozen",
        "camera black",
        "camera absent",
    ]
    assert not any("camera" in c.name for c in corruptions(plain_schema))
    linear = replace(plain_schema, channels={"heat": plain_schema.channels["heat"]})
    assert {c.group for c in corruptions(linear)} == {"missing", "noise"}
    amps = replace(plain_schema, channels={"drive": Channel(unit="A", scaling="linear")})
    assert "drive dead" in [c.name for c in corruptions(amps)], "a current whatever its scaling"


def test_batches_and_features_see_the_same_corrupted_seconds(store):
    for name, view in by_name(store).items():
        batch, features = batch_of(view, list(range(12))), features_of(view)
        for i, channel in enumerate(store.schema.channels):
            means = batch["sensors"][..., i].numpy().astype(float).mean(axis=1)
            np.testing.assert_allclose(features[f"{channel}_mean"], means, rtol=1e-5, err_msg=name)
        hottest = batch["thermal_stats"][..., 0].numpy().max(axis=1)
        np.testing.assert_allclose(features["thermal_max"], hottest, rtol=1e-6, err_msg=name)
        # block maxima keep the maximum, so that pixels and statistics agree
        pixels = batch["thermal"][:, :, 1].numpy().astype(float).max(axis=(1, 2, 3))
        if name != "camera absent":  # a median frame matches no statistics
            np.testing.assert_allclose(hottest, pixels, atol=0.05, err_msg=name)


def test_missing_values_hold_the_last_value_and_are_flagged(store):
    view = by_name(store)[f"{MISSING:.0%} of sensor values missing"]
    changed = view.sensors != store.sensors
    assert 0.04 < changed.mean() < 0.2
    flagged = view.to_frame()["quality"].to_numpy() & SENSORS_REPAIRED > 0
    assert flagged[changed.any(axis=1)].all() and 0.1 < flagged.mean() < 0.5
    assert not batch_of(view, [0])["mask"][0, :, 0].numpy()[flagged[:SIZE]].any()
    starts, medians = store.session_start, np.median(store.sensors[:60].astype(float), axis=0).astype(np.float32)
    for row, channel in np.argwhere(changed):
        before = store.sensors[starts[row] : row, channel]
        assert (
            view.sensors[row, channel] in before
            or (view.sensors[starts[row] : row + 1] == medians).any(axis=0)[channel]
        )


def test_silent_failures_are_not_flagged_and_absent_frames_are(store):
    views = by_name(store)
    for name in ("amps dead", "camera frozen", "camera black", "sensor noise x4"):
        assert (views[name].to_frame()["quality"] == store.to_frame()["quality"]).all(), name
    assert (views["camera absent"].to_frame()["quality"] & THERMAL_REPAIRED > 0).all()
    assert (views["amps dead"].sensors[:, 1] == 0).all() and (
        views["amps dead"].sensors[:, 0] == store.sensors[:, 0]
    ).all()
    assert (batch_of(views["camera black"], [3])["thermal"] == 0).all()
    frozen = batch_of(views["camera frozen"], [3, 9])
    assert (frozen["thermal"][0].numpy() == store.thermal[0]).all() and (
        frozen["thermal"][1].numpy() == store.thermal[60]
    ).all()
    assert (frozen["thermal_stats"][1].numpy() == store.thermal_statistics[60]).all()
    assert (
        features_of(views["camera absent"])["thermal_max_from_start"].isna().all()
    )  # no measured start to compare with
    median = np.median(store.thermal_statistics[:60], axis=0)  # of the train sessions only
    np.testing.assert_allclose(views["camera absent"].thermal_statistics[100], median, rtol=1e-6)


def test_added_noise_is_a_multiple_of_normal_noise_and_leaves_the_store_unchanged(store):
    before = np.array(store.sensors)
    train = np.ones(len(store.to_frame()), bool)
    normal = normal_noise(store, train)
    np.testing.assert_allclose(normal, 1, atol=0.35)  # the sensors of the store are noise of sd 1
    views = by_name(store)
    added = [(views[f"sensor noise x{k}"].sensors - before).std() for k in (1, 2, 4)]
    assert added[1] == pytest.approx(2 * added[0], rel=0.25) and added[2] == pytest.approx(4 * added[0], rel=0.25)
    assert (np.asarray(store.sensors) == before).all() and not np.asarray(store.quality).any()


def test_normal_noise_ignores_slow_changes_and_differences_between_devices(store_of, plain_schema, session_of):
    sessions = [
        session_of(f"s{i}", np.arange(50), np.zeros(50, int), sensors=np.stack([100 * i + np.arange(50.0)] * 2, axis=1))
        for i in range(3)
    ]
    store = store_of(sessions, plain_schema)
    np.testing.assert_allclose(normal_noise(store, np.ones(150, bool)), 0, atol=1e-6)
    assert (normal_noise(store, np.zeros(150, bool)) == 0).all()  # no rows to estimate it from


def test_normal_noise_is_per_kind_and_of_all_kinds_for_an_untrained_kind(store_of, plain_schema, session_of):
    rng = np.random.default_rng(0)
    spread = {"oht": 0.1, "agv": 4.0}
    sessions = [
        session_of(
            kind, np.arange(400), np.zeros(400, int), device=kind, kind=kind, sensors=rng.normal(0, sd, (400, 2))
        )
        for kind, sd in spread.items()
    ]
    store = store_of(sessions, plain_schema)
    kinds = store.to_frame()["kind"].to_numpy()
    noise = normal_noise(store, np.ones(800, bool))
    for kind, sd in spread.items():
        np.testing.assert_allclose(noise[kinds == kind], sd, rtol=0.2)
    (x4,) = (c for c in corruptions(store.schema) if c.name == "sensor noise x4")
    added = x4.view(store, np.ones(800, bool), 0).sensors - store.sensors
    assert added[kinds == "oht"].std() == pytest.approx(0.4, rel=0.2)
    np.testing.assert_allclose(normal_noise(store, kinds == "oht")[kinds == "agv"], 0.1, rtol=0.2)


def test_corruption_follows_from_the_seed(store):
    name = "sensor noise x1"
    assert (by_name(store, 1)[name].sensors == by_name(store, 1)[name].sensors).all()
    assert (by_name(store, 1)[name].sensors != by_name(store, 2)[name].sensors).any()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_hold_repeats_the_last_value_of_the_recording(lengths, seed):
    starts = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    rng = np.random.default_rng(seed)
    absent = rng.random((len(starts), 2)) < 0.5
    values = np.arange(2.0 * len(starts)).reshape(-1, 2)
    held = hold(values, absent, starts)
    for channel in range(2):
        for begin in np.unique(starts):
            rows = np.flatnonzero(starts == begin)
            present = rows[~absent[rows, channel]]
            for row in rows:
                before = present[present <= row]
                expected = values[before[-1], channel] if len(before) else np.nan
                np.testing.assert_equal(held[row, channel], expected)


def test_value_missing_at_the_start_is_that_of_a_prediction_and_no_later_value(store):
    """What is missing in a file holds the last value, and the median of training before the first one."""
    drawn = np.ones(store.sensors.shape)  # below MISSING a value is taken out
    drawn[60:63, 2] = drawn[70, 2] = drawn[3, 0] = 0
    train = np.arange(len(store)) < 60
    view = missing(store, train, type("Drawn", (), {"random": lambda self, shape: drawn})())
    assert (view.sensors[60:63, 2] == np.float32(np.median(store.sensors[:60, 2].astype(float)))).all()
    assert view.sensors[70, 2] == store.sensors[69, 2] and view.sensors[3, 0] == store.sensors[2, 0]
    file = np.where(drawn < MISSING, np.nan, store.sensors)
    repaired = np.concatenate([repair_series(rows)[0] for rows in (file[:60], file[60:])])
    predicted = filled(view_of(store, sensors=repaired), training_ranges(store, train))
    np.testing.assert_array_equal(view.sensors, predicted.sensors)
