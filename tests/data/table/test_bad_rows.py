"""Bad input: the file, the row, the column, the problem, the remedy."""

import numpy as np
import pytest

from conveyorguard.data.table import reader as table
from conveyorguard.errors import ConfigError, DataError
from tests.data.table.plant import N, schema_of, stored

pytestmark = pytest.mark.promise(
    "input",
    "A defect in a table of one's own costs its row, picture or file and is named. A picture is never "
    "executed (PostScript).",
)

BAD_ROWS = {
    "a word": ("heat", "ERR", "bad_number", "column 'heat': found 'ERR', expected a number"),
    "underscore": ("heat", "1_0", "bad_number", "found '1_0'"),
    "quoted decimal comma": ("Current (A)", "3,5", "bad_number", "column 'Current (A)': found '3,5'.*point"),
    "thousands or decimals": ("heat", "1,234", "bad_number", "point"),
    "no state": ("state", "", "bad_state", "column 'state': found '', expected one of ok, worn, failing"),
    "another state": ("state", "burnt", "bad_state", "found 'burnt'"),
    "no time": ("time", "", "bad_time", "column 'time': found '', expected a time"),
    "far time": ("time", "9e12", "bad_time", "near the others"),
    "same second": ("time", "6", "duplicate_second", "second 6 is there already"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_costs_its_second_and_strict_names_it(case, tmp_path, frame):
    column, cell, reason, words = BAD_ROWS[case]
    frame = frame.astype({column: str})
    frame.loc[7, column] = cell
    root = tmp_path / "set"
    root.mkdir()
    frame.to_csv(root / "rec.csv", index=False)
    store = stored(root, tmp_path)
    assert store.to_frame()["time"].tolist() == [t for t in range(N) if t != 7]
    assert store.manifest["counts"]["dropped_frames"] == {reason: 1}
    assert f"1 {reason}" in store.summary()
    with pytest.raises(
        DataError, match=rf"strict=true: rec\.csv: row 9: .*{words.replace('(', '[(]').replace(')', '[)]')}"
    ):
        stored(root, tmp_path, strict=True)


@pytest.mark.parametrize("row", ["5", "5,1,2,3,ok,1", "5,1"])
def test_a_ragged_row_is_counted(row, read, frame):
    lines = frame.to_csv(index=False).splitlines()
    lines[6] = row
    session = read("\n".join([*lines[:3], "", *lines[3:], ""]))
    assert session.time.tolist() == [t for t in range(N) if t != 5]
    (dropped,) = session.dropped
    assert (dropped.reason, dropped.where) == (
        "ragged_row",
        "rec.csv: row 8",
    ) and "expected 5 fields" in dropped.message


@pytest.mark.parametrize("word", ["", "NaN", "NULL", "n/a", "inf", "-Inf"])
def test_what_is_missing_is_repaired_and_flagged(word, tmp_path, frame):
    frame = frame.astype({"heat": str})
    frame.loc[7, "heat"] = word
    frame.to_csv(tmp_path / "rec.csv", index=False)
    store = stored(tmp_path, tmp_path)
    assert store.manifest["counts"]["repaired"] == {"sensor_values": 1, "seconds": 1}
    assert store.to_frame().loc[store.to_frame()["time"] == 7, "heat"].item() == 20 + 6 / 8  # the last value is held
    assert np.flatnonzero(store.to_frame()["quality"]).tolist() == [7]


def test_rows_out_of_order_are_put_in_order(read, frame):
    session = read(frame.sample(frac=1, random_state=0))
    np.testing.assert_allclose(session.sensors[:, 0], frame["heat"])
    assert session.time.tolist() == [*range(N)] and session.notes == ["rows put in the order of their times"]


def test_a_point_among_decimal_commas_may_be_thousands(read, frame):
    lines = frame.to_csv(index=False, sep=";", decimal=",").splitlines()
    lines[4] = lines[4].replace("20,375", "1.234")
    session = read("\n".join(lines))
    assert session.time.tolist() == [t for t in range(N) if t != 3]
    assert "may mean thousands" in session.dropped[0].message


def test_missing_columns_are_named_at_once_with_the_closest(tmp_path, frame):
    frame.rename(columns={"Current (A)": "current_a", "heat": "Heat"}).drop(columns="time").to_csv(
        tmp_path / "r.csv", index=False
    )
    with pytest.raises(DataError) as caught:
        list(table.sessions(tmp_path, schema_of()))
    message = str(caught.value)
    assert "r.csv: 3 columns are missing" in message and "'heat', closest: 'Heat'" in message
    assert (
        "'Current (A)', closest: 'current_a'" in message and "'time'" in message and "columns there: 'Heat'" in message
    )
    assert "python -m conveyorguard schema" in message


def test_one_file_without_the_columns_is_skipped_and_named(tmp_path, frame):
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "parts.csv").write_text("part,price\nbolt,3\n")
    store = stored(tmp_path, tmp_path)
    assert [(s["session"], s["reason"]) for s in store.manifest["skipped_sessions"]] == [("parts", "missing_columns")]
    with pytest.raises(DataError, match=r"strict=true: parts: parts\.csv: 4 columns"):
        stored(tmp_path, tmp_path, strict=True)


BAD_FILES = {
    "empty": (b"", "found an empty file"),
    "header alone": (b"time,heat,Current (A),air,state\n", "expected rows below the header"),
    "other encoding": ("time,heat,Current (A),air,state,°\n1,2,3,4,ok,5\n".encode("cp1252"), "data.reader.encoding"),
    "zero bytes": (b"time,heat\n\0\0\0\0", "zero bytes"),
    "two columns of one name": (
        b"time,heat,heat,Current (A),air,state\n1,2,3,4,5,ok\n",
        "two columns are called 'heat'",
    ),
    "no time": (
        b"time,heat,Current (A),air,state\nnoon,2,3,4,ok\n",
        "column 'time': expected seconds, or dates.*found 'noon'",
    ),
    "no number": (b"time,heat,Current (A),air,state\n1,x,3,4,ok\n", "no usable row .*row 2: column 'heat': found 'x'"),
    "no parquet": (b"PAR1 nonsense", "cannot be read as parquet"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_the_remedy(case, tmp_path):
    content, words = BAD_FILES[case]
    name = "bad.parquet" if "parquet" in case else "bad.csv"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"(?s){name}.*{words}"):
        stored(tmp_path, tmp_path)


def test_another_encoding_can_be_named(read, frame):
    schema = schema_of(channels={"heat": {"unit": "degC", "column": "온도"}})
    text = frame.rename(columns={"heat": "온도"}).to_csv(index=False)
    assert not read(text.encode("cp949"), schema, encoding="cp949").dropped


@pytest.mark.parametrize("make", ["missing", "empty", "excel", "picture"])
def test_a_wrong_root_is_told(make, tmp_path):
    root = tmp_path / "root"
    if make == "picture":
        root = tmp_path / "a.png"
        root.write_text("")
    elif make != "missing":
        root.mkdir()
        if make == "excel":
            (root / "a.xlsx").write_text("")
    with pytest.raises(DataError, match=r"data\.root=") as caught:
        list(table.sessions(root, schema_of()))
    assert {"missing": "no such", "empty": "it is empty", "excel": ".xlsx", "picture": "not a csv"}[make] in str(
        caught.value
    )


def test_two_devices_in_one_recording_are_refused(read, frame):
    frame["machine"] = np.where(frame["time"] < 20, "a", "b")
    with pytest.raises(DataError, match="column 'machine': expected one device per recording, found a, b; split"):
        read(frame, schema_of(columns={"time": "time", "device": "machine"}))


def test_reader_settings_are_refused_all_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        list(
            table.sessions(
                tmp_path, schema_of(), perod=1, period=0, time_unit="weeks", device_pattern="a(", kind_pattern="a"
            )
        )
    for words in ("'perod'", "period=0", "time_unit=weeks", "device_pattern=a(", "kind_pattern=a: put brackets"):
        assert words in str(caught.value)
