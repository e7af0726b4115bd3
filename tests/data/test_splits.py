"""Who trains, validates and tests."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupShuffleSplit

from conveyorguard.data.splits import PARTS, Split, make_split
from conveyorguard.data.windows import WindowSettings, make_windows, split_windows
from conveyorguard.errors import ConfigError
from conveyorguard.runs.data import load_windows

SESSION = {"name": "session", "seed": 42}


@pytest.fixture(scope="module")
def windows(twin):
    """Of the full-size set: 341 sessions, 36 devices."""
    return make_windows(twin, WindowSettings(label="majority"))


def sizes(split, windows):
    parts = split.part_of(windows["session"])
    return {part: (len(split.sessions[part]), int((parts == part).sum())) for part in PARTS}


def assert_whole_and_disjoint(split, windows):
    names = [name for part in PARTS for name in split.sessions[part]]
    assert sorted(names) == sorted(set(windows["session"])), "every session once"


def test_the_seeds_split_has_the_seeds_counts(windows, twin):
    split = make_split(windows, twin.schema, SESSION)
    assert sizes(split, windows) == {"train": (238, 7311), "val": (51, 1554), "test": (52, 1608)}
    assert_whole_and_disjoint(split, windows)
    assert split.note == ""


def test_the_seeds_test_support_comes_close(windows, twin):
    """788/371/361/88 in the real set; the labels here are simulated, the sessions are the same."""
    split = make_split(windows, twin.schema, SESSION)
    support = windows["label"][split.part_of(windows["session"]) == "test"].value_counts()
    for state, real in enumerate((788, 371, 361, 88)):
        assert support[state] == pytest.approx(real, rel=0.15)


def test_with_another_number_of_sessions_it_says_that_the_seeds_split_is_not_reproduced(windows, twin):
    fewer = windows[windows["session"] != windows["session"].iloc[0]]
    assert "340" in make_split(fewer, twin.schema, SESSION).note
    assert make_split(fewer, twin.schema, {"name": "device", "seed": 42}).note == ""


def test_the_device_split_tests_devices_that_training_never_saw(windows, twin):
    split = make_split(windows, twin.schema, {"name": "device", "seed": 42})
    assert_whole_and_disjoint(split, windows)
    parts = windows.assign(part=split.part_of(windows["session"])).groupby("part")["device"].unique().map(set)
    kinds = ("agv", "oht")
    assert parts["test"] == {f"{kind}{number}" for kind in kinds for number in (17, 18)}
    assert parts["val"] == {f"{kind}{number}" for kind in kinds for number in (15, 16)}
    assert parts["train"] == {f"{kind}{number:02d}" for kind in kinds for number in range(1, 15)}


@pytest.mark.parametrize("folds", [3, 5, 18])
def test_folds_hold_every_kind_and_each_device_tests_once(folds, windows, twin):
    tested = []
    for fold in range(folds):
        split = make_split(windows, twin.schema, {"name": "kfold", "seed": 42, "n_folds": folds, "fold": fold})
        assert_whole_and_disjoint(split, windows)
        part = pd.Series(split.part_of(windows["session"]), index=windows.index)
        devices = {p: set(windows["device"][part == p]) for p in PARTS}
        assert not devices["val"] & devices["test"] and not devices["train"] & (devices["val"] | devices["test"])
        assert all(set(windows["kind"][part == p]) == {"agv", "oht"} for p in PARTS)
        tested += sorted(devices["test"])
    assert sorted(tested) == sorted(set(windows["device"]))


def test_folds_depend_on_the_seed_of_the_split(windows, twin):
    hashes = {
        make_split(windows, twin.schema, {"name": "kfold", "seed": seed, "n_folds": 5, "fold": 0}).hash
        for seed in range(5)
    }
    assert len(hashes) == 5


def test_a_kind_with_fewer_devices_than_folds_is_dealt_as_far_as_it_goes(store_of, session_of, plain_schema):
    sessions = [
        session_of(f"{kind}{i}", range(30), [0] * 30, device=f"{kind}{i}", kind=kind)
        for kind, count in (("a", 4), ("b", 2))
        for i in range(count)
    ]
    windows = make_windows(store_of(sessions, plain_schema), WindowSettings())
    tests = [
        make_split(windows, plain_schema, {"name": "kfold", "seed": 0, "n_folds": 3, "fold": f}).sessions["test"]
        for f in range(3)
    ]
    assert sorted(len(names) for names in tests) == [2, 2, 2]
    assert sorted("".join(sorted({name[0] for name in names})) for names in tests) != ["a", "b", "b"]


def test_hashes_are_equal_if_and_only_if_the_parts_are(windows, twin):
    split = make_split(windows, twin.schema, SESSION)
    shuffled = windows.sample(frac=1, random_state=0)
    assert make_split(shuffled.sort_values("row"), twin.schema, SESSION).hash == split.hash
    assert dataclasses.replace(split, settings={"name": "other"}, note="x").hash == split.hash
    assert Split({}, {part: list(names) for part, names in reversed(split.sessions.items())}).hash == split.hash
    moved = {part: list(names) for part, names in split.sessions.items()}
    moved["val"].append(moved["train"].pop())
    assert Split({}, moved).hash != split.hash
    swapped = {**split.sessions, "val": split.sessions["test"], "test": split.sessions["val"]}
    assert Split({}, swapped).hash != split.hash
    assert make_split(windows, twin.schema, {"name": "session", "seed": 43}).hash != split.hash
    assert split.to_dict()["hash"] == split.hash


def test_the_split_has_a_seed_of_its_own(twin_config):
    hashes = {
        seeds: load_windows(twin_config(f"seed={seeds[0]}", f"split.seed={seeds[1]}")).split.hash
        for seeds in ((0, 42), (1, 42), (0, 43))
    }
    assert hashes[0, 42] == hashes[1, 42] != hashes[0, 43]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "session", "seed": 42}, "needs 4 sessions or more, there are 3"),
        ({"name": "device", "seed": 42}, "device_split"),
        ({"name": "kfold", "seed": 42, "n_folds": 5, "fold": 0}, r"n_folds=5 must be 3\.\.3"),
        ({"name": "kfold", "seed": 42, "n_folds": 2, "fold": 0}, r"n_folds=2"),
        ({"name": "kfold", "seed": 42, "n_folds": 3, "fold": 3}, "fold=3"),
        ({"name": "random", "seed": 42}, "auto, session, device, kfold"),
    ],
)
def test_an_impossible_split_is_refused(settings, message, store_of, session_of, plain_schema):
    sessions = [session_of(f"s{i}", range(30), [0] * 30, device=f"a{i}") for i in range(3)]
    windows = make_windows(store_of(sessions, plain_schema), WindowSettings())
    with pytest.raises(ConfigError, match=message):
        make_split(windows, plain_schema, settings)


def test_a_part_without_sessions_is_refused(windows, twin):
    schema = dataclasses.replace(twin.schema, device_split={"val": ["oht15"], "test": ["oht99"]})
    with pytest.raises(ConfigError, match="leaves no session for test"):
        make_split(windows, schema, {"name": "device", "seed": 42})


def test_fewer_train_devices_are_a_part_of_more_and_leave_the_rest_alone(plain_schema):
    windows = pd.DataFrame(
        {"session": [f"s{i}" for i in range(24)], "device": [f"d{i:02d}" for i in range(24)], "kind": ["a", "b"] * 12}
    )
    own = {"name": "kfold", "seed": 0, "n_folds": 4, "fold": 1}
    whole = make_split(windows, plain_schema, {**own, "train_devices": None})
    few, more = (make_split(windows, plain_schema, {**own, "train_devices": n}) for n in (3, 8))
    assert (len(few.sessions["train"]), len(more.sessions["train"])) == (3, 8)
    assert set(few.sessions["train"]) < set(more.sessions["train"]) < set(whole.sessions["train"])
    assert few.sessions["val"] == whole.sessions["val"] and few.sessions["test"] == whole.sessions["test"]
    kinds = windows.set_index("session")["kind"][more.sessions["train"]]
    assert kinds.value_counts().tolist() == [4, 4]
    for wrong in (0, 13, "4"):
        with pytest.raises(ConfigError, match="from 1 to 12"):
            make_split(windows, plain_schema, {**own, "train_devices": wrong})


def table(**kinds):
    """Two windows each of two sessions of every device; the devices of a kind are numbered."""
    devices = [(kind, f"{kind}{number}") for kind, count in kinds.items() for number in range(count)]
    rows = [(f"{device}-{i}", device, kind) for kind, device in devices for i in range(2) for _ in range(2)]
    return pd.DataFrame(rows, columns=["session", "device", "kind"])


def devices_of(split):
    return {part: sorted({name.partition("-")[0] for name in names}) for part, names in split.sessions.items()}


def test_the_sessions_split_holds_out_three_tenths_and_halves_them(plain_schema):
    """As the seed study's two calls do, on the names of the sessions: how many windows they have is no matter."""
    windows = table(a=6, b=4)
    names = np.array(sorted(set(windows["session"])))
    train, rest = next(GroupShuffleSplit(1, test_size=0.3, random_state=7).split(names, groups=names))
    val, test = next(GroupShuffleSplit(1, test_size=0.5, random_state=7).split(rest, groups=names[rest]))
    split = make_split(windows, plain_schema, {"name": "session", "seed": 7})
    assert split.sessions == {
        part: sorted(names[chosen]) for part, chosen in zip(PARTS, (train, rest[val], rest[test]), strict=True)
    }
    assert {part: len(names) for part, names in split.sessions.items()} == {"train": 14, "val": 3, "test": 3}
    fewest = make_split(table(a=2), plain_schema, SESSION)
    assert [len(fewest.sessions[part]) for part in PARTS] == [2, 1, 1]


def test_what_is_saved_of_a_split_is_all_of_it(plain_schema):
    published = dataclasses.replace(plain_schema, device_split={"val": ["a0"], "test": ["a1"]})
    own = table(a=6)
    windows = own.assign(session="TS_oht_" + own["session"])
    split = make_split(windows, published, SESSION)
    assert split.to_dict() == {"settings": SESSION, "hash": split.hash, "note": split.note, "sessions": split.sessions}
    assert split.note.startswith("12 labelled sessions, not 341")
    assert split.hash == make_split(windows, plain_schema, SESSION).hash and len(split.hash) == 16
    assert make_split(own, published, SESSION).note == "", "a plant's own recordings have no seed study"
    assert make_split(windows, published, {"name": "device"}).note == ""


def test_the_device_split_is_the_schemas(plain_schema):
    windows = table(a=3, b=2)
    schema = dataclasses.replace(plain_schema, device_split={"val": ["a1"], "test": ["b0", "a2"]})
    split = make_split(windows, schema, {"name": "device"})
    assert devices_of(split) == {"train": ["a0", "b1"], "val": ["a1"], "test": ["a2", "b0"]}
    assert split.part_of(pd.Series(["b1-0", "a1-1", "a2-0", "a0-1"])).tolist() == ["train", "val", "test", "train"]
    for given, missing in (({"test": ["a1"]}, "val"), ({"val": ["a1"]}, "test"), ({"train": ["a1"]}, "val, test")):
        with pytest.raises(ConfigError, match=rf"leaves no session for {missing} \(10 sessions in all\)"):
            make_split(windows, dataclasses.replace(plain_schema, device_split=given), {"name": "device"})


def test_who_is_in_which_fold_stays_so(plain_schema):
    """Pinned: runs of one split are compared across versions of this code and of numpy."""
    windows = table(a=5, b=3)
    splits = [
        make_split(windows, plain_schema, {"name": "kfold", "seed": 1, "n_folds": 4, "fold": f}) for f in range(4)
    ]
    tests = [devices_of(split)["test"] for split in splits]
    assert tests == [["a3", "a4"], ["a0", "b1"], ["a1", "b0"], ["a2", "b2"]]
    for fold, split in enumerate(splits):
        parts = devices_of(split)
        assert parts["val"] == tests[(fold + 1) % 4]
        assert parts["train"] == sorted({*tests[(fold + 2) % 4], *tests[(fold + 3) % 4]})


def test_as_many_folds_as_devices_leave_one_device_out(plain_schema):
    settings = {"name": "kfold", "seed": 0, "n_folds": 3}
    tests = [devices_of(make_split(table(a=3), plain_schema, {**settings, "fold": fold}))["test"] for fold in range(3)]
    assert sorted(tests) == [["a0"], ["a1"], ["a2"]]
    for wrong in ({"fold": -1}, {"fold": 3}, {"fold": 0, "n_folds": 4}, {"fold": 0, "n_folds": 2}):
        with pytest.raises(ConfigError, match=r"must be 3\.\.3 \(the number of devices\)"):
            make_split(table(a=3), plain_schema, {**settings, **wrong})


def test_train_devices_are_taken_from_the_kinds_in_turn_as_long_as_they_last(plain_schema):
    windows = table(a=2, b=6)
    schema = dataclasses.replace(plain_schema, device_split={"val": ["b4"], "test": ["b5"]})
    taken = [
        devices_of(make_split(windows, schema, {"name": "device", "seed": 1, "train_devices": n}))["train"]
        for n in range(1, 7)
    ]
    kinds = ["".join(device[0] for device in devices) for devices in taken]
    assert kinds == ["a", "ab", "aab", "aabb", "aabbb", "aabbbb"]
    assert taken[3] == ["a0", "a1", "b0", "b1"], "which ones, is a matter of the seed alone"
    others = {
        tuple(devices_of(make_split(windows, schema, {"name": "device", "seed": seed, "train_devices": 4}))["train"])
        for seed in range(8)
    }
    assert len(others) > 1


def test_a_session_of_two_devices_cannot_be_split_by_device(plain_schema):
    windows = pd.DataFrame({"session": ["s", "s", "t", "u"], "device": ["a", "b", "a", "c"], "kind": "k"})
    schema = dataclasses.replace(plain_schema, device_split={"val": ["b"], "test": ["c"]})
    with pytest.raises(AssertionError, match="two parts"):
        make_split(windows, schema, {"name": "device"})


AUTO = {"name": "auto", "seed": 42}


def labelled(states, device="d", windows=4):
    """Windows of sessions with these states, by name: a digit a window, or one for all of them."""
    rows = [
        (name, device if isinstance(device, str) else device[name], "k", 30 * i, 30 * i + 29, int(word[i % len(word)]))
        for name, word in states.items()
        for i in range(max(windows, len(word)))
    ]
    return pd.DataFrame(rows, columns=["session", "device", "kind", "start", "end", "label"])


def states_of(split, windows):
    parts = split.part_of(windows["session"])
    return {part: set(windows["label"][parts == part]) for part in PARTS}


def test_auto_deals_several_recordings_as_the_sessions_split_does(windows, twin):
    auto, session = make_split(windows, twin.schema, AUTO), make_split(windows, twin.schema, SESSION)
    assert (auto.hash, auto.settings["name"]) == (session.hash, "auto")


@pytest.mark.parametrize("each", [3, 4, 6, 15])
def test_auto_gives_every_part_every_state_where_a_recording_has_one_state_alone(each, plain_schema):
    windows = labelled({f"r{k}{i}": str(k) for k in range(4) for i in range(each)})
    split = make_split(windows, plain_schema, AUTO)
    assert_whole_and_disjoint(split, windows)
    assert states_of(split, windows) == {key: {0, 1, 2, 3} for key in PARTS}
    assert len(split.sessions["train"]) >= max(len(split.sessions["val"]), len(split.sessions["test"]))
    assert make_split(windows, plain_schema, AUTO).hash == split.hash


def test_auto_refuses_a_state_that_a_part_would_lack_and_names_it(plain_schema):
    windows = labelled({"a": "0", "b": "0", "c": "01", "d": "01", "e": "0"})
    with pytest.raises(ConfigError) as caught:
        make_split(windows, plain_schema, AUTO)
    names = plain_schema.state_names
    assert f"has no window of {names[1]}; {names[1]} is in 2 of 5 recordings" in str(caught.value)
    assert "add recordings that have it" in str(caught.value) and "split=session" in str(caught.value)


def test_auto_keeps_the_parts_of_a_recording_together(plain_schema):
    windows = labelled({f"r{r}#{k}": "01" for r in range(6) for k in range(1, 6)})
    split = make_split(windows, plain_schema, AUTO)
    owners = {name.partition("#")[0]: part for part, names in split.sessions.items() for name in names}
    assert_whole_and_disjoint(split, windows)
    for part, names in split.sessions.items():
        assert {owners[name.partition("#")[0]] for name in names} == {part}


def starts_of(names, hours=1.0, first="2024-03-05 10:00"):
    return pd.Series(pd.Timestamp(first, tz="UTC") + pd.to_timedelta(np.arange(len(names)) * hours, unit="h"), names)


def test_auto_deals_one_history_by_time_with_a_window_left_out_between(plain_schema):
    names = [f"r#{k}" for k in range(1, 21)]
    windows = labelled(dict.fromkeys(names, "01"), windows=120)  # an hour of windows of 30 s
    split = make_split(windows.sample(frac=1, random_state=0), plain_schema, AUTO, starts_of(names))
    assert {part: sorted(int(name[2:]) for name in s) for part, s in split.sessions.items()} == {
        "train": [*range(1, 15)],
        "val": [15, 16, 17],
        "test": [18, 19, 20],
    }
    assert (
        split.note == "by time: train before 2024-03-06 00:00, validation before 2024-03-06 03:00, test from there on"
    )
    left_out = windows[~split.keeps(windows)]
    assert left_out[["session", "start"]].to_numpy().tolist() == [["r#14", 3570], ["r#17", 3570]]
    assert split.to_dict()["purged"] == split.purged
    apart = make_split(windows, plain_schema, AUTO, starts_of(names, hours=1.01))
    assert apart.keeps(windows).all() and "purged" not in apart.to_dict(), "36 s between parts are more than a window"


def test_auto_by_time_moves_the_borders_to_where_every_part_has_every_state(plain_schema):
    names = [f"r#{k}" for k in range(1, 11)]
    windows = labelled({name: "01" if k in (1, 4, 8) else "0" for k, name in enumerate(names)})
    split = make_split(windows, plain_schema, AUTO, starts_of(names))
    assert states_of(split, windows) == {key: {0, 1} for key in PARTS}
    late = labelled({name: "0" if k < 8 else "01" for k, name in enumerate(names)})
    with pytest.raises(
        ConfigError, match=r"split=auto, by time: train has no window of .*shorter data\.reader\.split_every"
    ):
        make_split(late, plain_schema, AUTO, starts_of(names))


def test_auto_refuses_parts_of_one_recording_without_dates_and_too_few_recordings(plain_schema):
    names = [f"r#{k}" for k in range(1, 11)]
    windows = labelled(dict.fromkeys(names, "01"))
    for starts in (None, pd.Series(pd.NaT, names)):
        with pytest.raises(ConfigError, match=r"no dates by which they could be dealt in time.*columns\.time"):
            make_split(windows, plain_schema, AUTO, starts)
    with pytest.raises(ConfigError, match=r"4 labelled recordings or more, there are 3.*split_every"):
        make_split(labelled(dict.fromkeys("abc", "01")), plain_schema, AUTO)


def test_windows_between_two_parts_in_time_are_in_no_part(store_of, session_of, plain_schema):
    first = pd.Timestamp("2024-03-05", tz="UTC").to_pydatetime()
    sessions = [session_of(f"r#{k}", range(60), [0, 1] * 30, device="d") for k in range(1, 7)]
    for k, session in enumerate(sessions):
        session.start = first + pd.Timedelta(minutes=k).to_pytimedelta()
    data = split_windows(store_of(sessions, plain_schema), WindowSettings(), AUTO)
    assert data.frame.groupby("part")["session"].unique().map(len).to_dict() == {"train": 4, "val": 1, "test": 1}
    last = data.frame[data.frame["session"] == "r#4"]["end"].max()
    assert last == 29 and data.frame[data.frame["session"] == "r#3"]["end"].max() == 59
