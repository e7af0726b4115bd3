"""Every way in which archives have been seen or can be made to be broken: a named error with the remedy, nothing lost,
nothing else touched."""

import dataclasses
import importlib.util
import io
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.containers import Archive, Unusable
from conveyorguard.data.archive.frames import (
    Wrong,
    bin_limit,
    environment_value,
    parse_bin,
    parse_csv,
    parse_json,
    read_frame,
)
from conveyorguard.data.archive.reader import read_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Unreadable
from conveyorguard.data.store import Store, prepare
from conveyorguard.errors import DataError

ROOT = Path(__file__).parents[2]
NAME, LABELS = "TS_oht_01_oht01_0827_1011", "TL_oht_01_oht01_0827_1011"
COLUMNS = ["NTC", "PM1.0", "CT1"]
SHAPE = (6, 8)
SPOILED = 2  # the second that is broken


@pytest.fixture(scope="module")
def small():
    return Schema.from_config(
        {
            "channels": {name: {"unit": "x"} for name in COLUMNS},
            "environment": {"ex_temperature": {"unit": "degC"}},
            "thermal": {"shape": list(SHAPE), "stored": [3, 4]},
            "states": [{"name": name} for name in ("normal", "worn", "broken")],
        }
    )


def npy(frame):
    np.save(stream := io.BytesIO(), frame, allow_pickle=True)
    return stream.getvalue()


def label(state="1", **changes):
    return {
        "annotations": [{"tagging": [{"state": state}]}],
        "external_data": [{"ex_temperature": [{"value": 22.5}]}],
    } | changes


def stem(second):
    return f"oht01_0827_1011{second:02d}"


def frame(second):
    return {
        f"{stem(second)}.csv": f"NTC,PM1.0,CT1\n{20 + second}.25,8.00,2.50\n".encode(),
        f"{stem(second)}.bin": npy(np.full(SHAPE, 40.0 + second)),
        f"{stem(second)}.json": json.dumps(label()).encode(),
    }


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, raw in files.items():
            target.writestr(f"/{name}", raw)


class Recording:
    """Five seconds of a session, to be spoiled before it is written."""

    def __init__(self, root):
        self.root, self.files = root, {}
        for second in range(5):
            self.files |= frame(second)
        self.source, self.labels = root / f"{NAME}.zip", root / f"{LABELS}.zip"

    def write(self):
        self.root.mkdir(exist_ok=True)
        write_zip(self.source, {n: raw for n, raw in self.files.items() if not n.endswith("json")})
        write_zip(self.labels, {n: raw for n, raw in self.files.items() if n.endswith("json")})
        return self

    def read(self, schema):
        return read_session(NAME, self.source, self.labels, schema)


@pytest.fixture
def recording(tmp_path):
    return Recording(tmp_path / "set")


class Tripwire:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def header(text, version=b"\x01\x00", size="<H"):
    return b"\x93NUMPY" + version + struct.pack(size, len(text)) + text


PIXELS = np.full(SHAPE, 40.0).tobytes()
HUGE = (
    header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (6, 8), }" + b" " * 5_000_000 + b"\n", b"\x02\x00", "<I")
    + PIXELS
)
EVALUATED = header(b"{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (6, 8), }\n") + PIXELS
MEMBERS = {
    # csv
    "extra column": ("csv", b"NTC,PM1.0,CT1,CT9\n20.25,8.00,2.50,1\n", None),
    "swapped columns": ("csv", b"CT1,NTC,PM1.0\n2.50,20.25,8.00\n", None),
    "byte order mark": ("csv", b"\xef\xbb\xbfNTC,PM1.0,CT1\n20.25,8.00,2.50\n", None),
    "CRLF": ("csv", b"NTC,PM1.0,CT1\r\n20.25,8.00,2.50\r\n", None),
    "NaN": ("csv", b"NTC,PM1.0,CT1\nNaN,8.00,2.50\n", None),
    "Inf": ("csv", b"NTC,PM1.0,CT1\n20.25,-inf,2.50\n", None),
    "column missing": ("csv", b"NTC,CT1\n20.25,2.50\n", "no column PM1.0"),
    "column twice": ("csv", b"NTC,PM1.0,CT1,CT1\n20.25,8.00,2.50,9.99\n", "CT1 twice"),
    "decimal commas": ("csv", b"NTC,PM1.0,CT1\n20,25,8,00,2,50\n", "6: 20,25"),
    "decimal commas and semicolons": ("csv", b"NTC;PM1.0;CT1\n20,25;8,00;2,50\n", "no column NTC, PM1.0, CT1"),
    "a word": ("csv", b"NTC,PM1.0,CT1\nhot,8.00,2.50\n", "hot"),
    "an underscore": ("csv", b"NTC,PM1.0,CT1\n2_0,8.00,2.50\n", "2_0"),
    "empty csv": ("csv", b"", "0 lines"),
    "only a header": ("csv", b"NTC,PM1.0,CT1\n", "1 lines"),
    "two rows": ("csv", b"NTC,PM1.0,CT1\n1,2,3\n4,5,6\n", "3 lines"),
    "no text": ("csv", b"\xff\xfe\x00N\x00T", "other bytes"),
    "a huge csv": ("csv", b"NTC,PM1.0,CT1\n" + b"1" * (1 << 20), "at most 65,536 are expected"),
    # bin
    "big-endian": ("bin", npy(np.full(SHAPE, 42.0, ">f8")), None),
    "single precision": ("bin", npy(np.full(SHAPE, 42.0, "f4")), None),
    "whole numbers": ("bin", npy(np.full(SHAPE, 42)), "<i8 of shape (6, 8)"),
    "complex numbers": ("bin", npy(np.full(SHAPE, 42j)), "<c16"),
    "another shape": ("bin", npy(np.full((8, 6), 42.0)), "<f8 of shape (8, 6)"),
    "flat": ("bin", npy(np.full(48, 42.0)), "<f8 of shape (48,)"),
    "Fortran order": ("bin", npy(np.asfortranarray(np.arange(48.0).reshape(SHAPE))), "in Fortran order"),
    "objects": ("bin", npy(np.full(SHAPE, Tripwire("unpickled"), object)), "|O of shape"),
    "a pickle": ("bin", pickle.dumps(Tripwire("unpickled")), "bytes beginning"),
    "a huge header": ("bin", HUGE, "at most 4,864 are expected"),
    "a long header": ("bin", header(b"{" + b" " * 4000 + b"}") + b"\0" * 400, "header of floating point"),
    "a header to be evaluated": ("bin", EVALUATED, "header of floating point"),
    "a header that ends nowhere": ("bin", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + PIXELS, "one of 2,147,483,659"),
    "little-endian as big-endian": (
        "bin",
        npy(np.full(SHAPE, 30.25)).replace(b"<f8", b">f8"),
        "byte order of the header, >f8, found 2.08e-317",
    ),
    "little-endian as big-endian, one of 0": (
        "bin",
        npy(np.arange(48.0).reshape(SHAPE)).replace(b"<f8", b">f8"),
        "byte order of the header",
    ),
    "single precision in the wrong order": (
        "bin",
        npy(np.full(SHAPE, 30.25, "<f4")).replace(b"<f4", b">f4"),
        "byte order of the header, >f4",
    ),
    "a frame of 0 and below": ("bin", npy(np.linspace(-9, 0, 48).reshape(SHAPE)), None),
    "cut short": ("bin", npy(np.full(SHAPE, 42.0))[:-3], "381"),
    "too long": ("bin", npy(np.full(SHAPE, 42.0)) + b"\0", "385"),
    "empty bin": ("bin", b"", "0 bytes"),
    # json
    "state as a number": ("json", json.dumps(label(1)).encode(), None),
    "environment as text": (
        "json",
        json.dumps(label(external_data=[{"ex_temperature": [{"value": "22.5"}]}])).encode(),
        None,
    ),
    "an environment block of null": ("json", json.dumps(label(external_data=None)).encode(), None),
    "a null block": ("json", json.dumps(label(annotations=None)).encode(), "NoneType"),
    "null inside": ("json", json.dumps(label(annotations=[{"tagging": [None]}])).encode(), "NoneType"),
    "null for a state": ("json", json.dumps(label(None)).encode(), "None"),
    "true for a state": ("json", json.dumps(label(True)).encode(), "True"),
    "half a state": ("json", json.dumps(label(1.5)).encode(), "1.5"),
    "a state of words": ("json", json.dumps(label("severe")).encode(), "severe"),
    "a state with a blank": ("json", json.dumps(label(" 1")).encode(), "' 1'"),
    "a state beyond the last": ("json", json.dumps(label("3")).encode(), "3"),
    "no object": ("json", b"[1, 2]", "TypeError"),
    "deep nesting": ("json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "depth limit"),
    "deep lists": ("json", b"[" * 900_000, ""),
    "a key twice": (
        "json",
        b'{"annotations": [{"tagging": [{"state": "0", "state": "2"}]}], "external_data": [{}]}',
        "'state' twice",
    ),
    "a block twice": (
        "json",
        json.dumps(label()).encode()[:-1] + b', "annotations": [{"tagging": [{"state": "2"}]}]}',
        "'annotations' twice",
    ),
    "a value twice": (
        "json",
        json.dumps(label()).encode().replace(b'"value": 22.5', b'"value": 22.5, "value": 3'),
        "'value' twice",
    ),
    "a value twice, an object between": (
        "json",
        json.dumps(label()).encode().replace(b'"value": 22.5', b'"value": 22.5, "x": {}, "value": 99'),
        "'value' twice",
    ),
    "a key twice, one of them in disguise": (
        "json",
        json.dumps(label()).encode().replace(b'"state"', b'"st\\u0061te": "2", "state"'),
        "'state' twice",
    ),
    "not a number": ("json", b'{"annotations": NaN}', ""),
    "cut json": ("json", json.dumps(label()).encode()[:30], ""),
    "empty json": ("json", b"", ""),
    "a huge json": ("json", b'{"a": "' + b"x" * (2 << 20) + b'"}', "at most 1,048,576 are expected"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_a_broken_file_costs_its_second_and_is_told_with_archive_member_problem_and_remedy(
    case, recording, small, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    suffix, content, problem = MEMBERS[case]
    recording.files[f"{stem(SPOILED)}.{suffix}"] = content
    session = recording.write().read(small)
    assert not Path("unpickled").exists(), "a pickle was executed"
    if problem is None:
        assert session.time.tolist() == [0, 1, 2, 3, 4] and not session.dropped
        return
    assert session.time.tolist() == [0, 1, 3, 4], "the other seconds are all there"
    (told,) = session.dropped
    assert told.reason == f"bad_{suffix}"
    assert (
        told.where
        == f"{recording.labels.name if suffix == 'json' else recording.source.name}: {stem(SPOILED)}.{suffix}"
    )
    assert told.message.startswith("expected ") and ", found " in told.message and problem in told.message
    assert "; " in told.message and ("again" in told.message or "fetch" in told.message), "there is a remedy"
    assert len(told.message) < 500


def test_values_of_odd_spellings_are_those_written(recording, small):
    for case, second in (("swapped columns", 1), ("byte order mark", 3), ("CRLF", 4)):
        recording.files[f"{stem(second)}.csv"] = MEMBERS[case][1]
    recording.files[f"{stem(2)}.bin"] = MEMBERS["big-endian"][1]
    session = recording.write().read(small)
    np.testing.assert_allclose(session.sensors[[1, 3, 4]], [[20.25, 8, 2.5]] * 3)
    assert (session.thermal[2] == 42).all() and session.thermal.dtype == np.float32
    assert session.environment.tolist() == [[22.5]] * 5


@pytest.mark.parametrize("suffix", ["csv", "bin", "json"])
def test_a_missing_file_is_told(suffix, recording, small):
    del recording.files[f"{stem(SPOILED)}.{suffix}"]
    (told,) = recording.write().read(small).dropped
    assert (
        told.reason == f"missing_{suffix}"
        and told.where.endswith(f": {stem(SPOILED)}.{suffix}")
        and "fetch or unpack" in told.message
    )


def test_strict_stops_at_the_first_with_the_whole_sentence(recording, small, tmp_path):
    recording.files[f"{stem(SPOILED)}.bin"] = b"no frame"
    recording.write()
    with pytest.raises(DataError) as error:
        prepare(archive.sessions, small, recording.root, tmp_path / "cache", "x", strict=True, jobs=1)
    assert f"{NAME}.zip: {stem(SPOILED)}.bin: expected a .npy stream, found 8 bytes" in str(error.value)
    assert "numpy.save" in str(error.value)


def test_a_file_there_twice_with_other_content_is_told(recording, small):
    recording.write()
    with zipfile.ZipFile(recording.source, "a") as target:
        target.writestr(f"copy/{stem(1)}.csv", b"NTC,PM1.0,CT1\n99,8.00,2.50\n")
        target.writestr(f"copy/{stem(3)}.csv", recording.files[f"{stem(3)}.csv"])
    (told,) = recording.read(small).dropped
    assert stem(1) in told.where and "2 files of this name with different contents" in told.message


def test_names_that_lead_out_of_the_archive_write_nothing_and_are_read_as_the_files_they_are(
    recording, small, tmp_path
):
    recording.write()
    names = ["../../../", "/etc/", "..\\..\\", "C:/", "a/../../b/"]
    with zipfile.ZipFile(recording.source, "w") as target:
        for second, folder in enumerate(names):
            for suffix in ("csv", "bin"):
                target.writestr(f"{folder}{stem(second)}.{suffix}", recording.files[f"{stem(second)}.{suffix}"])
        target.writestr("../../evil.sh", b"#!/bin/sh")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    store = prepare(archive.sessions, small, recording.root, tmp_path / "cache", "x", jobs=1)
    new = {path for path in tmp_path.rglob("*") if path not in before}
    assert {path.relative_to(tmp_path).parts[0] for path in new} == {"cache"}, "nothing was written outside the store"
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()} == {
        p: t for p, t in before.items() if p.is_file()
    }
    assert len(store.frames) == 5, "a backslash separates as well: zips made on Windows have them"
    assert not list(Path("/etc").glob("oht01*"))


# Archives


def store_of(recording, schema, tmp_path):
    return prepare(archive.sessions, schema, recording.root, tmp_path / "cache", "x", jobs=1)


def skipped(store):
    return {entry["session"]: f"{entry['reason']}: {entry['message']}" for entry in store.manifest["skipped_sessions"]}


@pytest.fixture
def beside(recording):
    """A second, sound recording in the same folder, so that there is something to prepare."""
    other = "oht_02_oht02_0827_1011"
    recording.root.mkdir()
    files = {name.replace("oht01", "oht02"): raw for name, raw in recording.files.items()}
    write_zip(recording.root / f"TS_{other}.zip", {n: raw for n, raw in files.items() if not n.endswith("json")})
    write_zip(recording.root / f"TL_{other}.zip", {n: raw for n, raw in files.items() if n.endswith("json")})
    return recording


def bomb(path):
    """A zip of 600 kB whose files claim, and have, 60 GiB: 60 entries that share one compressed GiB of zeros."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = b"\0" * (1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(64)) + packer.flush()
    crc, size = zlib.crc32(b"\0" * (64 << 20)), 64 << 20
    local, directory = b"", b""
    for i in range(300):
        name = f"{stem(0)[:-4]}{i // 60:02d}{i % 60:02d}.bin".encode()
        if i == 0:
            local = (
                struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0)
                + name
                + packed
            )
        directory += (
            struct.pack(
                "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0, 0, 0, 0, 0, 0
            )
            + name
        )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 300, 300, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)


def huge_directory(path):
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 800_000
    path.write_bytes(directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0))


def huge_directory_in_the_zip64_record(path):
    """The plain end record tells of one entry; zipfile believes the other."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 800_000
    size = len(directory)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 800_000, 800_000, size, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 7, 1)
    path.write_bytes(directory + record + locator + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 46, 0, 0))


def encrypted(path):
    raw = bytearray(path.read_bytes())
    at = -1
    while (at := raw.find(b"PK\1\2", at + 1)) >= 0:
        raw[at + 8] |= 1
    path.write_bytes(raw)


ARCHIVES = {
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10]),
        "its end is missing",
    ),
    "empty": (lambda path: path.write_bytes(b""), "its end is missing"),
    "another format": (lambda path: path.write_bytes(b"Rar!\x1a\x07\x00" * 50), "no zip"),
    "a web page": (lambda path: path.write_text("<html>please log in</html>"), "no zip"),
    "a bomb": (bomb, "GiB when inflated, 16 GiB are allowed"),
    "a huge directory": (huge_directory, "its directory has"),
    "a huge directory in the zip64 record": (huge_directory_in_the_zip64_record, "its directory has"),
    "encrypted": (encrypted, "encrypted"),
    "of a later version": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"PK\1\2\x14\x03\x14", b"PK\1\2\x14\x03\xff")),
        "version",
    ),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "neither a folder nor a regular file"),
    "a link to nothing": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "No such file"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_broken_archive_is_skipped_and_told_and_the_others_are_read(case, beside, small, tmp_path):
    spoil, problem = ARCHIVES[case]
    beside.write()
    spoil(beside.source)
    began = time.monotonic()
    store = store_of(beside, small, tmp_path)
    assert time.monotonic() - began < 30
    assert set(store.frames["session"]) == {"TS_oht_02_oht02_0827_1011"}
    told = skipped(store)
    if case in ("a pipe", "a link to nothing") and NAME not in told:
        pytest.fail(f"{case} was passed over in silence")
    assert problem in told[NAME] and beside.source.name in told[NAME] and "again" in told[NAME]
    assert str(tmp_path) not in json.dumps(store.manifest), "no folder of this machine in what pages show"


def test_the_end_of_a_zip_is_where_zipfile_finds_it(recording, small):
    """Its number of files, of which zipfile makes nothing, may look like another end."""
    recording.write()
    raw = bytearray(recording.source.read_bytes())
    raw[-14:-10] = b"PK\5\6"
    recording.source.write_bytes(raw)
    assert recording.read(small).time.tolist() == [0, 1, 2, 3, 4]


def test_a_zip_bomb_of_sound_names_is_no_matter_of_memory(beside, small, tmp_path):
    """Members of 60 MiB, total within the limit: each is refused by what its directory says, none is inflated."""
    beside.write()
    with zipfile.ZipFile(beside.source, "w", zipfile.ZIP_DEFLATED) as target:
        for second in range(3):
            target.writestr(f"{stem(second)}.bin", b"\0" * (60 << 20))
            target.writestr(f"{stem(second)}.csv", recording_csv(second))
    store = store_of(beside, small, tmp_path)
    assert "62,914,560 bytes when inflated, at most 4,864 are expected" in skipped(store)[NAME]


def recording_csv(second):
    return frame(second)[f"{stem(second)}.csv"]


def test_a_download_in_one_part_is_read_and_in_several_told(beside, small, tmp_path):
    beside.write()
    beside.source.rename(beside.source.with_name(f"{NAME}.zip.part0"))
    assert NAME in set(store_of(beside, small, tmp_path).frames["session"])
    (beside.root / f"{NAME}.zip.part1").write_bytes(b"rest")
    told = skipped(store_of(beside, small, tmp_path))
    assert "incomplete_download" in told[NAME] and f"join them into {NAME}.zip" in told[NAME]


def test_two_archives_of_one_name_are_told_and_the_first_is_read(beside, small, tmp_path):
    beside.write()
    (beside.root / "copy").mkdir()
    write_zip(beside.root / "copy" / beside.source.name, {})
    store = store_of(beside, small, tmp_path)
    assert len(store.frames) == 10
    assert (
        "duplicate_session: two archives of one name" in skipped(store)[NAME]
        and f"copy/{NAME}.zip" in skipped(store)[NAME]
    )
    with pytest.raises(DataError, match="two archives of one name"):
        prepare(archive.sessions, small, beside.root, tmp_path / "strict", "x", strict=True, jobs=1)


def test_labels_of_another_recording_are_told(beside, small, tmp_path):
    beside.files = {
        name.replace("0827", "0828") if name.endswith("json") else name: raw for name, raw in beside.files.items()
    }
    beside.write()
    told = skipped(store_of(beside, small, tmp_path))[NAME]
    assert f"{LABELS}.zip: its frames match none of {NAME}.zip" in told and "fetch the label archive again" in told


OTHERS = {
    "another device": lambda name: name.replace("oht01", "oht09"),
    "another kind": lambda name: name.replace("oht01", "agv01"),
    "another day": lambda name: name.replace("0827", "0901"),
    "the next day, but not after midnight": lambda name: name.replace("0827", "0828"),
    "the day before, but not before midnight": lambda name: name.replace("0827", "0826"),
    "a day that is none": lambda name: name.replace("0827", "9999"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_frame_of_another_recording_is_none_of_this_one_and_told(case, recording, small):
    recording.files |= {OTHERS[case](name): raw for name, raw in frame(7).items()}
    recording.files |= {OTHERS[case](name): raw for name, raw in frame(SPOILED).items() if name.endswith("json")}
    session = recording.write().read(small)
    assert session.time.tolist() == [0, 1, 2, 3, 4]
    assert [(told.reason, told.where) for told in session.dropped] == [
        ("other_recording", f"{NAME}.zip: {OTHERS[case](stem(7))}.csv"),
        ("other_recording", f"{LABELS}.zip: {OTHERS[case](stem(SPOILED))}.json"),
    ]
    message = "expected frames of oht01_0827, found another recording's; remove it, or move it"
    assert all(told.message.startswith(message) for told in session.dropped)


def test_an_archive_whose_own_day_errs_is_read_as_its_frames_say(recording, small):
    """The device is in the name of every frame; the archive's day is used for nothing but telling strange frames."""
    recording.files = {name.replace("0827", "0901"): raw for name, raw in recording.files.items()} | frame(7)
    session = recording.write().read(small)
    assert session.time.tolist() == [0, 1, 2, 3, 4] and session.device == "oht01"
    assert [told.where for told in session.dropped] == [f"{NAME}.zip: {stem(7)}.csv"]


def test_an_archive_under_the_name_of_another_recording_is_told(beside, small, tmp_path):
    beside.files = {name.replace("oht01", "oht09"): raw for name, raw in beside.files.items()}
    beside.write()
    told = skipped(store_of(beside, small, tmp_path))[NAME]
    found = (
        f"{NAME}.zip: expected frames of oht01_0827, found those of oht09_0827 alone, as oht09_0827_101100.csv; "
        "rename it"
    )
    assert found in told


def test_seconds_that_come_twice_are_told(recording, small, tmp_path):
    """Over midnight some go on under the old day and some under the new one: which is right nobody knows, the first is
    kept."""
    recording.files = {
        name.replace("_1011", "_0000").replace("0827", day): raw
        for day in ("0827", "0828")
        for second in (range(5) if day == "0827" else [SPOILED])
        for name, raw in frame(second).items()
    } | {name.replace("101104", "235959"): raw for name, raw in frame(4).items()}
    recording.source, recording.labels = (
        path.with_name(path.name.replace("1011", "2359")) for path in (recording.source, recording.labels)
    )
    store = store_of(recording.write(), small, tmp_path)
    assert store.frames["time"].tolist() == [0, 1, 2, 3, 4, 5]
    assert store.manifest["counts"]["dropped_frames"] == {"duplicate_second": 1}
    (told,) = store.manifest["dropped_examples"]["duplicate_second"]
    assert told["where"] == f"{recording.source.name}: oht01_0828_000002.csv"
    assert "found that second 3 comes twice" in told["message"] and "; remove" in told["message"]


def assert_in_order(session):
    assert session.time.tolist() == [0, 1, 2, 3, 4]
    assert session.sensors[:, 0].tolist() == [20.25, 21.25, 22.25, 23.25, 24.25]


def test_seconds_out_of_order_in_the_archive_are_put_in_order(recording, small):
    recording.files = dict(reversed(recording.files.items()))
    session = recording.write().read(small)
    assert_in_order(session)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("0827", "0827", "0827_2359"),
        ("0827", "0828", "0827_2359"),
        ("0827", "0828", "0828_0000"),
        ("1231", "0101", "1231_2359"),
        ("0228", "0229", "0228_2359"),
        ("0228", "0301", "0228_2359"),
    ],
)
def test_a_recording_over_midnight_is_in_order(before, after, named, recording, small):
    times = [f"{before}_235958", f"{before}_235959", f"{after}_000000", f"{after}_000001", f"{after}_000002"]
    recording.files = {
        name.replace(stem(i), f"oht01_{times[i]}"): raw for i in range(5) for name, raw in frame(i).items()
    }
    recording.write()
    name = NAME.replace("0827_1011", named)
    session = read_session(name, recording.source, recording.labels, small)
    assert_in_order(session)
    assert session.dropped == []


ODD_NAMES = {
    "upper case": (str.upper, "OHT01_0827_101102.CSV"),
    "a prefix": (lambda name: f"copy of {name}", "copy of oht01_0827_101102.csv"),
    "numpy's suffix": (lambda name: name.replace(".csv", ".npy"), "oht01_0827_101102.npy"),
    "no text": (lambda name: name.replace("oht", "\x1b[2K\n"), "\\x1b[2K\\n01_0827_101102.csv"),
}


@pytest.mark.parametrize("case", ODD_NAMES)
def test_a_file_whose_name_is_none_of_a_frame_is_told(case, recording, small, tmp_path):
    change, shown = ODD_NAMES[case]
    recording.files = {change(name) if stem(SPOILED) in name else name: raw for name, raw in recording.files.items()}
    recording.files |= {"._" + stem(1) + ".csv": b"of a Mac", "readme.txt": b"no data"}
    session = recording.write().read(small)
    assert session.time.tolist() == [0, 1, 3, 4]
    told = [told for told in session.dropped if told.where == f"{NAME}.zip: {shown}"]
    assert [one.reason for one in told] == ["bad_name"] and "rename the file, or remove it" in told[0].message
    assert {one.reason for one in session.dropped} <= {"bad_name", "missing_csv"}
    assert not [one for one in session.dropped if "._" in one.where or "readme" in one.where], "what is no frame's file"
    with pytest.raises(DataError, match=r"strict=true.*: expected "):
        prepare(archive.sessions, small, recording.root, tmp_path / "cache", "x", strict=True, jobs=1)


def test_where_no_file_is_named_as_a_frame_an_example_is_given(recording, small):
    recording.files = {name.upper(): raw for name, raw in recording.files.items()}
    example = rf"the first of 15 being {NAME}\.zip: OHT01_0827_101100\.BIN: expected a name as .*; rename the file"
    with pytest.raises(DataError, match=rf"no usable frame \(not one of its files is named as a frame is, {example}"):
        recording.write().read(small)


def test_names_with_backslashes_are_those_of_zips_made_on_windows(recording, small):
    recording.files = {f"set\\sub\\{name}": raw for name, raw in recording.files.items()}
    assert_in_order(recording.write().read(small))
    unpack(recording)
    assert_in_order(read_session(NAME, recording.source.with_suffix(""), recording.labels.with_suffix(""), small))


@pytest.mark.parametrize(
    ("start", "day", "time", "its"),
    [
        ("2350", "0828", "234900", True),
        ("2350", "0828", "235100", False),
        ("0010", "0826", "122000", True),
        ("0010", "0826", "120500", False),
        ("0010", "0828", "000900", True),
        ("0010", "0828", "001100", False),
        ("1011", "0829", "000000", False),
        ("1011", "0827", "235959", True),
    ],
)
def test_a_frame_of_the_day_beside_belongs_to_a_recording_over_midnight_alone(start, day, time, its):
    """To the day after up to the minute the recording is named after, to the day before in the half of it that is
    nearer."""
    second = int(time[:2]) * 3600 + int(time[2:4]) * 60 + int(time[4:])
    of = {"device": "oht01", "day": "0827", "start": start}
    assert archive.belongs(f"oht01_{day}_{time}", second, of) == its
    assert not archive.belongs(f"oht02_{day}_{time}", second, of)


def test_a_damaged_member_is_told_with_archive_member_problem_and_remedy(recording, small):
    path = recording.write().source
    raw = bytearray(path.read_bytes())
    name = f"{stem(SPOILED)}.csv".encode()
    raw[raw.index(name)] ^= 0xFF  # of the member itself; the directory of the zip has it right
    path.write_bytes(raw)
    session = recording.read(small)
    (told,) = [one for one in session.dropped if one.reason == "bad_csv"]
    assert told.where == f"{NAME}.zip: {stem(SPOILED)}.csv"
    assert told.message.startswith("expected a whole file, found damaged: another name") and told.message.endswith(
        "; fetch the archive again"
    )


def test_a_time_that_is_none_is_told(recording, small):
    recording.files |= {name.replace(stem(1), "oht01_0827_256190"): raw for name, raw in frame(1).items()}
    session = recording.write().read(small)
    assert len(session.time) == 5
    assert {told.reason for told in session.dropped} == {"bad_name"}
    assert "256190" in session.dropped[0].message and "rename" in session.dropped[0].message


# Folders


def unpack(recording):
    for path in (recording.source, recording.labels):
        with zipfile.ZipFile(path) as archive_:
            names = {name: archive_.read(name) for name in archive_.namelist()}
        path.unlink()
        folder = path.with_suffix("")
        folder.mkdir()
        for name, raw in names.items():
            (folder / Path(name).name).write_bytes(raw)
    return recording.source.with_suffix("")


def test_loops_of_links_end(beside, small, tmp_path):
    folder = unpack(beside.write())
    for name in ("one", "two", "three"):  # three ways down at each of forty levels would never end
        (folder / name).symlink_to(folder)
        (beside.root / f"up-{name}").symlink_to(beside.root)
    began = time.monotonic()
    store = store_of(beside, small, tmp_path)
    assert time.monotonic() - began < 20
    assert sorted(set(store.frames["session"])) == [NAME, "TS_oht_02_oht02_0827_1011"]


def test_what_is_no_file_in_a_folder_costs_its_second(beside, small, tmp_path):
    """A pipe would be waited for, a link to nothing and a folder cannot be read."""
    folder = unpack(beside.write())
    for second, make in (
        (1, os.mkfifo),
        (2, lambda p: p.symlink_to("nowhere")),
        (3, lambda p: p.symlink_to("/dev/zero")),
    ):
        path = folder / f"{stem(second)}.csv"
        path.unlink()
        make(path)
    began = time.monotonic()
    store = store_of(beside, small, tmp_path)
    assert time.monotonic() - began < 20
    assert (store.frames["session"] == NAME).sum() == 2
    told = json.dumps(store.manifest["dropped_examples"]["bad_csv"])
    assert told.count("no regular file") == 2 and "No such file" in told and str(tmp_path) not in told


def test_names_that_are_no_text_do_no_harm(beside, small, tmp_path):
    """Unpacked with the wrong code page: bytes that are no UTF-8."""
    folder = unpack(beside.write())
    for place in (folder, beside.root):
        garbled = os.fsencode(place) + b"/01.\xbf\xf8\xc3\xb5"
        os.mkdir(garbled)
        with open(garbled + b"/\xff\xfe.csv", "wb") as stream:
            stream.write(b"x")
    store = store_of(beside, small, tmp_path)
    assert len(store.frames) == 10
    with pytest.raises(DataError, match="no session of AI Hub"):
        list(archive.sessions(os.fsdecode(os.fsencode(beside.root) + b"/01.\xbf\xf8\xc3\xb5"), small))


# Disks


def mounted(place, size):
    """A file system of that size, or None where this user may not mount."""
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    return place if done.returncode == 0 else None


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0 or (place := mounted(tmp_path / "disk", "600k")) is None:
        pytest.skip("a small tmpfs needs the right to mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place, leave):
    """Leave so many bytes of the disk."""
    file = os.open(place / "filling", os.O_WRONLY | os.O_CREAT)
    size = 0
    try:
        while True:
            size += os.write(file, b"\0" * 4096)
    except OSError:
        os.ftruncate(file, max(0, size - leave))
    os.close(file)


@pytest.mark.parametrize("leave", [0, 8 << 10, 40 << 10])
def test_a_full_disk_is_told_and_what_was_there_is_whole(leave, beside, small, small_disk):
    beside.write()
    cache = small_disk / "cache"
    first = prepare(archive.sessions, small, beside.root, cache, "first", jobs=1)
    before = {path.name: path.read_bytes() for path in first.path.iterdir()}
    beside.files |= {
        name.replace("1011", f"10{minute:02d}"): raw
        for minute in range(12, 40)
        for s in range(50)
        for name, raw in frame(s).items()
    }
    beside.write()
    fill(small_disk, leave)
    with pytest.raises(DataError) as error:
        prepare(archive.sessions, small, beside.root, cache, "second", jobs=1)
    assert "the frame store cannot be written (No space left on device" in str(error.value) and "paths.cache" in str(
        error.value
    )
    assert {path.name: path.read_bytes() for path in first.path.iterdir()} == before
    assert [path.name for path in cache.iterdir()] == [first.path.name], "nothing half-written is left"
    (small_disk / "filling").unlink()
    assert len(Store(first.path).frames) == 10


def test_a_cache_that_cannot_be_written_is_told(beside, small, tmp_path):
    beside.write()
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"paths\.cache=.*cannot be written.*Free space or set paths\.cache"):
        store_of(beside, small, tmp_path)


def test_a_read_only_disk_is_told(beside, small, tmp_path):
    place = tmp_path / "disk"
    if os.geteuid() != 0 or mounted(place, "1m") is None:
        pytest.skip("a read-only file system needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        beside.write()
        with pytest.raises(DataError, match=r"cannot be written \(Read-only file system\)"):
            prepare(archive.sessions, small, beside.root, place / "cache", "x", jobs=1)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_root_is_only_read(beside, small, tmp_path):
    place = tmp_path / "disk"
    if os.geteuid() != 0 or mounted(place, "1m") is None:
        pytest.skip("a read-only file system needs the right to mount")
    try:
        beside.root = place / "set"
        beside.source, beside.labels = beside.root / beside.source.name, beside.root / beside.labels.name
        beside.write()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert len(store_of(beside, small, tmp_path).frames) == 5
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_short_fuzz_finds_nothing():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/fuzz/reader.py"), "--inputs", "4000", "--seed", "7"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4,000 inputs" in done.stdout


def test_a_fuzz_that_had_no_time_for_what_was_asked_is_no_success():
    line = [sys.executable, str(ROOT / "tests/fuzz/reader.py"), "--inputs", "1000000", "--seconds", "1"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1 and "1,000,000 inputs were asked for" in done.stdout and "0 findings" in done.stdout


@pytest.mark.parametrize("parse", ["parse_csv", "parse_json", "parse_bin"])
def test_what_is_fuzzed_is_that_nothing_is_written(parse, tmp_path):
    written = tmp_path / "written"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests/fuzz')!r}); import reader\n"
        f"reader.frame_files.{parse} = lambda *_: open({str(written)!r}, 'w')\n"
        f"reader.work(0, 0, 60, float('inf'), open({str(tmp_path / 'progress')!r}, 'w'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and f"opened for writing: {written}" in done.stderr and not written.exists()


def test_of_thousands_of_files_of_one_name_two_are_held():
    opened, reads = Archive(None), []
    opened.files["a"] = [lambda limit, i=i: reads.append(i) or bytes([i % 2]) for i in range(1000)]
    with pytest.raises(Unusable, match="1000 files of this name with different contents"):
        opened.read("a", 10)
    assert reads == [0, 1]


def lossy(change):
    """A reader that loses something without a word."""

    def read(*arguments):
        session = read_session(*arguments)
        return change(session) if len(session.time) > 1 else session

    return read


def first_second_alone(session):
    names = ("time", "sensors", "environment", "thermal", "state")
    return dataclasses.replace(session, **{name: getattr(session, name)[:1] for name in names})


def refuse(*arguments):
    raise DataError(f"{NAME}.zip: cannot be read")


READERS = {
    "a reader of first seconds": lossy(first_second_alone),
    "a reader of late clocks": lossy(lambda session: dataclasses.replace(session, time=session.time + 1)),
    "a reader of swapped states": lossy(lambda session: dataclasses.replace(session, state=session.state[::-1] - 1)),
    "a reader of nothing": refuse,
    "the reader": read_session,
}


@pytest.mark.parametrize("case", READERS)
def test_what_is_fuzzed_in_zips_is_that_everything_sound_is_read(case, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests/fuzz"))
    specification = importlib.util.spec_from_file_location("fuzzed_reader", ROOT / "tests/fuzz/reader.py")
    fuzz = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(fuzz)
    monkeypatch.setattr(fuzz.archive, "read_session", READERS[case])
    made = (fuzz.made(0, number) for number in range(120))
    verdicts = {fuzz.judged(kind, content, tmp_path, {})[0] for kind, content in made if kind == "zip"}
    assert ("finding" in verdicts) == (case != "the reader")


# The files of a frame, one by one: what is expected and what was found


CHANNELS = ("NTC", "PM1.0", "CT1", "CT2")


def wrong(parse, *arguments):
    with pytest.raises(Wrong) as error:
        parse(*arguments)
    assert str(error.value) == error.value.expected
    return error.value.expected, error.value.found


def test_a_row_is_read_by_the_names_of_its_columns():
    assert parse_csv(b' CT2 ,"NTC", PM1.0,x,CT1\n\n4,1e0, 2 ,9,-3.5\n \n', CHANNELS) == [1, 2, -3.5, 4]
    assert math.isnan(parse_csv(b"NTC,PM1.0,CT1,CT2\n1,nan,3,4", CHANNELS)[1])


def test_half_of_the_channels_may_be_missing_where_that_is_allowed():
    half = parse_csv(b"CT2,NTC\n4,1\n", CHANNELS, True)
    assert half[0] == 1 and half[3] == 4 and math.isnan(half[1]) and math.isnan(half[2])
    columns = "columns NTC, PM1.0, CT1, CT2"
    assert wrong(parse_csv, b"CT2\n4\n", CHANNELS, True) == (columns, "no column NTC, PM1.0, CT1 in CT2")
    assert wrong(parse_csv, b"NTC,CT1,CT2\n1,3,4\n", CHANNELS) == (columns, "no column PM1.0 in NTC,CT1,CT2")
    assert wrong(parse_csv, b"NTC\n1\n", CHANNELS[:3], True)[1] == "no column PM1.0, CT1 in NTC"


def test_what_is_wrong_with_a_row_is_told():
    start = b"NTC,PM1.0,CT1,CT2"
    assert wrong(parse_csv, start + b",CT1\n1,2,3,4,5", CHANNELS) == ("each column once", "CT1 twice")
    assert wrong(parse_csv, start + b",NTC,CT1\n1,2,3,4,5,6", CHANNELS) == ("each column once", "NTC, CT1 twice")
    assert parse_csv(start + b",x,x\n1,2,3,4,5,6", CHANNELS) == [1, 2, 3, 4], "columns that nobody reads"
    assert wrong(parse_csv, start + b"\n1,2,3", CHANNELS) == ("4 values as in the header", "3: 1,2,3")
    assert wrong(parse_csv, start + b"\n1,2,3,x", CHANNELS) == ("numbers", "could not convert string to float: 'x'")
    assert wrong(parse_csv, start + b"\n1,2,3,1_0", CHANNELS) == ("numbers", "could not read 1,2,3,1_0")
    assert wrong(parse_csv, start, CHANNELS) == ("a header and a row", "1 lines")
    assert wrong(parse_csv, b"\xff\xfe", CHANNELS) == ("text in UTF-8", "other bytes")
    expected, found = wrong(parse_csv, start + b"\n1" + b"0" * 500, CHANNELS)
    assert found == "1: 1" + "0" * 116, "the first 120 characters of it"


COUNTED = np.arange(48.0)


def pixels_under(text, version=b"\x01\x00", size="<H", frame=COUNTED):
    return header(text, version, size) + frame.tobytes()


WHOLE = b"{'descr': '<f8', 'fortran_order': False, 'shape': (6, 8), }\n"


@pytest.mark.parametrize(
    "raw",
    [
        pixels_under(WHOLE),
        pixels_under(WHOLE, b"\x02\x00", "<I"),
        pixels_under(WHOLE, b"\x03\x00", "<I"),
        pixels_under(b'{"shape":(6,8),"fortran_order":False,"descr":"<f8"}'),
        pixels_under(WHOLE + b" " * (4096 - 10 - len(WHOLE))),
        pixels_under(WHOLE.replace(b"<f8", b">f8"), frame=np.arange(48, dtype=">f8")),
        pixels_under(WHOLE.replace(b"<f8", b"<f2"), frame=np.arange(48, dtype="<f2")),
    ],
    ids=["version 1", "version 2", "version 3", "another order", "the longest header", "big-endian", "half precision"],
)
def test_a_frame_is_read_under_every_header_that_numpy_writes(raw):
    frame = parse_bin(raw, SHAPE)
    assert frame.dtype == np.float32 and frame.shape == SHAPE
    np.testing.assert_array_equal(frame.ravel(), np.arange(48))


def test_what_is_wrong_with_a_frame_is_told():
    numbers, matched = (
        "floating point numbers of shape (6, 8)",
        "a .npy header of floating point numbers of shape (6, 8)",
    )
    for change, found in (
        ((b"<f8", b"<i8"), "<i8 of shape (6, 8)"),
        ((b"<f8", b"|f8"), "|f8 of shape (6, 8)"),
        ((b"False", b"True"), "<f8 of shape (6, 8) in Fortran order"),
        ((b"(6, 8)", b"(6, 8, 1)"), "<f8 of shape (6, 8, 1)"),
    ):
        assert wrong(parse_bin, pixels_under(WHOLE.replace(*change)), SHAPE) == (numbers, found)
    for text in (
        WHOLE.replace(b"}", b"'descr': '<f8'}"),
        WHOLE.replace(b"'descr'", b"'shape'"),
        b"x" + WHOLE,
        WHOLE + b"x",
    ):
        assert wrong(parse_bin, pixels_under(text), SHAPE) == (matched, repr(text[:80]))
    whole = pixels_under(WHOLE)
    for raw in (b"\x93NUMPX" + whole[6:], whole[:6] + b"\x04\x00" + whole[8:], whole[:11]):
        assert wrong(parse_bin, raw, SHAPE) == ("a .npy stream", f"{len(raw)} bytes beginning {raw[:8]!r}")
    assert wrong(parse_bin, whole[:12], SHAPE) == (matched, repr(WHOLE[:2]))
    assert wrong(parse_bin, whole + b"\0", SHAPE) == ("384 bytes of pixels", "385")
    assert wrong(parse_bin, whole[:-1], SHAPE) == ("384 bytes of pixels", "383")
    long = pixels_under(WHOLE + b" " * (4097 - 10 - len(WHOLE)))
    assert wrong(parse_bin, long, SHAPE) == ("a .npy header of at most 4096 bytes", "one of 4,097")
    assert bin_limit(SHAPE) == 4096 + 16 * 48


def test_numbers_that_do_not_fit_into_a_frame_are_repaired_later():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = parse_bin(pixels_under(WHOLE, frame=np.full(48, 1e300)), SHAPE)
        signalling = parse_bin(pixels_under(WHOLE, frame=np.full(48, 0x7FF0000000000001)), SHAPE)
    assert np.isinf(frame).all() and np.isnan(signalling).all()


OUTSIDE = ("ex_temperature", "ex_humidity")


def test_a_label_has_a_state_and_what_was_measured_outside():
    text = json.dumps(
        label("2", external_data=[{"ex_humidity": [{"value": "40.5"}], "ex_temperature": [{"value": 21}]}])
    )
    for raw in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        assert parse_json(raw, 3, OUTSIDE) == (2, [21, 40.5])
    state, (warmth, humidity) = parse_json(json.dumps(label(0)).encode(), 3, OUTSIDE)
    assert (state, warmth) == (0, 22.5) and math.isnan(humidity)


@pytest.mark.parametrize("value", [True, "1_0", "warm", None, [1], 10**400, ""])
def test_what_was_measured_outside_and_is_no_number_is_left_to_repair(value):
    assert math.isnan(environment_value({"external_data": [{"ex_humidity": [{"value": value}]}]}, "ex_humidity"))
    for broken in (None, [], {}, {"external_data": []}, {"external_data": [{"ex_humidity": []}]}):
        assert math.isnan(environment_value(broken, "ex_humidity"))


def test_what_is_wrong_with_a_label_is_told():
    place = "annotations[0].tagging[0].state"
    for state in ("1.0", "+1", "-01", "-0", "", "1" * 10, 1.5, True, " 1"):
        assert wrong(parse_json, json.dumps(label(state)).encode(), 3, ()) == (
            f"a state's number at {place}",
            repr(state),
        )
    for state in ("3", "-1", 3):
        assert wrong(parse_json, json.dumps(label(state)).encode(), 3, ()) == ("a state of 0..2", str(state))
    assert wrong(parse_json, b"{}", 3, ()) == (place, "none (KeyError: 'annotations')")
    assert wrong(parse_json, b'{"annotations": []}', 3, ()) == (place, "none (IndexError: list index out of range)")
    expected, found = wrong(parse_json, b"{", 3, ())
    assert expected == "json" and "unexpected end" in found


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="only until 3.11 does the json of Python end before orjson's does"
)
def test_a_label_too_deep_to_look_for_repeated_keys_is_told():
    deep = json.dumps(label()).encode()[:-1] + b', "\\\\": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    expected, found = wrong(parse_json, deep, 3, ())
    assert expected == "json" and "recursion" in found


def test_a_key_that_is_read_and_stands_twice_is_told():
    plain = json.dumps(label("1"))
    for once, twice, key in (
        ('"annotations"', '"annotations": 0, "annotations"', "annotations"),
        ('"tagging"', '"tagging": 0, "tagging"', "tagging"),
        ('"state"', '"state": 0, "state"', "state"),
        ('"external_data"', '"external_data": 0, "external_data"', "external_data"),
        ('"ex_temperature"', '"ex_temperature": 0, "ex_temperature"', "ex_temperature"),
        ('"value"', '"value": 0, "value"', "value"),
        ('"state"', '"\\u0073tate": 0, "state"', "state"),
    ):
        raw = plain.replace(once, twice).encode()
        assert wrong(parse_json, raw, 3, ("ex_temperature",)) == ("each key once in an object", f"'{key}' twice")
    assert parse_json(plain.replace('"state"', '"note": 1, "note": 2, "state"').encode(), 3, ()) == (1, [])
    separate = json.dumps(label("1", other=[{"state": "2"}, {"value": 3}, {"value": 4}])).encode()
    assert parse_json(separate, 3, ("ex_temperature",)) == (1, [22.5]), "one key in two objects"


# Which archives are found


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def found(root, schema):
    return [
        (one.name, f"{one.reason}: {one.message}" if isinstance(one, Unreadable) else [path.name for path in one.files])
        for one in archive.sessions(root, schema)
    ]


AGV = "agv_02_agv02_0828_0900"


def test_recordings_are_found_at_any_depth_in_order_with_labels_of_their_own_part(small, tmp_path):
    root = touch(
        tmp_path,
        f"Validation/01.source/VS_{AGV}.zip",
        f"Validation/02.label/VL_{AGV}.zip",
        f"Training/01.source/{NAME}.zip",
        f"Training/01.source/TS_{AGV}.zip",
        f"Training/02.label/{LABELS}.zip",
        f"Training/01.source/X{NAME}.zip",
        f"Training/01.source/{NAME}",  # a file without a suffix is no archive
        "Training/notes.txt",
    )
    train = [(f"TS_{AGV}", [f"TS_{AGV}.zip"]), (NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]
    assert found(root, small) == [*train, (f"VS_{AGV}", [f"VS_{AGV}.zip", f"VL_{AGV}.zip"])]
    assert found(root / "Training", small) == train
    assert found(root / "Training" / "01.source", small) == train, "the labels are next door"


def test_linked_folders_are_looked_into_and_a_link_back_ends_nothing(small, tmp_path):
    touch(tmp_path, f"elsewhere/{NAME}.zip")
    root = touch(tmp_path / "set", f"z/{LABELS}.zip")
    (root / "a").symlink_to(root)
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert found(root, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]


def test_of_a_numbered_folder_the_labels_are_next_door_and_no_further(small, tmp_path):
    touch(tmp_path, f"far/01.source/{NAME}.zip", f"labels/{LABELS}.zip")
    assert found(tmp_path / "far" / "01.source", small) == [(NAME, [f"{NAME}.zip"])]


def test_where_some_labels_are_nothing_is_looked_for_next_door(small, tmp_path):
    root = touch(tmp_path, f"01.source/{NAME}.zip", f"02.label/{LABELS}.zip", f"01.source/TL_{AGV}.zip") / "01.source"
    alone = (
        f"TL_{AGV}.zip: expected the source archive TS_{AGV} as well, found its labels alone; fetch it, or remove them"
    )
    assert found(root, small) == [(NAME, [f"{NAME}.zip"]), (f"TL_{AGV}", f"missing_source: {alone}")]
    (root / f"TL_{AGV}.zip").unlink()
    assert found(root, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]


def test_an_unpacked_archive_is_not_searched_for_others(small, tmp_path):
    root = touch(
        tmp_path,
        f"sensors/{NAME}/x.csv",
        f"sensors/{NAME}/deeper/TS_{AGV}.zip",
        "sensors/other/deeper/TS_agv_03_agv03_0828_0900.zip",
    )
    assert [name for name, _ in found(root, small)] == ["TS_agv_03_agv03_0828_0900", NAME]


def test_of_one_unpacked_recording_the_labels_are_looked_for_two_folders_up(small, tmp_path):
    touch(tmp_path, f"01.source/{NAME}/x.csv", f"02.label/{LABELS}/x.json", f"02.label/TL_{AGV}.zip")
    assert found(tmp_path / "01.source" / NAME, small) == [(NAME, [NAME, LABELS])]
    plain = touch(tmp_path / "set", f"sensors/{NAME}.zip", f"labels/{LABELS}.zip") / "sensors"
    assert found(plain, small) == [(NAME, [f"{NAME}.zip"])], "of a folder of any other name nothing is known"


def test_a_recording_unpacked_into_a_folder_of_its_name_is_one(small, tmp_path):
    root = touch(tmp_path / "set" / "sensors", f"{NAME}/{NAME}/x.csv")
    assert found(root, small) == [(NAME, [NAME])]
    assert found(root / NAME, small) == [(NAME, [NAME])]


def test_a_whole_archive_wins_over_a_part_and_of_two_the_first(small, tmp_path):
    one = touch(tmp_path / "one", f"a/{NAME}.zip.part0", f"b/{NAME}.zip")
    other = touch(tmp_path / "other", f"a/{NAME}.zip", f"b/{NAME}.zip.part0")
    for root in (one, other):
        assert found(root, small) == [(NAME, [f"{NAME}.zip"])]
    twice = touch(tmp_path / "twice", f"a/{NAME}.zip", f"b/{NAME}.zip", f"{LABELS}.zip", f"c/{LABELS}.zip")
    duplicate = (
        "duplicate_session: two archives of one name: {0} was read, {1} was not; remove or rename the one that is wrong"
    )
    assert found(twice, small) == [
        (NAME, [f"{NAME}.zip", f"{LABELS}.zip"]),
        (NAME, duplicate.format(f"a/{NAME}.zip", f"b/{NAME}.zip")),
        (LABELS, duplicate.format(f"{LABELS}.zip", f"c/{LABELS}.zip")),
    ]


@pytest.mark.parametrize(
    "name",
    [
        f"{NAME} (1).zip",
        f"{NAME}.zip.part",
        f"{NAME}.zip.crdownload",
        f"{NAME}.7z",
        f"{NAME}.ZIP.part0",
        NAME,
        f"{NAME.lower()}.zip",
        f"{NAME} - copy/x.csv",
    ],
)
def test_what_is_called_almost_like_an_archive_is_told(name, small, tmp_path):
    root = touch(tmp_path, f"sensors/{name}", f"labels/{LABELS}.zip", f"TS_{AGV}.zip")
    (one, (told, message)) = found(root, small)
    assert one == (f"TS_{AGV}", [f"TS_{AGV}.zip"]) and told == NAME
    assert message.startswith(
        f"bad_archive_name: sensors/{name.split('/')[0]}: expected {NAME}.zip or a folder {NAME}, found"
    )
    assert "rename" in message
    with pytest.raises(DataError, match=r"data\.strict=true: sensors/"):
        prepare(archive.sessions, small, root, tmp_path / "cache", "x", strict=True, jobs=1)
    (root / f"TS_{AGV}.zip").unlink()
    with pytest.raises(DataError, match=r"no session of AI Hub[^\0]*not read:   sensors/[^\0]*rename"):
        list(archive.sessions(root, small))


def test_parts_of_an_archive_are_told_together_and_what_lies_beside_a_whole_one_only_where_it_is_a_zip(small, tmp_path):
    touch(
        tmp_path,
        f"{NAME}.zip.001",
        f"{NAME}.zip.002",
        f"{LABELS}.zip",
        f"{LABELS} (1).zip",
        f"{LABELS}.zip.md5",
        f"TS_{AGV}.zip",
    )
    told = dict(found(tmp_path, small))
    assert list(told) == [f"TS_{AGV}", LABELS, NAME]
    assert f"{NAME}.zip.001 and 1 more like it: expected {NAME}.zip" in told[NAME] and "join parts" in told[NAME]
    assert f"{LABELS} (1).zip: expected" in told[LABELS]


def test_a_zip_may_have_its_suffix_in_capitals(recording, small):
    recording.write()
    for path in (recording.source, recording.labels):
        path.rename(path.with_suffix(".ZIP"))
    (one,) = archive.sessions(recording.root, small)
    assert_in_order(one.read())


def impossible(suffix, recording):
    contents = {
        "csv": b"NTC,PM1.0,CT1\nNaN,8.00,2.50\n",
        "bin": npy(np.full(SHAPE, 999.0)),
        "json": json.dumps(label(external_data=None)).encode(),
    }
    recording.files[f"{stem(SPOILED)}.{suffix}"] = contents[suffix]
    return f"{recording.labels.name if suffix == 'json' else recording.source.name}: {stem(SPOILED)}.{suffix}"


@pytest.mark.parametrize("suffix", ["csv", "bin", "json"])
def test_what_the_store_finds_is_told_with_archive_member_problem_and_remedy(suffix, recording, small, tmp_path):
    where = impossible(suffix, recording)
    manifest = store_of(recording.write(), small, tmp_path).manifest
    if suffix == "bin":
        (example,) = manifest["dropped_examples"]["bad_frame"]
        told = f"{example['where']}: {example['message']}"
    else:
        (told,) = manifest["repaired_examples"]
    assert told.startswith(f"{where}: second {SPOILED}: expected ") and ", found " in told and "; " in told
    for cache in ("cache", "other"):  # the store is there already, and it is not
        with pytest.raises(DataError, match="strict=true") as caught:
            prepare(archive.sessions, small, recording.root, tmp_path / cache, "x", strict=True, jobs=1)
        assert told in str(caught.value)


def test_a_folder_that_cannot_be_looked_into_is_told(beside, small, tmp_path, monkeypatch):
    """Rights do not stop the user who runs the tests in a container, so that the system's answer is put in their
    place."""
    unpack(beside.write())
    touch(beside.root, f"locked/{NAME}/x.csv", "locked/x.txt")
    scandir, closed = os.scandir, ["locked"]

    def refuse(path="."):
        if Path(os.fsdecode(path)).name in closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    store = store_of(beside, small, tmp_path)
    assert len(store.frames) == 10
    locked = (
        "unreadable_folder: locked: this folder cannot be looked into (Permission denied), and what is in it "
        "was not read; give"
    )
    assert skipped(store)["locked"].startswith(locked)
    closed.append(NAME)
    told = skipped(store_of(beside, small, tmp_path))
    assert list(told) == ["locked", NAME] and "cannot be read as an archive (Permission denied)" in told[NAME]
    closed.append(beside.root.name)
    with pytest.raises(DataError, match=r"(?s)no session.*\.: this folder cannot be looked into"):
        list(archive.sessions(beside.root, small))


def test_parts_are_told_of_source_and_of_labels(small, tmp_path):
    touch(tmp_path, f"{NAME}.zip", f"{LABELS}.zip.part0")
    assert found(tmp_path, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip.part0"])]
    touch(tmp_path, f"{LABELS}.zip.part1")
    joined = f"one of several parts; join them into {LABELS}.zip, in the order of their numbers"
    assert found(tmp_path, small) == [(NAME, f"incomplete_download: {LABELS}.zip.part0 is {joined}")]


def test_a_root_without_recordings_says_what_was_looked_for(small, tmp_path):
    with pytest.raises(DataError, match="gone: no such folder"):
        list(archive.sessions(tmp_path / "gone", small))
    with pytest.raises(DataError, match=r"no session of AI Hub #71802 found\.\n(.*\n)* .*none, it is empty"):
        list(archive.sessions(tmp_path, small))
    touch(tmp_path, *(f"{i}.txt" for i in range(9)), f"{LABELS}.zip")
    first = r"first entries: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt, 7.txt\)"
    with pytest.raises(
        DataError, match=rf"There are 1 label archives, but labels alone are not enough\.\n(.*\n)* .*{first}"
    ):
        list(archive.sessions(tmp_path, small))


# What a session is


def test_a_session_is_its_frames_in_order_of_time(recording, small):
    session = recording.write().read(small)
    assert (session.name, session.device, session.kind) == (NAME, "oht01", "oht")
    assert session.time.tolist() == [0, 1, 2, 3, 4] and session.state.tolist() == [1] * 5 and session.dropped == []
    assert session.sensors.tolist() == [[20.25 + second, 8, 2.5] for second in range(5)]
    assert session.thermal[:, 0, 0].tolist() == [40, 41, 42, 43, 44]
    types = [session.time, session.state, session.sensors, session.environment, session.thermal]
    assert [array.dtype for array in types] == [np.int64, np.int64, np.float32, np.float32, np.float32]
    bare = read_session(NAME, recording.source, None, dataclasses.replace(small, thermal=None))
    assert bare.state is None and bare.thermal is None and np.isnan(bare.environment).all() and bare.dropped == []
    assert bare.environment.shape == (5, 1)


def test_a_second_known_from_one_of_its_files_is_told(recording, small):
    del recording.files[f"{stem(1)}.csv"], recording.files[f"{stem(1)}.bin"], recording.files[f"{stem(3)}.json"]
    session = recording.write().read(small)
    assert session.time.tolist() == [0, 2, 4]
    assert [(told.reason, told.where) for told in session.dropped] == [
        ("missing_csv", f"{NAME}.zip: {stem(1)}.csv"),
        ("missing_json", f"{LABELS}.zip: {stem(3)}.json"),
    ]
    again = "expected the file, found none of that name; fetch or unpack the archive again"
    assert {told.message for told in session.dropped} == {again}


def test_without_one_frame_there_is_no_session(recording, small):
    recording.files = {name: b"" for name in recording.files}
    with pytest.raises(
        DataError,
        match=rf"^{NAME}.zip: no usable frame \({NAME}.zip: {stem(0)}.csv: expected a header and a row, found 0 "
        r"lines; ",
    ):
        recording.write().read(small)
    recording.files = {}
    with pytest.raises(
        DataError, match=rf"^{NAME}.zip: no usable frame \(it holds no file of a frame; fetch it again, or remove it\)$"
    ):
        recording.write().read(small)


def test_missing_columns_are_read_as_unknown_only_where_that_is_allowed(recording, small):
    for second in range(5):
        recording.files[f"{stem(second)}.csv"] = b"NTC,CT1\n1,3\n"
    recording.write()
    (one,) = archive.sessions(recording.root, small, incomplete=True)
    assert np.isnan(one.read().sensors[:, 1]).all()
    (one,) = archive.sessions(recording.root, small)
    with pytest.raises(DataError, match=r"no column PM1\.0"):
        one.read()


@pytest.mark.parametrize("time", ["240000", "126000", "120060"])
def test_the_first_second_that_is_none_is_told_and_the_last_that_is_one_is_read(time, recording, small):
    recording.files |= {name.replace(stem(1)[-6:], "235959"): raw for name, raw in frame(1).items()}
    recording.files |= {name.replace(stem(1)[-6:], time): raw for name, raw in frame(1).items()}
    session = recording.write().read(small)
    assert len(session.time) == 6
    message = f"expected a time of day, HHMMSS, at the end of the name, found {time}; rename the file"
    assert [(told.reason, told.message) for told in session.dropped] == [("bad_name", message)] * 3
    assert session.dropped[0].where == f"{NAME}.zip: oht01_0827_{time}.bin"


def test_seconds_of_the_day_are_counted_from_the_first():
    seconds = {"a": 86399, "b": 0, "c": 3}
    assert archive.in_time_order(["a", "b", "c"], seconds) == [("a", 0), ("b", 1), ("c", 4)]
    assert archive.in_time_order(["c"], seconds) == [("c", 0)] and archive.in_time_order([], {}) == []


def test_one_second_is_read_as_a_collector_writes_it(small, tmp_path):
    name = stem(1)
    for written, raw in frame(1).items():
        (tmp_path / written).write_bytes(raw)
    sensors, environment, thermal = read_frame(tmp_path, name, small, tmp_path)
    assert (sensors, environment) == ([21.25, 8, 2.5], [22.5]) and (thermal == 41).all()
    (tmp_path / f"{name}.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(label()).encode())
    assert read_frame(tmp_path, name, small, tmp_path)[1] == [22.5]
    (tmp_path / f"{name}.json").write_bytes(MEMBERS["a value twice, an object between"][1])
    with pytest.raises(DataError, match=rf"{name}: expected each key once in an object, found 'value' twice"):
        read_frame(tmp_path, name, small, tmp_path)
    (tmp_path / f"{name}.csv").write_bytes(b"NTC,CT1\n1,3\n")
    sensors, environment, thermal = read_frame(tmp_path, name, dataclasses.replace(small, thermal=None))
    assert math.isnan(sensors[1]) and len(environment) == 1 and math.isnan(environment[0]) and thermal is None
    (tmp_path / f"{name}.csv").write_bytes(b"NTC\n1\n")
    with pytest.raises(DataError, match=f"^{tmp_path.name}: {name}: expected columns NTC, .*, found no column PM1"):
        read_frame(tmp_path, name, small)
    with pytest.raises(DataError, match=f"^{tmp_path.name}: {stem(2)}: .*No such file"):
        read_frame(tmp_path, stem(2), small)
