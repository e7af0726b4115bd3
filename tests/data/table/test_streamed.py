"""Large files are read in blocks of rows; the result is that of reading all rows at once."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.data.table import blocks, streamed
from conveyorguard.data.table import reader as table
from tests.data.table.plant import schema_of

ROWS = 900


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 3000)
    monkeypatch.setattr(blocks, "HEAD", 3000)


def recording(step=1.0, rows=ROWS):
    rng = np.random.default_rng(rows)
    return pd.DataFrame(
        {
            "time": np.round(np.arange(rows) * step, 6),
            "heat": np.round(rng.normal(40, 3, rows), 3),
            "Current (A)": np.round(rng.lognormal(1, 1, rows), 3),
            "air": np.round(rng.normal(21, 1, rows), 2),
            "state": np.repeat(["ok", "worn", "failing"], rows // 3),
        }
    )


def dates(frame, form, start="2024-03-05 10:00"):
    moments = pd.Timestamp(start) + pd.to_timedelta(frame["time"], unit="s")
    return frame.assign(time=moments.dt.strftime(form))


def plain():
    return recording().to_csv(index=False)


def decimal_commas():
    return dates(recording(), "%d.%m.%Y %H:%M:%S").to_csv(index=False, sep=";", decimal=",")


def comma_only_in_the_last_rows():
    frame = recording().astype({"heat": str})
    frame["heat"] = [str(i) for i in range(ROWS - 1)] + ["7,5"]
    return frame.assign(**{"Current (A)": 3, "air": 4}).to_csv(index=False, sep=";")


def thousands_in_the_middle():
    frame = recording().astype({"heat": str})
    frame.loc[500:, "heat"] = "1,234.5"
    frame.loc[:499, "heat"] = "1,234"
    return frame.to_csv(index=False)


def header_below_a_title_with_units():
    body = recording().to_csv(index=False).split("\n", 1)
    return "Logger 7\nexported\n" + body[0] + "\ns,degC,A,degC,-\n" + body[1]


def mixed_fractions_of_dates():
    frame = dates(recording(0.5), "%Y-%m-%d %H:%M:%S.%f")
    frame["time"] = frame["time"].str.replace(".000000", "")
    return frame.to_csv(index=False)


def day_first_that_a_later_block_decides():
    return dates(recording(3600), "%d/%m/%Y %H:%M", "2024-03-01").to_csv(index=False), {"period": 3600}


def bad_rows():
    lines = recording().to_csv(index=False).splitlines()
    lines[10] += ",7"
    lines[20] = ""
    lines[30] = lines[30].replace(",", ",x", 1)
    lines[400] = "when" + lines[400]
    lines[500] = lines[500].replace("worn", "odd")
    lines[600] = lines[599]
    return "\n".join([*lines, "", ""])


def states_only_in_the_last_rows():
    frame = recording()
    frame.loc[: ROWS - 20, "state"] = ""
    return frame.to_csv(index=False)


def no_states():
    return recording().assign(state="").to_csv(index=False)


def many_rows_a_period():
    return recording(0.01).to_csv(index=False), {"period": 0.1}


def many_rows_a_period_with_dates_and_gaps():
    frame = dates(recording(0.05), "%Y-%m-%dT%H:%M:%S.%fZ").drop(range(200, 320))
    return frame.to_csv(index=False)


def fill_values():
    frame = recording()
    frame.loc[[5, 300, 800], "heat"] = 9999
    return frame.to_csv(index=False)


def missing_words():
    frame = recording().astype({"heat": str})
    frame.loc[[5, 300, 800], "heat"] = ["NA", "no signal", ""]
    return frame.to_csv(index=False), {"missing": ["no signal", 21]}


def rare_rows_that_are_held():
    return recording(4).to_csv(index=False)


def epochs_in_ms():
    frame = recording()
    return frame.assign(time=(frame["time"] * 1000 + 1709632800000).astype("int64")).to_csv(index=False)


def rows_out_of_order():
    return recording().sample(frac=1, random_state=1).to_csv(index=False)


def newest_first():
    return dates(recording(), "%Y-%m-%d %H:%M:%S").iloc[::-1].to_csv(index=False)


def times_of_day_over_midnight():
    return dates(recording(), "%H:%M:%S", "2024-03-05 23:55").to_csv(index=False)


def hour_that_comes_twice():
    frame = recording(60)
    moments = pd.Timestamp("2024-10-26 20:00", tz="Europe/Berlin") + pd.to_timedelta(frame["time"], unit="s")
    return frame.assign(time=moments.dt.strftime("%Y-%m-%d %H:%M:%S")).to_csv(index=False), {"period": 60}


def date_and_time_columns():
    frame = dates(recording(), "%Y-%m-%d %H:%M:%S")
    frame[["day", "clock"]] = frame["time"].str.split(" ", expand=True)
    text = frame.drop(columns="time").to_csv(index=False)
    return text, {"schema": schema_of(columns={"time": ["day", "clock"], "state": "state"})}


def no_time():
    text = recording().drop(columns="time").to_csv(index=False)
    return text, {"schema": schema_of(columns={"state": "state"}), "row_every": 0.25}


def parts():
    return dates(recording(), "%Y-%m-%d %H:%M:%S").to_csv(index=False), {"split_every": 100}


def sessions_of_a_column():
    frame = pd.concat([recording(rows=300).assign(run=name) for name in ("b", "a", "c")])
    return frame.to_csv(index=False), {
        "schema": schema_of(columns={"time": "time", "state": "state", "session": "run"})
    }


def korean_windows():
    return recording().assign(note="상태 정상").to_csv(index=False).encode("cp949"), {"encoding": "cp949"}


def utf_16():
    return recording().to_csv(index=False).encode("utf-16")


def windows_line_ends_and_mark():
    return b"\xef\xbb\xbf" + recording().to_csv(index=False).replace("\n", "\r\n").encode()


CASES = [
    plain,
    decimal_commas,
    comma_only_in_the_last_rows,
    thousands_in_the_middle,
    header_below_a_title_with_units,
    mixed_fractions_of_dates,
    day_first_that_a_later_block_decides,
    bad_rows,
    states_only_in_the_last_rows,
    no_states,
    many_rows_a_period,
    many_rows_a_period_with_dates_and_gaps,
    fill_values,
    missing_words,
    rare_rows_that_are_held,
    epochs_in_ms,
    rows_out_of_order,
    newest_first,
    times_of_day_over_midnight,
    hour_that_comes_twice,
    date_and_time_columns,
    no_time,
    parts,
    sessions_of_a_column,
    korean_windows,
    utf_16,
    windows_line_ends_and_mark,
]
AT_ONCE = {rows_out_of_order, newest_first, times_of_day_over_midnight, hour_that_comes_twice}


def sessions(folder, monkeypatch, large, schema=None, **options):
    monkeypatch.setattr(streamed, "LARGE", large)
    return [item.read() for item in table.sessions(folder, schema or schema_of(), **options)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_file_read_in_blocks_gives_what_reading_all_rows_gives(case, tmp_path, monkeypatch):
    content, options = case() if isinstance(case(), tuple) else (case(), {})
    (tmp_path / "rec.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    whole = sessions(tmp_path, monkeypatch, 1 << 40, **options)
    in_blocks = sessions(tmp_path, monkeypatch, 0, **options)
    assert [s.name for s in whole] == [s.name for s in in_blocks]
    for one_by_one, at_once in zip(in_blocks, whole, strict=True):
        assert_alike(one_by_one, at_once, case in AT_ONCE)


def assert_alike(in_blocks, at_once, reads_at_once):
    for name in ("name", "device", "kind", "averaged", "period", "start", "zone"):
        assert getattr(in_blocks, name) == getattr(at_once, name), name
    assert in_blocks.time.tolist() == at_once.time.tolist()
    np.testing.assert_allclose(in_blocks.sensors, at_once.sensors, rtol=1e-6)
    np.testing.assert_allclose(in_blocks.environment, at_once.environment, rtol=1e-6)
    assert (in_blocks.state is None) == (at_once.state is None)
    if at_once.state is not None:
        assert in_blocks.state.tolist() == at_once.state.tolist()
    assert sorted(d.message for d in in_blocks.dropped) == sorted(d.message for d in at_once.dropped)
    assert sorted(d.where.split(" (")[0] for d in in_blocks.dropped) == sorted(
        d.where.split(" (")[0] for d in at_once.dropped
    )
    rows = range(0, len(at_once.time), 7)
    assert [in_blocks.where("sensors", i) for i in rows] == [at_once.where("sensors", i) for i in rows]
    notes = [note for note in in_blocks.notes if not note.startswith("read at once, not in blocks")]
    assert notes == at_once.notes
    assert (len(notes) < len(in_blocks.notes)) == reads_at_once, in_blocks.notes
