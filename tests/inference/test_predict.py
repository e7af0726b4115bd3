"""A trained run applied to sessions of a store, of a table and from the shell."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.commands.batch_prediction import predict_one
from conveyorguard.data.ranges import odd_inputs
from conveyorguard.data.reduce import reduce_session
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.data.stream import StreamedRecording
from conveyorguard.errors import DataError, RunError
from conveyorguard.inference.frame_table import sessions_of
from conveyorguard.inference.summary import PredictionTotals
from conveyorguard.metrics.memory import LAGS, Memory
from conveyorguard.runs.data import load_windows


def test_predictions_of_test_sessions_equal_those_of_the_evaluation(finished_run, compose):
    loaded, data = load_run(finished_run), load_windows(compose())
    predicted = loaded.predict_store(data.store).windows.set_index(["session", "start"])
    saved = loaded.run.predictions.query("split == 'test'").set_index(["session", "start"])
    columns = ["p0", "p1", "p2", "p3", "c0", "c1", "c2", "c3"]
    assert np.allclose(predicted.loc[saved.index, columns], saved[columns], atol=1e-5)
    assert (predicted.loc[saved.index, "y_pred"] == saved["y_pred"]).all()
    assert (predicted.loc[saved.index, "score"] - saved[["c2", "c3"]].sum(axis=1)).abs().max() < 1e-5


def test_with_majority_a_second_is_the_mean_of_the_windows_that_cover_it(train_run, compose):
    run = train_run("window.label=majority", "modality=sensor", "model=lightgbm", "model.n_estimators=5")
    loaded, data = load_run(run), load_windows(compose())
    predicted = loaded.predict_store(data.store)
    name = predicted.windows["session"].iloc[0]
    windows, seconds = (t[t["session"] == name] for t in (predicted.windows, predicted.seconds))
    for second in (0, 15, 33, 100):
        over = windows[(windows["start"] <= second) & (windows["end"] >= second)]
        row = seconds[seconds["time"] == second].iloc[0]
        assert np.allclose(row[["c0", "c3"]].astype(float), over[["c0", "c3"]].mean(), atol=1e-5)


@pytest.mark.parametrize("model", [pytest.param("fusion", marks=pytest.mark.slow), "lightgbm"])
def test_unlabelled_table_gets_the_predictions_of_its_store(train_run, compose, model):
    overrides = ["modality=sensor", f"model={model}", *(["trainer.max_epochs=1"] if model == "fusion" else [])]
    loaded, data = load_run(train_run(*overrides)), load_windows(compose(*overrides))
    schema, frames = data.store.schema, data.store.to_frame()
    table = frames[["session", "time", *schema.channels, *schema.environment]].copy()
    names = list(table["session"].unique()[:3])
    table = table[table["session"].isin(names)].sample(frac=1, random_state=0)  # in random order
    table["session"] = table["session"].astype(str)
    predicted = loaded.predict(table).set_index(["session", "start"])
    expected = loaded.predict_store(data.store).windows.set_index(["session", "start"])
    assert set(predicted.index.get_level_values(0)) == set(map(str, names)) and (predicted["y_true"] == -1).all()
    assert np.allclose(predicted[["p0", "p3"]], expected.loc[predicted.index, ["p0", "p3"]], atol=1e-5)


@pytest.mark.promise("input", "`load_run(RUN).predict` refuses a table with an unusable row, naming row and column.")
def test_unusable_table_is_refused_naming_row_and_column(finished_run):
    loaded = load_run(finished_run)
    with pytest.raises(DataError, match="lacks the columns session, time, NTC"):
        loaded.predict(pd.DataFrame({"x": [1]}))
    channels = [*loaded.schema.channels, *loaded.schema.environment]
    table = pd.DataFrame({"session": "a", "time": range(40), **dict.fromkeys(channels, 1.0)})
    with pytest.raises(DataError, match=r"uses the camera: expected thermal of shape \(40, .*found none"):
        loaded.predict(table)
    with pytest.raises(DataError, match=r"found an array of shape \(40, 3, 4\)"):
        loaded.predict(table, np.zeros((40, 3, 4)))
    for column, value, message in (
        ("time", 0.5, "whole seconds since the session began, found 0.5"),
        ("time", np.nan, "whole seconds since the session began, found nan"),
        ("time", 4e9, "whole seconds since the session began, found 4000000000.0"),
        ("time", 2, "one row per second and session, found"),
        ("session", None, "the name of a session, found None"),
        ("NTC", "1,5", "a number, found '1,5'"),
    ):
        wrong = table.astype(object)
        wrong.loc[3, column] = value
        with pytest.raises(DataError, match=f"row 3 counting from 0, column {column}: expected {message}"):
            loaded.predict(wrong)


def test_table_of_short_sessions_only_is_refused_as_data(train_run):
    loaded = load_run(train_run("model=lightgbm", "modality=sensor", "model.n_estimators=2"))
    channels = [*loaded.schema.channels, *loaded.schema.environment]
    table = pd.DataFrame({"session": "a", "time": range(29), **dict.fromkeys(channels, 1.0)})
    with pytest.raises(DataError, match="no session is long enough: its windows are 30 s long"):
        loaded.predict(table)


def test_inputs_unlike_training_are_reported_by_session(finished_run, compose, store_of, session_of):
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
    odd = odd_inputs(store_of(sessions, schema), loaded.run.facts("ranges"))
    first, second = list(schema.channels)[:2]
    assert any(s.startswith(f"{first} is outside the training range") and "100% of the rows" in s for s in odd["hot"])
    assert any(s.startswith(f"{second} stays at") for s in odd["dead"])
    assert not any(first in s for s in odd.get("fine", []))


def test_run_without_checkpoint_is_refused(tmp_path, finished_run):
    folder = tmp_path / "no-model"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(RunError, match="no checkpoints"):
        load_run(folder)


def test_predict_command_writes_tables_and_page(finished_run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["predict", str(finished_run), "data.seed=5", "data.sessions=8", f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip().endswith("predictions.html") and "8 sessions" in printed
    windows = pd.read_parquet(out / "predictions.parquet")
    assert windows["session"].nunique() == 8 and {"state", "score", "c0", "p0"} <= set(windows)
    assert {"session", "begin", "end", "peak"} <= set(pd.read_csv(out / "alarms.csv"))
    page = (out / "predictions.html").read_text()
    assert all(name in page for name in windows["session"].unique())
    assert "Asked: the state now, at the end of a window of 30 s, judged every 1 s. A row is answered by" in page
    assert "What the alarms are worth" in page and "expected cost a month" in page
    assert "part of the run, not of the sessions above" in page, "these figures are of other sessions"
    assert page.count("An alarm starts when") == 1
    assert "before the first window of a session" in page, "time without an answer is not in the shares"
    assert main(["predict", str(finished_run), "data=table", f"data.root={tmp_path}"]) == 2


def test_predict_chooses_threshold_anew_without_training(finished_run, tmp_path, capsys):
    """With the settings of the run it is the same; a cap or miss rate moves it; the run stays as it is."""
    before = (finished_run / "alarms.json").read_bytes()
    data = [str(finished_run), "data.seed=5", "data.sessions=4"]
    assert main(["predict", *data, "alarms.faults_per_month=3", f"out={tmp_path / 'same'}"]) == 0
    facts, trained = (
        json.loads(path.read_text()) for path in (tmp_path / "same" / "alarms.json", finished_run / "alarms.json")
    )
    assert facts["operating_point"]["on"] == pytest.approx(trained["operating_point"]["on"], abs=1e-5)
    assert facts["settings"]["faults_per_month"] == 3 and facts["overrides"] == ["alarms.faults_per_month=3"]
    loose = ["alarms.miss_rate=0.9", "alarms.max_false_per_week=1e9", "alarms.cost.false=0"]
    assert main(["predict", *data, *loose, f"out={tmp_path / 'loose'}"]) == 0
    printed = capsys.readouterr().out
    facts = json.loads((tmp_path / "loose" / "alarms.json").read_text())
    assert facts["choice"]["rule"] == "conformal" and facts["operating_point"] != trained["operating_point"]
    assert f"alarms: threshold {facts['operating_point']['on']:.3f}" in printed
    page = (tmp_path / "loose" / "predictions.html").read_text()
    assert "chosen anew on the validation part of the run, with alarms.miss_rate=0.9" in page
    assert (finished_run / "alarms.json").read_bytes() == before
    assert (
        main(["predict", *data, f"out={tmp_path / 'plain'}"]) == 0 and not (tmp_path / "plain" / "alarms.json").exists()
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alarms.miss_rate=2", "alarms.miss_rate=2: must be a share between 0 and 1"),
        ("alarms.mis_rate=0.2", "did you mean alarms.miss_rate"),
        ("~alarms.cost", "cannot be removed"),
    ],
)
def test_impossible_override_of_alarms_is_refused(finished_run, tmp_path, capsys, override, message):
    assert main(["predict", str(finished_run), override, f"out={tmp_path / 'out'}"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


# --- The answer at each second -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answering(compose, tmp_path_factory):
    """A run on sensors that is asked for the state now, with a memory, and the table of two sessions."""
    from conveyorguard.commands.train import train

    folder = tmp_path_factory.mktemp("answering") / "run"
    overrides = ["modality=sensor", "model=lightgbm", "model.n_estimators=5", "features=extended", "test=false"]
    train(compose(*overrides), folder, overrides)
    saved = json.loads((folder / "memory.json").read_text())
    weights = np.concatenate([w * np.eye(4) for w in (0.5, 0.3, 0.2, 0.1)], axis=1)
    saved["memory"] = Memory(LAGS, weights, np.zeros(4)).to_dict()
    (folder / "memory.json").write_text(json.dumps(saved))
    store = load_windows(compose(*overrides)).store
    frames = store.to_frame()
    table = frames[["session", "time", *store.schema.channels, *store.schema.environment]]
    names = table["session"].unique()[:2]
    return load_run(folder), [table[table["session"] == name].reset_index(drop=True) for name in names]


def seconds_of(loaded, table):
    """Return the answers at the seconds of a table."""
    sessions = [reduce_session(s, loaded.schema) for s in sessions_of(loaded.schema, table, None)]
    return loaded.predict_store(store_in_memory(sessions, loaded.schema)).seconds


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(1, 250), st.sampled_from([1, 3, 4, 40])), max_size=4), st.integers(30, 300))
def test_truncating_a_session_leaves_all_earlier_answers_unchanged(answering, gaps, end):
    loaded, (table, _) = answering
    loaded.schema = replace(loaded.schema, thermal=None)
    keep = np.ones(len(table), bool)
    for first, count in gaps:
        keep[first : first + count] = False
    keep[:30] = True
    table = table[keep]
    whole, part = seconds_of(loaded, table), seconds_of(loaded, table[table["time"] < end])
    pd.testing.assert_frame_equal(part, whole[whole["time"] <= part["time"].max()].reset_index(drop=True))


def test_second_is_answered_by_the_window_that_ends_there_and_warms_up_before(answering):
    loaded, (table, _) = answering
    loaded.schema = replace(loaded.schema, thermal=None)
    table = table[~table["time"].between(100, 119)]  # a gap too long to be bridged
    seconds = seconds_of(loaded, table).set_index("time")
    warming = [*range(29), *range(120, 149)]
    assert seconds.index[seconds["state"] == "warming up"].tolist() == warming
    assert (seconds.loc[warming, "y_pred"] == -1).all() and seconds.loc[warming, "c0"].isna().all()
    windows = loaded.predict(table).set_index("end")
    answered = seconds.drop(index=warming)
    assert answered["state"].tolist() == windows.loc[answered.index, "state"].tolist()
    assert np.array_equal(answered[["c0", "c3"]], windows.loc[answered.index, ["c0", "c3"]])


def test_sessions_together_have_the_answers_of_each_alone(answering):
    loaded, tables = answering
    loaded.schema = replace(loaded.schema, thermal=None)
    alone = pd.concat([seconds_of(loaded, table) for table in tables], ignore_index=True)
    pd.testing.assert_frame_equal(seconds_of(loaded, pd.concat(tables)), alone)


def test_summary_counts_warming_up_apart_from_the_states(answering):
    loaded, (table, _) = answering
    loaded.schema = replace(loaded.schema, thermal=None)
    table = table[(table["time"] < 120) & ~table["time"].between(90, 109)]
    sessions = [reduce_session(s, loaded.schema) for s in sessions_of(loaded.schema, table, None)]
    recording = StreamedRecording("r", store_in_memory(sessions, loaded.schema), [])
    summary, predicted = predict_one(loaded, recording)
    totals = PredictionTotals.of(4)
    totals.add(summary, predicted.windows, predicted.seconds, loaded.schema.alarm)
    assert totals.warming_up == 29 + 10 and set(totals.seconds) <= set(loaded.schema.state_names)
    assert sum(totals.seconds.values()) == 61 == summary.windows
    assert summary.state_at_end == "warming up"
    assert summary.worst_state == loaded.schema.state_names[predicted.windows["y_pred"].max()]
