"""Follow tables while they grow: csv files line by line, parquet files once they are complete."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.live.follower import AT_A_TIME, PATIENCE
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session, Unreadable
from conveyorguard.data.table.discover import is_text, no_text, same_name
from conveyorguard.data.table.files import is_table, without_suffix
from conveyorguard.data.table.layout import Layout
from conveyorguard.data.table.reader import recordings_in
from conveyorguard.errors import DataError


@dataclass
class _TableFile:
    """State of a table when it was last read.

    Attributes:
        size: size [bytes].
        status: size and modification time of the table and of its camera files.
        growing: whether one of these was written within `PATIENCE`.
        cameras: its camera files.
        waiting_since: when the wait for a missing picture began; None while nothing is waited for.
    """

    size: int = 0
    status: tuple = ()
    growing: bool = True
    cameras: tuple[Path, ...] = ()
    waiting_since: float | None = None


class Tables:
    """Follows csv files line by line, and parquet files once they are complete."""

    def __init__(self, root: Path, schema: Schema, layout: Layout):
        self.root, self.schema, self.layout = root, schema, layout
        self.notices: list[str] = []
        self.known: dict[str, Any] = {}
        self.files: dict[Path, _TableFile] = {}
        self.next: dict[str, int] = {}
        self.noticed: set[str] = set()

    def skip(self, name: str, second: int) -> None:
        """Skip the seconds of a recording before `second`."""
        self.next[name] = second

    def poll(self) -> Iterator[Session]:
        """Yield the seconds that have become complete since the last call."""
        names: dict[str, Path] = {}
        for path in self._tables(self.root):
            name = self._name(path)
            if not is_text(name):
                self._notice(no_text(path))
                continue
            if (first := names.setdefault(name, path)) != path:
                self._notice(same_name(first, path))
                continue
            file = self.files.setdefault(path, _TableFile())
            try:
                stats = [written.stat() for written in (path, *file.cameras)]
            except OSError:  # the file has been removed
                continue
            status = tuple((s.st_size, s.st_mtime_ns) for s in stats)
            growing = time.time() - max(s.st_mtime for s in stats) < PATIENCE
            if status == file.status and growing == file.growing and not file.waiting_since:
                continue
            if stats[0].st_size < file.size:
                self._notice(f"{path.name} has become shorter. Write each recording to a new file.")
            file.size, file.status, file.growing = stats[0].st_size, status, growing
            yield from self._new(path, file)

    def _tables(self, folder: Path) -> Iterator[Path]:
        """Yield the tables below a folder, sorted; hidden files and the folder of camera files are skipped."""
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            if entry.name.startswith((".", "~")):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not (folder == self.root and entry.name == self.layout.thermal_folder):
                    yield from self._tables(Path(entry.path))
            elif is_table(Path(entry.path)):
                yield Path(entry.path)

    def _name(self, path: Path) -> str:
        """Return the name of the session: the path below the root without its suffix."""
        return without_suffix(path.relative_to(self.root)).as_posix()

    def _notice(self, message: str) -> None:
        """Add a message to the notices once."""
        if message not in self.noticed:
            self.noticed.add(message)
            self.notices.append(message)

    def _new(self, path: Path, file: _TableFile) -> Iterator[Session]:
        """Yield the new seconds of a table."""
        for item in recordings_in(self._name(path), path, self.root, self.schema, self.layout, file.growing):
            if isinstance(item, Recording):
                file.cameras = tuple(dict.fromkeys([*file.cameras, *item.files[1:]]))
                yield from self._new_seconds(item, file)
            elif not file.growing:
                self._notice(f"{item.name}: {item.message}" if isinstance(item, Unreadable) else str(item))

    def _new_seconds(self, item: Recording, file: _TableFile) -> Iterator[Session]:
        """Yield the new seconds of a recording of a table."""
        try:
            session = item.read()
        except DataError as error:
            if not file.growing:
                self._notice(f"{item.name}: {error}")
            return
        end = len(session.time) - (session.averaged and file.growing)  # the last mean is of an unfinished second
        first = self.next.get(item.name, 0)
        begin = int(np.searchsorted(session.time[:end], first))
        if file.growing and len(item.files) > 1 and begin < end:
            end = self._before_a_gap(session.time[:end], begin, first or int(session.time[begin]), file)
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
                period=session.period,
                start=session.start,
                zone=session.zone,
            )
            self.next[item.name] = int(session.time[rows][-1]) + 1

    @staticmethod
    def _before_a_gap(seconds: np.ndarray, begin: int, first: int, file: _TableFile) -> int:
        """Return the row up to which seconds are consecutive, given that second `first` is due at row `begin`.

        A gap is a missing picture: once it was waited for longer than `PATIENCE`, all rows are returned.
        """
        new = seconds[begin:]
        gaps = np.flatnonzero(new != first + np.arange(len(new)))
        now = time.monotonic()
        if not len(gaps) or now - (file.waiting_since or now) > PATIENCE:
            file.waiting_since = None
            return len(seconds)
        file.waiting_since = file.waiting_since or now
        return begin + int(gaps[0])
