"""The watch as a user runs it: processes, collectors, kill -9, alarms in time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.inference.watched import afterwards, alarms_in
from tests.support.places import ROOT
from tests.support.recorded import frames_of

COLLECTOR = Path(__file__).with_name("collector.py")


def start(run, root, out, log, *overrides):
    """Start a watch as a process, its output appended to `log`."""
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
    """Wait until a condition holds."""
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited for too long"
        time.sleep(0.1)


def collect(layout, source, target, rate, log):
    """Start a collector as a process."""
    return subprocess.Popen([sys.executable, str(COLLECTOR), layout, str(source), str(target), str(rate), str(log)])


@pytest.mark.promise("crashes", "A killed watch loses no alarm and writes none twice.")
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["archive", "loose"])
def test_killed_watch_beside_a_collector_loses_no_alarm(layout, sensor_run, recordings, tmp_path):
    """Three sessions one after another, 24 times as fast as recorded; the watch is killed six times meanwhile."""
    incoming, out, log = tmp_path / "incoming", tmp_path / "out", tmp_path / "watch.log"
    incoming.mkdir()
    rng, kills = np.random.default_rng(0), []
    sources = sorted(recordings.iterdir())
    process = start(sensor_run, incoming, out, log)
    until(lambda: log.exists() and "watching" in log.read_text())
    for i, source in enumerate(sources):
        collector = collect(layout, source, incoming, 24, tmp_path / f"collector{i}.log")
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
    watched = alarms_in(out)
    if layout == "loose":  # sessions are named by device and first frame, not by archive
        names = {
            source.name: f"{source.name.split('_')[3]}_{frames_of(source)[0].stem.split('_', 1)[1]}"
            for source in sources
        }
        alarms = [(names[name], begin) for name, begin in alarms]
    assert len(kills) == 6 and alarms and sorted(watched) == sorted(alarms), (kills, ends)
    written = pd.read_csv(out / "alarms.csv").query("event == 'begin'")
    lags = [
        lag
        for i in range(3)
        for lag in lags_of(written, alarms, tmp_path / f"collector{i}.log", sources[i], layout, kills)
    ]
    print("alarms after the last file of their second, s:", np.round(lags, 3))
    assert not lags or min(lags) < 1


def lags_of(written, alarms, log, source, layout, kills):
    """Yield how long after the last file of its second each alarm was written [s], unless a kill came between."""
    name = (
        source.name
        if layout != "loose"
        else f"{source.name.split('_')[3]}_{frames_of(source)[0].stem.split('_', 1)[1]}"
    )
    times = dict(line.split() for line in log.read_text().splitlines())
    for row in written[written["session"] == name].itertuples():
        arrived, written_at = float(times[str(row.begin)]), pd.Timestamp(row.written).timestamp()
        if not any(arrived - 30 < kill < written_at + 1 for kill in kills):
            yield written_at - arrived


@pytest.mark.slow
def test_alarm_comes_within_a_second_of_the_last_line(tmp_path, cache):
    """A table that grows four times as fast as recorded, followed by a run trained on tables."""
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
    until(lambda: len(pd.read_csv(out / "windows.csv")) == 91)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    alarms, _ = afterwards(run, incoming, tmp_path / "afterwards")
    assert alarms_in(out) == alarms and alarms
    times = dict(line.split() for line in (tmp_path / "collector.log").read_text().splitlines())
    written = pd.read_csv(out / "alarms.csv").query("event == 'begin'")
    lags = [pd.Timestamp(row.written).timestamp() - float(times[str(row.begin)]) for row in written.itertuples()]
    print("alarms after the last line of their second, s:", np.round(lags, 3))
    assert max(lags) < 1
