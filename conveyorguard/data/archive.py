"""Reader of AI Hub #71802: the only module that knows its format.

A session is two archives, sensor and thermal files (`TS_...`, `VS_...`) and labels (`TL_...`, `VL_...`), each a zip or a
folder of the same stem. A frame is three files of one stem: `.csv` (sensors), `.bin` (a .npy stream) and `.json` (label
and environment). Zips are inflated member by member in memory; nothing is unpacked and the root may be read-only.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from isal import isal_zlib
from isal.igzip_lib import IsalError

from conveyorguard.data.schema import Dropped, Recording, Schema, Session, Unreadable
from conveyorguard.errors import DataError

ARCHIVE = re.compile(r"^(?P<part>[TV])(?P<role>[SL])_(?P<rest>[a-z]+_\d+_(?P<device>[a-z]+\d+)_\d{4}_\d{4})$")
FRAME = re.compile(
    r"(?P<stem>[a-z]+\d+_\d{4}_(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d))\.(?P<suffix>csv|bin|json)$"
)
INCOMPLETE = re.compile(r"\.zip\.part\d+$")
DAY = 24 * 3600
BOM = b"\xef\xbb\xbf"  # of UTF-8, which some editors put in front
MEMBER_LIMIT = 64 << 20  # bytes; a frame file is 150 kB, so more is a damaged or hostile archive


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
    if not any(role == "S" for _, role, _ in found):
        raise DataError(_nothing_found(top, found))
    if not any(role == "L" for _, role, _ in found):  # the root may be the source folder, its labels next door
        levels = (top.resolve().parent, top.resolve().parent.parent)
        number = top.resolve().name[:3] == "01."
        for parent in levels[: 1 if number else 2] if number or ARCHIVE.match(top.name) else ():
            found |= {key: path for key, path in _find(parent).items() if key[1] == "L"}
    for part, role, rest in sorted(found):
        if role == "S":
            yield _recording(
                f"{part}S_{rest}", found[part, "S", rest], found.get((part, "L", rest)), schema, incomplete
            )


def _find(top: Path) -> dict[tuple[str, str, str], Path]:
    """(part, role, rest of the stem) -> archive. A whole archive wins over an incomplete download of it."""
    found: dict[tuple[str, str, str], Path] = {}
    seen = set()
    for folder, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a loop of symbolic links
            folders.clear()
            continue
        seen.add(real)
        here = Path(folder)
        names = [*sorted(folders), *sorted(files)]  # thousands, in an unpacked archive
        candidates = [here / name for name in names if ARCHIVE.match(_stem(name))]
        if here == top:
            candidates.insert(0, top.resolve())
        for path in candidates:
            stem = _stem(path.name)
            match = ARCHIVE.match(stem)
            if match and (path.is_dir() or path.name != stem):
                key = (match["part"], match["role"], match["rest"])
                if key not in found or INCOMPLETE.search(found[key].name):
                    found[key] = path
        folders[:] = [] if here != top and ARCHIVE.match(here.name) else sorted(folders)
    return found


def _stem(name: str) -> str:
    return INCOMPLETE.sub("", name).removesuffix(".zip")


def _nothing_found(top: Path, found: dict) -> str:
    inside = sorted(path.name for path in top.iterdir())[:8]
    labels = f" There are {len(found)} label archives, but labels alone are not enough." if found else ""
    return (
        f"data.root={top}: no session of AI Hub #71802 found.{labels}\n"
        "  looked for: TS_<kind>_<nn>_<device>_<MMDD>_<HHMM>.zip (or VS_..., or folders of that name) at any depth,\n"
        "              with TL_... / VL_... of the same stem for the labels\n"
        f"  looked in:  {top} (first entries: {', '.join(inside) or 'none, it is empty'})\n"
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
            message = f"{path.name} is one of several parts; join them into {_stem(path.name)}.zip, in the order of their numbers"
            return Unreadable(name, "incomplete_download", message)
    files = (source,) if labels is None else (source, labels)
    return Recording(name, files, partial(read_session, name, source, labels, schema, incomplete))


@dataclass(frozen=True)
class _Member:
    stem: str
    second: int  # of the day
    read: Callable[[], bytes]


def read_session(name: str, source: Path, labels: Path | None, schema: Schema, incomplete: bool = False) -> Session:
    """Read one session; a defective frame is left out and told in `Session.dropped`.

    Args:
        incomplete: a csv need hold no more than half of the channels; the values of the others are NaN.

    Raises:
        DataError: the archive itself cannot be read, or not one frame of it is whole.
    """
    match = ARCHIVE.match(name)
    assert match is not None
    with _Archive(source) as data, _Archive(labels) as tags:
        files = {**data.members, **tags.members}
        stems = sorted({member.stem for member in data.members.values()})
        if labels is not None:  # a frame known from its label alone has lost two files: still one defect, not none
            stems = sorted({member.stem for member in files.values()})
        seconds = {member.stem: member.second for member in files.values()}
        frames, dropped = [], []
        for stem, time in in_time_order(stems, seconds):
            try:
                frames.append((time, *_frame(stem, files, data, tags, schema, incomplete)))
            except _Defect as defect:
                dropped.append(Dropped(defect.reason, f"{defect.archive}: {defect.member}", defect.message))
    if not frames:
        why = dropped[0].message if dropped else "it holds no file of a frame"
        raise DataError(f"{source.name}: no usable frame ({why})")
    times, sensors, environment, thermal, state = zip(*frames, strict=True)
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
    )


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

    def __init__(self, reason: str, archive: str, member: str, expected: str, found: str):
        super().__init__(reason)
        self.reason, self.archive, self.member = reason, archive, member
        self.message = f"expected {expected}, found {found}"


def _frame(
    stem: str, files: dict[str, _Member], data: _Archive, tags: _Archive, schema: Schema, incomplete: bool
) -> tuple[list[float], list[float], np.ndarray | None, int]:
    """Sensors, environment, thermal frame and state of one second."""

    def content(suffix: str, archive: _Archive) -> bytes:
        member = f"{stem}.{suffix}"
        if member not in files:
            raise _Defect(f"missing_{suffix}", archive.name, member, "the file", "none of that name")
        try:
            return files[member].read()
        except (OSError, ValueError, struct.error, IsalError) as error:  # type: ignore[misc]
            raise _Defect(f"bad_{suffix}", archive.name, member, "a whole file", str(error)) from error

    def parse(suffix: str, archive: _Archive, parser: Callable, *arguments):
        raw = content(suffix, archive)
        try:
            return parser(raw, *arguments)
        except _Wrong as wrong:
            raise _Defect(f"bad_{suffix}", archive.name, f"{stem}.{suffix}", wrong.expected, wrong.found) from wrong

    sensors = parse("csv", data, _parse_csv, tuple(schema.channels), incomplete)
    thermal = parse("bin", data, _parse_bin, schema.thermal.shape) if schema.thermal else None
    if not tags.there:
        return sensors, [np.nan] * len(schema.environment), thermal, 0
    state, environment = parse("json", tags, _parse_json, len(schema.states), tuple(schema.environment))
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
        sensors = _parse_csv(_read_file(str(folder / f"{stem}.csv")), tuple(schema.channels), True)
        thermal = _parse_bin(_read_file(str(folder / f"{stem}.bin")), schema.thermal.shape) if schema.thermal else None
        if labels is None:
            return sensors, [math.nan] * len(schema.environment), thermal
        label = orjson.loads(_read_file(str(labels / f"{stem}.json")).removeprefix(BOM))
    except (OSError, ValueError, _Wrong) as error:
        found = f"expected {error.expected}, found {error.found}" if isinstance(error, _Wrong) else str(error)
        raise DataError(f"{folder.name}: {stem}: {found}") from error
    return sensors, _environment(label, tuple(schema.environment)), thermal


class _Wrong(Exception):
    """The content of a file is not what the format says."""

    def __init__(self, expected: str, found: str):
        super().__init__(expected)
        self.expected, self.found = expected, found[:120]


@lru_cache(maxsize=64)
def _column_order(header: str, channels: tuple[str, ...], incomplete: bool) -> tuple[tuple[int | None, ...], int]:
    names = [name.strip().strip('"') for name in header.split(",")]
    missing = [name for name in channels if name not in names]
    if len(missing) > (len(channels) // 2 if incomplete else 0):
        raise _Wrong(f"columns {', '.join(channels)}", f"no column {', '.join(missing)}")
    return tuple(names.index(name) if name in names else None for name in channels), len(names)


def _parse_csv(raw: bytes, channels: tuple[str, ...], incomplete: bool = False) -> list[float]:
    """The values of one row, in the order of the schema; NaN of a column that may be missing and is."""
    try:
        lines = [line for line in raw.removeprefix(BOM).decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise _Wrong("text in UTF-8", "other bytes") from error
    if len(lines) != 2:
        raise _Wrong("a header and a row", f"{len(lines)} lines")
    order, width = _column_order(lines[0], channels, incomplete)
    fields = lines[1].split(",")
    if len(fields) != width:
        raise _Wrong(f"{width} values as in the header", f"{len(fields)}: {lines[1]}")
    try:
        if "_" in lines[1]:  # float() reads 1_0 as ten
            raise ValueError(f"could not read {lines[1]}")
        return [math.nan if i is None else float(fields[i]) for i in order]
    except ValueError as error:
        raise _Wrong("numbers", str(error)) from error


@lru_cache(maxsize=64)
def _npy_header(header: bytes, shape: tuple[int, int]) -> np.dtype:
    stream = BytesIO(header)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found, fortran, dtype = read(stream)
    except ValueError as error:
        raise _Wrong("a .npy stream", str(error)) from error
    if dtype.kind != "f" or fortran or found != shape:
        raise _Wrong(f"floating point numbers of shape {shape}", f"{dtype} of shape {found}")
    return dtype


def _parse_bin(raw: bytes, shape: tuple[int, int]) -> np.ndarray:
    """A frame in degC, (rows, columns) float32. Only the header of the .npy stream is interpreted: nothing is unpickled."""
    if raw[:6] != b"\x93NUMPY" or len(raw) < 12:
        raise _Wrong("a .npy stream", f"{len(raw)} bytes beginning {raw[:8]!r}")
    start = 10 + int.from_bytes(raw[8:10], "little") if raw[6] == 1 else 12 + int.from_bytes(raw[8:12], "little")
    dtype = _npy_header(raw[: min(start, 4096)], shape)
    if len(raw) - start != dtype.itemsize * shape[0] * shape[1]:
        raise _Wrong(f"{dtype.itemsize * shape[0] * shape[1]} bytes of pixels", f"{len(raw) - start}")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is repaired as Inf or NaN
        return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(np.float32)


def _parse_json(raw: bytes, states: int, environment: tuple[str, ...]) -> tuple[int, list[float]]:
    """State and environment; an environment value that is not there is NaN, to be repaired like any other."""
    try:
        label = orjson.loads(raw.removeprefix(BOM))
    except orjson.JSONDecodeError as error:
        raise _Wrong("json", str(error)) from error
    try:
        state = int(str(label["annotations"][0]["tagging"][0]["state"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _Wrong("annotations[0].tagging[0].state", f"none ({type(error).__name__}: {error})") from error
    if not 0 <= state < states:
        raise _Wrong(f"a state of 0..{states - 1}", str(state))
    return state, _environment(label, environment)


def _environment(label: Any, names: tuple[str, ...]) -> list[float]:
    values = []
    for name in names:
        try:
            values.append(float(label["external_data"][0][name][0]["value"]))
        except (KeyError, IndexError, TypeError, ValueError):
            values.append(float("nan"))
    return values


class _Archive:
    """The files of a zip or a folder by base name; of none at all, if the path is None."""

    def __init__(self, path: Path | None):
        self.there = path is not None
        self.name = path.name if path else "no label archive"
        self.members: dict[str, _Member] = {}
        self._open: list = []
        if path is None:
            return
        try:
            listing = self._folder(path) if path.is_dir() else self._zip(path)
            for base, read in listing:
                match = FRAME.match(base)
                if match:
                    second = int(match["hour"]) * 3600 + int(match["minute"]) * 60 + int(match["second"])
                    self.members[base] = _Member(match["stem"], second, read)
        except (OSError, ValueError, zipfile.BadZipFile, struct.error) as error:
            self.close()
            raise DataError(f"{path.name}: cannot be read as an archive ({error}); fetch it again") from error

    @staticmethod
    def _folder(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
        for folder, _, files in os.walk(path):
            for name in files:
                yield name, partial(_read_file, os.path.join(folder, name))

    def _zip(self, path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        stream = path.open("rb")
        self._open.append(stream)
        buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._open.append(buffer)
        for entry in entries:
            if not entry.is_dir():
                yield entry.filename.rsplit("/", 1)[-1], partial(_inflate, buffer, entry)

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _read_file(path: str) -> bytes:
    with FileIO(path) as stream:
        if os.fstat(stream.fileno()).st_size > MEMBER_LIMIT:
            raise ValueError(f"more than {MEMBER_LIMIT >> 20} MiB")
        return stream.readall()


def _inflate(buffer: mmap.mmap, entry: zipfile.ZipInfo) -> bytes:
    """One member of a zip. The standard library's zipfile does the same with zlib, at about a third of the speed."""
    if entry.file_size > MEMBER_LIMIT:
        raise ValueError(f"more than {MEMBER_LIMIT >> 20} MiB when inflated")
    if entry.flag_bits & 1:
        raise ValueError("encrypted")
    name_length, extra_length = struct.unpack_from("<HH", buffer, entry.header_offset + 26)
    start = entry.header_offset + 30 + name_length + extra_length
    packed = buffer[start : start + entry.compress_size]
    if entry.compress_type == zipfile.ZIP_STORED:
        raw = packed
    elif entry.compress_type == zipfile.ZIP_DEFLATED:
        raw = isal_zlib.decompressobj(-15).decompress(packed, entry.file_size + 1)
    else:
        raise ValueError(f"compression method {entry.compress_type} is not supported")
    if len(raw) != entry.file_size or isal_zlib.crc32(raw) != entry.CRC:
        raise ValueError("damaged: length or checksum differs from the directory of the zip")
    return raw
