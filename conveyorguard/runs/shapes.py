"""What the files of a run directory must hold to be read: `saved.SavedRun` holds each against its shape.

A shape is a type; None; a tuple of shapes, one of which must fit; a list of the shape of all items; or a mapping of
keys to shapes. In a mapping a key that ends with ? may be missing, and that of `...` is of all keys that are not named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.splits import PARTS

NUMBER, TEXTS = (None, float), [str]
NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}

Shape = dict[Any, Any]

PROVENANCE: Shape = {
    "command": str,
    "git": {"commit": (None, str), "dirty": (None, bool)},
    "versions": {...: str},
    "python": str,
    "platform": str,
    "seed": int,
    "start": str,
    "store": {"name": str, "fingerprint": str, "format?": int},
    "split": str,
    "sessions": dict.fromkeys(PARTS, int),
    "windows": dict.fromkeys(PARTS, int),
    "unused": TEXTS,
    "threads": int,
    "device": str,
    "choices?": {},
    "derived?": {...: str},
    "data?": {"hours": {...: {...: float}}, "devices": {...: TEXTS}},
    **dict.fromkeys(
        ("parameters?", "model_bytes?", "latency_ms?", "fit_seconds?", "seconds?", "peak_memory_mib?"), NUMBER
    ),
}
_CLASS = {"class": str, "precision": float, "recall": float, "f1": float, "support": int}
_METRICS: Shape = {"per_class": [_CLASS], "confusion": [[int]], "n": int, ...: NUMBER}
METRICS: Shape = {"val": _METRICS, "test?": _METRICS}
SPLIT: Shape = {"settings": {"name": str}, "sessions": {...: TEXTS}, "note": str}
_FIGURES = {"nll": float, "brier": float, "ece": float}
CALIBRATION: Shape = {"temperature": float, "crossed_by": str, "parts": {...: {"before": _FIGURES, "after": _FIGURES}}}
_SPREAD = (None, {"least": float, "median": float, "most": float})
_FAULT = {"session": str, "device": str, "missed": bool, "alarm_at": NUMBER, "lead": NUMBER, "delay": NUMBER}
_ALARMS: Shape = {
    "fault_sessions": int,
    "missed": int,
    "missed_share_interval": (None, [float]),
    "lead_seconds": _SPREAD,
    "delay_seconds": _SPREAD,
    "false_alarms": int,
    "exposure_hours": float,
    "false_alarms_per_hour_bound": NUMBER,
    "sessions": [_FAULT],
}
ALARMS: Shape = {"state": str, "operating_point": (None, {"on": float, "off": float}), "parts": {...: _ALARMS}}
FACTS: dict[str, Shape] = {
    "alarms": ALARMS,
    "calibration": CALIBRATION,
    "ranges": {...: {"low": float, "high": float, "constant": bool, "middle?": float, "still?": int}},
}

# of tables: text; whole numbers; numbers, which may be missing
PREDICTIONS = {
    **dict.fromkeys(("split", "session", "device", "kind"), "text"),
    **dict.fromkeys(("start", "end", "y_true", "y_pred"), "whole"),
    **dict.fromkeys(("seconds_to_end", "seconds_since_onset"), "number"),
}
HISTORY = {"epoch": "whole", **dict.fromkeys(("train/loss", "val/loss", "seconds"), "number")}
IMPORTANCE = {**dict.fromkeys(("feature", "source", "modality"), "text"), "gain": "number", "shap": "number"}
EXAMPLES = ("session", "y_true", "y_pred", "p", "seconds", "state", "sensors")
KINDS = {"text": "text", "whole": "whole numbers", "number": "numbers"}


def problem(value: Any, shape: Any, place: str = "") -> str | None:
    """Where a tree of plain values is first not of a shape, as 'expected ..., found ...'; None where it is of it."""
    if isinstance(shape, tuple):
        found = [problem(value, one, place) for one in shape]
        return None if None in found else found[-1]
    at = f" at {place}" if place else ""
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return f"expected a mapping{at}, found {_shown(value)}"
        return next(filter(None, _of_mapping(value, shape, place)), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"expected a list{at}, found {_shown(value)}"
        return next(filter(None, (problem(item, shape[0], f"{place}[{i}]") for i, item in enumerate(value))), None)
    fits = value is None if shape is None else type(value) is shape or (shape is float and type(value) is int)
    return None if fits else f"expected {NAMES.get(shape, 'null')}{at}, found {_shown(value)}"


def _of_mapping(value: dict, shape: Mapping, place: str) -> Iterable[str | None]:
    named = {key.removesuffix("?") for key in shape if key is not ...}
    for key, below in shape.items():
        if key is ...:
            yield from (problem(value[k], below, f"{place}.{k}".lstrip(".")) for k in value if k not in named)
            continue
        name = key.removesuffix("?")
        if name in value:
            yield problem(value[name], below, f"{place}.{name}".lstrip("."))
        elif not key.endswith("?"):
            yield f"expected {f'{place}.{name}'.lstrip('.')}, found none"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:40]}..."


def table_problem(table: pd.DataFrame, columns: Mapping[str, str]) -> str | None:
    """What a table first lacks of rows and columns of their kinds, as 'expected ..., found ...'."""
    if missing := [name for name in columns if name not in table]:
        return f"expected columns {', '.join(columns)}, found no {', '.join(missing)}"
    if not len(table):
        return "expected a row or more, found none"
    for name, kind in columns.items():
        values = table[name]
        if kind == "text":
            fits = all(isinstance(value, str) for value in values)
        elif kind == "whole":
            fits = pd.api.types.is_integer_dtype(values)
        else:
            fits = pd.api.types.is_numeric_dtype(values)
        if not fits:
            return f"expected {KINDS[kind]} in column {name}, found {values.dtype}, first {_shown(values.iloc[0])}"
    return None


def predictions_problem(table: pd.DataFrame, states: int, more: Mapping[str, str] | None = None) -> str | None:
    """The same of a table of predictions: its parts and states must be known, its probabilities numbers.

    Args:
        more: further columns that it must have, with their kinds.
    """
    p = [f"p{k}" for k in range(states)]
    given = [str(name) for name in table if str(name)[:1] in "pc" and str(name)[1:].isdigit()]
    known = {*p, *(f"c{k}" for k in range(states))}
    if found := table_problem(table, {**PREDICTIONS, **(more or {}), **dict.fromkeys([*p, *given], "number")}):
        return found
    if unknown := [name for name in given if name not in known]:
        return f"expected probabilities of {states} states, p0 to p{states - 1}, found {', '.join(unknown)}"
    for name, allowed in (("split", PARTS[1:]), ("y_true", range(states)), ("y_pred", range(states))):
        odd = np.flatnonzero(~table[name].isin(allowed))
        if len(odd):
            told = ", ".join(map(str, allowed))
            return f"expected {name} to be one of {told}, found {_shown(table[name].iloc[odd[0]])} in row {odd[0]}"
    odd = np.flatnonzero(~np.isfinite(table[given].to_numpy(float)).all(axis=1))
    return f"expected probabilities that are numbers, found none in row {odd[0]}" if len(odd) else None
