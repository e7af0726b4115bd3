"""Training on a foreign data set with other sensors, camera and states takes one yaml and a short reader."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from tests.support.places import ROOT

YAML = """\
name: madeup
root: null
strict: false
reader:
  _target_: furnace.sessions
thermal: {reduce: mean_max}
schema:
  channels:
    oil: {unit: degC}
    flow: {unit: l/min, scaling: log}
    noise: {unit: dB}
    speed: {unit: 1/min}
    load: {unit: kN}
  thermal: {shape: [48, 64], stored: [12, 16], reduce: "${data.thermal.reduce}", range: [0, 200], valid: [-40, 400]}
  states: [{name: cold}, {name: warm}, {name: glowing}]
  kinds: [furnace]
"""

READER = """\
import numpy as np
from conveyorguard.data.session import Session


def sessions(root, schema):
    for i in range(8):
        rng = np.random.default_rng(i)
        time = np.arange(90)
        state = time // 30
        sensors = 50 + 20 * state[:, None] + rng.normal(0, 2, (90, 5))
        thermal = 60 + 40 * state[:, None, None] + rng.normal(0, 3, (90, 48, 64))
        yield Session(f"melt{i}", f"f{i % 4}", "furnace", time, sensors, np.empty((90, 0)), thermal, state)
"""


@pytest.fixture
def train(tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "madeup.yaml").write_text(YAML)
    (tmp_path / "furnace.py").write_text(READER)

    def run(*overrides):
        paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "CONVEYORGUARD_CACHE": str(tmp_path / "cache")}
        line = [
            sys.executable,
            ROOT / "train.py",
            f"--config-dir={tmp_path / 'conf'}",
            "data=madeup",
            "trainer=cpu",
            "trainer.max_epochs=1",
            "threads=1",
            f"hydra.run.dir={tmp_path / 'run'}",
            *overrides,
        ]
        env = {**os.environ, **paths, "CONVEYORGUARD_WHITELIST": "furnace.sessions"}
        return subprocess.run(
            line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        ), tmp_path / "run"

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(["model=fusion"], id="fusion"),
        pytest.param(["model=cnn_transformer", "model.embed_dim=32"], id="cnn_transformer"),
    ],
)
def test_foreign_data_set_trains_from_a_yaml_and_a_reader(model, train):
    process, run = train(*model)
    assert process.returncode == 0, process.stdout + process.stderr
    predictions = pd.read_parquet(run / "predictions.parquet")
    shares = [name for name in predictions if name.startswith("p") and name[1:].isdigit()]
    assert shares == ["p0", "p1", "p2"]
    assert predictions[shares].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert set(predictions["split"]) == {"val", "test"} and set(predictions["kind"]) == {"furnace"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert [row["class"] for row in metrics["test"]["per_class"]] == ["cold", "warm", "glowing"]
    assert len(metrics["test"]["confusion"]) == 3
    assert "film: the data have no environment" in json.loads((run / "provenance.json").read_text())["unused"]
    assert (run / "report.html").stat().st_size > 10_000 and (run / "checkpoints" / "best.ckpt").exists()
