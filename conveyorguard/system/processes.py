"""Processes of trials: started, recognised again, and ended with their sweeper at the latest."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

HOST = socket.gethostname()


def start(command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl-C reaches it only through us."""
    with open(log, "wb") as output:
        return subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


@contextmanager
def guarded() -> Iterator[str]:
    """The value of SWEEP_GUARD for processes that shall not outlive this one, be it killed with kill -9.

    A second process holds the other end of a pipe. When we are gone, however, it reads the end of it, and kills every
    process with that value: trials, and what they have started (ranks of DDP, loaders).
    """
    name = uuid.uuid4().hex
    guard = [sys.executable, "-P", __file__, name]
    with subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True):
        yield name  # after it the pipe is closed and the guard waited for


def own_command(overrides: list[str]) -> list[str]:
    """What started this Hydra application, without its overrides and -m: python app.py, python -m app, app verb."""
    own = len(sys.argv) - 1  # what Hydra was given; before it comes the program, a verb of it included
    program, given = sys.orig_argv[1 : len(sys.orig_argv) - own], sys.argv[1:]
    flags = [argument for argument in given if argument not in ("-m", "--multirun", *overrides)]
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


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not count them."""
    counts = Path("/proc/vmstat").read_text() if Path("/proc/vmstat").exists() else ""
    found = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
    return int(found[1]) if found else 0


def end_processes(variable: str, value: str) -> None:
    """Kill all processes that have an environment variable of this value."""
    killed = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                process.kill()
                killed.append(process)
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    psutil.wait_procs(killed, timeout=10)


if __name__ == "__main__":  # the guard
    sys.stdin.read()
    end_processes("SWEEP_GUARD", sys.argv[1])
