"""Means of the start of a recording: nothing after the window and nothing repaired enters them."""

import numpy as np
import pytest

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.recording_start import START, start_means
from conveyorguard.data.store import SENSORS_REPAIRED
from conveyorguard.data.views import view_of
from conveyorguard.data.windows import WindowSettings, make_windows


@pytest.fixture
def store(store_of, plain_schema, session_of):
    """Two recordings of 60 and 45 s; heat is the second of the recording, amps that plus 1000."""
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


def test_start_means_use_the_first_rows_of_the_recording_up_to_the_window(store):
    assert START == 30
    assert means(store, [0, 5, 60, 75], 10) == [4.5, 7.0, 4.5, 12.0]  # rows from 60 on are of recording b
    assert means(store, [20, 50, 95], 10) == [14.5, 14.5, 14.5]
    assert start_means(store, store.sensors, np.array([50]), 10, SENSORS_REPAIRED)[0, 1] == 1014.5


def test_start_means_ignore_repaired_rows(store):
    flags = np.zeros(len(store.to_frame()), np.int8)
    flags[:10] = flags[60:] = SENSORS_REPAIRED
    view = view_of(store, flags)
    starts = means(view, [0, 5, 50, 70], 10)
    assert np.isnan(starts[0]) and starts[1:3] == [12.0, 24.5]  # 10 to 14, 10 to 39
    assert np.isnan(starts[3]), "all rows of b are repaired"
    assert means(view, [50], 10, flag=4) == [14.5], "flags of other inputs do not count"


def test_batches_hold_start_means_beside_the_window(store):
    windows = make_windows(store, WindowSettings(10, 10, "majority", 1))
    dataset = WindowDataset(store, windows, WindowSettings(10, 10, "majority", 1), ["sensors", "environment"])
    batch = dataset.__getitems__([0, 1, 4])
    assert batch["sensors_start"][:, 0].tolist() == [4.5, 9.5, 14.5]
    assert "thermal_stats_start" not in batch


def test_start_means_do_not_depend_on_the_chunk_size(store, monkeypatch):
    whole = means(store, list(range(50)), 10)
    monkeypatch.setattr("conveyorguard.data.recording_start.CHUNK", 7)
    assert means(store, list(range(50)), 10) == whole
