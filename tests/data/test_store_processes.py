"""Building a frame store in several processes: races, kills, builds in progress, memory."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conveyorguard.data.session import Unreadable
from conveyorguard.data.store import open_store
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.small_camera import small_camera_schema
from tests.support.places import ROOT

pytestmark = pytest.mark.promise(
    "crashes",
    "Two processes that build one store end with one good store. A killed build leaves nothing that is "
    "taken for a store.",
)

SLOW_READER = """
import os, signal, time
from functools import partial
from pathlib import Path
import numpy as np
from conveyorguard.data.session import Recording, Session

def read(name, kill, wait):
    if kill and os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(wait)
    n = 50
    rng = np.random.default_rng(len(name))
    sensors, environment, thermal = rng.normal(size=(n, 2)), rng.normal(size=(n, 1)), rng.normal(40, 2, (n, 8, 10))
    return Session(name, "a1", "a", np.arange(n), sensors, environment, thermal, np.zeros(n, int))

def sessions(root, schema, wait=0.0):
    for i in range(6):
        yield Recording("s" * (i + 1), (), partial(read, "s" * (i + 1), i == 4, wait))
"""
PREPARE = """
import json, sys, time
from functools import partial
from pathlib import Path
import slow_reader
from conveyorguard.data.schema import Schema
from conveyorguard.data.store_build import prepare
node, cache, start, wait = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
print("ready", flush=True)
while not start.exists():
    time.sleep(0.005)
store = prepare(partial(slow_reader.sessions, wait=wait), Schema.from_config(node), None, cache, "slow", jobs=1)
print(store.path, store.fingerprint, store.thermal[:].sum(dtype=float))
"""


@pytest.fixture
def preparing(tmp_path, plain_schema):
    """Return a function that starts a process which prepares a store of a slow reader."""
    (tmp_path / "slow_reader.py").write_text(SLOW_READER)
    node = json.dumps(small_camera_schema(plain_schema).to_dict())

    def start(cache, go, wait=0.0, **env):
        line = [sys.executable, "-c", PREPARE, node, str(cache), str(go), str(wait)]
        paths = f"{ROOT}{os.pathsep}{tmp_path}"
        return subprocess.Popen(line, env={**os.environ, "PYTHONPATH": paths, **env}, stdout=subprocess.PIPE, text=True)

    return start


def test_racing_processes_end_with_one_good_store(preparing, tmp_path):
    cache, go = tmp_path / "cache", tmp_path / "go"
    racing = [preparing(cache, go, wait=0.03) for _ in range(2)]
    for process in racing:
        assert process.stdout.readline() == "ready\n"
    go.touch()
    outputs = {process.communicate(timeout=60)[0] for process in racing}
    assert [process.returncode for process in racing] == [0, 0]
    assert len(outputs) == 1, "all opened the same store"
    assert [p.name for p in cache.iterdir()] == [Path(outputs.pop().split()[0]).name], "nothing else is left"


def test_killed_build_leaves_nothing_that_opens_as_a_store(preparing, tmp_path):
    cache, go = tmp_path / "cache", tmp_path / "go"
    go.touch()
    killed = preparing(cache, go, KILL="1")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = cache.iterdir()
    assert left.name.startswith("."), "it does not carry the name of a store"
    # after a restart of a container another process may have its number, here this one
    reused = left.with_name(left.name.replace(f".{killed.pid}-", f".{os.getpid()}-"))
    assert reused != left
    reused.mkdir()
    out, _ = preparing(cache, go).communicate(timeout=60)
    path = Path(out.splitlines()[1].split()[0])
    assert list(cache.iterdir()) == [path], "the next build deletes both"
    assert len(open_store(path).to_frame()) == 300 and len(open_store(path).thermal) == 300


def test_build_in_progress_is_not_deleted_by_another(preparing, tmp_path, plain_schema, session_of):
    cache, go = tmp_path / "cache", tmp_path / "go"
    go.touch()
    other = preparing(cache, go, wait=0.5)
    while not (cache.exists() and list(cache.glob(".slow*"))):
        assert other.poll() is None
    (work,) = cache.glob(".slow*")
    prepare(lambda root, schema: [session_of("a", range(3), [0] * 3)], plain_schema, None, cache, "mine", jobs=1)
    assert work.exists()
    assert other.wait(timeout=60) == 0


def test_failed_build_leaves_nothing(store_of, plain_schema, session_of, tmp_path):
    def broken(root, schema):
        yield session_of("a", range(3), [0] * 3)
        yield Unreadable("b", "torn", "b is torn")

    with pytest.raises(DataError, match="b is torn"):
        prepare(broken, plain_schema, None, tmp_path / "cache", "x", strict=True, jobs=1)
    assert list((tmp_path / "cache").iterdir()) == []


MEMORY = """
import functools, json, resource, sys
from conveyorguard.data.simulate import generate as simulate
from conveyorguard.data.schema import Schema
from conveyorguard.data.store_build import prepare
count, cache, node = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
reader = functools.partial(simulate.sessions, sessions=count, seed=0)
prepare(reader, Schema.from_config(node), None, cache, "m", jobs=2)
processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
print(json.dumps([resource.getrusage(who).ru_maxrss / 1024 for who in processes]))
"""


def memory(count, tmp_path, schema):
    # a process inherits the peak of its parent, here of all earlier tests; a shell's is small
    line = [
        "sh",
        "-c",
        '"$@"; exit $?',
        "sh",
        sys.executable,
        "-c",
        MEMORY,
        str(count),
        str(tmp_path / str(count)),
        json.dumps(schema.to_dict()),
    ]
    process = subprocess.run(
        line, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    return json.loads(process.stdout.splitlines()[-1])  # MiB of the process, and of the largest of its workers


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_sessions(tmp_path, schema):
    few, many = memory(6, tmp_path, schema), memory(72, tmp_path, schema)
    assert max(few + many) < 1024
    assert many[0] < few[0] + 150, "72 sessions have 90 MiB of reduced and 1.9 GiB of raw frames"
