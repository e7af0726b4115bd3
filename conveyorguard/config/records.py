"""Typed records of the files that a run leaves, and the one of its `config.yaml`.

A record is read by attribute (`provenance.seed`) or, where the key is a variable, as the mapping that the file holds
(`figures[name]`). Fields that a later version has added are kept; impossible values are refused with the file, the
field and what to do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel, Mapping[str, Any]):
    """Base of all records: strict types, finite numbers, unknown fields kept, immutable.

    As a mapping a record has the keys and values of its file, in which an optional field may be absent; as an attribute
    such a field has its default.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @property
    def _content(self) -> dict[str, Any]:
        """Return the values by their key in the file; nested records stay records."""
        fields = {
            info.alias or name: getattr(self, name)
            for name, info in type(self).model_fields.items()
            if name in self.model_fields_set
        }
        return {**fields, **(self.model_extra or {})}

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def plain(self) -> dict[str, Any]:
        """The record as nested plain values, as its file holds it."""
        return self.model_dump(by_alias=True, exclude_unset=True)


R = TypeVar("R", bound=Record)


def checked(values: Any, kind: type[R], path: Path) -> R:
    """Return plain values as a record.

    Args:
        values: content of a file of a run.
        kind: the record that the file holds.
        path: of the file, for the message.

    Raises:
        RunError: a field is missing, of another type, or has an impossible value.
    """
    from conveyorguard.system.files import refuse  # brings pandas, which takes long to import

    message, record = problem(values, kind)
    refuse(path, message)
    assert record is not None
    return record


def problem(values: Any, kind: type[R]) -> tuple[str | None, R | None]:
    """Return (None, record), or (first problem as 'expected ..., found ...', None) where the values are no record."""
    try:
        return None, kind.model_validate(values)
    except ValidationError as error:
        return _sentence(error, values), None


def not_finite(value: Any, place: str) -> Iterator[str]:
    """Yield the places of numbers that are NaN or infinite: the json standard has neither, but Python reads both."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from not_finite(below, f"{place}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for i, below in enumerate(value):
            yield from not_finite(below, f"{place}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield place


_EXPECTED = {
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of {ge:g} or more",
    "less_than_equal": "a number of {le:g} or less",
    "too_short": "{min_length} items or more",
    "too_long": "{max_length} items or fewer",
    "literal_error": "{expected}",
    "value_error": "{error}",
}


def _sentence(error: ValidationError, values: Any) -> str:
    """Return the first problem in pydantic's error as 'FIELD: expected ..., found ...'."""
    problems = error.errors(include_url=False)
    first = problems[0]
    place = _place(first["loc"], values)
    if first["type"] == "missing":
        return f"expected {place}, found none"
    expected = {_expected(p): None for p in problems if _place(p["loc"], values) == place}  # several of a union
    return f"expected {', or '.join(expected)}{f' at {place}' if place else ''}, found {shown(first['input'])}"


def _expected(problem: Mapping[str, Any]) -> str:
    return _EXPECTED.get(problem["type"], f"another value ({problem['msg']})").format(**problem.get("ctx", {}))


def _place(location: tuple[int | str, ...], values: Any) -> str:
    """Return the dotted name of a field; what pydantic adds for the alternatives of a union is left out."""
    place = ""
    for part in location:
        if isinstance(part, int) and isinstance(values, list):
            place, values = f"{place}[{part}]", values[part]
        elif isinstance(values, Mapping):
            place, values = f"{place}.{part}", values.get(part)
    return place.removeprefix(".")


def shown(value: Any) -> str:
    """Return a value as json, cut short, for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:40]}..."


class DataConfig(Record):
    """The `data` block of a saved config; `conveyorguard.data.schema.Schema` checks its schema."""

    name: str | int | float  # a name of digits is a number in yaml
    strict: bool = False
    limits: list[str] | None = None
    channels: dict[str, Any] = Field(alias="schema")


class ModelConfig(Record):
    """The `model` block of a saved config: a class with its settings, or the members of an ensemble."""

    name: str | int | float = "model"
    target: str | None = Field(None, alias="_target_")


class WindowConfig(Record):
    """The `window` block of a saved config; durations in [s]; null: the default."""

    size: PositiveFloat | None = None
    stride: PositiveFloat | None = None
    eval_stride: PositiveFloat | None = None
    max_gap: Amount | None = None
    label: Literal["majority", "last"] = "majority"
    thermal_frames: PositiveInt | Literal["all"] = 10


class SplitConfig(Record):
    """The `split` block of a saved config."""

    name: str
    seed: Count | None = None
    train_devices: PositiveInt | None = None


class AlarmCostConfig(Record):
    """The `alarms.cost` block of a saved config, in any one currency; late: an hour."""

    miss: Amount
    false: Amount
    late: Amount


class AlarmsConfig(Record):
    """The `alarms` block of a saved config (`conveyorguard.metrics.alarm_settings`)."""

    max_false_per_week: Amount
    miss_rate: Annotated[float, Field(gt=0, lt=1)]
    cost: AlarmCostConfig
    faults_per_month: Amount


class SavedConfig(Record):
    """`config.yaml` of a run: what reports, comparisons and predictions read of it."""

    data: DataConfig
    model: ModelConfig
    window: WindowConfig
    split: SplitConfig
    modality: Literal["sensor", "image", "both", "mixed"]
    film: bool | Literal["mixed"]
    film_input: str = "environment"
    seed: Count
    objective: str
    alarms: AlarmsConfig | None = None
    test: bool = True
    threads: PositiveInt | None = None

    @field_validator("objective")
    @classmethod
    def _objective_is_known(cls, value: str) -> str:
        from conveyorguard.metrics.scores import OBJECTIVES

        if value not in OBJECTIVES:
            raise ValueError(f"one of {', '.join(OBJECTIVES)}")
        return value
