"""The reader of csv and parquet files, the draft of their yaml, and both as a user meets them in the shell."""

import codecs
import functools
import os
import pickle
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from conveyorguard.cli import main
from conveyorguard.config.compose import compose_config
from conveyorguard.data.draft.guess import draft
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Unreadable
from conveyorguard.data.store import prepare
from conveyorguard.data.table import reader as table
from conveyorguard.data.table.camera import LazyFrames
from conveyorguard.data.table.resample import resample
from conveyorguard.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
STATES = ("ok", "worn", "failing")
N = 40


def schema_of(camera=None, **changes):
    node = {
        "columns": {"time": "time", "state": "state"},
        "channels": {"heat": "degC", "amps": {"unit": "A", "scaling": "log", "column": "Current (A)"}},
        "environment": {"air": "degC"},
        "states": [{"name": name} for name in STATES],
    }
    if camera:
        node["thermal"] = {"shape": list(camera), "stored": list(camera), "range": [0, 100], "valid": [-50, 500]}
    return Schema.from_config({**node, **changes})


@pytest.fixture
def frame():
    """A sound recording of N seconds."""
    time = np.arange(N)
    return pd.DataFrame(
        {
            "time": time,
            "heat": 20 + time / 8,
            "Current (A)": 1.5 + time / 4,
            "air": 21.25,
            "state": np.array(STATES)[time * 3 // N],
        }
    )


@pytest.fixture
def read(tmp_path):
    """The one recording of a folder with the given table in it."""

    def make(content, schema=None, name="rec.csv", **options):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path) if path.suffix == ".parquet" else content.to_csv(path, index=False)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8", newline="")
        else:
            path.write_bytes(content)
        (item,) = table.sessions(tmp_path / "set", schema or schema_of(), **options)
        return item.read()

    return make


def stored(root, tmp_path, schema=None, **options):
    return prepare(table.sessions, schema or schema_of(), root, tmp_path / "cache", "t", jobs=1, **options)


# --- what is written is what is read -------------------------------------------------------------------------------


@st.composite
def recordings(draw):
    """Times without order or gaps to rely on, values with what is missing, states."""
    n, channels = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    time = np.sort(draw(st.lists(st.integers(0, 500), min_size=n, max_size=n, unique=True)))
    time -= time[0]
    # neighbouring seconds, or it is a recording of another period
    time = np.arange(n) + np.where(np.arange(n) > n * 2 // 3, draw(st.integers(0, 5)), 0)
    floats = st.floats(-1e6, 1e6, width=32) | st.just(np.nan)
    values = draw(arrays(np.float32, (n, channels), elements=floats))
    return time, values, draw(arrays(np.int64, n, elements=st.integers(0, 2)))


@settings(max_examples=60)
@given(
    recordings(),
    st.sampled_from(["plain", "semicolons and decimal commas", "bom and crlf", "tabs", "parquet", "utf-16"]),
    st.sampled_from(["seconds", "iso", "day first", "month first", "ms"]),
    st.integers(0, 10**6),
)
def test_what_is_written_is_what_is_read(tmp_path_factory, recording, form, clock, start):
    time, values, state = recording
    names = [f"c{i}" for i in range(values.shape[1])]
    moment = pd.Timestamp("2024-01-30 23:59:50") + pd.to_timedelta(time + start, unit="s")
    texts = {"iso": "%Y-%m-%dT%H:%M:%S", "day first": "%d.%m.%Y %H:%M:%S", "month first": "%m/%d/%Y %I:%M:%S %p"}
    written = moment.strftime(texts[clock]) if clock in texts else (time + start) * (1000 if clock == "ms" else 1)
    frame = pd.DataFrame(
        {"when": written, **dict(zip(names, values.astype(float).T, strict=True)), "state": np.array(STATES)[state]}
    )
    root = tmp_path_factory.mktemp("written")
    path = root / {"parquet": "r.parquet", "tabs": "r.tsv"}.get(form, "r.csv")
    if form == "parquet":
        frame.to_parquet(path)
    else:
        text = frame.to_csv(
            index=False,
            sep={"tabs": "\t", "semicolons and decimal commas": ";"}.get(form, ","),
            decimal="," if "commas" in form else ".",
            lineterminator="\r\n" if "crlf" in form else "\n",
        )
        bom = codecs.BOM_UTF8 if "bom" in form else b""
        path.write_bytes(bom + text.encode("utf-16" if form == "utf-16" else "utf-8"))
    schema = schema_of(columns={"time": "when", "state": "state"}, channels=dict.fromkeys(names, "V"), environment={})
    (item,) = table.sessions(root, schema, time_unit="ms" if clock == "ms" else "s")
    session = item.read()
    assert session.name == "r" and not session.dropped and not session.notes
    np.testing.assert_array_equal(session.time, time)
    np.testing.assert_array_equal(session.sensors.astype(np.float32), values)
    np.testing.assert_array_equal(session.state, state)


def test_a_recording_as_it_comes(read, frame):
    session = read(frame)
    assert (session.name, session.device, session.kind) == ("rec", "device", "device")
    np.testing.assert_allclose(session.sensors, frame[["heat", "Current (A)"]])
    np.testing.assert_allclose(session.environment, frame[["air"]])
    assert session.state.tolist() == [STATES.index(word) for word in frame["state"]]


def test_a_date_and_a_time_column_and_lines_above_the_header(read, frame):
    frame.insert(0, "Day", "05.03.2024")
    frame["time"] = [f"23:59:{30 + i}" if i < 30 else f"0:00:{i - 30:02d}" for i in range(N)]
    frame.loc[30:, "Day"] = "06.03.2024"
    text = "# logger 7\n\n" + frame.to_csv(index=False, sep=";")
    session = read(text, schema_of(columns={"time": ["Day", "time"], "state": "state"}))
    assert session.time.tolist() == [*range(N)] and not session.dropped


def test_times_of_day_run_over_midnight(read, frame):
    frame["time"] = [f"23:59:{30 + i}" if i < 30 else f"0:00:{i - 30:02d}" for i in range(N)]
    assert read(frame).time.tolist() == [*range(N)]


def test_without_times_a_row_is_a_period(read, frame):
    assert read(frame, schema_of(columns={"time": None, "state": "state"})).time.tolist() == [*range(N)]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("codes", [[0, 1, 2], [1, 2, 3], [0.0, 1.0, 2.0]], ids=str)
def test_states_by_number_name_or_label(suffix, codes, read, frame):
    wanted = [STATES.index(word) for word in frame["state"]]
    labelled = [{"name": name, "label": str(int(code))} for name, code in zip(STATES, codes, strict=True)]
    frame["state"] = [codes[k] for k in wanted]
    assert read(frame, schema_of(states=labelled), f"rec.{suffix}").state.tolist() == wanted
    if codes[0] == 0:
        assert read(frame, name=f"rec.{suffix}").state.tolist() == wanted


@pytest.mark.parametrize("how", ["no column", "blank", "not in the schema"])
def test_a_recording_without_states_is_accepted(how, read, frame):
    schema = schema_of(columns={"time": "time"}) if how == "not in the schema" else schema_of()
    frame = frame.drop(columns="state") if how == "no column" else frame.assign(state="")
    assert read(frame, schema).state is None


def test_one_file_with_a_session_column(tmp_path, frame):
    whole = pd.concat([frame.assign(run=i, machine=f"m{i % 2}", sort="press") for i in range(4)])
    whole.to_csv(tmp_path / "all.csv", index=False)
    lines = (tmp_path / "all.csv").read_text().splitlines()
    lines.insert(60, "1,2")  # within run 1
    (tmp_path / "all.csv").write_text("\n".join(lines))
    schema = schema_of(
        columns={"session": "run", "device": "machine", "kind": "sort", "time": "time", "state": "state"}
    )
    for root in (tmp_path, tmp_path / "all.csv"):
        items = list(table.sessions(root, schema))
        assert [item.name for item in items] == ["0", "1", "2", "3"]
        found = [pickle.loads(pickle.dumps(item)).read() for item in items]
        assert [s.device for s in found] == ["m0", "m1", "m0", "m1"] and {s.kind for s in found} == {"press"}
        assert all(s.time.tolist() == [*range(N)] for s in found)
        assert [[d.where for d in s.dropped] for s in found] == [[], ["all.csv: row 61"], [], []]


def test_device_and_kind_from_the_name(tmp_path, frame):
    for name in ("agv/agv1_a", "agv/agv2_b", "oht/oht1_c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    found = [
        i.read() for i in table.sessions(tmp_path, schema_of(), device_pattern="/([^_]+)_", kind_pattern="^([^/]+)/")
    ]
    assert [(s.name, s.device, s.kind) for s in found] == [
        ("agv/agv1_a", "agv1", "agv"),
        ("agv/agv2_b", "agv2", "agv"),
        ("oht/oht1_c", "oht1", "oht"),
    ]
    store = stored(tmp_path, tmp_path)
    assert store.manifest["counts"]["sessions"] == 3


def test_hidden_files_and_frames_are_no_recordings(tmp_path, frame):
    for name in ("a.csv", ".~lock.a.csv", "thermal/a.csv", ".cache/b.csv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        frame.to_csv(tmp_path / name, index=False)
    assert [item.name for item in table.sessions(tmp_path, schema_of())] == ["a"]


# --- another period ------------------------------------------------------------------------------------------------


def test_more_frequent_rows_become_means(read, frame):
    many = frame.loc[frame.index.repeat(10)].reset_index(drop=True)
    many["time"] = np.arange(10 * N) / 10
    many["heat"] += np.tile(np.arange(10) - 4.5, N)
    many.loc[5, "heat"] = np.nan
    session = read(many)
    assert session.time.tolist() == [*range(N)]
    np.testing.assert_allclose(session.sensors[1:, 0], frame["heat"][1:])
    assert session.sensors[0, 0] == pytest.approx(20 - 0.5 / 9)
    assert session.state.tolist() == [STATES.index(word) for word in frame["state"]]
    assert session.notes == ["resampled from one row every 0.1 s to 1 s by the mean"]


def test_many_rows_of_one_whole_second_are_no_duplicates(read, frame):
    many = frame.loc[frame.index.repeat(5)]
    session = read(many)
    assert session.time.tolist() == [*range(N)] and not session.dropped
    np.testing.assert_allclose(session.sensors[:, 0], frame["heat"])
    assert session.notes == ["resampled from several rows a period to 1 s by the mean"]


def test_rarer_rows_are_joined_by_lines_and_gaps_stay(read, frame):
    frame["time"] = np.arange(N) * 4 + np.where(np.arange(N) >= 20, 40, 0)
    session = read(frame)
    assert session.time.tolist() == [*range(77), *range(120, 197)]
    np.testing.assert_allclose(session.sensors[:77, 0], 20 + np.arange(77) / 32)
    assert session.notes == ["resampled from 4 s to 1 s by interpolation"]
    state = [STATES.index(word) for word in frame["state"]]
    assert session.state[:77].tolist() == [state[t // 4] for t in range(77)], "a state holds until the next row"


def test_a_clock_that_is_a_little_off_leaves_no_gaps(read, frame):
    frame["time"] = np.arange(N) * 1.03
    assert read(frame).time.tolist() == [*range(int((N - 1) * 1.03) + 1)]


def test_the_period_may_be_another(read, frame):
    frame["time"] = np.arange(N) * 60.0
    session = read(frame, period=60)
    assert session.time.tolist() == [*range(N)] and not session.notes
    with pytest.raises(DataError, match=r"every 600 s.*data\.reader\.period=600"):
        read(frame.assign(time=frame["time"] * 10))


@settings(max_examples=100)
@given(st.integers(2, 60), st.floats(0.05, 20), st.integers(0, 10**6))
def test_a_resampled_line_is_the_same_line(n, interval, seed):
    """A straight line is given back by lines and, in the middle of each second, by means."""
    time = np.arange(n) * interval + np.random.default_rng(seed).uniform(0, 0.1 * interval, n)
    time -= time[0]
    grid = resample(time, (3 + 2 * time)[:, None], 1.0)
    assert (np.diff(grid.second) > 0).all() and grid.second[0] == 0 and grid.second[-1] <= time[-1] + 1
    off = np.abs(grid.values[:, 0] - 3 - 2 * grid.second)
    assert off.max() <= (2.0 if "mean" in grid.note else 0.05)
    assert (np.abs(time[grid.source] - grid.second) <= max(1, 1.5 * interval * 1.2)).all()


# --- bad input: the file, the row, the column, the problem, the remedy ----------------------------------------------

BAD_ROWS = {
    "a word": ("heat", "ERR", "bad_number", "column 'heat': found 'ERR', expected a number"),
    "underscore": ("heat", "1_0", "bad_number", "found '1_0'"),
    "quoted decimal comma": ("Current (A)", "3,5", "bad_number", "column 'Current (A)': found '3,5'.*point"),
    "thousands": ("heat", "1,234.5", "bad_number", "thousands"),
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
    assert store.frames["time"].tolist() == [t for t in range(N) if t != 7]
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
    assert store.frames.loc[store.frames["time"] == 7, "heat"].item() == pytest.approx(20 + 7 / 8)
    assert np.flatnonzero(store.frames["quality"]).tolist() == [7]


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
    with pytest.raises(DataError, match="column 'machine': expected one device a recording, found a, b; split"):
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


# --- the camera ----------------------------------------------------------------------------------------------------

CAMERA = (6, 8)


@pytest.fixture
def camera_set(tmp_path, frame):
    """A recording with frames whose first pixel is the second."""
    root = tmp_path / "set"
    (root / "thermal").mkdir(parents=True)
    frame.to_csv(root / "rec.csv", index=False)
    frames = np.full((N, *CAMERA), 30.0, np.float32)
    frames[:, 0, 0] = np.arange(N)
    np.save(root / "thermal" / "rec.npy", frames)
    return root, frames


def only(root, shape=CAMERA, **options):
    (item,) = table.sessions(root, schema_of(shape), **options)
    return item if isinstance(item, Unreadable) else item.read()


def test_frames_of_an_array_keep_to_their_rows(camera_set, frame):
    root, frames = camera_set
    np.testing.assert_array_equal(only(root).thermal[:], frames)
    frame.drop(index=[3]).sample(frac=1, random_state=0).to_csv(root / "rec.csv", index=False)
    session = only(root)  # N frames for N - 1 rows over N seconds: a frame a second
    assert session.thermal[0:N][:, 0, 0].tolist() == session.time.tolist() == [t for t in range(N) if t != 3]
    bad = frame.astype({"heat": str})
    bad.loc[5, "heat"] = "x"
    bad["time"] += np.where(np.arange(N) > 9, 7, 0)
    bad.to_csv(root / "rec.csv", index=False)
    session = only(root)  # N frames for N rows, one of them bad, over more seconds: a frame a row
    assert session.thermal[0:N][:, 0, 0].tolist() == [t for t in range(N) if t != 5]


@pytest.mark.parametrize("mode", ["L", "I;16", "F"])
def test_pictures_by_the_second_and_their_mapping(mode, camera_set):
    root, frames = camera_set
    (root / "thermal" / "rec.npy").unlink()
    folder = root / "thermal" / "rec"
    folder.mkdir()
    suffix = "tiff" if mode == "F" else "png"
    kind = {"L": np.uint8, "I;16": np.uint16, "F": np.float32}[mode]
    for t, one in enumerate(frames):
        Image.fromarray((one * 2 + 20).astype(kind)).save(folder / f"{t:04d}.{suffix}")
    (folder / f"0004.{suffix}").unlink()
    (folder / f"0005.{suffix}").write_bytes(b"no picture")
    Image.new("RGB", CAMERA[::-1]).save(folder / f"0006.{suffix}")
    Image.fromarray(np.zeros((3, 3), kind)).save(folder / f"0007.{suffix}")
    session = only(root, thermal_scale=0.5, thermal_offset=-10)
    there = [t for t in range(N) if t not in (4, 5, 6, 7)]
    assert session.time.tolist() == there and len(session.sensors) == len(session.state) == len(there)
    np.testing.assert_allclose(session.thermal[:], frames[there])
    messages = {d.where: d.message for d in session.dropped}
    for second, words in {4: "found none", 5: "damaged", 6: "colours (RGB)", 7: "found 3 x 3"}.items():
        assert words in messages[f"rec: second {second}"]


def test_a_picture_cut_short_costs_its_second(camera_set, tmp_path):
    root, frames = camera_set
    (root / "thermal" / "rec.npy").unlink()
    folder = root / "thermal" / "rec"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for t in range(N):
        Image.fromarray(rng.integers(20, 60, CAMERA, np.uint8)).save(folder / f"{t}.png")
    whole = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(whole[: len(whole) * 2 // 3])
    store = stored(root, tmp_path, schema_of(CAMERA))
    assert store.manifest["counts"]["dropped_frames"] == {"bad_frame": 1}
    assert 5 not in store.frames["time"].tolist()


@pytest.mark.parametrize("case", ["pickle", "shape", "count", "objects", "words", "cut"])
def test_a_bad_array_of_frames_is_named_and_nothing_unpickled(case, camera_set, tmp_path):
    root, frames = camera_set
    path = root / "thermal" / "rec.npy"
    tripwire = tmp_path / "tripwire"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tripwire),)

    if case == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif case == "objects":
        np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    elif case == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    else:
        np.save(path, {"shape": frames[:, :3], "count": frames[:7], "words": frames.astype(str)}[case])
    with pytest.raises(DataError, match=r"rec\.npy: (expected|cannot be read)"):
        only(root)
    assert not tripwire.exists()


def test_a_recording_without_frames_is_named(camera_set, frame):
    root, _ = camera_set
    frame.to_csv(root / "other.csv", index=False)
    other, rec = table.sessions(root, schema_of(CAMERA))
    assert isinstance(other, Unreadable) and isinstance(rec, Recording)
    assert "thermal/other.npy" in other.message and "data.schema.thermal=null" in other.message


def test_a_large_camera_is_not_read_at_once(tmp_path, frame):
    (tmp_path / "thermal").mkdir()
    frame.to_csv(tmp_path / "rec.csv", index=False)
    frames = np.lib.format.open_memmap(tmp_path / "thermal" / "rec.npy", "w+", np.uint16, (N, 480, 640))
    frames[:] = 30315
    frames[7, 400, 600] = 36315
    item = only(tmp_path, (480, 640), thermal_scale=0.01, thermal_offset=-273.15)
    assert isinstance(item.thermal, LazyFrames) and item.thermal[5:8].shape == (3, 480, 640)
    schema = schema_of((480, 640), thermal={"shape": [480, 640], "stored": [30, 40]})
    with pytest.raises(
        DataError,
        match=r"no usable frame .rec.npy: the frame of rec.csv: row 2: second 0: expected pixels within "
        r".*data.schema.thermal.valid",
    ):
        stored(tmp_path, tmp_path, schema)
    reader = functools.partial(table.sessions, thermal_scale=0.01, thermal_offset=-273.15)
    store = prepare(reader, schema, tmp_path, tmp_path / "cache", "t", jobs=1)
    assert store.thermal.shape == (N, 2, 30, 40)
    assert store.frames["thermal_max"].to_numpy() == pytest.approx(np.where(np.arange(N) == 7, 90, 30), abs=0.01)


# --- the draft -----------------------------------------------------------------------------------------------------


def write_plant(folder, sessions=12, seconds=150, camera=None, first=0):
    """Recordings of four presses that wear: five channels, the room's temperature, three states, from a seed."""
    folder.mkdir(parents=True)
    for i in range(first, first + sessions):
        rng = np.random.default_rng(i)
        time = np.arange(seconds)
        onset = int(rng.integers(40, 70))
        wear = np.clip((time - onset) / (seconds - onset), 0, 1)
        noise = rng.normal(size=(6, seconds))
        moment = pd.Timestamp("2024-03-05 10:00") + pd.to_timedelta(time + 3600 * i, unit="s")
        name = f"press{i % 4 + 1}_{i:03d}"
        pd.DataFrame(
            {
                "timestamp": moment.strftime("%d.%m.%Y %H:%M:%S"),
                "machine": name.split("_")[0],
                "oil temp [°C]": 40 + 30 * wear + noise[0],
                "motor current (A)": np.exp(1 + 2.5 * wear + 0.1 * noise[1]),
                "vibration": 1 + 4 * wear + 0.2 * np.abs(noise[2]),
                "flow": 20 - 5 * wear + 0.5 * noise[3],
                "rpm": 1450 + 5 * noise[4],
                "ambient temperature": 21 + 0.1 * noise[5],
                "condition": np.array(["sound", "worn", "failing"])[np.where(wear <= 0, 0, np.where(wear < 0.5, 1, 2))],
            }
        ).to_csv(folder / f"{name}.csv", index=False, sep=";", decimal=",", float_format="%.4f")
        if camera:
            (folder / "thermal").mkdir(exist_ok=True)
            frames = 30 + rng.normal(0, 0.3, (seconds, *camera))
            frames[:, 5:9, 7:12] += 40 * wear[:, None, None]
            np.save(folder / "thermal" / f"{name}.npy", frames.astype(np.float16 if camera[0] > 100 else np.float32))


def lines_of(text):
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_a_draft_says_what_is_there(tmp_path):
    write_plant(tmp_path / "plant", sessions=8, camera=(48, 64))
    made = draft(tmp_path / "plant", "plant")
    assert len(lines_of(made.text)) <= 20
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "plant.yaml").write_text(made.text, encoding="utf-8")
    cfg = compose_config([f"--config-dir={tmp_path / 'conf'}", "data=plant"])
    assert cfg.data.schema.columns == {
        "session": None,
        "device": "machine",
        "kind": None,
        "time": "timestamp",
        "state": "condition",
    }
    assert list(cfg.data.schema.channels) == ["oil_temp", "motor_current", "vibration", "flow", "rpm"]
    assert cfg.data.schema.channels.motor_current == {"unit": "A", "column": "motor current (A)", "scaling": "log"}
    assert cfg.data.schema.channels.oil_temp.unit == "degC" and cfg.data.schema.channels.rpm == "1/min"
    assert list(cfg.data.schema.environment) == ["ambient_temperature"]
    assert [s.name for s in cfg.data.schema.states] == ["sound", "worn", "failing"]
    thermal = cfg.data.schema.thermal
    assert (
        thermal.shape == [48, 64]
        and thermal.stored == [24, 32]
        and thermal.range[0] in (28, 29)
        and thermal.reduce == "mean_max"
    )
    assert any("order of their appearance" in line for line in made.odd)
    assert any("split=kfold split.n_folds=4" in line for line in made.odd)


def test_fifty_channels_and_six_states_fit_into_twenty_lines(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        data = {
            "t": np.arange(60),
            **{f"vibration_{k:02d}": rng.normal(size=60) for k in range(50)},
            "label": np.arange(60) // 10 + 1,
        }
        pd.DataFrame(data).to_parquet(tmp_path / f"{i}.parquet")
    made = draft(tmp_path, "mill")
    assert len(lines_of(made.text)) <= 20, made.text
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mill.yaml").write_text(made.text, encoding="utf-8")
    from conveyorguard.runs.data import load_store

    store = load_store(compose_config([f"--config-dir={tmp_path}", "data=mill", f"paths.cache={tmp_path / 'cache'}"]))
    assert len(store.schema.channels) == 50 and set(store.frames["state"]) == {*range(6)}
    assert [state.label for state in store.schema.states] == ["1", "2", "3", "4", "5", "6"]


def test_a_draft_lists_what_is_odd(tmp_path, frame):
    rng = np.random.default_rng(0)
    frame["heat"] += rng.normal(size=N)
    for i in range(3):
        one = frame.assign(stuck=7, operator="Kim", state=STATES[0]).astype({"heat": str})
        if i == 1:
            one = one.drop(index=range(10, 14)).assign(state="")
            one.loc[20, "heat"] = ""
        if i == 2:
            one["extra"] = 1.0
            one.loc[3, "heat"] = "ERR"
            one.loc[30:, "state"] = "worn"
        one.to_csv(tmp_path / f"r{i}.csv", index=False)
    odd = "\n".join(draft(tmp_path, "x").odd)
    for words in (
        "'stuck' is constant or empty in 3 of 3",
        "'operator' holds words",
        "'extra' is in 1 of 3 files only",
        "2 gaps in time",
        "'heat': 0.8",
        "one device only",
        "1 of 3 recordings have no states",
        "state 'worn' is in 1 of 2",
        "3 recordings: training",
        "1 rows left out, bad_number: r2.csv: row 5: column 'heat': found 'ERR'",
        "unit not known",
    ):
        assert words in odd, (words, odd)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pd.DataFrame({"ts": 1_700_000_000_000 + 1000 * np.arange(N)}), "time_unit: ms"),
        (pd.DataFrame({"stamp": [f"202403051000{i:02d}" for i in range(N)]}), "time_format: '%Y%m%d%H%M%S'"),
        (pd.DataFrame({"Date": "05.03.2024", "Time": [f"10:00:{i:02d}" for i in range(N)]}), "time: [Date, Time]"),
        (pd.DataFrame({"reading": np.sin(np.arange(N))}), "time: null"),
        (pd.DataFrame({"t": np.arange(N) * 300}), "period: 300"),
        (pd.DataFrame({"run": np.repeat(range(4), N // 4), "t": np.tile(np.arange(N // 4), 4)}), "session: run"),
    ],
    ids=lambda value: "" if isinstance(value, pd.DataFrame) else value,
)
def test_a_draft_finds_the_time(content, words, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(2 if "session" not in words else 1):
        content.assign(heat=rng.normal(size=N), state=np.arange(N) % 2).to_csv(tmp_path / f"r{i}.csv", index=False)
    assert words in draft(tmp_path, "x").text


def test_the_verb_writes_a_file_once_and_where_hydra_finds_it(tmp_path, monkeypatch, capsys, frame):
    (tmp_path / "my plant").mkdir()
    frame.to_csv(tmp_path / "my plant" / "a.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert main(["schema", "my plant"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "conf/data/my_plant.yaml" and "train --config-dir conf data=my_plant" in printed
    assert main(["schema", "my plant"]) == 2 and "is there already" in capsys.readouterr().err
    assert main(["schema", "my plant", "out=plant.yaml"]) == 2 and "out=conf/data/plant.yaml" in capsys.readouterr().err
    assert main(["schema", "nowhere"]) == 2 and "no such folder" in capsys.readouterr().err


def test_a_table_without_a_schema_says_how_to_get_one(tmp_path, capsys):
    assert main(["prepare", "data=table", f"data.root={tmp_path}"]) == 2
    assert "python -m conveyorguard schema" in capsys.readouterr().err


# --- as a user would -----------------------------------------------------------------------------------------------


def shell(line, cwd):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CONVEYORGUARD_CACHE": str(cwd / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "conveyorguard", *shlex.split(line)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("camera", [None, (240, 320)], ids=["no camera", "240 x 320"])
def test_from_a_folder_of_csv_to_a_page_and_alarms(camera, tmp_path):
    """The README's commands in an empty folder, in under ten minutes: five channels, three states."""
    began = time.monotonic()
    write_plant(tmp_path / "recordings", camera=camera)
    written, _ = shell("schema recordings out=conf/data/plant.yaml", tmp_path)
    assert written.splitlines()[-2] == "Look at it, then: python -m conveyorguard train --config-dir conf data=plant"
    assert len(lines_of((tmp_path / "conf" / "data" / "plant.yaml").read_text(encoding="utf-8"))) <= 20
    printed, said = shell("train --config-dir conf data=plant threads=1", tmp_path)
    run = tmp_path / printed.splitlines()[-1]
    assert "12 sessions" in said
    predictions = pd.read_parquet(run / "predictions.parquet")
    test = predictions[predictions["split"] == "test"]
    assert (
        {"p0", "p1", "p2"} <= {*test} and "p3" not in test and set(test["device"]) <= {f"press{i}" for i in range(1, 5)}
    )
    assert (test["y_true"] == test["y_pred"]).mean() > 0.7
    assert "oil_temp" in (run / "report.html").read_text(encoding="utf-8") and (run / "MODEL_CARD.md").exists()

    new = tmp_path / "new"
    write_plant(new, sessions=6, camera=camera, first=50)
    for path in sorted(new.glob("*.csv")):  # as they come from a machine: nobody has labelled them
        table = pd.read_csv(path, sep=";", decimal=",").drop(columns="condition")
        if path.stem.startswith("press1"):
            table = table.drop(columns="flow")
        if path.stem.startswith("press2"):
            table["rpm"] = 1450.0
        table.to_csv(path, index=False, sep=";", decimal=",")
    printed, _ = shell(f"predict {shlex.quote(str(run))} data.root=new out=predicted", tmp_path)
    out = tmp_path / "predicted"
    assert printed.splitlines()[-1] == "predicted/predictions.html"
    recordings = pd.read_csv(out / "recordings.csv", keep_default_na=False).set_index("session")
    alarms = pd.read_csv(out / "alarms.csv")
    assert len(recordings) == 6 and set(recordings["worst_state"]) == {"failing"}
    assert len(set(alarms["session"])) >= 4 and (alarms["begin"] >= 29).all()
    for name, told in recordings["unlike_training"].items():
        assert ("flow is missing" in told) == name.startswith("press1"), (name, told)
        assert ("rpm stands at 1450" in told) == name.startswith("press2"), (name, told)
    page = (out / "predictions.html").read_text(encoding="utf-8")
    assert all(name in page for name in recordings.index) and ("thermal frames up to the alarm" in page) == (
        camera is not None
    )
    took = time.monotonic() - began
    print(f"csv to page and alarms in {took:.0f} s")
    assert took < 600


@pytest.mark.slow
def test_pictures_one_a_second_from_the_shell(tmp_path):
    """48 x 64 pixels, 8 bits, half a degree a step; trees, on devices never trained on."""
    write_plant(tmp_path / "recordings", camera=(48, 64))
    for path in sorted((tmp_path / "recordings" / "thermal").glob("*.npy")):
        folder = path.with_suffix("")
        folder.mkdir()
        for second, frame in enumerate(np.load(path)):
            Image.fromarray(np.clip(frame * 2, 0, 255).astype(np.uint8)).save(folder / f"{second}.png")
        path.unlink()
    shell("schema recordings out=conf/data/plant.yaml", tmp_path)
    plant = "--config-dir conf data=plant data.reader.thermal_scale=0.5"
    printed, _ = shell(f"train {plant} split=kfold split.n_folds=4 model=lightgbm", tmp_path)
    predictions = pd.read_parquet(tmp_path / printed.splitlines()[-1] / "predictions.parquet").query("split == 'test'")
    assert (predictions["y_true"] == predictions["y_pred"]).mean() > 0.7 and predictions["device"].nunique() == 1
