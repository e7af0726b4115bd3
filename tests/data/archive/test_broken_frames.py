"""A broken file costs its second and is reported with archive, member, problem and remedy."""

import dataclasses
import json
import math
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.frames import read_frame
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import NAME, SHAPE, SPOILED, Tripwire, frame, header, label, npy, stem, store_of

pytestmark = [
    pytest.mark.promise(
        "input", "A broken file of a frame costs its second. The message names archive, file, problem and remedy."
    ),
    pytest.mark.promise(
        "input", "Names inside a zip are never used as paths. The header of a `.npy` file is matched, never evaluated."
    ),
]

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
    "a huge csv": ("csv", b"NTC,PM1.0,CT1\n" + b"1" * (1 << 20), "more than the limit of 65,536"),
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
    "a huge header": ("bin", HUGE, "more than the limit of 4,864"),
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
    "a huge json": ("json", b'{"a": "' + b"x" * (2 << 20) + b'"}', "more than the limit of 1,048,576"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_broken_file_costs_its_second_and_is_reported_with_place_problem_and_remedy(
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
    (dropped,) = session.dropped
    assert dropped.reason == f"bad_{suffix}"
    archive_name = recording.labels.name if suffix == "json" else recording.source.name
    assert dropped.where == f"{archive_name}: {stem(SPOILED)}.{suffix}"
    assert dropped.message.startswith("expected ") and ", found " in dropped.message and problem in dropped.message
    assert "; " in dropped.message and "again" in dropped.message, "there is a remedy"
    assert len(dropped.message) < 500


def test_values_in_unusual_spellings_are_read_as_written(recording, small):
    for case, second in (("swapped columns", 1), ("byte order mark", 3), ("CRLF", 4)):
        recording.files[f"{stem(second)}.csv"] = MEMBERS[case][1]
    recording.files[f"{stem(2)}.bin"] = MEMBERS["big-endian"][1]
    session = recording.write().read(small)
    np.testing.assert_allclose(session.sensors[[1, 3, 4]], [[20.25, 8, 2.5]] * 3)
    assert (session.thermal[2] == 42).all() and session.thermal.dtype == np.float32
    assert session.environment.tolist() == [[22.5]] * 5


@pytest.mark.parametrize("suffix", ["csv", "bin", "json"])
def test_missing_file_is_reported(suffix, recording, small):
    del recording.files[f"{stem(SPOILED)}.{suffix}"]
    (dropped,) = recording.write().read(small).dropped
    assert dropped.reason == f"missing_{suffix}" and dropped.where.endswith(f": {stem(SPOILED)}.{suffix}")
    assert "download or unpack" in dropped.message


def test_strict_stops_at_the_first_defect_with_the_full_message(recording, small, tmp_path):
    recording.files[f"{stem(SPOILED)}.bin"] = b"no frame"
    recording.write()
    with pytest.raises(DataError) as error:
        prepare(archive.sessions, small, recording.root, tmp_path / "cache", "x", strict=True, jobs=1)
    assert f"{NAME}.zip: {stem(SPOILED)}.bin: expected a .npy stream, found 8 bytes" in str(error.value)
    assert "numpy.save" in str(error.value)


def test_repeated_file_with_different_content_is_reported(recording, small):
    recording.write()
    with zipfile.ZipFile(recording.source, "a") as target:
        target.writestr(f"copy/{stem(1)}.csv", b"NTC,PM1.0,CT1\n99,8.00,2.50\n")
        target.writestr(f"copy/{stem(3)}.csv", recording.files[f"{stem(3)}.csv"])
    (dropped,) = recording.read(small).dropped
    assert stem(1) in dropped.where and "2 files of this name with different contents" in dropped.message


def test_names_that_lead_out_of_the_archive_are_read_by_base_name_and_write_nothing(recording, small, tmp_path):
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
    assert len(store.to_frame()) == 5, "backslashes separate folders in zips made on Windows"
    assert not list(Path("/etc").glob("oht01*"))


def test_damaged_member_is_reported_with_place_problem_and_remedy(recording, small):
    path = recording.write().source
    raw = bytearray(path.read_bytes())
    name = f"{stem(SPOILED)}.csv".encode()
    raw[raw.index(name)] ^= 0xFF  # in the member itself, not in the zip's directory
    path.write_bytes(raw)
    session = recording.read(small)
    (dropped,) = [entry for entry in session.dropped if entry.reason == "bad_csv"]
    assert dropped.where == f"{NAME}.zip: {stem(SPOILED)}.csv"
    assert dropped.message.startswith("expected a whole file, found damaged: the file is named")
    assert dropped.message.endswith("; download the archive again")


def impossible(suffix, recording):
    contents = {
        "csv": b"NTC,PM1.0,CT1\nNaN,8.00,2.50\n",
        "bin": npy(np.full(SHAPE, 999.0)),
        "json": json.dumps(label(external_data=None)).encode(),
    }
    recording.files[f"{stem(SPOILED)}.{suffix}"] = contents[suffix]
    return f"{recording.labels.name if suffix == 'json' else recording.source.name}: {stem(SPOILED)}.{suffix}"


@pytest.mark.parametrize("suffix", ["csv", "bin", "json"])
def test_impossible_values_are_reported_with_place_problem_and_remedy(suffix, recording, small, tmp_path):
    where = impossible(suffix, recording)
    manifest = store_of(recording.write(), small, tmp_path).manifest
    if suffix == "bin":
        (example,) = manifest["dropped_examples"]["bad_frame"]
        message = f"{example['where']}: {example['message']}"
    else:
        (message,) = manifest["repaired_examples"]
    assert message.startswith(f"{where}: second {SPOILED}: expected ") and ", found " in message and "; " in message
    for cache in ("cache", "other"):  # with and without a store
        with pytest.raises(DataError, match="strict=true") as caught:
            prepare(archive.sessions, small, recording.root, tmp_path / cache, "x", strict=True, jobs=1)
        assert message in str(caught.value)


def test_second_is_read_from_a_collectors_files(small, tmp_path):
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
