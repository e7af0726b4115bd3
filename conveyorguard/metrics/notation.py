"""How figures are written, alone and with their interval: the one place for pages, tables, cards and sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conveyorguard.metrics.bootstrap import Interval
from conveyorguard.metrics.scores import METRICS

MISSING = "–"


@dataclass(frozen=True)
class Notation:
    """How figures of one kind are written: multiplied by `factor`, formatted by `spec`, followed by `unit`."""

    spec: str
    factor: float = 1
    unit: str = ""

    def number(self, value: float | None) -> str:
        """`94.1 %`; a dash for a missing value."""
        return MISSING if value is None or not np.isfinite(value) else self._digits(value) + self.unit

    def bounds(self, interval: Interval) -> str:
        """`91.0, 96.2`; empty where there is no interval."""
        if not (np.isfinite(interval.value) and np.isfinite(interval.low)):
            return ""
        return ", ".join(self._digits(bound).removesuffix("%") for bound in (interval.low, interval.high))

    def with_interval(self, interval: Interval) -> str:
        """`94.1 % [91.0, 96.2]`; the value alone where there is no interval."""
        bounds = self.bounds(interval)
        return self.number(interval.value) + (f" [{bounds}]" if bounds else "")

    def range(self, interval: Interval) -> str:
        """`91.0 % to 96.2 %`, for sentences; empty where there is no interval."""
        if not np.isfinite(interval.low):
            return ""
        return f"{self.number(interval.low)} to {self.number(interval.high)}"

    def with_range(self, interval: Interval) -> str:
        """`94.1 % (91.0 % to 96.2 %)`, where square brackets would be markup or read badly."""
        bounds = self.range(interval)
        return self.number(interval.value) + (f" ({bounds})" if bounds else "")

    def _digits(self, value: float) -> str:
        return format(self.factor * value if self.factor != 1 else value, self.spec)


PERCENT = Notation(".1f", 100, " %")  # of a share of 1
WHOLE_PERCENT = Notation(".0f", 100, " %")
POINTS = Notation("+.1f", 100)  # of a difference of shares
SIGNIFICANT = Notation(".3g")


def notation_of(metric: str) -> Notation:
    """How a metric is written: in percent, or with three significant digits."""
    return PERCENT if METRICS[metric].percent else SIGNIFICANT
