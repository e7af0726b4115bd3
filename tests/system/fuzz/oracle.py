"""What the files of a frame say, by the standard library and numpy's own loader: shares no code with the reader.

Each function returns what a reader must give, or None where the file cannot be used; `*_is_plain` says of which inputs
both must agree on that, too. Elsewhere (odd line ends, keys given twice, directories that contradict themselves) a
reader may refuse what the standard library lets pass, but never give another value.
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
    return all(32 <= byte < 127 or byte in b"\r\n" for byte in raw)


def npy_frame(raw, shape):
    try:
        frame = np.load(io.BytesIO(raw), allow_pickle=False)
    except Exception:  # whatever numpy finds wrong with it
        return None
    if not isinstance(frame, np.ndarray) or frame.dtype.kind != "f" or frame.shape != shape:
        return None
    with np.errstate(all="ignore"):
        if (
            (frame != 0) & (np.abs(frame) < 1e-20)
        ).any():  # no temperature: the header lies about the order of the bytes
            return None
        return frame.astype(np.float32)


def npy_is_plain(raw, shape):
    """It begins with a header as numpy writes it, of what is expected, and has as many bytes as that says."""
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
    """An object with the keys it has twice, which may matter or not."""
    found = dict(pairs)
    found[_Twice] = {key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1}
    return found


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
    """(state, values), None, or NotImplemented where Python's parser cannot follow (too deep)."""
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
    if not raw.isascii() or b"\\" in raw:
        return False
    twice = []

    def note(pairs):
        twice.extend(key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1)
        return dict(pairs)

    def finite(digits):
        if math.isinf(float(digits)):  # a double cannot hold it: read as infinite or refused
            raise ValueError(digits)
        return float(digits)

    try:
        json.loads(raw, object_pairs_hook=note, parse_constant=_no_json, parse_float=finite, parse_int=finite)
    except (ValueError, RecursionError):
        return False
    return not twice and len(raw) < 1 << 20


def archives(source, labels, channels, shape, states, environment, recording):
    """Stem: (sensors, environment, frame, state, seconds since the first frame that is named, whether its files are
    plain) of every second of the recording that can be used, in the order of time; None where a zip is none."""
    try:
        files = {
            name: {*_contents(source, name), *_contents(labels, name)} for name in {*_names(source), *_names(labels)}
        }
    except Exception:  # whatever zipfile finds wrong with a directory
        return None
    matches = {match[1]: match for name in files if (match := FRAME.fullmatch(name)) and name.startswith(recording)}
    clock = {stem: int(m[2]) * 3600 + int(m[3]) * 60 + int(m[4]) for stem, m in matches.items()}
    # the first is the one after which the last comes soonest: over midnight the clock begins anew
    first = min(clock.values(), key=lambda begin: max((t - begin) % 86400 for t in clock.values()), default=0)
    found = {}
    for stem in sorted(clock, key=lambda stem: (clock[stem] - first) % 86400):
        three = [files.get(f"{stem}.{suffix}", set()) for suffix in ("csv", "bin", "json")]
        if any(len(contents) != 1 for contents in three) or None in set.union(*three):
            continue
        row, frame, tag = (contents.pop() for contents in three)
        parsed = csv_row(row, channels), npy_frame(frame, shape), label(tag, states, environment)
        if all(part is not None and part is not NotImplemented for part in parsed):
            plain = csv_is_plain(row) and npy_is_plain(frame, shape) and label_is_plain(tag)
            found[stem] = (parsed[0], parsed[2][1], parsed[1], parsed[2][0], (clock[stem] - first) % 86400, plain)
    return found


def _base(name):
    return re.split(r"[/\\]", name)[-1]


def _names(raw):
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return [_base(entry.filename) for entry in archive.infolist() if not entry.is_dir()]


def _fits(raw, entry, content):
    """Whether all that the directory says of a member is so; zipfile stops at its size, whatever follows."""
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
                except Exception:  # whatever zipfile finds wrong with a member
                    yield None
