"""A run on sensors, and recordings for the watch."""

import json
import shutil

import pytest

from conveyorguard import load_run
from conveyorguard.commands.train import train
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.writer import write
from conveyorguard.data.live import follow
from conveyorguard.data.schema import Schema
from conveyorguard.inference.watch import Watch
from conveyorguard.runs.data import load_windows


@pytest.fixture(scope="module")
def sensor_run(compose, tmp_path_factory):
    """Train trees on sensors, which judge a window fast."""
    folder = tmp_path_factory.mktemp("watching") / "run"
    train(compose("modality=sensor", "film=false", "model=lightgbm", "model.n_estimators=20"), folder, [])
    return folder


@pytest.fixture(scope="module")
def recordings(compose, tmp_path_factory):
    """Write three recordings as folders of sensor files, without labels and camera files; return their parent."""
    folder = tmp_path_factory.mktemp("recorded")
    write(folder / "all", load_windows(compose()).store.schema, 4, 5, "folder")
    for source in sorted(path for path in (folder / "all").rglob("?S_*") if path.is_dir())[:3]:
        (folder / "sensors" / source.name).mkdir(parents=True)
        for path in source.glob("*.csv"):
            shutil.copy(path, folder / "sensors" / source.name)
    return folder / "sensors"


@pytest.fixture
def watching(sensor_run, tmp_path):
    """Start a watch in this process on a folder that the test writes; call again to continue after a crash."""
    loaded = load_run(sensor_run)
    schema = Schema.from_config({**loaded.schema.to_dict(), "thermal": None})
    folder, out = tmp_path / "incoming", tmp_path / "out"
    folder.mkdir()
    out.mkdir()

    def begin(reader=archive.sessions):
        path = out / "watch.json"
        known = json.loads(path.read_text())["known"] if path.exists() else {}
        if not path.exists():
            path.write_text('{"known": {}}')
        return Watch(loaded, follow(reader, folder, schema, known), schema, out)

    begin.folder, begin.out, begin.loaded = folder, out, loaded
    return begin


def frames_of(source):
    return sorted(source.glob("*.csv"))
