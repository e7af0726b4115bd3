"""What the tables and arrays of a run directory hold; the json files are in `shapes`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.config.records import shown
from conveyorguard.data.splits import PARTS
from conveyorguard.system.files import damaged, refuse

# Columns by name, with the kind of their values: "text", "whole", or "number", which may be missing (NaN).
PREDICTIONS = {
    **dict.fromkeys(("split", "session", "device", "kind"), "text"),
    **dict.fromkeys(("y_true", "y_pred"), "whole"),
    **dict.fromkeys(("start", "end"), "number"),
    **dict.fromkeys(("seconds_to_end", "seconds_since_onset"), "number"),
}
SHORTCUTS = {**PREDICTIONS, "shortcut": "text"}
HISTORY = {"epoch": "whole", **dict.fromkeys(("train/loss", "val/loss", "seconds"), "number")}
IMPORTANCE = {**dict.fromkeys(("feature", "source", "modality"), "text"), "gain": "number", "shap": "number"}
KINDS = {"text": "text", "whole": "whole numbers", "number": "numbers"}
# Dimensions of the arrays of examples.npz, sizes by their letter: n examples of T seconds, C channels, K states.
EXAMPLES = {"session": "n", "y_true": "n", "y_pred": "n", "p": "nK", "seconds": "nT", "state": "nT", "sensors": "nTC"}
THERMAL_EXAMPLES = {"thermal": "nFHW", "thermal_seconds": "F"}  # F frames of H rows and W columns
SUM_TOLERANCE = 1e-3  # of the probabilities of a window: half precision; `check` is stricter
ROUNDING = 1e-6


def read_csv(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read a table that has at least the given columns.

    Args:
        columns: kind of values by column; see `KINDS`.

    Raises:
        RunError: the file is missing or damaged, or lacks rows or columns.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise damaged(path, error) from error
    refuse(path, table_problem(table, columns))
    return table


def table_problem(table: pd.DataFrame, columns: Mapping[str, str]) -> str | None:
    """Return the first problem of a table (no rows, a missing column, a wrong type) as 'expected ..., found ...'."""
    if missing := [name for name in columns if name not in table]:
        return f"expected columns {', '.join(columns)}, found no {', '.join(missing)}"
    if not len(table):
        return "expected a row or more, found none"
    for name, kind in columns.items():
        values = table[name]
        if not _is_of_kind(values, kind):
            return f"expected {KINDS[kind]} in column {name}, found {values.dtype}, first {shown(values.iloc[0])}"
    return None


def _is_of_kind(values: pd.Series, kind: str) -> bool:
    if kind == "text":
        return pd.api.types.infer_dtype(values.to_numpy(object), skipna=False) == "string"
    if kind == "whole":
        return pd.api.types.is_integer_dtype(values)
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def predictions_problem(
    table: pd.DataFrame, states: int, columns: Mapping[str, str] = PREDICTIONS, parts: tuple[str, ...] = PARTS[1:]
) -> str | None:
    """Return the first problem of a table of predictions as 'expected ..., found ...'.

    Its parts and states must be known, and the probabilities p0, p1, ... of each window (and c0, c1, ... where it has
    them) lie between 0 and 1 with sum 1.

    Args:
        states: K.
        columns: that it must have beside the probabilities, with their kinds.
        parts: of the split that it may have windows of.
    """
    present = [str(name) for name in table if re.fullmatch(r"[pc]\d+", str(name))]
    prefixes = "pc" if any(name.startswith("c") for name in present) else "p"
    probabilities = {prefix: [f"{prefix}{k}" for k in range(states)] for prefix in prefixes}
    wanted = [name for names in probabilities.values() for name in names]
    if message := table_problem(table, {**columns, **dict.fromkeys(wanted, "number")}):
        return message
    if unknown := [name for name in present if name not in wanted]:
        return f"expected probabilities of {states} states, p0 to p{states - 1}, found {', '.join(unknown)}"
    allowed = {"split": parts, "y_true": range(states), "y_pred": range(states)}
    return next(filter(None, _row_problems(table, allowed, probabilities)), None)


def _row_problems(
    table: pd.DataFrame, allowed: Mapping[str, Sequence[object]], probabilities: Mapping[str, list[str]]
) -> Iterator[str | None]:
    for name, values in allowed.items():
        odd = np.flatnonzero(~table[name].isin(values))
        if len(odd):
            known = ", ".join(map(str, values))
            yield f"expected {name} to be one of {known}, found {shown(table[name].iloc[odd[0]])} in row {odd[0]}"
    odd = np.flatnonzero(~(table["end"] >= table["start"]))
    if len(odd):
        yield f"expected end at start or later, found it earlier in row {odd[0]}"
    yield from (_probability_problem(table[names]) for names in probabilities.values())


def _probability_problem(columns: pd.DataFrame) -> str | None:
    odd = ~are_probabilities(columns.to_numpy(np.float64))
    if not odd.any():
        return None
    row = int(odd.argmax())
    names, values = columns.columns, ", ".join(f"{value:.4g}" for value in columns.iloc[row])
    return f"expected {names[0]} to {names[-1]} between 0 and 1 with sum 1, found {values} in row {row}"


def are_probabilities(p: np.ndarray) -> np.ndarray:
    """Return which rows of p (n, K) are between 0 and 1 with sum 1, as (n,) booleans; NaN is not."""
    inside = ((p >= -ROUNDING) & (p <= 1 + ROUNDING)).all(axis=1)
    return inside & (np.abs(p.sum(axis=1) - 1) <= SUM_TOLERANCE)


def examples_problem(arrays: Mapping[str, np.ndarray], states: int) -> str | None:
    """Return the first problem of the arrays of `examples.npz` as 'expected ..., found ...'."""
    wanted = EXAMPLES | (THERMAL_EXAMPLES if "thermal" in arrays else {})
    if missing := [name for name in wanted if name not in arrays]:
        return f"expected arrays {', '.join(wanted)}, found no {', '.join(missing)}"
    sizes = {"K": states}
    for name, letters in wanted.items():
        content, is_text = ("text", True) if name == "session" else ("numbers", False)
        if (arrays[name].dtype.kind == "U") != is_text:
            return f"expected {content} in {name}, found {arrays[name].dtype}"
        shape = arrays[name].shape
        if len(shape) != len(letters) or any(sizes.setdefault(a, n) != n for a, n in zip(letters, shape, strict=True)):
            known = ", ".join(str(sizes.get(letter, letter)) for letter in letters)
            return f"expected {name} of shape ({known}), found {shape}"
    if not all(np.isin(arrays[name], range(states)).all() for name in ("y_true", "y_pred")):
        return "expected states of the data in y_true and y_pred, found others"
    if not are_probabilities(arrays["p"].astype(np.float64)).all():
        return "expected p between 0 and 1 with sum 1, found other values"
    return None
