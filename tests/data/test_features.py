"""Features of windows: their values and names, and that they do not depend on rows after the window."""

import dataclasses
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.config.compose import build, compose_config
from conveyorguard.data.features import HOT, FeatureSettings, feature_sources, window_features
from conveyorguard.data.recording_start import START
from conveyorguard.data.scaling import SMALLEST
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.store import THERMAL_REPAIRED
from conveyorguard.data.store_build import prepare
from conveyorguard.data.windows import WindowSettings, make_windows
from conveyorguard.errors import ConfigError
from conveyorguard.runs.data import load_windows

ALL = ["sensors", "thermal", "environment"]
PLAIN = FeatureSettings()
EXTENDED = FeatureSettings("extended", True, [1, 3], True, True, True)
SIZE = 6


@pytest.fixture(scope="module")
def camera_schema(plain_schema):
    return Schema.from_config(
        {**plain_schema.to_dict(), "thermal": {"shape": [8, 10], "stored": [4, 5], "range": [20, 100]}}
    )


@pytest.fixture
def store(store_of, camera_schema):
    """Three sessions with a growing hot spot: one sound, one with a gap and an empty channel, one with defects."""
    rng = np.random.default_rng(0)
    sessions = []
    for i, seconds in enumerate((np.arange(45), np.r_[0:20, 23:50], np.arange(40))):
        n = len(seconds)
        sensors = np.stack([20 + rng.normal(size=n).cumsum(), np.exp(rng.normal(size=n).cumsum())], axis=1)
        thermal = rng.normal(35, 1, (n, 8, 10))
        thermal[:, 2:4, 3:5] += 3 * np.sqrt(seconds)[:, None, None]
        if i == 1:
            sensors[:, 0] = np.nan
        if i == 2:
            sensors[3, 1] = np.nan
            thermal[7, 0, 0] = 900
        environment = rng.normal(22, 1, (n, 1))
        sessions.append(
            Session(f"s{i}", "d", "k", seconds, sensors, environment, thermal, np.minimum(seconds // 12, 3))
        )
    return store_of(sessions, camera_schema)


def oracle(store, row, s: FeatureSettings, inputs):
    """Compute the features of a window with pandas, one by one."""
    frames, out = store.to_frame(), {}
    window = frames.iloc[row : row + SIZE]
    past = frames[(frames["session"] == window["session"].iloc[0]) & (frames.index <= row + SIZE - 1)]

    def slope(x):
        x = x.to_numpy(float)
        known = np.isfinite(x)
        return np.polyfit(np.arange(len(x))[known], x[known], 1)[0] if known.sum() > 1 else np.nan

    def more(name, column, flag, parts=("slope", "lag", "start")):
        x = column(window)
        if s.slopes and "slope" in parts:
            out[f"{name}_slope"] = slope(x)
        for lag in s.lags if "lag" in parts else []:
            out[f"{name}_lag{lag}"] = x.iloc[-1] - x.iloc[-1 - lag]
        if s.from_start and "start" in parts:
            start = column(past[past["quality"] & flag == 0].head(START)).mean()
            out[f"{name}_from_start"] = x.mean() - start
            out[f"{name}_last_from_start"] = x.iloc[-1] - start

    if "sensors" in inputs:
        series = {name: lambda f, name=name: f[name].astype(float) for name in store.schema.channels}
        if s.log:
            series |= {
                f"{name}_log": lambda f, name=name: np.log(f[name].astype(float).clip(lower=SMALLEST))
                for name, c in store.schema.channels.items()
                if c.scaling == "log"
            }
        for name, column in series.items():
            x = column(window)
            out |= {
                f"{name}_mean": x.mean(),
                f"{name}_sd": x.std(ddof=0),
                f"{name}_max": x.max(),
                f"{name}_min": x.min(),
                f"{name}_last": x.iloc[-1],
                f"{name}_change": x.iloc[-1] - x.iloc[0],
            }
            more(name, column, 1)
    if "thermal" in inputs:
        columns = {
            name: lambda f, name=name: f[f"thermal_{name}"].astype(float)
            for name in ("max", "p99", "mean", "sd", "x_max", "y_max")
        }
        t = {name: column(window) for name, column in columns.items()}
        variance = (t["sd"] ** 2 + t["mean"] ** 2).mean() - t["mean"].mean() ** 2
        out |= {
            "thermal_mean": t["mean"].mean(),
            "thermal_sd": variance**0.5,
            "thermal_max": t["max"].max(),
            "thermal_mean_of_max": t["max"].mean(),
            "thermal_last_mean": t["mean"].iloc[-1],
            "thermal_last_max": t["max"].iloc[-1],
            "thermal_trend": slope(t["mean"]),
        }
        for name in ("max", "p99", "mean", "sd"):
            more(
                f"thermal_{name}",
                columns[name],
                THERMAL_REPAIRED,
                ("slope", "lag", "start") if name != "mean" else ("start",),
            )
        if s.hot_spot:
            out |= {"thermal_p99_mean": t["p99"].mean(), "thermal_p99_last": t["p99"].iloc[-1]}
            for axis in ("x_max", "y_max"):
                out |= {f"thermal_{axis}_last": t[axis].iloc[-1], f"thermal_{axis}_sd": t[axis].std(ddof=0)}
            hot = [(store.thermal[row + k, -1].astype(float) > t["mean"].iloc[k] + HOT).mean() for k in (0, SIZE - 1)]
            out |= {"thermal_hot_share_last": hot[1], "thermal_hot_share_change": hot[1] - hot[0]}
    if "environment" in inputs:
        for name in store.schema.environment:
            x = window[name].astype(float)
            out |= {f"{name}_mean": x.mean(), f"{name}_sd": x.std(ddof=0), f"{name}_last": x.iloc[-1]}
    return out


def windows_of(store, stride=4):
    return make_windows(store, WindowSettings(SIZE, stride, thermal_frames="all"))


@pytest.mark.parametrize("chosen", [PLAIN, EXTENDED], ids=["window", "extended"])
@pytest.mark.parametrize("inputs", [ALL, ["sensors"], ["thermal", "environment"]], ids="-".join)
def test_features_equal_those_of_a_plain_loop_over_windows(store, chosen, inputs):
    windows = windows_of(store)
    features = window_features(store, windows["row"], SIZE, chosen, inputs)
    expected = pd.DataFrame([oracle(store, row, chosen, inputs) for row in windows["row"]])
    assert set(features) == set(expected)
    pd.testing.assert_frame_equal(features, expected[list(features)], check_dtype=False, atol=2e-3, rtol=1e-4)
    if "sensors" in inputs:
        assert features.loc[windows["session"] == "s1", "heat_mean"].isna().all(), (
            "a channel without values cannot be repaired"
        )
        assert features.loc[windows["session"] != "s1"].notna().all(axis=None)
        assert features["amps_mean"].notna().all()


@settings(max_examples=40)
@given(st.data())
def test_features_do_not_depend_on_seconds_after_the_window(tmp_path_factory, plain_schema, data):
    """Recordings that are equal until the end of a window give identical features, whatever follows."""
    size, length = data.draw(st.integers(2, 8)), data.draw(st.integers(10, 45))
    start = data.draw(st.integers(0, length - size))
    flags = data.draw(st.lists(st.sampled_from([0, 0, 1]), min_size=length, max_size=length))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = np.exp(rng.normal(size=(length, 2)))
    other = values.copy()
    other[start + size :] = np.exp(rng.normal(3, 2, size=(length - start - size, 2)))
    chosen = FeatureSettings("extended", True, [1], True, False, True)
    features = []
    for version in (values, other):
        before = Session(
            "a", "d", "k", np.arange(12), values[:1].repeat(12, 0), np.ones((12, 1)), state=np.zeros(12, int)
        )
        session = Session("b", "d", "k", np.arange(length), version, np.ones((length, 1)), state=np.zeros(length, int))
        store = prepare(
            lambda *_, s=(before, session): s, plain_schema, None, tmp_path_factory.mktemp("causal"), "x", jobs=1
        )
        after = np.arange(length) >= start + size
        quality = np.r_[np.zeros(12), np.where(after & (version is other), 1, flags)].astype(np.uint8)
        store = replace(store, quality=quality)
        features.append(window_features(store, pd.Series([12 + start]), size, chosen, ["sensors", "environment"]))
    pd.testing.assert_frame_equal(*features, check_exact=True)


def test_thermal_features_do_not_depend_on_frames_after_the_window(store):
    rows = windows_of(store)["row"]
    rows = rows[rows + SIZE <= 30]
    before = window_features(store, rows, SIZE, EXTENDED, ALL)
    statistics, thermal = np.array(store.thermal_statistics), np.array(store.thermal)
    statistics[30:] += 40
    thermal[30:] += 40
    store = replace(store, thermal_statistics=statistics, thermal=thermal)
    pd.testing.assert_frame_equal(before, window_features(store, rows, SIZE, EXTENDED, ALL), check_exact=True)


def test_from_start_features_use_only_the_recording_so_far(store_of, session_of, plain_schema):
    n = 90
    ramp = np.stack([np.arange(n) * 1.0, np.ones(n)], axis=1)
    store = store_of([session_of("a", range(n), np.zeros(n, int), sensors=ramp)], plain_schema)
    features = window_features(store, pd.Series([0, 10, 60]), 20, FeatureSettings(from_start=True), ["sensors"])
    # the first window ends after 20 s, so that its start is these; the others end after the 30 s of the start
    assert features["heat_from_start"].tolist() == [0, 19.5 - 14.5, 69.5 - 14.5]
    assert features["heat_last_from_start"].tolist() == [19 - 9.5, 29 - 14.5, 79 - 14.5]


def test_from_start_feature_is_nan_without_a_measured_start(store):
    store = replace(store, quality=np.where(np.arange(len(store)) < 5, 1, 0).astype(np.uint8))
    first = window_features(store, pd.Series([0]), 5, EXTENDED, ["sensors"])
    assert np.isnan(first["amps_from_start"][0]) and np.isfinite(first["amps_mean"][0])


def test_aihub_schema_has_sixty_four_plain_features(compose_default):
    data = load_windows(compose_default())
    rows = data.frame["row"][:50]
    features = window_features(data.store, rows, data.settings.size, build(compose_default().features), ALL)
    assert features.shape == (50, 64) and features.index.equals(rows.index)
    names = list(features)
    assert names[:6] == ["NTC_mean", "NTC_sd", "NTC_max", "NTC_min", "NTC_last", "NTC_change"]
    assert names[48:55] == [
        "thermal_mean",
        "thermal_sd",
        "thermal_max",
        "thermal_mean_of_max",
        "thermal_last_mean",
        "thermal_last_max",
        "thermal_trend",
    ]
    assert names[55:58] == ["ex_temperature_mean", "ex_temperature_sd", "ex_temperature_last"]
    counts = feature_sources(names, data.store.schema).groupby("modality").size().to_dict()
    assert counts == {"sensors": 48, "thermal": 7, "environment": 9}


@pytest.fixture(scope="module")
def compose_default(tmp_path_factory):
    cache = tmp_path_factory.mktemp("features")
    return lambda *overrides: compose_config(["data=simulated", "data.sessions=6", f"paths.cache={cache}", *overrides])


def test_extended_features_add_to_the_plain_and_can_omit_the_start(compose_default):
    data = load_windows(compose_default())

    def names(*overrides):
        chosen = build(compose_default("features=extended", *overrides).features)
        return list(window_features(data.store, data.frame["row"][:3], 30, chosen, ALL))

    plain, full, without = names("features=window"), names(), names("features.from_start=false")
    assert set(plain) < set(without) < set(full)
    assert set(full) - set(without) == {name for name in full if name.endswith("from_start")}
    assert {"CT1_log_slope", "NTC_lag10", "thermal_p99_last", "thermal_x_max_last", "thermal_hot_share_last"} <= set(
        without
    )
    assert not [name for name in full if name.startswith("NTC_log")], "the schema scales NTC linearly"


def test_data_without_environment_and_camera_have_sensor_features(store_of):
    schema = Schema.from_config(
        {"channels": {f"q{i}": {"unit": "1"} for i in range(5)}, "states": [{"name": "a"}, {"name": "b"}]}
    )
    values = np.random.default_rng(0).normal(size=(20, 5))
    store = store_of(
        [Session("s", "d", "k", np.arange(20), values, np.zeros((20, 0)), state=np.zeros(20, int))], schema
    )
    features = window_features(store, pd.Series([0, 7], index=[3, 9]), 10, PLAIN, schema.inputs)
    assert features.shape == (2, 30) and list(features.index) == [3, 9]
    assert features.loc[9, "q4_max"] == np.float32(values[7:17, 4].max())


def test_feature_source_is_the_longest_matching_channel():
    node = {"channels": {"a": {"unit": "1"}, "a_log": {"unit": "1"}}, "states": [{"name": "a"}, {"name": "b"}]}
    table = feature_sources(["a_mean", "a_log_mean", "thermal_max", "a_lag1"], Schema.from_config(node))
    assert table["source"].tolist() == ["a", "a_log", "thermal", "a"]


def test_two_features_of_the_same_name_are_refused(store_of):
    channels = {"a": {"unit": "A", "scaling": "log"}, "a_log": {"unit": "1"}}
    schema = Schema.from_config({"channels": channels, "states": [{"name": "a"}, {"name": "b"}]})
    session = Session("s", "d", "k", np.arange(9), np.ones((9, 2)), np.zeros((9, 0)), state=np.zeros(9, int))
    store = store_of([session], schema)
    with pytest.raises(ConfigError, match="a_log_mean"):
        window_features(store, pd.Series([0]), 5, EXTENDED, ["sensors"])


def test_impossible_feature_settings_are_reported():
    assert not EXTENDED.problems(30) and not PLAIN.problems(1)
    assert "1 to 2" in dataclasses.replace(PLAIN, lags=[3]).problems(3)[0]
    assert "true or false" in dataclasses.replace(PLAIN, log="no").problems(30)[0]
