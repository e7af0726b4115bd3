"""What a frame's name says: whose it is, and when; frames of others, odd names, the order of time, midnight."""

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
    assert store.to_frame()["time"].tolist() == [0, 1, 2, 3, 4, 5]
    assert store.manifest["counts"]["dropped_frames"] == {"duplicate_second": 1}
    (told,) = store.manifest["dropped_examples"]["duplicate_second"]
    assert told["where"] == f"{recording.source.name}: oht01_0828_000002.csv"
    assert "found that second 3 comes twice" in told["message"] and "; remove" in told["message"]


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


def test_a_time_that_is_none_is_told(recording, small):
    recording.files |= {name.replace(stem(1), "oht01_0827_256190"): raw for name, raw in frame(1).items()}
    session = recording.write().read(small)
    assert len(session.time) == 5
    assert {told.reason for told in session.dropped} == {"bad_name"}
    assert "256190" in session.dropped[0].message and "rename" in session.dropped[0].message


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
