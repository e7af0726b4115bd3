"""Files of a watch: append-only tables; that of windows starts a new file each day and keeps to a limit on disk use."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from conveyorguard.errors import ConfigError, RunError

BLOCK = 1 << 16  # bytes that are read at a time to find the last line
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}  # bytes
DISK = "20GB"  # a month of 36 devices, at one row per second each
FILES = 4  # a file is closed at this part of the cap, so that removing the oldest leaves most of the others


def bytes_of(text: str) -> int:
    """Read a size on disk such as `20GB` or `500MB`.

    Raises:
        ConfigError: the text is no such size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(kB|MB|GB|TB)", text)
    if match is None or not float(match[1]):
        raise ConfigError(f"disk={text}: expected a size such as 500MB or {DISK}")
    return round(float(match[1]) * UNITS[match[2]])


def text_of_bytes(size: int) -> str:
    """Return a size on disk as text that `bytes_of` reads, in the largest unit of which it has one: `20GB`."""
    unit = max((unit for unit in UNITS if UNITS[unit] <= size), key=UNITS.__getitem__, default="kB")
    return f"{size / UNITS[unit]:g}{unit}"


class AppendedTable:
    """A csv file that is only appended to; opening it removes a last row that a crash cut short.

    Args:
        path: the file; created with a header if it is missing or empty.
        columns: the names in its header.

    Raises:
        RunError: the file has other columns.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns = path, columns
        self._open()

    def _open(self) -> None:
        self.stream = self.path.open("a+b")
        self.stream.truncate(self._whole())
        self.stream.seek(0)
        header = self.stream.readline().decode("utf-8")
        if not header.strip():
            self._append([self.columns])
        elif next(csv.reader([header])) != list(self.columns):
            self.stream.close()
            raise RunError(f"{self.path}: its columns are not those of this run; give another out=FOLDER")

    def _whole(self) -> int:
        """Return the number of bytes up to the end of the last whole line."""
        end = self.size
        while end:
            begin = max(end - BLOCK, 0)
            self.stream.seek(begin)
            last = self.stream.read(end - begin).rfind(b"\n")
            if last >= 0:
                return begin + last + 1
            end = begin
        return 0

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self.stream.fileno()).st_size

    def rows(self, position: int = 0) -> Iterator[dict[str, str]]:
        """Yield the rows from a position [bytes] on as text, by column."""
        with self.path.open("rb") as stream:
            if position:
                stream.seek(min(position, self.size))
            else:
                stream.readline()
            yield from csv.DictReader(io.TextIOWrapper(stream, "utf-8", newline=""), self.columns)

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Append rows and flush them to disk."""
        if rows:
            self._append([[row[name] for name in self.columns] for row in rows])

    def _append(self, rows: list) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.stream.write(text.getvalue().encode("utf-8"))  # a single write: complete, or cut short at its end
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def close(self) -> None:
        """Close the file."""
        self.stream.close()


class WindowJournal(AppendedTable):
    """An appended table that starts a new file each day: `windows.csv`, then `windows-2026-12-01-001.csv`.

    Args:
        path: the file that is appended to.
        columns: the names in its header.
        disk: bytes of all its files, above which the oldest are removed.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], disk: int):
        self.disk, self.day = disk, today()
        super().__init__(path, columns)

    def is_due(self) -> bool:
        """Return whether the file is of an earlier day, or as large as one file may be."""
        if next(self.rows(), None) is None:  # an empty file is of today
            self.day = today()
        return today() > self.day or self.size > self.disk // FILES

    def rotate(self) -> None:
        """Give the file its final name and begin the next."""
        numbers = [int(path.stem[-3:]) for path in self.closed() if f"-{self.day}-" in path.name]
        number = max(numbers, default=0) + 1
        self.close()
        os.replace(self.path, self.path.with_name(f"{self.path.stem}-{self.day}-{number:03d}{self.path.suffix}"))
        self.day = today()
        self._open()

    def closed(self) -> list[Path]:
        """Return the files that are no longer appended to, the oldest first."""
        name = re.compile(re.escape(self.path.stem) + r"-\d{4}-\d\d-\d\d-\d{3}" + re.escape(self.path.suffix))
        return sorted(path for path in self.path.parent.iterdir() if name.fullmatch(path.name))

    def remove_oldest(self) -> list[Path]:
        """Remove the oldest closed files until all files keep to the cap; return those removed."""
        files = self.closed()
        sizes = [path.stat().st_size for path in files]
        total, removed = sum(sizes) + self.size, []
        for path, size in zip(files, sizes, strict=True):
            if total <= self.disk:
                break
            path.unlink()
            removed.append(path)
            total -= size
        return removed


def today() -> str:
    """Return the local date as text, in the order of time."""
    return date.today().isoformat()
