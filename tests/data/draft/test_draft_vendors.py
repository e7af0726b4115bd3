"""Files as loggers of several vendors write them: read rightly, or refused with the remedy, never silently wrong."""

import json

import numpy as np
import pandas as pd
import pytest

from conveyorguard.data.draft.draft import draft
from conveyorguard.data.schema import Schema
from conveyorguard.data.table import reader as table
from conveyorguard.errors import DataError

N = 120
START = pd.Timestamp("2024-05-17 08:00")
MOMENTS = START + pd.to_timedelta(np.arange(N), unit="s")
HEAT = np.round(np.random.default_rng(5).normal(40, 2, N), 2)
STATE = np.where(np.arange(N) > 80, "worn", "normal")


def write(folder, frame, **options):
    folder.mkdir()
    for i in range(4):
        frame.to_csv(folder / f"r{i}.csv", index=False, **options)
    return folder


def frame_of(time, heat=HEAT, **columns):
    return pd.DataFrame({"time": time, "heat": heat, "state": STATE, **columns})


def read_as_drafted(folder, **reader):
    import yaml

    drafted = draft(folder, "plant", reader)
    node = yaml.safe_load(drafted.text)
    sessions = table.sessions(folder, Schema.from_config(node["schema"]), **node.get("reader", {}))
    return drafted, next(iter(sessions)).read()


def test_day_numbers_of_matlab_are_dates(tmp_path):
    days = (MOMENTS - pd.Timestamp(0)) / pd.Timedelta("1D") + 719529
    folder = write(tmp_path / "set", frame_of(days), float_format="%.9f")
    drafted, session = read_as_drafted(folder)
    assert "time_unit: matlab" in drafted.text
    assert session.start == START.tz_localize("UTC") and session.time.tolist() == [*range(N)]


@pytest.mark.parametrize(
    ("written", "time_format"), [("%Y%j", "%Y%j"), ("%Y%j%H%M", "%Y%j%H%M"), ("%Y%j%H%M%S", "%Y%j%H%M%S")]
)
def test_year_and_day_of_the_year_is_no_count_of_seconds(written, time_format, tmp_path):
    step = {"%Y%j": "1D", "%Y%j%H%M": "1min", "%Y%j%H%M%S": "1s"}[written]
    moments = pd.date_range(START.normalize(), periods=N, freq=step)
    folder = write(tmp_path / "set", frame_of(moments.strftime(written)))
    with pytest.raises(DataError, match=r"several ways: as year and day of the year, set data\.reader\.time_format"):
        draft(folder, "plant")
    _, session = read_as_drafted(folder, time_format=time_format)
    assert session.start == START.normalize().tz_localize("UTC")
    assert session.time[-1] * session.period == (N - 1) * pd.Timedelta(step).total_seconds()


def test_count_of_seconds_beyond_the_days_of_a_year_stays_one(tmp_path):
    _, session = read_as_drafted(write(tmp_path / "set", frame_of(np.arange(N) + 2_024_300)))
    assert session.start is None and session.time.tolist() == [*range(N)]


@pytest.mark.parametrize(
    ("column", "numbers", "order"),
    [
        ("health_level", [3, 2, 1], ["3", "2", "1"]),
        ("health_level", [0, 1, 2], ["0", "1", "2"]),
        ("condition", [100, 20, 3], ["100", "20", "3"]),
    ],
)
def test_numbers_of_states_that_fall_begin_with_the_healthy_one(column, numbers, order, tmp_path):
    frame = frame_of(range(N)).drop(columns="state").assign(**{column: np.repeat(numbers, N // 3)})
    drafted, _ = read_as_drafted(write(tmp_path / "set", frame))
    places = [drafted.text.index(f"label: '{number}'") for number in order]
    assert places == sorted(places)


def test_falling_numbers_of_states_without_a_telling_name_are_named(tmp_path):
    frame = frame_of(range(N)).assign(state=np.repeat([2, 1, 0], N // 3))
    drafted, _ = read_as_drafted(write(tmp_path / "set", frame))
    assert any("if the highest is healthy, reverse the list" in sentence for sentence in drafted.odd)


def test_one_quantity_a_row_is_refused_with_the_way_to_columns(tmp_path):
    long = pd.concat([pd.DataFrame({"Timestamp": MOMENTS, "Tag": tag, "Value": HEAT}) for tag in ("TI1", "FI2")])
    folder = write(tmp_path / "set", long.sort_values("Timestamp", kind="stable"))
    with pytest.raises(
        DataError, match=r"'Tag' names what each row holds \(TI1, FI2\).*pivot_table\(index='Timestamp'"
    ):
        draft(folder, "plant")


def test_header_that_comes_again_is_no_state(tmp_path):
    frame = frame_of(range(N)).astype(str)
    again = pd.DataFrame([dict.fromkeys(frame, "")]).assign(**{name: name for name in frame})
    folder = write(tmp_path / "set", pd.concat([frame[:50], again, frame[50:]]))
    drafted, session = read_as_drafted(folder)
    assert "states: [{name: normal}, {name: worn}]" in drafted.text and len(session.dropped) == 1


def test_value_that_well_logs_write_for_none_is_named(tmp_path):
    heat = np.where(np.arange(N) % 11 == 0, -999.25, HEAT)
    drafted, _ = read_as_drafted(write(tmp_path / "set", frame_of(range(N), heat)))
    assert any("set data.reader.missing=[-999.25]" in sentence for sentence in drafted.odd)


def test_lines_of_json_are_refused_with_the_way_to_a_table(tmp_path):
    lines = "\n".join(json.dumps({"ts": i, "heat": heat}) for i, heat in enumerate(HEAT))
    (tmp_path / "r.csv").write_text(lines)
    with pytest.raises(DataError, match="found lines of JSON"):
        draft(tmp_path, "plant")
