"""The beginning of a recording, as windows are told of it: nothing of what comes after them, nothing that was not
measured."""

import numpy as np
import pytest

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.recording_start import START, start_means
from conveyorguard.data.store import SENSORS_REPAIRED
from conveyorguard.data.views import view_of
from conveyorguard.data.windows import WindowSettings, make_windows


@pytest.fixture
def store(store_of, plain_schema, session_of):
    """Heat is the second of the recording, amps are a thousand more; two recordings of 60 and 45 s."""
    sessions = []
    for name, length in (("a", 60), ("b", 45)):
        seconds = np.arange(length, dtype=float)
        sessions.append(
            session_of(
                name, seconds.astype(int), np.zeros(length, int), sensors=np.stack([seconds, seconds + 1000], axis=1)
            )
        )
    return store_of(sessions, plain_schema)


def means(store, rows, size, flag=SENSORS_REPAIRED):
    return start_means(store, store.sensors, np.array(rows), size, flag)[:, 0].tolist()


def test_of_its_own_recording_as_far_as_it_had_passed(store):
    assert START == 30
    assert means(store, [0, 5, 60, 75], 10) == [4.5, 7.0, 4.5, 12.0]  # rows 60 and on are b's
    assert means(store, [20, 50, 95], 10) == [14.5, 14.5, 14.5]
    assert start_means(store, store.sensors, np.array([50]), 10, SENSORS_REPAIRED)[0, 1] == 1014.5


def test_seconds_that_were_not_measured_do_not_count(store):
    flags = np.zeros(len(store.to_frame()), np.int8)
    flags[:10] = flags[60:] = SENSORS_REPAIRED
    view = view_of(store, flags)
    found = means(view, [0, 5, 50, 70], 10)
    assert np.isnan(found[0]) and found[1:3] == [12.0, 24.5]  # 10 to 14, 10 to 39
    assert np.isnan(found[3]), "of b nothing was"
    assert means(view, [50], 10, flag=4) == [14.5], "another input's flags are not this one's"


def test_batches_have_it_beside_the_window(store):
    windows = make_windows(store, WindowSettings(10, 10, "majority", 1))
    dataset = WindowDataset(store, windows, WindowSettings(10, 10, "majority", 1), ["sensors", "environment"])
    batch = dataset.__getitems__([0, 1, 4])
    assert batch["sensors_start"][:, 0].tolist() == [4.5, 9.5, 14.5]
    assert "thermal_stats_start" not in batch


def test_more_windows_than_are_taken_at_a_time(store, monkeypatch):
    whole = means(store, list(range(50)), 10)
    monkeypatch.setattr("conveyorguard.data.recording_start.CHUNK", 7)
    assert means(store, list(range(50)), 10) == whole
