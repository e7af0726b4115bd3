"""The contract of a run directory: its files, and that their figures follow from the predictions."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from conveyorguard.cli import train_main
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.errors import RunError
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.scores import evaluate
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import claim_directory, locked
from conveyorguard.training.fit import load_module

COLUMNS = [
    "split",
    "session",
    "device",
    "kind",
    "start_time",
    "end_time",
    "start",
    "end",
    "seconds_to_end",
    "seconds_since_onset",
    "y_true",
    "y_pred",
    "p0",
    "p1",
    "p2",
    "p3",
    "c0",
    "c1",
    "c2",
    "c3",
]
METRIC_KEYS = {
    "accuracy",
    "macro_f1",
    "severe_recall",
    "severe_precision",
    "severe_as_normal",
    "qwk",
    "nll",
    "ece",
    "per_class",
    "confusion",
    "n",
}
HISTORY = [
    "epoch",
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "val/macro_f1",
    "lr",
    "seconds",
]


def test_finished_run_has_every_file_of_the_contract(finished_run):
    names = {path.relative_to(finished_run).as_posix() for path in finished_run.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml",
        "provenance.json",
        "metrics.json",
        "predictions.parquet",
        "examples.npz",
        "history.csv",
        "split.json",
        "shortcuts.parquet",
        "calibration.json",
        "memory.json",
        "alarms.json",
        "ranges.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "report.html",
        "MODEL_CARD.md",
    }
    assert list(pd.read_parquet(finished_run / "predictions.parquet")) == COLUMNS
    assert list(pd.read_csv(finished_run / "history.csv"))[: len(HISTORY)] == HISTORY
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert list(metrics) == ["val", "test", "now"] and list(metrics["now"]) == ["val", "test"]
    assert all(set(metrics[part]) >= METRIC_KEYS == set(metrics["now"][part]) & METRIC_KEYS for part in ("val", "test"))


def test_metrics_follow_from_the_predictions(finished_run):
    run = SavedRun(finished_run)
    names = [s["name"] for s in run.config.data.schema.states]
    for part, saved in run.metrics.items():
        evaluated = evaluate(as_predictions(run.predictions[run.predictions["split"] == part]), names)
        assert evaluated == saved.plain()
    table = run.predictions
    assert (table[["p0", "p1", "p2", "p3"]].to_numpy().argmax(axis=1) == table["y_pred"]).all()
    assert np.allclose(table[["p0", "p1", "p2", "p3"]].sum(axis=1), 1, atol=1e-5)
    assert not table.duplicated(["session", "start"]).any()
    assert (table["end"] - table["start"] == 29).all()
    assert not set(table.query("split == 'val'")["session"]) & set(table.query("split == 'test'")["session"])


def test_provenance_names_what_can_change_the_result(finished_run):
    p = json.loads((finished_run / "provenance.json").read_text())
    assert p["status"] == "complete" and p["seconds"] > 0 and p["peak_memory_mib"] > 0 and p["threads"] == 1
    assert (
        p["versions"]["torch"]
        and p["store"]["fingerprint"]
        and p["host"]
        and p["command"].startswith("python train.py")
    )
    assert p["split"] == json.loads((finished_run / "split.json").read_text())["hash"]
    assert set(p["git"]) == {"commit", "dirty"}


def test_predictions_are_of_the_best_epoch_not_the_last(train_run, compose):
    """A learning rate that spoils the later epochs keeps the best and the last weights apart."""
    overrides = ["optimizer.lr=0.05", "average=null", "trainer.max_epochs=5", "seed=4"]
    run = train_run(*overrides)
    history = pd.read_csv(run / "history.csv")
    best = history["val/macro_f1"].idxmax()
    assert best < len(history) - 1, "the test needs a run whose last epoch is not its best"
    data = load_windows(compose(*overrides))
    saved = pd.read_parquet(run / "predictions.parquet").query("split == 'val'")[["p0", "p1", "p2", "p3"]].to_numpy()
    predicted = {}
    for name in ("best", "last"):
        module, facts = load_module(run / "checkpoints" / f"{name}.ckpt")
        predicted[name] = predict(module, WindowDataset(data.store, data.judged("val"), data.settings, facts["inputs"]))
    assert np.array_equal(predicted["best"], saved)
    assert not np.allclose(predicted["last"], saved)
    table = SavedRun(run).rows("val")
    spaced = table[table["start"] % data.settings.stride == 0]  # the windows that epochs are judged by
    assert len(spaced) == len(data.part("val"))
    names = data.store.schema.state_names
    assert evaluate(as_predictions(spaced), names)["macro_f1"] == pytest.approx(history["val/macro_f1"][best], abs=1e-4)


def test_checkpoints_load_as_weights_only(finished_run):
    for name in ("best", "last"):
        state = torch.load(finished_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert state["conveyorguard"]["config"]["model"]["name"] == "fusion"
        assert any(key.startswith("scaling.") for key in state["state_dict"])


def test_page_needs_no_network_and_shows_no_folder_of_the_machine(finished_run):
    page = (finished_run / "report.html").read_text(encoding="utf-8")
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.S)  # without the plotting library
    assert not re.findall(r"(?:src|href)=[\"']?(?!data:)(?:https?:|//|/)", markup)
    assert str(finished_run.parent) not in page and "/tmp/" not in markup and "/root/" not in markup
    for heading in (
        "Result",
        "By state",
        "Learning",
        "Windows to look at first",
        "Where it comes from",
        "Config",
    ):
        assert f"<h2>{heading}</h2>" in markup
    assert "심각" in markup and "data:image/png;base64" in markup


def test_run_with_test_false_has_no_result_on_test(train_run):
    run = train_run("test=false", "trainer.max_epochs=1")
    assert list(json.loads((run / "metrics.json").read_text())) == ["val", "now"]
    assert set(pd.read_parquet(run / "predictions.parquet")["split"]) == {"val"}
    assert "test: false" in (run / "config.yaml").read_text()


def test_folder_without_config_is_refused_as_a_run(tmp_path):
    with pytest.raises(RunError, match=r"no config\.yaml"):
        SavedRun(tmp_path)


@pytest.mark.slow
def test_every_modality_has_the_same_windows_and_lists_its_unused_settings(train_run):
    runs = {
        arm: train_run(f"modality={arm}", "film=false", "trainer.max_epochs=1") for arm in ("sensor", "image", "both")
    }
    tables = {arm: pd.read_parquet(run / "predictions.parquet")[COLUMNS[:11]] for arm, run in runs.items()}
    assert tables["sensor"].equals(tables["image"]) and tables["sensor"].equals(tables["both"])
    unused = {arm: json.loads((run / "provenance.json").read_text())["unused"] for arm, run in runs.items()}
    assert unused == {
        "sensor": [
            *(f"augment.{name}" for name in ("drop_thermal", "flip", "freeze_thermal")),
            "features",
            "scaling.thermal",
            "window.thermal_frames",
        ],
        "image": ["augment.dead_sensor", "augment.noise", "features"],
        "both": ["features"],
    }


def test_runs_begun_in_the_same_second_get_separate_directories(tmp_path):
    with claim_directory(tmp_path / "now") as first, claim_directory(tmp_path / "now") as second:
        assert (first.name, second.name) == ("now", "now-2")
        (first / "provenance.json").write_text("{}")
    with claim_directory(tmp_path / "now") as third:  # the first has ended, and its files stay
        assert third.name == "now-2"
    assert [path.name for path in (tmp_path / "now").iterdir()] == ["provenance.json"]


def test_directory_in_use_is_refused_and_an_error_inside_is_raised(tmp_path):
    with locked(tmp_path / "named"), pytest.raises(RunError, match="named: another process works on it"):
        locked(tmp_path / "named").__enter__()
    with pytest.raises(RunError, match="mine"), claim_directory(tmp_path / "named"):
        raise RunError("mine")


def test_training_into_a_directory_in_use_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "debug=fast", f"hydra.run.dir={tmp_path}"])
    with locked(tmp_path), pytest.raises(SystemExit) as ended:
        train_main()
    assert ended.value.code == 2 and "another process works on it" in capsys.readouterr().err
