"""Broken or misnamed archives are skipped and reported, and the others are read."""

import json
import os
import struct
import time
import zipfile

import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.containers import Archive, Unusable
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import LABELS, NAME, frame, skipped, stem, store_of, write_zip

pytestmark = [
    pytest.mark.promise(
        "input",
        "A broken archive (cut off, split, encrypted, a zip bomb, a pipe, a dangling link) is skipped and "
        "named; the others are read.",
    ),
    pytest.mark.promise(
        "input",
        "Two archives of one name, labels of another recording, repeated or impossible seconds, loops of "
        "links and undecodable names are reported.",
    ),
]


def bomb(path):
    """Write a small zip whose files claim 19 GiB: 300 entries that share 64 MiB of compressed zeros."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = b"\0" * (1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(64)) + packer.flush()
    crc, size = zlib.crc32(b"\0" * (64 << 20)), 64 << 20
    local, directory = b"", b""
    for i in range(300):
        name = f"{stem(0)[:-4]}{i // 60:02d}{i % 60:02d}.bin".encode()
        if i == 0:
            local = (
                struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0)
                + name
                + packed
            )
        directory += (
            struct.pack(
                "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0, 0, 0, 0, 0, 0
            )
            + name
        )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 300, 300, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)


def huge_directory(path):
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 800_000
    path.write_bytes(directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0))


def huge_directory_in_the_zip64_record(path):
    """The plain end record tells of one entry; zipfile uses the zip64 record."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 800_000
    size = len(directory)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 800_000, 800_000, size, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 7, 1)
    path.write_bytes(directory + record + locator + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 46, 0, 0))


def encrypted(path):
    raw = bytearray(path.read_bytes())
    at = -1
    while (at := raw.find(b"PK\1\2", at + 1)) >= 0:
        raw[at + 8] |= 1
    path.write_bytes(raw)


ARCHIVES = {
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10]),
        "its end is missing",
    ),
    "empty": (lambda path: path.write_bytes(b""), "its end is missing"),
    "another format": (lambda path: path.write_bytes(b"Rar!\x1a\x07\x00" * 50), "not a zip"),
    "a web page": (lambda path: path.write_text("<html>please log in</html>"), "not a zip"),
    "a bomb": (bomb, "GiB when inflated, more than the limit of 16 GiB"),
    "a huge directory": (huge_directory, "its directory has"),
    "a huge directory in the zip64 record": (huge_directory_in_the_zip64_record, "its directory has"),
    "encrypted": (encrypted, "encrypted"),
    "of a later version": (
        lambda path: path.write_bytes(path.read_bytes().replace(b"PK\1\2\x14\x03\x14", b"PK\1\2\x14\x03\xff")),
        "version",
    ),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "neither a folder nor a regular file"),
    "a link to nothing": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "No such file"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_broken_archive_is_skipped_and_reported_and_the_others_are_read(case, beside, small, tmp_path):
    spoil, problem = ARCHIVES[case]
    beside.write()
    spoil(beside.source)
    began = time.monotonic()
    store = store_of(beside, small, tmp_path)
    assert time.monotonic() - began < 30
    assert set(store.to_frame()["session"]) == {"TS_oht_02_oht02_0827_1011"}
    message = skipped(store)[NAME]
    assert problem in message and beside.source.name in message and "again" in message
    assert str(tmp_path) not in json.dumps(store.manifest), "pages show no folder of this machine"


def test_end_of_a_zip_is_found_where_zipfile_finds_it(recording, small):
    """Its number of files, which zipfile ignores, may look like another end record."""
    recording.write()
    raw = bytearray(recording.source.read_bytes())
    raw[-14:-10] = b"PK\5\6"
    recording.source.write_bytes(raw)
    assert recording.read(small).time.tolist() == [0, 1, 2, 3, 4]


def test_zip_bomb_with_valid_names_is_refused_without_inflating(beside, small, tmp_path):
    """Members of 60 MiB, in total within the limit, are refused by their size in the directory."""
    beside.write()
    with zipfile.ZipFile(beside.source, "w", zipfile.ZIP_DEFLATED) as target:
        for second in range(3):
            target.writestr(f"{stem(second)}.bin", b"\0" * (60 << 20))
            target.writestr(f"{stem(second)}.csv", recording_csv(second))
    store = store_of(beside, small, tmp_path)
    assert "62,914,560 bytes when inflated, more than the limit of 4,864" in skipped(store)[NAME]


def recording_csv(second):
    return frame(second)[f"{stem(second)}.csv"]


def test_single_part_download_is_read_and_several_parts_are_reported(beside, small, tmp_path):
    beside.write()
    beside.source.rename(beside.source.with_name(f"{NAME}.zip.part0"))
    assert NAME in set(store_of(beside, small, tmp_path).to_frame()["session"])
    (beside.root / f"{NAME}.zip.part1").write_bytes(b"rest")
    message = skipped(store_of(beside, small, tmp_path))[NAME]
    assert "incomplete_download" in message and f"join them in order into {NAME}.zip" in message


def test_second_archive_of_the_same_name_is_reported_and_the_first_is_read(beside, small, tmp_path):
    beside.write()
    (beside.root / "copy").mkdir()
    write_zip(beside.root / "copy" / beside.source.name, {})
    store = store_of(beside, small, tmp_path)
    assert len(store.to_frame()) == 10
    assert (
        "duplicate_session: two archives of the same name" in skipped(store)[NAME]
        and f"copy/{NAME}.zip" in skipped(store)[NAME]
    )
    with pytest.raises(DataError, match="two archives of the same name"):
        prepare(archive.sessions, small, beside.root, tmp_path / "strict", "x", strict=True, jobs=1)


def test_labels_of_another_recording_are_reported(beside, small, tmp_path):
    beside.files = {
        name.replace("0827", "0828") if name.endswith("json") else name: raw for name, raw in beside.files.items()
    }
    beside.write()
    message = skipped(store_of(beside, small, tmp_path))[NAME]
    assert f"{LABELS}.zip: its frames match none of {NAME}.zip" in message
    assert "download the label archive again" in message


def test_archive_with_frames_of_another_device_is_reported(beside, small, tmp_path):
    beside.files = {name.replace("oht01", "oht09"): raw for name, raw in beside.files.items()}
    beside.write()
    expected = (
        f"{NAME}.zip: expected frames of oht01_0827, found only frames of oht09_0827, such as oht09_0827_101100.csv; "
        "rename it"
    )
    assert expected in skipped(store_of(beside, small, tmp_path))[NAME]


def test_thousands_of_files_of_the_same_name_are_compared_one_at_a_time():
    opened, reads = Archive(None), []
    opened.files["a"] = [lambda limit, i=i: reads.append(i) or bytes([i % 2]) for i in range(1000)]
    with pytest.raises(Unusable, match="1000 files of this name with different contents"):
        opened.read("a", 10)
    assert reads == [0, 1]
