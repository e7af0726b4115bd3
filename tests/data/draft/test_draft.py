"""The draft of a yaml for somebody's tables, and the verb that writes it."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.cli import main
from conveyorguard.config.compose import compose_config
from conveyorguard.data.draft.draft import draft
from tests.data.table.plant import STATES, N, lines_of, write_plant


def test_a_draft_says_what_is_there(tmp_path):
    write_plant(tmp_path / "plant", sessions=8, camera=(48, 64))
    drafted = draft(tmp_path / "plant", "plant")
    assert len(lines_of(drafted.text)) <= 20
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "plant.yaml").write_text(drafted.text, encoding="utf-8")
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
    assert any("healthy words first" in line for line in drafted.odd)
    assert any("split=kfold split.n_folds=4" in line for line in drafted.odd)


def test_fifty_channels_and_six_states_fit_into_twenty_lines(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        data = {
            "t": np.arange(60),
            **{f"vibration_{k:02d}": rng.normal(size=60) for k in range(50)},
            "label": np.arange(60) // 10 + 1,
        }
        pd.DataFrame(data).to_parquet(tmp_path / f"{i}.parquet")
    drafted = draft(tmp_path, "mill")
    assert len(lines_of(drafted.text)) <= 20, drafted.text
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mill.yaml").write_text(drafted.text, encoding="utf-8")
    from conveyorguard.runs.data import load_store

    store = load_store(compose_config([f"--config-dir={tmp_path}", "data=mill", f"paths.cache={tmp_path / 'cache'}"]))
    assert len(store.schema.channels) == 50 and set(store.to_frame()["state"]) == {*range(6)}
    assert [state.label for state in store.schema.states] == ["1", "2", "3", "4", "5", "6"]


def test_a_draft_lists_what_is_odd(tmp_path, frame):
    rng = np.random.default_rng(0)
    frame["heat"] += rng.normal(size=N)
    for i in range(3):
        changed = frame.assign(stuck=7, operator="Kim", state=STATES[0]).astype({"heat": str})
        if i == 1:
            changed = changed.drop(index=range(10, 14)).assign(state="")
            changed.loc[20, "heat"] = ""
        if i == 2:
            changed["extra"] = 1.0
            changed.loc[3, "heat"] = "ERR"
            changed.loc[30:, "state"] = "worn"
        changed.to_csv(tmp_path / f"r{i}.csv", index=False)
    odd = "\n".join(draft(tmp_path, "x").odd)
    for words in (
        "'stuck' is constant or empty in 3 of 3",
        "'operator' is left out: it holds words",
        "'extra' is in 1 of 3 files only",
        "2 gaps in time",
        "'heat': 0.8",
        "one device only",
        "1 of 3 recordings have no states",
        "state 'worn' is in 1 of 2",
        "3 recordings: training",
        "1 row left out, bad_number: r2.csv: row 5: column 'heat': found 'ERR'",
        "unit not known",
    ):
        assert words in odd, (words, odd)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pd.DataFrame({"ts": 1_700_000_000_000 + 1000 * np.arange(N)}), "time_unit: ms"),
        (pd.DataFrame({"stamp": [f"202403051000{i:02d}" for i in range(N)]}), "time: stamp"),
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
