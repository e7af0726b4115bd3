"""Channels that give the state away, and those that do not."""

import numpy as np
import pytest

from conveyorguard.data.leakage import best_channel, leaks_in

N, SESSIONS = 200, 6
RNG = np.random.default_rng(5)
SESSION = np.repeat(np.arange(SESSIONS), N)
ROW = np.tile(np.arange(N), SESSIONS)
STATE = (ROW >= 120).astype(int) + (ROW >= 170)
NOISE = RNG.normal(size=N * SESSIONS)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("RUL", 5 + NOISE, "its name says"),
        ("cycles to failure", 5 + NOISE, "its name says"),
        ("x", np.minimum(N - ROW, 90.0), "runs down in equal steps in 6 of 6"),
        ("x", 1000.0 + 2 * ROW, "counts up in equal steps"),
        ("x", 10.0 + SESSION, "constant within each of 6 recordings, with 6 different values"),
        ("x", np.array([7.0, 1.0, 3.0])[STATE], "each of its 3 values stands for one state"),
        ("x", ((STATE == 2) & (ROW % 3 == 0)).astype(float), "its value 1 occurs in faulty states alone"),
        ("x", STATE + RNG.uniform(0, 1, N * SESSIONS), "the states follow from it by thresholds"),
    ],
)
def test_channel_that_no_sensor_reads_is_a_certain_leak(name, values, words):
    (leak,) = leaks_in({name: values, "sensor": NOISE}, STATE, SESSION)
    assert leak.certain and leak.channel == name and words in leak.message


def test_sensor_far_above_its_noise_is_a_suspect_only():
    (leak,) = leaks_in({"current": 1 + STATE + 0.05 * NOISE}, STATE, SESSION)
    assert not leak.certain and "tells the states apart alone" in leak.message


def test_sensors_and_surroundings_are_no_leaks():
    channels = {
        "current": 1 + STATE + 0.3 * NOISE,
        "temperature": 20 + 0.1 * ROW + NOISE,
        "switch": (ROW % 7 == 0).astype(float),
        "room": 18.0 + SESSION,
    }
    assert leaks_in(channels, STATE, SESSION, may_be_constant=["room"]) == []


def test_best_channel_is_not_the_first():
    values = np.stack([NOISE, STATE + 0.5 * RNG.normal(size=len(STATE)), 0.1 * STATE + NOISE], axis=1)
    assert best_channel(values, STATE) == 1
