"""Run verbs on a Python that lacks the modules of POSIX systems: python without_posix.py JSON.

JSON is a list of commands, each a list of words. A watch is interrupted once it has judged a window.
"""

import _thread
import asyncio
import importlib.abc
import json
import sys
import threading
import time
from pathlib import Path

import filelock
import psutil

POSIX = {"fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
assert asyncio and filelock and psutil  # they choose by platform, so they are imported before the modules are refused


class Refusal(importlib.abc.MetaPathFinder):
    """Finds no module of POSIX."""

    def find_spec(self, name, path=None, target=None):
        if name in POSIX:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def interrupt_after_first_window(folder):
    """Press Ctrl-C when the watch into a folder has written a window."""
    table = Path(folder) / "windows.csv"
    while not table.exists() or len(table.read_text(encoding="utf-8").splitlines()) < 2:
        time.sleep(0.1)
    _thread.interrupt_main()


def run(commands):
    """Run verbs one after another; the number of the first that fails is the exit status."""
    from conveyorguard.cli import main

    for number, words in enumerate(commands, 1):
        if "--watch" in words:
            out = next(word.removeprefix("out=") for word in words if word.startswith("out="))
            threading.Thread(target=interrupt_after_first_window, args=(out,), daemon=True).start()
        if main(words):
            sys.exit(number)


for name in POSIX:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refusal())
run(json.loads(sys.argv[1]))
