"""Processes of trials: start them, recognise them later, and end them when their sweeper ends."""

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
    """Start a process in a new process session, so that Ctrl-C in the terminal does not reach it directly."""
    with open(log, "wb") as output:
        return subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


@contextmanager
def guarded() -> Iterator[str]:
    """Yield a value for SWEEP_GUARD; processes that carry it are killed when this process ends, even by kill -9.

    A guard process reads from a pipe that this process holds open. The pipe closes when this process ends, and the
    guard then kills every process with that value: trials and their children (DDP ranks, data loader workers).
    """
    name = uuid.uuid4().hex
    guard = [sys.executable, "-P", __file__, name]
    with subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True):
        yield name  # leaving Popen's context closes the pipe and waits for the guard


def launch_command(overrides: list[str]) -> list[str]:
    """Return the command that started this Hydra application, without -m and the overrides.

    For example `python app.py`, `python -m app` or `app verb`.
    """
    arguments = sys.argv[1:]  # Hydra's; the program, including a verb, comes before them in orig_argv
    program = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    flags = [argument for argument in arguments if argument not in ("-m", "--multirun", *overrides)]
    return [sys.executable, *program, *flags]


def find_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [gpu for gpu in allowed.split(",") if gpu]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    return [str(gpu) for gpu in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]


def this_process() -> dict[str, Any]:
    """Return host, pid and start time [s since 1970], which identify this process uniquely, also after it ends."""
    process = psutil.Process()
    return {"host": HOST, "pid": process.pid, "start": process.create_time()}


def is_alive(owner: dict[str, Any] | None) -> bool:
    """Return whether a process (see `this_process`) may still be alive; True for None and for other hosts."""
    if owner is None or owner["host"] != HOST:
        return True
    try:
        process = psutil.Process(owner["pid"])
        same = abs(process.create_time() - owner["start"]) < 2  # s; clocks drift, and pids are reused
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since boot; 0 where it does not say."""
    counts = Path("/proc/vmstat").read_text() if Path("/proc/vmstat").exists() else ""
    match = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
    return int(match[1]) if match else 0


def end_processes(variable: str, value: str) -> None:
    """Kill all processes in whose environment `variable` has this value."""
    killed = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                process.kill()
                killed.append(process)
        except psutil.Error:
            continue  # it has ended, or belongs to another user
    psutil.wait_procs(killed, timeout=10)


if __name__ == "__main__":  # the guard
    sys.stdin.read()
    end_processes("SWEEP_GUARD", sys.argv[1])
