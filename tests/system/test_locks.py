"""Locks on run directories: one process at a time, released when the process ends, even by kill -9."""

import os
import subprocess
import sys

import pytest

from conveyorguard.errors import RunError
from conveyorguard.system.files import locked
from tests.support.places import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from conveyorguard.system.files import locked

with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(300)
"""


def test_directory_is_locked_until_its_process_is_killed(tmp_path):
    folder = tmp_path / "run"
    line = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"locked\n"
            with pytest.raises(RunError, match="another process works on it"), locked(folder):
                pytest.fail("two processes hold the lock")
        finally:
            process.kill()
    with locked(folder):
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert not list(folder.iterdir())
