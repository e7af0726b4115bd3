"""Full or read-only disks: a named error, earlier stores intact, and no partial store left."""

import os
import subprocess

import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.store import open_store
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import frame, store_of

pytestmark = pytest.mark.promise(
    "input",
    "A read-only root is only read. A full or read-only disk ends in a clear error; what was there stays "
    "whole, and nothing half-written is left.",
)


def mounted(place, size):
    """Mount a file system of that size; return None where this user may not mount."""
    place.mkdir()
    process = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    return place if process.returncode == 0 else None


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0 or (place := mounted(tmp_path / "disk", "600k")) is None:
        pytest.skip("a small tmpfs needs permission to mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place, leave):
    """Fill the disk except for `leave` bytes."""
    file = os.open(place / "filling", os.O_WRONLY | os.O_CREAT)
    size = 0
    try:
        while True:
            size += os.write(file, b"\0" * 4096)
    except OSError:
        os.ftruncate(file, max(0, size - leave))
    os.close(file)


@pytest.mark.parametrize("leave", [0, 8 << 10, 40 << 10])
def test_full_disk_is_reported_and_leaves_the_earlier_store_intact(leave, beside, small, small_disk):
    beside.write()
    cache = small_disk / "cache"
    first = prepare(archive.sessions, small, beside.root, cache, "first", jobs=1)
    before = {path: path.read_bytes() for path in first.path.rglob("*.*") if path.is_file()}
    beside.files |= {
        name.replace("1011", f"10{minute:02d}"): raw
        for minute in range(12, 40)
        for s in range(50)
        for name, raw in frame(s).items()
    }
    beside.write()
    fill(small_disk, leave)
    with pytest.raises(DataError) as error:
        prepare(archive.sessions, small, beside.root, cache, "second", jobs=1)
    message = str(error.value)
    assert "the frame store cannot be written (No space left on device" in message and "paths.cache" in message
    assert {path: path.read_bytes() for path in first.path.rglob("*.*") if path.is_file()} == before
    assert [path.name for path in cache.iterdir()] == [first.path.name], "no partial store is left"
    (small_disk / "filling").unlink()
    assert len(open_store(first.path).to_frame()) == 10


def test_unwritable_cache_is_reported_with_the_remedy(beside, small, tmp_path):
    beside.write()
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"paths\.cache=.*cannot be written.*Free some space, or set paths\.cache"):
        store_of(beside, small, tmp_path)


def test_read_only_disk_is_reported(beside, small, tmp_path):
    place = tmp_path / "disk"
    if os.geteuid() != 0 or mounted(place, "1m") is None:
        pytest.skip("a read-only file system needs permission to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        beside.write()
        with pytest.raises(DataError, match=r"cannot be written \(Read-only file system\)"):
            prepare(archive.sessions, small, beside.root, place / "cache", "x", jobs=1)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_read_only_root_is_read(beside, small, tmp_path):
    place = tmp_path / "disk"
    if os.geteuid() != 0 or mounted(place, "1m") is None:
        pytest.skip("a read-only file system needs permission to mount")
    try:
        beside.root = place / "set"
        beside.source, beside.labels = beside.root / beside.source.name, beside.root / beside.labels.name
        beside.write()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert len(store_of(beside, small, tmp_path).to_frame()) == 5
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
