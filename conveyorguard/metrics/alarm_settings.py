"""What a plant asks of its alarms, and what they cost it: the `alarms` block of a config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from conveyorguard.errors import ConfigError

HOURS_PER_WEEK = 168.0
WEEKS_PER_MONTH = 365.25 / 12 / 7
HOURS_PER_MONTH = HOURS_PER_WEEK * WEEKS_PER_MONTH


@dataclass(frozen=True)
class AlarmCost:
    """Costs in any one currency.

    Attributes:
        miss: Of a fault that no alarm announces.
        false: Of an alarm without a fault.
        late: Of each hour between the onset of the alarm state and the alarm.
    """

    miss: float = 100.0
    false: float = 1.0
    late: float = 1.0


@dataclass(frozen=True)
class AlarmSettings:
    """Demands on the operating point, and what decides between them.

    Attributes:
        max_false_per_week: Most false alarms in a week of running without a fault.
        miss_rate: Largest share of faults that may be missed, in (0, 1).
        cost: Costs of misses, false alarms and late alarms.
        faults_per_month: How many faults the plant expects.
    """

    max_false_per_week: float = 1.0
    miss_rate: float = 0.1
    cost: AlarmCost = field(default_factory=AlarmCost)
    faults_per_month: float = 1.0

    @classmethod
    def of(cls, block: Mapping[str, Any] | None) -> AlarmSettings:
        """Read the `alarms` block of a config; keys that are missing, as in runs of earlier versions, have defaults.

        Raises:
            ConfigError: It is no block, or has an unknown key.
        """
        values = _known(block, asdict(cls()), "alarms")
        cost = _known(values.pop("cost", None), asdict(AlarmCost()), "alarms.cost")
        return cls(**values, cost=AlarmCost(**cost))

    def to_dict(self) -> dict[str, Any]:
        """Return the `alarms` block of a config from which `of` reads the same settings."""
        return asdict(self)

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, as sentences."""
        amounts = {
            "max_false_per_week": self.max_false_per_week,
            "faults_per_month": self.faults_per_month,
            **{f"cost.{name}": value for name, value in asdict(self.cost).items()},
        }
        problems = [
            f"alarms.{name}={value}: must be a finite number, 0 or more"
            for name, value in amounts.items()
            if not _is_number(value) or value < 0
        ]
        if not _is_number(self.miss_rate) or not 0 < self.miss_rate < 1:
            problems.append(f"alarms.miss_rate={self.miss_rate}: must be a share between 0 and 1, such as 0.1")
        return problems

    @property
    def sessions_needed(self) -> int:
        """Fewest fault sessions from which a miss rate can be guaranteed: ceil(1 / miss_rate) - 1."""
        return math.ceil(round(1 / self.miss_rate, 9)) - 1

    def allowed_misses(self, sessions: int) -> int:
        """Return how many of the validation fault sessions may be missed under the guarantee; 0 without one.

        That is the largest count m with (m + 1) / (sessions + 1) <= miss_rate.
        """
        return max(math.floor(round(self.miss_rate * (sessions + 1), 9)) - 1, 0)

    def cost_per_month(self, miss_share: float, false_per_week: float, hours_late: float) -> float:
        """Return the expected cost a month.

        Args:
            miss_share: Share of faults that are missed.
            false_per_week: False alarms in a week without a fault.
            hours_late: Mean delay of the alarms of the other faults [h].
        """
        faults = self.faults_per_month
        late = self.cost.late * faults * (1 - miss_share) * hours_late
        return self.cost.miss * faults * miss_share + self.cost.false * false_per_week * WEEKS_PER_MONTH + late


def _known(block: Mapping[str, Any] | None, defaults: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the values of a block; refuse anything but a block of known keys."""
    if block is not None and not isinstance(block, Mapping):
        raise ConfigError(f"{name}={block}: must be a block with the keys {', '.join(defaults)}")
    if unknown := [key for key in block or {} if key not in defaults]:
        raise ConfigError(f"{name}.{unknown[0]}: no such key; there are {', '.join(defaults)}")
    return dict(block or {})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
