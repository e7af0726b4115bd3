"""An independent oracle for the files of a frame: standard library and numpy's loader, no code of the reader.

Each function returns the values that a reader must return, or None if the file is unusable. `*_is_plain` tells for
which inputs reader and oracle must also agree on usability. For others (unusual line ends, repeated keys, contradictory
zip directories) a reader may refuse what the standard library accepts, but never return another value.
"""

import io
import json
import math
import re
import struct
import zipfile
import zlib

import numpy as np

NUMBER = re.compile(r"\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity))\s*", re.IGNORECASE)
FRAME = re.compile(r"([a-z]+\d+_\d{4}_([01]\d|2[0-3])([0-5]\d)([0-5]\d))\.(csv|bin|json)")


def csv_row(raw, channels):
    """Return the values of the channels in a csv of one row, or None."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 2:
        return None
    header, row = ([cell.strip() for cell in line.split(",")] for line in lines)
    header = [name.strip('"') for name in header]
    if len(header) != len(row) or any(header.count(name) != 1 for name in channels):
        return None
    cells = [row[header.index(name)] for name in channels]
    if "_" in lines[1] or not all(NUMBER.fullmatch(cell) for cell in cells):
        return None
    return [float(cell) for cell in cells]


def csv_is_plain(raw):
    """Return whether a csv is printable ASCII."""
    return all(32 <= byte < 127 or byte in b"\r\n" for byte in raw)


def npy_frame(raw, shape):
    """Return the frame in a .npy file as float32, or None."""
    try:
        frame = np.load(io.BytesIO(raw), allow_pickle=False)
    except Exception:  # numpy raises many types
        return None
    if not isinstance(frame, np.ndarray) or frame.dtype.kind != "f" or frame.shape != shape:
        return None
    with np.errstate(all="ignore"):
        tiny = (frame != 0) & (np.abs(frame) < 1e-20)
        if tiny.any():  # no temperature: the header states the wrong byte order
            return None
        return frame.astype(np.float32)


def npy_is_plain(raw, shape):
    """Return whether a .npy file has a header as numpy writes it, the expected shape and the right size."""
    for letter in ("<f8", "<f4", "<f2", ">f8"):
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.zeros(shape, letter), allow_pickle=False)
        header = stream.getvalue()[: -np.dtype(letter).itemsize * shape[0] * shape[1]]
        if raw.startswith(header) and len(raw) == len(stream.getvalue()):
            return True
    return False


class _Twice(Exception):
    pass


def _marked(pairs):
    """Return a json object as a dict that also holds its repeated keys, under _Twice."""
    mapping = dict(pairs)
    mapping[_Twice] = {key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1}
    return mapping


def _step(value, key):
    if isinstance(value, dict) and key in value[_Twice]:
        raise _Twice(key)
    return value[key]


def _at(value, *path):
    for key in path:
        value = _step(value, key)
    return value


def _no_json(word):
    raise ValueError(word)


def label(raw, states, environment):
    """Return (state, environment values), None, or NotImplemented if Python's parser exceeds its recursion limit."""
    try:
        content = json.loads(
            raw.removeprefix(b"\xef\xbb\xbf").decode(), object_pairs_hook=_marked, parse_constant=_no_json
        )
        state = _at(content, "annotations", 0, "tagging", 0, "state")
        if isinstance(state, bool) or not re.fullmatch("[0-9]{1,9}", str(state)) or int(state) >= states:
            return None
        return int(state), [_environment(content, name) for name in environment]
    except RecursionError:
        return NotImplemented
    except (ValueError, KeyError, IndexError, TypeError, _Twice):
        return None


def _environment(content, name):
    try:
        value = _at(content, "external_data", 0, name, 0, "value")
    except (KeyError, IndexError, TypeError):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def label_is_plain(raw):
    """Return whether a label is ASCII json without escapes, repeated keys or infinite numbers."""
    if not raw.isascii() or b"\\" in raw:
        return False
    twice = []

    def note(pairs):
        twice.extend(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
        return dict(pairs)

    def finite(digits):
        if math.isinf(float(digits)):  # exceeds a double: a reader may accept or refuse it
            raise ValueError(digits)
        return float(digits)

    try:
        json.loads(raw, object_pairs_hook=note, parse_constant=_no_json, parse_float=finite, parse_int=finite)
    except (ValueError, RecursionError):
        return False
    return not twice and len(raw) < 1 << 20


def archives(source, labels, channels, shape, states, environment, recording):
    """Read every usable second of a session from its source and label archives.

    Returns:
        stem -> (sensors, environment, frame, state, seconds since the first named frame, whether its files are plain),
        in the order of time; None if an archive is not a zip.
    """
    try:
        files = {
            name: {*_contents(source, name), *_contents(labels, name)} for name in {*_names(source), *_names(labels)}
        }
    except Exception:  # zipfile raises many types on a broken directory
        return None
    matches = {match[1]: match for name in files if (match := FRAME.fullmatch(name)) and name.startswith(recording)}
    clock = {stem: int(m[2]) * 3600 + int(m[3]) * 60 + int(m[4]) for stem, m in matches.items()}
    # the clock wraps at midnight: the first frame is the one after which the last comes soonest
    first = min(clock.values(), key=lambda begin: max((t - begin) % 86400 for t in clock.values()), default=0)
    seconds = {}
    for stem in sorted(clock, key=lambda stem: (clock[stem] - first) % 86400):
        three = [files.get(f"{stem}.{suffix}", set()) for suffix in ("csv", "bin", "json")]
        if any(len(contents) != 1 for contents in three) or None in set.union(*three):
            continue
        row, frame, tag = (contents.pop() for contents in three)
        parsed = csv_row(row, channels), npy_frame(frame, shape), label(tag, states, environment)
        if all(part is not None and part is not NotImplemented for part in parsed):
            plain = csv_is_plain(row) and npy_is_plain(frame, shape) and label_is_plain(tag)
            seconds[stem] = (parsed[0], parsed[2][1], parsed[1], parsed[2][0], (clock[stem] - first) % 86400, plain)
    return seconds


def _base(name):
    return re.split(r"[/\\]", name)[-1]


def _names(raw):
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return [_base(entry.filename) for entry in archive.infolist() if not entry.is_dir()]


def _fits(raw, entry, content):
    """Return whether a member has the sizes that the directory states; zipfile ignores bytes after them."""
    lengths = struct.unpack_from("<HH", raw, entry.header_offset + 26)
    packed = raw[entry.header_offset + 30 + sum(lengths) :][: entry.compress_size]
    whole = packed if entry.compress_type == zipfile.ZIP_STORED else zlib.decompressobj(-15).decompress(packed)
    return len(content) == entry.file_size and whole == content


def _contents(raw, name):
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        for entry in archive.infolist():
            if not entry.is_dir() and _base(entry.filename) == name:
                try:
                    content = archive.read(entry)
                    yield content if _fits(raw, entry, content) else None
                except Exception:  # zipfile raises many types on a broken member
                    yield None
