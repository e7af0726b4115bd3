"""The camera beside a table: arrays of frames, pictures by the second."""

import functools
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from conveyorguard.data.session import Recording, Unreadable
from conveyorguard.data.store_build import prepare
from conveyorguard.data.table import reader as table
from conveyorguard.data.table.camera import LazyFrames
from conveyorguard.errors import DataError
from tests.data.table.plant import N, schema_of, stored

pytestmark = pytest.mark.promise(
    "input",
    "A defect in a table of one's own costs its row, picture or file and is named. A picture is never "
    "executed (PostScript).",
)

CAMERA = (6, 8)


@pytest.fixture
def camera_set(tmp_path, frame):
    """A recording with frames whose first pixel is the second."""
    root = tmp_path / "set"
    (root / "thermal").mkdir(parents=True)
    frame.to_csv(root / "rec.csv", index=False)
    frames = np.full((N, *CAMERA), 30.0, np.float32)
    frames[:, 0, 0] = np.arange(N)
    np.save(root / "thermal" / "rec.npy", frames)
    return root, frames


def only(root, shape=CAMERA, **options):
    (item,) = table.sessions(root, schema_of(shape), **options)
    return item if isinstance(item, Unreadable) else item.read()


def test_frames_of_an_array_keep_to_their_rows(camera_set, frame):
    root, frames = camera_set
    np.testing.assert_array_equal(only(root).thermal[:], frames)
    frame.drop(index=[3]).sample(frac=1, random_state=0).to_csv(root / "rec.csv", index=False)
    session = only(root)  # N frames for N - 1 rows over N seconds: a frame a second
    assert session.thermal[0:N][:, 0, 0].tolist() == session.time.tolist() == [t for t in range(N) if t != 3]
    bad = frame.astype({"heat": str})
    bad.loc[5, "heat"] = "x"
    bad["time"] += np.where(np.arange(N) > 9, 7, 0)
    bad.to_csv(root / "rec.csv", index=False)
    session = only(root)  # N frames for N rows, one of them bad, over more seconds: a frame a row
    assert session.thermal[0:N][:, 0, 0].tolist() == [t for t in range(N) if t != 5]


@pytest.mark.parametrize("mode", ["L", "I;16", "F"])
def test_pictures_by_the_second_and_their_mapping(mode, camera_set):
    root, frames = camera_set
    (root / "thermal" / "rec.npy").unlink()
    folder = root / "thermal" / "rec"
    folder.mkdir()
    suffix = "tiff" if mode == "F" else "png"
    kind = {"L": np.uint8, "I;16": np.uint16, "F": np.float32}[mode]
    for t, image in enumerate(frames):
        Image.fromarray((image * 2 + 20).astype(kind)).save(folder / f"{t:04d}.{suffix}")
    (folder / f"0004.{suffix}").unlink()
    (folder / f"0005.{suffix}").write_bytes(b"no picture")
    Image.new("RGB", CAMERA[::-1]).save(folder / f"0006.{suffix}")
    Image.fromarray(np.zeros((3, 3), kind)).save(folder / f"0007.{suffix}")
    session = only(root, thermal_scale=0.5, thermal_offset=-10)
    there = [t for t in range(N) if t not in (4, 5, 6, 7)]
    assert session.time.tolist() == there and len(session.sensors) == len(session.state) == len(there)
    np.testing.assert_allclose(session.thermal[:], frames[there])
    messages = {d.where: d.message for d in session.dropped}
    for second, words in {4: "found none", 5: "damaged", 6: "colours (RGB)", 7: "found 3 x 3"}.items():
        assert words in messages[f"rec: second {second}"]


def test_a_picture_cut_short_costs_its_second(camera_set, tmp_path):
    root, frames = camera_set
    (root / "thermal" / "rec.npy").unlink()
    folder = root / "thermal" / "rec"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for t in range(N):
        Image.fromarray(rng.integers(20, 60, CAMERA, np.uint8)).save(folder / f"{t}.png")
    whole = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(whole[: len(whole) * 2 // 3])
    store = stored(root, tmp_path, schema_of(CAMERA))
    assert store.manifest["counts"]["dropped_frames"] == {"bad_frame": 1}
    assert 5 not in store.to_frame()["time"].tolist()


@pytest.mark.parametrize("case", ["pickle", "shape", "count", "objects", "words", "cut"])
def test_a_bad_array_of_frames_is_named_and_nothing_unpickled(case, camera_set, tmp_path):
    root, frames = camera_set
    path = root / "thermal" / "rec.npy"
    tripwire = tmp_path / "tripwire"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tripwire),)

    if case == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif case == "objects":
        np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    elif case == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        np.save(path, {"shape": frames[:, :3], "count": frames[:7], "words": frames.astype(str)}[case])
    with pytest.raises(DataError, match=r"rec\.npy: (expected|cannot be read)"):
        only(root)
    assert not tripwire.exists()


def test_a_recording_without_frames_is_named(camera_set, frame):
    root, _ = camera_set
    frame.to_csv(root / "other.csv", index=False)
    other, rec = table.sessions(root, schema_of(CAMERA))
    assert isinstance(other, Unreadable) and isinstance(rec, Recording)
    assert "thermal/other.npy" in other.message and "data.schema.thermal=null" in other.message


def test_a_large_camera_is_not_read_at_once(tmp_path, frame):
    (tmp_path / "thermal").mkdir()
    frame.to_csv(tmp_path / "rec.csv", index=False)
    frames = np.lib.format.open_memmap(tmp_path / "thermal" / "rec.npy", "w+", np.uint16, (N, 480, 640))
    frames[:] = 30315
    frames[7, 400, 600] = 36315
    item = only(tmp_path, (480, 640), thermal_scale=0.01, thermal_offset=-273.15)
    assert isinstance(item.thermal, LazyFrames) and item.thermal[5:8].shape == (3, 480, 640)
    schema = schema_of((480, 640), thermal={"shape": [480, 640], "stored": [30, 40]})
    with pytest.raises(
        DataError,
        match=r"no usable frame .rec.npy: the frame of rec.csv: row 2: second 0: expected pixels within "
        r".*data.schema.thermal.valid",
    ):
        stored(tmp_path, tmp_path, schema)
    reader = functools.partial(table.sessions, thermal_scale=0.01, thermal_offset=-273.15)
    store = prepare(reader, schema, tmp_path, tmp_path / "cache", "t", jobs=1)
    assert store.thermal.shape == (N, 2, 30, 40)
    assert store.to_frame()["thermal_max"].to_numpy() == pytest.approx(np.where(np.arange(N) == 7, 90, 30), abs=0.01)
