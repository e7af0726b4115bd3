"""The reader of AI Hub #71802 on archives that are written from its description with every known quirk."""

import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.store import Store
from conveyorguard.data.store_build import prepare
from conveyorguard.data.windows import WindowSettings, make_windows
from tests.data.archive import quirks

VARIANTS = [("zip", False), ("zip", True), ("folder", False), ("folder", True)]


@dataclass
class Case:
    expected: object
    store: Store
    before: dict
    after: dict

    def rows(self, name):
        """Return the rows of a session, indexed by second."""
        frames = self.store.to_frame()
        return frames[frames["session"] == name].set_index("time")


def listing(root):
    """Return size and modification time of everything below a folder."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(root.rglob("*"))} | {
        "": root.stat().st_mtime_ns
    }


@pytest.fixture(scope="module", params=VARIANTS, ids=["zip", "zip garbled", "folder", "folder garbled"])
def case(request, schema, tmp_path_factory):
    base = tmp_path_factory.mktemp("quirks")
    expected = quirks.write(base / "set", *request.param)
    before = listing(expected.root)
    store = prepare(archive.sessions, schema, expected.root, base / "cache", "aihub", jobs=1)
    yield Case(expected, store, before, listing(expected.root))
    shutil.rmtree(base)


def of_each_session(case):
    return [(name, session, case.rows(name)) for name, session in case.expected.sessions.items()]


def test_exactly_the_sound_seconds_are_read_with_their_states(case):
    assert set(case.store.to_frame()["session"]) == set(case.expected.sessions)
    for name, session, rows in of_each_session(case):
        assert len(rows) == session.seconds, name
        if session.labelled:
            assert rows["state"].to_dict() == session.states, name
        else:
            assert set(rows["state"]) == {-1}, name
        assert set(rows["device"]) == {session.device} and set(rows["kind"]) == {session.kind}
        assert not set(rows.index) & {*session.dropped, *session.absent}, name


def test_values_equal_those_in_the_files(case):
    for name, session, rows in of_each_session(case):
        for (second, channel), value in {**session.sensors, **session.environment}.items():
            assert rows.loc[second, channel] == pytest.approx(value, abs=1e-4, nan_ok=True), (name, second, channel)


def test_thermal_statistics_are_computed_at_full_resolution(case):
    columns = ["thermal_max", "thermal_y_max", "thermal_x_max", "thermal_mean"]
    for name, session, rows in of_each_session(case):
        for second, values in session.thermal.items():
            assert rows.loc[second, columns].to_numpy(float) == pytest.approx(values, abs=2e-3), (name, second)


def test_stored_frames_keep_the_peak(case):
    """A hot component covers a few pixels, so that the store keeps block maxima."""
    frames, thermal = case.store.to_frame(), case.store.thermal
    assert thermal.shape == (len(frames), 2, 30, 40)
    np.testing.assert_allclose(thermal[:, 1].max((1, 2)), frames["thermal_max"], rtol=1e-3)
    np.testing.assert_allclose(thermal[:, 0].mean((1, 2), dtype=float), frames["thermal_mean"], rtol=1e-3)


def test_dropped_frames_are_counted_and_named_by_reason(case):
    manifest, expected = case.store.manifest, case.expected
    elsewhere = {reason: n for counts in expected.dropped_in_skipped.values() for reason, n in counts.items()}
    counts = {reason: n - elsewhere.get(reason, 0) for reason, n in expected.dropped.items()}
    assert manifest["counts"]["dropped_frames"] == counts
    reasons = {}  # session: {second: reason}
    for reason, examples in manifest["dropped_examples"].items():
        for example in examples:
            name, clock = re.fullmatch(
                r"([TV][SL]_\w+)(?:\.zip)?: \w+_(\d{6})\.(?:csv|bin|json)", example["where"]
            ).groups()
            name = name[0] + "S" + name[2:]
            start = 59 if "oht07" in name else 0  # second at which the recording begins
            reasons.setdefault(name, {})[_seconds(clock) - _seconds(name[-4:] + f"{start:02d}")] = reason
            assert "expected" in example["message"] and "found" in example["message"]
    assert reasons == {name: session.dropped for name, session in expected.sessions.items() if session.dropped}
    per_session = dict(zip(case.store.sessions["name"], case.store.sessions["dropped"], strict=True))
    assert per_session == {name: len(session.dropped) for name, session in expected.sessions.items()}


def _seconds(clock):
    return int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:])


def test_exactly_the_repaired_seconds_are_flagged(case):
    for name, session, rows in of_each_session(case):
        assert set(rows.index[rows["quality"] != 0]) == session.repaired, name
    assert case.store.manifest["counts"]["repaired"] == {"sensor_values": 4, "pixels": 8, "seconds": 10}


def test_windows_do_not_span_dropped_seconds(case):
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


def test_nothing_is_unpickled_and_nothing_is_written_below_the_root(case):
    assert not case.expected.tripwire.exists()
    assert case.before == case.after
