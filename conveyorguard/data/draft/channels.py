"""Draft the channels of a data set: names, units, scaling and aggregates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from conveyorguard.data.draft.sample import BRACKETED, Sample
from conveyorguard.data.schema import FRAME_COLUMNS
from conveyorguard.data.session import Session

UNITS = {  # unit: pattern of column names without a written unit, and plausible range of the median [unit]
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
AGGREGATE = ["mean", "sd", "p2p"]  # statistics of the rows of one period; for vibration OF_VIBRATION
OF_VIBRATION = ["rms", "sd", "p2p", "kurtosis"]
VIBRATION = r"vib|accel|\bacc|진동|가속|sound|noise|acoustic|\ba\d$|\b[ax]?_?[xyz]$"

Channels = dict[str, dict[str, Any]]  # entries of the yaml: unit; column, aggregate and scaling where they are needed


def channels_of(sample: Sample) -> tuple[Channels, Channels, list[str]]:
    """Return the numeric columns as channels and environment, and the channels whose unit is a guess.

    Columns of words are left out. If all columns look like environment, they become the channels.

    Returns:
        The channels, the environment, and the names of channels of either whose unit was guessed.
    """
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
    """Report in `sample.odd` which units are guesses and which are unknown."""
    with_units = [f"{key} ({channels[key]['unit']})" for key in guessed if key in channels]
    if with_units:
        sample.odd.append(f"units guessed from names: {_some(with_units)}; correct them where they are wrong")
    if unknown := [key for key, channel in channels.items() if channel["unit"] == "-"]:
        sample.odd.append(f"unit not known, fill it in: {_some(unknown)}")


def _some(names: Iterable[str]) -> str:
    """Return the first 10 names and the number of the others."""
    names = list(names)
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _key(name: str, taken: Iterable[str]) -> str:
    """Return a channel name without unit and special characters that differs from the names in `taken`."""
    key = re.sub(r"[^\w.]+", "_", BRACKETED.sub(r"\g<name>", name)).strip("_") or f"channel{len([*taken]) + 1}"
    while key in (*FRAME_COLUMNS, *taken, "thermal"):
        key += "_value"
    return key


def _unit(sample: Sample, name: str) -> tuple[str, bool]:
    """Return the unit of a column, "-" if unknown, and whether it is a guess.

    A unit below the header or in brackets is used as written. Otherwise the column's name suggests a unit, which is
    used if the median lies in the unit's plausible range.
    """
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
    """Add the `aggregate` statistics to all channels if a period has more than `most` rows.

    Args:
        samples: rows of the files per period.
        most: rows per period up to which the mean is enough.
    """
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
    """Set log scaling for positive channels whose 99th percentile exceeds 4 times the median, as currents do.

    Args:
        sessions: recordings whose values are looked at.
        groups: the channels and the environment, in this order.
    """
    for group, array in zip(groups, ("sensors", "environment"), strict=True):
        place = 0
        for channel in group.values():
            width = len(channel.get("aggregate", [])) or 1
            values = np.concatenate([getattr(s, array)[:, place] for s in sessions])
            place += width
            values = values[np.isfinite(values)]
            # the logarithm of values below 0.05 [unit] is mostly noise
            if width == 1 and len(values) and values.min() > 0.05 and np.percentile(values, 99) > 4 * np.median(values):
                channel["scaling"] = "log"
