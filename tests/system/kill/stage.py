"""A command in a folder of its own, killed inside one part of what it does."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.support.places import ROOT

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
