"""Parses the names of archives and frame files: device, day and second."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache

import numpy as np

from conveyorguard.data.archive.containers import Archive
from conveyorguard.data.session import Dropped
from conveyorguard.system.text import printable

ARCHIVE = re.compile(
    r"^(?P<part>[TV])(?P<role>[SL])_(?P<rest>[a-z]+_\d+_(?P<device>[a-z]+\d+)_(?P<day>\d{4})_(?P<start>\d{4}))$"
)
NEARLY = re.compile(r"(?P<part>[TV])(?P<role>[SL])_(?P<rest>[a-z]+_\d+_[a-z]+\d+_\d{4}_\d{4})(?!\d)", re.IGNORECASE)
INCOMPLETE = re.compile(r"\.zip\.part\d+$")
ZIP = re.compile(r"\.zip$", re.IGNORECASE)
FRAME = re.compile(
    r"(?P<stem>[a-z]+\d+_\d{4}_(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d))\.(?P<suffix>csv|bin|json)\Z"
)
FRAME_SUFFIXES = (".csv", ".bin", ".npy", ".json")
DAY = 24 * 3600


def archive_stem(name: str) -> str:
    """Return an archive's name without the suffixes of a zip and of a partial download."""
    return ZIP.sub("", INCOMPLETE.sub("", name))


def second_of_day(frame: re.Match[str]) -> int:
    """Return the second of the day of a name matched by `FRAME`."""
    return int(frame["hour"]) * 3600 + int(frame["minute"]) * 60 + int(frame["second"])


def seconds_of_day(archive: Archive) -> tuple[dict[str, int], list[Dropped]]:
    """Return the second of the day of each stem, and the frame files whose names are invalid."""
    seconds, misnamed = {}, []
    for name in sorted(archive.files):
        message = ""
        if match := FRAME.match(name):
            if int(match["hour"]) > 23 or int(match["minute"]) > 59 or int(match["second"]) > 59:
                message = (
                    f"expected a time of day, HHMMSS, at the end of the name, found {match['stem'][-6:]}; "
                    "rename the file"
                )
            else:
                seconds[match["stem"]] = second_of_day(match)
        elif name.lower().endswith(FRAME_SUFFIXES) and not name.startswith("."):  # hidden files, as macOS adds to zips
            message = "expected a name like oht01_0827_101105.csv, .bin or .json; rename the file, or remove it"
        if message:
            misnamed.append(Dropped("bad_name", f"{archive.name}: {printable(name)}", message))
    return seconds, misnamed


def belongs(stem: str, second: int, archive: Mapping[str, str]) -> bool:
    """Return whether a frame is of the device and the day in its archive's name.

    A recording over midnight may be named after either day: a frame of the next day belongs to it before the start time
    of day in the name, one of the previous day after the start time plus half a day.

    Args:
        second: second of the day of the frame.
        archive: the groups of `ARCHIVE`.
    """
    device, day, _ = stem.split("_")
    if device != archive["device"] or day == archive["day"]:
        return device == archive["device"]
    start = int(archive["start"][:2]) * 3600 + int(archive["start"][2:]) * 60
    later = second < start
    return (later or second > start + DAY / 2) and day in _neighbours(archive["day"], 1 if later else -1)


@lru_cache
def _neighbours(day: str, step: int) -> set[str]:
    """Return the neighbouring day as MMDD; both candidates where it depends on a leap year, as names hold no year."""
    days = set()
    for year in (2023, 2024):
        try:
            days.add(f"{date(year, int(day[:2]), int(day[2:])) + timedelta(step):%m%d}")
        except ValueError:  # no such day in this year
            continue
    return days


def in_time_order(stems: list[str], seconds: dict[str, int]) -> list[tuple[str, int]]:
    """Return (stem, seconds since the first frame) in time order; the first frame follows the day's largest gap."""
    if not stems:
        return []
    ordered = sorted(stems, key=lambda stem: seconds[stem])
    clock = np.array([seconds[stem] for stem in ordered])
    gaps = np.diff(clock, append=clock[0] + DAY)
    first = (int(gaps.argmax()) + 1) % len(clock)
    times = (np.roll(clock, -first) - clock[first]) % DAY
    return list(zip(ordered[first:] + ordered[:first], times.tolist(), strict=True))
