"""An archive that is broken, or not the one it is called: it is skipped and told, the others are read."""

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
    """A zip of 600 kB whose files claim, and have, 60 GiB: 60 entries that share one compressed GiB of zeros."""
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
    """The plain end record tells of one entry; zipfile believes the other."""
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
    "another format": (lambda path: path.write_bytes(b"Rar!\x1a\x07\x00" * 50), "no zip"),
    "a web page": (lambda path: path.write_text("<html>please log in</html>"), "no zip"),
    "a bomb": (bomb, "GiB when inflated, 16 GiB are allowed"),
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
def test_a_broken_archive_is_skipped_and_told_and_the_others_are_read(case, beside, small, tmp_path):
    spoil, problem = ARCHIVES[case]
    beside.write()
    spoil(beside.source)
    began = time.monotonic()
    store = store_of(beside, small, tmp_path)
    assert time.monotonic() - began < 30
    assert set(store.to_frame()["session"]) == {"TS_oht_02_oht02_0827_1011"}
    told = skipped(store)
    if case in ("a pipe", "a link to nothing") and NAME not in told:
        pytest.fail(f"{case} was passed over in silence")
    assert problem in told[NAME] and beside.source.name in told[NAME] and "again" in told[NAME]
    assert str(tmp_path) not in json.dumps(store.manifest), "no folder of this machine in what pages show"


def test_the_end_of_a_zip_is_where_zipfile_finds_it(recording, small):
    """Its number of files, of which zipfile makes nothing, may look like another end."""
    recording.write()
    raw = bytearray(recording.source.read_bytes())
    raw[-14:-10] = b"PK\5\6"
    recording.source.write_bytes(raw)
    assert recording.read(small).time.tolist() == [0, 1, 2, 3, 4]


def test_a_zip_bomb_of_sound_names_is_no_matter_of_memory(beside, small, tmp_path):
    """Members of 60 MiB, total within the limit: each is refused by what its directory says, none is inflated."""
    beside.write()
    with zipfile.ZipFile(beside.source, "w", zipfile.ZIP_DEFLATED) as target:
        for second in range(3):
            target.writestr(f"{stem(second)}.bin", b"\0" * (60 << 20))
            target.writestr(f"{stem(second)}.csv", recording_csv(second))
    store = store_of(beside, small, tmp_path)
    assert "62,914,560 bytes when inflated, at most 4,864 are expected" in skipped(store)[NAME]


def recording_csv(second):
    return frame(second)[f"{stem(second)}.csv"]


def test_a_download_in_one_part_is_read_and_in_several_told(beside, small, tmp_path):
    beside.write()
    beside.source.rename(beside.source.with_name(f"{NAME}.zip.part0"))
    assert NAME in set(store_of(beside, small, tmp_path).to_frame()["session"])
    (beside.root / f"{NAME}.zip.part1").write_bytes(b"rest")
    told = skipped(store_of(beside, small, tmp_path))
    assert "incomplete_download" in told[NAME] and f"join them into {NAME}.zip" in told[NAME]


def test_two_archives_of_one_name_are_told_and_the_first_is_read(beside, small, tmp_path):
    beside.write()
    (beside.root / "copy").mkdir()
    write_zip(beside.root / "copy" / beside.source.name, {})
    store = store_of(beside, small, tmp_path)
    assert len(store.to_frame()) == 10
    assert (
        "duplicate_session: two archives of one name" in skipped(store)[NAME]
        and f"copy/{NAME}.zip" in skipped(store)[NAME]
    )
    with pytest.raises(DataError, match="two archives of one name"):
        prepare(archive.sessions, small, beside.root, tmp_path / "strict", "x", strict=True, jobs=1)


def test_labels_of_another_recording_are_told(beside, small, tmp_path):
    beside.files = {
        name.replace("0827", "0828") if name.endswith("json") else name: raw for name, raw in beside.files.items()
    }
    beside.write()
    told = skipped(store_of(beside, small, tmp_path))[NAME]
    assert f"{LABELS}.zip: its frames match none of {NAME}.zip" in told and "fetch the label archive again" in told


def test_an_archive_under_the_name_of_another_recording_is_told(beside, small, tmp_path):
    beside.files = {name.replace("oht01", "oht09"): raw for name, raw in beside.files.items()}
    beside.write()
    told = skipped(store_of(beside, small, tmp_path))[NAME]
    found = (
        f"{NAME}.zip: expected frames of oht01_0827, found those of oht09_0827 alone, as oht09_0827_101100.csv; "
        "rename it"
    )
    assert found in told


def test_of_thousands_of_files_of_one_name_two_are_held():
    opened, reads = Archive(None), []
    opened.files["a"] = [lambda limit, i=i: reads.append(i) or bytes([i % 2]) for i in range(1000)]
    with pytest.raises(Unusable, match="1000 files of this name with different contents"):
        opened.read("a", 10)
    assert reads == [0, 1]
