"""A toy Hydra application for the sweeper; its trials are read back with Optuna's own journal backend."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tests.support.places import ROOT

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
APP = """
import math, os, signal, time
from pathlib import Path

import hydra
from conveyorguard.sweeps import sweeper
from conveyorguard.sweeps.trial import current_trial

sweeper.register()


def page(study, folder):
    Path(folder, "page.txt").write_text(str(len(study.trials)))


def check(space, overrides, cfg):
    return ["no layers=3 here: write 1 or 2"] if 3 in space["layers"].choices else []


@hydra.main(config_path="conf", config_name="app")
def main(cfg):
    trial = current_trial()
    value = cfg.x - cfg.layers + cfg.group.one
    for step in range(cfg.steps):
        time.sleep(cfg.seconds / cfg.steps)
        if trial and trial.report(step, value):
            return trial.finish("PRUNED", value)
    if cfg.fault == "crash":
        raise ValueError("the reason")
    if cfg.fault == "no number":
        value = math.nan
    if cfg.fault == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if trial and cfg.fault != "silent":
        trial.finish("COMPLETE", value, gpu=os.environ.get("CUDA_VISIBLE_DEVICES"))
    if cfg.fault == "late":  # finished, but its sweeper never sees the end
        time.sleep(60)
    print("value", value)


if __name__ == "__main__":
    main()
"""
CONFIG = {
    "app.yaml": """
        defaults: [_self_, {group: a}, {sweep: null}]
        x: 0.0
        layers: 1
        word: plain
        steps: 3
        seconds: 0.1
        seed: 0
        fault: null
        """,
    "group/a.yaml": "one: 1",
    "group/b.yaml": "{one: 2, two: 0}",
    "sweep/optuna.yaml": """
        # @package _global_
        defaults:
          - override /group: b
          - override /hydra/sweeper: study
        steps: 4
        sweep:
          study: toy
          folder: studies/${sweep.study}
          storage: null
          n_trials: 6
          timeout: null
          workers: 1
          max_failures: 3
          direction: maximize
          pruner: {_target_: optuna.pruners.MedianPruner, n_startup_trials: 2, n_warmup_steps: 1}
          params:
            x: interval(-5.0, 5.0)
            layers: choice(1, 2)
          fixed: [seed, group]
          free: [steps, seconds, fault]
          validate: null
          on_end: null
        hydra:
          sweeper:
            sampler: {seed: 0}
        """,
}


def start(toy: Path, *overrides: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a sweep as a process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    command = [sys.executable, "app.py", "-m", "sweep=optuna", *overrides]
    return subprocess.Popen(
        command, cwd=toy, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def sweep(toy: Path, *overrides: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """Run a sweep to its end and return its output."""
    process = start(toy, *overrides, env=env)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def trials(toy: Path, name: str = "toy") -> list[FrozenTrial]:
    """Return the trials as Optuna's own journal backend reads them."""
    storage = JournalStorage(JournalFileBackend(str(toy / "studies" / name / "journal.log")))
    return optuna.load_study(study_name=name, storage=storage).trials


def finished(stored: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in stored if trial.state in FINISHED]


def distinct(stored: list[FrozenTrial]) -> int:
    return len({tuple(sorted(trial.params.items())) for trial in stored})


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the living trial processes of a study."""
    living = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SWEEP_TRIAL_DIR", "").startswith(str(folder)):
                living.append(process)
        except psutil.Error:
            continue
    return living


def wait_for(condition, seconds: float = 60):
    """Wait until the condition holds; return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"condition not met within {seconds:g} s")
