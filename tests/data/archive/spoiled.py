"""A recording of five seconds that tests break before it is written, and what a reader reports about it."""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.reader import read_session
from conveyorguard.data.session import Unreadable
from conveyorguard.data.store_build import prepare

NAME, LABELS = "TS_oht_01_oht01_0827_1011", "TL_oht_01_oht01_0827_1011"
COLUMNS = ["NTC", "PM1.0", "CT1"]
SHAPE = (6, 8)
SPOILED = 2  # the second that tests break


def npy(frame):
    np.save(stream := io.BytesIO(), frame, allow_pickle=True)
    return stream.getvalue()


def label(state="1", **changes):
    return {
        "annotations": [{"tagging": [{"state": state}]}],
        "external_data": [{"ex_temperature": [{"value": 22.5}]}],
    } | changes


def stem(second):
    return f"oht01_0827_1011{second:02d}"


def frame(second):
    return {
        f"{stem(second)}.csv": f"NTC,PM1.0,CT1\n{20 + second}.25,8.00,2.50\n".encode(),
        f"{stem(second)}.bin": npy(np.full(SHAPE, 40.0 + second)),
        f"{stem(second)}.json": json.dumps(label()).encode(),
    }


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, raw in files.items():
            target.writestr(f"/{name}", raw)


class Recording:
    """Files of a sound session of five seconds, which a test may change before it writes them."""

    def __init__(self, root):
        self.root, self.files = root, {}
        for second in range(5):
            self.files |= frame(second)
        self.source, self.labels = root / f"{NAME}.zip", root / f"{LABELS}.zip"

    def write(self):
        self.root.mkdir(exist_ok=True)
        write_zip(self.source, {n: raw for n, raw in self.files.items() if not n.endswith("json")})
        write_zip(self.labels, {n: raw for n, raw in self.files.items() if n.endswith("json")})
        return self

    def read(self, schema):
        return read_session(NAME, self.source, self.labels, schema)


class Tripwire:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def header(text, version=b"\x01\x00", size="<H"):
    return b"\x93NUMPY" + version + struct.pack(size, len(text)) + text


def store_of(recording, schema, tmp_path):
    return prepare(archive.sessions, schema, recording.root, tmp_path / "cache", "x", jobs=1)


def skipped(store):
    return {entry["session"]: f"{entry['reason']}: {entry['message']}" for entry in store.manifest["skipped_sessions"]}


def assert_in_order(session):
    assert session.time.tolist() == [0, 1, 2, 3, 4]
    assert session.sensors[:, 0].tolist() == [20.25, 21.25, 22.25, 23.25, 24.25]


def unpack(recording):
    for path in (recording.source, recording.labels):
        with zipfile.ZipFile(path) as archive_:
            names = {name: archive_.read(name) for name in archive_.namelist()}
        path.unlink()
        folder = path.with_suffix("")
        folder.mkdir()
        for name, raw in names.items():
            (folder / Path(name).name).write_bytes(raw)
    return recording.source.with_suffix("")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def listed(root, schema):
    """Return the name of each item of the reader, with its files or with its report."""
    return [
        (item.name, f"{item.reason}: {item.message}" if isinstance(item, Unreadable) else [p.name for p in item.files])
        for item in archive.sessions(root, schema)
    ]


AGV = "agv_02_agv02_0828_0900"
