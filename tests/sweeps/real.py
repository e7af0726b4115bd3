"""Sweeps of the real train.py on small data; their processes are recognised by an environment variable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import optuna
import pandas as pd
import psutil
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tests.support.places import ROOT

SMALL = ["data=simulated", "data.sessions=12", "threads=1", "modality=sensor"]
SWEEP = ["-m", "sweep=optuna", "model=fusion", "sweep.study=s", "sweep.timeout=null"]
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
FAULT = """
import os
import torch
from conveyorguard.training.loss import WindowLoss


class Faulty(WindowLoss):
    def forward(self, *arguments):
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
            raise ValueError("rank 1 has a fault")
        if "FAULT" in os.environ:
            raise ValueError("the loss has a fault")
        return super().forward(*arguments)


class OtherRates(torch.optim.AdamW):
    def __init__(self, parameters, lr, **settings):
        super().__init__(parameters, lr * (1 + torch.distributed.get_rank()), **settings)
"""


class Trainer:
    """Run `python train.py` in a folder; its processes carry TEST_MARK in their environment."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, self.mark, self.program = folder, uuid4().hex, [str(ROOT / "train.py")]
        self.env = {
            **os.environ,
            "CONVEYORGUARD_CACHE": str(cache),
            "PYTHONPATH": f"{ROOT}:{folder}",
            "TEST_MARK": self.mark,
        }

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        command = [sys.executable, *self.program, *SMALL, *overrides]
        with open(self.folder / "output.txt", "w") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.env, text=True, stdout=output, stderr=output, start_new_session=True
            )

    def wait(self, process: subprocess.Popen[str], code: int = 0) -> str:
        returned = process.wait(timeout=500)
        output = (self.folder / "output.txt").read_text()
        assert returned == code, output
        return output

    def run(self, *overrides: str, code: int = 0) -> str:
        output = self.wait(self.start(*overrides), code)
        wait_for(lambda: not self.living())
        return output

    def living(self, **environment: str) -> list[psutil.Process]:
        """Return the processes of this folder with these variables in their environment."""
        wanted = {"TEST_MARK": self.mark, **environment}
        return [process for process in psutil.process_iter() if wanted.items() <= variables(process).items()]

    def trials(self) -> list[FrozenTrial]:
        """Return the trials as Optuna's own journal backend reads them."""
        storage = JournalStorage(JournalFileBackend(str(self.folder / "studies/s/journal.log")))
        return optuna.load_study(study_name="s", storage=storage).trials

    def epochs(self, folder: str) -> int:
        """Return the number of epochs trained in all run directories of a folder."""
        return sum(len(pd.read_csv(path)) for path in (self.folder / folder).glob("*/history.csv"))


def variables(process: psutil.Process) -> dict[str, str]:
    """Return the environment of a process; empty if it has ended or belongs to another user."""
    try:
        return process.environ()
    except (psutil.Error, ProcessLookupError):
        return {}


def wait_for(condition, seconds: float = 120):
    """Wait until the condition holds; return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"condition not met within {seconds:g} s")


def distinct(trials: list[FrozenTrial]) -> int:
    return len({tuple(sorted(trial.params.items())) for trial in trials})


def threshold(**limit: float) -> list[str]:
    """Return overrides for a pruner that stops trials beyond the limit after their second epoch."""
    ((side, value),) = limit.items()
    pruner = f"{{_target_:optuna.pruners.ThresholdPruner,{side}:{value},n_warmup_steps:1}}"
    return ["~sweep.pruner", f"+sweep.pruner={pruner}"]


def check_ranks(folder: Path, **optimizer: float) -> None:
    """Check that two processes trained this job with these optimizer settings."""
    first, second = json.loads((folder / "ranks.json").read_text())
    assert (first.pop("rank"), second.pop("rank")) == (0, 1) and first.pop("pid") != second.pop("pid")
    assert first == second
    assert {name: first["optimizer"][name] for name in optimizer} == optimizer


def differences(a: dict, b: dict) -> set[str]:
    return {key for key in {*a, *b} if a.get(key) != b.get(key)}
