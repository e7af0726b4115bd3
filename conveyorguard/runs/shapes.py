"""What the json files of a run directory hold: one record per file, written and read through it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from conveyorguard.config.records import Amount, Count, R, Record, Share, checked, not_finite, problem
from conveyorguard.errors import RunError
from conveyorguard.runs.alarm_shapes import Alarms as Alarms
from conveyorguard.system.files import read_json, refuse, write_json

ROUNDING = 1e-6  # by which a sum of shares may leave its range
Correlation = Annotated[float, Field(ge=-1 - ROUNDING, le=1 + ROUNDING)]


# provenance.json


class Git(Record):
    """State of the code: its commit, and whether it had uncommitted changes; null where there is no repository."""

    commit: str | None
    dirty: bool | None


class Begun(Record):
    """`provenance.json` of an unfinished run: the facts that are known at its start."""

    command: str
    choices: dict[str, Any] = Field(default_factory=dict)
    argv: list[str] | None = None
    git: Git
    code: str | None = None
    versions: dict[str, str]
    python: str
    host: str | None = None
    platform: str
    processor: str | None = None
    seed: Count
    start: str
    status: str = "complete"
    config: str | None = None
    derived: dict[str, str] = Field(default_factory=dict)
    resumed_from: str | None = None

    @field_validator("start")
    @classmethod
    def _start_is_a_time(cls, value: str) -> str:
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("a time in ISO 8601") from error
        return value


class StoreFacts(Record):
    """The frame store that a run was made on."""

    name: str
    fingerprint: str
    format: int | None = None


class Parts(Record):
    """A count of each part of the split."""

    train: Count
    val: Count
    test: Count


class DataFacts(Record):
    """Hours of each state, and the devices, by part of the split."""

    hours: dict[str, dict[str, Amount]]
    devices: dict[str, list[str]]


class StackedWeights(Record):
    """Weights by which an ensemble stacks its members (`conveyorguard.metrics.stacking`)."""

    classes: Annotated[list[Count], Field(min_length=2)]
    coefficients: list[list[float]]
    intercept: list[float]

    @model_validator(mode="after")
    def _weights_are_of_the_same_classes(self) -> Self:
        if {len(self.coefficients), len(self.intercept)} != {len(self.classes)}:
            raise ValueError(f"coefficients and intercept of {len(self.classes)} states, as classes has them")
        return self


class Provenance(Begun):
    """`provenance.json` of a finished run; fit_seconds and seconds in [s], latency_ms in [ms] a window."""

    store: StoreFacts
    split: str
    sessions: Parts
    windows: Parts
    unused: list[str]
    threads: PositiveInt
    device: str
    data: DataFacts | None = None
    fit_seconds: Amount | None = None
    parameters: Count | None = None
    model_bytes: Count | None = None
    latency_ms: Amount | None = None
    members: list[str] | None = None
    member_paths: list[str] | None = None
    weights: list[Amount] | None = None
    stacking: StackedWeights | None = None
    seconds: Amount | None = None
    peak_memory_mib: Count | None = None


# split.json


class SplitSettings(Record):
    """How the sessions were split."""

    name: str


class SavedSplit(Record):
    """`split.json`: the sessions of each part, a digest of that assignment, and of the values that trained.

    `content` holds `session_digests` of the train and validation sessions; runs of earlier versions lack it.
    """

    settings: SplitSettings
    hash: str | None = None
    note: str
    sessions: dict[str, list[str]]
    content: dict[str, str] | None = None


# metrics.json


class StateMetrics(Record):
    """A row of the per-class table; a figure without a value is 0."""

    state: str = Field(alias="class")
    precision: Share
    recall: Share
    f1: Share
    support: Count


class Metrics(Record):
    """All metrics of one part of the split (`conveyorguard.metrics.scores`); null for one that has no value."""

    accuracy: Share | None
    macro_f1: Share | None
    severe_recall: Share | None
    severe_precision: Share | None
    severe_as_normal: Amount | None
    severe_sessions_missed: Amount | None = None
    qwk: Correlation | None
    ordinal_error: Amount | None = None
    nll: Amount | None
    brier: Amount | None = None
    ece: Share | None
    per_class: list[StateMetrics]
    confusion: list[list[Count]]
    n: PositiveInt

    @model_validator(mode="after")
    def _tables_are_of_the_same_states(self) -> Self:
        states = len(self.per_class)
        if {states} != {len(self.confusion), *map(len, self.confusion)}:
            raise ValueError(f"confusion of {states} x {states} states, as per_class has them")
        return self


class EvaluatedParts(Record):
    """Metrics of validation and, where the run was evaluated on it, of test."""

    val: Metrics
    test: Metrics | None = None

    @property
    def parts(self) -> dict[str, Metrics]:
        """Metrics by part, of the parts that the run was evaluated on."""
        return {"val": self.val} | ({"test": self.test} if self.test else {})


class SavedMetrics(EvaluatedParts):
    """`metrics.json`: as trained (p) and, under `now`, as deployed (c); runs of earlier versions lack `now`."""

    now: EvaluatedParts | None = None


# calibration.json


class CalibrationFigures(Record):
    """Figures of one part, before or after calibration."""

    nll: Amount
    brier: Amount
    ece: Share


class BeforeAfter(Record):
    """Figures of one part as trained and calibrated."""

    before: CalibrationFigures
    after: CalibrationFigures


class Calibration(Record):
    """`calibration.json`: the temperature dividing log-probabilities; validation is cross-fitted by `crossed_by`."""

    method: str = "temperature"
    temperature: Annotated[float, Field(gt=0)]
    crossed_by: str
    parts: dict[str, BeforeAfter]


# memory.json


class MemoryWeights(Record):
    """Weights of the memory (`conveyorguard.metrics.memory.Memory`)."""

    lags: list[Count]
    smallest: Annotated[float, Field(gt=0, lt=1)]
    coefficients: list[list[float]]
    intercept: list[float]

    @model_validator(mode="after")
    def _weights_are_of_the_same_states(self) -> Self:
        states = len(self.intercept)
        if len(self.coefficients) != states or {len(row) for row in self.coefficients} != {states * len(self.lags)}:
            raise ValueError(
                f"coefficients of {states} states x {len(self.lags)} lags, as intercept and lags have them"
            )
        return self


class SavedMemory(Record):
    """`memory.json`: the memory, null where it is not kept, why, and its gain of macro-F1 with the interval."""

    reason: str
    gain: list[float] | None
    memory: MemoryWeights | None


# ranges.json


class ChannelRange(Record):
    """Range of one input in training (`conveyorguard.data.ranges.training_ranges`); still in [rows]."""

    low: float
    high: float
    middle: float | None = None
    still: Count | None = None
    constant: bool

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Self:
        if self.low > self.high:
            raise ValueError("low <= high")
        return self


class Ranges(Record):
    """`ranges.json`: the range of each input by its channel."""

    __pydantic_extra__: dict[str, ChannelRange]


# checkpoints/features.json


class Features(Record):
    """What a tabular model takes: its inputs, and the names of its features in their order."""

    inputs: list[str]
    names: list[str]


def read_record(path: Path, kind: type[R]) -> R:
    """Read a json file of a run directory.

    Raises:
        RunError: the file is missing or damaged, or holds an impossible value; the message names the field.
    """
    values = read_json(path)
    place = next(not_finite(values, ""), None)
    refuse(path, place and f"expected a finite number at {place}, found NaN or infinity")
    return checked(values, kind, path)


def write_record(path: Path, kind: type[R], values: Mapping[str, Any]) -> R:
    """Write a json file of a run directory, whole or not at all, and return the record.

    Raises:
        RunError: the values are such that `read_record` would refuse them.
    """
    message, record = problem(values, kind)
    if record is None:
        raise unwritable(path, message)
    write_json(path, record.plain())
    return record


def unwritable(path: Path, message: str | None) -> RunError:
    """Return the error about a file that would be refused when it is read."""
    return RunError(f"{path}: {message}; not written. If the training has diverged, lower optimizer.lr and train again")
