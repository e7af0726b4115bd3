"""A plant's own files, broken in any way: a named error or the rows that are sound, never anything else."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.data.frames import open_frames
from conveyorguard.data.schema import Recording, Schema
from conveyorguard.data.table import sessions
from conveyorguard.errors import ConveyorGuardError, DataError

SCHEMA = Schema.from_config({
    "columns": {"time": "time", "state": "state"}, "channels": {"heat": {"unit": "degC"}, "amps": {"unit": "A"}},
    "states": [{"name": "fine"}, {"name": "worn"}],
})  # fmt: skip
SOUND = b"time,heat,amps,state\n" + b"".join(
    b"%d,%d.5,1.25,%s\n" % (t, 20 + t, b"fine" if t < 6 else b"worn") for t in range(12)
)
CELLS = ["", "nan", "inf", "-inf", "1e999", "1,5", "1.234,5", "0x10", "1_0", "hot", '"', '"a\nb"', "\t", "１", "2024-02-30", "99:99:99", "-1", "1e300",
         "99999999999999999999", "fine", "\x00", "\ufeff", "é"]  # fmt: skip


def read(folder: Path):
    """Everything a folder gives: sessions read, or the named error."""
    try:
        found = list(sessions(folder, SCHEMA))
        return [item.read() for item in found if isinstance(item, Recording)]
    except ConveyorGuardError as error:
        assert "rec" in str(error) or str(folder) in str(error) or "data." in str(error), (
            f"an error without its place: {error}"
        )
        assert len(str(error)) > 20
        return error


def check(found):
    if isinstance(found, ConveyorGuardError):
        return
    for session in found:
        n = len(session.time)
        assert session.sensors.shape == (n, 2) and (np.diff(session.time) >= 0).all() and n > 0
        assert session.state is None or set(session.state.tolist()) <= {0, 1}
        for told in session.dropped:
            assert ("rec" in told.where and "found" in told.message) or told.reason == "duplicate_second"


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
    found = read(folder)
    check(found)
    plain = not any(c in cell for _, column, cell in changes for c in '"\x00\ufeff\t\n,') and all(
        column for _, column, _ in changes
    )
    if plain and separator == "," and not isinstance(found, ConveyorGuardError):
        (session,) = found
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
    import os

    os.mkfifo(tmp_path / name)
    (tmp_path / "other.csv").write_bytes(SOUND)
    (tmp_path / "loop").symlink_to(tmp_path)
    (found,) = read(tmp_path)
    assert found.name == "other" and len(found.time) == 12
