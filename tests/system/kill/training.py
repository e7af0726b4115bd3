"""Kills during a training, or while it writes a checkpoint."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.errors import ConveyorGuardError
from conveyorguard.runs.saved import SavedRun
from conveyorguard.training.checkpoints import read_checkpoint
from tests.support.places import ROOT
from tests.system.kill.stage import SMALL, Lost, Stage


class Training(Stage):
    """Train into a named directory; the same command resumes from last.ckpt if it exists."""

    name, longest, settings = (
        "training",
        3.0,
        ("model=fusion", "trainer.max_epochs=60", "patience=60", "window.stride=15"),
    )

    def __init__(self, folder: Path, chance: random.Random):
        super().__init__(folder, chance)
        self.target, self.reference, self.epoch = folder / "run", folder / "reference", -1
        line = [sys.executable, str(ROOT / "train.py"), *SMALL, *self.settings, f"hydra.run.dir={self.reference}"]
        subprocess.run(line, cwd=folder, env=self.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def last(self) -> Path:
        return self.target / "checkpoints" / "last.ckpt"

    def command(self) -> list[str]:
        self.began = time.time()
        return [str(ROOT / "train.py"), *SMALL, *self.settings, f"hydra.run.dir={self.target}"]

    def inside(self) -> bool:
        """Return whether this start has written history.csv."""
        history = self.target / "history.csv"
        return history.exists() and history.stat().st_mtime > self.began

    def check(self) -> str:
        epoch = -1
        for path in (self.target / "checkpoints").glob("*.ckpt"):
            try:
                saved = read_checkpoint(path)["epoch"]
            except ConveyorGuardError as error:
                raise Lost(f"incomplete checkpoint: {error}") from error
            epoch = max(epoch, saved)
        if epoch < self.epoch:
            raise Lost(f"epoch {self.epoch} was saved, but the last is now {epoch}")
        self.epoch = epoch
        rows = len(pd.read_csv(self.target / "history.csv")) if (self.target / "history.csv").exists() else 0
        try:
            SavedRun(self.target)
            whole = "a finished run"
        except ConveyorGuardError:
            whole = "not opened as a finished run"
        if whole == "a finished run" and not (self.target / "alarms.json").exists():
            raise Lost("an incomplete run is opened as a finished one")
        aside = [path.name for path in (self.target / "checkpoints").glob(".*")]
        return f"last.ckpt of epoch {epoch}, {rows} rows of history, {whole}" + (
            f", half-written {aside[0]}" if aside else ""
        )

    def finish(self) -> str:
        resumed, reference = SavedRun(self.target), SavedRun(self.reference)
        pd.testing.assert_frame_equal(resumed.predictions, reference.predictions, check_exact=True)
        weights, expected = (
            read_checkpoint(run.folder / "checkpoints" / "last.ckpt")["state_dict"] for run in (resumed, reference)
        )
        if any(not np.array_equal(weights[name].numpy(), expected[name].numpy()) for name in expected):
            raise Lost("weights differ from those of the undisturbed training")
        return "weights and predictions are those of the undisturbed training, bit for bit"

    def again(self) -> None:
        shutil.rmtree(self.target)
        self.epoch = -1


class Checkpoint(Training):
    """Kill while a checkpoint file is written; the network is large, so that writing takes long enough."""

    name, longest = "checkpoint", 0.06
    settings = (
        "model=fusion",
        "model.width=320",
        "trainer.max_epochs=40",
        "patience=40",
        "window.stride=60",
        "average=null",
    )

    def command(self) -> list[str]:
        self.writing, self.writes, self.wanted = False, 0, self.chance.randrange(1, 7)
        return super().command()

    def inside(self) -> bool:
        """Return whether a randomly chosen one of the first writes of this start is under way."""
        writing = False
        for path in (self.target / "checkpoints").glob(".*.ckpt.*"):
            try:
                writing |= path.stat().st_mtime > self.began
            except FileNotFoundError:
                continue
        self.writes += writing and not self.writing
        self.writing = writing
        return writing and self.writes >= self.wanted
