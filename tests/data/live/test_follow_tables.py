"""Following tables while they grow."""

import time

import pytest

from conveyorguard.data.live import follow, tables
from conveyorguard.data.table import reader as table
from conveyorguard.errors import ConfigError
from tests.data.live.growing import seconds_of, table_schema


def test_growing_table_yields_complete_lines_once(tmp_path, monkeypatch):
    follower = follow(table.sessions, tmp_path, table_schema(), {})
    path = tmp_path / "r.csv"
    path.write_text("time,heat,amps\n")
    assert not seconds_of(follower)
    with path.open("a") as stream:
        for second in range(4):
            stream.write(f"{second},20.5,1{second}")
            stream.flush()
            assert not seconds_of(follower), "12 may become 123"
            stream.write("\n")
            stream.flush()
            assert seconds_of(follower) == [("r", second)]
    monkeypatch.setattr(tables, "PATIENCE", 0.3)
    path.write_text(path.read_text() + "4,20.5,14")  # the last line of a file may lack a line end
    assert not seconds_of(follower)
    time.sleep(0.4)
    assert seconds_of(follower) == [("r", 4)]


def test_second_growing_table_of_the_same_name_is_reported_once(tmp_path):
    for name, separator in (("rec.csv", ","), ("rec.tsv", "\t")):
        rows = ["time,heat,amps\n", *(f"{second},20,1\n" for second in range(60))]
        (tmp_path / name).write_text("".join(rows).replace(",", separator))
    follower = follow(table.sessions, tmp_path, table_schema(), {})
    assert len(seconds_of(follower)) == 60 and not seconds_of(follower)
    message = "two files of one name: rec.csv was read, rec.tsv was not; remove or rename the one that is wrong"
    assert follower.notices == [message]
    (tmp_path / "rec.csv").unlink()
    assert not seconds_of(follower), "the seconds of rec.csv were yielded already"


def test_mean_of_samples_waits_until_its_second_is_over(tmp_path):
    follower = follow(table.sessions, tmp_path, table_schema(), {})
    path = tmp_path / "r.csv"
    path.write_text("time,heat,amps\n" + "".join(f"{t / 4},20,1\n" for t in range(10)))
    assert [t for _, t in seconds_of(follower)] == [0, 1]
    path.write_text(path.read_text() + "2.5,20,1\n2.75,20,1\n3.0,20,1\n")
    assert [t for _, t in seconds_of(follower)] == [2]


def test_growing_table_of_several_sessions_yields_each(tmp_path):
    follower = follow(table.sessions, tmp_path, table_schema(columns={"time": "time", "session": "run"}), {})
    path = tmp_path / "all.csv"
    path.write_text("run,time,heat,amps\n" + "".join(f"r1,{t},20,1\n" for t in range(3)) + "r12,0,20,1\nr1")
    assert seconds_of(follower) == [("r1", 0), ("r1", 1), ("r1", 2), ("r12", 0)]


def test_missing_folder_and_unknown_reader_cannot_be_followed(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        follow(table.sessions, tmp_path / "x", table_schema(), {})
    with pytest.raises(ConfigError, match=r"--watch cannot follow .*, only data=aihub and tables"):
        follow(lambda root, schema: [], tmp_path, table_schema(), {})
