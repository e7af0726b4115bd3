"""Reading members of a zip: wrong claims of its directory are refused, and names from any system are read."""

import struct
import zipfile

import pytest

from conveyorguard.data.archive import containers
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
def test_member_is_read_by_base_name_from_any_folder(method, name, extra, tmp_path):
    assert read(zipped(tmp_path / "x.zip", name, method, extra=extra)) == CONTENT


def test_zip_with_a_comment_is_read(tmp_path):
    assert read(zipped(tmp_path / "x.zip", comment=b"recorded in 2023")) == CONTENT
    with Archive(zipped(tmp_path / "y.zip", comment=b"PK\5\6" + b"\0" * 30)) as archive:
        assert archive.files == {}, (
            "zipfile, too, takes a comment that looks like an end record for that of an empty zip"
        )


def test_sizes_above_the_limits_are_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip")
    assert read(path, limit=len(CONTENT)) == CONTENT
    with pytest.raises(
        Unusable, match=rf"^{len(CONTENT)} bytes when inflated, more than the limit of {len(CONTENT) - 1}$"
    ):
        read(path, limit=len(CONTENT) - 1)
    plain = tmp_path / "frame.csv"
    plain.write_bytes(CONTENT)
    assert read_file(plain, len(CONTENT)) == CONTENT
    with pytest.raises(ValueError, match=rf"^{len(CONTENT)} bytes, more than the limit of {len(CONTENT) - 1}$"):
        read_file(plain, len(CONTENT) - 1)
    monkeypatch.setattr(containers, "TOTAL_LIMIT", len(CONTENT))
    assert read(path) == CONTENT
    monkeypatch.setattr(containers, "TOTAL_LIMIT", len(CONTENT) - 1)
    with pytest.raises(Unusable, match="its files take 0 GiB when inflated, more than the limit of 0 GiB"):
        read(path)


def patched(path, place, value):
    """Replace bytes of a zip; `place` is the offset of the first, or the bytes at it."""
    raw = bytearray(path.read_bytes())
    at = raw.index(place) if isinstance(place, bytes) else place
    raw[at : at + len(value)] = value
    path.write_bytes(raw)
    return path


def test_wrong_size_in_the_directory_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip")
    raw = path.read_bytes()
    directory = raw.index(b"PK\1\2")
    patched(path, directory + 24, struct.pack("<I", len(CONTENT) + 1))
    with pytest.raises(Unusable, match="length or checksum differs"):
        read(path)
    many = zipped(tmp_path / "many.zip")
    patched(many, many.read_bytes().index(b"PK\1\2") + 24, struct.pack("<I", 0xF0000000))
    with pytest.raises(Unusable, match=r"^4,026,531,840 bytes when inflated, more than the limit of 1,048,576$"):
        read(many)


def test_changed_byte_is_refused_by_the_checksum(tmp_path):
    path = patched(zipped(tmp_path / "x.zip", method=zipfile.ZIP_STORED), b"1.5,2.5", b"9")
    with pytest.raises(Unusable, match=r"^damaged: length or checksum differs from the zip's directory$"):
        read(path)


def test_member_with_another_name_than_in_the_directory_is_refused(tmp_path):
    long = "a/" * 60 + "frame.csv"
    path = patched(zipped(tmp_path / "x.zip", long), 30 + len(long) - 9, b"other.csv")
    with pytest.raises(
        Unusable, match=r"^damaged: the file is named b'(a/|/a){25,26}.*other.csv', unlike in the zip's directory$"
    ) as caught:
        read(path)
    assert len(str(caught.value).split("'")[1]) == 60, "only the end of a long name is shown"


def test_directory_entry_without_a_file_is_refused(tmp_path):
    path = patched(zipped(tmp_path / "x.zip"), 0, b"PK\7\7")
    with pytest.raises(Unusable, match=r"^damaged: no file where the zip's directory points$"):
        read(path)


@pytest.mark.parametrize("flag", [0x1, 0x20, 0x40])
def test_encrypted_or_patched_member_is_refused(flag, tmp_path):
    path = zipped(tmp_path / "x.zip")
    patched(path, path.read_bytes().index(b"PK\1\2") + 8, struct.pack("<H", flag))
    with pytest.raises(Unusable, match=r"^encrypted or patched data is not supported$"):
        read(path)


def test_unsupported_compression_is_refused(tmp_path):
    with pytest.raises(Unusable, match=r"^compression method 14 is not supported$"):
        read(zipped(tmp_path / "x.zip", method=zipfile.ZIP_LZMA))


def huge(path, place):
    """Write a zip64 whose record claims a directory of 40 MiB, directly before the locator or elsewhere."""
    raw = zipped(path).read_bytes()
    end = raw.index(b"PK\5\6")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 40 << 20, raw.index(b"PK\1\2"))
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    between = b"" if place == "before the locator" else b"\0" * 100
    plain_end = bytearray(raw[end:])
    plain_end[12:16] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(raw[:end] + record + between + locator + plain_end)
    return path


@pytest.mark.parametrize("place", ["before the locator", "where the locator says"])
def test_huge_zip64_directory_is_refused_before_it_is_read(place, tmp_path):
    with pytest.raises(Unusable, match=r"^its directory has 40 MiB, more than the limit of 32$"):
        Archive(huge(tmp_path / "x.zip", place))


def test_huge_directory_in_the_plain_record_is_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip")
    at = path.read_bytes().index(b"PK\5\6") + 12
    (length,) = struct.unpack_from("<I", path.read_bytes(), at)
    monkeypatch.setattr(containers, "DIRECTORY_LIMIT", length)
    assert read(path) == CONTENT
    patched(path, at, struct.pack("<I", 0xFFFFFFFE))
    with pytest.raises(Unusable, match=r"^its directory has 4,096 MiB, more than the limit of 0$"):
        Archive(path)


@pytest.mark.parametrize("raw", [b"", b"PK\5\6", b"no zip at all", b"PK\3\4" * 100])
def test_zip_without_an_end_record_is_refused(raw, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(raw)
    with pytest.raises(Unusable, match=r"^not a zip, or its end is missing$"):
        Archive(path)


def test_printable_keeps_letters_and_escapes_control_characters():
    assert printable("녹화 a\n\x00") == "녹화 a\\n\\x00"
