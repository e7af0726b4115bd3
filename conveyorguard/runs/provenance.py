"""What can change a result: commit, code, package versions, processor, config."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig

from conveyorguard.config.saved import plain_values

PACKAGES = (
    "conveyorguard",
    "torch",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "torchmetrics",
    "lightgbm",
    "xgboost-cpu",
    "xgboost",
    "catboost",
    "skops",
    "optuna",
    "wandb",
)


def git_state() -> dict[str, Any]:
    """Return commit and dirty, whether there are uncommitted changes; both None for an installed package."""
    here = Path(__file__).parent.parent

    def ask(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    top = ask("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != here.parent.resolve():  # a virtual environment inside another project
        return {"commit": None, "dirty": None}
    return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}


def commit_of(git: Mapping[str, Any]) -> str:
    """Return the state of the code (`git_state`) in words, for pages."""
    return "–" if not git["commit"] else git["commit"][:12] + (" with uncommitted changes" if git["dirty"] else "")


def processor() -> str:
    """Return the model name of the processor, whose vector instructions decide how sums are rounded."""
    path = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*: (.+)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return match[1] if match else platform.processor()


def code_hash() -> str:
    """Return a digest of the source, templates included, which also changes with uncommitted edits."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.jinja")]):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def config_hash(config: DictConfig) -> str:
    """Return a digest of the values of a resolved config."""
    text = json.dumps(plain_values(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a result."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def peak_memory_mib() -> int:
    """Return the most memory that this process has held [MiB]."""
    status = Path("/proc/self/status")  # on Linux getrusage's figure begins with the parent's
    if peak := re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else ""):
        return int(peak[1]) // 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset // 2**20
    import resource  # POSIX alone has it

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024))
