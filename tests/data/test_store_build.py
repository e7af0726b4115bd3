"""Building a store: its key, its shards, and damaged files."""

import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from conveyorguard.data import table
from conveyorguard.data.schema import Schema
from conveyorguard.data.store import open_store
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.support.places import ROOT

pytestmark = pytest.mark.promise(
    "code",
    "A store is built again when the code that reads changes, and the summary says so. Shards do not "
    "depend on the worker. A damaged column is named with its remedy.",
)

PARSE = """
import functools, sys
from pathlib import Path
from conveyorguard.data.store_build import prepare
from conveyorguard.data.schema import Schema
from conveyorguard.data.table import sessions
node = {"channels": {"heat": "degC"}, "states": [{"name": "ok"}, {"name": "worn"}], "columns": {"time": "time"}}
store = prepare(sessions, Schema.from_config(node), Path("recordings"), Path("cache"), "plant", jobs=1)
print(store.path.name, float(store.sensors[0, 0]), store.summary(), sep="|")
"""


@pytest.fixture
def package(tmp_path):
    """Copy the package beside a recording; return a function that prepares its store in a new process."""
    shutil.copytree(ROOT / "conveyorguard", tmp_path / "conveyorguard", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "r.csv").write_text("time,heat\n" + "".join(f"{t},20.5\n" for t in range(5)))

    def prepared():
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        line = [sys.executable, "-P", "-c", PARSE]
        process = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        return process.stdout.strip().split("|")

    prepared.folder = tmp_path
    return prepared


def test_changed_parsing_code_builds_another_store_and_the_summary_says_so(package):
    first, value, summary = package()
    assert float(value) == 20.5 and "built again" not in summary
    assert package()[0] == first
    cells = package.folder / "conveyorguard" / "data" / "table" / "cells.py"
    text = cells.read_text(encoding="utf-8")
    doubled = text.replace("return np.asarray(values), np.zeros", "return 2 * np.asarray(values), np.zeros")
    assert doubled != text
    cells.write_text(doubled, encoding="utf-8")
    again, value, summary = package()
    assert again != first and float(value) == 41
    assert f"built again: the code that reads and reduces the files changed since {first}" in summary


def test_store_of_an_earlier_layout_is_built_again_and_the_summary_says_so(session_of, plain_schema, tmp_path):
    cache = tmp_path / "cache"
    earlier = cache / "plant-0123456789ab"
    earlier.mkdir(parents=True)
    (earlier / "manifest.json").write_text('{"format": 1, "schema": {}, "fingerprint": "0"}')
    sessions = [session_of("a", range(3), [0] * 3)]
    store = prepare(lambda root, schema: sessions, plain_schema, None, cache, "plant", jobs=1)
    assert "built again: plant-0123456789ab has an earlier layout" in store.summary()


def test_shards_do_not_depend_on_the_number_of_workers(session_of, plain_schema, tmp_path):
    sessions = [session_of(f"s{i:02d}", range(3 + i), [0] * (3 + i)) for i in range(40)]
    stores = [
        prepare(partial(listed, sessions=sessions), plain_schema, None, tmp_path / str(jobs), "x", jobs=jobs)
        for jobs in (1, 2)
    ]
    contents = [
        {path.relative_to(store.path): path.read_bytes() for path in sorted(store.path.rglob("*.*")) if path.is_file()}
        for store in stores
    ]
    assert contents[0] == contents[1] and len(stores[0].sessions["shard"].unique()) > 1
    assert stores[0].sensors[[0, 5, len(stores[0]) - 1]].shape == (3, 2)


def listed(root, schema, sessions):
    return sessions


@pytest.mark.parametrize("damage", ["cut", "gone", "other shape", "text"])
def test_damaged_column_is_named_with_the_remedy(damage, store_of, session_of, plain_schema):
    store = store_of([session_of("a", range(9), [0] * 9)], plain_schema)
    path = store.path / "shards" / "0000" / "sensors.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "gone":
        path.unlink()
    elif damage == "other shape":
        np.save(path, np.zeros((9, 3), np.float32))
    else:
        path.write_text("no array")
    remedy = rf"sensors\.npy: cannot be read .*delete the folder {store.path.name} and run prepare again"
    with pytest.raises(DataError, match=remedy):
        open_store(store.path).sensors[0]


def test_folder_without_a_manifest_is_replaced(session_of, plain_schema, tmp_path):
    sessions = [session_of("a", range(3), [0] * 3)]
    build = partial(prepare, partial(listed, sessions=sessions), plain_schema, None, tmp_path, "x", jobs=1)
    store = build()
    (store.path / "manifest.json").unlink()
    assert len(build()) == 3 and store.path.is_dir()


def test_store_has_the_period_of_the_reader(tmp_path):
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "r.csv").write_text("time,heat\n" + "".join(f"{600 * t},20.5\n" for t in range(5)))
    node = {"channels": {"heat": "degC"}, "states": [{"name": "ok"}, {"name": "worn"}], "columns": {"time": "time"}}
    reader = partial(table.sessions, period=600)
    store = prepare(reader, Schema.from_config(node), tmp_path / "plant", tmp_path / "cache", "plant", jobs=1)
    assert store.period == 600 and store.tick[:].tolist() == [0, 1, 2, 3, 4]
