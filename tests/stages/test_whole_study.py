"""The whole study by its commands: figures follow the predictions, and a killed study continues."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch

from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.models.cnn_transformer import CNNTransformer
from conveyorguard.runs.saved import SavedRun
from experiments.stages.final_page import write_final
from experiments.stages.study import TITLES
from experiments.stages.trees_page import write_trees
from tests.support.places import ROOT
from tests.support.studies import LINEAR, table


@pytest.mark.slow
def test_changed_predictions_change_figures_of_their_arm_only(tiny, linear, tmp_path):
    """One predictions file is changed: the figures of its arm and the conclusion follow, the other arm stays."""
    study = tiny(tmp_path)
    shutil.copytree(linear, tmp_path / "runs" / "linear")
    runs = study.train_all(
        {"linear": LINEAR, "trees": ["model=extra_trees", "modality=sensor", "model.n_estimators=20"]}
    )
    folders = [run.folder for run in runs.values()]

    def written():
        write_final(study.site, folders)
        names = ("07_comparison", "07_differences", "07_devices")
        return (tmp_path / "07_final_comparison.html").read_text(), *(table(study, name) for name in names)

    page, before, differences, devices = written()
    before = before.set_index("arm")
    path = runs["linear"].folder / "predictions.parquet"
    predictions = pd.read_parquet(path)
    was_best = before[~before["shortcut"]]["validation_macro_f1"].idxmax() == "linear"
    y = predictions["y_true"].to_numpy()
    rng = np.random.default_rng(0)
    hit = rng.random(len(y)) < 0.9
    guess = np.where(hit, (y + 1) % 4 if was_best else y, (y + 2) % 4)  # the better one becomes bad, the worse one good
    p = np.full((len(y), 4), 0.02) + 0.92 * np.eye(4)[guess]
    for k in range(4):
        predictions[f"p{k}"] = predictions[f"c{k}"] = p[:, k].astype(np.float32)
    predictions["y_pred"] = guess
    predictions.to_parquet(path, index=False)
    page_after, after, differences_after, devices_after = written()
    after = after.set_index("arm")

    for part, prefix in (("test", ""), ("val", "validation_")):
        of_part = predictions["split"] == part
        for name, expected in (
            ("accuracy", sklearn.metrics.accuracy_score(y[of_part], guess[of_part])),
            ("macro_f1", sklearn.metrics.f1_score(y[of_part], guess[of_part], average="macro")),
        ):
            assert after[prefix + name]["linear"] == pytest.approx(expected) != before[prefix + name]["linear"]
    test = predictions["split"] == "test"
    merged = sklearn.metrics.accuracy_score(np.array([0, 1, 1, 2])[y[test]], np.array([0, 1, 1, 2])[guess[test]])
    recall = sklearn.metrics.recall_score(y[test], guess[test], labels=[3], average="macro")
    distance = np.abs(y[test] - guess[test]).mean()
    called_normal = ((y[test] == 3) & (guess[test] == 0)).sum()
    for name, expected in (
        ("merged_accuracy", merged),
        ("severe_recall", recall),
        ("ordinal_error", distance),
        ("severe_as_normal", called_normal),
    ):
        assert after[name]["linear"] == pytest.approx(expected), name
    for name in ("ece", "nll", "brier", "qwk", "ordinal_error", "merged_macro_f1"):
        assert after[name]["linear"] != before[name]["linear"], name
    kept = [arm for arm in before.index if arm != "linear"]
    pd.testing.assert_frame_equal(after.loc[kept].sort_index(), before.loc[kept].sort_index())
    assert (differences["difference"].abs() != differences_after["difference"].abs()).all()
    right = pd.Series(y == guess)[test].groupby(predictions["device"][test]).mean()
    assert devices_after.set_index("device")["linear"].to_dict() == pytest.approx(right.to_dict())
    assert devices["trees"].equals(devices_after["trees"]) and not devices["linear"].equals(devices_after["linear"])
    best = "trees" if was_best else "linear"
    for text in (page_after, (tmp_path / "index.html").read_text()):
        assert re.search(f"(Best|Highest macro-F1 on validation): {best}", text)
    assert not re.search(f"(Best|Highest macro-F1 on validation): {best}", page)
    shown = f"{after['accuracy']['linear']:.1%}"
    assert shown in page_after and f"{recall:.1%}" in page_after

    write_trees(study.site, {"linear": SavedRun(folders[0])}, {"Sensor Only": SavedRun(folders[0])}, shown="linear")
    trees = (tmp_path / "03_ml_baseline.html").read_text()
    assert shown.replace("%", " %") in trees
    assert table(study, "03_models")["test accuracy"][0] == after["accuracy"]["linear"]
    assert table(study, "03_classes_test")["recall"][3] == pytest.approx(recall)


@pytest.mark.slow
def test_whole_study_writes_all_pages_and_trains_only_missing_runs(cache, tmp_path, opens):
    """All stages as `make study` runs them, with tiny networks; then one stage again with a run missing."""
    small = [
        "data.sessions=12",
        "trainer=cpu",
        "trainer.max_epochs=1",
        "threads=1",
        "window.stride=30",
        "data.schema.thermal.stored=[6,8]",
        "data.schema.thermal.stride=10",
        "sweep.n_trials=2",
    ]
    out = tmp_path / "out"

    def run(*more, script="study.py"):
        command = [sys.executable, str(ROOT / "experiments" / script), *more, f"paths.cache={cache}", f"out={out}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    first = run(*small)
    assert Path(first.stdout.strip()) == out / "index.html"
    opens(out, "index", *TITLES, "tuned_confusion_matrix")
    model = torch.load(out / "tuned_model.pt", weights_only=True)
    assert set(model) == {
        "model_state_dict",
        "best_val_acc",
        "test_acc",
        "best_params",
        "ablation_results",
        "model_config",
    }
    assert set(model["ablation_results"]) == {*CELLS.values(), *FURTHER_CELLS.values()}
    assert model["best_val_acc"] == model["ablation_results"]["Sensor + Image + FiLM (Full)"]
    load_tuned(model, out)
    comparison = pd.read_csv(out / "tables" / "07_comparison.csv")
    assert {"baseline_cnn", "lightgbm", "fusion", "ensemble stacking", "tuned_sensor_plain"} <= set(comparison["arm"])
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/metrics.json")}
    shutil.rmtree(out / "runs" / "lightgbm_image_plain")  # as if it had been killed there
    again = run(*small[:-1], script="03_ml_baseline.py")  # it has no search
    assert "lightgbm_image_plain: done" in again.stderr and again.stderr.count(": done in") == 1
    unchanged = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp]
    assert {path.parent.name for path in stamps} - {path.parent.name for path in unchanged} == {"lightgbm_image_plain"}


@pytest.mark.slow
def test_best_model_prints_its_tables_and_trains_only_missing_runs(cache, tmp_path, opens):
    """With tiny networks; then again with a run missing."""
    out = tmp_path / "out"
    command = [
        sys.executable,
        str(ROOT / "experiments" / "08_best_model.py"),
        "arms=",
        "data.sessions=12",
        "trainer=cpu",
        "trainer.max_epochs=1",
        "threads=1",
        "window.stride=30",
        "data.schema.thermal.stored=[6,8]",
        "data.schema.thermal.stride=10",
        f"paths.cache={cache}",
        f"out={out}",
    ]

    def run():
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1500)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    first = run()
    summary, _, page = first.stdout.strip().rpartition("\n")
    assert Path(page) == out / "08_best_model.html" and summary.strip() == (out / "summary.md").read_text().strip()
    opens(out, "08_best_model")
    sections = (
        "Targets",
        "What each input contributes",
        "split=kfold",
        "split=device",
        "split=session",
        "When something fails",
        "Without the recordings' start",
        "Devices",
        "Errors near a change of state",
        "Second by second",
        "Faults: delay",
        "Recordings used for no choice",
        "Speed",
        "Notes",
    )
    assert [name for name in sections if f"\n## {name}" not in summary] == []
    assert "Recommended by the rule of `diagnose`" in summary and "in 2 folds" in summary
    names = [path.name for path in (out / "tables").glob("*.csv") if path.stem != "08_best_model_speed"]
    before = {name: (out / "tables" / name).read_text() for name in names if name != "08_best_model_targets.csv"}
    shutil.rmtree(out / "runs" / "lightgbm-kfold1-seed0")  # as if it had been killed there
    again = run()
    assert again.stderr.count(": done in") == 1 and "lightgbm-kfold1-seed0: done" in again.stderr
    assert {name: (out / "tables" / name).read_text() for name in before} == before and len(before) > 10


def load_tuned(model, out):
    """Load the weights into the network that `model_config` describes."""
    settings = {key: value for key, value in model["model_config"].items() if key not in ("name", "_target_")}
    network = CNNTransformer(SavedRun(out / "runs" / "tuned_both_film").schema, **settings)
    network.load_state_dict(model["model_state_dict"])
