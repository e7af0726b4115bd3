"""Windows of consecutive rows of a session, their labels, durations and judged windows."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyorguard.config.compose import compose_config
from conveyorguard.data.session import Session
from conveyorguard.data.splits import Split
from conveyorguard.data.store_build import prepare
from conveyorguard.data.windows import Windows, WindowSettings, make_windows, resolve_window, split_windows
from conveyorguard.errors import ConfigError
from conveyorguard.runs.data import load_windows
from tests.data.archive import quirks


@st.composite
def recordings(draw):
    """Sessions with gaps anywhere and states in any order; some without labels."""
    sessions = []
    for i in range(draw(st.integers(1, 3))):
        steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 2, 7]), min_size=1, max_size=30))
        time = np.cumsum(steps)
        state = np.array(draw(st.lists(st.integers(0, 3), min_size=len(time), max_size=len(time))))
        labelled = draw(st.sampled_from([True, True, False]))
        sessions.append(
            Session(
                f"s{i}",
                f"d{i}",
                "k",
                time,
                np.ones((len(time), 2)),
                np.ones((len(time), 1)),
                state=state if labelled else None,
            )
        )
    return sessions


def loop_windows(sessions, size, stride, label):
    """Return (session, start, label) of each window by a plain loop over seconds."""
    windows = []
    for session in sessions:
        if session.state is None:
            continue
        state, run = dict(zip(session.time.tolist(), session.state.tolist(), strict=True)), []
        for second in [*session.time.tolist(), None]:
            if second is not None and (not run or second == run[-1] + 1):
                run.append(second)
                continue
            for start in range(0, len(run) - size + 1, stride):
                states = [state[t] for t in run[start : start + size]]
                most = max(Counter(states).values())
                commonest = min(s for s in states if states.count(s) == most)
                windows.append((session.name, run[start], commonest if label == "majority" else states[-1]))
            run = [second]
    return windows


@given(recordings(), st.integers(1, 8), st.integers(1, 5), st.sampled_from(["majority", "last"]))
def test_windows_equal_those_of_a_plain_loop_over_seconds(
    tmp_path_factory, plain_schema, sessions, size, stride, label
):
    store = prepare(lambda root, schema: sessions, plain_schema, None, tmp_path_factory.mktemp("windows"), "x", jobs=1)
    expected = loop_windows(sessions, size, stride, label)
    chosen = WindowSettings(size=size, stride=stride, label=label, thermal_frames="all")
    if not expected:
        with pytest.raises(ConfigError, match="no window"):
            make_windows(store, chosen)
        return
    windows = make_windows(store, chosen)
    assert list(zip(windows["session"], windows["start"], windows["label"], strict=True)) == expected
    seconds = windows["row"].to_numpy()[:, None] + np.arange(size)
    frames = store.to_frame()
    assert (frames["time"].to_numpy()[seconds] == windows["start"].to_numpy()[:, None] + np.arange(size)).all(), (
        "no gap"
    )
    assert (frames["session"].astype(str).to_numpy()[seconds] == windows["session"].to_numpy()[:, None]).all(), (
        "one session"
    )
    state = frames["state"].to_numpy()[seconds]
    assert (windows["pure"] == [len(set(row)) == 1 for row in state.tolist()]).all()
    assert (windows["end"] == windows["start"] + size - 1).all()
    last = frames.iloc[seconds[:, -1]]
    assert (windows["seconds_to_end"].to_numpy() == last["seconds_to_end"].to_numpy()).all()


@given(st.integers(1, 60), st.data())
def test_thermal_seconds_are_evenly_spaced_in_the_window(size, data):
    count = data.draw(st.integers(1, size))
    seconds = WindowSettings(size=size, thermal_frames=count).thermal_seconds
    assert len(seconds) == count and seconds[0] == 0 and seconds[-1] < size
    steps = np.diff(seconds)
    assert not len(steps) or (steps.min() >= 1 and steps.max() - steps.min() <= 1)
    np.testing.assert_array_equal(WindowSettings(size=size, thermal_frames="all").thermal_seconds, np.arange(size))


def test_ten_frames_of_thirty_seconds_are_every_third():
    assert WindowSettings().thermal_seconds.tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]


def test_majority_label_of_a_tie_is_the_lower_state(store_of, session_of, plain_schema):
    store = store_of([session_of("a", range(8), [3, 3, 1, 1, 2, 0, 2, 0])], plain_schema)
    majority = make_windows(store, WindowSettings(size=4, stride=4, thermal_frames=1, label="majority"))
    assert majority["label"].tolist() == [1, 0]
    assert make_windows(store, WindowSettings(size=4, stride=4, thermal_frames=1, label="last"))["label"].tolist() == [
        1,
        0,
    ]
    assert make_windows(store, WindowSettings(size=3, stride=5, thermal_frames=1, label="last"))["label"].tolist() == [
        1,
        0,
    ]
    spaced = WindowSettings(size=3, stride=5, thermal_frames=1, label="majority")
    assert make_windows(store, spaced)["label"].tolist() == [3, 0]


def test_unlabelled_windows_are_made_only_with_labelled_false(store_of, session_of, plain_schema):
    store = store_of([session_of("a", range(40)), session_of("b", range(40), [2] * 40)], plain_schema)
    assert set(make_windows(store, WindowSettings())["session"]) == {"b"}
    both = make_windows(store, WindowSettings(), labelled=False)
    assert both.groupby("session")["label"].unique().map(list).to_dict() == {"a": [-1], "b": [2]}


@pytest.mark.slow
def test_windows_and_split_hash_are_the_same_for_every_modality(tmp_path):
    """A second that is bad in one modality is dropped for all, so that arms of an ablation are comparable."""
    root = quirks.write(tmp_path / "set", "zip").root

    def windows_of(*overrides):
        data = load_windows(
            compose_config(["data=aihub", f"data.root={root}", f"paths.cache={tmp_path / 'cache'}", *overrides])
        )
        return data.frame, data.split.hash

    frame, split = windows_of("modality=both", "film=true")
    assert len(frame) > 30 and len(list((tmp_path / "cache").iterdir())) == 1
    for modality in ("sensor", "image", "both"):
        for film in ("true", "false"):
            other, other_split = windows_of(f"modality={modality}", f"film={film}", "model=cnn_transformer")
            assert other.equals(frame) and other_split == split
    assert len(list((tmp_path / "cache").iterdir())) == 1, "all arms share one store"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 0}, "window.size=0"),
        ({"stride": 0}, "window.stride=0"),
        ({"eval_stride": 0}, "window.eval_stride=0"),
        ({"max_gap": -1}, "window.max_gap=-1"),
        ({"label": "first"}, "majority"),
        ({"thermal_frames": 31}, "1..30"),
        ({"thermal_frames": 0}, "1..30"),
        ({"thermal_frames": "some"}, "all"),
    ],
)
def test_wrong_window_settings_are_refused_with_their_key(settings, words, store_of, session_of, plain_schema):
    assert any(words in problem for problem in WindowSettings(**settings).problems())
    store = store_of([session_of("a", range(40), [0] * 40)], plain_schema)
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        make_windows(store, WindowSettings(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 1, "stride": 1, "thermal_frames": 1},
        {"thermal_frames": 30},
        {"thermal_frames": "all"},
        {"label": "last"},
    ],
)
def test_window_settings_at_their_limits_are_accepted(settings):
    assert WindowSettings(**settings).problems() == []


def test_all_wrong_window_settings_are_reported_together():
    settings = WindowSettings(size=0, label="first", thermal_frames=99)
    assert len(settings.problems()) == 3
    with pytest.raises(ConfigError, match=r"window\.size=0.*\nwindow\.label=first.*\nwindow\.thermal_frames=99"):
        make_windows(None, settings)


def test_window_longer_than_any_recording_is_refused_with_the_longest_run(store_of, session_of, plain_schema):
    store = store_of(
        [session_of(name, range(n), [0] * n) for name, n in (("a", 40), ("b", 61), ("c", 7))], plain_schema
    )
    with pytest.raises(ConfigError, match=r"window\.size=16\.65 min: .* 61 s"):
        make_windows(store, WindowSettings(size=999))


def test_windows_table_has_all_columns_of_each_window(store_of, session_of, plain_schema):
    sessions = [
        session_of("a", [3, 4, 5, 6, 9, 10, 11], [0, 0, 1, 2, 3, 3, 3], device="oht07", kind="oht"),
        session_of("b", range(3), [1, 1, 0], device="agv01", kind="agv"),
    ]
    settings = WindowSettings(size=3, stride=1, thermal_frames=3, label="majority")
    windows = make_windows(store_of(sessions, plain_schema), settings)
    expected = pd.DataFrame(
        {
            "session": ["a", "a", "a", "b"],
            "device": ["oht07", "oht07", "oht07", "agv01"],
            "kind": ["oht", "oht", "oht", "agv"],
            **{name: pd.array([None] * 4, dtype="string") for name in ("start_time", "end_time")},  # no dates
            "row": [0, 1, 4, 7],
            "start": [3, 4, 9, 0],
            "end": [5, 6, 11, 2],
            "seconds_to_end": [6, 5, 0, 0],
            "seconds_since_onset": [0, 1, 6, 2],
            "label": [0, 0, 3, 1],
            "pure": [False, False, True, False],
        }
    )
    pd.testing.assert_frame_equal(windows, expected, check_dtype=False)


def test_majority_label_of_three_different_states_is_the_lowest(store_of, session_of, plain_schema):
    store = store_of([session_of("a", range(4), [3, 1, 2, 3])], plain_schema)
    windows = make_windows(store, WindowSettings(size=3, stride=1, thermal_frames=1, label="majority"))
    assert windows["label"].tolist() == [1, 1]
    assert windows["label"].dtype == np.int64
    last = make_windows(store, WindowSettings(size=3, stride=1, thermal_frames=1, label="last"))
    assert last["label"].tolist() == [2, 3] and last["label"].dtype == np.int64


def test_store_without_a_long_enough_run_is_refused_with_the_longest_run(store_of, session_of, plain_schema):
    labelled = store_of([session_of("a", [0, 1, 2, 5, 6], [0] * 5), session_of("b", range(4), [0] * 4)], plain_schema)
    with pytest.raises(ConfigError, match=r"no window of window\.size=5 s: .* is 4 s\..*window\.size=4rows"):
        make_windows(labelled, WindowSettings(size=5, thermal_frames=1))
    assert len(make_windows(labelled, WindowSettings(size=4, thermal_frames=1))) == 1
    plain = store_of([session_of("a", range(3))], plain_schema)
    with pytest.raises(ConfigError, match="no session is labelled"):
        make_windows(plain, WindowSettings(size=3, thermal_frames=1))
    with pytest.raises(ConfigError, match=r"window\.size=4 s: .* 3 s\."):
        make_windows(plain, WindowSettings(size=4, thermal_frames=1), labelled=False)


def test_part_of_windows_holds_its_sessions_and_class_counts_those_of_train(store_of, session_of, plain_schema):
    store = store_of(
        [
            session_of(name, range(4), states)
            for name, states in (("a", [0, 0, 1, 1]), ("b", [2, 2, 2, 2]), ("c", [1, 1, 0, 0]))
        ],
        plain_schema,
    )
    settings = WindowSettings(size=2, stride=2, thermal_frames=1)
    split = Split({}, {"train": ["a", "c"], "val": ["b"], "test": []})
    frame = make_windows(store, settings)
    windows = Windows(store, frame.assign(part=split.part_of(frame["session"])), split, settings)
    assert windows.part("train")["session"].tolist() == ["a", "a", "c", "c"]
    assert windows.part("train").columns.tolist() == windows.frame.columns.tolist()
    assert windows.part("train").index.tolist() == [0, 1, 2, 3] and windows.part("val")["label"].tolist() == [2, 2]
    assert windows.class_counts().tolist() == [2, 2, 0, 0], "also of states that do not occur"


# --- Every second is judged, durations ------------------------------------------------------------------------------


def test_judged_windows_start_every_row_with_label_last_and_every_stride_with_majority(
    store_of, session_of, plain_schema
):
    store = store_of([session_of(n, range(45), [0] * 45) for n in "abcdefgh"], plain_schema)
    for label, spacing in (("last", 1), ("majority", 10)):
        data = split_windows(store, WindowSettings(label=label), {"name": "session", "seed": 42})
        judged = data.judged("val")
        assert judged.groupby("session")["start"].agg(list).tolist() == [list(range(0, 16, spacing))] * len(
            data.split.sessions["val"]
        )
        assert set(judged["session"]) == set(data.split.sessions["val"]) and set(judged["part"]) == {"val"}
        assert data.part("val")["start"].unique().tolist() == [0, 10]


def test_window_times_are_seconds_for_any_period(store_of, session_of, plain_schema):
    session = replace(session_of("a", [0, 1, 2, 3, 8, 9], [0, 0, 1, 1, 1, 1]), period=600.0)
    windows = make_windows(store_of([session], plain_schema), WindowSettings(size=2, stride=1, thermal_frames=1))
    assert windows["start"].tolist() == [0, 600, 1200, 4800] and windows["end"].tolist() == [600, 1200, 1800, 5400]
    assert windows["seconds_to_end"].tolist() == [4800, 4200, 3600, 0]
    assert windows["seconds_since_onset"].tolist() == [-600, 0, 600, 4200]


NULLS = dict.fromkeys(("size", "stride", "eval_stride", "max_gap")) | {"label": "last", "thermal_frames": 10}


@pytest.mark.parametrize(
    ("changes", "period", "rows"),
    [
        ({}, 1.0, (30, 10, 1, 3)),
        ({}, 600.0, (30, 10, 1, 3)),
        ({}, 0.1, (300, 100, 10, 3)),
        ({"label": "majority"}, 1.0, (30, 10, 10, 3)),
        ({"label": "majority", "stride": 5}, 1.0, (30, 5, 5, 3)),
        ({"size": "12h", "stride": "10min"}, 600.0, (72, 1, 1, 3)),
        ({"size": "30rows", "max_gap": "1min"}, 60.0, (30, 10, 1, 1)),
        ({"size": 15, "stride": "2.5s", "eval_stride": "500ms"}, 0.5, (30, 5, 1, 3)),
    ],
)
def test_durations_are_converted_to_rows(changes, period, rows):
    settings = WindowSettings.of({**NULLS, **changes}, period)
    assert (settings.size, settings.stride, settings.judged_stride, settings.max_gap) == rows
    resolved = resolve_window({**NULLS, **changes}, period)
    assert None not in resolved.values() and WindowSettings.of(resolved, period) == settings


def test_window_settings_of_an_older_run_bridge_no_gap_and_judge_by_stride():
    settings = WindowSettings.of({"size": 30, "stride": 10, "label": "majority", "thermal_frames": 10})
    assert (settings.size, settings.stride, settings.judged_stride, settings.max_gap) == (30, 10, 10, 0)


@pytest.mark.parametrize(
    ("value", "period", "words"),
    [
        ("30m", 1.0, "not a duration"),
        ("-5s", 1.0, "not a duration"),
        (True, 1.0, "not a duration"),
        ("", 1.0, "not a duration"),
        ("15min", 600.0, "not a whole number of rows, which are 10 min apart"),
    ],
)
def test_invalid_duration_is_refused_with_its_key(value, period, words):
    with pytest.raises(ConfigError, match=rf"window\.size: .*{words}"):
        WindowSettings.of({**NULLS, "size": value}, period)
