"""Statistics of windows as tensors: their definitions and invariances."""

import numpy as np
import pytest
import torch

from conveyorguard.data.window_statistics import LEVELS, RISES, levels, rises


def statistic(values, names, name):
    return values[:, names.index(name)]


def test_window_statistics_equal_their_definitions():
    x = torch.from_numpy(np.random.default_rng(0).normal(5, 2, (4, 30, 3)))
    level, rise = levels(x), rises(x).sinh()
    expected = {
        "mean": x.mean(1),
        "max": x.amax(1),
        "min": x.amin(1),
        "last": x[:, 29],
        "last_5": x[:, 25:].mean(1),
        "first_third": x[:, :10].mean(1),
        "middle_third": x[:, 10:20].mean(1),
        "last_third": x[:, 20:].mean(1),
    }
    assert set(expected) == set(LEVELS)
    for name, value in expected.items():
        torch.testing.assert_close(statistic(level, LEVELS, name), value)
    seconds = np.arange(30)
    slope = np.stack([np.polyfit(seconds, window.numpy(), 1)[0] for window in x]) * 30
    expected = {
        "sd": x.std(1, unbiased=False),
        "change": x[:, 29] - x[:, 0],
        "slope": torch.from_numpy(slope),
        "dip": x.amin(1) - x.mean(1),
        "over_thirds": x[:, 20:].mean(1) - x[:, :10].mean(1),
        "over_first_thirds": x[:, 10:20].mean(1) - x[:, :10].mean(1),
    }
    assert set(expected) == set(RISES)
    for name, value in expected.items():
        torch.testing.assert_close(statistic(rise, RISES, name), value)


def test_rises_do_not_depend_on_a_constant_load():
    current = torch.linspace(0, 3, 30, dtype=torch.float64).exp()[None, :, None]
    torch.testing.assert_close(rises(current + 75), rises(current))
    assert not torch.allclose(levels(current + 75), levels(current))


@pytest.mark.parametrize("seconds", [1, 2, 4])
def test_windows_of_a_few_seconds_have_finite_statistics(seconds):
    x = torch.arange(2.0 * seconds).reshape(1, seconds, 2)
    assert levels(x).shape == (1, len(LEVELS), 2) and torch.isfinite(levels(x)).all()
    assert torch.isfinite(rises(x)).all()
