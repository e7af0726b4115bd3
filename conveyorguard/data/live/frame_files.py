"""Follow AI Hub frame files while a collector writes them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.archive.frames import read_frame
from conveyorguard.data.archive.names import ARCHIVE, DAY, FRAME, belongs, in_time_order, second_of_day
from conveyorguard.data.live.follower import AT_A_TIME, PATIENCE
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.errors import DataError

SILENCE = 300  # s without a frame after which loose files of a device are a new recording
RESOLUTION = 2.0  # s; a folder may change again within this time without a new modification time


@dataclass
class _Live:
    """A recording of frame files; seconds count from `origin`.

    Attributes:
        origin: first second, of the day in an archive folder, of the year for loose files.
        waiting: stems of the seconds that were not yielded yet.
        next: first second that may still be yielded.
        last: latest second seen.
        waiting_since: when the wait for the next second began; None while nothing is waited for.
        labels_late: whether labels, which hold the environment, have ever come too late.
    """

    name: str
    device: str
    folder: Path
    origin: int
    waiting: dict[int, str] = field(default_factory=dict)
    next: int = 0
    last: int = 0
    waiting_since: float | None = None
    labels_late: bool = False


class FrameFiles:
    """Follows frame files, in folders named like archives or loose; loose ones are grouped by device and by pauses."""

    def __init__(self, root: Path, schema: Schema, known: dict[str, Any]):
        self.root, self.schema = root, schema
        self.known: dict[str, list[int]] = known  # folder and device -> origins of its recordings, ascending
        self.notices: list[str] = []
        self.live: dict[str, _Live] = {}
        self.labels: dict[str, Path] = {}  # an archive's rest of the stem, or a folder -> folder of its json files
        self.folders: dict[
            Path, tuple[int, float, list[Path]]
        ] = {}  # modification time, when it was first seen, subfolders
        self.skipped: dict[str, int] = {}
        self.foreign: set[tuple[Path, str]] = set()  # frames of other recordings, already reported

    def skip(self, name: str, second: int) -> None:
        """Skip the seconds of a recording before `second`."""
        self.skipped[name] = second

    def poll(self) -> Iterator[Session]:
        """Yield the seconds that have become complete since the last call."""
        folders = [self.root]
        while folders:
            folder = folders.pop()
            self._scan(folder)
            folders += self.folders[folder][2]
        for live in list(self.live.values()):
            yield from self._complete(live)

    def _scan(self, folder: Path) -> None:
        """Add the new frames of a folder to their recordings."""
        names = self._changed(folder)
        matches = [match for name in names if (match := FRAME.match(name))]
        archive = ARCHIVE.match(folder.name)
        if any(match["suffix"] == "json" for match in matches):
            self.labels[archive["rest"] if archive else str(folder)] = folder
        clock = {match["stem"]: second_of_day(match) for match in matches if match["suffix"] != "json"}
        if archive and archive["role"] == "S":
            self._archive(folder, archive, clock)
        elif not archive and clock:
            self._loose(folder, clock)

    def _changed(self, folder: Path) -> list[str]:
        """Return the names of a folder's files; none where it has not changed since it was read."""
        try:
            changed, now = folder.stat().st_mtime_ns, time.monotonic()
            before, since, _ = self.folders.get(folder, (0, now, []))
            if changed == before and now - since > RESOLUTION:
                return []
            with os.scandir(folder) as entries:
                names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError:  # the folder has been removed
            self.folders[folder] = (0, 0.0, [])
            return []
        below = [folder / name for name, is_folder in names if is_folder]
        self.folders[folder] = (changed, since if changed == before else now, below)
        return [name for name, is_folder in names if not is_folder]

    def _archive(self, folder: Path, archive: re.Match[str], clock: dict[str, int]) -> None:
        """Add the frames of a folder named like an archive; clock holds the second of the day by stem."""
        for stem in [stem for stem in clock if not belongs(stem, clock[stem], archive.groupdict())]:
            del clock[stem]
            if (folder, stem) not in self.foreign:
                self.foreign.add((folder, stem))
                self.notices.append(
                    f"{folder.name}: {stem} is left out: it belongs to another recording. Move it to the right folder."
                )
        if not clock:
            return
        key = folder.relative_to(self.root).as_posix()
        if key not in self.known:
            first, _ = in_time_order([*clock], clock)[0]
            self.known[key] = [clock[first]]
        origin = self.known[key][0]
        live = self._recording(folder.name, archive["device"], folder, origin)
        for stem, second in clock.items():
            self._add(live, (second - origin) % DAY, stem)

    def _loose(self, folder: Path, clock: dict[str, int]) -> None:
        """Add frames of a folder that is not named like an archive; a pause beyond SILENCE begins a recording."""
        below = folder.relative_to(self.root).as_posix()
        for stem in sorted(clock):
            device, day = stem.split("_")[:2]
            second = _day_of_year(day) * DAY + clock[stem]
            origins = self.known.setdefault(f"{below}/{device}", [])
            earlier = [origin for origin in origins if origin <= second]
            live = self._loose_recording(folder, below, device, earlier[-1]) if earlier else None
            if live is None or (
                (live.last or live.next) and second - live.origin - max(live.last, live.next) > SILENCE
            ):
                origins.append(second)
                origins.sort()
                live = self._loose_recording(folder, below, device, second)
            self._add(live, second - live.origin, stem)

    def _loose_recording(self, folder: Path, below: str, device: str, origin: int) -> _Live:
        """Return the recording of loose files that begins at `origin`, named by device, date and time."""
        day, second = date.fromordinal(date(2000, 1, 1).toordinal() + origin // DAY - 1), origin % DAY
        name = f"{device}_{day:%m%d}_{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
        return self._recording(name if below == "." else f"{below}/{name}", device, folder, origin)

    def _recording(self, name: str, device: str, folder: Path, origin: int) -> _Live:
        """Return the recording of this name; it is created on the first call."""
        if name not in self.live:
            self.live[name] = _Live(name, device, folder, origin, next=self.skipped.get(name, 0))
        return self.live[name]

    def _add(self, live: _Live, second: int, stem: str) -> None:
        """Add a frame to a recording unless its second is past or, as times wrap at midnight, seems to be."""
        if second >= live.next and (second < DAY / 2 or second < live.next + DAY / 2):
            live.waiting[second] = stem
            live.last = max(live.last, second)

    def _complete(self, live: _Live) -> Iterator[Session]:
        """Yield the seconds of a recording that are complete now."""
        rows: list[tuple[int, Any]] = []
        began = live.next > 0
        for second in sorted(live.waiting):
            stem = live.waiting[second]
            if began and second > live.next and not self._overdue(live, stem):
                break  # earlier seconds may still come
            frame, problem = self._read(live, stem)
            if frame is None and not self._overdue(live, stem):
                break
            del live.waiting[second]
            live.next, live.waiting_since, began = second + 1, None, True
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
        """Return whether the second of a stem, or one missing before it, was waited for longer than PATIENCE."""
        now = time.monotonic()
        live.waiting_since = live.waiting_since or now
        if now - live.waiting_since > PATIENCE:
            return True
        ages = [
            time.time() - path.stat().st_mtime for s in ("csv", "bin") if (path := live.folder / f"{stem}.{s}").exists()
        ]
        return bool(ages) and min(ages) > PATIENCE

    def _read(self, live: _Live, stem: str) -> tuple[Any, str]:
        """Return a frame, or None and the problem."""
        archive = ARCHIVE.match(live.folder.name)
        labels = self.labels.get(archive["rest"] if archive else str(live.folder))
        try:
            return read_frame(live.folder, stem, self.schema, labels), ""
        except DataError as error:
            if labels is None:
                return None, str(error)
        if not live.labels_late and not self._overdue(live, stem):
            return None, ""
        try:  # the labels are late: go on without the environment
            frame = read_frame(live.folder, stem, self.schema, None)
        except DataError as error:
            return None, str(error)
        live.labels_late = True
        return frame, ""

    def _session(self, live: _Live, rows: list[tuple[int, Any]]) -> Session:
        """Return a session of these seconds and frames of a recording."""
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


def _day_of_year(day: str) -> int:
    """Return the day of the year of MMDD as in a leap year; 0 for an impossible date."""
    try:
        return date(2000, int(day[:2]), int(day[2:])).timetuple().tm_yday
    except ValueError:
        return 0
