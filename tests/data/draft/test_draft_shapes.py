"""Drafts of tables as other loggers write them: labels, leaks, units, counters, names of files."""

import numpy as np
import openpyxl
import pandas as pd
import pytest
import yaml

from conveyorguard.data.draft.draft import draft
from conveyorguard.data.draft.states import severity
from conveyorguard.data.schema import Schema
from conveyorguard.data.table import sessions
from conveyorguard.errors import DataError

N = 80


def table(seed=0, **more):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"time": np.arange(N), "load": rng.normal(50, 4, N), **more})


def words(folder, name="x"):
    drafted = draft(folder, name)
    return drafted.text + "\n".join(drafted.odd)


@pytest.mark.parametrize(
    ("column", "values", "states"),
    [
        ("machine_status", ["BROKEN", "RECOVERING", "NORMAL"], "{name: NORMAL}, {name: RECOVERING}, {name: BROKEN}"),
        ("Machine failure", [1, 0], "{name: state0, label: '0'}, {name: state1, label: '1'}"),
        ("cooler_condition", ["good", "bad"], "{name: good}, {name: bad}"),
        ("설비상태", ["위험", "주의", "정상"], "{name: 정상}, {name: 주의}, {name: 위험}"),
        ("is_healthy", [0, 1], "{name: state1, label: '1'}, {name: state0, label: '0'}"),
    ],
)
def test_state_column_is_found_anywhere_in_its_name_with_healthy_first(column, values, states, tmp_path):
    for i in range(4):
        table(i, **{column: np.resize(np.repeat(values, 10), N)}).to_csv(tmp_path / f"{i}.csv", index=False)
    drafted = draft(tmp_path, "x")
    assert f"state: {column}" in drafted.text and f"states: [{states}]" in drafted.text
    assert any(f"states are read from column '{column}'" in line for line in drafted.odd)


def test_other_columns_of_few_values_stand_as_comments(tmp_path):
    more = {"valve_condition": np.repeat(["good", "bad"], N // 2), "pump fault": np.tile([0, 1], N // 2)}
    table(**more).to_csv(tmp_path / "a.csv", index=False)
    drafted = draft(tmp_path, "x")
    assert "state: valve_condition" in drafted.text
    assert "#   state: pump fault  # 0 (40), 1 (40)" in drafted.text and "pump_fault:" not in drafted.text


def test_file_without_labels_does_not_hide_those_of_the_others(tmp_path):
    for i in range(5):
        table(i, **({"anomaly": (np.arange(N) > 50) + 0.0} if i else {})).to_csv(tmp_path / f"{i}.csv", index=False)
    text = words(tmp_path)
    assert "state: anomaly" in text and "in 4 of 5 recordings; those without are not trained on" in text


@pytest.mark.parametrize("names", [("normal/{}", "worn/{}"), ("n_{}", "f_{}"), ("good{}", "broken{}")])
def test_states_in_names_of_files_become_a_pattern(names, tmp_path):
    for i in range(3):
        for name in names:
            path = tmp_path / (name.format(i) + ".csv")
            path.parent.mkdir(exist_ok=True)
            table(i).to_csv(path, index=False)
    drafted = draft(tmp_path, "x")
    assert "state_pattern: " in drafted.text and "device_pattern" not in drafted.text
    assert not any("have no states" in line for line in drafted.odd)


def test_label_that_is_constant_in_each_file_is_the_state_not_the_device(tmp_path):
    for i in range(4):
        table(i, state=["normal", "worn"][i % 2]).to_csv(tmp_path / f"{i}.csv", index=False)
    text = draft(tmp_path, "x").text
    assert "state: state" in text and "device" not in text.split("channels")[0]


def test_remaining_life_is_left_out_and_said(tmp_path):
    rul = np.arange(N)[::-1]
    for i in range(4):
        table(i, left=rul, health=np.where(rul > 30, "healthy", "critical")).to_csv(tmp_path / f"{i}.csv", index=False)
    drafted = draft(tmp_path, "x")
    assert "# left is left out: it runs down in equal steps in 4 of 4 recordings" in drafted.text
    assert any("'left' is left out" in line for line in drafted.odd) and "    left:" not in drafted.text


def test_row_counter_is_neither_time_nor_channel(tmp_path):
    table().rename(columns={"time": "UDI"}).to_csv(tmp_path / "a.csv", index=False)
    text = words(tmp_path)
    assert "time: null" in text and "'UDI' is left out: it counts the rows" in text


def test_cycles_are_named_as_the_axis(tmp_path):
    frames = [table(i).rename(columns={"time": "cycle"}).assign(unit=i) for i in range(4)]
    pd.concat(frames).to_csv(tmp_path / "a.csv", index=False)
    text = words(tmp_path)
    assert "session: unit" in text and "time: cycle" in text and "'cycle' counts cycles" in text


def test_rows_of_devices_among_each_other_are_told_apart(tmp_path):
    frames = [table(i).assign(turbine=f"T{i}") for i in range(3)]
    pd.concat(frames).sort_values(["time", "turbine"]).to_csv(tmp_path / "a.csv", index=False)
    assert "session: turbine, device: turbine" in words(tmp_path)


def test_units_below_the_header_are_taken_and_guesses_are_marked(tmp_path):
    rows = "\n".join(f"{i},{20 + i % 7},{3 + i % 5},{i % 9}" for i in range(N))
    (tmp_path / "a.csv").write_text(f"time,temp,pressure,flow\ns,°F,kPa,\n{rows}\n", encoding="utf-8")
    text = words(tmp_path)
    assert "temp: °F\n" in text and "pressure: kPa\n" in text and "flow: l/min  # the unit is a guess" in text


def test_unit_is_not_guessed_where_the_values_cannot_be_in_it(tmp_path):
    table(humidity=300.0 + np.arange(N) % 9).to_csv(tmp_path / "a.csv", index=False)
    assert "humidity: '-'" in words(tmp_path)


def test_fill_value_is_named_with_its_key(tmp_path):
    table(load=np.where(np.arange(N) % 20 == 3, -9999, 40 + np.arange(N) % 9)).to_csv(tmp_path / "a.csv", index=False)
    assert "data.reader.missing=[-9999]" in words(tmp_path)


def test_tables_side_by_side_are_refused(tmp_path):
    rows = "\n".join(f"{i},{i % 5},{2 * i},{i % 7}" for i in range(N))
    (tmp_path / "a.csv").write_text(f"time_1,a,time_2,b\n{rows}\n", encoding="utf-8")
    with pytest.raises(DataError, match="2 tables stand side by side"):
        draft(tmp_path, "x")


def test_some_of_many_files_are_said_to_be_some(tmp_path):
    for i in range(45):
        table(i).to_csv(tmp_path / f"{i}.csv", index=False)
    assert "only 40 of 45 files were read for this draft" in words(tmp_path)


def test_many_rows_a_period_are_aggregated(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        pd.DataFrame({"time": np.arange(2000) / 100, "vib": rng.normal(size=2000)}).to_csv(
            tmp_path / f"{i}.csv", index=False
        )
    text = words(tmp_path)
    assert "period: 0.1" in text and "aggregate: [rms, sd, p2p, kurtosis]" in text and "camera" not in text


@pytest.mark.parametrize("word", ["abnormal", "unhealthy", "not ok", "비정상"])
def test_words_that_hold_a_healthy_word_are_not_healthy(word):
    assert severity(word) > 0


def test_ambiguous_date_beside_a_time_is_refused_not_dropped(tmp_path):
    clock = [f"{8 + i // 60:02d}:{i % 60:02d}" for i in range(N)]
    table(Date="03/05/24", Time=clock).drop(columns="time").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=r"reader\.time_format"):
        draft(tmp_path, "x")
    assert "time: [Date, Time]" in draft(tmp_path, "x", {"time_format": "%d/%m/%y %H:%M"}).text


def test_newest_rows_first_keep_their_time(tmp_path):
    table().iloc[::-1].to_csv(tmp_path / "a.csv", index=False)
    assert "time: time" in words(tmp_path)


def test_file_of_another_kind_is_named_and_set_aside(tmp_path):
    table().to_csv(tmp_path / "sensors.csv", index=False)
    (tmp_path / "jobs.csv").write_text("job,note\na,b\nc,d\n", encoding="utf-8")
    assert "1 of 2 files have other columns than most and cannot be read with them: jobs" in words(tmp_path)


def test_setting_of_each_file_is_left_out_and_proposed_as_environment(tmp_path):
    for i in range(6):
        table(i, speed=900 + 300 * (i % 3)).to_csv(tmp_path / f"{i}.csv", index=False)
    drafted = draft(tmp_path, "x")
    assert "\n  # environment:\n  #   speed: 1/min  # constant within each recording" in drafted.text
    assert "    speed:" not in drafted.text
    assert any("'speed' is left out" in line and "name it under environment" in line for line in drafted.odd)
    assert yaml.safe_load(drafted.text.replace("  # environment:\n  #   speed", "  environment:\n    speed"))["schema"][
        "environment"
    ] == {"speed": "1/min"}


def test_rows_without_time_ask_for_their_distance(tmp_path):
    table().drop(columns="time").to_csv(tmp_path / "a.csv", index=False)
    drafted = draft(tmp_path, "x")
    assert "# How long is it from one row to the next?" in drafted.text
    assert "# reader: {row_every: 0.05ms, period: 100ms}" in drafted.text
    assert any("set reader.row_every" in line for line in drafted.odd)


def test_single_recording_and_gap_are_in_the_singular(tmp_path):
    frame = table()
    frame["time"] += 50 * (np.arange(N) >= N // 2)
    frame.to_csv(tmp_path / "a.csv", index=False)
    text = words(tmp_path)
    assert "1 recording: training needs 4" in text and "1 gap in time: those of up to window.max_gap" in text


def test_title_in_a_merged_cell_is_not_the_header(tmp_path):
    book = openpyxl.Workbook()
    for row in [["Press 4", None, None], [], ["time", "load", "flow"], *([i, 40 + i % 7, i % 5] for i in range(N))]:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert "load: '-'" in words(tmp_path) and "flow: l/min" in words(tmp_path)


def test_table_in_several_parts_is_one_recording(tmp_path):
    for device in ("A", "B"):
        folder = tmp_path / f"device={device}"
        folder.mkdir()
        whole = table(state=np.repeat(["good", "bad"], N // 2))
        for i in range(3):
            whole[i * 30 : (i + 1) * 30].to_parquet(folder / f"part-0000{i}.parquet")
    drafted = draft(tmp_path, "x")
    node = yaml.safe_load(drafted.text)
    items = sessions(tmp_path, Schema.from_config(node["schema"]), **node.get("reader", {}))
    read = [item.read() for item in items]
    assert [(session.name, session.device) for session in read] == [("device=A", "A"), ("device=B", "B")]
    assert all(session.time.tolist() == [*range(N)] for session in read)


@pytest.mark.parametrize("separator", ["\t", " ", ";"])
def test_txt_table_is_read_by_its_separator_and_prose_beside_it_is_none(separator, tmp_path):
    (tmp_path / "README.txt").write_text(
        "Recorded in 2024,\nby the plant.\nWith three sensors, of which\none is hot.\n"
    )
    table(state=np.repeat([0, 1], N // 2)).round(3).to_csv(tmp_path / "a.txt", index=False, sep=separator)
    drafted = draft(tmp_path, "x")
    node = yaml.safe_load(drafted.text)
    (item,) = sessions(tmp_path, Schema.from_config(node["schema"]))
    assert item.name == "a" and len(item.read().time) == N and [*node["schema"]["channels"]] == ["load"]


def test_file_of_intervals_beside_the_recordings_becomes_the_labels(tmp_path):
    for i in range(4):
        table(i).to_csv(tmp_path / f"press{i}.csv", index=False)
    rows = [(f"press{i}", begin, begin + 40, word) for i in range(4) for begin, word in ((0, "good"), (40, "worn"))]
    pd.DataFrame(rows, columns=["Session", "begin", "end", "state"]).to_csv(tmp_path / "a_labels.csv", index=False)
    drafted = draft(tmp_path, "x")
    node = yaml.safe_load(drafted.text)
    assert node["reader"]["labels"] == "a_labels.csv"
    assert [state["name"] for state in node["schema"]["states"]] == ["good", "worn"]
    assert any("states are read from the intervals of a_labels.csv" in line for line in drafted.odd)
    items = [item.read() for item in sessions(tmp_path, Schema.from_config(node["schema"]), **node["reader"])]
    assert [item.state.tolist() for item in items] == [[0] * 40 + [1] * 40] * 4
