"""Systems without POSIX: training, predicting, watching and comparing need nothing of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.places import ROOT
from tests.support.runs import SMALL

pytestmark = pytest.mark.promise("code", "Verbs run where POSIX modules are missing.")

SCRIPT = Path(__file__).with_name("without_posix.py")


def test_verbs_run_where_posix_modules_are_missing(sensor_run, recordings, cache, tmp_path):
    trained, watched = tmp_path / "trained", tmp_path / "watched"
    commands = [
        ["train", *SMALL, "modality=sensor", "trainer.max_epochs=1", f"hydra.run.dir={trained}"],
        ["predict", str(sensor_run), f"data.root={recordings}", f"out={tmp_path / 'predicted'}"],
        ["compare", str(trained), str(sensor_run)],
        ["predict", str(sensor_run), f"data.root={recordings}", f"out={watched}", "--watch"],
    ]
    env = {**os.environ, "CONVEYORGUARD_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    line = [sys.executable, str(SCRIPT), json.dumps(commands)]
    done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (trained / "report.html").is_file() and (tmp_path / "predicted" / "predictions.parquet").is_file()
    assert (watched / "windows.csv").is_file()
