"""Tabular models through the same entry: the run directory, the six cells, loading back, refusals, the sweep."""

import itertools
import json
import re
import sys

import numpy as np
import optuna
import pandas as pd
import pytest

from conveyorguard.config.checks import check
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.inference.predict import predict
from conveyorguard.reporting.report import write_report
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.saved import SavedRun
from conveyorguard.sweeps.trial import find_study
from conveyorguard.training.fit_tabular import load_tabular

FEW = ["model=lightgbm", "model.n_estimators=20"]
WINDOW = ["split", "session", "device", "kind", "start", "end", "seconds_to_end", "seconds_since_onset", "y_true"]
P = ["p0", "p1", "p2", "p3"]


def provenance(run):
    return json.loads((run / "provenance.json").read_text())


@pytest.fixture(scope="module")
def tabular_run(compose, tmp_path_factory):
    """A finished run of LightGBM; tests only read it."""
    from conveyorguard.commands.train import train

    folder = tmp_path_factory.mktemp("tabular") / "run"
    train(compose(*FEW), folder, FEW)
    return folder


def test_the_run_directory_is_complete_and_of_the_same_windows_as_a_networks(tabular_run, finished_run):
    names = {path.relative_to(tabular_run).as_posix() for path in tabular_run.rglob("*") if path.is_file()}
    network = {path.relative_to(finished_run).as_posix() for path in finished_run.rglob("*") if path.is_file()}
    assert network - names == {"history.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert names - network == {"importance.csv", "checkpoints/best.txt", "checkpoints/features.json"}
    assert (tabular_run / "config.yaml").read_text().startswith("# model=lightgbm modality=both film=true\n")
    ours, theirs = SavedRun(tabular_run), SavedRun(finished_run)
    assert ours.predictions[WINDOW].equals(theirs.predictions[WINDOW])
    assert list(ours.predictions) == list(theirs.predictions) and list(ours.metrics["test"]) == list(
        theirs.metrics["test"]
    )


def test_provenance_says_what_it_cost_and_what_was_not_used(tabular_run, finished_run):
    ours, theirs = provenance(tabular_run), provenance(finished_run)
    assert ours["unused"] == [
        "augment",
        "average",
        "batch_size",
        "loss",
        "mixup",
        "optimizer",
        "patience",
        "scaling",
        "trainer",
        "window.thermal_frames",
    ]
    assert theirs["unused"] == ["features"]
    for p in (ours, theirs):
        assert 0 < p["fit_seconds"] < p["seconds"] + 0.1 and p["model_bytes"] > 1000
    assert ours["parameters"] is None and theirs["parameters"] > 10_000
    assert ours["model_bytes"] == (tabular_run / "checkpoints" / "best.txt").stat().st_size
    assert theirs["model_bytes"] >= 4 * theirs["parameters"]


def test_importance_tells_feature_source_and_modality(tabular_run):
    table = SavedRun(tabular_run).importance
    assert list(table) == ["feature", "source", "modality", "gain", "shap"] and len(table) == 64
    assert table["gain"].sum() == pytest.approx(1, abs=1e-4) and table["gain"].is_monotonic_decreasing
    assert (table["shap"] >= 0).all() and (table.loc[table["gain"] == 0, "shap"] == 0).all()
    assert set(table["modality"]) == {"sensors", "thermal", "environment"}
    assert table.groupby("source").size()["NTC"] == 6 and table.groupby("source").size()["thermal"] == 7


def test_page_shows_importance_and_needs_no_history(tabular_run, finished_run):
    page = (tabular_run / "report.html").read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "<h2>What the model looks at</h2>" in own and "<h2>Learning</h2>" not in own
    assert "mean |SHAP|" in own and "CT2_mean" in own and "The first 20 features" in page
    assert "What the model looks at" not in (finished_run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "model",
    ["extra_trees", *(pytest.param(one, marks=pytest.mark.slow) for one in ("random_forest", "logistic_regression"))],
)
def test_the_others_leave_shap_empty_and_are_drawn_all_the_same(model, train_run):
    run = train_run(f"model={model}", *([] if model == "logistic_regression" else ["model.n_estimators=10"]))
    table = SavedRun(run).importance
    assert table["shap"].isna().all() and table["gain"].sum() == pytest.approx(1, abs=1e-4)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "The first 20 features" in page and "mean |SHAP|" not in page


@pytest.mark.slow
def test_six_cells(train_run):
    sizes, tables = {}, []
    for modality, film in itertools.product(("sensor", "image", "both"), ("true", "false")):
        run = train_run(*FEW, f"modality={modality}", f"film={film}")
        sizes[modality, film] = SavedRun(run).importance.groupby("modality").size().to_dict()
        tables.append(pd.read_parquet(run / "predictions.parquet"))
    s, t, e = {"sensors": 48}, {"thermal": 7}, {"environment": 9}
    assert sizes == {
        ("sensor", "true"): s | e,
        ("sensor", "false"): s,
        ("image", "true"): t | e,
        ("image", "false"): t,
        ("both", "true"): s | t | e,
        ("both", "false"): s | t,
    }
    assert all(table[WINDOW].equals(tables[0][WINDOW]) for table in tables)
    assert len({table[P].to_numpy().tobytes() for table in tables}) == 6


@pytest.mark.parametrize(
    "model",
    ["lightgbm", *(pytest.param(one, marks=pytest.mark.slow) for one in ("extra_trees", "logistic_regression"))],
)
def test_the_same_command_gives_the_same_bits_and_the_checkpoint_too(model, train_run, compose):
    overrides = [f"model={model}", "seed=3", "features=extended"]
    overrides += [] if model == "logistic_regression" else ["model.n_estimators=10"]
    first, again = train_run(*overrides), train_run(*overrides)
    saved = pd.read_parquet(first / "predictions.parquet")
    assert saved.equals(pd.read_parquet(again / "predictions.parquet"))
    classifier = load_tabular(next((first / "checkpoints").glob("best.*")))
    data = load_windows(classifier.config)
    for part in ("val", "test"):
        found = predict(classifier, WindowDataset(data.store, data.part(part), data.settings, classifier.inputs))
        assert np.array_equal(found, saved.loc[saved["split"] == part, P].to_numpy())


def test_another_seed_is_another_model_on_the_same_split(train_run):
    one, other = (pd.read_parquet(train_run(*FEW, f"seed={s}") / "predictions.parquet") for s in (0, 1))
    assert not one.equals(other) and one[WINDOW].equals(other[WINDOW])


def test_validation_and_test_train_nothing(train_run, monkeypatch):
    """The model is what it is without them: other labels there leave every probability as it was."""
    whole = pd.read_parquet(train_run(*FEW) / "predictions.parquet")
    from conveyorguard.commands import train as job

    def relabelled(cfg):
        data = load_windows(cfg)
        data.frame.loc[data.frame["part"] != "train", "label"] = 0
        return data

    monkeypatch.setattr(job, "load_windows", relabelled)
    assert pd.read_parquet(train_run(*FEW) / "predictions.parquet")[P].equals(whole[P])


def test_a_checkpoint_of_other_features_is_refused(tabular_run, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(tabular_run, run)
    path = run / "checkpoints" / "features.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "names": saved["names"][::-1]}))
    classifier = load_tabular(run / "checkpoints" / "best.txt")
    data = load_windows(classifier.config)
    with pytest.raises(RunError, match="other features"):
        predict(classifier, WindowDataset(data.store, data.part("val"), data.settings, classifier.inputs))


def test_settings_that_cannot_work_are_told_at_once(compose, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    monkeypatch.setattr("conveyorguard.config.checks.find_spec", lambda name: None)
    cfg = compose(
        "model=xgboost", "features=extended", "window.size=8", "window.thermal_frames=5", "objective=val/loss"
    )
    with pytest.raises(ConfigError) as error:
        check(cfg)
    text = str(error.value)
    assert text.count("\n  - ") == 3, text
    assert "conveyorguard[boosting]" in text and "features.lags=[1, 5, 10]" in text and "val/nll" in text


def test_what_a_tabular_model_does_not_use_cannot_stop_it(compose):
    check(compose(*FEW, "trainer=ddp_2xT4", "batch_size=0", "trainer.max_epochs=0"))


def test_a_page_can_be_drawn_again(tabular_run):
    before = (tabular_run / "report.html").stat().st_size
    assert write_report(tabular_run).stat().st_size == pytest.approx(before, rel=0.01)


@pytest.mark.slow
def test_network_and_trees_in_one_multirun(command, tmp_path):
    command("-m", "model=fusion,lightgbm", "modality=sensor", f"hydra.sweep.dir={tmp_path / 'multi'}")
    tables = [pd.read_parquet(tmp_path / "multi" / n / "predictions.parquet") for n in "01"]
    assert tables[0][WINDOW].equals(tables[1][WINDOW])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lightgbm", "logistic_regression"])
def test_a_sweep_of_a_tabular_model(model, command, tmp_path):
    study = f"{model}-sensor"
    out = command("-m", "sweep=optuna", f"model={model}", "modality=sensor", "sweep.n_trials=3")
    trials = find_study(str(tmp_path / "studies" / study / "journal.log"), study).get_trials()
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 3, out.stdout
    for trial in trials:
        run = tmp_path / "studies" / study / str(trial.number)
        metrics = json.loads((run / "metrics.json").read_text())
        assert list(metrics) == ["val"] and metrics["val"]["accuracy"] == pytest.approx(trial.value)
    assert re.search(rf"retrain it: python .*model={model} .*model\.", out.stdout), out.stdout
