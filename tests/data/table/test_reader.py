"""The reader of csv and parquet files: what is written is what is read, whatever form it has."""

import codecs
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conveyorguard.data.table import reader as table
from tests.data.table.plant import STATES, N, schema_of, stored


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
    options = {"time_format": texts[clock]} if clock == "month first" else {}  # not every column decides it
    (item,) = table.sessions(root, schema, time_unit="ms" if clock == "ms" else None, **options)
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
        restored = [pickle.loads(pickle.dumps(item)).read() for item in items]
        assert [s.device for s in restored] == ["m0", "m1", "m0", "m1"] and {s.kind for s in restored} == {"press"}
        assert all(s.time.tolist() == [*range(N)] for s in restored)
        assert [[d.where for d in s.dropped] for s in restored] == [[], ["all.csv: row 61"], [], []]


def test_device_and_kind_from_the_name(tmp_path, frame):
    for name in ("agv/agv1_a", "agv/agv2_b", "oht/oht1_c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    restored = [
        i.read() for i in table.sessions(tmp_path, schema_of(), device_pattern="/([^_]+)_", kind_pattern="^([^/]+)/")
    ]
    assert [(s.name, s.device, s.kind) for s in restored] == [
        ("agv/agv1_a", "agv1", "agv"),
        ("agv/agv2_b", "agv2", "agv"),
        ("oht/oht1_c", "oht1", "oht"),
    ]
    store = stored(tmp_path, tmp_path)
    assert store.manifest["counts"]["sessions"] == 3


def test_hidden_files_and_frames_are_no_recordings(tmp_path, frame):
    for name in ("a.csv", ".~lock.a.csv", "thermal/a.csv", ".cache/b.csv", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        frame.to_csv(tmp_path / name, index=False)
    assert [item.name for item in table.sessions(tmp_path, schema_of())] == ["a"]
