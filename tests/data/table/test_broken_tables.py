"""A plant's own files, broken in any way: a named error or the rows that are sound, never anything else."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.data.reduce import reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.store_build import prepare
from conveyorguard.data.table import columns
from conveyorguard.data.table.camera import open_frames
from conveyorguard.data.table.reader import sessions
from conveyorguard.errors import ConveyorGuardError, DataError
from tests.data.table.spoiled import CELLS, SCHEMA, SOUND, check, read

pytestmark = pytest.mark.promise(
    "input",
    "A defect in a table of one's own costs its row, picture or file and is named. A picture is never "
    "executed (PostScript).",
)


@pytest.mark.parametrize("cell", ["1e39", "-1e300", "inf"])
def test_a_value_that_no_sensor_has_is_repaired_and_flagged(cell, tmp_path):
    (tmp_path / "rec.csv").write_bytes(SOUND.replace(b"22.5", cell.encode()))
    (session,) = read(tmp_path)
    reduced = reduce_session(session, SCHEMA)
    assert reduced.columns["sensors"][:4, 0].tolist() == [20.5, 21.5, 21.5, 23.5] and reduced.columns["quality"][2] != 0
    assert reduced.repaired["sensor_values"] == 1


@settings(max_examples=150)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_csv(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "rec.csv").write_bytes(content)
    check(read(folder))


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, len(SOUND)), st.integers(0, 30), st.binary(max_size=8)), min_size=1, max_size=4)
)
def test_a_csv_with_pieces_replaced(tmp_path_factory, changes):
    raw = SOUND
    for at, length, piece in changes:
        raw = raw[:at] + piece + raw[at + length :]
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "rec.csv").write_bytes(raw)
    check(read(folder))


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3), st.sampled_from(CELLS)), min_size=1, max_size=5),
    st.sampled_from(",;\t"),
)
def test_a_csv_with_odd_cells_loses_those_rows_at_most(tmp_path_factory, changes, separator):
    rows = [line.split(",") for line in SOUND.decode().splitlines()]
    for row, column, cell in changes:
        rows[row + 1][column] = cell
    folder = tmp_path_factory.mktemp("cells")
    (folder / "rec.csv").write_text("\n".join(separator.join(row) for row in rows) + "\n", encoding="utf-8", newline="")
    outcome = read(folder)
    check(outcome)
    plain = not any(c in cell for _, column, cell in changes for c in '"\x00\ufeff\t\n,') and all(
        column for _, column, _ in changes
    )
    if plain and separator == "," and not isinstance(outcome, ConveyorGuardError):
        (session,) = outcome
        touched = {row for row, _, _ in changes}
        assert {t for t in range(12) if t not in touched} <= set(session.time.tolist()), "a sound row was lost"


@settings(max_examples=100)
@given(st.integers(0, 2000), st.integers(1, 60), st.binary(max_size=60))
def test_a_damaged_parquet_file(tmp_path_factory, at, length, piece):
    stream = io.BytesIO()
    pd.read_csv(io.BytesIO(SOUND)).to_parquet(stream, index=False)
    raw = stream.getvalue()
    at %= len(raw)
    folder = tmp_path_factory.mktemp("parquet")
    (folder / "rec.parquet").write_bytes(raw[:at] + piece + raw[at + length :])
    check(read(folder))


@settings(max_examples=100)
@given(st.integers(0, 140), st.integers(0, 40), st.binary(max_size=20))
def test_a_damaged_array_of_frames(tmp_path_factory, at, length, piece):
    stream = io.BytesIO()
    np.save(stream, np.zeros((3, 4, 5), np.float32))
    raw = stream.getvalue()
    path = tmp_path_factory.mktemp("frames") / "rec.npy"
    path.write_bytes(raw[:at] + piece + raw[at + length :])
    try:
        frames = open_frames(path, (4, 5))
    except DataError as error:
        assert "rec.npy" in str(error)
        return
    assert frames.ndim == 3 and frames.shape[1:] == (4, 5) and frames.dtype.kind in "fiu"


@pytest.mark.parametrize("name", ["rec.csv", "rec.parquet"])
def test_what_is_no_regular_file_is_told_or_left_alone(name, tmp_path):
    os.mkfifo(tmp_path / name)
    (tmp_path / "other.csv").write_bytes(SOUND)
    (tmp_path / "loop").symlink_to(tmp_path)
    (session,) = read(tmp_path)
    assert session.name == "other" and len(session.time) == 12


def prepare_folder(root):
    """Prepare a folder; return the store, and reason and message of each skipped session."""
    store = prepare(sessions, SCHEMA, root, root.parent / "cache", "x", jobs=1)
    return store, {
        skip["session"]: f"{skip['reason']}: {skip['message']}" for skip in store.manifest["skipped_sessions"]
    }


def as_parquet(path, **changes):
    pd.read_csv(io.BytesIO(SOUND)).assign(**changes).to_parquet(path, index=False)


BROKEN = {
    "a field without an end": (
        lambda path: path.with_suffix(".csv").write_bytes(SOUND.replace(b"1.25", b'"' + b"x" * 200_000, 1)),
        "row 2: expected fields of at most 131,072 characters",
        "close the quotation mark",
    ),
    "a name without an end": (
        lambda path: path.with_suffix(".csv").write_bytes(SOUND.replace(b"state", b'state,"' + b"x" * 200_000, 1)),
        "row 1: expected fields of at most 131,072 characters",
        "close the quotation mark",
    ),
    "bytes": (
        lambda path: as_parquet(path.with_suffix(".parquet"), heat=[b"\xff"] * 12),
        "column 'heat': found '\\xff', expected a number",
        "a blank cell",
    ),
    "dates": (
        lambda path: as_parquet(path.with_suffix(".parquet"), heat=pd.Timestamp("2024-01-01")),
        "column 'heat': found '2024-01-01",
        "a blank cell",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_skipped_and_told_and_the_others_are_read(case, tmp_path):
    spoil, problem, remedy = BROKEN[case]
    root = tmp_path / "set"
    root.mkdir()
    (root / "sound.csv").write_bytes(SOUND)
    spoil(root / "rec")
    store, skipped = prepare_folder(root)
    assert set(store.to_frame()["session"]) == {"sound"} and len(store.to_frame()) == 12
    assert skipped["rec"].startswith("unreadable: ") and "rec." in skipped["rec"]
    assert problem in skipped["rec"] and remedy in skipped["rec"]


def test_a_date_before_the_clock_of_pandas_costs_its_row(tmp_path):
    days = [b"01.01.0000" if second == 3 else b"01.02.2024" for second in range(12)]
    lines = [b"%s 10:00:%02d,20,1,fine" % (day, second) for second, day in enumerate(days)]
    (tmp_path / "rec.csv").write_bytes(b"\n".join([b"time,heat,amps,state", *lines]))
    (session,) = read(tmp_path)
    assert session.time.tolist() == [0, 1, 2, *range(4, 12)]
    assert [(row.reason, row.where) for row in session.dropped] == [
        ("bad_time", "rec.csv: row 5 (01.01.0000 10:00:03)")
    ]


def test_a_file_and_a_folder_that_may_not_be_read_are_told(tmp_path, monkeypatch):
    """Rights do not stop the user who runs the tests in a container, so that the system's answer is put in their
    place."""
    root = tmp_path / "set"
    (root / "locked").mkdir(parents=True)
    for name in ("sound.csv", "rec.csv"):
        (root / name).write_bytes(SOUND)
    scandir, opened = os.scandir, Path.open

    def refuse(path="."):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    def refuse_file(path, *arguments, **options):
        if path.name == "rec.csv":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "open", refuse_file)
    store, skipped = prepare_folder(root)
    assert set(store.to_frame()["session"]) == {"sound"}
    assert "rec.csv: cannot be read (Permission denied); give yourself the right" in skipped["rec"]
    assert "unreadable_folder: locked: this folder cannot be looked into (Permission denied)" in skipped["locked"]
    assert str(tmp_path) not in str(skipped)


@pytest.mark.parametrize("other", ["rec.tsv", "rec.parquet", "rec.CSV"])
def test_two_files_of_one_name_are_told_and_the_first_is_read(other, tmp_path):
    (tmp_path / "set").mkdir()
    if other == "rec.parquet":
        as_parquet(tmp_path / "set" / other, heat=99.0)
    else:
        (tmp_path / "set" / other).write_bytes(SOUND.replace(b",", b"\t"))
    (tmp_path / "set" / "rec.csv").write_bytes(SOUND)
    store, skipped = prepare_folder(tmp_path / "set")
    first, second = sorted([other, "rec.csv"])
    assert len(store.to_frame()) == 12
    problem = f"duplicate_session: two files of one name: {first} was read, {second} was not; remove or rename"
    assert skipped["rec"].startswith(problem)
    with pytest.raises(DataError, match="strict=true: two files of one name"):
        prepare(sessions, SCHEMA, tmp_path / "set", tmp_path / "strict", "x", strict=True, jobs=1)


def test_a_parquet_file_may_have_its_suffix_in_capitals(tmp_path):
    as_parquet(tmp_path / "rec.PARQUET")
    (session,) = read(tmp_path)
    assert len(session.time) == 12


def test_a_header_of_many_columns_of_one_name_is_read_at_once(tmp_path):
    (tmp_path / "wide.csv").write_bytes(b"a" + b"," * 150_000 + b"\n1" + b"," * 150_000 + b"\n")
    began = time.process_time()
    assert columns.read(tmp_path / "wide.csv", "utf-8", ["a"]).frame["a"].tolist() == ["1"]
    assert time.process_time() - began < 5


@pytest.mark.parametrize("date", ["9999-12-31 00:00:00", "0001-01-01 00:00:00", "1677-01-01 00:00:00"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_date_that_stands_for_none_costs_its_row(date, suffix, tmp_path):
    times = [f"2024-01-31 10:00:{t:02d}" for t in range(12)]
    table = pd.read_csv(io.BytesIO(SOUND)).assign(time=[*times[:5], date, *times[6:]])
    if suffix == "csv":
        table.to_csv(tmp_path / "rec.csv", index=False)
    else:
        table.assign(time=table["time"].to_numpy("datetime64[us]")).to_parquet(tmp_path / "rec.parquet", index=False)
    (session,) = read(tmp_path)
    assert session.time.tolist() == [*range(5), *range(6, 12)]
    assert [row.reason for row in session.dropped] == ["bad_time"]


def test_a_file_whose_name_is_no_text_is_told_and_the_others_are_read(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rec.csv").write_bytes(SOUND)
    (tmp_path / "set" / "odd\udcff.csv").write_bytes(SOUND)
    store, skipped = prepare_folder(tmp_path / "set")
    assert set(store.to_frame()["session"]) == {"rec"}
    (message,) = skipped.values()
    assert (
        message
        == "bad_name: odd\\udcff.csv: expected a name in UTF-8, found bytes that are none, and it was not read; "
        "rename it"
    )


def test_what_the_store_finds_in_a_table_is_told_with_file_and_row(tmp_path):
    from PIL import Image

    schema = Schema.from_config({**SCHEMA.to_dict(), "thermal": {"shape": [4, 5], "stored": [2, 2], "valid": [0, 90]}})
    root = tmp_path / "set"
    (root / "thermal" / "rec").mkdir(parents=True)
    (root / "rec.csv").write_bytes(SOUND.replace(b"27.5", b"nan"))
    for second in range(1, 12):  # the first has none
        Image.fromarray(np.full((4, 5), 99 if second == 5 else 30, np.uint8)).save(
            root / "thermal/rec" / f"{second}.png"
        )
    manifest = prepare(sessions, schema, root, tmp_path / "cache", "x", jobs=1).manifest
    assert manifest["dropped_examples"]["bad_frame"][0]["where"] == "rec: the frame of rec.csv: row 7"
    (repaired,) = manifest["repaired_examples"]
    assert repaired.startswith("rec.csv: row 9: second 7: expected numbers") and "found heat = nan; " in repaired


def test_parquet_whose_column_names_are_no_text_is_refused_by_name(tmp_path):
    as_parquet(tmp_path / "rec.parquet")
    raw = (tmp_path / "rec.parquet").read_bytes()
    (tmp_path / "rec.parquet").write_bytes(raw.replace(b"heat", b"\x80eat"))
    error = read(tmp_path)
    assert isinstance(error, DataError) and "rec.parquet: cannot be read as parquet" in str(error)
