"""Ranges of the inputs in training, and reports of inputs outside them."""

from dataclasses import replace

import numpy as np

from conveyorguard.data.ranges import odd_inputs, training_ranges


def test_still_channel_is_reported_with_its_duration(store_of, session_of, plain_schema):
    rng = np.random.default_rng(0)
    values = rng.normal(20, 1, (120, 2))
    trained = store_of([session_of("a", range(120), [0] * 120, sensors=values)], plain_schema)
    ranges = training_ranges(trained, np.ones(120, bool))
    values[30:90, 0] = 20.0
    sessions = [replace(session_of("b", range(120), [0] * 120, sensors=values), period=600.0)]
    (report,) = odd_inputs(store_of(sessions, plain_schema), ranges)["b"]
    assert report == "heat stays at 20 for 10 h: a dead sensor?"
