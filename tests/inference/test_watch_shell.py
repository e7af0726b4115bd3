"""The watch as a user meets it: processes of their own, collectors, kill -9, alarms in time."""

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
