"""kill -9 at random moments, then the same command again: nothing half-written is read as whole, nothing finished is
lost.

    python tests/system/kill/kill.py                                    (make kill, which has a time limit)
    python tests/system/kill/kill.py --stages prepare,training --kills 20 --seed 1 --seconds 1200

Stages: prepare (the frame store while it is built), checkpoint (inside the writing of a checkpoint file), training
(between the start and the end of a training), sweep (its parent or one of its trials). Each kill is a line of the log:
stage, number, victim, seconds since the stage was entered, what was on the disk. A kill counts only when it hit a
living process inside its stage. What each stage ends with is compared with the same work undisturbed. Exit status 1
when something is lost, doubled or different, or when there were fewer kills than asked for.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import psutil

from tests.support.places import ROOT

sys.path.insert(0, str(ROOT))

from conveyorguard.data.store import Store
from conveyorguard.errors import ConveyorGuardError
from conveyorguard.runs.saved import SavedRun
from conveyorguard.sweeps.trial import open_storage
from conveyorguard.training.checkpoints import read_checkpoint

LONGEST = 900  # s that a command may take, killed or not
SMALL = ["data=simulated", "data.sessions=12", "modality=sensor", "trainer=cpu", "threads=1"]


class Lost(AssertionError):
    """Something did not survive."""


class Stage:
    """A command in a folder of its own, to be killed inside one part of what it does."""

    name, longest = "", 2.0  # s after entering the stage, at most, that a kill waits

    def __init__(self, folder: Path, chance: random.Random):
        self.folder, self.chance, self.log = folder, chance, []
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CONVEYORGUARD_CACHE": str(folder.parent / "stores"),
            "KILL_MARK": str(folder),
        }
        folder.mkdir()

    def command(self) -> list[str]:
        """As a person would give it now."""
        raise NotImplementedError

    def inside(self) -> bool:
        """Whether the process is in the stage."""
        raise NotImplementedError

    def check(self) -> str:
        """After a kill: raise `Lost`, or say what is on the disk."""
        raise NotImplementedError

    def finish(self) -> str:
        """After the command has run to its end: raise `Lost`, or say what was compared."""
        raise NotImplementedError

    def start(self) -> subprocess.Popen:
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(
                [sys.executable, *self.command()], cwd=self.folder, env=self.env, stdout=output, stderr=output
            )

    def living(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("KILL_MARK") == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def victims(self, process: subprocess.Popen) -> list[psutil.Process]:
        return self.living()

    def kill_once(self) -> bool:
        """Start, wait for the stage, kill; False when the command came to its end first."""
        process, patience = self.start(), time.monotonic() + LONGEST
        while not self.inside():
            if process.poll() is not None:
                self.must_be_fine(process)
                return False
            if time.monotonic() > patience:
                raise Lost(f"{self.name}: the command neither came to the stage nor to its end in {LONGEST} s")
            time.sleep(0.0005)
        entered, wait = time.monotonic(), self.chance.uniform(0, self.longest)
        while time.monotonic() < entered + wait and process.poll() is None:
            time.sleep(0.0005)
        if process.poll() is not None:
            self.must_be_fine(process)
            return False
        for victim in self.victims(process):
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                continue
        after = time.monotonic() - entered
        process.wait()
        while self.living():
            time.sleep(0.05)
        self.log.append(self.name)
        print(f"{self.name:>10} {len(self.log):>3}  kill -9 after {after:6.3f} s: {self.check()}", flush=True)
        return True

    def must_be_fine(self, process: subprocess.Popen) -> None:
        if process.returncode != 0:
            raise Lost(
                f"{self.name}: the command ended with "
                f"{process.returncode}:\n{(self.folder / 'output.txt').read_text()[-3000:]}"
            )

    def to_the_end(self) -> None:
        process = self.start()
        process.wait(timeout=LONGEST)
        self.must_be_fine(process)

    def again(self) -> None:
        """Make room for further kills after the command has come to its end."""

    def run(self, kills: int, until: float) -> None:
        while len(self.log) < kills and time.time() < until:
            if not self.kill_once():
                print(f"{self.name:>10}      came to its end: {self.finish()}", flush=True)
                self.again()
        self.to_the_end()
        print(
            f"{self.name:>10}      the same command came to its end after {len(self.log)} kills: {self.finish()}",
            flush=True,
        )


def contents(store: Path) -> dict[str, str]:
    """Digests of a store's data; the manifest tells when and where it was made."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.iterdir())
        if path.name != "manifest.json"
    }


class Prepare(Stage):
    """The frame store of simulated archives, while it is being built."""

    name = "prepare"

    def __init__(self, folder: Path, chance: random.Random):
        super().__init__(folder, chance)
        self.root, self.cache = folder / "archives", folder / "cache"
        line = [
            sys.executable,
            "-m",
            "conveyorguard",
            "simulate",
            str(self.root),
            "data.sessions=24",
            "data.seed=1",
            "data.archive=zip",
        ]
        subprocess.run(line, env=self.env, check=True, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        self.reference, self.files = self._prepare(folder / "reference")
        self.longest = max(0.3, 0.6 * (time.monotonic() - began - 4))

    def _prepare(self, cache: Path) -> tuple[str, dict[str, str]]:
        subprocess.run(
            [sys.executable, *self.command(cache)], env=self.env, check=True, stdout=subprocess.DEVNULL, cwd=self.folder
        )
        (path,) = cache.iterdir()
        return Store(path).fingerprint, contents(path)

    def command(self, cache: Path | None = None) -> list[str]:
        return [
            "-m",
            "conveyorguard",
            "prepare",
            "data=aihub",
            f"data.root={self.root}",
            f"paths.cache={cache or self.cache}",
        ]

    def inside(self) -> bool:
        return any(path.name.startswith(".") and any(path.iterdir()) for path in self._stores())

    def _stores(self) -> list[Path]:
        return list(self.cache.iterdir()) if self.cache.exists() else []

    def check(self) -> str:
        whole = [path for path in self._stores() if not path.name.startswith(".")]
        for path in whole:
            if Store(path).fingerprint != self.reference or contents(path) != self.files:
                raise Lost(f"{path} is taken for a store and is not the whole one")
        left = [
            f"{sum(f.stat().st_size for f in path.iterdir()) >> 10} KiB aside"
            for path in self._stores()
            if path.name.startswith(".")
        ]
        return ", ".join([*left, *(["a whole store"] if whole else [])]) or "nothing"

    def finish(self) -> str:
        (path,) = self._stores()
        store = Store(path)
        if store.fingerprint != self.reference or contents(path) != self.files:
            raise Lost("the store differs from the one built undisturbed")
        return (
            f"one store, fingerprint {store.fingerprint[:12]} and every byte of the data as undisturbed, nothing "
            "left aside"
        )

    def again(self) -> None:
        shutil.rmtree(self.cache)


class Training(Stage):
    """A training into a directory of a name; the same command goes on from last.ckpt as soon as there is one."""

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
        """From the first line of provenance to the last."""
        history = self.target / "history.csv"
        return history.exists() and history.stat().st_mtime > self.began

    def check(self) -> str:
        epoch = -1
        for path in (self.target / "checkpoints").glob("*.ckpt"):
            try:
                found = read_checkpoint(path)["epoch"]
            except ConveyorGuardError as error:
                raise Lost(f"half a checkpoint: {error}") from error
            epoch = max(epoch, found)
        if epoch < self.epoch:
            raise Lost(f"epoch {self.epoch} was finished and kept, the last is now {epoch}")
        self.epoch = epoch
        rows = len(pd.read_csv(self.target / "history.csv")) if (self.target / "history.csv").exists() else 0
        try:
            SavedRun(self.target)
            whole = "a finished run"
        except ConveyorGuardError:
            whole = "not taken for a finished run"
        if whole == "a finished run" and not (self.target / "alarms.json").exists():
            raise Lost("half a run is taken for a finished one")
        aside = [path.name for path in (self.target / "checkpoints").glob(".*")]
        return f"last.ckpt of epoch {epoch}, {rows} rows of history, {whole}" + (
            f", half-written {aside[0]}" if aside else ""
        )

    def finish(self) -> str:
        found, reference = SavedRun(self.target), SavedRun(self.reference)
        pd.testing.assert_frame_equal(found.predictions, reference.predictions, check_exact=True)
        one, other = (
            read_checkpoint(run.folder / "checkpoints" / "last.ckpt")["state_dict"] for run in (found, reference)
        )
        if any(not np.array_equal(one[name].numpy(), other[name].numpy()) for name in other):
            raise Lost("weights differ from those of the undisturbed training")
        return "weights and predictions are those of the undisturbed training, bit for bit"

    def again(self) -> None:
        shutil.rmtree(self.target)
        self.epoch = -1


class Checkpoint(Training):
    """The same, killed while a checkpoint file is being written: a large one, so that there is time to hit it."""

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
        """In one of the first writes of this start, by chance: a file aside that no earlier process has left."""
        writing = False
        for path in (self.target / "checkpoints").glob(".*.ckpt.*"):
            try:
                writing |= path.stat().st_mtime > self.began
            except FileNotFoundError:
                continue
        self.writes += writing and not self.writing
        self.writing = writing
        return writing and self.writes >= self.wanted


class Sweep(Stage):
    """A study of six trials, its parent or one of its trials killed."""

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
        """A trial of this start is at work."""
        return bool(self._environments())

    def _environments(self) -> list[psutil.Process]:
        found = []
        for one in self.living():
            try:
                if "SWEEP_TRIAL_DIR" in one.environ():
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def victims(self, process: subprocess.Popen) -> list[psutil.Process]:
        """The parent and all, or, half of the time, a trial first: its parent is then ended too, to start the same
        command again."""
        trials = self._environments()
        self.hit = "a trial" if trials and self.chance.random() < 0.5 else "the parent"
        if self.hit == "a trial":
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                trials[0].kill()
            time.sleep(self.chance.uniform(0, 1))
        return [one for one in self.living() if one.pid == process.pid]  # its guard ends the rest

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
                f"{len(ended)} finished trials of {len({str(t.params) for t in ended})} settings, {self.trials} "
                "were asked for"
            )
        for trial in ended:
            if not (self.folder / f"studies/s/{trial.number}/trial.json").exists():
                raise Lost(f"trial {trial.number} has no trial.json")
        return f"{self.trials} finished trials of {self.trials} settings, none doubled"

    def again(self) -> None:
        shutil.rmtree(self.folder / "studies")
        self.finished = {}


STAGES = {stage.name: stage for stage in (Prepare, Checkpoint, Training, Sweep)}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stages", default=",".join(STAGES))
    options.add_argument("--kills", type=int, default=20, help="inside each stage")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--seconds",
        type=float,
        default=float("inf"),
        help="for each stage; exit status 1 where they are too few for the kills",
    )
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed, short = [], list[str]()
    with tempfile.TemporaryDirectory(prefix="kill-") as place:
        for name in given.stages.split(","):
            stage = STAGES[name](Path(place) / name, random.Random(f"{given.seed} {name}"))
            try:
                stage.run(given.kills, time.time() + given.seconds)
            except (Lost, AssertionError, ConveyorGuardError) as error:
                print(f"{name:>10}      LOST: {error}", flush=True)
                failed.append(name)
            finally:
                for process in stage.living():
                    process.kill()
            if len(stage.log) < given.kills:
                short.append(f"{name}: only {len(stage.log)} of {given.kills} kills in the time given")
    print("lost something: " + ", ".join(failed) if failed else "nothing was lost")
    print("\n".join(short), flush=True)
    return 1 if failed or short else 0


if __name__ == "__main__":
    sys.exit(main())
