"""Formats of figures and their intervals, shared by pages, tables, cards and sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.scores import METRICS

MISSING = "–"


@dataclass(frozen=True)
class Notation:
    """A number format: multiply by `factor`, format by `spec`, append `unit`."""

    spec: str
    factor: float = 1
    unit: str = ""

    def number(self, value: float | None) -> str:
        """Format a value, as in `94.1 %`; a dash if it is missing."""
        return MISSING if value is None or not np.isfinite(value) else self._digits(value) + self.unit

    def bounds(self, interval: Interval) -> str:
        """Format the bounds, as in `91.0, 96.2`; empty if there is no interval."""
        if not (np.isfinite(interval.value) and np.isfinite(interval.low)):
            return ""
        return ", ".join(self._digits(bound).removesuffix("%") for bound in (interval.low, interval.high))

    def with_interval(self, interval: Interval) -> str:
        """Format value and bounds, as in `94.1 % [91.0, 96.2]`; the value alone if there is no interval."""
        bounds = self.bounds(interval)
        return self.number(interval.value) + (f" [{bounds}]" if bounds else "")

    def range(self, interval: Interval) -> str:
        """Format the bounds for a sentence, as in `91.0 % to 96.2 %`; empty if there is no interval."""
        if not np.isfinite(interval.low):
            return ""
        return f"{self.number(interval.low)} to {self.number(interval.high)}"

    def with_range(self, interval: Interval) -> str:
        """Format value and bounds without square brackets, as in `94.1 % (91.0 % to 96.2 %)`, for text and markup."""
        bounds = self.range(interval)
        return self.number(interval.value) + (f" ({bounds})" if bounds else "")

    def _digits(self, value: float) -> str:
        return format(self.factor * value if self.factor != 1 else value, self.spec)


PERCENT = Notation(".1f", 100, " %")  # for shares between 0 and 1
WHOLE_PERCENT = Notation(".0f", 100, " %")
POINTS = Notation("+.1f", 100)  # for differences of shares, in percentage points
SIGNIFICANT = Notation(".3g")


def notation_of(metric: str) -> Notation:
    """Return the format of a metric: percent for shares, else three significant digits."""
    return PERCENT if METRICS[metric].percent else SIGNIFICANT
