"""The check of a run for channels that give the state away, and the warning that training prints."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.checks import data as checks
from conveyorguard.checks.subject import Failed
from conveyorguard.data.schema import Schema
from conveyorguard.data.splits import Split
from conveyorguard.data.store import assemble
from conveyorguard.data.windows import Windows, WindowSettings
from conveyorguard.evaluation.shortcuts import best_single_channel

ROWS, SESSIONS = 120, 4


def windows(**channels):
    """Windows of four sessions whose state is 1 from row 60 on, all to train on."""
    schema = Schema.from_config({"channels": dict.fromkeys(channels, "-"), "states": [{"name": "a"}, {"name": "b"}]})
    n = ROWS * SESSIONS
    names = [f"s{i}" for i in range(SESSIONS)]
    sessions = pd.DataFrame({"name": names, "device": "d", "kind": "k", "rows": ROWS, "labelled": True})
    tick = np.tile(np.arange(ROWS), SESSIONS)
    columns = {
        "tick": tick,
        "state": (tick >= 60).astype(np.int8),
        "ticks_to_end": ROWS - 1 - tick,
        "ticks_since_onset": tick - 60,
        "quality": np.zeros(n, np.uint8),
        "sensors": np.stack(list(channels.values()), axis=1).astype(np.float32),
        "environment": np.zeros((n, 0), np.float32),
    }
    store = assemble(schema, sessions, columns)
    rows = np.arange(0, n, 10)
    frame = pd.DataFrame(
        {"row": rows, "session": np.repeat(names, ROWS)[rows], "label": (tick[rows] >= 60).astype(int)}
    )
    split = Split({"name": "session"}, {"train": names}, "")
    return Windows(store, frame, split, WindowSettings(size=10, stride=10, thermal_frames=1))


class Subject:
    def __init__(self, data):
        self.data = data


def test_check_fails_for_a_remaining_life_and_passes_noise():
    noise = np.random.default_rng(0).normal(size=ROWS * SESSIONS)
    left = np.tile(np.arange(ROWS)[::-1], SESSIONS)
    assert "no channel counts down" in checks.no_channel_gives_the_state_away(Subject(windows(noise=noise)))
    with pytest.raises(Failed, match="'left' may give the state away: it runs down in equal steps in 4 of 4"):
        checks.no_channel_gives_the_state_away(Subject(windows(noise=noise, left=left)))


def test_shortcut_threshold_is_of_the_best_channel():
    noise = np.random.default_rng(0).normal(size=ROWS * SESSIONS)
    signal = 5 * (np.tile(np.arange(ROWS), SESSIONS) >= 60) + noise
    assert best_single_channel(windows(noise=noise, signal=signal)) == "signal"
