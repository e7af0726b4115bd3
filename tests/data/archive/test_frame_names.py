"""Names of frame files: device, day and time; frames of other recordings, invalid names, time order, midnight."""

import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.reader import read_session
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import LABELS, NAME, SPOILED, assert_in_order, frame, stem, store_of, unpack

pytestmark = [
    pytest.mark.promise(
        "input",
        "Misnamed archives and frames, labels without frames and unreadable folders are named. No frame of "
        "another device or day enters a session. `data.strict=true` stops at the first.",
    ),
    pytest.mark.promise(
        "input",
        "Two archives of one name, labels of another recording, repeated or impossible seconds, loops of "
        "links and undecodable names are reported.",
    ),
]

OTHERS = {
    "another device": lambda name: name.replace("oht01", "oht09"),
    "another kind": lambda name: name.replace("oht01", "agv01"),
    "another day": lambda name: name.replace("0827", "0901"),
    "the next day, but not after midnight": lambda name: name.replace("0827", "0828"),
    "the day before, but not before midnight": lambda name: name.replace("0827", "0826"),
    "an impossible day": lambda name: name.replace("0827", "9999"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_frame_of_another_recording_is_dropped_and_reported(case, recording, small):
    recording.files |= {OTHERS[case](name): raw for name, raw in frame(7).items()}
    recording.files |= {OTHERS[case](name): raw for name, raw in frame(SPOILED).items() if name.endswith("json")}
    session = recording.write().read(small)
    assert session.time.tolist() == [0, 1, 2, 3, 4]
    assert [(dropped.reason, dropped.where) for dropped in session.dropped] == [
        ("other_recording", f"{NAME}.zip: {OTHERS[case](stem(7))}.csv"),
        ("other_recording", f"{LABELS}.zip: {OTHERS[case](stem(SPOILED))}.json"),
    ]
    message = "expected frames of oht01_0827, found another recording's; remove it, or move it"
    assert all(dropped.message.startswith(message) for dropped in session.dropped)


def test_archive_named_after_a_wrong_day_is_read_by_its_frames(recording, small):
    """The archive's day serves only to recognise frames of other recordings."""
    recording.files = {name.replace("0827", "0901"): raw for name, raw in recording.files.items()} | frame(7)
    session = recording.write().read(small)
    assert session.time.tolist() == [0, 1, 2, 3, 4] and session.device == "oht01"
    assert [dropped.where for dropped in session.dropped] == [f"{NAME}.zip: {stem(7)}.csv"]


def test_repeated_seconds_are_dropped_and_reported(recording, small, tmp_path):
    """Over midnight files may carry the old or the new day: of two files of a second the first is kept."""
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
    assert store.to_frame()["time"].tolist() == [0, 1, 2, 3, 4, 5]
    assert store.manifest["counts"]["dropped_frames"] == {"duplicate_second": 1}
    (example,) = store.manifest["dropped_examples"]["duplicate_second"]
    assert example["where"] == f"{recording.source.name}: oht01_0828_000002.csv"
    assert "found that period 3 comes twice" in example["message"] and "; remove" in example["message"]


def test_seconds_out_of_order_in_the_archive_are_sorted(recording, small):
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
def test_recording_over_midnight_is_in_time_order(before, after, named, recording, small):
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
    "control characters": (lambda name: name.replace("oht", "\x1b[2K\n"), "\\x1b[2K\\n01_0827_101102.csv"),
}


@pytest.mark.parametrize("case", ODD_NAMES)
def test_frame_file_with_an_invalid_name_is_reported(case, recording, small, tmp_path):
    change, shown = ODD_NAMES[case]
    recording.files = {change(name) if stem(SPOILED) in name else name: raw for name, raw in recording.files.items()}
    recording.files |= {"._" + stem(1) + ".csv": b"of a Mac", "readme.txt": b"no data"}
    session = recording.write().read(small)
    assert session.time.tolist() == [0, 1, 3, 4]
    (misnamed,) = [dropped for dropped in session.dropped if dropped.where == f"{NAME}.zip: {shown}"]
    assert misnamed.reason == "bad_name" and "rename the file, or remove it" in misnamed.message
    assert {dropped.reason for dropped in session.dropped} <= {"bad_name", "missing_csv"}
    places = [dropped.where for dropped in session.dropped]
    assert not [where for where in places if "._" in where or "readme" in where], "these are not frame files"
    with pytest.raises(DataError, match=r"strict=true.*: expected "):
        prepare(archive.sessions, small, recording.root, tmp_path / "cache", "x", strict=True, jobs=1)


def test_archive_without_valid_names_is_refused_with_an_example(recording, small):
    recording.files = {name.upper(): raw for name, raw in recording.files.items()}
    example = rf"for example {NAME}\.zip: OHT01_0827_101100\.BIN: expected a name like .*; rename the file"
    with pytest.raises(DataError, match=rf"no usable frame \(none of its 15 frame files has a valid name, {example}"):
        recording.write().read(small)


def test_names_with_backslashes_are_read_by_base_name(recording, small):
    recording.files = {f"set\\sub\\{name}": raw for name, raw in recording.files.items()}
    assert_in_order(recording.write().read(small))
    unpack(recording)
    assert_in_order(read_session(NAME, recording.source.with_suffix(""), recording.labels.with_suffix(""), small))


@pytest.mark.parametrize(
    ("start", "day", "time", "belongs"),
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
def test_frame_of_a_neighbouring_day_belongs_only_to_a_recording_over_midnight(start, day, time, belongs):
    """The next day counts until the start time in the archive's name, the previous one from half a day after it."""
    second = int(time[:2]) * 3600 + int(time[2:4]) * 60 + int(time[4:])
    name = {"device": "oht01", "day": "0827", "start": start}
    assert archive.belongs(f"oht01_{day}_{time}", second, name) == belongs
    assert not archive.belongs(f"oht02_{day}_{time}", second, name)


def test_frame_with_an_impossible_time_is_reported(recording, small):
    recording.files |= {name.replace(stem(1), "oht01_0827_256190"): raw for name, raw in frame(1).items()}
    session = recording.write().read(small)
    assert len(session.time) == 5
    assert {dropped.reason for dropped in session.dropped} == {"bad_name"}
    assert "256190" in session.dropped[0].message and "rename" in session.dropped[0].message


@pytest.mark.parametrize("time", ["240000", "126000", "120060"])
def test_time_just_out_of_range_is_reported_and_the_last_second_of_the_day_is_read(time, recording, small):
    recording.files |= {name.replace(stem(1)[-6:], "235959"): raw for name, raw in frame(1).items()}
    recording.files |= {name.replace(stem(1)[-6:], time): raw for name, raw in frame(1).items()}
    session = recording.write().read(small)
    assert len(session.time) == 6
    message = f"expected a time of day, HHMMSS, at the end of the name, found {time}; rename the file"
    assert [(dropped.reason, dropped.message) for dropped in session.dropped] == [("bad_name", message)] * 3
    assert session.dropped[0].where == f"{NAME}.zip: oht01_0827_{time}.bin"


def test_time_order_counts_seconds_from_the_first_frame():
    seconds = {"a": 86399, "b": 0, "c": 3}
    assert archive.in_time_order(["a", "b", "c"], seconds) == [("a", 0), ("b", 1), ("c", 4)]
    assert archive.in_time_order(["c"], seconds) == [("c", 0)] and archive.in_time_order([], {}) == []
