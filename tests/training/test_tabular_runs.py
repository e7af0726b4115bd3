"""Tabular models through the training entry: run directory, six cells, reloading, refusals, sweep."""

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
    """A finished LightGBM run, only to be read."""
    from conveyorguard.commands.train import train

    folder = tmp_path_factory.mktemp("tabular") / "run"
    train(compose(*FEW), folder, FEW)
    return folder


def test_tabular_run_directory_has_the_same_windows_and_columns_as_a_network(tabular_run, finished_run):
    files, network_files = (
        {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
        for run in (tabular_run, finished_run)
    )
    assert network_files - files == {"history.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert files - network_files == {"importance.csv", "checkpoints/best.txt", "checkpoints/features.json"}
    assert (tabular_run / "config.yaml").read_text().startswith("# model=lightgbm modality=both film=true\n")
    trees, network = SavedRun(tabular_run), SavedRun(finished_run)
    assert trees.predictions[WINDOW].equals(network.predictions[WINDOW])
    assert list(trees.predictions) == list(network.predictions)
    assert list(trees.metrics["test"]) == list(network.metrics["test"])


def test_provenance_records_cost_and_unused_settings(tabular_run, finished_run):
    trees, network = provenance(tabular_run), provenance(finished_run)
    assert trees["unused"] == [
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
    assert network["unused"] == ["features"]
    for p in (trees, network):
        assert 0 < p["fit_seconds"] < p["seconds"] + 0.1 and p["model_bytes"] > 1000
    assert trees["parameters"] is None and network["parameters"] > 10_000
    assert trees["model_bytes"] == (tabular_run / "checkpoints" / "best.txt").stat().st_size
    assert network["model_bytes"] >= 4 * network["parameters"]


def test_importance_lists_feature_source_modality_gain_and_shap(tabular_run):
    table = SavedRun(tabular_run).importance
    assert list(table) == ["feature", "source", "modality", "gain", "shap"] and len(table) == 64
    assert table["gain"].sum() == pytest.approx(1, abs=1e-4) and table["gain"].is_monotonic_decreasing
    assert (table["shap"] >= 0).all() and (table.loc[table["gain"] == 0, "shap"] == 0).all()
    assert set(table["modality"]) == {"sensors", "thermal", "environment"}
    assert table.groupby("source").size()["NTC"] == 6 and table.groupby("source").size()["thermal"] == 7


def test_report_of_trees_shows_importance_and_no_learning_curves(tabular_run, finished_run):
    page = (tabular_run / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert "<h2>What the model looks at</h2>" in text and "<h2>Learning</h2>" not in text
    assert "mean |SHAP|" in text and "CT2_mean" in text and "The first 20 features" in page
    assert "What the model looks at" not in (finished_run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "model",
    ["extra_trees", *(pytest.param(name, marks=pytest.mark.slow) for name in ("random_forest", "logistic_regression"))],
)
def test_models_without_shap_still_get_an_importance_plot(model, train_run):
    run = train_run(f"model={model}", *([] if model == "logistic_regression" else ["model.n_estimators=10"]))
    table = SavedRun(run).importance
    assert table["shap"].isna().all() and table["gain"].sum() == pytest.approx(1, abs=1e-4)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "The first 20 features" in page and "mean |SHAP|" not in page


@pytest.mark.slow
def test_six_cells_use_their_own_features_on_the_same_windows(train_run):
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
    ["lightgbm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("extra_trees", "logistic_regression"))],
)
def test_repeated_training_and_reloaded_checkpoint_give_identical_predictions(model, train_run, compose):
    overrides = [f"model={model}", "seed=3", "features=extended"]
    overrides += [] if model == "logistic_regression" else ["model.n_estimators=10"]
    first, again = train_run(*overrides), train_run(*overrides)
    saved = pd.read_parquet(first / "predictions.parquet")
    assert saved.equals(pd.read_parquet(again / "predictions.parquet"))
    classifier = load_tabular(next((first / "checkpoints").glob("best.*")))
    data = load_windows(classifier.config)
    for part in ("val", "test"):
        p = predict(classifier, WindowDataset(data.store, data.judged(part), data.settings, classifier.inputs))
        assert np.array_equal(p, saved.loc[saved["split"] == part, P].to_numpy())


def test_seed_changes_model_but_not_split(train_run):
    tables = [pd.read_parquet(train_run(*FEW, f"seed={s}") / "predictions.parquet") for s in (0, 1)]
    assert not tables[0].equals(tables[1]) and tables[0][WINDOW].equals(tables[1][WINDOW])


def test_validation_and_test_labels_do_not_affect_the_model(train_run, monkeypatch):
    """Other labels outside train leave every probability unchanged."""
    whole = pd.read_parquet(train_run(*FEW) / "predictions.parquet")
    from conveyorguard.commands import train as job

    def relabelled(cfg):
        data = load_windows(cfg)
        data.frame.loc[data.frame["part"] != "train", "label"] = 0
        return data

    monkeypatch.setattr(job, "load_windows", relabelled)
    assert pd.read_parquet(train_run(*FEW) / "predictions.parquet")[P].equals(whole[P])


def test_checkpoint_with_other_features_is_refused(tabular_run, tmp_path):
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


def test_all_impossible_tabular_settings_are_reported_at_once(compose, monkeypatch):
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


def test_impossible_network_settings_do_not_stop_a_tabular_model(compose):
    check(compose(*FEW, "trainer=ddp_2xT4", "batch_size=0", "trainer.max_epochs=0"))


def test_report_of_trees_can_be_written_again(tabular_run):
    before = (tabular_run / "report.html").stat().st_size
    assert write_report(tabular_run).stat().st_size == pytest.approx(before, rel=0.01)


@pytest.mark.slow
def test_network_and_trees_in_one_multirun_use_the_same_windows(command, tmp_path):
    command("-m", "model=fusion,lightgbm", "modality=sensor", f"hydra.sweep.dir={tmp_path / 'multi'}")
    tables = [pd.read_parquet(tmp_path / "multi" / n / "predictions.parquet") for n in "01"]
    assert tables[0][WINDOW].equals(tables[1][WINDOW])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lightgbm", "logistic_regression"])
def test_sweep_tunes_a_tabular_model_on_validation_alone(model, command, tmp_path):
    study = f"{model}-sensor"
    out = command("-m", "sweep=optuna", f"model={model}", "modality=sensor", "sweep.n_trials=3")
    trials = find_study(str(tmp_path / "studies" / study / "journal.log"), study).get_trials()
    assert [trial.state for trial in trials] == [optuna.trial.TrialState.COMPLETE] * 3, out.stdout
    for trial in trials:
        run = tmp_path / "studies" / study / str(trial.number)
        metrics = json.loads((run / "metrics.json").read_text())
        assert (
            list(metrics) == ["val", "now"]
            and list(metrics["now"]) == ["val"]
            and metrics["val"]["accuracy"] == pytest.approx(trial.value)
        )
    assert re.search(rf"retrain it: python .*model={model} .*model\.", out.stdout), out.stdout
