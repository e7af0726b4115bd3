"""States from names, intervals and numbers; recordings cut into parts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from conveyorguard.data.session import Recording
from conveyorguard.data.store_build import prepare
from conveyorguard.data.table import reader as table
from conveyorguard.errors import ConfigError, DataError
from tests.data.table.plant import N, schema_of

START = "2024-03-05 10:00:00"


def without_states(frame):
    return frame.drop(columns="state")


def dated(frame, step=1):
    moments = pd.Timestamp(START) + pd.to_timedelta(np.arange(len(frame)) * step, unit="s")
    return frame.assign(time=moments.strftime("%Y-%m-%d %H:%M:%S"))


def sessions_of(root, **options):
    return {item.name: item.read() for item in table.sessions(root, schema_of(), **options)}


def test_states_from_the_names_of_files_and_folders(tmp_path, frame):
    for name in ("ok/a", "ok/b", "failing/a", "spare"):
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        without_states(frame).to_csv(path, index=False)
    sessions = sessions_of(tmp_path, state_pattern="^([^/]+)/")
    states = {name: None if s.state is None else set(s.state.tolist()) for name, s in sessions.items()}
    assert states == {"ok/a": {0}, "ok/b": {0}, "failing/a": {2}, "spare": None}
    (tmp_path / "burnt").mkdir()
    without_states(frame).to_csv(tmp_path / "burnt" / "a.csv", index=False)
    item = next(
        item for item in table.sessions(tmp_path, schema_of(), state_pattern="^([^/]+)/") if "burnt" in item.name
    )
    with pytest.raises(DataError, match=r"finds 'burnt' in the session's name 'burnt/a', expected one of ok, worn"):
        item.read()
    assert sessions_of(tmp_path, state_pattern="^([^/]+)/", incomplete=True)["burnt/a"].state is None


def test_a_label_may_stand_in_the_name(tmp_path, frame):
    for name in ("h30hz1", "b30hz1"):
        without_states(frame).to_csv(tmp_path / f"{name}.csv", index=False)
    schema = schema_of(states=[{"name": "healthy", "label": "h"}, {"name": "broken", "label": "b"}])
    states = [item.read().state[0] for item in table.sessions(tmp_path, schema, state_pattern="^([hb])[0-9]")]
    assert states == [1, 0]


@pytest.mark.parametrize("form", ["seconds", "dates", "own format"])
@pytest.mark.parametrize("place", ["in the folder", "elsewhere"])
def test_states_from_a_file_of_intervals(form, place, tmp_path, frame):
    root = tmp_path / "set"
    root.mkdir()
    for name in ("a", "b"):
        dated(without_states(frame)).to_csv(root / f"{name}.csv", index=False)
    moments = [0, 10, 10, 25, 25, 39]
    if form != "seconds":
        clock = pd.Timestamp(START) + pd.to_timedelta(moments, unit="s")
        moments = clock.strftime("%Y-%m-%d %H:%M:%S" if form == "dates" else "%d.%m.%Y %H:%M:%S")
    intervals = pd.DataFrame(
        {"session": "a", "begin": moments[::2], "end": moments[1::2], "state": ["ok", "worn", "failing"]}
    )
    path = (root if place == "in the folder" else tmp_path) / "intervals.csv"
    intervals.to_csv(path, index=False)
    sessions = sessions_of(root, labels="intervals.csv" if place == "in the folder" else str(path))
    assert [*sessions] == ["a", "b"] and sessions["b"].state is None
    assert sessions["a"].state.tolist() == [0] * 10 + [1] * 15 + [2] * 15


def test_rows_in_no_interval_are_left_out_and_told(tmp_path, frame):
    without_states(frame).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "l.csv").write_text("Session,Begin,End,State\na,5,20,worn\na,15,30,failing\n")
    session = sessions_of(tmp_path, labels="l.csv")["a"]
    assert session.time.tolist() == [*range(5, 31)]
    assert session.state.tolist() == [1] * 10 + [2] * 16, "of two intervals the worse state"
    assert {d.reason for d in session.dropped} == {"no_label"} and len(session.dropped) == N - 26


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("session,begin,end\na,1,2\n", "expected the columns session, begin, end, state, found session, begin, end"),
        ("session,begin,end,state\na,1,2,burnt\n", "session 'a': found the state 'burnt', expected one of ok, worn"),
        ("session,begin,end,state\na,9,2,ok\n", "expected an end after the begin, found '9' to '2'"),
        ("session,begin,end,state\na,2024-03-05,2024-03-06,ok\n", "found dates, and the time column has none"),
    ],
)
def test_intervals_that_cannot_be_meant_are_refused(text, words, tmp_path, frame):
    without_states(frame).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises((ConfigError, DataError), match=rf"l\.csv: .*{words}"):
        sessions_of(tmp_path, labels="l.csv")
    with pytest.raises(ConfigError, match=r"data\.reader\.labels=m\.csv: no such file"):
        sessions_of(tmp_path, labels="m.csv")
    (tmp_path / "l.csv").unlink()
    new = sessions_of(tmp_path, labels="m.csv", incomplete=True)
    assert new["a"].state is None, "new recordings have no labels, and need none"


def test_a_changed_file_of_intervals_builds_the_store_anew(tmp_path, frame):
    root = tmp_path / "set"
    root.mkdir()
    without_states(frame).to_csv(root / "a.csv", index=False)
    states = []
    for end in (20, 30):
        (root / "l.csv").write_text(f"session,begin,end,state\na,0,{end},ok\na,{end},99,failing\n")

        def read(root, schema):
            return table.sessions(root, schema, labels="l.csv")

        states.append(prepare(read, schema_of(), root, tmp_path / "cache", "t", jobs=1).state[:].tolist().count(0))
    assert states == [20, 30]


@pytest.mark.parametrize(
    ("thresholds", "states"),
    [([30, 10], [0] * 10 + [1] * 20 + [2] * 10), ([10, 30], [2] * 10 + [1] * 20 + [0] * 10)],
)
def test_states_from_the_thresholds_of_a_number(thresholds, states, read, frame):
    life = np.arange(N, 0, -1)  # 40 down to 1
    frame = without_states(frame).assign(RUL=life)
    session = read(frame, states_from={"column": "RUL", "thresholds": thresholds})
    falling = thresholds[0] > thresholds[1]
    expected = [sum(v <= t for t in thresholds) if falling else sum(v >= t for t in thresholds) for v in life]
    assert session.state.tolist() == expected
    assert np.abs(np.array(expected) - states).sum() <= 2, "as a person would say"


def test_settings_may_come_from_hydra(read, frame):
    options = OmegaConf.create({"states_from": {"column": "RUL", "thresholds": [30, 10]}, "missing": [-99, "off"]})
    frame = without_states(frame).assign(RUL=np.arange(N, 0, -1))
    assert read(frame, **options).state.tolist() == [0] * 10 + [1] * 20 + [2] * 10


def test_one_threshold_needs_its_side(read, frame):
    schema = schema_of(states=[{"name": "ok"}, {"name": "failing"}])
    frame = without_states(frame).assign(RUL=np.arange(N, 0, -1))
    rule = {"column": "RUL", "thresholds": [10]}
    with pytest.raises(ConfigError, match="states_from: for a single threshold, say on which side the worse state is"):
        read(frame, schema, states_from=rule)
    assert read(frame, schema, states_from={**rule, "worse": "below"}).state.tolist() == [0] * 30 + [1] * 10
    assert read(frame, schema, states_from={**rule, "worse": "above"}).state.tolist() == [1] * 31 + [0] * 9


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"column": "RUL"}, "states_from must read"),
        ({"column": "RUL", "thresholds": [1, 3, 2]}, "all rising or all falling"),
        ({"column": "RUL", "thresholds": ["x", 1]}, "found thresholds"),
        ({"column": "RUL", "thresholds": [1, 2], "worse": "below"}, "are rising, so that the worse states are above"),
        ({"column": "RUL", "thresholds": [1]}, "which side"),
        ({"column": "RUL", "thresholds": [1, 2, 3]}, r"3 states .* need 2 thresholds, found 3"),
        ({"column": "heat", "thresholds": [1, 2]}, "column 'heat' holds the states and is a channel, too"),
    ],
)
def test_thresholds_that_part_no_states_are_refused(rule, words, read, frame):
    with pytest.raises(ConfigError, match=words):
        read(frame, states_from=rule)


def test_a_column_cannot_be_state_and_channel(read, frame):
    schema = schema_of(columns={"time": "time", "state": "heat"})
    with pytest.raises(ConfigError, match=r"data\.schema\.columns\.state: column 'heat' holds the states and is a"):
        read(frame, schema)


def test_states_come_from_one_place_and_an_unused_column_is_told(read, frame):
    with pytest.raises(ConfigError, match="state_pattern and labels: states come from one of them"):
        read(frame, name="ok.csv", state_pattern="(a)", labels="l.csv")
    session = read(frame, name="ok.csv", state_pattern="(ok)")
    assert set(session.state.tolist()) == {0}
    assert "column 'state' is not used: the states are those of data.reader.state_pattern" in session.notes


@settings(max_examples=60)
@given(st.integers(12, 90), st.sampled_from([7, "0.5min", 50, "1h"]), st.integers(0, 10**6))
def test_a_recording_is_cut_into_parts_that_hold_each_row_once(tmp_path_factory, rows, every, seed):
    rng = np.random.default_rng(seed)
    time = np.sort(rng.choice(200, rows, replace=False))
    root = tmp_path_factory.mktemp("cut")
    pd.DataFrame({"time": time, "heat": time, "Current (A)": 1, "air": 2, "state": "ok"}).to_csv(
        root / "a.csv", index=False
    )
    seconds = {"0.5min": 30, "1h": 3600}.get(every, every)
    parts = sessions_of(root, split_every=every)
    number = (time - time[0]) // seconds
    names = [f"a#{k + 1}" for k in np.unique(number)] if len(np.unique(number)) > 1 else ["a"]
    assert sorted(parts) == sorted(names)
    for name, part in parts.items():
        mine = time[number == int(name.partition("#")[2] or 1) - 1] if "#" in name else time
        assert part.time[0] == 0 and part.time[-1] == mine[-1] - mine[0]
        assert set(mine.astype(float)) <= set(part.sensors[:, 0])


def test_parts_begin_at_their_own_clock_time_and_share_device_and_state(tmp_path, frame):
    dated(without_states(frame), 60).to_csv(tmp_path / "m1_ok.csv", index=False)
    parts = sessions_of(tmp_path, period=60, split_every="20min", device_pattern="^(m.)", state_pattern="_(.*)")
    assert [*parts] == ["m1_ok#1", "m1_ok#2"] and {part.device for part in parts.values()} == {"m1"}
    assert [f"{part.start:%H:%M%z}" for part in parts.values()] == ["10:00+0000", "10:20+0000"]
    assert all(set(part.state.tolist()) == {0} and part.zone is None for part in parts.values())


def test_a_recording_may_be_cut_at_its_stops(tmp_path, frame):
    frame["time"] = np.arange(N) + 100 * (np.arange(N) >= 12) + 5 * (np.arange(N) >= 30)
    frame.to_csv(tmp_path / "a.csv", index=False)
    parts = sessions_of(tmp_path, split_every="stops")
    assert {name: len(part.time) for name, part in parts.items()} == {"a#1": 12, "a#2": 28}


def test_parts_of_a_session_column_and_what_cannot_be_cut(tmp_path, frame):
    pd.concat([frame.assign(run=k) for k in "xy"]).to_csv(tmp_path / "all.csv", index=False)
    schema = schema_of(columns={"time": "time", "state": "state", "session": "run"})
    items = list(table.sessions(tmp_path, schema, split_every=20))
    assert [item.name for item in items] == ["x#1", "x#2", "y#1", "y#2"]
    assert all(isinstance(item, Recording) and len(item.read().time) == 20 for item in items)
    with pytest.raises(ConfigError, match="split_every=never: seconds"):
        list(table.sessions(tmp_path, schema, split_every="never"))
    with pytest.raises(ConfigError, match="cuts tables, not a camera's frames"):
        list(table.sessions(tmp_path, schema_of(camera=(4, 5)), split_every=20))


@pytest.mark.parametrize(
    ("text", "zone", "start"),
    [
        ("2024-03-05 10:00:{:02d}", None, "2024-03-05T10:00:00+00:00"),
        ("2024-03-05 10:00:{:02d}+09:00", "UTC+09:00", "2024-03-05T01:00:00+00:00"),
        ("17096328{:02d}", "UTC", "2024-03-05T10:00:00+00:00"),
        ("10:00:{:02d}", None, None),
        ("{}", None, None),
    ],
)
def test_the_clock_time_of_the_start_is_kept_in_the_store(text, zone, start, tmp_path, frame):
    root = tmp_path / "set"
    root.mkdir()
    frame["time"] = [text.format(i) for i in range(N)]
    frame.to_csv(root / "a.csv", index=False)
    store = prepare(table.sessions, schema_of(), root, tmp_path / "cache", "t", jobs=1)
    (row,) = store.sessions.to_dict("records")
    assert (None if pd.isna(row["start"]) else row["start"].isoformat()) == start
    assert (None if pd.isna(row["zone"]) else row["zone"]) == zone
