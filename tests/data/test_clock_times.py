"""Clock times are those of the files, in their zone."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.data.clock_times import clock_times


def sessions(*rows):
    return pd.DataFrame(rows, columns=["start", "zone"])


def test_times_are_in_the_zone_of_the_files_over_a_change_of_clock():
    table = sessions((pd.Timestamp("2024-03-31T00:30Z"), "Europe/Berlin"))
    assert clock_times(table, np.zeros(3, int), np.array([0, 1800, 3600])).tolist() == [
        "2024-03-31T01:30:00+01:00",
        "2024-03-31T03:00:00+02:00",
        "2024-03-31T03:30:00+02:00",
    ]


def test_files_without_a_zone_give_wall_times_without_an_offset():
    table = sessions((pd.Timestamp("2024-03-05T22:00Z"), None), (pd.NaT, None))
    assert clock_times(table, np.array([0, 1, 0]), np.array([600.0, 5.0, 600.5])).tolist() == [
        "2024-03-05T22:10:00.000",
        None,
        "2024-03-05T22:10:00.500",
    ]


@pytest.mark.parametrize("start", [pd.NaT, None])
def test_sessions_without_dates_have_no_clock_times(start):
    assert clock_times(sessions((start, None)), np.zeros(2, int), np.arange(2)).tolist() == [None, None]
