"""Following a folder while it is written: the alarms equal those of a later prediction, even through crashes."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.commands.train import train
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.live import follow
from conveyorguard.data.schema import Schema
from conveyorguard.errors import RunError
from conveyorguard.inference.journal import AppendedTable
from conveyorguard.inference.tail import Ringing
from conveyorguard.inference.watch import Watch
from conveyorguard.metrics.alarms import OperatingPoint, episodes
from tests.inference.watched import afterwards, alarms_in
from tests.support.recorded import frames_of


@pytest.fixture(scope="module")
def network_run(compose, tmp_path_factory):
    """A network that uses the start of a session and whose FiLM is given the kind alone."""
    folder = tmp_path_factory.mktemp("network") / "run"
    train(compose("modality=sensor", "film_input=kind", "trainer.max_epochs=1"), folder, [])
    return folder


def test_watch_of_a_network_using_the_session_start_predicts_as_afterwards(network_run, recordings, tmp_path):
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


def test_run_with_shuffled_environment_is_not_applied(network_run, recordings, tmp_path, capsys):
    run = shutil.copytree(network_run, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("film_input: kind", "film_input: shuffled"))
    for more in ([], ["--watch"]):
        assert main(["predict", str(run), f"data.root={recordings}", f"out={tmp_path / 'out'}", *more]) == 2
        assert "film_input=shuffled, a control" in capsys.readouterr().err


@pytest.mark.slow
def test_watch_second_by_second_predicts_as_afterwards(watching, sensor_run, recordings, tmp_path):
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
    assert all(tail.session.rows <= 60 for tail in watch.tails.values()), "predicted seconds are dropped"


@pytest.mark.promise("crashes", "A killed watch loses no alarm and writes none twice.")
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0, 1), st.booleans()), max_size=4), st.integers(0, 3))
def test_no_crash_loses_or_repeats_an_alarm(watching, recordings, crashes, seed):
    """The watch is killed after any number of frames, with its files cut anywhere that a crash could have cut them."""
    for path in [*watching.folder.iterdir(), *watching.out.iterdir()]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    source = sorted(recordings.iterdir())[seed % 3]
    target = watching.folder / source.name
    target.mkdir()
    frames = iter(frames_of(source))
    for count, share, cut_windows in [*crashes, (10_000, 1.0, False)]:
        watch = watching()
        for i, path in enumerate([path for _, path in zip(range(count), frames, strict=False)]):
            shutil.copy(path, target)
            if i % 7 == 0:
                watch.poll()
        watch.poll()
        watch.close()
        if count == 10_000:
            break
        # the last write of a crashed process may be cut short: of alarms, or of windows from which no alarm followed
        journal = watching.out / ("windows.csv" if cut_windows else "alarms.csv")
        content = journal.read_bytes()
        lines = content.splitlines(keepends=True)
        if cut_windows and len(lines) > 1:
            last = lines[-1].decode().split(",")
            followed = f"{last[0]},{last[1]},begin,{last[4]},{last[4]},{last[6]}," in (
                watching.out / "alarms.csv"
            ).read_text() or ("end" in (watching.out / "alarms.csv").read_text().rsplit("\n", 2)[-2])
            if followed:
                continue
        checkpoint = json.loads((watching.out / "checkpoint.json").read_text())
        if len(content) > checkpoint[journal.stem]:  # what a checkpoint knows of had been flushed to disk
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
def test_alarms_window_by_window_equal_episodes_of_all_windows(windows):
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
    for event, row in zip(over, expected.itertuples(), strict=False):
        assert (event["begin"], event["end"], event["peak"], event["windows"]) == (
            row.begin,
            row.end,
            row.peak,
            row.windows,
        )
    assert len(over) == len(expected) - (ringing.begin is not None)


def test_appended_table_drops_a_cut_row_and_refuses_other_columns(tmp_path):
    journal = AppendedTable(tmp_path / "j.csv", ("a", "b"))
    journal.append([{"a": 1, "b": "x,y"}, {"a": 2, "b": "z"}])
    journal.close()
    with (tmp_path / "j.csv").open("a") as stream:
        stream.write("3,half")
    journal = AppendedTable(tmp_path / "j.csv", ("a", "b"))
    journal.append([{"a": 4, "b": "w"}])
    assert [row["a"] for row in journal.rows()] == ["1", "2", "4"]
    journal.close()
    with pytest.raises(RunError, match="its columns are not those of this run"):
        AppendedTable(tmp_path / "j.csv", ("a", "c"))
