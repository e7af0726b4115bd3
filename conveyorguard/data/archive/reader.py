"""Reader of AI Hub #71802: the only module that knows its format.

A session is two archives, sensor and thermal files (`TS_...`, `VS_...`) and labels (`TL_...`, `VL_...`), each a zip or
a folder of the same stem. A frame is three files of one stem: `.csv` (sensors), `.bin` (a .npy stream) and `.json`
(label and environment). Zips are inflated member by member in memory; nothing is unpacked and the root may be
read-only.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.archive.containers import Archive, Unusable, read_file
from conveyorguard.data.archive.frames import (
    TEXT_LIMIT,
    Wrong,
    bin_limit,
    environment_value,
    load_json,
    parse_bin,
    parse_csv,
    parse_json,
)
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Dropped, Recording, Session, Unreadable
from conveyorguard.errors import DataError
from conveyorguard.system.text import printable, without_path

ARCHIVE = re.compile(
    r"^(?P<part>[TV])(?P<role>[SL])_(?P<rest>[a-z]+_\d+_(?P<device>[a-z]+\d+)_(?P<day>\d{4})_(?P<start>\d{4}))$"
)
NEARLY = re.compile(r"(?P<part>[TV])(?P<role>[SL])_(?P<rest>[a-z]+_\d+_[a-z]+\d+_\d{4}_\d{4})(?!\d)", re.IGNORECASE)
FRAME = re.compile(
    r"(?P<stem>[a-z]+\d+_\d{4}_(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d))\.(?P<suffix>csv|bin|json)\Z"
)
FRAME_SUFFIXES = (".csv", ".bin", ".npy", ".json")
INCOMPLETE = re.compile(r"\.zip\.part\d+$")
ZIP = re.compile(r"\.zip$", re.IGNORECASE)
DAY = 24 * 3600
REMEDY = {
    "csv": "expected is one header and one row, separated by commas, decimals with a point; export it again",
    "bin": "write it again with numpy.save, of floating point numbers and without pickle",
    "json": "export or download the labels again",
}


def sessions(root: str | Path, schema: Schema, incomplete: bool = False) -> Iterator[Recording | Unreadable]:
    """Find the sessions under `root`, at whatever level of the set's folders it points.

    Args:
        incomplete: accept frames whose csv lacks some of the channels; their values are NaN.

    Yields:
        A `Recording` for each source archive, sorted by name, or an `Unreadable` that says why there is none.

    Raises:
        DataError: `root` does not exist or holds no source archive.
    """
    top = Path(root)
    if not top.is_dir():
        raise DataError(f"data.root={root}: no such folder. Point it at your copy of the data set.")
    found = _find(top)
    archives, own = found.archives, set(found.archives)
    if not any(role == "S" for _, role, _ in own):
        raise DataError(_nothing_found(top, found))
    if not any(role == "L" for _, role, _ in own):  # the root may be the source folder, its labels next door
        levels = (top.resolve().parent, top.resolve().parent.parent)
        number = top.resolve().name[:3] == "01."
        for parent in levels[: 1 if number else 2] if number or ARCHIVE.match(top.name) else ():
            archives |= {key: path for key, path in _find(parent).archives.items() if key[1] == "L"}
    for part, role, rest in sorted(archives):
        if role == "S":
            labels = archives.get((part, "L", rest))
            yield _recording(f"{part}S_{rest}", archives[part, "S", rest], labels, schema, incomplete)
    for key, path in found.copies:
        message = (
            f"two archives of one name: {_below(top, archives[key])} was read, {_below(top, path)} was not; "
            "remove or rename the one that is wrong"
        )
        yield Unreadable(_name(key), "duplicate_session", message)
    yield from _unread(top, found)
    for part, role, rest in sorted(own):
        if role == "L" and (part, "S", rest) not in own.union(found.nearly):
            name, path = _name((part, role, rest)), archives[part, role, rest]
            message = (
                f"{_below(top, path)}: expected the source archive {part}S_{rest} as well, found its labels "
                "alone; fetch it, or remove them"
            )
            yield Unreadable(name, "missing_source", message)


Key = tuple[str, str, str]


@dataclass
class _Found:
    """What lies below a root.

    Attributes:
        archives: (part, role, rest of the stem) -> archive.
        copies: further archives of the same.
        nearly: what is called almost like an archive, and is not read.
        locked: folders that cannot be looked into.
    """

    archives: dict[Key, Path] = field(default_factory=dict)
    copies: list[tuple[Key, Path]] = field(default_factory=list)
    nearly: dict[Key, list[Path]] = field(default_factory=dict)
    locked: list[OSError] = field(default_factory=list)


def _find(top: Path) -> _Found:
    """The archives. A whole one wins over an incomplete download of it."""
    found, seen = _Found(), set()
    archives = found.archives
    for folder, folders, files in os.walk(top, followlinks=True, onerror=found.locked.append):
        real = os.path.realpath(folder)
        if real in seen:  # a loop of symbolic links
            folders.clear()
            continue
        seen.add(real)
        here = Path(folder)
        names = [*sorted(folders), *sorted(files)]  # thousands, in an unpacked archive
        candidates = [here / name for name in names if NEARLY.match(name)]
        if here == top:
            candidates.insert(0, top.resolve())
        for path in candidates:
            stem = _stem(path.name)
            match = ARCHIVE.match(stem)
            if match and (os.path.isdir(path) or path.name != stem):
                key = (match["part"], match["role"], match["rest"])
                if key not in archives or (INCOMPLETE.search(archives[key].name) and not INCOMPLETE.search(path.name)):
                    archives[key] = path
                elif not INCOMPLETE.search(path.name) and not _within(path, archives[key]):
                    found.copies.append((key, path))
            elif match := NEARLY.match(path.name):
                key = (match["part"].upper(), match["role"].upper(), match["rest"].lower())
                found.nearly.setdefault(key, []).append(path)
        folders[:] = [] if here != top and ARCHIVE.match(here.name) else sorted(folders)
    return found


def _name(key: Key) -> str:
    part, role, rest = key
    return f"{part}{role}_{rest}"


def _below(top: Path, path: Path) -> str:
    return printable(str(path.relative_to(top) if path.is_relative_to(top) else path.name))


def _unread(top: Path, found: _Found) -> Iterator[Unreadable]:
    """What is no archive by its name, but may be one of a recording that there is no other of; and locked folders."""
    for key, paths in sorted(found.nearly.items()):
        name = _name(key)
        if key in found.archives:  # checksums and the like may lie beside it
            paths = [path for path in paths if ZIP.search(path.name)]
        if paths:
            more = f" and {len(paths) - 1} more like it" if len(paths) > 1 else ""
            message = (
                f"{_below(top, paths[0])}{more}: expected {name}.zip or a folder {name}, found another name, not read; "
                "join parts in the order of their numbers, fetch again what is incomplete, rename or remove what "
                "is a copy"
            )
            yield Unreadable(name, "bad_archive_name", message)
    for error in found.locked:
        folder = Path(os.fsdecode(error.filename))
        if folder == top or not ARCHIVE.match(folder.name):  # an archive is told when it is read
            message = (
                f"{_below(top, folder)}: this folder cannot be looked into ({without_path(error)}), and what is in "
                "it was not read; "
                "give yourself the right to read it, or move it elsewhere"
            )
            yield Unreadable(_below(top, folder), "unreadable_folder", message)


def _within(path: Path, other: Path) -> bool:
    """Whether they are the same, or one was unpacked into a folder of its name twice."""
    return path.resolve().is_relative_to(other.resolve())


def _stem(name: str) -> str:
    return ZIP.sub("", INCOMPLETE.sub("", name))


def _nothing_found(top: Path, found: _Found) -> str:
    told = "".join(f"\n  not read:   {item.message}" for item in list(_unread(top, found))[:8])
    inside = [] if told and found.locked else sorted(path.name for path in top.iterdir())[:8]
    labels = len(found.archives)
    alone = f" There are {labels} label archives, but labels alone are not enough." if labels else ""
    return (
        f"data.root={top}: no session of AI Hub #71802 found.{alone}{told}\n"
        "  looked for: TS_<kind>_<nn>_<device>_<MMDD>_<HHMM>.zip (or VS_..., or folders of that name) at any depth,\n"
        "              with TL_... / VL_... of the same stem for the labels\n"
        f"  looked in:  {top} (first entries: "
        f"{', '.join(inside) or ('unknown' if found.locked else 'none, it is empty')})\n"
        "  remedy:     point data.root at the folder that holds Training and Validation, or at one inside it"
    )


def _recording(
    name: str, source: Path, labels: Path | None, schema: Schema, incomplete: bool
) -> Recording | Unreadable:
    for path in (source, labels):
        # a lone part is the whole zip under the downloader's name; of several, none can be read by itself
        if (
            path is not None
            and INCOMPLETE.search(path.name)
            and len(list(path.parent.glob(f"{_stem(path.name)}.zip.part*"))) > 1
        ):
            message = (
                f"{path.name} is one of several parts; join them into {_stem(path.name)}.zip, in the order of "
                "their numbers"
            )
            return Unreadable(name, "incomplete_download", message)
    files = (source,) if labels is None else (source, labels)
    return Recording(name, files, partial(read_session, name, source, labels, schema, incomplete))


def read_session(name: str, source: Path, labels: Path | None, schema: Schema, incomplete: bool = False) -> Session:
    """Read one session; a defective frame is left out and told in `Session.dropped`.

    Args:
        incomplete: a csv need hold no more than half of the channels; the values of the others are NaN.

    Raises:
        DataError: the archive itself cannot be read, or not one frame of it is whole.
    """
    match = ARCHIVE.match(name)
    assert match is not None
    of = match.groupdict()
    with _open(source) as data, _open(labels) as tags:
        seconds, dropped = _clock(data)
        days = Counter(stem.split("_")[1] for stem in seconds if stem.startswith(f"{of['device']}_"))
        if seconds and not days:
            others = ", ".join(sorted({stem.rsplit("_", 1)[0] for stem in seconds})[:3])
            raise DataError(
                f"{source.name}: expected frames of {of['device']}_{of['day']}, found those of {others} alone, as "
                f"{_member(min(seconds), data)}; rename it and its labels to the recording they are of, or fetch it "
                "again"
            )
        if labels is not None:  # a frame known from its label alone has lost two files: still one defect, not none
            of_labels, misnamed = _clock(tags)
            if seconds and of_labels and not seconds.keys() & of_labels.keys():
                raise DataError(
                    f"{tags.name}: its frames match none of {source.name} (first {min(of_labels)} and {min(seconds)}): "
                    "labels of another recording; fetch the label archive again"
                )
            seconds, dropped = {**seconds, **of_labels}, dropped + misnamed
        if 2 * sum(belongs(stem, seconds[stem], of) for stem in seconds) < days.total():  # the archive's own name errs
            of["day"] = days.most_common(1)[0][0]
        for stem in [stem for stem in seconds if not belongs(stem, seconds[stem], of)]:
            del seconds[stem]
            archive = data if any(f"{stem}.{suffix}" in data.files for suffix in ("csv", "bin")) else tags
            message = (
                f"expected frames of {of['device']}_{of['day']}, found another recording's; "
                "remove it, or move it to the archive of its recording"
            )
            dropped.append(Dropped("other_recording", f"{archive.name}: {_member(stem, archive)}", message))
        frames = []
        for stem, time in in_time_order(sorted(seconds), seconds):
            try:
                frames.append((stem, time, *_frame(stem, data, tags, schema, incomplete)))
            except _Defect as defect:
                dropped.append(Dropped(defect.reason, f"{defect.archive}: {defect.member}", defect.message))
    if not frames:
        why = "it holds no file of a frame; fetch it again, or remove it"
        if dropped:
            why = f"{dropped[0].where}: {dropped[0].message}"
        if dropped and not seconds:
            why = f"not one of its files is named as a frame is, the first of {len(dropped)} being {why}"
        raise DataError(f"{source.name}: no usable frame ({why})")
    stems, times, sensors, environment, thermal, state = zip(*frames, strict=True)
    return Session(
        name=name,
        device=match["device"],
        kind=match["device"].rstrip("0123456789"),
        time=np.array(times, np.int64),
        sensors=np.array(sensors, np.float32).reshape(len(times), -1),
        environment=np.array(environment, np.float32).reshape(len(times), -1),
        thermal=np.stack(thermal) if schema.thermal else None,
        state=np.array(state, np.int64) if labels is not None else None,
        dropped=dropped,
        where=partial(_where, source.name, tags.name, stems),
    )


def _where(source: str, labels: str, stems: tuple[str, ...], what: str, second: int) -> str:
    suffix = {"sensors": "csv", "thermal": "bin", "environment": "json"}[what]
    return f"{labels if suffix == 'json' else source}: {stems[second]}.{suffix}"


def _open(path: Path | None) -> Archive:
    try:
        return Archive(path)
    except Unusable as error:
        assert path is not None
        raise DataError(f"{path.name}: cannot be read as an archive ({error}); fetch it again") from error


def _clock(archive: Archive) -> tuple[dict[str, int], list[Dropped]]:
    """Second of the day of each stem, and files of frames whose name tells none."""
    seconds, misnamed = {}, []
    for name in sorted(archive.files):
        message = ""
        if match := FRAME.match(name):
            hour, minute, second = (int(match[unit]) for unit in ("hour", "minute", "second"))
            if hour > 23 or minute > 59 or second > 59:
                message = (
                    f"expected a time of day, HHMMSS, at the end of the name, found {match['stem'][-6:]}; "
                    "rename the file"
                )
            else:
                seconds[match["stem"]] = hour * 3600 + minute * 60 + second
        elif name.lower().endswith(FRAME_SUFFIXES) and not name.startswith("."):  # hidden: a Mac leaves them
            message = (
                "expected a name as oht01_0827_101105.csv, .bin or .json, found another; rename the file, or remove it"
            )
        if message:
            misnamed.append(Dropped("bad_name", f"{archive.name}: {printable(name)}", message))
    return seconds, misnamed


def _member(stem: str, archive: Archive) -> str:
    return next(name for suffix in ("csv", "bin", "json") if (name := f"{stem}.{suffix}") in archive.files)


def belongs(stem: str, second: int, archive: Mapping[str, str]) -> bool:
    """Whether a frame is of the device and the day in its archive's name; over midnight, of the day after it or before
    it."""
    device, day, _ = stem.split("_")
    if device != archive["device"] or day == archive["day"]:
        return device == archive["device"]
    start = int(archive["start"][:2]) * 3600 + int(archive["start"][2:]) * 60
    later = second < start
    return (later or second > start + DAY / 2) and day in _neighbours(archive["day"], 1 if later else -1)


@lru_cache
def _neighbours(day: str, step: int) -> set[str]:
    """The day before or after, MMDD; two where it depends on the year, of which the names say nothing."""
    found = set()
    for year in (2023, 2024):
        try:
            found.add(f"{date(year, int(day[:2]), int(day[2:])) + timedelta(step):%m%d}")
        except ValueError:  # no day of that year
            continue
    return found


def in_time_order(stems: list[str], seconds: dict[str, int]) -> list[tuple[str, int]]:
    """(stem, seconds since the first frame). A recording over midnight starts before its largest silence."""
    if not stems:
        return []
    ordered = sorted(stems, key=lambda stem: seconds[stem])
    clock = np.array([seconds[stem] for stem in ordered])
    silence = np.diff(clock, append=clock[0] + DAY)
    first = (int(silence.argmax()) + 1) % len(clock)
    times = (np.roll(clock, -first) - clock[first]) % DAY
    return list(zip(ordered[first:] + ordered[:first], times.tolist(), strict=True))


class _Defect(Exception):
    """One frame cannot be used."""

    def __init__(self, reason: str, archive: str, member: str, expected: str, found: str, remedy: str):
        super().__init__(reason)
        self.reason, self.archive, self.member = reason, archive, member
        self.message = f"expected {expected}, found {found}; {remedy}"


def _frame(
    stem: str, data: Archive, tags: Archive, schema: Schema, incomplete: bool
) -> tuple[list[float], list[float], np.ndarray | None, int]:
    """Sensors, environment, thermal frame and state of one second."""

    def parse(suffix: str, archive: Archive, limit: int, parser: Callable, *arguments: Any) -> Any:
        name = f"{stem}.{suffix}"
        if name not in archive.files:
            raise _Defect(
                f"missing_{suffix}",
                archive.name,
                name,
                "the file",
                "none of that name",
                "fetch or unpack the archive again",
            )
        try:
            return parser(archive.read(name, limit), *arguments)
        except Unusable as error:
            raise _Defect(
                f"bad_{suffix}", archive.name, name, "a whole file", str(error), "fetch the archive again"
            ) from error
        except Wrong as wrong:
            raise _Defect(f"bad_{suffix}", archive.name, name, wrong.expected, wrong.found, REMEDY[suffix]) from wrong

    sensors = parse("csv", data, TEXT_LIMIT["csv"], parse_csv, tuple(schema.channels), incomplete)
    thermal = None
    if schema.thermal:
        thermal = parse("bin", data, bin_limit(schema.thermal.shape), parse_bin, schema.thermal.shape)
    if not tags.there:
        return sensors, [np.nan] * len(schema.environment), thermal, 0
    state, environment = parse(
        "json", tags, TEXT_LIMIT["json"], parse_json, len(schema.states), tuple(schema.environment)
    )
    return sensors, environment, thermal, state


def read_frame(
    folder: Path, stem: str, schema: Schema, labels: Path | None = None
) -> tuple[list[float], list[float], np.ndarray | None]:
    """Sensors, environment and thermal frame of one second that a collector has written; no label is asked for.

    Args:
        folder: of the csv and the bin; some channels may be missing.
        labels: folder of the json that holds the environment; None: there is none, and the environment is NaN.

    Raises:
        DataError: a file is not there yet, or not whole.
    """
    try:
        sensors = parse_csv(read_file(folder / f"{stem}.csv", TEXT_LIMIT["csv"]), tuple(schema.channels), True)
        thermal = None
        if schema.thermal:
            raw = read_file(folder / f"{stem}.bin", bin_limit(schema.thermal.shape))
            thermal = parse_bin(raw, schema.thermal.shape)
        if labels is None:
            return sensors, [math.nan] * len(schema.environment), thermal
        label = load_json(read_file(labels / f"{stem}.json", TEXT_LIMIT["json"]), tuple(schema.environment))
    except (OSError, ValueError, Unusable, Wrong) as error:
        found = f"expected {error.expected}, found {error.found}" if isinstance(error, Wrong) else str(error)
        raise DataError(f"{folder.name}: {stem}: {found}") from error
    return sensors, [environment_value(label, name) for name in schema.environment], thermal
