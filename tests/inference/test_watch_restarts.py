"""A watch gives the answers of a later prediction, whatever the gaps, restarts and kills in between."""

import json
import shutil
from dataclasses import replace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conveyorguard import load_run
from conveyorguard.commands.train import train
from conveyorguard.data.reduce import reduce_session
from conveyorguard.data.session import Session
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.errors import ConfigError
from conveyorguard.inference import journal, tail, watch
from conveyorguard.inference.journal import WindowJournal, bytes_of, text_of_bytes
from conveyorguard.metrics.alarms import OperatingPoint
from conveyorguard.metrics.memory import LAGS, Memory
from conveyorguard.runs.data import load_windows

SLOWLY = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
WEIGHTS = Memory(LAGS, np.concatenate([w * np.eye(4) for w in (0.5, 0.3, 0.2, 0.1)], axis=1), np.array([0, 0.1, 0, 0]))


@pytest.fixture(scope="module", params=["last", "last-extended", "majority"])
def loaded(request, compose, tmp_path_factory):
    """A run on sensors: with a memory, with features from the start of a session, or with windows 10 s apart."""
    label, _, features = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param) / "run"
    overrides = [f"window.label={label}", f"features={features or 'window'}", "model.n_estimators=10", "film=false"]
    train(compose("modality=sensor", "model=lightgbm", "test=false", *overrides), folder, [])
    if label == "last":
        saved = json.loads((folder / "memory.json").read_text())
        (folder / "memory.json").write_text(json.dumps({**saved, "memory": WEIGHTS.to_dict()}))
    run = load_run(folder)
    assert (run.memory is not None) == (label == "last") and run.from_start == bool(features)
    run.point = OperatingPoint(0.6, 0.3)
    return run


@pytest.fixture(scope="module")
def sessions(loaded, compose):
    """Two sessions that reach the worst state, without thermal frames."""
    store = load_windows(compose("modality=sensor")).store
    chosen = []
    for _, row in store.sessions.iterrows():
        rows = slice(row["first"], row["first"] + row["rows"])
        if (store.state[rows] == 3).any():
            arrays = (np.array(a[rows]) for a in (store.tick, store.sensors, store.environment))
            chosen.append(Session(row["name"], row["device"], row["kind"], *arrays))
    return chosen[:2]


class Recorded:
    """A follower that gives the rows of sessions up to a second that is set; it keeps nothing over a restart."""

    def __init__(self, sessions):
        self.sessions, self.second, self.notices, self.known, self.next = sessions, 0, [], {}, {}

    def skip(self, name, second):
        self.next[name] = second

    def poll(self):
        for session in self.sessions:
            time = session.time
            rows = (time >= self.next.get(session.name, 0)) & (time < self.second)
            if rows.any():
                self.next[session.name] = int(time[rows][-1]) + 1
                yield cut(session, rows)


def cut(session, rows):
    """Return some rows of a session."""
    return replace(
        session, time=session.time[rows], sensors=session.sensors[rows], environment=session.environment[rows]
    )


def with_gaps(session, gaps):
    """Remove rows of a session: gaps are (first row, number of rows)."""
    keep = np.ones(len(session.time), bool)
    for first, count in gaps:
        keep[first : first + count] = False
    return cut(session, keep)


def without_values(session, missing):
    """Take out values of a session: missing are (channel, first row, number of rows)."""
    sensors = session.sensors.copy()
    for channel, first, count in missing:
        sensors[first : first + count, channel % sensors.shape[1]] = np.nan
    return replace(session, sensors=sensors)


def schema_of(loaded):
    return replace(loaded.schema, thermal=None)


def predicted(loaded, sessions):
    """Predict whole sessions."""
    schema = schema_of(loaded)
    return loaded.predict_store(store_in_memory([reduce_session(s, schema) for s in sessions], schema))


def begin(loaded, sessions, folder, **options):
    """Start a watch of the sessions in a folder, or continue one."""
    folder.mkdir(exist_ok=True)
    if not (folder / "watch.json").exists():
        (folder / "watch.json").write_text('{"known": {}}')
    return watch.Watch(loaded, Recorded(sessions), schema_of(loaded), folder, **options)


def windows_in(folder):
    """Return the windows of all files of a watch, by session and start."""
    files = [*sorted(folder.glob("windows-*.csv")), folder / "windows.csv"]
    return pd.concat([pd.read_csv(path) for path in files], ignore_index=True)


def assert_same(folder, expected):
    """Compare windows and alarms of a watch with a prediction of the whole sessions, row by row."""
    windows = windows_in(folder)
    assert not windows.duplicated(["session", "end"]).any(), "a window is repeated"
    windows = windows.sort_values(["session", "start"], ignore_index=True)
    table = expected.windows.sort_values(["session", "start"], ignore_index=True)
    exact = ["session", "start", "end", "state", "y_pred"]
    assert windows[exact].to_dict("list") == table[exact].to_dict("list")
    columns = [f"{kind}{k}" for kind in "pc" for k in range(4)]
    assert np.abs(windows[columns].to_numpy() - table[columns].to_numpy()).max() < 2e-6
    alarms = pd.read_csv(folder / "alarms.csv")
    begun = alarms[alarms["event"] == "begin"].sort_values(["session", "begin"])
    expected_alarms = expected.alarms.sort_values(["session", "begin"])
    assert begun[["session", "begin"]].to_numpy().tolist() == expected_alarms[["session", "begin"]].to_numpy().tolist()
    over = alarms[alarms["event"] == "end"]
    assert not over.duplicated(["session", "begin"]).any()
    last = windows.groupby("session")["end"].max()
    ended = expected_alarms[expected_alarms["end"] < expected_alarms["session"].map(last).astype(float)]
    columns = ["session", "begin", "end", "windows"]
    assert over.sort_values(["session", "begin"])[columns].to_numpy().tolist() == ended[columns].to_numpy().tolist()


GAPS = st.lists(st.tuples(st.integers(1, 380), st.sampled_from([1, 2, 3, 4, 20, 50])), max_size=5)
MISSING = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 380), st.sampled_from([1, 5, 60, 300])), max_size=3)
POLLS = st.lists(st.tuples(st.integers(1, 150), st.booleans()), max_size=8)  # seconds on, and a restart after it


@SLOWLY
@given(GAPS, MISSING, POLLS)
@example([], [(4, 50, 300), (0, 0, 60)], [(70, False), (50, True), (60, True), (100, True)])
def test_watch_over_gaps_missing_values_and_restarts_answers_as_predict(
    loaded, sessions, tmp_path, gaps, missing, polls
):
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    given_sessions = [with_gaps(without_values(session, missing), gaps) for session in sessions]
    watching, second = begin(loaded, given_sessions, tmp_path / "out"), 0
    for step, restarted in [*polls, (10_000, False)]:
        second += step
        watching.follower.second = second
        watching.poll()
        if restarted:
            watching.close()
            watching = begin(loaded, given_sessions, tmp_path / "out")
    watching.close()
    assert_same(tmp_path / "out", predicted(loaded, given_sessions))


def test_value_missing_since_before_a_restart_is_still_held(loaded, sessions, tmp_path):
    channels = range(sessions[0].sensors.shape[1])
    given_sessions = [without_values(session, [(channel, 50, 300) for channel in channels]) for session in sessions]
    watching = begin(loaded, given_sessions, tmp_path / "out")
    for second in (120, 160):
        watching.follower.second = second
        watching.poll()
        watching.save()
        watching.close()
        watching = begin(loaded, given_sessions, tmp_path / "out")
    assert loaded.from_start or all(tail.first > 50 for tail in watching.tails.values()), "the values are not read anew"
    watching.follower.second = 10_000
    watching.poll()
    watching.close()
    assert_same(tmp_path / "out", predicted(loaded, given_sessions))


@pytest.mark.parametrize("restarted", [True, False])
def test_window_begun_within_a_bridged_gap_keeps_the_row_before_it(loaded, sessions, tmp_path, restarted):
    """The rows of 100 to 102 are held; the last window before the pause begins at 102, or 100 of every tenth."""
    given_sessions = [with_gaps(session, [(100, 3)]) for session in sessions]
    watching = begin(loaded, given_sessions, tmp_path / "out")
    watching.follower.second = 132
    watching.poll()
    if restarted:
        watching.close()
        watching = begin(loaded, given_sessions, tmp_path / "out")
    watching.follower.second = 10_000
    watching.poll()
    watching.close()
    assert_same(tmp_path / "out", predicted(loaded, given_sessions))


def test_crash_between_two_files_and_another_before_a_checkpoint_repeat_nothing(loaded, sessions, tmp_path):
    """The checkpoint that is left is of the file before; a restart must not measure the new file by it."""
    watching = begin(loaded, sessions, tmp_path / "out")
    watching.follower.second = 60
    watching.poll()
    watching.save()
    watching.windows.rotate()
    watching.close()
    for second in (200, 260):  # more rows than the file before had, then a restart
        watching = begin(loaded, sessions, tmp_path / "out")
        watching.follower.second = second
        watching.poll()
        watching.close()
    watching = begin(loaded, sessions, tmp_path / "out")
    watching.follower.second = 10_000
    watching.poll()
    watching.close()
    assert_same(tmp_path / "out", predicted(loaded, sessions))


class Killed(BaseException):
    """The process ends here."""


class Disk:
    """Ends the process before or after the nth change of a file on disk."""

    def __init__(self, count, before):
        self.left, self.before = count, before

    def __call__(self, change):
        def changed(*arguments):
            self.left -= 1
            if self.left == 0 and self.before:
                raise Killed
            result = change(*arguments)
            if self.left == 0:
                raise Killed
            return result

        return changed


@SLOWLY
@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=12), st.booleans())
def test_kill_at_any_change_of_a_file_loses_and_repeats_no_alarm(loaded, sessions, tmp_path, kills, at_once):
    """A checkpoint after every poll, a new file of windows each hundred seconds."""
    out, second, day = tmp_path / "out", 0, iter(range(10**6))
    shutil.rmtree(out, ignore_errors=True)
    kills = iter(kills)
    while second < 1000:
        count, before = next(kills, (10**9, False))
        disk, opened = Disk(count, before), WindowJournal._open
        with (
            mock.patch.object(watch, "BETWEEN_CHECKPOINTS", -1.0 if at_once else 60.0),
            mock.patch.object(journal, "today", lambda: f"2026-12-{1 + next(day) // 400:02d}"),
            mock.patch("os.replace", disk(__import__("os").replace)),
            mock.patch.object(journal.AppendedTable, "_append", disk_method(disk, journal.AppendedTable._append)),
            mock.patch.object(WindowJournal, "_open", disk_method(disk, opened)),
        ):
            try:
                watching = begin(loaded, sessions, out)
                while second < 1000:
                    watching.follower.second = second = second + 25
                    watching.poll()
                watching.close()
            except Killed:
                second -= 25
    assert_same(out, predicted(loaded, sessions))


def disk_method(disk, method):
    """Return a method that may end the process."""
    return lambda self, *arguments: disk(method)(self, *arguments)


def test_restart_reads_only_windows_after_the_checkpoint(loaded, sessions, tmp_path):
    watching = begin(loaded, sessions, tmp_path / "out")
    watching.follower.second = 200
    watching.poll()
    watching.save()
    known = watching.windows.size
    watching.follower.second = 230
    watching.poll()
    watching.close()
    after = (tmp_path / "out" / "windows.csv").read_bytes()[known:].count(b"\n")
    with mock.patch.object(tail.Tail, "took", autospec=True) as took:
        begin(loaded, sessions, tmp_path / "out").close()
    assert took.call_count == after > 0


def test_each_day_has_its_file_and_the_oldest_are_removed_above_the_cap(loaded, sessions, tmp_path, capsys):
    out, days = tmp_path / "out", [f"2026-12-0{d}" for d in range(1, 6)]
    with mock.patch.object(journal, "today", lambda: days[0]):
        watching = begin(loaded, sessions, out, disk=10**9)
        for number, day in enumerate(days):
            with mock.patch.object(journal, "today", lambda day=day: day):
                watching.follower.second = 60 * (number + 1)
                watching.poll()
    names = [f"windows-{day}-001.csv" for day in days[:4]]
    assert sorted(path.name for path in out.glob("windows-*.csv")) == names
    with mock.patch.object(journal, "today", lambda: days[4]):
        watching.windows.disk = 3 * (out / names[1]).stat().st_size
        watching.follower.second = 400
        watching.poll()
    watching.close()
    left = [path for path in out.glob("windows*.csv")]
    assert sum(path.stat().st_size for path in left) <= watching.windows.disk
    assert not (out / names[0]).exists() and (out / "windows.csv").exists()
    assert f"removed {names[0]}: the windows take more than" in capsys.readouterr().out


def test_empty_file_takes_the_day_of_its_first_window(loaded, sessions, tmp_path):
    with mock.patch.object(journal, "today", lambda: "2026-12-01"):
        watching = begin(loaded, sessions, tmp_path / "out")
    with mock.patch.object(journal, "today", lambda: "2026-12-03"):
        watching.poll()
    assert watching.windows.day == "2026-12-03" and not list((tmp_path / "out").glob("windows-*.csv"))
    watching.close()


@pytest.mark.parametrize(("text", "size"), [("20GB", 20e9), ("1.5 MB", 1.5e6), ("3kB", 3e3)])
def test_size_on_disk_is_read_and_written_with_its_unit(text, size):
    assert bytes_of(text) == size and text_of_bytes(int(size)) == text.replace(" ", "")


@pytest.mark.parametrize("text", ["20", "0GB", "-1GB", "many", "20 gb"])
def test_size_on_disk_without_unit_is_refused(text):
    with pytest.raises(ConfigError, match="expected a size such as 500MB"):
        bytes_of(text)
