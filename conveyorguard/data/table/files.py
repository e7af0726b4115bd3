"""Open the file of a table as bytes or text: plain, compressed by gzip or zip, or the sheet of a workbook."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from conveyorguard.errors import DataError
from conveyorguard.system.text import without_path

PLAIN = (".csv", ".tsv")
SUFFIXES = (*PLAIN, ".parquet", ".xlsx", ".txt")
PACKED = (".gz", ".zip")
SPACES = re.compile(rb"(?<=\S)[ \t]+(?=\S)")
NUMBER = re.compile(rb"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?|nan|NaN")


def is_table(path: Path) -> bool:
    """Return whether a file is a table, by its suffix (also r.csv.gz, r.csv.zip, r.zip); a .txt by its lines."""
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return _has_numbers(path)
    return suffix in SUFFIXES or suffix == ".zip" or (suffix == ".gz" and Path(path.stem).suffix.lower() in PLAIN)


def without_suffix(path: Path) -> Path:
    """Return the path of a table without its suffix, e.g. .csv or .csv.gz."""
    if path.suffix.lower() not in (*SUFFIXES, *PACKED):
        return path
    inner = path.with_suffix("")
    return inner.with_suffix("") if path.suffix.lower() in PACKED and inner.suffix.lower() in PLAIN else inner


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a table as the bytes of a csv: archives are unpacked, the sheet of a workbook is converted.

    Raises:
        DataError: the file cannot be read, also later while the stream is read; or an archive does not hold exactly
            one table, or a workbook has several sheets with cells.
    """
    suffix = path.suffix.lower()
    try:
        with ExitStack() as stack:
            stream: Any
            if suffix == ".xlsx":
                stream = io.BytesIO(_sheet(path))
            elif suffix == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(path))
                stream = stack.enter_context(archive.open(_member(path, archive)))
            elif suffix == ".gz":
                stream = stack.enter_context(gzip.open(path))
            else:
                stream = stack.enter_context(path.open("rb"))
            yield stream
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path.name}: cannot be unpacked ({without_path(error)}); pack or fetch it again") from error
    except OSError as error:
        raise DataError(
            f"{path.name}: cannot be read ({without_path(error)}); give yourself the right to read it, and check "
            "the disk it is on"
        ) from error


def has_blanks_between(path: Path, beginning: bytes) -> bool:
    """Return whether a file is a .txt whose columns are separated by blanks.

    Args:
        beginning: first bytes of the file.
    """
    return path.suffix.lower() == ".txt" and _separator(beginning) == b" "


def with_tabs(raw: bytes) -> bytes:
    """Return lines with the blanks between fields replaced by tabs."""
    return SPACES.sub(b"\t", raw.replace(b"\r\n", b"\n"))


def _beginning(path: Path, limit: int) -> bytes:
    """Return the first bytes of a file, at most `limit`."""
    with path.open("rb") as stream:
        return stream.read(limit)


def _has_numbers(path: Path) -> bool:
    """Return whether the first lines of a text are a table rather than prose."""
    try:
        return _separator(_beginning(path, 1 << 14)) is not None
    except OSError:
        return True  # so that reading it reports the error


def _separator(raw: bytes) -> bytes | None:
    """Return the separator that splits lines into equally many fields, half of them numbers; None for prose.

    Judged by the last 10 of the first 60 lines, without the very last one, which may be cut.
    """
    lines = [line.strip() for line in raw[: 1 << 14].splitlines()[:60] if line.strip()][:-1][-10:]
    for separator in (b";", b"\t", b",", b"|", b" "):
        rows = [line.split() if separator == b" " else line.split(separator) for line in lines]
        sizes = {len(row) for row in rows}
        fields = [field.strip() for row in rows for field in row]
        if len(sizes) == 1 and sizes != {1} and 2 * sum(map(_is_number, fields)) >= len(fields):
            return separator
    return None


def _is_number(field: bytes) -> bool:
    return NUMBER.fullmatch(field) is not None


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the only table in an archive.

    Raises:
        DataError: the archive holds no table or several.
    """
    tables = [item for item in archive.infolist() if Path(item.filename).suffix.lower() in PLAIN]
    tables = [item for item in tables if not item.filename.startswith("__MACOSX/")]
    if len(tables) != 1:
        raise DataError(
            f"{path.name}: expected one csv or tsv file in it, found {len(tables)}; unpack it into the folder, so that "
            "each file is a recording"
        )
    return tables[0]


def _sheet(path: Path) -> bytes:
    """Return the only sheet of a workbook that has cells, as the bytes of a csv.

    Raises:
        DataError: the workbook is damaged, or several sheets have cells.
    """
    import openpyxl  # imported here: takes a second, and few data sets are workbooks

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = {sheet.title: [row for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets}
        book.close()
    except OSError:
        raise
    except Exception as error:  # openpyxl's parsers raise many kinds of errors
        raise DataError(f"{path.name}: cannot be read as xlsx ({error}); save it again, or as csv") from error
    full = {title: rows for title, rows in sheets.items() if any(cell is not None for row in rows for cell in row)}
    if len(full) > 1:
        raise DataError(
            f"{path.name}: expected one sheet with cells, found {', '.join(map(repr, full))}; save each as a file"
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(_cell, row) for rows in full.values() for row in rows])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("\n", " ").replace("\r", " ")


def decode(path: Path, raw: bytes, encoding: str, whole: bool = True, lines_before: int = 0) -> str:
    """Return the text of a file with plain line ends.

    A file in UTF-8 is read as such even if another encoding is set, since the files of a folder may differ.

    Args:
        raw: the file, or some of its lines.
        encoding: encoding of a file that is not UTF-8.
        whole: False if `raw` may end within a character, which is then left out.
        lines_before: number of lines of the file before these.

    Raises:
        DataError: the file is empty, not text, or in another encoding; or the encoding is unknown.
    """
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif raw[:3] == b"\xef\xbb\xbf":
        encoding = "utf-8-sig"
    if not lines_before and not raw.strip():
        raise DataError(f"{path.name}: expected a header and rows, found an empty file")
    try:
        text = _text(raw, encoding, whole)
    except UnicodeDecodeError as error:
        row = lines_before + raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path.name}: row {row}: expected text in {encoding}, found the byte {error.object[error.start]:#x}; "
            "save it as "
            "UTF-8, or set data.reader.encoding, e.g. cp1252 (Western Windows) or cp949 (Korean Windows)"
        ) from error
    except LookupError as error:
        raise DataError(f"data.reader.encoding={encoding}: no such encoding; e.g. utf-8, cp1252, cp949") from error
    if "\0" in text:
        raise DataError(f"{path.name}: expected text, found zero bytes: damaged, or no csv at all")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _text(raw: bytes, encoding: str, whole: bool) -> str:
    """Return decoded bytes; UTF-8 is tried before an encoding that is not one of Unicode's."""
    decoder = codecs.getincrementaldecoder(encoding)()
    if encoding.lower().startswith("utf"):
        return decoder.decode(raw, final=whole)
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(raw, final=whole)
    except UnicodeDecodeError:
        return decoder.decode(raw, final=whole)
