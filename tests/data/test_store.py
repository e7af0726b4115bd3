"""The frame store: repaired, reduced, written once, whole or not at all."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conveyorguard.data import store
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.repair import reduce_frames, repair_frames, repair_series
from conveyorguard.data.schema import THERMAL_STATISTICS, Schema, Session, Thermal, Unreadable
from conveyorguard.data.simulate import generate as simulate
from conveyorguard.data.store import Store, prepare
from conveyorguard.errors import DataError
from tests.data.archive import quirks
from tests.support.places import ROOT

# Repairing and reducing


def camera(rows, columns, stored_rows=1, stored_columns=1, **settings):
    return Thermal((rows, columns), (stored_rows, stored_columns), **settings)


@st.composite
def frames_and_camera(draw):
    rows, columns = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    stored = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    seed = draw(st.integers(0, 999))
    frames = np.random.default_rng(seed).normal(40, 10, (draw(st.integers(1, 3)), rows, columns)).astype(np.float32)
    return frames, camera(rows, columns, *stored)


@given(frames_and_camera())
def test_reduction_is_block_mean_and_block_maximum(case):
    """Also where the stored shape does not divide the camera's: blocks then differ by one in size."""
    frames, cam = case
    reduced, statistics = reduce_frames(frames, cam)
    (rows, columns), (stored_rows, stored_columns) = cam.shape, cam.stored
    wanted = np.empty((len(frames), 2, stored_rows, stored_columns))
    for i in range(stored_rows):
        for j in range(stored_columns):
            block = frames[
                :,
                i * rows // stored_rows : (i + 1) * rows // stored_rows,
                j * columns // stored_columns : (j + 1) * columns // stored_columns,
            ].astype(float)
            wanted[:, 0, i, j], wanted[:, 1, i, j] = block.mean((1, 2)), block.max((1, 2))
    np.testing.assert_allclose(reduced, wanted, rtol=1e-5)
    assert reduced.dtype == np.float32
    _check_statistics(frames, statistics)


def _check_statistics(frames, statistics):
    flat = frames.reshape(len(frames), -1).astype(float)
    hottest = [np.unravel_index(frame.argmax(), frame.shape) for frame in frames]
    wanted = {
        "max": flat.max(1),
        "p99": np.percentile(flat, 99, axis=1),
        "mean": flat.mean(1),
        "sd": flat.std(1),
        "x_max": [x for _, x in hottest],
        "y_max": [y for y, _ in hottest],
    }
    assert tuple(wanted) == THERMAL_STATISTICS
    np.testing.assert_allclose(statistics, np.stack(list(wanted.values()), axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics[:, 2], wanted["mean"], rtol=1e-12, err_msg="summed in double precision")


@pytest.mark.parametrize("shape", [(120, 160), (48, 64), (7, 5)])
def test_stride_is_every_second_pixel(shape):
    frames = np.random.default_rng(0).normal(40, 10, (4, *shape)).astype(np.float32)
    cam = camera(*shape, reduce="stride")
    reduced, statistics = reduce_frames(frames, cam)
    np.testing.assert_array_equal(reduced, frames[:, None, ::2, ::2])
    assert reduced.shape[1:] == cam.stored_shape
    _check_statistics(frames, statistics)


pixels = st.one_of(st.floats(-30, 160, width=32), st.sampled_from([np.nan, np.inf, -np.inf, -110, 172]))


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=pixels))
def test_impossible_pixels_take_the_nearest_possible_one(frames):
    original = frames.copy()
    repaired, count, usable = repair_frames(frames, camera(*frames.shape[1:]))
    np.testing.assert_array_equal(frames, original, "what the reader gave is not changed")
    good = (original >= -20) & (original <= 150)
    bad = (~good).sum((1, 2))
    np.testing.assert_array_equal(usable, bad <= good[0].size // 2)
    np.testing.assert_array_equal(count, np.where(usable, bad, 0))
    for i in np.flatnonzero(usable):
        np.testing.assert_array_equal(repaired[i][good[i]], original[i][good[i]])
        places = np.argwhere(good[i])
        for place in np.argwhere(~good[i]):
            distance = ((places - place) ** 2).sum(1)
            nearest = places[distance == distance.min()]
            assert repaired[i][tuple(place)] in original[i][tuple(nearest.T)]
    assert np.isfinite(repaired).all(), "not even a frame that is left out may hold NaN: it is reduced with the rest"


@pytest.mark.parametrize("worst", [20.0, np.nan])
def test_pixels_at_the_ends_of_the_possible_are_left_as_they_are(worst):
    frames = np.full((2, 3, 3), 20, np.float32)
    frames[0, 0, 0], frames[0, 2, 2], frames[1, 1, 1] = -20, 150, worst
    repaired, count, usable = repair_frames(frames, camera(3, 3))
    assert (repaired[0, 0, 0], repaired[0, 2, 2], repaired[1, 1, 1]) == (-20, 150, 20)
    assert count.tolist() == [0, int(np.isnan(worst))] and count.dtype.kind == "i"
    assert usable.tolist() == [True, True] and usable.dtype == bool
    assert [len(each) for each in repair_frames(frames[:0], camera(3, 3))] == [0, 0, 0]


values = st.one_of(st.floats(-1e4, 1e4, width=32), st.sampled_from([np.nan, np.inf, -np.inf]))


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=values), st.data())
def test_bad_values_lie_between_their_neighbours_in_time(series, data):
    steps = data.draw(st.lists(st.integers(1, 5), min_size=len(series), max_size=len(series)))
    time, original = np.cumsum(steps), series.copy()
    repaired, bad = repair_series(series, time)
    np.testing.assert_array_equal(series, original)
    np.testing.assert_array_equal(bad, ~np.isfinite(original))
    assert repaired.dtype == np.float32
    for channel, (column, wrong) in enumerate(zip(repaired.T, bad.T, strict=True)):
        right = np.flatnonzero(~wrong)
        np.testing.assert_array_equal(column[right], original[right, channel].astype(np.float32))
        if not len(right):
            assert np.isnan(column).all()
            continue
        for row in np.flatnonzero(wrong):
            before, after = right[right < row], right[right > row]
            if len(before) and len(after):
                a, b = before[-1], after[0]
                part = (time[row] - time[a]) / (time[b] - time[a])
                wanted = original[a, channel] + part * (original[b, channel] - original[a, channel])
            else:
                wanted = original[before[-1] if len(before) else after[0], channel]
            assert column[row] == pytest.approx(wanted, rel=1e-4, abs=1e-2)


# What stands in a store


def small_camera_schema(plain_schema, **thermal):
    node = plain_schema.to_dict()
    return Schema.from_config({**node, "thermal": {"shape": [8, 10], "stored": [4, 5], **thermal}})


def warm(count, shape=(8, 10)):
    return np.full((count, *shape), 35.0, np.float32)


def test_seconds_to_the_end_and_since_onset(store_of, session_of, plain_schema):
    made = store_of(
        [
            session_of("a", [0, 1, 2, 5, 6], [0, 0, 1, 2, 3]),
            session_of("b", range(3), [0, 0, 0]),
            session_of("c", range(3)),
        ],
        plain_schema,
    )
    rows = dict(list(made.frames.groupby("session", observed=True)))
    assert rows["a"]["seconds_to_end"].tolist() == [6, 5, 4, 1, 0]
    assert rows["a"]["seconds_since_onset"].tolist() == [-2, -1, 0, 3, 4]
    assert rows["b"]["seconds_since_onset"].isna().all() and rows["c"]["seconds_since_onset"].isna().all()
    assert rows["c"]["state"].tolist() == [-1, -1, -1]
    assert made.manifest["unlabelled_sessions"] == ["c"]


def test_a_second_that_comes_twice_or_late_is_dropped(store_of, session_of, plain_schema):
    made = store_of([session_of("a", [0, 1, 1, 2, 4, 3, 5], [0] * 7)], plain_schema)
    assert made.frames["time"].tolist() == [0, 1, 2, 4, 5]
    assert made.manifest["counts"]["dropped_frames"] == {"duplicate_second": 2}


def test_a_frame_with_most_pixels_impossible_is_dropped(store_of, session_of, plain_schema):
    frames = warm(5)
    frames[2, :5] = np.nan  # 50 of 80
    frames[3, :4] = 500  # 40 of 80: just usable
    made = store_of([session_of("a", range(5), [0] * 5, thermal=frames)], small_camera_schema(plain_schema))
    assert made.frames["time"].tolist() == [0, 1, 3, 4]
    assert made.manifest["counts"]["dropped_frames"] == {"bad_frame": 1}
    assert made.manifest["counts"]["repaired"] == {"pixels": 40, "seconds": 1}
    assert made.frames["quality"].tolist() == [0, 0, store.THERMAL_REPAIRED, 0]
    np.testing.assert_allclose(made.thermal, 35)


@pytest.mark.parametrize("fault", ["width", "frames", "no camera", "state", "empty"])
def test_a_session_that_does_not_fit_the_schema_is_skipped_and_told(fault, store_of, session_of, plain_schema):
    arrays = {"thermal": warm(4)}
    if fault == "width":
        arrays["sensors"] = np.zeros((4, 3))
    elif fault == "frames":
        arrays["thermal"] = warm(3)
    elif fault == "no camera":
        arrays["thermal"] = None
    count = 0 if fault == "empty" else 4
    if fault == "empty":
        arrays["thermal"] = warm(0)
    bad = session_of("bad", range(count), [7 if fault == "state" else 0] * count, **arrays)
    good = session_of("good", range(4), [0] * 4, thermal=warm(4))
    made = store_of([bad, good], small_camera_schema(plain_schema))
    assert [entry["session"] for entry in made.manifest["skipped_sessions"]] == ["bad"]
    assert set(made.frames["session"]) == {"good"}
    words = {"width": "(4, 2)", "frames": "too few", "no camera": "no frames", "state": "7", "empty": "no usable frame"}
    assert words[fault] in made.summary()


def test_of_two_sessions_of_one_name_the_first_is_kept(store_of, session_of, plain_schema):
    made = store_of([session_of("a", range(4), [0] * 4), session_of("a", range(9), [0] * 9)], plain_schema)
    assert len(made.frames) == 4
    assert made.manifest["skipped_sessions"][0]["reason"] == "duplicate_session"


def test_nothing_readable_is_an_error_that_says_why(session_of, plain_schema, store_of):
    with pytest.raises(DataError, match=r"a: .*torn"):
        store_of([Unreadable("a", "torn", "it is torn")], plain_schema)


@pytest.fixture(scope="module")
def made(schema, tmp_path_factory):
    """Two simulated recordings with their camera."""
    reader = simulate_two
    return prepare(reader, schema, None, tmp_path_factory.mktemp("made"), "sim", jobs=2)


def simulate_two(root, schema):
    return simulate.sessions(root, schema, sessions=2, seed=5)


def test_the_manifest_tells_everything(made, schema):
    manifest = json.loads((made.path / "manifest.json").read_text(encoding="utf-8"))
    assert {"schema", "counts", "units", "fingerprint", "sessions", "skipped_sessions", "unlabelled_sessions"} <= set(
        manifest
    )
    assert Schema.from_config(manifest["schema"]) == schema
    assert manifest["units"]["CT1"] == "A" and manifest["units"]["ex_illuminance"] == "lx"
    assert manifest["counts"]["sessions"] == 2 and manifest["counts"]["frames"] == len(made.frames)
    assert sum(entry["seconds"] for entry in manifest["sessions"]) == len(made.frames)
    assert sorted(p.name for p in made.path.iterdir()) == ["frames.parquet", "manifest.json", "thermal.npy"]


def test_thermal_frames_stay_on_disk(made):
    assert isinstance(made.thermal, np.memmap) and not made.thermal.flags.writeable
    assert made.thermal.dtype == np.float16 and made.thermal.shape == (len(made.frames), 2, 30, 40)
    assert len(pickle.dumps(made)) < 100_000, "a store goes to worker processes as a path, not as its content"


def test_the_store_holds_what_was_simulated(made, schema):
    for item in simulate.plan(2, 5):
        session = simulate.simulate(item, schema, 5)
        rows = np.flatnonzero((made.frames["session"] == item.name).to_numpy())
        np.testing.assert_array_equal(made.sensors[rows], session.sensors)
        np.testing.assert_array_equal(made.environment[rows], session.environment)
        np.testing.assert_array_equal(made.frames["state"].to_numpy()[rows], session.state)
        reduced, statistics = reduce_frames(session.thermal, schema.thermal)
        np.testing.assert_allclose(made.thermal[rows], reduced, rtol=1e-3)
        np.testing.assert_allclose(made.thermal_statistics[rows], statistics, rtol=1e-5, atol=1e-5)


class Lazy:
    """Frames that are made when asked for, and count how many at once."""

    def __init__(self, count):
        self.count, self.most = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, rows):
        self.most = max(self.most, rows.stop - rows.start)
        return warm(rows.stop - rows.start)


def test_frames_are_taken_a_few_at_a_time(store_of, session_of, plain_schema):
    frames = Lazy(1000)
    store_of([session_of("a", range(1000), [0] * 1000, thermal=frames)], small_camera_schema(plain_schema))
    assert 0 < frames.most <= 100


# Which store


def test_the_same_data_have_the_same_fingerprint_whatever_their_packing(schema, unpacked, tmp_path):
    stores = []
    for root in (quirks.write(tmp_path / "set", "zip", garbled=True).root, unpacked):
        stores.append(prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", jobs=1))
    assert stores[0].fingerprint == stores[1].fingerprint
    assert stores[0].path != stores[1].path


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    return quirks.write(tmp_path_factory.mktemp("unpacked") / "set", "folder").root


@pytest.fixture
def few(schema, unpacked, tmp_path):
    """Prepare a copy of one quirk session."""
    root = tmp_path / "few"
    for stem in (quirks.CLEAN_OHT, quirks.CLEAN_OHT.replace("TS", "TL")):
        shutil.copytree(next(unpacked.rglob(stem)), root / stem)

    def make(root=root, schema=schema):
        return prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", jobs=1)

    make.root = root
    return make


def test_a_store_is_built_once(few):
    first = few()
    written = (first.path / "manifest.json").stat().st_mtime_ns
    again = few()
    assert again.path == first.path and (again.path / "manifest.json").stat().st_mtime_ns == written
    moved = few.root.rename(few.root.with_name("moved"))
    assert few(moved).path == first.path, "the same files in another place are the same data"


@pytest.mark.parametrize("change", ["content", "time", "gone", "new session", "schema"])
def test_a_change_of_the_data_or_the_schema_makes_another_store(change, few, schema_node):
    first = few()
    file = sorted(few.root.rglob("*.csv"))[3]
    options = {}
    if change == "content":
        file.write_bytes(file.read_bytes().replace(b"8.00", b"9.00"))
    elif change == "time":
        os.utime(file, ns=(1, 1))
    elif change == "gone":
        file.unlink()
    elif change == "new session":
        copy = few.root / "TS_oht_01_oht01_0827_2222"
        copy.mkdir()
        (copy / "oht01_0827_222200.csv").write_bytes(file.read_bytes())
    else:
        node = schema_node()
        options["schema"] = Schema.from_config({**node, "thermal": {**node["thermal"], "reduce": "stride"}})
    second = few(**options)
    assert second.path != first.path
    assert (second.fingerprint == first.fingerprint) == (change in ("time", "new session"))


# Processes


SLOW_READER = """
import os, signal, time
from functools import partial
from pathlib import Path
import numpy as np
from conveyorguard.data.schema import Recording, Session

def read(name, kill, wait):
    if kill and os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(wait)
    n = 50
    rng = np.random.default_rng(len(name))
    sensors, environment, thermal = rng.normal(size=(n, 2)), rng.normal(size=(n, 1)), rng.normal(40, 2, (n, 8, 10))
    return Session(name, "a1", "a", np.arange(n), sensors, environment, thermal, np.zeros(n, int))

def sessions(root, schema, wait=0.0):
    for i in range(6):
        yield Recording("s" * (i + 1), (), partial(read, "s" * (i + 1), i == 4, wait))
"""

PREPARE = """
import json, sys, time
from functools import partial
from pathlib import Path
import slow_reader
from conveyorguard.data.schema import Schema
from conveyorguard.data.store import prepare
node, cache, start, wait = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
print("ready", flush=True)
while not start.exists():
    time.sleep(0.005)
store = prepare(partial(slow_reader.sessions, wait=wait), Schema.from_config(node), None, cache, "slow", jobs=1)
print(store.path, store.fingerprint, store.thermal.sum(dtype=float))
"""


@pytest.fixture
def preparing(tmp_path, plain_schema):
    """Start a process that prepares a store of a slow reader."""
    (tmp_path / "slow_reader.py").write_text(SLOW_READER)
    node = json.dumps(small_camera_schema(plain_schema).to_dict())

    def start(cache, go, wait=0.0, **env):
        line = [sys.executable, "-c", PREPARE, node, str(cache), str(go), str(wait)]
        paths = f"{ROOT}{os.pathsep}{tmp_path}"
        return subprocess.Popen(line, env={**os.environ, "PYTHONPATH": paths, **env}, stdout=subprocess.PIPE, text=True)

    return start


def test_processes_that_race_end_with_one_good_store(preparing, tmp_path):
    cache, go = tmp_path / "cache", tmp_path / "go"
    racing = [preparing(cache, go, wait=0.03) for _ in range(2)]
    for process in racing:
        assert process.stdout.readline() == "ready\n"
    go.touch()
    said = {process.communicate(timeout=60)[0] for process in racing}
    assert [process.returncode for process in racing] == [0, 0]
    assert len(said) == 1, "all opened the same whole store"
    assert [p.name for p in cache.iterdir()] == [Path(said.pop().split()[0]).name], "and nothing else is left"


def test_a_killed_build_leaves_nothing_that_is_taken_for_a_store(preparing, tmp_path):
    cache, go = tmp_path / "cache", tmp_path / "go"
    go.touch()
    killed = preparing(cache, go, KILL="1")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = cache.iterdir()
    assert left.name.startswith("."), "it does not stand under the name of a store"
    # after a restart of a container another process has its number: this one, say
    reused = left.with_name(left.name.replace(f".{killed.pid}-", f".{os.getpid()}-"))
    assert reused != left
    reused.mkdir()
    out, _ = preparing(cache, go).communicate(timeout=60)
    path = Path(out.splitlines()[1].split()[0])
    assert list(cache.iterdir()) == [path], "the next build clears both away"
    assert len(Store(path).frames) == 300 and len(Store(path).thermal) == 300


def test_a_build_at_work_is_not_swept_away(preparing, tmp_path, plain_schema, session_of):
    cache, go = tmp_path / "cache", tmp_path / "go"
    go.touch()
    other = preparing(cache, go, wait=0.5)
    while not (cache.exists() and list(cache.glob(".slow*"))):
        assert other.poll() is None
    (work,) = cache.glob(".slow*")
    prepare(lambda root, schema: [session_of("a", range(3), [0] * 3)], plain_schema, None, cache, "mine", jobs=1)
    assert work.exists()
    assert other.wait(timeout=60) == 0


def test_a_build_that_fails_leaves_nothing(store_of, plain_schema, session_of, tmp_path):
    def broken(root, schema):
        yield session_of("a", range(3), [0] * 3)
        yield Unreadable("b", "torn", "b is torn")

    with pytest.raises(DataError, match="b is torn"):
        prepare(broken, plain_schema, None, tmp_path / "cache", "x", strict=True, jobs=1)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"schema": {}, "fingerprint": "0"}', '{"schema": null}'])
def test_a_store_without_a_manifest_of_its_own_is_told_with_the_remedy(content, store_of, session_of, plain_schema):
    path = store_of([session_of("a", range(3), [0] * 3)], plain_schema).path
    manifest = json.loads((path / "manifest.json").read_text())
    for text in (content, json.dumps({key: manifest[key] for key in ("schema", "fingerprint")})):
        (path / "manifest.json").write_text(text)
        with pytest.raises(DataError, match=r"(?s)not a frame store .*; delete the folder and run prepare again"):
            Store(path)


def test_a_damaged_store_is_told_with_the_remedy(store_of, session_of, plain_schema):
    path = store_of([session_of("a", range(3), [0] * 3)], plain_schema).path
    (path / "manifest.json").write_text('{"cut')
    with pytest.raises(DataError, match=r"not a frame store .*; delete the folder"):
        Store(path)


MEMORY = """
import functools, json, resource, sys
from conveyorguard.data import simulate
from conveyorguard.data.schema import Schema
from conveyorguard.data.store import prepare
count, cache, node = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
reader = functools.partial(simulate.sessions, sessions=count, seed=0)
prepare(reader, Schema.from_config(node), None, cache, "m", jobs=2)
who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
print(json.dumps([resource.getrusage(one).ru_maxrss / 1024 for one in who]))
"""


def memory(count, tmp_path, schema):
    # a process begins with the peak of the one that started it, here of all tests before: a shell's is small
    line = [
        "sh",
        "-c",
        '"$@"; exit $?',
        "sh",
        sys.executable,
        "-c",
        MEMORY,
        str(count),
        str(tmp_path / str(count)),
        json.dumps(schema.to_dict()),
    ]
    done = subprocess.run(
        line, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])  # MiB of the process, and of the largest of its workers


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path, schema):
    few, many = memory(6, tmp_path, schema), memory(72, tmp_path, schema)
    assert max(few + many) < 1024
    assert many[0] < few[0] + 150, "72 sessions have 90 MiB of reduced and 1.9 GiB of raw frames"


@settings(max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_rows_of_the_store_are_the_sessions_one_after_another(tmp_path_factory, plain_schema, lengths):
    sessions = []
    for i, n in enumerate(lengths):
        sensors = np.stack([np.arange(n) + 100 * i, np.ones(n)], axis=1)
        sessions.append(Session(f"s{i}", f"d{i}", "k", np.arange(n), sensors, np.zeros((n, 1)), None, np.zeros(n, int)))
    made = prepare(lambda root, schema: sessions, plain_schema, None, tmp_path_factory.mktemp("rows"), "x", jobs=1)
    frames = made.frames
    assert frames["session"].tolist() == [f"s{i}" for i, n in enumerate(lengths) for _ in range(n)]
    assert frames["heat"].tolist() == [t + 100 * i for i, n in enumerate(lengths) for t in range(n)]
    assert isinstance(frames["session"].dtype, pd.CategoricalDtype) and made.thermal is None
