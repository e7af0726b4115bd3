"""Measure a watch at the scale of a plant: how fast it writes, what it writes a day, and what a restart costs.

python experiments/watch_scale.py RUN [--devices 36] [--minutes 10] [--day 1] [--disk 40MB] [--out FILE]

So many devices each deliver a row a second. The calendar is sped up: the minutes that are asked for are spread over
three days, so that windows.csv begins anew. Recordings are random numbers within the ranges of the training: what is
measured does not depend on their values. The restart is measured in a new process with a checkpoint and without, on a
windows.csv as large as one of a whole day, or of the part `--day`.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard import load_run
from conveyorguard.data.session import Session
from conveyorguard.inference import journal
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.inference.watch import Watch

DAY = 86_400  # s
FILES = 3  # simulated days
START = date(2026, 1, 1)


class Plant:
    """A follower of devices that deliver a row a second.

    Args:
        loaded: the run, which gives channels and ranges.
        devices: their number.
    """

    def __init__(self, loaded: LoadedRun, devices: int):
        self.loaded, self.devices, self.second = loaded, devices, 0
        self.notices: list[str] = []
        self.known: dict = {}
        self.rng = np.random.default_rng(0)

    def poll(self) -> Iterator[Session]:
        """Yield the next second of every device."""
        schema, kinds = self.loaded.schema, self.loaded.schema.kinds or ["device"]
        for i in range(self.devices):
            rows = [[self._value(name) for name in group] for group in (schema.channels, schema.environment)]
            name, kind = f"device{i:02d}", kinds[i % len(kinds)]
            values = (np.array([row], np.float32).reshape(1, -1) for row in rows)
            yield Session(name, name, kind, np.array([self.second]), *values)
        self.second += 1

    def _value(self, name: str) -> float:
        known = self.loaded.ranges.get(name, {"low": 0.0, "high": 1.0})
        return float(self.rng.uniform(known["low"], known["high"]))

    def skip(self, name: str, second: int) -> None:
        """Skip nothing: a restart is measured up to its first poll."""


def watch_of(run: Path, folder: Path, devices: int, disk: int) -> Watch:
    """Return a watch of simulated devices that writes into a folder."""
    loaded = load_run(run)
    schema = loaded.schema if loaded.schema.thermal is None else without_camera(loaded)
    return Watch(loaded, Plant(loaded, devices), schema, folder, disk)


def without_camera(loaded: LoadedRun):
    """Return the schema of a run that does not use the camera."""
    if "thermal" in loaded.inputs:
        raise SystemExit(f"{loaded.run.folder}: the run uses the camera; give one of modality=sensor")
    return type(loaded.schema).from_config({**loaded.schema.to_dict(), "thermal": None})


def write_days(run: Path, folder: Path, devices: int, seconds: int, disk: int) -> dict[str, float]:
    """Write the windows of some simulated days, and return what they cost."""
    watch = watch_of(run, folder, devices, disk)
    journal.today = lambda: (START + timedelta(days=watch.follower.second * FILES // max(seconds, 1))).isoformat()
    watch.windows.day, windows = journal.today(), 0
    began, cpu = perf_counter(), process_time()
    with redirect_stdout(io.StringIO()):  # alarms
        for _ in range(seconds):
            windows += watch.poll()
    wall, cpu = perf_counter() - began, process_time() - cpu
    watch.save()
    kept = [path.read_bytes() for path in [*watch.windows.closed(), watch.windows.path]]
    sizes = [len(content) for content in kept]
    row = sum(sizes) / sum(content.count(b"\n") for content in kept)
    watch.close()
    return {
        "devices": devices,
        "simulated seconds": seconds,
        "windows": windows,
        "share of a day": windows / (devices * DAY),
        "windows a second": windows / wall,
        "processor ms a window": 1e3 * cpu / windows,
        "bytes a window": row,
        "GB a day": row * devices * DAY / 1e9,
        "files kept": len(sizes),
        "MB kept": sum(sizes) / 1e6,
        "MB allowed": disk / 1e6,
        "memory [MiB]": psutil.Process().memory_info().rss / 2**20,
    }


def lengthen(path: Path, rows: int) -> None:
    """Fill windows.csv with the rows of all files of windows, repeated until it has so many."""
    files = [path.read_bytes().splitlines(keepends=True) for path in path.parent.glob("windows*.csv")]
    header, lines = files[0][0], [line for _, *rows in files for line in rows]
    with path.open("wb") as stream:
        stream.write(header)
        for _ in range(rows // len(lines)):
            stream.write(b"".join(lines))


def restart(run: Path, folder: Path, devices: int) -> None:
    """Restart a watch and print seconds and growth of memory."""
    load_run(run)
    process = psutil.Process()
    before, began = process.memory_info().rss, perf_counter()
    watch_of(run, folder, devices, 10**12).close()
    print(json.dumps({"s": perf_counter() - began, "MiB": (process.memory_info().rss - before) / 2**20}))


def restarted(run: Path, folder: Path, devices: int) -> dict[str, float]:
    """Return what `restart` prints in a new process."""
    command = [sys.executable, __file__, str(run), "--devices", str(devices), "--restart", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a run of modality=sensor")
    parser.add_argument("--devices", type=int, default=36)
    parser.add_argument("--minutes", type=float, default=10, help="simulated minutes")
    parser.add_argument("--day", type=float, default=1, help="part of a day that windows.csv holds at the restart")
    parser.add_argument("--disk", default="40MB", help="cap on the files of windows while they are written")
    parser.add_argument("--out", type=Path, help="json file for the figures")
    parser.add_argument("--restart", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.restart:
        return restart(options.run, options.restart, options.devices)
    with tempfile.TemporaryDirectory(prefix="conveyorguard-watch-") as temporary:
        folder = Path(temporary)
        (folder / "watch.json").write_text('{"known": {}}')
        seconds = round(60 * options.minutes)
        figures = write_days(options.run, folder, options.devices, seconds, journal.bytes_of(options.disk))
        path, saved = folder / "windows.csv", json.loads((folder / "checkpoint.json").read_text())
        lengthen(path, round(options.day * options.devices * DAY))
        saved["windows"] = path.stat().st_size
        (folder / "checkpoint.json").write_text(json.dumps(saved))
        figures["MB of windows.csv at the restart"] = path.stat().st_size / 1e6
        for name, value in restarted(options.run, folder, options.devices).items():
            figures[f"restart with a checkpoint [{name}]"] = value
        (folder / "checkpoint.json").unlink()
        for name, value in restarted(options.run, folder, options.devices).items():
            figures[f"restart without [{name}]"] = value
    for name, value in figures.items():
        print(f"{name:36} {value:,.4g}")
    if options.out:
        options.out.write_text(json.dumps({key: round(value, 4) for key, value in figures.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
