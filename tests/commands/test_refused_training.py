"""A refused training leaves no directory; what was there before stays."""

import os
import subprocess
import sys

import pytest

from tests.support.places import ROOT
from tests.support.pumps import write_pumps

PLANT = """\
defaults: [table, _self_]
name: plant
root: recordings
schema:
  columns: {time: time, state: state}
  channels: {pressure: bar, flow: l/min}
  states: [{name: ok}, {name: worn}, {name: broken}]
"""
TOO_LONG = "window.size=1h"  # refused once the recordings have been read


@pytest.fixture
def plant(cache, tmp_path):
    """Run train.py on recordings of pumps, with more words."""
    write_pumps(tmp_path / "recordings")
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "plant.yaml").write_text(PLANT)

    def run(*words, expect=0):
        line = [sys.executable, str(ROOT / "train.py"), "--config-dir", "conf", "data=plant", "model=lightgbm", *words]
        env = {**os.environ, "CONVEYORGUARD_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    return run


def test_training_refused_for_its_data_leaves_no_directory(plant, tmp_path):
    refusal = plant(TOO_LONG, expect=2)
    assert "no window of" in refusal.stderr
    assert not (tmp_path / "outputs").exists()


def test_training_refused_for_its_config_leaves_no_directory(plant, tmp_path):
    plant("window.label=latest", "hydra.run.dir=runs/a", expect=2)
    assert not (tmp_path / "runs").exists()


def test_refused_job_of_a_multirun_leaves_no_directory(plant, tmp_path):
    plant("-m", f"{TOO_LONG},2h", "hydra.sweep.dir=jobs", expect=2)
    assert not (tmp_path / "jobs" / "0").exists()


def test_refused_training_keeps_directories_that_were_there_before(plant, tmp_path):
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    plant(TOO_LONG, "hydra.run.dir=empty", expect=2)
    plant(TOO_LONG, "hydra.run.dir=full", expect=2)
    assert (tmp_path / "empty").is_dir() and (tmp_path / "full" / "notes.txt").read_text() == "mine"


def test_failed_training_keeps_what_was_trained(plant, tmp_path):
    plant("hydra.run.dir=run", "model.n_estimators=3")
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    plant(TOO_LONG, "hydra.run.dir=run", expect=2)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
