"""Reads the files of a zip or a folder by base name, one at a time, into memory. Nothing is unpacked or written.

Archives are untrusted: sizes are limited, names are never used as paths, and checksums are verified.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib
from isal.igzip_lib import IsalError

from conveyorguard.system.text import without_path

DIRECTORY_LIMIT = 32 << 20  # bytes of a zip's directory, enough for 300,000 files; a recording of an hour has 10,800
TOTAL_LIMIT = 16 << 30  # bytes of all files of a zip when inflated; a day of frames has 13 GiB
# raised by zipfile for malformed directories, besides BadZipFile
MALFORMED = (OSError, ValueError, struct.error, NotImplementedError, OverflowError, EOFError, IndexError)

Read = Callable[[int], bytes]


class Unusable(Exception):
    """Raised for a file or a whole archive that cannot be read; the message names the problem."""


class Archive:
    """A zip or a folder, opened for reading; empty where `path` is None.

    Attributes:
        exists: whether a path was given.
        name: file name, for messages.
        files: functions that read a file, by base name; several where the archive repeats a name.

    Raises:
        Unusable: the path is not a zip, or the zip is damaged or exceeds a limit.
    """

    def __init__(self, path: Path | None):
        self.exists = path is not None
        self.name = path.name if path else "no label archive"
        self.files: dict[str, list[Read]] = {}
        self._open: list[mmap.mmap | BinaryIO] = []
        if path is None:
            return
        try:
            for name, read in self._folder(path) if path.is_dir() else self._zip(path):
                self.files.setdefault(name, []).append(read)
        except (*MALFORMED, zipfile.BadZipFile) as error:
            self.close()
            raise Unusable(without_path(error)) from error

    @staticmethod
    def _folder(path: Path) -> Iterator[tuple[str, Read]]:
        def reraise(error: OSError) -> None:
            raise error

        for folder, _, files in os.walk(path, onerror=reraise):
            for name in files:
                yield base_name(name), partial(read_file, os.path.join(folder, name))

    def _zip(self, path: Path) -> Iterator[tuple[str, Read]]:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("neither a folder nor a regular file")
        stream = path.open("rb")
        self._open.append(stream)
        _refuse_huge_directory(stream)
        with zipfile.ZipFile(stream) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        total = sum(entry.file_size for entry in entries)
        if total > TOTAL_LIMIT:
            raise ValueError(
                f"its files take {total / 2**30:,.0f} GiB when inflated, more than the limit of {TOTAL_LIMIT >> 30} GiB"
            )
        buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._open.append(buffer)
        for entry in entries:
            yield base_name(entry.filename), partial(_inflate, buffer, entry)

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of the file `name`, one of `files`.

        Raises:
            Unusable: it is damaged, larger than `limit` bytes, or repeated with different contents.
        """
        try:
            first, *others = self.files[name]
            content = first(limit)
            equal = all(other(limit) == content for other in others)  # one at a time: there may be thousands
        except (*MALFORMED, IsalError) as error:  # type: ignore[misc]
            raise Unusable(without_path(error)) from error
        if not equal:
            raise Unusable(f"{len(self.files[name])} files of this name with different contents")
        return content

    def close(self) -> None:
        """Close the files that are open."""
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def base_name(name: str) -> str:
    """Return the last component of a path in a zip or a folder, whether separated by slashes or backslashes."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def read_file(path: str | Path, limit: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file, or larger than `limit` bytes.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ValueError("not a regular file")
    if status.st_size > limit:
        raise ValueError(f"{status.st_size:,} bytes, more than the limit of {limit:,}")
    with FileIO(path) as stream:
        return stream.readall()


def _refuse_huge_directory(stream: BinaryIO) -> None:
    """Refuse a zip whose directory is too large: zipfile would hold several hundred bytes per entry of 46 bytes."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 65_557))  # a comment of 64 KiB may follow the end record
    tail = stream.read()
    # as zipfile, look first for an end record without a comment
    plain = tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0"
    at = len(tail) - 22 if plain else tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + 22:
        raise ValueError("not a zip, or its end is missing")
    (length,) = struct.unpack_from("<I", tail, at + 12)
    lengths = [0 if length == 0xFFFFFFFF else length]
    end = max(0, size - 65_557) + at
    stream.seek(max(0, end - 20))
    locator = stream.read(20)
    if locator[:4] == b"PK\6\7":  # zip64: zipfile then ignores the plain end record
        for place in (max(0, end - 76), min(struct.unpack_from("<Q", locator, 8)[0], size)):
            stream.seek(place)
            record = stream.read(56)
            if record[:4] == b"PK\6\6" and len(record) == 56:
                lengths.append(struct.unpack_from("<Q", record, 40)[0])
    length = max(lengths)
    if length > DIRECTORY_LIMIT:
        raise ValueError(f"its directory has {length / 2**20:,.0f} MiB, more than the limit of {DIRECTORY_LIMIT >> 20}")


def _inflate(buffer: mmap.mmap, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """Return the verified content of a member of a zip; zipfile does the same at about a third of the speed."""
    if entry.file_size > limit:
        raise ValueError(f"{entry.file_size:,} bytes when inflated, more than the limit of {limit:,}")
    if entry.flag_bits & (0x1 | 0x20 | 0x40):
        raise ValueError("encrypted or patched data is not supported")
    if buffer[entry.header_offset : entry.header_offset + 4] != b"PK\3\4":
        raise ValueError("damaged: no file where the zip's directory points")
    name_length, extra_length = struct.unpack_from("<HH", buffer, entry.header_offset + 26)
    start = entry.header_offset + 30 + name_length + extra_length
    name = buffer[entry.header_offset + 30 : entry.header_offset + 30 + name_length]
    if name != entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437"):
        raise ValueError(f"damaged: the file is named {name[-60:]!r}, unlike in the zip's directory")
    packed = buffer[start : start + entry.compress_size]
    if entry.compress_type == zipfile.ZIP_STORED:
        raw = packed
    elif entry.compress_type == zipfile.ZIP_DEFLATED:
        raw = isal_zlib.decompressobj(-15).decompress(packed, entry.file_size + 1)
    else:
        raise ValueError(f"compression method {entry.compress_type} is not supported")
    if len(raw) != entry.file_size or isal_zlib.crc32(raw) != entry.CRC:
        raise ValueError("damaged: length or checksum differs from the zip's directory")
    return raw
