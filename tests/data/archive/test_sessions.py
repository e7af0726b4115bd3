"""Reading a session: its seconds in time order, and reports of missing files."""

import dataclasses

import numpy as np
import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.reader import read_session
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import LABELS, NAME, stem


def test_session_holds_its_frames_in_time_order(recording, small):
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


def test_second_with_a_missing_file_is_dropped_and_reported(recording, small):
    del recording.files[f"{stem(1)}.csv"], recording.files[f"{stem(1)}.bin"], recording.files[f"{stem(3)}.json"]
    session = recording.write().read(small)
    assert session.time.tolist() == [0, 2, 4]
    assert [(dropped.reason, dropped.where) for dropped in session.dropped] == [
        ("missing_csv", f"{NAME}.zip: {stem(1)}.csv"),
        ("missing_json", f"{LABELS}.zip: {stem(3)}.json"),
    ]
    message = "expected the file, found none of that name; download or unpack the archive again"
    assert {dropped.message for dropped in session.dropped} == {message}


def test_recording_without_a_usable_frame_is_refused(recording, small):
    recording.files = {name: b"" for name in recording.files}
    with pytest.raises(
        DataError,
        match=rf"^{NAME}.zip: no usable frame \({NAME}.zip: {stem(0)}.csv: expected a header and a row, found 0 "
        r"lines; ",
    ):
        recording.write().read(small)
    recording.files = {}
    with pytest.raises(
        DataError, match=rf"^{NAME}.zip: no usable frame \(it holds no frame files; download it again, or remove it\)$"
    ):
        recording.write().read(small)


def test_missing_columns_are_nan_only_with_incomplete(recording, small):
    for second in range(5):
        recording.files[f"{stem(second)}.csv"] = b"NTC,CT1\n1,3\n"
    recording.write()
    (item,) = archive.sessions(recording.root, small, incomplete=True)
    assert np.isnan(item.read().sensors[:, 1]).all()
    (item,) = archive.sessions(recording.root, small)
    with pytest.raises(DataError, match=r"no column PM1\.0"):
        item.read()
