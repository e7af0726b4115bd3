"""Shapes of files: packed, sheets, without a header, with units, thousands and fill values, of several encodings."""

import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.data.table import columns
from conveyorguard.data.table import reader as table
from conveyorguard.errors import DataError
from tests.data.table.plant import N, schema_of


def zipped(text, *names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, text)
    return stream.getvalue()


def sheet(frame, *names):
    stream = io.BytesIO()
    with pd.ExcelWriter(stream) as writer:
        for name in names:
            frame.to_excel(writer, sheet_name=name, index=False)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["rec.csv.gz", "rec.csv.zip", "rec.zip", "rec.xlsx", "rec.TSV.GZ"])
def test_packed_files_and_sheets_are_read_as_plain_ones(form, read, frame, tmp_path):
    plain = read(frame)
    text = frame.to_csv(index=False, sep="\t" if "TSV" in form else ",")
    content = {"gz": gzip.compress(text.encode()), "zip": zipped(text, "x/inner.csv", "x/readme.txt")}
    frame["time"] = pd.Timestamp("2024-03-05 10:00") + pd.to_timedelta(frame["time"], unit="s")
    content["xlsx"] = sheet(frame, "data")
    (tmp_path / "set" / "rec.csv").unlink()
    session = read(content[form.lower().rpartition(".")[2]], name=form)
    assert session.name == "rec" and session.time.tolist() == plain.time.tolist() and not session.dropped
    np.testing.assert_allclose(session.sensors, plain.sensors)
    assert session.state.tolist() == plain.state.tolist()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.csv.gz", b"no gzip at all", "cannot be unpacked"),
        ("r.csv.gz", gzip.compress(b"time,heat\n1,2\n" * 99)[:40], "cannot be unpacked"),
        ("r.zip", b"no zip at all", "cannot be unpacked"),
        ("r.zip", zipped("a,b\n", "a.csv", "b.csv"), "expected one csv or tsv file in it, found 2; unpack it"),
        ("r.zip", zipped("a", "a.txt"), "expected one csv or tsv file in it, found 0; unpack it"),
        ("r.xlsx", b"no sheet", "cannot be read as xlsx"),
        ("r.xlsx", sheet(pd.DataFrame({"a": [1]}), "one", "two"), "expected one sheet with cells, found 'one', 'two'"),
    ],
    ids=["text as gz", "cut gz", "text as zip", "two tables", "no table", "text as xlsx", "two sheets"],
)
def test_what_cannot_be_unpacked_is_refused_by_name(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"(?s){name}: .*{words}"):
        list(table.sessions(tmp_path, schema_of()))


@pytest.mark.parametrize(
    "text",
    [
        "1.0,0.0,1.06,1.06\n1.0,1.0,1.17,0.92\n1.0,2.0,0.97,0.94\n",
        "2024-03-05 10:00:00;1,5;ok\n2024-03-05 10:00:01;1,6;ok\n",
        "0\t1e-3\n1\t2e-3\n",
    ],
)
def test_a_file_without_a_header_says_so(text, tmp_path):
    (tmp_path / "r.csv").write_text(text)
    for wanted in ([], ["time", "heat"]):
        with pytest.raises(
            DataError, match=r"r\.csv: row 1: the first line is numbers .*no header; add one, e\.g\. time"
        ):
            columns.header(tmp_path / "r.csv", wanted=wanted)


@pytest.mark.parametrize("text", ["time,1,2,state\n0,1.5,2.5,ok\n1,1.5,2.5,ok\n", "10,20,30\n", "a,b\nx,y\n"])
def test_a_header_with_numbers_in_it_is_one(text, tmp_path):
    (tmp_path / "r.csv").write_text(text)
    assert columns.header(tmp_path / "r.csv") == text.split("\n")[0].split(",")


def test_a_row_of_units_is_no_row_and_told(read, frame, tmp_path):
    lines = frame.to_csv(index=False).splitlines()
    session = read("\n".join([lines[0], "s,°C,A,degC,-", *lines[1:]]))
    assert session.time.tolist() == [*range(N)] and not session.dropped
    assert session.notes == ["the row below the header is taken for units (s, °C, A, degC)"]
    assert session.where("sensors", 0).endswith("row 3")
    assert columns.read(tmp_path / "set" / "rec.csv").units == {
        "time": "s",
        "heat": "°C",
        "Current (A)": "A",
        "air": "degC",
    }


def test_words_in_the_first_row_beside_a_time_are_no_units(read, frame):
    frame = frame.astype({"heat": str})
    frame.loc[0, "heat"] = "ERR"
    session = read(frame)
    assert [d.reason for d in session.dropped] == ["bad_number"] and len(session.time) == N - 1


def in_english(value):
    return f'"{value:,.2f}"'


def in_german(value):
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


@settings(max_examples=60)
@given(
    st.lists(st.floats(-9e6, 9e6).map(lambda v: round(v, 2)), min_size=2, max_size=20),
    st.sampled_from([(in_english, ","), (in_german, ";"), (in_english, ";")]),
)
def test_thousands_are_read_rightly_or_refused(tmp_path_factory, values, form):
    write, separator = form
    root = tmp_path_factory.mktemp("thousands")
    rows = [separator.join(map(str, (i, write(value)))) for i, value in enumerate(values)]
    (root / "r.csv").write_text("\n".join([separator.join(["time", "heat"]), *rows]))
    read = columns.read(root / "r.csv")
    values_read, bad = columns.numbers(read, ["heat"])
    expected = np.array(values)
    assert bad[:, 0].any() or not np.isnan(values_read).any()
    np.testing.assert_array_equal(values_read[~bad[:, 0], 0], expected[~bad[:, 0]])
    if any(abs(value) >= 1000 for value in values):
        assert not bad.any(), "a number shows which sign is which"


def test_a_fill_value_is_told_and_left_out_on_request(read, frame):
    frame.loc[[3, 7, 20], "heat"] = -9999
    session = read(frame)
    assert session.notes == [
        "column 'heat': -9999 comes 3 times, far from all other values: if it stands for a missing one, set "
        "data.reader.missing=[-9999]"
    ]
    session = read(frame, missing=[-9999])
    assert np.flatnonzero(np.isnan(session.sensors[:, 0])).tolist() == [3, 7, 20] and not session.notes
    frame = frame.astype({"heat": str})
    frame.loc[[3, 7], "heat"] = "no signal"
    frame.loc[20, "heat"] = "-"
    session = read(frame, missing=["no signal"])
    assert np.flatnonzero(np.isnan(session.sensors[:, 0])).tolist() == [3, 7, 20] and not session.dropped


def test_usual_values_are_no_fill_values(read, frame):
    frame["heat"] = np.where(np.arange(N) % 2, 999.0, 950.0)
    assert not read(frame).notes


def test_files_of_several_encodings_in_one_folder(tmp_path, frame):
    schema = schema_of(channels={"heat": {"unit": "degC", "column": "온도"}})
    text = frame.rename(columns={"heat": "온도"}).to_csv(index=False)
    for name, encoding in (("a", "cp949"), ("b", "utf-8"), ("c", "utf-16")):
        (tmp_path / f"{name}.csv").write_bytes(text.encode(encoding))
    for item in table.sessions(tmp_path, schema, encoding="cp949"):
        np.testing.assert_allclose(item.read().sensors[:, 0], frame["heat"])


def test_a_bad_row_is_told_with_the_time_of_the_file(read, frame):
    frame = frame.astype({"heat": str})
    frame["time"] = (pd.Timestamp("2024-03-05 10:00") + pd.to_timedelta(frame["time"], unit="s")).dt.strftime(
        "%d.%m.%Y %H:%M:%S"
    )
    frame.loc[7, "heat"] = "ERR"
    frame.loc[9, "time"] = frame.loc[8, "time"]
    session = read(frame)
    assert [d.where for d in session.dropped] == [
        "rec.csv: row 9 (05.03.2024 10:00:07)",
        "rec.csv: row 11 (05.03.2024 10:00:08)",
    ]
    assert session.where("sensors", 0) == "rec.csv: row 2 (2024-03-05 10:00:00)"


def test_counter_that_wraps_is_refused_not_sorted(tmp_path):
    rows = np.arange(200)
    frame = pd.DataFrame({"time": rows % 64, "heat": rows, "Current (A)": 1.0, "air": 2.0, "state": "ok"})
    frame.to_csv(tmp_path / "a.csv", index=False)
    (recording,) = table.sessions(tmp_path, schema_of())
    with pytest.raises(DataError, match=r"column 'time': the time begins anew 3 times \(from 63 s to 0 s\)"):
        recording.read()


def test_blocks_of_rows_out_of_order_are_sorted(tmp_path):
    rows = np.r_[100:200, 0:100]
    frame = pd.DataFrame({"time": rows, "heat": rows, "Current (A)": 1.0, "air": 2.0, "state": "ok"})
    frame.to_csv(tmp_path / "a.csv", index=False)
    (recording,) = table.sessions(tmp_path, schema_of())
    assert recording.read().sensors[:, 0].tolist() == list(range(200))
