"""A zip's own word is not believed: each claim that is wrong is refused in words, each name that is written is read."""

import struct
import zipfile

import pytest

from conveyorguard.data.archive import containers as archive_files
from conveyorguard.data.archive.containers import Archive, Unusable, read_file
from conveyorguard.system.text import printable

LIMIT = 1 << 20
CONTENT = b"NTC,PM1.0\n1.5,2.5\n" * 50


def zipped(path, name="a/frame.csv", method=zipfile.ZIP_DEFLATED, content=CONTENT, extra=b"", comment=b""):
    with zipfile.ZipFile(path, "w", method) as archive:
        entry = zipfile.ZipInfo(name)
        entry.compress_type, entry.extra = method, extra
        archive.writestr(entry, content)
        archive.comment = comment
    return path


def read(path, name="frame.csv", limit=LIMIT):
    with Archive(path) as archive:
        return archive.read(name, limit)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", ["a/b/frame.csv", "a\\b\\frame.csv", "녹화/frame.csv", "frame.csv"])
@pytest.mark.parametrize("extra", [b"", struct.pack("<HHI", 0xCAFE, 4, 7)])
def test_a_file_is_read_wherever_it_lies(method, name, extra, tmp_path):
    assert read(zipped(tmp_path / "x.zip", name, method, extra=extra)) == CONTENT


def test_a_comment_at_the_end_is_read_past(tmp_path):
    assert read(zipped(tmp_path / "x.zip", comment=b"recorded in 2023")) == CONTENT
    with Archive(zipped(tmp_path / "y.zip", comment=b"PK\5\6" + b"\0" * 30)) as archive:
        assert archive.files == {}, "a comment that looks like an end is one to zipfile, too: of an empty zip"


def test_sizes_are_compared_with_what_is_allowed(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip")
    assert read(path, limit=len(CONTENT)) == CONTENT
    with pytest.raises(
        Unusable, match=rf"^{len(CONTENT)} bytes when inflated, at most {len(CONTENT) - 1} are expected$"
    ):
        read(path, limit=len(CONTENT) - 1)
    plain = tmp_path / "frame.csv"
    plain.write_bytes(CONTENT)
    assert read_file(plain, len(CONTENT)) == CONTENT
    with pytest.raises(ValueError, match=rf"^{len(CONTENT)} bytes, at most {len(CONTENT) - 1} are expected$"):
        read_file(plain, len(CONTENT) - 1)
    monkeypatch.setattr(archive_files, "TOTAL_LIMIT", len(CONTENT))
    assert read(path) == CONTENT
    monkeypatch.setattr(archive_files, "TOTAL_LIMIT", len(CONTENT) - 1)
    with pytest.raises(Unusable, match="its files would have 0 GiB when inflated, 0 GiB are allowed"):
        read(path)


def patched(path, place, *values):
    """The zip with bytes replaced; place: of the first byte, or what stands there."""
    raw = bytearray(path.read_bytes())
    at = raw.index(place) if isinstance(place, bytes) else place
    raw[at : at + len(values[0])] = values[0]
    path.write_bytes(raw)
    return path


def test_a_size_that_is_not_that_of_the_whole_is_told(tmp_path):
    path = zipped(tmp_path / "x.zip")
    raw = path.read_bytes()
    directory = raw.index(b"PK\1\2")
    patched(path, directory + 24, struct.pack("<I", len(CONTENT) + 1))
    with pytest.raises(Unusable, match="length or checksum differs"):
        read(path)
    many = zipped(tmp_path / "many.zip")
    patched(many, many.read_bytes().index(b"PK\1\2") + 24, struct.pack("<I", 0xF0000000))
    with pytest.raises(Unusable, match=r"^4,026,531,840 bytes when inflated, at most 1,048,576 are expected$"):
        read(many)


def test_a_byte_that_has_changed_is_told_by_the_checksum(tmp_path):
    path = patched(zipped(tmp_path / "x.zip", method=zipfile.ZIP_STORED), b"1.5,2.5", b"9")
    with pytest.raises(Unusable, match=r"^damaged: length or checksum differs from the directory of the zip$"):
        read(path)


def test_another_name_where_the_file_is_is_told(tmp_path):
    long = "a/" * 60 + "frame.csv"
    path = patched(zipped(tmp_path / "x.zip", long), 30 + len(long) - 9, b"other.csv")
    with pytest.raises(
        Unusable, match=r"^damaged: another name, b'(a/|/a){25,26}.*other.csv', where the file itself is$"
    ) as told:
        read(path)
    assert len(str(told.value).split("'")[1]) == 60, "no more than its end"


def test_a_place_without_a_file_is_told(tmp_path):
    path = patched(zipped(tmp_path / "x.zip"), 0, b"PK\7\7")
    with pytest.raises(Unusable, match=r"^damaged: there is no file where the directory of the zip says$"):
        read(path)


@pytest.mark.parametrize("flag", [0x1, 0x20, 0x40])
def test_encryption_and_patches_are_told(flag, tmp_path):
    path = zipped(tmp_path / "x.zip")
    patched(path, path.read_bytes().index(b"PK\1\2") + 8, struct.pack("<H", flag))
    with pytest.raises(Unusable, match=r"^encrypted, or patched data$"):
        read(path)


def test_another_compression_is_told(tmp_path):
    with pytest.raises(Unusable, match=r"^compression method 14 is not supported$"):
        read(zipped(tmp_path / "x.zip", method=zipfile.ZIP_LZMA))


def huge(path, place):
    """A zip64 whose record claims a directory of 40 MiB; place: before the locator, where it belongs, or elsewhere."""
    raw = zipped(path).read_bytes()
    end = raw.index(b"PK\5\6")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 40 << 20, raw.index(b"PK\1\2"))
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    between = b"" if place == "before the locator" else b"\0" * 100
    told = bytearray(raw[end:])
    told[12:16] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(raw[:end] + record + between + locator + told)
    return path


@pytest.mark.parametrize("place", ["before the locator", "where the locator says"])
def test_a_huge_directory_is_refused_before_it_is_read(place, tmp_path):
    with pytest.raises(Unusable, match=r"^its directory has 40 MiB, at most 32 are expected$"):
        Archive(huge(tmp_path / "x.zip", place))


def test_a_directory_that_the_old_record_calls_huge_is_refused_too(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip")
    at = path.read_bytes().index(b"PK\5\6") + 12
    (length,) = struct.unpack_from("<I", path.read_bytes(), at)
    monkeypatch.setattr(archive_files, "DIRECTORY_LIMIT", length)
    assert read(path) == CONTENT
    patched(path, at, struct.pack("<I", 0xFFFFFFFE))
    with pytest.raises(Unusable, match=r"^its directory has 4,096 MiB, at most 0 are expected$"):
        Archive(path)


@pytest.mark.parametrize("raw", [b"", b"PK\5\6", b"no zip at all", b"PK\3\4" * 100])
def test_what_has_no_end_is_told(raw, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(raw)
    with pytest.raises(Unusable, match=r"^no zip, or its end is missing$"):
        Archive(path)


def test_names_are_shown_by_characters():
    assert printable("녹화 a\n\x00") == "녹화 a\\n\\x00"
