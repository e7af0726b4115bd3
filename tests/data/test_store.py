"""The frame store: repaired, reduced, and written once, completely or not at all."""

import json
import os
import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conveyorguard.data import store
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.reduce import reduce_frames
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session, Unreadable
from conveyorguard.data.simulate import generate as simulate
from conveyorguard.data.store import ShardedArray, column_types, open_store
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive import quirks
from tests.data.small_camera import small_camera_schema, warm


def test_store_computes_seconds_to_end_and_since_onset(store_of, session_of, plain_schema):
    built = store_of(
        [
            session_of("a", [0, 1, 2, 5, 6], [0, 0, 1, 2, 3]),
            session_of("b", range(3), [0, 0, 0]),
            session_of("c", range(3)),
        ],
        plain_schema,
    )
    rows = dict(list(built.to_frame().groupby("session", observed=True)))
    assert rows["a"]["seconds_to_end"].tolist() == [6, 5, 4, 1, 0]
    assert rows["a"]["seconds_since_onset"].tolist() == [-2, -1, 0, 3, 4]
    assert rows["b"]["seconds_since_onset"].isna().all() and rows["c"]["seconds_since_onset"].isna().all()
    assert rows["c"]["state"].tolist() == [-1, -1, -1]
    assert built.manifest["unlabelled_sessions"] == ["c"]


def test_repeated_or_late_second_is_dropped(store_of, session_of, plain_schema):
    built = store_of([session_of("a", [0, 1, 1, 2, 4, 3, 5], [0] * 7)], plain_schema)
    assert built.to_frame()["time"].tolist() == [0, 1, 2, 4, 5]
    assert built.manifest["counts"]["dropped_frames"] == {"duplicate_second": 2}


def test_frame_with_most_pixels_impossible_is_dropped(store_of, session_of, plain_schema):
    frames = warm(5)
    frames[2, :5] = np.nan  # 50 of 80
    frames[3, :4] = 500  # 40 of 80: just usable
    built = store_of([session_of("a", range(5), [0] * 5, thermal=frames)], small_camera_schema(plain_schema))
    assert built.to_frame()["time"].tolist() == [0, 1, 3, 4]
    assert built.manifest["counts"]["dropped_frames"] == {"bad_frame": 1}
    assert built.manifest["counts"]["repaired"] == {"pixels": 40, "seconds": 1}
    assert built.to_frame()["quality"].tolist() == [0, 0, store.THERMAL_REPAIRED, 0]
    np.testing.assert_allclose(built.thermal, 35)


@pytest.mark.parametrize("fault", ["width", "frames", "no camera", "state", "empty"])
def test_session_that_violates_the_schema_is_skipped_and_reported(fault, store_of, session_of, plain_schema):
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
    built = store_of([bad, good], small_camera_schema(plain_schema))
    assert [entry["session"] for entry in built.manifest["skipped_sessions"]] == ["bad"]
    assert set(built.to_frame()["session"]) == {"good"}
    words = {"width": "(4, 2)", "frames": "too few", "no camera": "no frames", "state": "7", "empty": "no usable frame"}
    assert words[fault] in built.summary()


def test_second_session_of_the_same_name_is_skipped(store_of, session_of, plain_schema):
    built = store_of([session_of("a", range(4), [0] * 4), session_of("a", range(9), [0] * 9)], plain_schema)
    assert len(built.to_frame()) == 4
    assert built.manifest["skipped_sessions"][0]["reason"] == "duplicate_session"


def test_no_readable_session_is_refused_with_the_reason(session_of, plain_schema, store_of):
    with pytest.raises(DataError, match=r"a: .*torn"):
        store_of([Unreadable("a", "torn", "it is torn")], plain_schema)


@pytest.fixture(scope="module")
def simulated(schema, tmp_path_factory):
    """A store of two simulated recordings with their camera."""
    return prepare(simulate_two, schema, None, tmp_path_factory.mktemp("simulated"), "sim", jobs=2)


def simulate_two(root, schema):
    return simulate.sessions(root, schema, sessions=2, seed=5)


def test_manifest_and_files_describe_the_store(simulated, schema):
    manifest = json.loads((simulated.path / "manifest.json").read_text(encoding="utf-8"))
    assert {"schema", "period", "counts", "units", "fingerprint", "skipped_sessions", "unlabelled_sessions"} <= {
        *manifest
    }
    assert Schema.from_config(manifest["schema"]) == schema
    assert manifest["units"]["CT1"] == "A" and manifest["units"]["ex_illuminance"] == "lx"
    assert manifest["counts"]["sessions"] == 2 and manifest["counts"]["frames"] == len(simulated.to_frame())
    assert sorted(p.name for p in simulated.path.iterdir()) == ["manifest.json", "sessions.parquet", "shards"]
    sessions = pd.read_parquet(simulated.path / "sessions.parquet")
    assert sessions["rows"].sum() == len(simulated) and sessions["content"].str.len().eq(64).all()
    for shard in sessions["shard"]:
        columns = {path.stem for path in (simulated.path / "shards" / f"{shard:04d}").iterdir()}
        assert columns == set(column_types(schema))


def test_thermal_frames_are_memory_mapped_and_pickled_as_a_path(simulated):
    shown = simulated.thermal[:5]
    assert not shown.flags.owndata and not shown.flags.writeable, "they are a view of the file"
    assert simulated.thermal.dtype == np.float16 and simulated.thermal.shape == (len(simulated), 2, 30, 40)
    assert len(pickle.dumps(simulated)) < 100_000, "a store is pickled as a path, not as its content"


def test_store_holds_the_simulated_values(simulated, schema):
    for item in simulate.plan(2, 5):
        session = simulate.simulate(item, schema, 5)
        rows = np.flatnonzero((simulated.to_frame()["session"] == item.name).to_numpy())
        np.testing.assert_array_equal(simulated.sensors[rows], session.sensors)
        np.testing.assert_array_equal(simulated.environment[rows], session.environment)
        np.testing.assert_array_equal(simulated.to_frame()["state"].to_numpy()[rows], session.state)
        reduced, statistics = reduce_frames(session.thermal, schema.thermal)
        np.testing.assert_allclose(simulated.thermal[rows], reduced, rtol=1e-3)
        np.testing.assert_allclose(simulated.thermal_statistics[rows], statistics, rtol=1e-5, atol=1e-5)


class Lazy:
    """Frames that are created when sliced; records the largest slice."""

    def __init__(self, count):
        self.count, self.most = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, rows):
        self.most = max(self.most, rows.stop - rows.start)
        return warm(rows.stop - rows.start)


def test_frames_are_read_a_few_at_a_time(store_of, session_of, plain_schema):
    frames = Lazy(1000)
    store_of([session_of("a", range(1000), [0] * 1000, thermal=frames)], small_camera_schema(plain_schema))
    assert 0 < frames.most <= 100


def test_zips_and_folders_of_the_same_data_have_the_same_fingerprint(schema, unpacked, tmp_path):
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
    """Return a function that prepares the store of a copied quirk session."""
    root = tmp_path / "few"
    for stem in (quirks.CLEAN_OHT, quirks.CLEAN_OHT.replace("TS", "TL")):
        shutil.copytree(next(unpacked.rglob(stem)), root / stem)

    def make(root=root, schema=schema):
        return prepare(archive.sessions, schema, root, tmp_path / "cache", "aihub", jobs=1)

    make.root = root
    return make


def test_store_is_built_once(few):
    first = few()
    written = (first.path / "manifest.json").stat().st_mtime_ns
    again = few()
    assert again.path == first.path and (again.path / "manifest.json").stat().st_mtime_ns == written
    moved = few.root.rename(few.root.with_name("moved"))
    assert few(moved).path == first.path, "the same files in another folder are the same data"


@pytest.mark.parametrize("change", ["content", "time", "gone", "new session", "schema"])
def test_changed_data_or_schema_build_another_store(change, few, schema_node):
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


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"schema": {}, "fingerprint": "0"}', '{"schema": null}'])
def test_store_with_a_foreign_manifest_is_refused_with_the_remedy(content, store_of, session_of, plain_schema):
    path = store_of([session_of("a", range(3), [0] * 3)], plain_schema).path
    manifest = json.loads((path / "manifest.json").read_text())
    for text in (content, json.dumps({key: manifest[key] for key in ("schema", "fingerprint")})):
        (path / "manifest.json").write_text(text)
        with pytest.raises(DataError, match=r"(?s)not a frame store .*; delete the folder and run prepare again"):
            open_store(path)


def test_store_with_a_damaged_manifest_is_refused_with_the_remedy(store_of, session_of, plain_schema):
    path = store_of([session_of("a", range(3), [0] * 3)], plain_schema).path
    (path / "manifest.json").write_text('{"cut')
    with pytest.raises(DataError, match=r"not a frame store .*; delete the folder"):
        open_store(path)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_store_rows_are_the_sessions_one_after_another(tmp_path_factory, plain_schema, lengths):
    sessions = []
    for i, n in enumerate(lengths):
        sensors = np.stack([np.arange(n) + 100 * i, np.ones(n)], axis=1)
        sessions.append(Session(f"s{i}", f"d{i}", "k", np.arange(n), sensors, np.zeros((n, 1)), None, np.zeros(n, int)))
    built = prepare(lambda root, schema: sessions, plain_schema, None, tmp_path_factory.mktemp("rows"), "x", jobs=1)
    frames = built.to_frame()
    assert frames["session"].tolist() == [f"s{i}" for i, n in enumerate(lengths) for _ in range(n)]
    assert frames["heat"].tolist() == [t + 100 * i for i, n in enumerate(lengths) for t in range(n)]
    assert isinstance(frames["session"].dtype, pd.CategoricalDtype) and built.thermal is None


@st.composite
def sharded_and_whole(draw):
    """Draw the lengths of shards, and an array of their total length."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    shape = draw(st.sampled_from([(), (3,), (2, 2)]))
    whole = np.arange(sum(lengths) * int(np.prod(shape)), dtype=np.float32).reshape(sum(lengths), *shape)
    return lengths, whole


@given(sharded_and_whole(), st.data())
def test_sharded_array_is_indexed_like_a_plain_array(tmp_path_factory, case, data):
    lengths, whole = case
    folder, edges = tmp_path_factory.mktemp("shards"), np.cumsum([0, *lengths])
    paths = [folder / f"{i}.npy" for i in range(len(lengths))]
    for path, begin, end in zip(paths, edges[:-1], edges[1:], strict=True):
        np.save(path, whole[begin:end])
    array = ShardedArray(paths, lengths, np.float32, whole.shape[1:])
    n = len(whole)
    place = st.integers(-n, n - 1)
    index = data.draw(
        st.one_of(
            place,
            st.slices(n),
            st.lists(place, max_size=9).map(lambda rows: np.array(rows, int)),
            hnp.arrays(bool, n),
            hnp.arrays(np.int64, (2, 3), elements=place),
        )
    )
    np.testing.assert_array_equal(array[index], whole[index])
    np.testing.assert_array_equal(np.asarray(array), whole)
    if whole.ndim > 1:
        np.testing.assert_array_equal(array[index, -1], whole[index, -1])
    assert len(array) == n and array.shape == whole.shape and array.nbytes == whole.nbytes
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[:], whole)
