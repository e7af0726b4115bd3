"""A trained run applied to recordings: the same numbers as its own evaluation, from a store, a table and the shell."""

import shutil

import numpy as np
import pandas as pd
import pytest

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.data.ranges import odd_inputs
from conveyorguard.errors import DataError, RunError
from conveyorguard.reporting.alarm_sentences import alarm_record
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.saved import SavedRun


def test_its_own_recordings_get_the_probabilities_of_its_evaluation(finished_run, compose):
    loaded, data = load_run(finished_run), load_windows(compose())
    found = loaded.predict_store(data.store).windows.set_index(["session", "start"])
    saved = loaded.run.predictions.query("split == 'test'").set_index(["session", "start"])
    columns = ["p0", "p1", "p2", "p3", "c0", "c1", "c2", "c3"]
    assert np.allclose(found.loc[saved.index, columns], saved[columns], atol=1e-5)
    assert (found.loc[saved.index, "y_pred"] == saved["y_pred"]).all()
    assert (found.loc[saved.index, "score"] - saved[["c2", "c3"]].sum(axis=1)).abs().max() < 1e-5


def test_a_second_is_the_mean_of_the_windows_over_it(finished_run, compose):
    loaded, data = load_run(finished_run), load_windows(compose())
    found = loaded.predict_store(data.store)
    name = found.windows["session"].iloc[0]
    windows, seconds = (t[t["session"] == name] for t in (found.windows, found.seconds))
    for second in (0, 15, 33, 100):
        over = windows[(windows["start"] <= second) & (windows["end"] >= second)]
        row = seconds[seconds["time"] == second].iloc[0]
        assert np.allclose(row[["c0", "c3"]].astype(float), over[["c0", "c3"]].mean(), atol=1e-5)


@pytest.mark.parametrize("model", [pytest.param("fusion", marks=pytest.mark.slow), "lightgbm"])
def test_a_table_without_labels_gets_the_same_as_its_store(train_run, compose, model):
    overrides = ["modality=sensor", f"model={model}", *(["trainer.max_epochs=1"] if model == "fusion" else [])]
    loaded, data = load_run(train_run(*overrides)), load_windows(compose(*overrides))
    schema, frames = data.store.schema, data.store.to_frame()
    table = frames[["session", "time", *schema.channels, *schema.environment]].copy()
    names = list(table["session"].unique()[:3])
    table = table[table["session"].isin(names)].sample(frac=1, random_state=0)  # in any order
    table["session"] = table["session"].astype(str)
    found = loaded.predict(table).set_index(["session", "start"])
    known = loaded.predict_store(data.store).windows.set_index(["session", "start"])
    assert set(found.index.get_level_values(0)) == set(map(str, names)) and (found["y_true"] == -1).all()
    assert np.allclose(found[["p0", "p3"]], known.loc[found.index, ["p0", "p3"]], atol=1e-5)


def test_tables_that_cannot_be_used_are_refused(finished_run):
    loaded = load_run(finished_run)
    with pytest.raises(DataError, match="lacks session, time, NTC"):
        loaded.predict(pd.DataFrame({"x": [1]}))
    channels = [*loaded.schema.channels, *loaded.schema.environment]
    table = pd.DataFrame({"session": "a", "time": range(40), **dict.fromkeys(channels, 1.0)})
    with pytest.raises(DataError, match=r"uses the camera: give thermal, \(40, .*found none"):
        loaded.predict(table)
    with pytest.raises(DataError, match=r"found an array of shape \(40, 3, 4\)"):
        loaded.predict(table, np.zeros((40, 3, 4)))
    for column, value, told in (
        ("time", 0.5, "expected whole seconds since the recording began, found 0.5 in row 3"),
        ("time", np.nan, "expected whole seconds since the recording began, found nan in row 3"),
        ("time", 4e9, "expected whole seconds since the recording began, found 4000000000.0 in row 3"),
        ("time", 2, "expected a row a second of each recording, found .* in row 3"),
        ("session", None, "the name of a recording in each row, found None in row 3"),
        ("NTC", "1,5", "column NTC: expected numbers, found '1,5' in row 3"),
    ):
        wrong = table.astype(object)
        wrong.loc[3, column] = value
        with pytest.raises(DataError, match=told):
            loaded.predict(wrong)


def test_inputs_unlike_the_training_are_told_by_recording(finished_run, compose, store_of, session_of):
    loaded, data = load_run(finished_run), load_windows(compose("data.schema.thermal=null", "modality=sensor"))
    schema = data.store.schema
    rows = data.store.to_frame().iloc[:60]
    sensors, environment = rows[list(schema.channels)].to_numpy(), rows[list(schema.environment)].to_numpy()
    hot, dead = sensors.copy(), sensors.copy()
    hot[:, 0], dead[:, 1] = 500.0, dead[0, 1]
    sessions = [
        session_of(name, range(60), None, sensors=values, environment=environment)
        for name, values in (("fine", sensors), ("hot", hot), ("dead", dead))
    ]
    found = odd_inputs(store_of(sessions, schema), loaded.run.facts("ranges"))
    first, second = list(schema.channels)[:2]
    assert any(
        s.startswith(f"{first} is outside the training range") and "100% of the seconds" in s for s in found["hot"]
    )
    assert any(s.startswith(f"{second} stands at") for s in found["dead"])
    assert not any(first in s for s in found.get("fine", []))


def test_a_run_without_a_model_is_refused(tmp_path, finished_run):
    folder = tmp_path / "no-model"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(RunError, match="no checkpoints"):
        load_run(folder)


def test_the_command_writes_tables_and_a_page(finished_run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["predict", str(finished_run), "data.seed=5", "data.sessions=8", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert said.strip().endswith("predictions.html") and "8 recordings" in said
    windows = pd.read_parquet(out / "predictions.parquet")
    assert windows["session"].nunique() == 8 and {"state", "score", "c0", "p0"} <= set(windows)
    assert {"session", "begin", "end", "peak"} <= set(pd.read_csv(out / "alarms.csv"))
    page = (out / "predictions.html").read_text()
    assert all(name in page for name in windows["session"].unique())
    assert alarm_record(SavedRun(finished_run).facts("alarms")) in page, "what the alarms shown here are worth"
    assert main(["predict", str(finished_run), "data=table", f"data.root={tmp_path}"]) == 2
