"""Sessions from the table passed to `LoadedRun.predict`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.errors import DataError


def refuse_table(frames: pd.DataFrame, numbers: list[str]) -> None:
    """Check the values of a table.

    Args:
        frames: the table.
        numbers: columns that must hold numbers or nothing.

    Raises:
        DataError: naming the column, the row (from 0) and its value.
    """

    def refuse(column: str, wrong: np.ndarray, expected: str) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            more = f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else ""
            raise DataError(
                f"the table, row {row} counting from 0, column {column}: expected {expected}, found "
                f"{frames[column].iloc[row]!r}{more}"
            )

    refuse("session", frames["session"].isna().to_numpy(), "the name of a session")
    for name in ("time", *numbers):
        values = pd.to_numeric(frames[name], errors="coerce").to_numpy(float, na_value=np.nan)
        refuse(name, np.isnan(values) & ~frames[name].isna().to_numpy(), "a number")
        if name == "time":
            whole = (values == np.floor(values)) & (values >= 0) & (values < 2**31)
            refuse(name, ~whole, "whole seconds since the session began")
    refuse("time", frames.duplicated(["session", "time"]).to_numpy(), "one row per second and session")


def sessions_of(schema: Schema, frames: pd.DataFrame, thermal: np.ndarray | None) -> list[Session]:
    """Split a table and its camera frames into sessions, sorted by time."""
    sessions = []
    position = np.arange(len(frames))
    for name, index in pd.Series(position).groupby(frames["session"].to_numpy()).groups.items():
        rows = frames.iloc[index].sort_values("time")
        order = position[index][np.argsort(frames["time"].to_numpy()[index], kind="stable")]
        first = rows.iloc[0]
        environment = rows.reindex(columns=list(schema.environment)).to_numpy(float)
        sessions.append(
            Session(
                str(name),
                str(first.get("device", "unknown")),
                str(first.get("kind", "")),
                rows["time"].to_numpy().astype(int),
                rows[list(schema.channels)].to_numpy(float),
                environment,
                None if thermal is None else thermal[order],
            )
        )
    return sessions
