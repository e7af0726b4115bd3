"""The straightforward way to prepare archives, as the reference of `benchmark.py`.

Three parsers per frame and plain numpy, in as many processes as the package uses.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.data.store import Store
from conveyorguard.system.progress import track


def prepare(root: Path, out: Path, schema: Schema, processes: int) -> None:
    """Write frames.parquet and thermal.npy to `out`: unpack each zip, parse three files per frame."""
    sources = sorted(root.glob("*/*/*/*/01.*/*"), key=lambda path: path.name)
    work = (joblib.delayed(read_session)(path, out / "unpacked", schema) for path in sources)
    parts = joblib.Parallel(processes, return_as="generator")(work)
    frames, thermal = zip(*track(parts, "straightforward", len(sources)), strict=True)
    out.mkdir(exist_ok=True)
    pd.concat(frames, ignore_index=True).to_parquet(out / "frames.parquet")
    np.save(out / "thermal.npy", np.concatenate(thermal))


def read_session(source: Path, unpacked: Path, schema: Schema) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the rows of a session and its reduced thermal frames, (T, 2, h, w)."""
    labels = next(source.parents[1].glob("02.*")) / source.name.replace("S_", "L_", 1)
    if source.suffix == ".zip":
        for path in (source, labels):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(unpacked / path.stem)
        source, labels = unpacked / source.stem, unpacked / labels.stem
    seconds = [read_frame(path, labels, schema) for path in source.glob("*.csv")]
    clock = np.array([row.pop("clock") for row, _ in seconds])
    if np.ptp(clock) > 12 * 3600:  # past midnight
        clock[clock < 12 * 3600] += 24 * 3600
    order = np.argsort(clock)
    frames = pd.DataFrame([seconds[i][0] for i in order])
    time = clock[order] - clock.min()
    kind, _, device = source.name.split("_")[1:4]
    frames = frames.assign(session=source.name, device=device, kind=kind, time=time, quality=0)
    onset = time[frames["state"] > 0].min() if frames["state"].any() else np.nan
    frames = frames.assign(seconds_to_end=time[-1] - time, seconds_since_onset=time - onset)
    return frames, np.stack([seconds[i][1] for i in order])


def read_frame(path: Path, labels: Path, schema: Schema) -> tuple[dict[str, Any], np.ndarray]:
    """Return a second: csv and json values with the statistics of the thermal frame, and the reduced frame."""
    table = pd.read_csv(path)
    frame = np.load(path.with_suffix(".bin"), allow_pickle=False)
    with (labels / f"{path.stem}.json").open(encoding="utf-8") as stream:
        label = json.load(stream)
    digits = int(path.stem[-6:])
    y, x = np.unravel_index(frame.argmax(), frame.shape)
    row = {
        "clock": digits // 10000 * 3600 + digits // 100 % 100 * 60 + digits % 100,
        "state": int(label["annotations"][0]["tagging"][0]["state"]),
        **dict(zip(table.columns, table.to_numpy()[0], strict=True)),
        **{name: float(label["external_data"][0][name][0]["value"]) for name in schema.environment},
        "thermal_max": frame.max(),
        "thermal_p99": np.percentile(frame, 99),
        "thermal_mean": frame.mean(),
        "thermal_sd": frame.std(),
        "thermal_x_max": x,
        "thermal_y_max": y,
    }
    rows, columns = schema.thermal.stored
    blocks = frame.reshape(rows, frame.shape[0] // rows, columns, frame.shape[1] // columns)
    return row, np.stack([blocks.mean(axis=(1, 3)), blocks.max(axis=(1, 3))]).astype(np.float16)


def assert_same(store: Store, plain: Path) -> None:
    """Assert that a store has the same rows up to float32 rounding and the same frames up to float16 rounding.

    Args:
        plain: folder that `prepare` has written.
    """
    text = dict.fromkeys(("session", "device", "kind"), str)
    ours, theirs = store.to_frame().astype(text), pd.read_parquet(plain / "frames.parquet").astype(text)
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, check_like=True, rtol=1e-5)
    np.testing.assert_allclose(
        np.asarray(store.thermal), np.load(plain / "thermal.npy", allow_pickle=False), rtol=2**-10
    )
