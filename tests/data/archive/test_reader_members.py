"""A session of the quirk set with a broken file, from other packers, in parts, or out of order."""

import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyorguard.data.archive import frames
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.session import Unreadable
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive import quirks


@pytest.fixture
def one_session(sets, tmp_path):
    """Copy a session into an empty folder; return the folder and its two archives."""

    def make(kind, name=None, root=None):
        name = name or quirks.CLEAN_OHT
        root = root or tmp_path / "one"
        root.mkdir(exist_ok=True)
        paths = []
        for stem in (name, name[0] + "L" + name[2:]):
            old = next(p for p in sets[kind].root.rglob(f"{stem}*") if p.name.removesuffix(".zip") == stem)
            copy = shutil.copytree if old.is_dir() else shutil.copy2
            paths.append(Path(copy(old, root / old.name)))
        return root, *paths

    return make


DEFECTS = {
    "csv column": ("csv", b"NTC,PM1.0\n1,2\n", "no column PM2.5"),
    "csv number": ("csv", b"NTC,PM1.0,PM2.5,PM10,CT1,CT2,CT3,CT4\n1,2,3,4,5,6,7,x\n", "'x'"),
    "csv underscore": ("csv", b"NTC,PM1.0,PM2.5,PM10,CT1,CT2,CT3,CT4\n1,2,3,4,5,6,7,1_0\n", "1_0"),
    "csv short row": ("csv", b"NTC,PM1.0,PM2.5,PM10,CT1,CT2,CT3,CT4\n1,2,3\n", "3"),
    "csv bytes": ("csv", b"\xff\xfe\x00", "other bytes"),
    "csv gone": ("csv", None, "none of that name"),
    "bin garbage": ("bin", b"no array", "no array"),
    "bin header": ("bin", b"\x93NUMPY\x01\x00\x06\x00{not}\n", ""),
    "bin version": ("bin", b"\x93NUMPY\x09\x00\x06\x00{not}\n", ""),
    "bin gone": ("bin", None, "none of that name"),
    "json cut": ("json", b'{"annotations": [', ""),
    "json state": ("json", b'{"annotations": [{"tagging": [{"state": "4"}]}]}', "4"),
    "json list": ("json", b"[1, 2]", ""),
    "json gone": ("json", None, "none of that name"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defective_frame_costs_its_second_and_strict_names_it(defect, one_session, schema, tmp_path):
    suffix, content, words = DEFECTS[defect]
    root, source, labels = one_session("folder")
    folder = labels if suffix == "json" else source
    member = sorted(folder.glob(f"*.{suffix}"))[31]
    member.unlink() if content is None else member.write_bytes(content)
    store = prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", jobs=1)
    assert store.to_frame()["time"].tolist() == [*range(31), *range(32, 60)]
    reason = f"{'missing' if content is None else 'bad'}_{suffix}"
    assert store.manifest["counts"]["dropped_frames"] == {reason: 1}
    for cache in ("cache", "other"):  # with and without a store
        with pytest.raises(DataError, match=r"data\.strict=true") as caught:
            prepare(archive.sessions, schema, root, tmp_path / cache, "aihub", strict=True, jobs=1)
        message = str(caught.value)
        assert folder.name in message and member.name in message
        assert words in message.split("expected ")[1].split(", found ")[1]
    assert not list((tmp_path / "other").iterdir()), "a refused build leaves nothing"


@pytest.mark.parametrize("suffix", ["csv", "bin"])
def test_strict_names_the_first_value_to_be_repaired(suffix, one_session, schema, tmp_path):
    root, source, _ = one_session("folder")
    member = sorted(source.glob(f"*.{suffix}"))[31]
    if suffix == "csv":
        member.write_bytes(b"NTC,PM1.0,PM2.5,PM10,CT1,CT2,CT3,CT4\n1,2,3,4,5,NaN,7,8\n")
    else:
        frame = np.load(member)
        frame[3, 4] = np.inf
        member.write_bytes(b"")
        with member.open("wb") as stream:
            np.save(stream, frame)
    store = prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", jobs=1)
    assert store.manifest["counts"]["repaired"]["seconds"] == 1
    for cache in ("cache", "other"):
        with pytest.raises(DataError, match=rf"strict=true: {source.name}.*second 31.*expected .*, found ") as caught:
            prepare(archive.sessions, schema, root, tmp_path / cache, "aihub", strict=True, jobs=1)
        assert ("CT2" if suffix == "csv" else "pixel") in str(caught.value)


def test_strict_accepts_sound_data(one_session, schema, tmp_path):
    root, *_ = one_session("zip")
    assert (
        len(prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", strict=True, jobs=1).to_frame()) == 60
    )


def test_strict_stops_at_a_session_without_labels(one_session, schema, tmp_path):
    root, source, labels = one_session("zip")
    labels.unlink()
    with pytest.raises(DataError, match=f"{source.stem}: expected labels .*found none"):
        prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", strict=True, jobs=1)


def only(root, schema):
    (item,) = archive.sessions(root, schema)
    return item


@pytest.mark.parametrize("packing", ["deflated", "stored"])
def test_damaged_member_of_a_zip_costs_its_second(packing, one_session, schema):
    """In a stored member only the checksum reveals the damage."""
    root, source, _ = one_session("zip")
    if packing == "stored":
        with zipfile.ZipFile(source) as packed:
            files = {name: packed.read(name) for name in packed.namelist()}
        with zipfile.ZipFile(source, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    with zipfile.ZipFile(source) as packed:
        damaged = [entry for entry in packed.infolist() if entry.filename.endswith(".bin")][7]
    raw = bytearray(source.read_bytes())
    name, extra = struct.unpack_from("<HH", raw, damaged.header_offset + 26)
    start = damaged.header_offset + 30 + name + extra
    raw[start + 200 : start + 240] = bytes(40)
    source.write_bytes(raw)
    session = only(root, schema).read()
    assert session.time.tolist() == [*range(7), *range(8, 60)]
    assert [(d.reason, d.where.split(": ")[1]) for d in session.dropped] == [("bad_bin", damaged.filename.strip("/"))]


@pytest.mark.parametrize("packing", ["stored", "deflated 9", "data descriptor", "in folders"])
def test_zips_of_other_packers_are_read_alike(packing, one_session, schema, tmp_path):
    root, source, _ = one_session("zip")
    expected = only(root, schema).read()
    with zipfile.ZipFile(source) as packed:
        files = {name.strip("/"): packed.read(name) for name in packed.namelist()}
    source.unlink()
    method = zipfile.ZIP_STORED if packing == "stored" else zipfile.ZIP_DEFLATED
    target = _Pipe(source) if packing == "data descriptor" else open(source, "wb")  # noqa: SIM115
    with target, zipfile.ZipFile(target, "w", method, compresslevel=9) as packed:
        for name, content in reversed(files.items()):
            packed.writestr(f"set/inner/{name}" if packing == "in folders" else name, content)
    session = only(root, schema).read()
    np.testing.assert_array_equal(session.thermal, expected.thermal)
    np.testing.assert_array_equal(session.sensors, expected.sensors)
    assert not session.dropped


class _Pipe:
    """A file without seeking: zipfile then writes the sizes of a member behind it."""

    def __init__(self, path):
        self.stream = open(path, "wb")  # noqa: SIM115
        self.write, self.flush = self.stream.write, self.stream.flush

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stream.close()


def test_single_part0_is_read_as_the_whole_zip(one_session, schema):
    root, source, labels = one_session("zip")
    expected = only(root, schema).read()
    for path in (source, labels):
        path.rename(f"{path}.part0")
    session = only(root, schema).read()
    np.testing.assert_array_equal(session.thermal, expected.thermal)
    np.testing.assert_array_equal(session.state, expected.state)


def test_several_parts_are_refused_with_the_remedy(one_session, schema):
    root, source, _ = one_session("zip")
    raw = source.read_bytes()
    source.unlink()
    for i in range(2):
        Path(f"{source}.part{i}").write_bytes(raw[i * 1000 : (i + 1) * 1000])
    item = only(root, schema)
    assert isinstance(item, Unreadable) and item.reason == "incomplete_download"
    assert "join" in item.message and f"{quirks.CLEAN_OHT}.zip" in item.message
    for place in (root / "joined", root):
        place.mkdir(exist_ok=True)
        (place / source.name).write_bytes(raw)
        assert len(only(root, schema).read().time) == 60, "the joined zip is read even if parts remain"
        (place / source.name).unlink()


@given(st.integers(0, 86399), st.sets(st.integers(1, 20_000), max_size=60))
def test_seconds_are_in_time_order_across_midnight(start, later):
    """A recording is far shorter than a day, so that the day's largest gap lies between its end and its start."""
    times = sorted({0, *later})
    seconds = {f"{(start + t) % 86400:06d}": (start + t) % 86400 for t in times}
    ordered = archive.in_time_order(sorted(seconds), seconds)
    assert [time for _, time in ordered] == times
    assert [seconds[stem] for stem, _ in ordered] == [(start + t) % 86400 for t in times]


def test_member_above_the_size_limit_is_refused(one_session, schema, monkeypatch):
    monkeypatch.setitem(frames.TEXT_LIMIT, "json", 300)  # a label has some thousand bytes
    for kind in ("zip", "folder"):
        root, *_ = one_session(kind, root=None)
        with pytest.raises(DataError, match="no usable frame"):
            only(root, schema).read()
        shutil.rmtree(root)
