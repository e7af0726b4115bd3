"""The channels of a draft: names, units and scaling."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from conveyorguard.data.draft.sample import BRACKETED, Sample
from conveyorguard.data.schema import FRAME_COLUMNS
from conveyorguard.data.session import Session

UNITS = {  # by name, where no unit is written in brackets
    "degC": r"temp|ntc|therm|온도",
    "A": r"current|amp|^ct\d|전류",
    "V": r"volt|전압",
    "bar": r"pressure|압력",
    "%": r"humid|습도",
    "1/min": r"rpm|speed|속도",
    "mm/s": r"vib|진동",
    "l/min": r"flow|유량",
    "W": r"power|전력",
    "lx": r"illumin|조도",
    "dB": r"noise|sound",
    "ug/m3": r"^pm\d",
    "Nm": r"torque",
}


Channels = dict[str, dict[str, str]]  # unit, column where the files call it otherwise, and scaling where it is log


def channels_of(sample: Sample) -> tuple[Channels, Channels]:
    """Columns of numbers as (channels, environment)."""
    channels: Channels = {}
    for name in sample.free:
        if not sample.is_number(name):
            words = ", ".join(sample.values(name)[:4])
            sample.odd.append(f"column '{name}' holds words, so it is left out: {words}, ...")
            continue
        key = _key(name, channels)
        channels[key] = {"unit": _unit(name)} | ({"column": name} if key != name else {})
    unknown = [key for key, channel in channels.items() if channel["unit"] == "-"]
    if unknown:
        more = ", ..." if len(unknown) > 10 else ""
        sample.odd.append(f"unit not known, fill it in: {', '.join(unknown[:10])}{more}")
    ambient = sample.like("environment")
    environment = {key: channels.pop(key) for key in [*channels] if channels[key].get("column", key) in ambient}
    return channels, environment


def _key(name: str, taken: Iterable[str]) -> str:
    """A channel's name: without brackets and signs, unlike those that are taken."""
    key = re.sub(r"[^\w.]+", "_", BRACKETED.sub(r"\g<name>", name)).strip("_") or f"channel{len([*taken]) + 1}"
    while key in (*FRAME_COLUMNS, *taken, "thermal"):
        key += "_value"
    return key


def _unit(name: str) -> str:
    """The unit in brackets, else the one that the name suggests."""
    if bracketed := BRACKETED.match(name):
        return re.sub(r"^(°\s?C|℃|C)$", "degC", bracketed["unit"])
    return next((unit for unit, like in UNITS.items() if re.search(like, name.lower())), "-")


def choose_scaling(sessions: list[Session], *groups: Channels) -> None:
    """log where positive values spread widely above their middle, as currents do."""
    for group, array in zip(groups, ("sensors", "environment"), strict=True):
        for i, channel in enumerate(group.values()):
            values = np.concatenate([getattr(s, array)[:, i] for s in sessions])
            values = values[np.isfinite(values)]
            # below 0.05 of its unit a logarithm is mostly noise
            if len(values) and values.min() > 0.05 and np.percentile(values, 99) > 4 * np.median(values):
                channel["scaling"] = "log"
