"""Following a folder while it is written: the alarms of a prediction afterwards, in time, through crashes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.commands.train import train
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.writer import write
from conveyorguard.data.live import follow, frame_files, tables
from conveyorguard.data.schema import Schema
from conveyorguard.data.table import reader as table
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.inference.watch import Journal, Ringing, Watch
from conveyorguard.metrics.alarms import OperatingPoint, episodes
from conveyorguard.runs.data import load_windows

ROOT = Path(__file__).parents[2]
COLLECTOR = Path(__file__).with_name("collector.py")


@pytest.fixture(scope="module")
def sensor_run(compose, tmp_path_factory):
    """Trees on sensors: quick to judge a window. The second column of alarms rings early, so that episodes end, too."""
    folder = tmp_path_factory.mktemp("watching") / "run"
    train(compose("modality=sensor", "film=false", "model=lightgbm", "model.n_estimators=20"), folder, [])
    return folder


@pytest.fixture(scope="module")
def recordings(compose, tmp_path_factory):
    """Archives of three recordings without labels and, for their sensors, without the camera's files."""
    folder = tmp_path_factory.mktemp("recorded")
    write(folder / "all", load_windows(compose()).store.schema, 4, 5, "folder")
    for source in sorted(path for path in (folder / "all").rglob("?S_*") if path.is_dir())[:3]:
        (folder / "sensors" / source.name).mkdir(parents=True)
        for path in source.glob("*.csv"):
            shutil.copy(path, folder / "sensors" / source.name)
    return folder / "sensors"


@pytest.fixture
def watching(sensor_run, tmp_path):
    """A watch in this process, of a folder that the test writes; call it again for one that goes on after a crash."""
    loaded = load_run(sensor_run)
    schema = Schema.from_config({**loaded.schema.to_dict(), "thermal": None})
    folder, out = tmp_path / "incoming", tmp_path / "out"
    folder.mkdir()
    out.mkdir()

    def begin(reader=archive.sessions):
        path = out / "watch.json"
        known = json.loads(path.read_text())["known"] if path.exists() else {}
        if not path.exists():
            path.write_text('{"known": {}}')
        return Watch(loaded, follow(reader, folder, schema, known), schema, out)

    begin.folder, begin.out, begin.loaded = folder, out, loaded
    return begin


def frames_of(source):
    return sorted(source.glob("*.csv"))


@pytest.fixture(scope="module")
def network_run(compose, tmp_path_factory):
    """A network, which knows how a recording began, and whose film is told the kind alone."""
    folder = tmp_path_factory.mktemp("network") / "run"
    train(compose("modality=sensor", "film_input=kind", "trainer.max_epochs=1"), folder, [])
    return folder


def test_a_network_that_knows_how_the_recording_began_judges_as_afterwards(network_run, recordings, tmp_path):
    loaded = load_run(network_run)
    schema = Schema.from_config({**loaded.schema.to_dict(), "thermal": None})
    source = sorted(recordings.iterdir())[0]
    (tmp_path / "in" / source.name).mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "watch.json").write_text('{"known": {}}')
    watch = Watch(loaded, follow(archive.sessions, tmp_path / "in", schema, {}), schema, tmp_path / "out")
    for i, path in enumerate(frames_of(source)):
        shutil.copy(path, tmp_path / "in" / source.name)
        if i % 40 == 39:
            watch.poll()
    watch.poll()
    watch.close()
    _, windows = afterwards(network_run, tmp_path / "in", tmp_path / "afterwards")
    live_windows = pd.read_csv(tmp_path / "out" / "windows.csv").sort_values("start")
    assert live_windows["start"].tolist() == windows["start"].tolist() and len(windows) > 10
    assert np.allclose(live_windows["score"], windows["score"], atol=1e-6)


def test_a_control_that_is_given_the_environment_of_others_is_not_applied(network_run, recordings, tmp_path, capsys):
    run = shutil.copytree(network_run, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("film_input: kind", "film_input: shuffled"))
    for more in ([], ["--watch"]):
        assert main(["predict", str(run), f"data.root={recordings}", f"out={tmp_path / 'out'}", *more]) == 2
        assert "film_input=shuffled, a control" in capsys.readouterr().err


def alarms_in(out, event="begin"):
    table = pd.read_csv(out / "alarms.csv")
    return [tuple(row) for row in table[table["event"] == event][["session", "begin"]].itertuples(index=False)]


def afterwards(run, root, out):
    """What predict says of the whole recordings."""
    assert main(["predict", str(run), f"data.root={root}", f"out={out}"]) == 0
    table = pd.read_csv(out / "alarms.csv")
    return [tuple(row) for row in table[["session", "begin"]].itertuples(index=False)], pd.read_parquet(
        out / "predictions.parquet"
    )


@pytest.mark.slow
def test_second_by_second_gives_what_predict_gives_afterwards(watching, sensor_run, recordings, tmp_path):
    watch = watching()
    sources = sorted(recordings.iterdir())
    for second in range(max(len(frames_of(source)) for source in sources)):
        for source in sources:
            target = watching.folder / source.name
            target.mkdir(exist_ok=True)
            for path in frames_of(source)[second : second + 1]:
                shutil.copy(path, target)
        watch.poll()
    watch.close()
    alarms, windows = afterwards(sensor_run, recordings, tmp_path / "afterwards")
    assert sorted(alarms_in(watching.out)) == sorted(alarms) and alarms
    live_windows = pd.read_csv(watching.out / "windows.csv").set_index(["session", "start"]).sort_index()
    known = windows.set_index(["session", "start"]).sort_index()
    assert live_windows.index.equals(known.index)
    assert np.allclose(live_windows["score"], known["score"], atol=1e-6)
    assert all(len(tail.frames) <= 60 for tail in watch.tails.values()), "what is judged is forgotten"


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0, 1), st.booleans()), max_size=4), st.integers(0, 3))
def test_no_crash_loses_or_repeats_an_alarm(watching, recordings, crashes, seed):
    """Killed after any number of frames, the journals cut anywhere that a crash can have cut them."""
    for path in [*watching.folder.iterdir(), *watching.out.iterdir()]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    source = sorted(recordings.iterdir())[seed % 3]
    target = watching.folder / source.name
    target.mkdir()
    frames = iter(frames_of(source))
    for count, share, both in [*crashes, (10_000, 1.0, False)]:
        watch = watching()
        for i, path in enumerate([path for _, path in zip(range(count), frames, strict=False)]):
            shutil.copy(path, target)
            if i % 7 == 0:
                watch.poll()
        watch.poll()
        watch.close()
        if count == 10_000:
            break
        # the last write of a crashed process may be cut short: of alarms, or of windows before any alarm followed from
        # it
        journal = watching.out / ("windows.csv" if both else "alarms.csv")
        content = journal.read_bytes()
        lines = content.splitlines(keepends=True)
        if both and len(lines) > 1:
            last = lines[-1].decode().split(",")
            followed = f"{last[0]},{last[1]},begin,{last[4]}," in (watching.out / "alarms.csv").read_text() or (
                "end" in (watching.out / "alarms.csv").read_text().rsplit("\n", 2)[-2]
            )
            if followed:
                continue
        if len(lines) > 1:
            journal.write_bytes(b"".join(lines[:-1]) + lines[-1][: int(share * len(lines[-1]))])
    windows = pd.read_csv(watching.out / "windows.csv")
    assert not windows.duplicated(["session", "end"]).any() and windows["end"].is_monotonic_increasing
    point = watching.loaded.point
    expected = episodes(windows.assign(y_true_alarm=False), point)
    assert alarms_in(watching.out) == list(zip(expected["session"], expected["begin"], strict=True))
    ended = expected[expected["end"] < windows["end"].max()]
    assert alarms_in(watching.out, "end") == list(zip(ended["session"], ended["begin"], strict=True))


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.9]), st.sampled_from([1, 1, 1, 40, 60, 61])),
        min_size=1,
        max_size=30,
    )
)
def test_ringing_window_by_window_is_the_episodes_of_all(windows):
    scores, steps = zip(*windows, strict=True)
    start = np.cumsum(steps)
    table = pd.DataFrame(
        {"session": "s", "device": "d", "start": start, "end": start + 29, "score": scores, "y_true_alarm": False}
    )
    point, ringing = OperatingPoint(0.5, 0.3), Ringing()
    events = [event for row in table.itertuples() for event in ringing.step(row.start, row.end, row.score, point)]
    expected = episodes(table, point)
    assert [e["begin"] for e in events if e["event"] == "begin"] == expected["begin"].tolist()
    over = [e for e in events if e["event"] == "end"]
    for found, row in zip(over, expected.itertuples(), strict=False):
        assert (found["begin"], found["end"], found["peak"], found["windows"]) == (
            row.begin,
            row.end,
            row.peak,
            row.windows,
        )
    assert len(over) == len(expected) - (ringing.begin is not None)


def test_a_second_that_is_not_whole_is_waited_for_then_left_out(watching, recordings, monkeypatch):
    monkeypatch.setattr(frame_files, "PATIENCE", 0.5)
    source = sorted(recordings.iterdir())[0]
    target = watching.folder / source.name
    target.mkdir()
    frames = frames_of(source)
    follower = watching().follower
    for path in frames[:5]:
        shutil.copy(path, target)
    (target / frames[5].name).write_text("NTC,PM1.0\n")  # half a file
    shutil.copy(frames[7], target)  # and 6 is not there
    assert [t for s in follower.poll() for t in s.time] == [0, 1, 2, 3, 4]
    shutil.copy(frames[5], target)
    assert [t for s in follower.poll() for t in s.time] == [5], "it has become whole"
    assert not list(follower.poll())
    time.sleep(0.6)
    assert [t for s in follower.poll() for t in s.time] == [7]
    shutil.copy(frames[6], target)
    assert not list(follower.poll()), "a second that was left out does not come later"
    (target / frames[8].name).write_text("x")
    shutil.copy(frames[9], target)
    follower.notices.clear()
    list(follower.poll())
    time.sleep(0.6)
    assert [t for s in follower.poll() for t in s.time] == [9]
    assert "second 8 is left out" in follower.notices[0]


def test_loose_frames_are_a_recording_of_each_device(watching, recordings):
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
    found = {session.name: session.time.tolist() for session in follower.poll()}
    assert len(found) == 3 and sorted(map(len, found.values())) == [1, 40, 40]
    assert all(name.split("_")[0] == name[:5] for name in found)
    again = follow(archive.sessions, watching.folder, follower.schema, follower.known)
    frames_of(watching.folder)[0].unlink()  # old files may be removed: the recording keeps its name and its clock
    renamed = {session.name: session.time.tolist() for session in again.poll()}
    assert set(renamed) == set(found) and sorted(map(len, renamed.values())) == [1, 39, 40]


def test_a_frame_of_another_device_in_a_recordings_folder_is_left_out_and_told_once(tmp_path, recordings, schema):
    plain = Schema.from_config({**schema.to_dict(), "thermal": None})
    source = sorted(recordings.iterdir())[0]
    folder = Path(shutil.copytree(source, tmp_path / source.name))
    first, second, *rest = frames_of(folder)
    for path in rest:
        path.unlink()
    foreign = second.rename(second.with_name("agv99" + second.name[5:]))
    follower = follow(archive.sessions, tmp_path, plain, {})
    assert [t for _ in range(2) for s in follower.poll() for t in s.time] == [0]
    left_out = f"{folder.name}: {foreign.stem} is left out: of another recording than the folder's name says"
    assert follower.notices == [left_out]


def test_the_environment_comes_with_the_labels_while_these_come(tmp_path, recordings, schema, monkeypatch):
    """A folder of json files beside the frames is waited for, until one is late."""
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
    assert [t for s in follower.poll() for t in s.time] == [3], "once late, they are not waited for again"


def test_a_picture_that_comes_after_its_row_is_waited_for(tmp_path, monkeypatch):
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
    assert seconds_of(follower) == [("r", 4)], "a picture that never comes costs its second alone"


def table_schema(**changes):
    node = {
        "columns": {"time": "time"},
        "channels": {"heat": "degC", "amps": "A"},
        "states": [{"name": "a"}, {"name": "b"}],
    }
    return Schema.from_config({**node, **changes})


def seconds_of(follower):
    return [(session.name, int(t)) for session in follower.poll() for t in session.time]


def test_a_growing_table_gives_whole_lines_once(tmp_path, monkeypatch):
    follower = follow(table.sessions, tmp_path, table_schema(), {})
    path = tmp_path / "r.csv"
    path.write_text("time,heat,amps\n")
    assert not seconds_of(follower)
    with path.open("a") as stream:
        for second in range(4):
            stream.write(f"{second},20.5,1{second}")
            stream.flush()
            assert not seconds_of(follower), "12 may become 123"
            stream.write("\n")
            stream.flush()
            assert seconds_of(follower) == [("r", second)]
    monkeypatch.setattr(tables, "PATIENCE", 0.3)
    path.write_text(path.read_text() + "4,20.5,14")  # the last line of a file may lack its end
    assert not seconds_of(follower)
    time.sleep(0.4)
    assert seconds_of(follower) == [("r", 4)]


def test_of_two_growing_tables_of_one_name_the_first_is_followed_and_the_other_told_once(tmp_path):
    for name, separator in (("rec.csv", ","), ("rec.tsv", "\t")):
        rows = ["time,heat,amps\n", *(f"{second},20,1\n" for second in range(60))]
        (tmp_path / name).write_text("".join(rows).replace(",", separator))
    follower = follow(table.sessions, tmp_path, table_schema(), {})
    assert len(seconds_of(follower)) == 60 and not seconds_of(follower)
    told = "two files of one name: rec.csv was read, rec.tsv was not; remove or rename the one that is wrong"
    assert follower.notices == [told]
    (tmp_path / "rec.csv").unlink()
    assert not seconds_of(follower), "its seconds are those of rec.csv, which have been judged"


def test_a_mean_waits_until_its_second_is_over(tmp_path):
    follower = follow(table.sessions, tmp_path, table_schema(), {})
    path = tmp_path / "r.csv"
    path.write_text("time,heat,amps\n" + "".join(f"{t / 4},20,1\n" for t in range(10)))
    assert [t for _, t in seconds_of(follower)] == [0, 1]
    path.write_text(path.read_text() + "2.5,20,1\n2.75,20,1\n3.0,20,1\n")
    assert [t for _, t in seconds_of(follower)] == [2]


def test_one_growing_table_of_several_sessions(tmp_path):
    follower = follow(table.sessions, tmp_path, table_schema(columns={"time": "time", "session": "run"}), {})
    path = tmp_path / "all.csv"
    path.write_text("run,time,heat,amps\n" + "".join(f"r1,{t},20,1\n" for t in range(3)) + "r12,0,20,1\nr1")
    assert seconds_of(follower) == [("r1", 0), ("r1", 1), ("r1", 2), ("r12", 0)]


def test_what_cannot_be_followed_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        follow(table.sessions, tmp_path / "x", table_schema(), {})
    with pytest.raises(ConfigError, match="--watch follows data=aihub and tables"):
        follow(lambda root, schema: [], tmp_path, table_schema(), {})


def test_a_journal_removes_a_row_cut_short_and_refuses_another_table(tmp_path):
    journal = Journal(tmp_path / "j.csv", ("a", "b"))
    journal.append([{"a": 1, "b": "x,y"}, {"a": 2, "b": "z"}])
    journal.close()
    with (tmp_path / "j.csv").open("a") as stream:
        stream.write("3,half")
    journal = Journal(tmp_path / "j.csv", ("a", "b"))
    journal.append([{"a": 4, "b": "w"}])
    assert [row["a"] for row in journal.rows()] == ["1", "2", "4"]
    journal.close()
    with pytest.raises(RunError, match="other columns"):
        Journal(tmp_path / "j.csv", ("a", "c"))


# --- as a user would: processes of their own -----------------------------------------------------------------------


def start(run, root, out, log, *overrides):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    line = [
        sys.executable,
        "-m",
        "conveyorguard",
        "predict",
        str(run),
        f"data.root={root}",
        f"out={out}",
        "--watch",
        *overrides,
    ]
    return subprocess.Popen(line, env=environment, stdout=log.open("a"), stderr=subprocess.STDOUT, cwd=out.parent)


def until(condition, seconds=120):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited for too long"
        time.sleep(0.1)


def collect(kind, source, target, rate, log):
    return subprocess.Popen([sys.executable, str(COLLECTOR), kind, str(source), str(target), str(rate), str(log)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["archive", "loose"])
def test_a_real_collector_and_kill_9(kind, sensor_run, recordings, tmp_path):
    """Three recordings one after another, 24 of their seconds in one; the watch is killed six times meanwhile."""
    incoming, out, log = tmp_path / "incoming", tmp_path / "out", tmp_path / "watch.log"
    incoming.mkdir()
    rng, kills = np.random.default_rng(0), []
    sources = sorted(recordings.iterdir())
    process = start(sensor_run, incoming, out, log)
    until(lambda: log.exists() and "watching" in log.read_text())
    for i, source in enumerate(sources):
        collector = collect(kind, source, incoming, 24, tmp_path / f"collector{i}.log")
        while collector.poll() is None:
            time.sleep(float(rng.uniform(1.5, 4)))
            if len(kills) < 6 and collector.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills.append(time.time())
                process = start(sensor_run, incoming, out, log)
    ends = {len(frames_of(source)) for source in sources}
    windows = sum((n - 30) // 10 + 1 for n in map(len, map(frames_of, sources)))
    until(lambda: (out / "windows.csv").exists() and len(pd.read_csv(out / "windows.csv")) >= windows)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0 and "stopped" in log.read_text()
    alarms, _ = afterwards(sensor_run, recordings, tmp_path / "afterwards")
    found = alarms_in(out)
    if kind == "loose":  # named by device and first frame instead of the archive
        names = {
            source.name: f"{source.name.split('_')[3]}_{frames_of(source)[0].stem.split('_', 1)[1]}"
            for source in sources
        }
        alarms = [(names[name], begin) for name, begin in alarms]
    assert len(kills) == 6 and alarms and sorted(found) == sorted(alarms), (kills, ends)
    written = pd.read_csv(out / "alarms.csv").query("event == 'begin'")
    lags = [
        lag
        for i in range(3)
        for lag in lags_of(written, alarms, tmp_path / f"collector{i}.log", sources[i], kind, kills)
    ]
    print("alarms after the last file of their second, s:", np.round(lags, 3))
    assert not lags or min(lags) < 1


def lags_of(written, alarms, log, source, kind, kills):
    """How long after the last file of its second an alarm was written, where no kill came between."""
    name = (
        source.name if kind != "loose" else f"{source.name.split('_')[3]}_{frames_of(source)[0].stem.split('_', 1)[1]}"
    )
    times = dict(line.split() for line in log.read_text().splitlines())
    for row in written[written["session"] == name].itertuples():
        there, told = float(times[str(row.begin)]), pd.Timestamp(row.written).timestamp()
        if not any(there - 30 < kill < told + 1 for kill in kills):
            yield told - there


@pytest.mark.slow
def test_alarms_come_within_a_second_of_the_last_line(tmp_path, cache):
    """A table that grows at its own pace, twice a second, and is followed by a run trained on tables."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        wear = np.clip((np.arange(120) - 50 - 2 * i) / 60, 0, 1)
        pd.DataFrame(
            {
                "time": np.arange(120),
                "heat": 30 + 40 * wear + rng.normal(size=120),
                "amps": 2 + 8 * wear,
                "state": np.where(wear <= 0, "ok", np.where(wear < 0.5, "worn", "bad")),
            }
        ).to_csv(folder / f"m{i}.csv", index=False)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CONVEYORGUARD_CACHE": str(cache)}

    def shell(*line):
        return subprocess.run(
            [sys.executable, "-m", "conveyorguard", *line],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()

    shell("schema", "recordings", "out=conf/data/plant.yaml")
    run = tmp_path / shell("train", "--config-dir", "conf", "data=plant", "model=lightgbm", "model.n_estimators=30")[-1]
    incoming, out, log = tmp_path / "incoming", tmp_path / "out", tmp_path / "watch.log"
    incoming.mkdir()
    process = start(run, incoming, out, log)
    until(lambda: log.exists() and "watching" in log.read_text())
    source = pd.read_csv(folder / "m0.csv").drop(columns="state")
    source.to_csv(tmp_path / "new.csv", index=False)
    collector = collect("table", tmp_path / "new.csv", incoming / "new.csv", 4, tmp_path / "collector.log")
    assert collector.wait(120) == 0
    until(lambda: len(pd.read_csv(out / "windows.csv")) == 10)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    alarms, _ = afterwards(run, incoming, tmp_path / "afterwards")
    assert alarms_in(out) == alarms and alarms
    times = dict(line.split() for line in (tmp_path / "collector.log").read_text().splitlines())
    written = pd.read_csv(out / "alarms.csv").query("event == 'begin'")
    lags = [pd.Timestamp(row.written).timestamp() - float(times[str(row.begin)]) for row in written.itertuples()]
    print("alarms after the last line of their second, s:", np.round(lags, 3))
    assert max(lags) < 1
