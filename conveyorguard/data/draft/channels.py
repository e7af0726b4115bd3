"""The channels of a draft: names, units, scaling and aggregates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from conveyorguard.data.draft.sample import BRACKETED, Sample
from conveyorguard.data.schema import FRAME_COLUMNS
from conveyorguard.data.session import Session

UNITS = {  # by name, where no unit is written; and the values that one would expect [unit]
    "degC": (r"temp|ntc|therm|온도", (-90, 1500)),
    "A": (r"current|\bamp|^ct\d|전류|strom", (-1e5, 1e5)),
    "V": (r"volt|전압|spannung", (-1e6, 1e6)),
    "bar": (r"pressure|압력|druck", (-2, 3000)),
    "%": (r"humid|습도", (0, 100)),
    "m/s": (r"wind.?speed|풍속", (0, 150)),
    "1/min": (r"rpm|speed|속도|회전|drehzahl", (-1e6, 1e6)),
    "mm/s": (r"vib|진동|schwing", (-1e4, 1e4)),
    "l/min": (r"flow|유량", (-1e5, 1e5)),
    "W": (r"power|전력|leistung", (-1e9, 1e9)),
    "lx": (r"illumin|조도", (0, 2e5)),
    "dB": (r"noise|sound|소음", (-100, 250)),
    "ug/m3": (r"^pm\d", (0, 1e5)),
    "Nm": (r"torque|토크", (-1e7, 1e7)),
}
AGGREGATE = ["mean", "sd", "p2p"]  # of several samples a period; of vibration:
OF_VIBRATION = ["rms", "sd", "p2p", "kurtosis"]
VIBRATION = r"vib|accel|\bacc|진동|가속|sound|noise|acoustic|\ba\d$|\b[ax]?_?[xyz]$"

Channels = dict[str, dict[str, Any]]  # unit, column where the files call it otherwise, aggregate, scaling where log


def channels_of(sample: Sample) -> tuple[Channels, Channels, list[str]]:
    """Columns of numbers as (channels, environment), and the names of those whose unit is a guess."""
    channels: Channels = {}
    guessed = []
    for name in sample.free:
        if not sample.is_number(name):
            words = ", ".join([*sample.counts(name, 4)][:4])
            sample.leave_out(name, f"it holds words: {words}, ...")
            continue
        key = _key(name, channels)
        unit, is_guess = _unit(sample, name)
        guessed += [key] if is_guess else []
        channels[key] = {"unit": unit} | ({"column": name} if key != name else {})
    ambient = sample.like("environment")
    environment = {key: channels.pop(key) for key in [*channels] if channels[key].get("column", key) in ambient}
    if not channels:
        channels, environment = environment, {}
    return channels, environment, guessed


def name_units(sample: Sample, channels: Channels, guessed: Iterable[str]) -> None:
    """Say which units are guesses and which are not known."""
    with_units = [f"{key} ({channels[key]['unit']})" for key in guessed if key in channels]
    if with_units:
        sample.odd.append(f"units guessed from names: {_some(with_units)}; correct them where they are wrong")
    if unknown := [key for key, channel in channels.items() if channel["unit"] == "-"]:
        sample.odd.append(f"unit not known, fill it in: {_some(unknown)}")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _key(name: str, taken: Iterable[str]) -> str:
    """A channel's name: without brackets and signs, unlike those that are taken."""
    key = re.sub(r"[^\w.]+", "_", BRACKETED.sub(r"\g<name>", name)).strip("_") or f"channel{len([*taken]) + 1}"
    while key in (*FRAME_COLUMNS, *taken, "thermal"):
        key += "_value"
    return key


def _unit(sample: Sample, name: str) -> tuple[str, bool]:
    """The unit in brackets or below the header, else the one that the name suggests; and whether it is a guess."""
    written = sample.units.get(name) or (bracketed["unit"] if (bracketed := BRACKETED.match(name)) else None)
    if written:
        return re.sub(r"^(°\s?C|℃|C|deg ?C)$", "degC", written.strip("[]() ")), False
    for unit, (like, (low, high)) in UNITS.items():
        if re.search(like, name.lower()):
            values = np.concatenate(sample.numbers(name))
            values = values[np.isfinite(values)]
            middle = float(np.median(values)) if len(values) else 0.0
            return (unit, True) if low <= middle <= high else ("-", False)
    return "-", False


def add_aggregates(channels: Channels, sample: Sample, samples: float, most: float) -> None:
    """Name what the rows of one period become, where there are more than `most` of them."""
    if samples <= most:
        return
    for key, channel in channels.items():
        vibrates = re.search(VIBRATION, channel.get("column", key).lower())
        channel["aggregate"] = OF_VIBRATION if vibrates else AGGREGATE
    sample.odd.append(
        f"about {samples:.3g} rows a period: each channel becomes several by `aggregate` (mean, sd for standard "
        "deviation, p2p for peak to peak, rms, kurtosis), as a mean alone hides vibration; shorten the lists if you "
        "like"
    )


def choose_scaling(sessions: list[Session], *groups: Channels) -> None:
    """log where positive values spread widely above their middle, as currents do."""
    for group, array in zip(groups, ("sensors", "environment"), strict=True):
        place = 0
        for channel in group.values():
            width = len(channel.get("aggregate", [])) or 1
            values = np.concatenate([getattr(s, array)[:, place] for s in sessions])
            place += width
            values = values[np.isfinite(values)]
            # below 0.05 of its unit a logarithm is mostly noise
            if width == 1 and len(values) and values.min() > 0.05 and np.percentile(values, 99) > 4 * np.median(values):
                channel["scaling"] = "log"
