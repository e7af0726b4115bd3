"""Rows more frequent or rarer than the period."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.data.schema import AGGREGATES, Schema
from conveyorguard.data.table.resample import resample
from conveyorguard.errors import ConfigError, DataError
from tests.data.table.plant import STATES, N, schema_of


def test_more_frequent_rows_become_means(read, frame):
    many = frame.loc[frame.index.repeat(10)].reset_index(drop=True)
    many["time"] = np.arange(10 * N) / 10
    many["heat"] += np.tile(np.arange(10) - 4.5, N)
    many.loc[5, "heat"] = np.nan
    session = read(many)
    assert session.time.tolist() == [*range(N)]
    np.testing.assert_allclose(session.sensors[1:, 0], frame["heat"][1:])
    assert session.sensors[0, 0] == pytest.approx(20 - 0.5 / 9)
    assert session.state.tolist() == [STATES.index(word) for word in frame["state"]]
    assert session.notes == ["resampled from one row every 0.1 s to 1 s by the mean"]


def test_many_rows_of_one_whole_second_are_no_duplicates(read, frame):
    many = frame.loc[frame.index.repeat(5)]
    session = read(many)
    assert session.time.tolist() == [*range(N)] and not session.dropped
    np.testing.assert_allclose(session.sensors[:, 0], frame["heat"])
    assert session.notes == ["resampled from several rows a period to 1 s by the mean"]


def test_rarer_rows_are_held_until_the_next_and_gaps_stay(read, frame):
    frame["time"] = np.arange(N) * 4 + np.where(np.arange(N) >= 20, 40, 0)
    session = read(frame)
    assert session.time.tolist() == [*range(77), *range(120, 197)]
    np.testing.assert_allclose(session.sensors[:77, 0], 20 + np.arange(77) // 4 / 8)
    assert session.notes == ["a row every 4 s, held until the next one (data.reader.period=1 s)"]
    state = [STATES.index(word) for word in frame["state"]]
    assert session.state[:77].tolist() == [state[t // 4] for t in range(77)]


def test_a_clock_that_is_a_little_off_leaves_no_gaps(read, frame):
    frame["time"] = np.arange(N) * 1.03
    assert read(frame).time.tolist() == [*range(int((N - 1) * 1.03) + 1)]


def test_the_period_may_be_another(read, frame):
    frame["time"] = np.arange(N) * 60.0
    session = read(frame, period=60)
    assert session.time.tolist() == [*range(N)] and not session.notes
    with pytest.raises(DataError, match=r"every 600 s.*data\.reader\.period=600"):
        read(frame.assign(time=frame["time"] * 10))


@settings(max_examples=100)
@given(st.integers(2, 60), st.floats(0.05, 20), st.integers(0, 10**6))
def test_a_resampled_line_lags_by_one_sample_at_most(n, interval, seed):
    """Of a straight line, a held value is that of the sample before, a mean that of the middle of its period."""
    time = np.arange(n) * interval + np.random.default_rng(seed).uniform(0, 0.1 * interval, n)
    time -= time[0]
    grid = resample(time, (3 + 2 * time)[:, None], 1.0)
    assert (np.diff(grid.second) > 0).all() and grid.second[0] == 0 and grid.second[-1] <= time[-1] + 1
    off = 3 + 2 * grid.second - grid.values[:, 0]
    if grid.averaged:
        assert np.abs(off).max() <= 2.0
    else:
        assert off.min() >= -0.05 and off.max() <= 2 * 1.5 * 1.1 * interval


def reference(samples):
    """The aggregates of one period, by scipy and by hand."""
    rms = np.sqrt(np.mean(samples**2))
    return {
        "mean": samples.mean(),
        "rms": rms,
        "sd": samples.std(),
        "min": samples.min(),
        "max": samples.max(),
        "p2p": np.ptp(samples),
        "kurtosis": scipy.stats.kurtosis(samples, fisher=False),
        "crest": np.abs(samples).max() / rms,
    }


@settings(max_examples=50)
@given(st.integers(3, 50), st.integers(1, 8), st.integers(0, 10**6))
def test_aggregates_are_those_of_each_period_without_missing_values(per_period, periods, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(1, 2, per_period * periods)
    missing = rng.random(len(values)) < 0.2
    missing[::per_period], missing[1::per_period] = False, False
    time = (np.arange(len(values)) + 0.5) / per_period
    column = np.where(missing, np.nan, values)[:, None]
    grid = resample(time - time[0], np.repeat(column, len(AGGREGATES), axis=1), 1.0, [*AGGREGATES])
    for k in range(len(grid.second)):
        rows = np.floor((time - time[0]) + 1e-6) == grid.second[k]
        expected = reference(values[rows & ~missing])
        np.testing.assert_allclose(grid.values[k], [expected[name] for name in AGGREGATES], rtol=1e-9, atol=1e-9)


def test_a_channel_with_aggregates_becomes_a_named_channel_each(read, frame):
    many = frame.loc[frame.index.repeat(10)].reset_index(drop=True)
    many["time"] = np.arange(10 * N) / 10
    many["heat"] = np.tile(np.arange(10.0), N)
    channels = {"heat": {"unit": "g", "aggregate": ["mean", "sd", "kurtosis"]}, "air": "degC"}
    schema = schema_of(channels=channels, environment={})
    assert [(name, c.unit) for name, c in schema.channels.items()] == [
        ("heat_mean", "g"),
        ("heat_sd", "g"),
        ("heat_kurtosis", "-"),
        ("air", "degC"),
    ]
    assert Schema.from_config(schema.to_dict()) == schema
    session = read(many, schema)
    np.testing.assert_allclose(session.sensors[3, :2], [4.5, np.std(np.arange(10))])
    assert "by the mean, sd, kurtosis" in session.notes[0]
    with pytest.raises(DataError, match=r"several rows a period of 1 s, for aggregate sd, kurtosis.*period=10"):
        read(frame, schema)


def test_samples_without_a_time_column_have_a_rate(read, frame):
    many = frame.loc[frame.index.repeat(8)].reset_index(drop=True).drop(columns="time")
    many["heat"] = np.tile([1.0, -1.0], 4 * N)
    schema = schema_of(
        columns={"time": None, "state": "state"}, channels={"heat": {"unit": "g", "aggregate": ["rms"]}}, environment={}
    )
    session = read(many, schema, row_every="125ms")
    assert session.time.tolist() == [*range(N)] and session.sensors[:, 0].tolist() == [1.0] * N
    with pytest.raises(ConfigError, match=r"row_every applies only to files without a time column.*columns\.time=null"):
        read(frame, row_every=0.125)
    with pytest.raises(ConfigError, match="row_every=0: seconds, more than 0"):
        read(many, schema, row_every=0)


@pytest.mark.parametrize(("aggregate", "words"), [("median", "'median'"), (["rms", "iqr"], "iqr"), ([], r"\[\]")])
def test_an_aggregate_that_is_none_is_refused(aggregate, words):
    with pytest.raises(ConfigError, match=rf"channel 'heat': aggregate is one or several of mean, rms.*{words}"):
        schema_of(channels={"heat": {"unit": "g", "aggregate": aggregate}})


def test_two_channels_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two channels are called 'heat_rms'"):
        schema_of(channels={"heat": {"unit": "g", "aggregate": ["rms"]}, "heat_rms": "g"})


def test_the_worst_state_of_a_period_is_kept_and_told(read, frame):
    frame["time"] = np.arange(N) / 4
    frame["state"] = "ok"
    frame.loc[[13], "state"] = "failing"
    session = read(frame)
    assert session.state.tolist() == [0, 0, 0, 2, *[0] * 6]
    assert "several states within a period: the worst one is kept" in session.notes


@pytest.mark.parametrize(("period", "step"), [("1ms", 0.001), ("10min", 600), (86400, 86400), (0.05, 0.05)])
def test_the_period_may_be_from_a_millisecond_to_a_day(period, step, read, frame):
    frame["time"] = (pd.Timestamp("2024-03-05") + pd.to_timedelta(np.arange(N) * step, unit="s")).strftime(
        "%Y-%m-%d %H:%M:%S.%f"
    )
    session = read(frame, period=period)
    assert session.time.tolist() == [*range(N)] and session.period == step and not session.notes


@pytest.mark.parametrize("period", [0, 0.0001, 90000, "2 weeks", True])
def test_an_impossible_period_is_refused(period, read, frame):
    with pytest.raises(ConfigError, match=r"data.reader:\n.*period=.*seconds from 0.001 to 86400"):
        read(frame, period=period)
