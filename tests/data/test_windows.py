"""Windows: runs of consecutive seconds of one session."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.cli import _compose
from conveyorguard.data.schema import Session
from conveyorguard.data.store import prepare
from conveyorguard.data.windows import WindowSettings, make_windows
from conveyorguard.errors import ConfigError
from conveyorguard.training.job import load_windows


@st.composite
def recordings(draw):
    """Sessions with gaps anywhere and states in any order; some without labels."""
    sessions = []
    for i in range(draw(st.integers(1, 3))):
        steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 2, 7]), min_size=1, max_size=30))
        time = np.cumsum(steps)
        state = np.array(draw(st.lists(st.integers(0, 3), min_size=len(time), max_size=len(time))))
        labelled = draw(st.sampled_from([True, True, False]))
        sessions.append(Session(f"s{i}", f"d{i}", "k", time, np.ones((len(time), 2)), np.ones((len(time), 1)),
                                state=state if labelled else None))  # fmt: skip
    return sessions


def expected(sessions, size, stride, label):
    """(session, start, label) by the words of the definition, one second after the other."""
    found = []
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
                found.append((session.name, run[start], commonest if label == "majority" else states[-1]))
            run = [second]
    return found


@settings(max_examples=80)
@given(recordings(), st.integers(1, 8), st.integers(1, 5), st.sampled_from(["majority", "last"]))
def test_windows_are_what_their_definition_says(tmp_path_factory, plain_schema, sessions, size, stride, label):
    store = prepare(lambda root, schema: sessions, plain_schema, None, tmp_path_factory.mktemp("windows"), "x", jobs=1)
    wanted = expected(sessions, size, stride, label)
    chosen = WindowSettings(size=size, stride=stride, label=label, thermal_frames="all")
    if not wanted:
        with pytest.raises(ConfigError, match="no window"):
            make_windows(store, chosen)
        return
    windows = make_windows(store, chosen)
    assert list(zip(windows["session"], windows["start"], windows["label"], strict=True)) == wanted
    seconds = windows["row"].to_numpy()[:, None] + np.arange(size)
    frames = store.frames
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
def test_thermal_frames_are_evenly_spaced_seconds_of_the_window(size, data):
    count = data.draw(st.integers(1, size))
    seconds = WindowSettings(size=size, thermal_frames=count).thermal_seconds
    assert len(seconds) == count and seconds[0] == 0 and seconds[-1] < size
    steps = np.diff(seconds)
    assert not len(steps) or (steps.min() >= 1 and steps.max() - steps.min() <= 1)
    np.testing.assert_array_equal(WindowSettings(size=size, thermal_frames="all").thermal_seconds, np.arange(size))


def test_ten_of_thirty_frames_are_every_third():
    assert WindowSettings().thermal_seconds.tolist() == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]


def test_ties_go_to_the_lower_state(store_of, session_of, plain_schema):
    store = store_of([session_of("a", range(8), [3, 3, 1, 1, 2, 0, 2, 0])], plain_schema)
    majority = make_windows(store, WindowSettings(size=4, stride=4, thermal_frames=1))
    assert majority["label"].tolist() == [1, 0]
    assert make_windows(store, WindowSettings(size=4, stride=4, thermal_frames=1, label="last"))["label"].tolist() == [
        1,
        0,
    ]
    assert make_windows(store, WindowSettings(size=3, stride=5, thermal_frames=1, label="last"))["label"].tolist() == [
        1,
        0,
    ]
    assert make_windows(store, WindowSettings(size=3, stride=5, thermal_frames=1))["label"].tolist() == [3, 0]


def test_unlabelled_windows_come_only_when_asked_for(store_of, session_of, plain_schema):
    store = store_of([session_of("a", range(40)), session_of("b", range(40), [2] * 40)], plain_schema)
    assert set(make_windows(store, WindowSettings())["session"]) == {"b"}
    both = make_windows(store, WindowSettings(), labelled=False)
    assert both.groupby("session")["label"].unique().map(list).to_dict() == {"a": [-1], "b": [2]}


def test_windows_split_and_hash_are_the_same_for_every_modality(quirks, tmp_path):
    """A second that is bad in one modality is out for all, so that the arms of an ablation can be compared."""
    root = quirks.write(tmp_path / "set", "zip").root

    def of(*overrides):
        data = load_windows(
            _compose(["data=aihub", f"data.root={root}", f"paths.cache={tmp_path / 'cache'}", *overrides])
        )
        return data.frame, data.split.hash

    frame, split = of("modality=both", "film=true")
    assert len(frame) > 30 and len(list((tmp_path / "cache").iterdir())) == 1
    for modality in ("sensor", "image", "both"):
        for film in ("true", "false"):
            other, other_split = of(f"modality={modality}", f"film={film}", "model=cnn_transformer")
            assert other.equals(frame) and other_split == split
    assert len(list((tmp_path / "cache").iterdir())) == 1, "one store serves all arms"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"size": 0}, "window.size=0"),
        ({"stride": 0}, "window.stride=0"),
        ({"label": "first"}, "majority"),
        ({"thermal_frames": 31}, "1..30"),
        ({"thermal_frames": 0}, "1..30"),
        ({"thermal_frames": "some"}, "all"),
    ],
)
def test_wrong_settings_are_told(wrong, words, twin):
    assert any(words in problem for problem in WindowSettings(**wrong).problems())
    with pytest.raises(ConfigError):
        make_windows(twin, WindowSettings(**wrong))


def test_all_wrong_settings_are_told_at_once():
    assert len(WindowSettings(size=0, label="first", thermal_frames=99).problems()) == 3


def test_a_window_longer_than_any_recording_is_refused_with_the_longest(twin):
    with pytest.raises(ConfigError, match=r"window\.size=999 s: .* 361 s"):
        make_windows(twin, WindowSettings(size=999))
