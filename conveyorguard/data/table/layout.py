"""How the files of a table are read: the keys of `data.reader`."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from conveyorguard.data.table.clock import UNITS
from conveyorguard.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """How the files are read: the keys of `data.reader`.

    Attributes:
        period: s between the rows of the store; recordings of another period are resampled to it.
        time_unit: of a time column of numbers: s, ms, us, ns, min, h or d.
        time_format: of a time column of text, as for strptime, if it is none of the usual.
        encoding: of csv files.
        device_pattern: regular expression whose group is the device, searched in the session's name.
        kind_pattern: likewise for the kind of device.
        thermal_folder: where the frames are, below the root.
        thermal_scale, thermal_offset: degC = scale * value + offset, of every pixel of an array or picture.
        incomplete: accept a recording that lacks some channels (their values are NaN) or does not tell its device or
            kind.
    """

    period: float = 1.0
    time_unit: str = "s"
    time_format: str | None = None
    encoding: str = "utf-8"
    device_pattern: str | None = None
    kind_pattern: str | None = None
    thermal_folder: str = "thermal"
    thermal_scale: float = 1.0
    thermal_offset: float = 0.0
    incomplete: bool = False

    @classmethod
    def of(cls, options: dict[str, Any]) -> Layout:
        """Check the keys of `data.reader`.

        Raises:
            ConfigError: naming every key that is unknown or impossible.
        """
        known = [f.name for f in fields(cls)]
        problems = [f"unknown key '{key}'; known are {', '.join(known)}" for key in options if key not in known]
        layout = cls(**{key: value for key, value in options.items() if key in known})
        if not (isinstance(layout.period, int | float) and layout.period > 0):
            problems.append(f"period={layout.period}: seconds, more than 0")
        if layout.time_unit not in UNITS:
            problems.append(f"time_unit={layout.time_unit}: one of {', '.join(UNITS)}")
        for key in ("device_pattern", "kind_pattern"):
            problems += _pattern_problems(key, getattr(layout, key))
        if problems:
            raise ConfigError("data.reader:\n" + "\n".join(f"  - {problem}" for problem in problems))
        return layout


def _pattern_problems(key: str, pattern: str | None) -> list[str]:
    try:
        groups = re.compile(pattern or "()").groups
    except re.error as error:
        return [f"{key}={pattern}: no regular expression ({error})"]
    return [] if groups == 1 else [f"{key}={pattern}: put brackets round the one part that is the name"]
