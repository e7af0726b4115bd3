"""Formats of figures and their intervals."""

import numpy as np
import pytest

from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.notation import PERCENT, POINTS, SIGNIFICANT, WHOLE_PERCENT, Notation, notation_of

SHARE = Interval(0.941, 0.91, 0.962)


@pytest.mark.parametrize(
    "notation, interval, number, bracketed, ranged",
    [
        (PERCENT, SHARE, "94.1 %", "94.1 % [91.0, 96.2]", "91.0 % to 96.2 %"),
        (WHOLE_PERCENT, SHARE, "94 %", "94 % [91, 96]", "91 % to 96 %"),
        (POINTS, Interval(-0.012, -0.03, 0.004), "-1.2", "-1.2 [-3.0, +0.4]", "-3.0 to +0.4"),
        (SIGNIFICANT, Interval(2, 0.3164, 10), "2", "2 [0.316, 10]", "0.316 to 10"),
        (Notation(".1%"), SHARE, "94.1%", "94.1% [91.0, 96.2]", "91.0% to 96.2%"),
        (PERCENT, Interval(0.5, np.nan, np.nan), "50.0 %", "50.0 %", ""),
        (PERCENT, Interval(np.nan, np.nan, np.nan), "–", "–", ""),
    ],
)
def test_interval_follows_value_and_is_omitted_if_missing(notation, interval, number, bracketed, ranged):
    assert notation.number(interval.value) == number
    assert notation.with_interval(interval) == bracketed
    assert notation.range(interval) == ranged
    assert notation.with_range(interval) == (f"{number} ({ranged})" if ranged else number)


def test_missing_value_is_a_dash():
    assert PERCENT.number(None) == "–" == SIGNIFICANT.number(float("nan"))


def test_shares_are_formatted_in_percent():
    assert notation_of("severe_recall") is PERCENT and notation_of("severe_as_normal") is SIGNIFICANT


def test_interval_round_trips_through_columns():
    assert Interval.of(SHARE.columns("accuracy"), "accuracy") == SHARE
    assert Interval.of({"d": 1, "low": 0, "high": 2}, "d", "low", "high") == Interval(1, 0, 2)
