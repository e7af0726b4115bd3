"""Parses the three files of a second: csv (sensors), bin (a .npy stream of pixels) and json (label and environment).

The files are untrusted: sizes are limited, headers are matched rather than evaluated, and nothing is unpickled.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from conveyorguard.data.archive.containers import Archive, Unusable, read_file
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Dropped
from conveyorguard.errors import DataError

REMEDY = {
    "csv": "export it again as one header and one row, separated by commas, with decimal points",
    "bin": "write it again with numpy.save, as floating point numbers and without pickle",
    "json": "export or download the labels again",
}
BOM = b"\xef\xbb\xbf"  # byte order mark of UTF-8, which some editors write
TEXT_LIMIT = {"csv": 64 << 10, "json": 1 << 20}  # bytes; real files have 80 and 3,000
HEADER_LIMIT = 4096  # bytes of a .npy header; numpy writes 128
TINY = 1e-20  # degC; only numbers read in the wrong byte order are as small and not 0


def bin_limit(shape: tuple[int, int]) -> int:
    """Return the largest size of a bin file [bytes]: header and 16 bytes per pixel, twice the widest type read."""
    return HEADER_LIMIT + 16 * shape[0] * shape[1]


class Wrong(Exception):
    """Raised for content that violates the format, with what was expected and what was found instead."""

    def __init__(self, expected: str, actual: str):
        super().__init__(expected)
        self.expected, self.actual = expected, actual[:120]


@lru_cache(maxsize=64)
def _column_order(header: str, channels: tuple[str, ...], incomplete: bool) -> tuple[tuple[int | None, ...], int]:
    """Return the column of each channel, None where it is missing, and the number of columns."""
    names = [name.strip().strip('"') for name in header.split(",")]
    missing = [name for name in channels if name not in names]
    if len(missing) > (len(channels) // 2 if incomplete else 0):
        raise Wrong(f"columns {', '.join(channels)}", f"no column {', '.join(missing)} in {header}")
    twice = [name for name in channels if names.count(name) > 1]
    if twice:
        raise Wrong("each column once", f"{', '.join(twice)} twice")
    return tuple(names.index(name) if name in names else None for name in channels), len(names)


def parse_csv(raw: bytes, channels: tuple[str, ...], incomplete: bool = False) -> list[float]:
    """Return the values of one second in the order of `channels`.

    Args:
        incomplete: up to half of the channels may be missing; their values are NaN.

    Raises:
        Wrong: not a header and a row of numbers with a column for each channel.
    """
    try:
        lines = [line for line in raw.removeprefix(BOM).decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise Wrong("text in UTF-8", "other bytes") from error
    if len(lines) != 2:
        raise Wrong("a header and a row", f"{len(lines)} lines")
    order, width = _column_order(lines[0], channels, incomplete)
    fields = lines[1].split(",")
    if len(fields) != width:
        raise Wrong(f"{width} values as in the header", f"{len(fields)}: {lines[1]}")
    try:
        if "_" in lines[1]:  # float() reads 1_0 as ten
            raise ValueError(f"could not read {lines[1]}")
        return [math.nan if i is None else float(fields[i]) for i in order]
    except ValueError as error:
        raise Wrong("numbers", str(error)) from error


NPY_VERSIONS = (b"\x01\x00", b"\x02\x00", b"\x03\x00")
NPY_KEYS = {
    "descr": rb"""['"]descr['"]\s*:\s*['"]([<>|=]?[a-zA-Z]\d*)['"]""",
    "fortran_order": rb"""['"]fortran_order['"]\s*:\s*(True|False)""",
    "shape": rb"""['"]shape['"]\s*:\s*\(\s*((?:[1-9]\d{0,8})(?:\s*,\s*[1-9]\d{0,8})*)?\s*,?\s*\)""",
}
NPY_KEY = b"(?:" + b"|".join(NPY_KEYS.values()) + b")"
NPY_HEADER = re.compile(rb"\{\s*" + rb"\s*,\s*".join([NPY_KEY] * 3) + rb"\s*,?\s*\}[ \n]*")


@lru_cache(maxsize=64)
def _npy_header(header: bytes, shape: tuple[int, int]) -> np.dtype:
    """Return the data type that a valid header states. It is matched, never evaluated as numpy does."""
    matches = {name: re.findall(pattern, header) for name, pattern in NPY_KEYS.items()}
    if not NPY_HEADER.fullmatch(header) or any(len(values) != 1 for values in matches.values()):
        raise Wrong(f"a .npy header of floating point numbers of shape {shape}", repr(header[:80]))
    descr, fortran = matches["descr"][0].decode(), matches["fortran_order"][0] == b"True"
    size = tuple(int(length) for length in re.findall(rb"\d+", matches["shape"][0]))
    if not re.fullmatch(r"[<>=]?f[248]", descr) or fortran or size != shape:
        order = " in Fortran order" if fortran else ""
        raise Wrong(f"floating point numbers of shape {shape}", f"{descr} of shape {size}{order}")
    return np.dtype(descr)


def parse_bin(raw: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Return a thermal frame [degC] as (rows, columns) float32; nothing is unpickled.

    Raises:
        Wrong: not a .npy stream of floating point numbers of `shape` in C order.
    """
    if raw[:6] != b"\x93NUMPY" or len(raw) < 12 or raw[6:8] not in NPY_VERSIONS:
        raise Wrong("a .npy stream", f"{len(raw)} bytes beginning {raw[:8]!r}")
    begin = 10 if raw[6] == 1 else 12
    start = begin + int.from_bytes(raw[8:begin], "little")
    if start > HEADER_LIMIT:
        raise Wrong(f"a .npy header of at most {HEADER_LIMIT} bytes", f"one of {start:,}")
    dtype = _npy_header(raw[begin:start], shape)
    if len(raw) - start != dtype.itemsize * shape[0] * shape[1]:
        raise Wrong(f"{dtype.itemsize * shape[0] * shape[1]} bytes of pixels", f"{len(raw) - start}")
    pixels = np.frombuffer(raw, dtype, offset=start).reshape(shape)
    with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become Inf and are repaired later
        if not pixels.min() > TINY:  # nearly always true, so that most frames are scanned once
            tiny = pixels[(np.abs(pixels) < TINY) & (pixels != 0)]
            if tiny.size:
                raise Wrong(f"degC in the byte order of the header, {dtype.str}", f"{float(tiny[0]):.3g}")
        return pixels.astype(np.float32)


def load_json(raw: bytes, environment: tuple[str, ...]) -> Any:
    """Return the content of a label file.

    Raises:
        Wrong: not json, or a key that is used is repeated in an object.
    """
    raw = raw.removeprefix(BOM)
    try:
        label = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Wrong("json", str(error)) from error
    if _may_repeat(raw, label, environment):
        _refuse_repeated_keys(raw)
    return label


def parse_json(raw: bytes, states: int, environment: tuple[str, ...]) -> tuple[int, list[float]]:
    """Return the state and the environment of a label file; a missing environment value is NaN, repaired later.

    Args:
        states: number of states; valid ones are 0 .. states - 1.

    Raises:
        Wrong: not json, a used key is repeated, or there is no valid state.
    """
    label = load_json(raw, environment)
    try:
        text = label["annotations"][0]["tagging"][0]["state"]
    except (KeyError, IndexError, TypeError) as error:
        raise Wrong("annotations[0].tagging[0].state", f"none ({type(error).__name__}: {error})") from error
    if not re.fullmatch(r"[0-9]{1,9}|-[1-9][0-9]{0,8}", str(text)):
        raise Wrong("a state's number at annotations[0].tagging[0].state", repr(text))
    if not 0 <= int(text) < states:
        raise Wrong(f"a state of 0..{states - 1}", str(text))
    return int(text), [environment_value(label, name) for name in environment]


def environment_value(label: Any, name: str) -> float:
    """Return an environment value of a label, as a number or as text; NaN where there is none."""
    try:
        value = label["external_data"][0][name][0]["value"]
        return float("nan") if isinstance(value, bool) or "_" in str(value) else float(value)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return float("nan")


def _may_repeat(raw: bytes, label: Any, environment: tuple[str, ...]) -> bool:
    """Return whether a used key may be repeated: the file then holds it more often than the parsed content does."""
    if b"\\" in raw:
        return True
    try:
        parsed = orjson.dumps(label)
    except orjson.JSONEncodeError:  # nested too deep
        return True
    keys = ("annotations", "tagging", "state", "external_data", "value", *environment)
    return any(raw.count(word) != parsed.count(word) for word in (b'"%s"' % key.encode() for key in keys))


def _refuse_repeated_keys(raw: bytes) -> None:
    """Refuse repeated keys, of which json parsers silently keep the last."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            raise Wrong("each key once in an object", f"'{twice[0]}' twice")
        return dict(pairs)

    try:
        json.loads(raw, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Wrong("json", str(error)) from error


class Defect(Exception):
    """Raised for a second that cannot be used; `dropped` is its entry for the manifest."""

    def __init__(self, reason: str, archive: str, member: str, expected: str, actual: str, remedy: str):
        super().__init__(reason)
        self.dropped = Dropped(reason, f"{archive}: {member}", f"expected {expected}, found {actual}; {remedy}")


def read_second(
    stem: str, data: Archive, tags: Archive, schema: Schema, incomplete: bool
) -> tuple[list[float], list[float], np.ndarray | None, int]:
    """Return the sensors, environment, thermal frame and state of one second of a recording.

    Args:
        data, tags: source and label archive; without labels the environment is NaN and the state 0.

    Raises:
        Defect: one of its files is missing, damaged or invalid.
    """
    sensors = _parse(stem, "csv", data, TEXT_LIMIT["csv"], parse_csv, tuple(schema.channels), incomplete)
    thermal = None
    if schema.thermal:
        shape = schema.thermal.shape
        thermal = _parse(stem, "bin", data, bin_limit(shape), parse_bin, shape)
    if not tags.exists:
        return sensors, [math.nan] * len(schema.environment), thermal, 0
    states, environment_names = len(schema.states), tuple(schema.environment)
    state, environment = _parse(stem, "json", tags, TEXT_LIMIT["json"], parse_json, states, environment_names)
    return sensors, environment, thermal, state


def _parse(stem: str, suffix: str, archive: Archive, limit: int, parser: Callable, *arguments: Any) -> Any:
    member = f"{stem}.{suffix}"
    if member not in archive.files:
        remedy = "download or unpack the archive again"
        raise Defect(f"missing_{suffix}", archive.name, member, "the file", "none of that name", remedy)
    try:
        return parser(archive.read(member, limit), *arguments)
    except Unusable as error:
        remedy = "download the archive again"
        raise Defect(f"bad_{suffix}", archive.name, member, "a whole file", str(error), remedy) from error
    except Wrong as wrong:
        remedy = REMEDY[suffix]
        raise Defect(f"bad_{suffix}", archive.name, member, wrong.expected, wrong.actual, remedy) from wrong


def read_frame(
    folder: Path, stem: str, schema: Schema, labels: Path | None = None
) -> tuple[list[float], list[float], np.ndarray | None]:
    """Return the sensors, environment and thermal frame of one second as a collector writes it; no state is read.

    Args:
        folder: where the csv and the bin are; up to half of the channels may be missing.
        labels: folder of the json that holds the environment; without it the environment is NaN.

    Raises:
        DataError: a file is missing or incomplete.
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
        problem = f"expected {error.expected}, found {error.actual}" if isinstance(error, Wrong) else str(error)
        raise DataError(f"{folder.name}: {stem}: {problem}") from error
    return sensors, [environment_value(label, name) for name in schema.environment], thermal
