"""Recordings of a plant as tables: what is in them, how they are read, and files of them."""

import numpy as np
import pandas as pd

from conveyorguard.data.schema import Schema
from conveyorguard.data.store_build import prepare
from conveyorguard.data.table import reader as table

STATES = ("ok", "worn", "failing")
N = 40


def schema_of(camera=None, **changes):
    node = {
        "columns": {"time": "time", "state": "state"},
        "channels": {"heat": "degC", "amps": {"unit": "A", "scaling": "log", "column": "Current (A)"}},
        "environment": {"air": "degC"},
        "states": [{"name": name} for name in STATES],
    }
    if camera:
        node["thermal"] = {"shape": list(camera), "stored": list(camera), "range": [0, 100], "valid": [-50, 500]}
    return Schema.from_config({**node, **changes})


def stored(root, tmp_path, schema=None, **options):
    return prepare(table.sessions, schema or schema_of(), root, tmp_path / "cache", "t", jobs=1, **options)


def write_plant(folder, sessions=12, seconds=150, camera=None, first=0):
    """Recordings of four presses that wear: five channels, the room's temperature, three states, from a seed."""
    folder.mkdir(parents=True)
    for i in range(first, first + sessions):
        rng = np.random.default_rng(i)
        time = np.arange(seconds)
        onset = int(rng.integers(40, 70))
        wear = np.clip((time - onset) / (seconds - onset), 0, 1)
        noise = rng.normal(size=(6, seconds))
        moment = pd.Timestamp("2024-03-05 10:00") + pd.to_timedelta(time + 3600 * i, unit="s")
        name = f"press{i % 4 + 1}_{i:03d}"
        pd.DataFrame(
            {
                "timestamp": moment.strftime("%d.%m.%Y %H:%M:%S"),
                "machine": name.split("_")[0],
                "oil temp [°C]": 40 + 30 * wear + noise[0],
                "motor current (A)": np.exp(1 + 2.5 * wear + 0.1 * noise[1]),
                "vibration": 1 + 4 * wear + 0.2 * np.abs(noise[2]),
                "flow": 20 - 5 * wear + 0.5 * noise[3],
                "rpm": 1450 + 5 * noise[4],
                "ambient temperature": 21 + 0.1 * noise[5],
                "condition": np.array(["sound", "worn", "failing"])[np.where(wear <= 0, 0, np.where(wear < 0.5, 1, 2))],
            }
        ).to_csv(folder / f"{name}.csv", index=False, sep=";", decimal=",", float_format="%.4f")
        if camera:
            (folder / "thermal").mkdir(exist_ok=True)
            frames = 30 + rng.normal(0, 0.3, (seconds, *camera))
            frames[:, 5:9, 7:12] += 40 * wear[:, None, None]
            np.save(folder / "thermal" / f"{name}.npy", frames.astype(np.float16 if camera[0] > 100 else np.float32))


def lines_of(text):
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
