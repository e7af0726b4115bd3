"""Unpacked archives: loops of links, irregular files, folders without permission, names that are not UTF-8."""

import json
import os
import time
from pathlib import Path

import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import NAME, skipped, stem, store_of, touch, unpack

pytestmark = [
    pytest.mark.promise(
        "input",
        "Misnamed archives and frames, labels without frames and unreadable folders are named. No frame of "
        "another device or day enters a session. `data.strict=true` stops at the first.",
    ),
    pytest.mark.promise(
        "input",
        "Two archives of one name, labels of another recording, repeated or impossible seconds, loops of "
        "links and undecodable names are reported.",
    ),
]


def test_loops_of_links_end(beside, small, tmp_path):
    folder = unpack(beside.write())
    for name in ("one", "two", "three"):  # three branches at each of forty levels would never end
        (folder / name).symlink_to(folder)
        (beside.root / f"up-{name}").symlink_to(beside.root)
    began = time.monotonic()
    store = store_of(beside, small, tmp_path)
    assert time.monotonic() - began < 20
    assert sorted(set(store.to_frame()["session"])) == [NAME, "TS_oht_02_oht02_0827_1011"]


def test_irregular_file_in_a_folder_costs_its_second(beside, small, tmp_path):
    """Reading a pipe would block, and a device would never end."""
    folder = unpack(beside.write())
    for second, make in (
        (1, os.mkfifo),
        (2, lambda p: p.symlink_to("nowhere")),
        (3, lambda p: p.symlink_to("/dev/zero")),
    ):
        path = folder / f"{stem(second)}.csv"
        path.unlink()
        make(path)
    began = time.monotonic()
    store = store_of(beside, small, tmp_path)
    assert time.monotonic() - began < 20
    assert (store.to_frame()["session"] == NAME).sum() == 2
    messages = json.dumps(store.manifest["dropped_examples"]["bad_csv"])
    assert messages.count("not a regular file") == 2 and "No such file" in messages and str(tmp_path) not in messages


def test_names_that_are_not_utf8_are_ignored(beside, small, tmp_path):
    """Unpacking with the wrong code page leaves such names."""
    folder = unpack(beside.write())
    for place in (folder, beside.root):
        garbled = os.fsencode(place) + b"/01.\xbf\xf8\xc3\xb5"
        os.mkdir(garbled)
        with open(garbled + b"/\xff\xfe.csv", "wb") as stream:
            stream.write(b"x")
    store = store_of(beside, small, tmp_path)
    assert len(store.to_frame()) == 10
    with pytest.raises(DataError, match="no session of AI Hub"):
        list(archive.sessions(os.fsdecode(os.fsencode(beside.root) + b"/01.\xbf\xf8\xc3\xb5"), small))


def test_folder_without_permission_is_reported(beside, small, tmp_path, monkeypatch):
    """Permissions do not stop root, who may run the tests, so that the system's answer is patched."""
    unpack(beside.write())
    touch(beside.root, f"locked/{NAME}/x.csv", "locked/x.txt")
    scandir, closed = os.scandir, ["locked"]

    def refuse(path="."):
        if Path(os.fsdecode(path)).name in closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    store = store_of(beside, small, tmp_path)
    assert len(store.to_frame()) == 10
    locked = "unreadable_folder: locked: this folder cannot be listed (Permission denied) and was not read; give"
    assert skipped(store)["locked"].startswith(locked)
    closed.append(NAME)
    messages = skipped(store_of(beside, small, tmp_path))
    assert list(messages) == ["locked", NAME]
    assert "cannot be read as an archive (Permission denied)" in messages[NAME]
    closed.append(beside.root.name)
    with pytest.raises(DataError, match=r"(?s)no session.*\.: this folder cannot be listed"):
        list(archive.sessions(beside.root, small))
