"""Tables while they grow: csv files line by line, parquet files when they are whole."""

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
    """A table: what it and its frames looked like when it was read, whether somebody was writing it then, and since
    when one of its pictures is waited for."""

    size: int = 0
    looked: tuple = ()
    growing: bool = True
    cameras: tuple[Path, ...] = ()
    stuck: float | None = None


class Tables:
    """Csv files that grow, line by line; parquet files when they are whole."""

    def __init__(self, root: Path, schema: Schema, layout: Layout):
        self.root, self.schema, self.layout = root, schema, layout
        self.notices: list[str] = []
        self.known: dict[str, Any] = {}
        self.files: dict[Path, _TableFile] = {}
        self.next: dict[str, int] = {}
        self.noticed: set[str] = set()

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
            file = self.files.setdefault(path, _TableFile())
            try:
                status = [written.stat() for written in (path, *file.cameras)]
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
            elif is_table(Path(entry.name)):
                yield Path(entry.path)

    def _name(self, path: Path) -> str:
        return without_suffix(path.relative_to(self.root)).as_posix()

    def _notice(self, sentence: str) -> None:
        if sentence not in self.noticed:
            self.noticed.add(sentence)
            self.notices.append(sentence)

    def _new(self, path: Path, file: _TableFile) -> Iterator[Session]:
        """New seconds of a file."""
        for item in recordings_in(self._name(path), path, self.root, self.schema, self.layout, file.growing):
            if isinstance(item, Recording):
                file.cameras = tuple(dict.fromkeys([*file.cameras, *item.files[1:]]))
                yield from self._of(item, file)
            elif not file.growing:
                self._notice(f"{item.name}: {item.message}" if isinstance(item, Unreadable) else str(item))

    def _of(self, item: Recording, file: _TableFile) -> Iterator[Session]:
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
    def _before_a_gap(seconds: np.ndarray, begin: int, wanted: int, file: _TableFile) -> int:
        """Where the seconds end that follow each other; a picture that is missing is waited for."""
        new = seconds[begin:]
        gaps = np.flatnonzero(new != wanted + np.arange(len(new)))
        now = time.monotonic()
        if not len(gaps) or now - (file.stuck or now) > PATIENCE:
            file.stuck = None
            return len(seconds)
        file.stuck = file.stuck or now
        return begin + int(gaps[0])
