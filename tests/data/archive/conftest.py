"""Recordings of five seconds, sound until a test breaks them, and the quirk set."""

import shutil

import pytest

from conveyorguard.data.schema import Schema
from tests.data.archive import quirks
from tests.data.archive.spoiled import COLUMNS, SHAPE, Recording, write_zip


@pytest.fixture(scope="module")
def small():
    return Schema.from_config(
        {
            "channels": {name: {"unit": "x"} for name in COLUMNS},
            "environment": {"ex_temperature": {"unit": "degC"}},
            "thermal": {"shape": list(SHAPE), "stored": [3, 4]},
            "states": [{"name": name} for name in ("normal", "worn", "broken")],
        }
    )


@pytest.fixture
def recording(tmp_path):
    return Recording(tmp_path / "set")


@pytest.fixture
def beside(recording):
    """The recording with another, sound one in its folder, so that a store can be built."""
    other = "oht_02_oht02_0827_1011"
    recording.root.mkdir()
    files = {name.replace("oht01", "oht02"): raw for name, raw in recording.files.items()}
    write_zip(recording.root / f"TS_{other}.zip", {n: raw for n, raw in files.items() if not n.endswith("json")})
    write_zip(recording.root / f"TL_{other}.zip", {n: raw for n, raw in files.items() if n.endswith("json")})
    return recording


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The quirk set as zips and as folders; tests only read it."""
    base = tmp_path_factory.mktemp("sets")
    yield {kind: quirks.write(base / kind, kind) for kind in ("zip", "folder")}
    shutil.rmtree(base)
