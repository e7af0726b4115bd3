"""Figures that choose what they show."""

import numpy as np

from conveyorguard.metrics.intervals import Interval
from conveyorguard.reporting.comparison_figures import cost_plot, grouped_bars


def test_cost_plot_names_the_models_that_are_best_for_their_cost():
    labels, seconds, accuracy = (
        ["slow", "cheap", "beaten", "equal", "unknown"],
        [100, 1, 10, 5, np.nan],
        [0.95, 0.8, 0.7, 0.8, 0.99],
    )
    everyone, front = cost_plot(labels, seconds, accuracy).data
    assert list(front.text) == ["cheap", "slow"]
    assert list(everyone.customdata) == ["cheap", "equal", "beaten", "slow"], (
        "by time; a model of unknown time is left out"
    )


def test_bars_of_a_group_that_lacks_a_label_keep_their_place():
    bars = {"a": {"x": Interval(0.5, 0.4, 0.6), "y": Interval(0.7, 0.6, 0.9)}, "b": {"y": Interval(0.2, 0.1, 0.3)}}
    first, second = grouped_bars(["x", "y"], bars, "share").data
    assert list(first.x) == ["x", "y"] and list(second.x) == ["y"] and second.y[0] == 0.2
    assert first.error_y.array[1] == np.float64(0.9) - np.float64(0.7)
