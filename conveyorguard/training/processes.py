"""Processes of trials: started so that they die with their sweeper, recognised again, and ended."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

HOST = socket.gethostname()
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def start(command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl-C reaches it only through us."""
    with open(log, "wb") as output:
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )


def die_with(parent: int) -> Callable[[], None]:
    """Run in a new process: the kernel shall kill it when its parent dies, even by kill -9 (Linux)."""

    def bind() -> None:
        if sys.platform == "linux":
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before we could ask
                os._exit(1)

    return bind


def own_command(overrides: list[str]) -> list[str]:
    """What started this Hydra application, without its overrides and -m."""
    flags = [argument for argument in sys.argv[1:] if argument not in ("-m", "--multirun", *overrides)]
    module = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", module.name.removesuffix(".__main__")] if module else [sys.argv[0]]
    return [sys.executable, *program, *flags]


def find_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [gpu for gpu in allowed.split(",") if gpu]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    return [str(gpu) for gpu in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


def this_process() -> dict[str, Any]:
    """What tells this process from all others, now and later."""
    process = psutil.Process()
    return {"host": HOST, "pid": process.pid, "start": process.create_time()}


def is_alive(owner: dict[str, Any] | None) -> bool:
    """Whether the process of a `this_process` may live; of another host nobody here can tell, so it may."""
    if owner is None or owner["host"] != HOST:
        return True
    try:
        process = psutil.Process(owner["pid"])
        same = abs(process.create_time() - owner["start"]) < 2  # s; clocks drift, pids are used again
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_processes(folder: Path) -> None:
    """Kill what still runs for the trial in a folder: an orphan, its data loaders, its other ranks."""
    killed = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SWEEP_TRIAL_DIR") == str(folder):
                process.kill()
                killed.append(process)
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    psutil.wait_procs(killed, timeout=10)
