"""Recordings that are still being written: what is new in a folder, second by second.

A follower's `poll` gives new seconds as `Session`s: each second once, when it is whole, in the order of time. A second
that is not whole, or is missing while later ones are there, is waited for, and after `PATIENCE` left out.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session, Unreadable
from conveyorguard.data.table import reader as table
from conveyorguard.data.table.columns import SUFFIXES
from conveyorguard.data.table.discover import is_text, no_text, same_name
from conveyorguard.errors import ConfigError, DataError

PATIENCE = 3.0  # s that a second which is missing or not whole is waited for
SILENCE = 300  # s; after so long without a frame, loose files of a device are a new recording
AT_A_TIME = 600  # s of a recording given at once, where it is long already
DAY = 86400
RESOLUTION = 2.0  # s; a folder changed more recently may change again and look the same


class Follower(Protocol):
    """What is new in a folder.

    notices: what a person should see; whoever reads them empties the list.
    known: plain values for the next follower of the folder, so that recordings keep their names and clocks.
    """

    notices: list[str]
    known: dict[str, Any]

    def poll(self) -> Iterator[Session]:
        """Seconds that have become whole since the last call."""

    def skip(self, name: str, second: int) -> None:
        """Of a recording, only seconds from this one on are wanted."""


def follow(reader: Any, root: str | Path, schema: Schema, known: dict[str, Any]) -> Follower:
    """The follower of a folder.

    Args:
        reader: of `data.reader`; AI Hub frame files and tables can be followed.
        known: of an earlier follower, or empty.

    Raises:
        ConfigError: the reader is of another format, or there is no such folder.
    """
    if not Path(root).is_dir():
        raise ConfigError(f"data.root={root}: no such folder; --watch follows a folder into which a collector writes")
    function = getattr(reader, "func", reader)
    if function is archive.sessions:
        return FrameFiles(Path(root), schema, known)
    if function is table.sessions:
        options = {**getattr(reader, "keywords", {}), "incomplete": True}
        return Tables(Path(root), schema, table.Layout.of(options))
    raise ConfigError(
        f"--watch follows data=aihub and tables, not {function.__module__}; run predict without it, as often as needed"
    )


# --- frame files ---------------------------------------------------------------------------------------------------


@dataclass
class _Live:
    """A recording of frame files. `waiting` holds the stems of seconds that have not been given, `next` is the first of
    them that may come."""

    name: str
    device: str
    folder: Path
    origin: int
    waiting: dict[int, str] = field(default_factory=dict)
    next: int = 0
    last: int = 0
    stuck: float | None = None
    labels_late: bool = False


class FrameFiles:
    """AI Hub frame files: in folders named as the archives are, or loose, and then each device's are a recording."""

    def __init__(self, root: Path, schema: Schema, known: dict[str, Any]):
        self.root, self.schema = root, schema
        self.known: dict[str, list[int]] = known  # folder and device -> origins of its recordings, ascending
        self.notices: list[str] = []
        self.live: dict[str, _Live] = {}
        self.labels: dict[str, Path] = {}  # rest of the stem, or a folder -> where its json files are
        self.folders: dict[Path, tuple[int, float, list[Path]]] = {}  # time of change, when that was seen first, below
        self.skipped: dict[str, int] = {}
        self.foreign: set[tuple[Path, str]] = set()  # frames of other recordings, told already

    def skip(self, name: str, second: int) -> None:
        self.skipped[name] = second

    def poll(self) -> Iterator[Session]:
        waiting = [self.root]
        while waiting:
            folder = waiting.pop()
            self._look(folder)
            waiting += self.folders[folder][2]
        for live in list(self.live.values()):
            yield from self._whole(live)

    def _look(self, folder: Path) -> None:
        """Find new frames of a folder; one that has not changed is not read again."""
        try:
            changed, now = folder.stat().st_mtime_ns, time.monotonic()
            before, since, below = self.folders.get(folder, (0, now, []))
            if changed == before and now - since > RESOLUTION:
                return
            with os.scandir(folder) as entries:
                found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError:  # it has been removed
            self.folders[folder] = (0, 0.0, [])
            return
        self.folders[folder] = (
            changed,
            since if changed == before else now,
            [folder / name for name, is_folder in found if is_folder],
        )
        matches = [match for name, is_folder in found if not is_folder and (match := archive.FRAME.match(name))]
        named = archive.ARCHIVE.match(folder.name)
        if any(match["suffix"] == "json" for match in matches):
            self.labels[named["rest"] if named else str(folder)] = folder
        stems = {match["stem"]: match for match in matches if match["suffix"] != "json"}
        if named and named["role"] == "S":
            self._archive(folder, named, stems)
        elif not named and stems:
            self._loose(folder, stems)

    def _archive(self, folder: Path, named: re.Match[str], stems: dict[str, Any]) -> None:
        clock = {stem: int(m["hour"]) * 3600 + int(m["minute"]) * 60 + int(m["second"]) for stem, m in stems.items()}
        for stem in [stem for stem in clock if not archive.belongs(stem, clock[stem], named.groupdict())]:
            del clock[stem]
            if (folder, stem) not in self.foreign:
                self.foreign.add((folder, stem))
                self.notices.append(
                    f"{folder.name}: {stem} is left out: of another recording than the folder's name says"
                )
        key = folder.relative_to(self.root).as_posix()
        if not clock:
            return
        if key not in self.known:
            first, _ = archive.in_time_order([*clock], clock)[0]
            self.known[key] = [clock[first]]
        origin = self.known[key][0]
        live = self._recording(folder.name, named["device"], folder, origin)
        for stem, second in clock.items():
            self._add(live, (second - origin) % DAY, stem)

    def _loose(self, folder: Path, stems: dict[str, Any]) -> None:
        for stem in sorted(stems):
            device, day = stem.split("_")[:2]
            match = stems[stem]
            try:
                days = date(2000, int(day[:2]), int(day[2:])).timetuple().tm_yday
            except ValueError:
                days = 0
            clock = days * DAY + int(match["hour"]) * 3600 + int(match["minute"]) * 60 + int(match["second"])
            below = folder.relative_to(self.root).as_posix()
            origins = self.known.setdefault(f"{below}/{device}", [])
            earlier = [origin for origin in origins if origin <= clock]
            live = self._loose_recording(folder, below, device, earlier[-1]) if earlier else None
            if live is None or ((live.last or live.next) and clock - live.origin - max(live.last, live.next) > SILENCE):
                origins.append(clock)
                origins.sort()
                live = self._loose_recording(folder, below, device, clock)
            self._add(live, clock - live.origin, stem)

    def _loose_recording(self, folder: Path, below: str, device: str, origin: int) -> _Live:
        day, second = date.fromordinal(date(2000, 1, 1).toordinal() + origin // DAY - 1), origin % DAY
        name = f"{device}_{day:%m%d}_{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
        return self._recording(name if below == "." else f"{below}/{name}", device, folder, origin)

    def _recording(self, name: str, device: str, folder: Path, origin: int) -> _Live:
        if name not in self.live:
            self.live[name] = _Live(name, device, folder, origin, next=self.skipped.get(name, 0))
        return self.live[name]

    def _add(self, live: _Live, second: int, stem: str) -> None:
        if second >= live.next and (second < DAY / 2 or second < live.next + DAY / 2):
            live.waiting[second] = stem
            live.last = max(live.last, second)

    def _whole(self, live: _Live) -> Iterator[Session]:
        """The seconds of a recording that are whole now."""
        rows: list[tuple[int, Any]] = []
        began = live.next > 0
        for second in sorted(live.waiting):
            stem = live.waiting[second]
            if began and second > live.next and not self._overdue(live, stem):
                break  # the seconds between may still come
            frame, problem = self._read(live, stem)
            if frame is None and not self._overdue(live, stem):
                break
            del live.waiting[second]
            live.next, live.stuck, began = second + 1, None, True
            if frame is None:
                self.notices.append(f"{live.name}: second {second} is left out: {problem}")
                continue
            rows.append((second, frame))
            if len(rows) == AT_A_TIME:
                yield self._session(live, rows)
                rows = []
        if rows:
            yield self._session(live, rows)

    def _overdue(self, live: _Live, stem: str) -> bool:
        """Whether the second of a stem, or what is missing before it, has been waited for long enough."""
        now = time.monotonic()
        live.stuck = live.stuck or now
        if now - live.stuck > PATIENCE:
            return True
        ages = [
            time.time() - path.stat().st_mtime for s in ("csv", "bin") if (path := live.folder / f"{stem}.{s}").exists()
        ]
        return bool(ages) and min(ages) > PATIENCE

    def _read(self, live: _Live, stem: str) -> tuple[Any, str]:
        """A frame, or None and why."""
        named = archive.ARCHIVE.match(live.folder.name)
        labels = self.labels.get(named["rest"] if named else str(live.folder))
        try:
            return archive.read_frame(live.folder, stem, self.schema, labels), ""
        except DataError as error:
            if labels is None:
                return None, str(error)
        if not live.labels_late and not self._overdue(live, stem):
            return None, ""
        try:  # the environment, that came with a json before, does no more
            frame = archive.read_frame(live.folder, stem, self.schema, None)
        except DataError as error:
            return None, str(error)
        live.labels_late = True
        return frame, ""

    def _session(self, live: _Live, rows: list[tuple[int, Any]]) -> Session:
        times, frames = zip(*rows, strict=True)
        sensors, environment, thermal = zip(*frames, strict=True)
        count = len(times)
        return Session(
            live.name,
            live.device,
            live.device.rstrip("0123456789"),
            np.array(times, np.int64),
            np.array(sensors, np.float32).reshape(count, -1),
            np.array(environment, np.float32).reshape(count, -1),
            np.stack(thermal) if self.schema.thermal else None,
        )


# --- tables --------------------------------------------------------------------------------------------------------


@dataclass
class _File:
    """A table: what it and its frames looked like when it was read, whether somebody was writing it then, and since
    when one of its pictures is waited for."""

    size: int = 0
    looked: tuple = ()
    growing: bool = True
    cameras: tuple[Path, ...] = ()
    stuck: float | None = None


class Tables:
    """Csv files that grow, line by line; parquet files when they are whole."""

    def __init__(self, root: Path, schema: Schema, layout: table.Layout):
        self.root, self.schema, self.layout = root, schema, layout
        self.notices: list[str] = []
        self.known: dict[str, Any] = {}
        self.files: dict[Path, _File] = {}
        self.next: dict[str, int] = {}
        self.told: set[str] = set()

    def skip(self, name: str, second: int) -> None:
        self.next[name] = second

    def poll(self) -> Iterator[Session]:
        names: dict[str, Path] = {}
        for path in self._tables(self.root):
            name = self._name(path)
            if not is_text(name):
                self._notice(no_text(path))
                continue
            if (first := names.setdefault(name, path)) != path:
                self._notice(same_name(first, path))
                continue
            file = self.files.setdefault(path, _File())
            try:
                status = [one.stat() for one in (path, *file.cameras)]
            except OSError:  # it has been removed
                continue
            looked = tuple((s.st_size, s.st_mtime_ns) for s in status)
            growing = time.time() - max(s.st_mtime for s in status) < PATIENCE
            if looked == file.looked and growing == file.growing and not file.stuck:
                continue
            if status[0].st_size < file.size:
                self._notice(f"{path.name} has become shorter; give every recording a file of its own")
            file.size, file.looked, file.growing = status[0].st_size, looked, growing
            yield from self._new(path, file)

    def _tables(self, folder: Path) -> Iterator[Path]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            if entry.name.startswith((".", "~")):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not (folder == self.root and entry.name == self.layout.thermal_folder):
                    yield from self._tables(Path(entry.path))
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                yield Path(entry.path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).with_suffix("").as_posix()

    def _notice(self, sentence: str) -> None:
        if sentence not in self.told:
            self.told.add(sentence)
            self.notices.append(sentence)

    def _new(self, path: Path, file: _File) -> Iterator[Session]:
        """New seconds of a file."""
        for item in table.recordings_in(self._name(path), path, self.root, self.schema, self.layout, file.growing):
            if isinstance(item, Recording):
                file.cameras = tuple(dict.fromkeys([*file.cameras, *item.files[1:]]))
                yield from self._of(item, file)
            elif not file.growing:
                self._notice(f"{item.name}: {item.message}" if isinstance(item, Unreadable) else str(item))

    def _of(self, item: Recording, file: _File) -> Iterator[Session]:
        try:
            session = item.read()
        except DataError as error:
            if not file.growing:
                self._notice(f"{item.name}: {error}")
            return
        end = len(session.time) - (session.averaged and file.growing)  # the mean of a second that is not over
        wanted = self.next.get(item.name, 0)
        begin = int(np.searchsorted(session.time[:end], wanted))
        if file.growing and len(item.files) > 1 and begin < end:
            end = self._before_a_gap(session.time[:end], begin, wanted or int(session.time[begin]), file)
        for defect in session.dropped:
            if not file.growing or defect.reason != "bad_picture":  # the picture may still come
                self._notice(f"{item.name}: {defect.where}: {defect.message}")
        for start in range(begin, end, AT_A_TIME):
            rows = slice(start, min(start + AT_A_TIME, end))
            yield Session(
                session.name,
                session.device,
                session.kind,
                session.time[rows],
                session.sensors[rows],
                session.environment[rows],
                None if session.thermal is None else session.thermal[rows],
            )
            self.next[item.name] = int(session.time[rows][-1]) + 1

    @staticmethod
    def _before_a_gap(seconds: np.ndarray, begin: int, wanted: int, file: _File) -> int:
        """Where the seconds end that follow each other; a picture that is missing is waited for."""
        new = seconds[begin:]
        gaps = np.flatnonzero(new != wanted + np.arange(len(new)))
        now = time.monotonic()
        if not len(gaps) or now - (file.stuck or now) > PATIENCE:
            file.stuck = None
            return len(seconds)
        file.stuck = file.stuck or now
        return begin + int(gaps[0])
