"""The reader of AI Hub #71802, on archives written from its description with every quirk of it."""

import functools
import os
import re
import shutil
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.frames import TEXT_LIMIT
from conveyorguard.data.session import Unreadable
from conveyorguard.data.store import Store, prepare
from conveyorguard.data.windows import WindowSettings, make_windows
from conveyorguard.errors import DataError

VARIANTS = [("zip", False), ("zip", True), ("folder", False), ("folder", True)]


@dataclass
class Case:
    expected: object
    store: Store
    before: dict
    after: dict

    def rows(self, name):
        """The frames of one session by second."""
        frames = self.store.frames
        return frames[frames["session"] == name].set_index("time")


def listing(root):
    """Everything below a folder with size and time of change."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(root.rglob("*"))} | {
        "": root.stat().st_mtime_ns
    }


@pytest.fixture(scope="module", params=VARIANTS, ids=["zip", "zip garbled", "folder", "folder garbled"])
def case(request, quirks, schema, tmp_path_factory):
    base = tmp_path_factory.mktemp("quirks")
    expected = quirks.write(base / "set", *request.param)
    before = listing(expected.root)
    store = prepare(archive.sessions, schema, expected.root, base / "cache", "aihub", jobs=1)
    yield Case(expected, store, before, listing(expected.root))
    shutil.rmtree(base)


def of_each_session(case):
    return [(name, session, case.rows(name)) for name, session in case.expected.sessions.items()]


def test_exactly_the_sound_seconds_are_accepted_with_their_states(case):
    assert set(case.store.frames["session"]) == set(case.expected.sessions)
    for name, session, rows in of_each_session(case):
        assert len(rows) == session.seconds, name
        if session.labelled:
            assert rows["state"].to_dict() == session.states, name
        else:
            assert set(rows["state"]) == {-1}, name
        assert set(rows["device"]) == {session.device} and set(rows["kind"]) == {session.kind}
        assert not set(rows.index) & {*session.dropped, *session.absent}, name


def test_values_are_those_written(case):
    for name, session, rows in of_each_session(case):
        for (second, channel), value in {**session.sensors, **session.environment}.items():
            assert rows.loc[second, channel] == pytest.approx(value, abs=1e-4), (name, second, channel)


def test_thermal_statistics_are_of_the_full_resolution(case):
    columns = ["thermal_max", "thermal_y_max", "thermal_x_max", "thermal_mean"]
    for name, session, rows in of_each_session(case):
        for second, values in session.thermal.items():
            assert rows.loc[second, columns].to_numpy(float) == pytest.approx(values, abs=2e-3), (name, second)


def test_stored_frames_keep_the_peak(case):
    """A hot component is a few pixels: the block maximum of the store is the frame's own."""
    frames, thermal = case.store.frames, case.store.thermal
    assert thermal.shape == (len(frames), 2, 30, 40)
    np.testing.assert_allclose(thermal[:, 1].max((1, 2)), frames["thermal_max"], rtol=1e-3)
    np.testing.assert_allclose(thermal[:, 0].mean((1, 2), dtype=float), frames["thermal_mean"], rtol=1e-3)


def test_dropped_frames_are_counted_and_named_by_reason(case):
    manifest, expected = case.store.manifest, case.expected
    elsewhere = {reason: n for counts in expected.dropped_in_skipped.values() for reason, n in counts.items()}
    counts = {reason: n - elsewhere.get(reason, 0) for reason, n in expected.dropped.items()}
    assert manifest["counts"]["dropped_frames"] == counts
    found = {}  # session: {second: reason}
    for reason, examples in manifest["dropped_examples"].items():
        for example in examples:
            name, clock = re.fullmatch(
                r"([TV][SL]_\w+)(?:\.zip)?: \w+_(\d{6})\.(?:csv|bin|json)", example["where"]
            ).groups()
            name = name[0] + "S" + name[2:]
            start = 59 if "oht07" in name else 0  # of the minute in the name
            found.setdefault(name, {})[_seconds(clock) - _seconds(name[-4:] + f"{start:02d}")] = reason
            assert "expected" in example["message"] and "found" in example["message"]
    assert found == {name: session.dropped for name, session in expected.sessions.items() if session.dropped}
    per_session = {entry["session"]: entry["dropped"] for entry in manifest["sessions"]}
    assert per_session == {name: len(session.dropped) for name, session in expected.sessions.items()}


def _seconds(clock):
    return int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:])


def test_exactly_the_repaired_seconds_are_flagged(case):
    for name, session, rows in of_each_session(case):
        assert set(rows.index[rows["quality"] != 0]) == session.repaired, name
    assert case.store.manifest["counts"]["repaired"] == {"sensor_values": 4, "pixels": 8, "seconds": 10}


def test_windows_do_not_span_what_was_left_out(case):
    windows = make_windows(case.store, WindowSettings(size=30, stride=10), labelled=False)
    counts = windows["session"].value_counts().to_dict()
    assert counts == {name: session.windows for name, session in case.expected.sessions.items()}
    labelled = make_windows(case.store, WindowSettings(size=30, stride=10))
    assert set(labelled["session"]) == {name for name, session in case.expected.sessions.items() if session.labelled}


def test_unlabelled_sessions_are_named(case):
    unlabelled = [name for name, session in case.expected.sessions.items() if not session.labelled]
    assert case.store.manifest["unlabelled_sessions"] == unlabelled
    assert unlabelled[0] in case.store.summary()


def test_skipped_sessions_are_named_with_archive_and_reason(case):
    words = {"unreadable_archive": "cannot be read as an archive", "no_usable_frame": "no usable frame"}
    skipped = {entry["session"]: entry["message"] for entry in case.store.manifest["skipped_sessions"]}
    assert set(skipped) == set(case.expected.skipped)
    for name, reason in case.expected.skipped.items():
        assert name in skipped[name] and words[reason] in skipped[name]
        assert skipped[name] in case.store.summary()


def test_nothing_is_unpickled_and_nothing_written_under_the_root(case):
    assert not case.expected.tripwire.exists()
    assert case.before == case.after


@pytest.fixture(scope="module")
def sets(quirks, tmp_path_factory):
    """The quirk set as zips and as folders, only to be read."""
    base = tmp_path_factory.mktemp("sets")
    yield {kind: quirks.write(base / kind, kind) for kind in ("zip", "folder")}
    shutil.rmtree(base)


def found(root, schema):
    """Session names and the number of files each is made of: one without labels, two with."""
    return {item.name: len(item.files) for item in archive.sessions(root, schema)}


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_the_root_may_be_any_level_of_the_set(kind, sets, schema, quirks):
    root = sets[kind].root
    name, opened, data = quirks.NAME.split("/")
    whole = found(root, schema)
    assert set(whole) == {*sets[kind].sessions, *sets[kind].skipped}
    assert {session for session, files in whole.items() if files == 1} == {quirks.UNLABELLED}
    for level in (Path(name), Path(name, opened), Path(name, opened, data)):
        assert found(root / level, schema) == whole, level
    for part in ("Training", "Validation"):
        of_part = {session: files for session, files in whole.items() if session[0] == part[0]}
        for level in (Path(name, opened, data, part), Path(name, opened, data, part, quirks.SOURCE)):
            assert found(root / level, schema) == of_part, level


def test_the_root_may_be_a_relative_path_or_one_session(sets, schema, quirks, monkeypatch):
    source = sets["folder"].root / quirks.NAME / "Training" / quirks.SOURCE
    assert found(source / quirks.CLEAN_OHT, schema) == {quirks.CLEAN_OHT: 2}
    monkeypatch.chdir(source)
    assert len(found(".", schema)) == 10 and quirks.CLEAN_OHT in found(".", schema)


@pytest.mark.parametrize("make", ["missing", "file", "empty", "other", "labels"])
def test_a_wrong_root_is_told_what_was_looked_for_and_where(make, sets, schema, quirks, tmp_path):
    root = tmp_path / "root"
    if make == "labels":
        root = sets["zip"].root / quirks.NAME / "Training" / quirks.LABELS
    elif make == "file":
        root.write_text("")
    elif make != "missing":
        root.mkdir()
        if make == "other":
            (root / "holiday.jpg").write_text("")
    with pytest.raises(DataError) as caught:
        list(archive.sessions(root, schema))
    message = str(caught.value)
    assert str(root) in message
    if make in ("missing", "file"):
        assert "no such folder" in message
    else:
        assert "TS_" in message and "looked for" in message and "remedy" in message
    if make == "other":
        assert "holiday.jpg" in message
    if make == "labels":
        assert "labels alone" in message


def test_a_loop_of_links_does_not_hang(sets, schema, tmp_path):
    shutil.copytree(sets["zip"].root, tmp_path / "set")
    before = found(tmp_path / "set", schema)
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set", target_is_directory=True)
    next((tmp_path / "set").rglob("01.*")).joinpath("up").symlink_to(tmp_path, target_is_directory=True)
    assert found(tmp_path / "set", schema) == before


@pytest.fixture
def one_session(sets, quirks, tmp_path):
    """A copy of one session in a folder of its own, and its two archives."""

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
def test_a_defective_frame_costs_that_frame_and_strict_names_it(defect, one_session, schema, tmp_path):
    suffix, content, words = DEFECTS[defect]
    root, source, labels = one_session("folder")
    folder = labels if suffix == "json" else source
    member = sorted(folder.glob(f"*.{suffix}"))[31]
    member.unlink() if content is None else member.write_bytes(content)
    store = prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", jobs=1)
    assert store.frames["time"].tolist() == [*range(31), *range(32, 60)]
    reason = f"{'missing' if content is None else 'bad'}_{suffix}"
    assert store.manifest["counts"]["dropped_frames"] == {reason: 1}
    for cache in ("cache", "other"):  # the store is there already, and it is not
        with pytest.raises(DataError, match=r"data\.strict=true") as caught:
            prepare(archive.sessions, schema, root, tmp_path / cache, "aihub", strict=True, jobs=1)
        message = str(caught.value)
        assert folder.name in message and member.name in message
        assert words in message.split("expected ")[1].split(", found ")[1]
    assert not list((tmp_path / "other").iterdir()), "a refused build leaves nothing"


@pytest.mark.parametrize("suffix", ["csv", "bin"])
def test_strict_names_what_would_be_repaired(suffix, one_session, schema, tmp_path):
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
    assert (
        prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", jobs=1).manifest["counts"]["repaired"][
            "seconds"
        ]
        == 1
    )
    for cache in ("cache", "other"):
        with pytest.raises(DataError, match=rf"strict=true: {source.name}.*second 31.*expected .*, found ") as caught:
            prepare(archive.sessions, schema, root, tmp_path / cache, "aihub", strict=True, jobs=1)
        assert ("CT2" if suffix == "csv" else "pixel") in str(caught.value)


def test_strict_is_content_with_sound_data(one_session, schema, tmp_path):
    root, *_ = one_session("zip")
    assert len(prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", strict=True, jobs=1).frames) == 60


def test_strict_stops_at_sessions_without_labels(one_session, schema, tmp_path):
    root, source, labels = one_session("zip")
    labels.unlink()
    with pytest.raises(DataError, match=f"{source.stem}: expected labels .*found none"):
        prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", strict=True, jobs=1)


def only(root, schema):
    (item,) = archive.sessions(root, schema)
    return item


@pytest.mark.parametrize("packing", ["deflated", "stored"])
def test_a_damaged_member_of_a_zip_costs_its_frame(packing, one_session, schema):
    """If stored, only the checksum can tell."""
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
def test_zips_of_other_packers_read_the_same(packing, one_session, schema, tmp_path):
    root, source, _ = one_session("zip")
    wanted = only(root, schema).read()
    with zipfile.ZipFile(source) as packed:
        files = {name.strip("/"): packed.read(name) for name in packed.namelist()}
    source.unlink()
    method = zipfile.ZIP_STORED if packing == "stored" else zipfile.ZIP_DEFLATED
    target = _Pipe(source) if packing == "data descriptor" else open(source, "wb")  # noqa: SIM115
    with target, zipfile.ZipFile(target, "w", method, compresslevel=9) as packed:
        for name, content in reversed(files.items()):
            packed.writestr(f"set/inner/{name}" if packing == "in folders" else name, content)
    session = only(root, schema).read()
    np.testing.assert_array_equal(session.thermal, wanted.thermal)
    np.testing.assert_array_equal(session.sensors, wanted.sensors)
    assert not session.dropped


class _Pipe:
    """A file that can only be written in order: a packer then puts the sizes of a member behind it."""

    def __init__(self, path):
        self.stream = open(path, "wb")  # noqa: SIM115
        self.write, self.flush = self.stream.write, self.stream.flush

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stream.close()


def test_a_lone_part0_is_the_whole_zip(one_session, schema):
    root, source, labels = one_session("zip")
    wanted = only(root, schema).read()
    for path in (source, labels):
        path.rename(f"{path}.part0")
    session = only(root, schema).read()
    np.testing.assert_array_equal(session.thermal, wanted.thermal)
    np.testing.assert_array_equal(session.state, wanted.state)


def test_several_parts_are_refused_with_the_remedy(one_session, schema, quirks):
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
        assert len(only(root, schema).read().time) == 60, "the joined zip counts, whatever is left of its parts"
        (place / source.name).unlink()


@given(st.integers(0, 86399), st.sets(st.integers(1, 20_000), max_size=60))
def test_seconds_are_in_time_order_across_midnight(start, later):
    """A recording is far shorter than a day, so the largest silence on the clock is that between its end and its
    begin."""
    times = sorted({0, *later})
    seconds = {f"{(start + t) % 86400:06d}": (start + t) % 86400 for t in times}
    ordered = archive.in_time_order(sorted(seconds), seconds)
    assert [time for _, time in ordered] == times
    assert [seconds[stem] for stem, _ in ordered] == [(start + t) % 86400 for t in times]


def test_reading_a_member_of_absurd_size_is_refused(one_session, schema, monkeypatch):
    monkeypatch.setitem(TEXT_LIMIT, "json", 300)  # a label has some thousand bytes
    for kind in ("zip", "folder"):
        root, *_ = one_session(kind, root=None)
        with pytest.raises(DataError, match="no usable frame"):
            only(root, schema).read()
        shutil.rmtree(root)


def test_the_reader_gives_the_same_in_other_processes(sets, schema, tmp_path):
    """What it yields pickles: the store reads in parallel."""
    reader = functools.partial(archive.sessions)
    one, two = (prepare(reader, schema, sets["zip"].root, tmp_path / f"{jobs}", "aihub", jobs=jobs) for jobs in (1, 2))
    assert one.fingerprint == two.fingerprint
    assert os.listdir(one.path.parent) == os.listdir(two.path.parent)
