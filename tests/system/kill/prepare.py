"""Kills while the frame store is built."""

import hashlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from conveyorguard.data.store import open_store
from tests.system.kill.stage import Lost, Stage


def contents(store: Path) -> dict[str, str]:
    """Return digests of a store's data files; the manifest is left out, it holds time and place of the build."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.iterdir())
        if path.name != "manifest.json"
    }


class Prepare(Stage):
    """Build the frame store of simulated archives."""

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
        return open_store(path).fingerprint, contents(path)

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
            if open_store(path).fingerprint != self.reference or contents(path) != self.files:
                raise Lost(f"{path} is opened as a store but is incomplete")
        left = [
            f"{sum(f.stat().st_size for f in path.iterdir()) >> 10} KiB unfinished"
            for path in self._stores()
            if path.name.startswith(".")
        ]
        return ", ".join([*left, *(["a whole store"] if whole else [])]) or "nothing"

    def finish(self) -> str:
        (path,) = self._stores()
        store = open_store(path)
        if store.fingerprint != self.reference or contents(path) != self.files:
            raise Lost("the store differs from the one built undisturbed")
        return f"one store, fingerprint {store.fingerprint[:12]}, all bytes as undisturbed, nothing unfinished"

    def again(self) -> None:
        shutil.rmtree(self.cache)
