"""What `alarms.json` of a run directory holds."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conveyorguard.config.records import AlarmsConfig, Amount, Count, Record, Share

Bounds = Annotated[list[Share], Field(min_length=2, max_length=2)]


class Thresholds(Record):
    """The operating point: the scores at which an alarm begins and ends."""

    on: float
    off: float

    @model_validator(mode="after")
    def _off_is_not_above_on(self) -> Self:
        if not 0 < self.off <= self.on <= 1:
            raise ValueError("0 < off <= on <= 1")
        return self


class Spread(Record):
    """Range and median of a time over fault sessions, in [s]."""

    least: float
    median: float
    most: float

    @model_validator(mode="after")
    def _median_is_within_the_range(self) -> Self:
        if not self.least <= self.median <= self.most:
            raise ValueError("least <= median <= most")
        return self


class FaultSession(Record):
    """What the operating point did in one fault session; alarm_at, lead and delay in [s]."""

    session: str
    device: str
    missed: bool
    alarm_at: int | float | None
    lead: float | None
    delay: float | None


class CurvePoint(Record):
    """What one threshold means on a part (`conveyorguard.metrics.alarm_curve`); lead_seconds in [s]."""

    on: Share
    chosen: bool
    missed: Count
    false_per_week: Amount | None
    lead_seconds: Amount | None
    cost_per_month: Amount | None


class AlarmSummary(Record):
    """What the operating point means on one part (`conveyorguard.metrics.alarms.summarise`)."""

    fault_sessions: Count
    missed: Count
    missed_share_interval: Bounds | None
    lead_seconds: Spread | None
    delay_seconds: Spread | None
    alarms: Count | None = None
    true_alarms: Count | None = None
    true_share_interval: Bounds | None = None
    false_alarms: Count
    early_alarms: Count = 0
    exposure_hours: Amount
    false_alarms_per_hour_bound: Amount | None
    sessions: list[FaultSession]
    curve: list[CurvePoint] | None = None

    @model_validator(mode="after")
    def _no_more_faults_are_missed_than_occur(self) -> Self:
        if self.missed > self.fault_sessions:
            raise ValueError("missed <= fault_sessions")
        return self


class DecidingSession(Record):
    """A validation session without which the threshold would be another (`on`), or none (null)."""

    session: str
    fault: bool
    on: Share | None


class ThresholdChoice(Record):
    """How the operating point was chosen (`conveyorguard.metrics.alarm_threshold.Choice`)."""

    rule: Literal["conformal", "leave-one-out"]
    fault_sessions: Count
    sessions_needed: Count
    guaranteed: bool
    missed: Count
    false_per_week: Amount | None
    yields: Literal["miss_rate", "max_false_per_week"] | None
    deciding: list[DecidingSession]


class Alarms(Record):
    """`alarms.json`: the operating point chosen on validation, null where no session could choose it.

    Runs of earlier versions lack settings and choice; their delays count from the first worn state.
    """

    state: str
    operating_point: Thresholds | None
    settings: AlarmsConfig | None = None
    choice: ThresholdChoice | None = None
    parts: dict[str, AlarmSummary]
