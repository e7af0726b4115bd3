"""Runs on small simulated data, trained once and shared."""

import os
import subprocess
import sys

import pytest

from conveyorguard.commands.train import train
from conveyorguard.config.compose import compose_config
from conveyorguard.sweeps.trial import current_trial
from tests.support.places import ROOT

SMALL = ["data=simulated", "data.sessions=12", "trainer=cpu", "trainer.max_epochs=2", "threads=1"]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One folder of frame stores for all test processes; builds may race safely."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "stores"


@pytest.fixture(scope="session")
def compose(cache):
    """Compose a config on small data from overrides."""

    def make(*overrides):
        return compose_config([*SMALL, f"paths.cache={cache}", *overrides])

    return make


@pytest.fixture
def train_run(compose, tmp_path):
    """Train in this process and return the run directory."""
    count = iter(range(100))

    def make(*overrides):
        folder = tmp_path / f"run{next(count)}"
        train(compose(*overrides), folder, list(overrides), trial=current_trial())
        return folder

    return make


@pytest.fixture(scope="session")
def finished_run(compose, tmp_path_factory):
    """A finished run of the default model; tests only read it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(compose(), folder, [])
    return folder


@pytest.fixture
def command(cache, tmp_path):
    """Run `python train.py` in an empty folder, as a user does."""

    def run(*arguments, expect=0, **options):
        env = {**os.environ, "CONVEYORGUARD_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
        line = [sys.executable, str(ROOT / "train.py"), *SMALL, *arguments]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500, **options)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    return run
