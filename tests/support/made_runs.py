"""Run directories with synthetic predictions, for code that reads only their files."""

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from conveyorguard.config.checks import resolve_window_of
from conveyorguard.config.compose import compose_config
from conveyorguard.data.schema import Schema
from conveyorguard.data.windows import WindowSettings
from conveyorguard.runs.predictions import PREDICTION_COLUMNS
from conveyorguard.runs.writer import Run
from conveyorguard.system.files import write_json, write_parquet


def windows(devices=12, sessions=2, each=20):
    """Return windows of sessions that run from normal to severe, and of normal ones."""
    rows = []
    for d in range(devices):
        for s in range(sessions):
            for i in range(each):
                label = min(3, i * 4 // each) if s == 0 else 0
                rows.append(
                    (
                        f"dev{d:02d}-{s}",
                        f"dev{d:02d}",
                        ("oht", "agv")[d % 2],
                        None,
                        None,
                        10 * i,
                        10 * i + 29,
                        10 * (each - i),
                        -1,
                        label,
                    )
                )
    return pd.DataFrame(rows, columns=[*PREDICTION_COLUMNS, "label"])


def predicted(table, part, right, seed, states=4):
    """Return a prediction table with a share `right` of correct windows; the others are one state off."""
    rng = np.random.default_rng(seed)
    y = table["label"].to_numpy()
    guess = np.where(rng.random(len(y)) < right, y, np.where(y == 0, 1, y - 1))
    predictions = table[list(PREDICTION_COLUMNS)].assign(y_true=y, y_pred=guess)
    predictions.insert(0, "split", part)
    for k in range(states):
        predictions[f"p{k}"] = np.where(guess == k, 0.91, 0.03).astype(np.float32)
    return predictions


@pytest.fixture
def make_run(tmp_path, schema_node):
    """Write a run directory and return its path; takes the overrides of train.py."""
    return run_maker(tmp_path, schema_node)


def run_maker(place, schema_node):
    """Return a function like `make_run` that writes below a folder."""
    count = iter(range(1000))

    def make(*overrides, right=0.9, table=None, parts=("val", "test"), draw=None, folder=None, shortcut=True):
        number = next(count)
        schema = Schema.from_config(schema_node())
        cfg = compose_config(["window.label=majority", *overrides])
        resolve_window_of(cfg)
        OmegaConf.resolve(cfg)
        folder = folder or place / f"run{number}"
        table = windows() if table is None else table
        with Run(cfg, folder, list(overrides)) as run:
            tables = [predicted(table, part, right, number if draw is None else draw) for part in parts]
            run.write_predictions(tables, schema, WindowSettings.of(cfg.window))
            of_parts = {part: len(table) for part in ("train", "val", "test")}
            run.note(
                store={"name": "given", "fingerprint": "0" * 16},
                split="0" * 16,
                sessions=of_parts,
                windows=of_parts,
                unused=[],
                threads=1,
                device="cpu",
            )
            run.note(
                fit_seconds=10.0 + number,
                parameters=1000,
                latency_ms=1.0,
                model_bytes=4000,
                start=f"2026-01-01T00:00:{number % 60:02d}+00:00",
            )
            write_json(folder / "split.json", {"settings": {"name": cfg.split.name}, "sessions": {}, "note": ""})
            if shortcut:
                short = [predicted(table, part, 0.4, 99).assign(shortcut="elapsed seconds only") for part in parts]
                write_parquet(folder / "shortcuts.parquet", pd.concat(short))
        return folder

    return make
