"""Following frames while they are written: incomplete seconds, loose frames, labels, pictures."""

import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.live import follow, frame_files, tables
from conveyorguard.data.schema import Schema
from conveyorguard.data.table import reader as table
from tests.data.live.growing import seconds_of, table_schema
from tests.support.recorded import frames_of


def test_incomplete_second_is_waited_for_then_left_out(watching, recordings, monkeypatch):
    monkeypatch.setattr(frame_files, "PATIENCE", 0.5)
    source = sorted(recordings.iterdir())[0]
    target = watching.folder / source.name
    target.mkdir()
    frames = frames_of(source)
    follower = watching().follower
    for path in frames[:5]:
        shutil.copy(path, target)
    (target / frames[5].name).write_text("NTC,PM1.0\n")  # half a file
    shutil.copy(frames[7], target)  # second 6 is missing
    assert [t for s in follower.poll() for t in s.time] == [0, 1, 2, 3, 4]
    shutil.copy(frames[5], target)
    assert [t for s in follower.poll() for t in s.time] == [5], "it is complete now"
    assert not list(follower.poll())
    time.sleep(0.6)
    assert [t for s in follower.poll() for t in s.time] == [7]
    shutil.copy(frames[6], target)
    assert not list(follower.poll()), "a second that was left out is not yielded later"
    (target / frames[8].name).write_text("x")
    shutil.copy(frames[9], target)
    follower.notices.clear()
    list(follower.poll())
    time.sleep(0.6)
    assert [t for s in follower.poll() for t in s.time] == [9]
    assert "second 8 is left out" in follower.notices[0]


def test_loose_frames_form_one_recording_per_device_and_silence(watching, recordings):
    first, second = sorted(recordings.iterdir())[:2]
    for source in (first, second):
        for path in frames_of(source)[:40]:
            shutil.copy(path, watching.folder)
    device, day = first.name.split("_")[3:5]
    late = frames_of(first)[0]
    hour = int(late.stem[-6:-4])
    shutil.copy(
        late, watching.folder / f"{device}_{day}_{(hour + 2) % 24:02d}0000.csv"
    )  # hours later: another recording
    follower = watching().follower
    recordings_seen = {session.name: session.time.tolist() for session in follower.poll()}
    assert len(recordings_seen) == 3 and sorted(map(len, recordings_seen.values())) == [1, 40, 40]
    assert all(name.split("_")[0] == name[:5] for name in recordings_seen)
    again = follow(archive.sessions, watching.folder, follower.schema, follower.known)
    frames_of(watching.folder)[0].unlink()  # old files may be removed: the recording keeps its name and time origin
    renamed = {session.name: session.time.tolist() for session in again.poll()}
    assert set(renamed) == set(recordings_seen) and sorted(map(len, renamed.values())) == [1, 39, 40]


def test_frame_of_another_device_is_left_out_and_reported_once(tmp_path, recordings, schema):
    plain = Schema.from_config({**schema.to_dict(), "thermal": None})
    source = sorted(recordings.iterdir())[0]
    folder = Path(shutil.copytree(source, tmp_path / source.name))
    first, second, *rest = frames_of(folder)
    for path in rest:
        path.unlink()
    foreign = second.rename(second.with_name("agv99" + second.name[5:]))
    follower = follow(archive.sessions, tmp_path, plain, {})
    assert [t for _ in range(2) for s in follower.poll() for t in s.time] == [0]
    message = (
        f"{folder.name}: {foreign.stem} is left out: it belongs to another recording. Move it to the right folder."
    )
    assert follower.notices == [message]


def test_environment_is_read_from_labels_until_they_are_late(tmp_path, recordings, schema, monkeypatch):
    """Seconds wait for their json, until one of these is late."""
    monkeypatch.setattr(frame_files, "PATIENCE", 0.4)
    plain = Schema.from_config({**schema.to_dict(), "thermal": None})
    source = sorted(recordings.iterdir())[0]
    labels = next(p for p in (recordings.parent / "all").rglob("TL_*") if p.name[3:] == source.name[3:])
    for folder in (source, labels):
        (tmp_path / folder.name).mkdir()
    frames = frames_of(source)
    follower = follow(archive.sessions, tmp_path, plain, {})

    def arrive(second, *folders):
        for folder in folders:
            (path,) = folder.glob(f"{frames[second].stem}.*")
            shutil.copy(path, tmp_path / folder.name)

    arrive(0, source, labels)
    (first,) = follower.poll()
    assert np.isfinite(first.environment).all() and first.environment.shape == (1, 3)
    arrive(1, source)
    assert not list(follower.poll())
    arrive(1, labels)
    assert [t for s in follower.poll() for t in s.time] == [1]
    arrive(2, source)
    assert not list(follower.poll())
    time.sleep(0.5)
    (late,) = follower.poll()
    assert np.isnan(late.environment).all()
    arrive(3, source)
    assert [t for s in follower.poll() for t in s.time] == [3], "seconds no longer wait for labels that were late once"


def test_picture_later_than_its_row_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PATIENCE", 1.0)
    camera = {"shape": [4, 6], "stored": [2, 3], "range": [0, 100], "valid": [-50, 500]}
    follower = follow(table.sessions, tmp_path, table_schema(thermal=camera), {})
    pictures = tmp_path / "thermal" / "r"
    pictures.mkdir(parents=True)

    def draw(second):
        Image.fromarray(np.full((4, 6), 20 + second, np.uint8)).save(pictures / f"{second}.png")

    (tmp_path / "r.csv").write_text("time,heat,amps\n" + "".join(f"{t},20,1\n" for t in range(3)))
    draw(0)
    draw(2)
    assert seconds_of(follower) == [("r", 0)]
    draw(1)
    assert seconds_of(follower) == [("r", 1), ("r", 2)]
    with (tmp_path / "r.csv").open("a") as stream:
        stream.write("3,20,1\n4,20,1\n")
    draw(4)
    assert not seconds_of(follower)
    time.sleep(1.1)
    assert seconds_of(follower) == [("r", 4)], "a picture that never comes costs only its second"
