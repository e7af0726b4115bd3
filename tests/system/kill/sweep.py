"""Kills of a study's parent or one of its trials."""

import random
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import optuna
import psutil

from conveyorguard.sweeps.trial import open_storage
from tests.support.places import ROOT
from tests.system.kill.stage import SMALL, Lost, Stage


class Sweep(Stage):
    """Run a study of six trials."""

    name, longest, trials = "sweep", 20.0, 6

    def __init__(self, folder: Path, chance: random.Random):
        super().__init__(folder, chance)
        self.finished: dict[int, float] = {}

    def command(self) -> list[str]:
        self.began = time.time()
        return [
            str(ROOT / "train.py"),
            *SMALL,
            "-m",
            "sweep=optuna",
            "model=fusion",
            "sweep.study=s",
            "sweep.timeout=null",
            "trainer.max_epochs=3",
            f"sweep.n_trials={self.trials}",
            "sweep.max_failures=100",
        ]

    def _ended(self) -> list:
        journal = self.folder / "studies/s/journal.log"
        if not journal.exists():
            return []
        try:
            study = optuna.load_study(study_name="s", storage=open_storage(str(journal)))
        except KeyError:
            return []
        return [trial for trial in study.trials if trial.state.is_finished() and trial.state.name != "FAIL"]

    def inside(self) -> bool:
        """Return whether a trial is running."""
        return bool(self._environments())

    def _environments(self) -> list[psutil.Process]:
        trials = []
        for process in self.living():
            try:
                if "SWEEP_TRIAL_DIR" in process.environ():
                    trials.append(process)
            except psutil.Error:
                continue
        return trials

    def victims(self, process: subprocess.Popen) -> list[psutil.Process]:
        """Return the parent; half of the time kill a trial first.

        The parent is killed in any case, so that the same command can be started again.
        """
        trials = self._environments()
        self.hit = "a trial" if trials and self.chance.random() < 0.5 else "the parent"
        if self.hit == "a trial":
            with suppress(psutil.NoSuchProcess):  # the trial may have ended
                trials[0].kill()
            time.sleep(self.chance.uniform(0, 1))
        return [living for living in self.living() if living.pid == process.pid]  # its guard ends the rest

    def check(self) -> str:
        now = {trial.number: trial.value for trial in self._ended()}
        lost = {number for number in self.finished if now.get(number) != self.finished[number]}
        if lost:
            raise Lost(f"finished trials {sorted(lost)} are lost or changed")
        self.finished = now
        return f"hit {self.hit}; {len(now)} finished trials kept"

    def finish(self) -> str:
        ended = self._ended()
        if len(ended) != self.trials or len({tuple(sorted(trial.params.items())) for trial in ended}) != self.trials:
            raise Lost(
                f"{len(ended)} finished trials of {len({str(t.params) for t in ended})} settings, not {self.trials}"
            )
        for trial in ended:
            if not (self.folder / f"studies/s/{trial.number}/trial.json").exists():
                raise Lost(f"trial {trial.number} has no trial.json")
        return f"{self.trials} finished trials of {self.trials} settings, none repeated"

    def again(self) -> None:
        shutil.rmtree(self.folder / "studies")
        self.finished = {}
