"""Rows more frequent or rarer than the period."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.data.table.resample import resample
from conveyorguard.errors import DataError
from tests.data.table.plant import STATES, N


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


def test_rarer_rows_are_joined_by_lines_and_gaps_stay(read, frame):
    frame["time"] = np.arange(N) * 4 + np.where(np.arange(N) >= 20, 40, 0)
    session = read(frame)
    assert session.time.tolist() == [*range(77), *range(120, 197)]
    np.testing.assert_allclose(session.sensors[:77, 0], 20 + np.arange(77) / 32)
    assert session.notes == ["resampled from 4 s to 1 s by interpolation"]
    state = [STATES.index(word) for word in frame["state"]]
    assert session.state[:77].tolist() == [state[t // 4] for t in range(77)], "a state holds until the next row"


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
def test_a_resampled_line_is_the_same_line(n, interval, seed):
    """A straight line is given back by lines and, in the middle of each second, by means."""
    time = np.arange(n) * interval + np.random.default_rng(seed).uniform(0, 0.1 * interval, n)
    time -= time[0]
    grid = resample(time, (3 + 2 * time)[:, None], 1.0)
    assert (np.diff(grid.second) > 0).all() and grid.second[0] == 0 and grid.second[-1] <= time[-1] + 1
    off = np.abs(grid.values[:, 0] - 3 - 2 * grid.second)
    assert off.max() <= (2.0 if "mean" in grid.note else 0.05)
    assert (np.abs(time[grid.source] - grid.second) <= max(1, 1.5 * interval * 1.2)).all()
