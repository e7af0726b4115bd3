"""The base of all stages: a command that is killed inside one part of its work."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.support.places import ROOT

LONGEST = 900  # s, limit of a command
SMALL = ["data=simulated", "data.sessions=12", "modality=sensor", "trainer=cpu", "threads=1"]


class Lost(AssertionError):
    """Finished work was lost or changed by a kill."""


class Stage:
    """A command in a separate folder, to be killed inside one part of its work."""

    name, longest = "", 2.0  # longest wait of a kill after the stage is entered [s]

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
        """Return the arguments of the command."""
        raise NotImplementedError

    def inside(self) -> bool:
        """Return whether the command is inside the stage."""
        raise NotImplementedError

    def check(self) -> str:
        """Check the disk after a kill: raise `Lost`, or return what is there."""
        raise NotImplementedError

    def finish(self) -> str:
        """Check the result after the command has ended: raise `Lost`, or return what was compared."""
        raise NotImplementedError

    def start(self) -> subprocess.Popen:
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(
                [sys.executable, *self.command()], cwd=self.folder, env=self.env, stdout=output, stderr=output
            )

    def living(self) -> list[psutil.Process]:
        living = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("KILL_MARK") == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
            except psutil.Error:
                continue
        return living

    def victims(self, process: subprocess.Popen) -> list[psutil.Process]:
        return self.living()

    def kill_once(self) -> bool:
        """Start the command, wait for the stage, kill; return False if the command ended first."""
        process, patience = self.start(), time.monotonic() + LONGEST
        while not self.inside():
            if process.poll() is not None:
                self.must_be_fine(process)
                return False
            if time.monotonic() > patience:
                raise Lost(f"{self.name}: the command neither reached the stage nor ended within {LONGEST} s")
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
        """Remove the result, so that the command can be killed again."""

    def run(self, kills: int, until: float) -> None:
        while len(self.log) < kills and time.time() < until:
            if not self.kill_once():
                print(f"{self.name:>10}      ended: {self.finish()}", flush=True)
                self.again()
        self.to_the_end()
        print(
            f"{self.name:>10}      the same command ended after {len(self.log)} kills: {self.finish()}",
            flush=True,
        )
