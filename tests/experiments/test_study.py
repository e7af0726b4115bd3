"""The study: its numbers follow from the store, complete runs are reused and others not, every page opens."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Barrier

import numpy as np
import pandas as pd
import psutil
import pytest
import sklearn.metrics
import torch

from conveyorguard.cli import main as verb
from conveyorguard.data import exploration
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.models.cnn_transformer import CNNTransformer
from conveyorguard.reporting.eda_page import write_eda
from conveyorguard.reporting.report import write_report
from conveyorguard.runs.saved import SavedRun
from experiments.stages import seed_figures
from experiments.stages.final_page import write_final
from experiments.stages.preprocess_page import leakage, write_preprocess
from experiments.stages.study import TITLES, Study, main
from experiments.stages.trees_page import write_trees

ROOT = Path(__file__).parents[2]
LINEAR = ["model=logistic_regression", "modality=sensor"]


@pytest.fixture(scope="session")
def explored(tiny, tmp_path_factory):
    """The study of stages 00 and 01; tests only read it."""
    study = tiny(tmp_path_factory.mktemp("explored"), size="small")
    write_eda(study.site, study.data(), seed_figures.REFERENCE)
    write_preprocess(study.site, study.data(), study.config().scaling.fit_on)
    return study


def table(study, name):
    return pd.read_csv(study.out / "tables" / f"{name}.csv")


def test_figures_of_the_data_follow_from_the_store(explored):
    store = explored.data().store
    frames, states = store.frames, len(store.schema.states)
    counts = np.bincount(frames["state"], minlength=states)
    balance = table(explored, "00_balance")
    assert balance["seconds"].tolist() == counts.tolist()
    assert balance["windows"].tolist() == np.bincount(explored.data().frame["label"], minlength=states).tolist()
    page = (explored.out / "00_eda.html").read_text()
    assert f"{counts[0]:,}" in page and f"{counts[0] / counts.sum():.1%}" in page
    correlations = table(explored, "00_correlations").set_index("quantity")
    for name in store.schema.channels:
        expected = np.corrcoef(frames[name].astype(float), frames["state"])[0, 1]
        assert correlations["pearson"][name] == pytest.approx(expected)
        assert f"{expected:+.3f}" in page
    sizes = table(explored, "00_sizes").set_index("kind")
    assert sizes["seconds"]["all"] == len(frames) and sizes["sessions"]["all"] == frames["session"].nunique()
    maxima = table(explored, "00_thermal_maxima")
    own = frames[(frames["kind"] == "oht") & (frames["state"] == states - 1)]["thermal_max"]
    row = maxima[(maxima["kind"] == "oht") & (maxima["state"] == "severe 심각")].iloc[0]
    assert row["q50"] == pytest.approx(own.median()) and row["n"] == len(own)


def test_the_seed_studys_figures_stand_apart_and_say_whose_they_are(explored):
    header = list(table(explored, "00_correlations"))
    assert [name for name in header if "own data" in name] == header[-1:]
    assert table(explored, "00_correlations")[header[-1]].dropna().tolist() == list(
        seed_figures.CORRELATIONS[q]
        for q in table(explored, "00_correlations")["quantity"]
        if q in seed_figures.CORRELATIONS
    )
    page = (explored.out / "01_preprocess.html").read_text()
    assert "7,311" in page and "Seed study, on its own data" in page
    assert "7311" not in (explored.out / "tables" / "01_parts.csv").read_text()


def test_windows_and_class_weights_of_the_split(explored):
    data = explored.data()
    parts = table(explored, "01_parts").set_index("part")
    for part in ("train", "val", "test"):
        assert (
            parts["windows"][part] == len(data.part(part))
            and parts["sessions"][part] == data.part(part)["session"].nunique()
        )
    states = table(explored, "01_states")
    counts = data.class_counts()
    assert states["train"].tolist() == counts.tolist()
    assert states["class weight"].to_numpy() == pytest.approx((1 / counts) * len(counts) / (1 / counts).sum())
    assert states["class weight"].sum() == pytest.approx(len(counts))
    assert (states["pure"].sum(), states["mixed"].sum()) == (data.frame["pure"].sum(), (~data.frame["pure"]).sum())


def test_the_seed_studys_class_weights_are_of_its_counts():
    # 1,608 test windows of which 788 / 371 / 361 / 88: shares of all data, so the weights come out near its own
    weights = exploration.class_weights(np.array(seed_figures.TEST_SUPPORT))
    assert weights == pytest.approx(seed_figures.CLASS_WEIGHTS, abs=0.05)


def test_leakage_is_found(explored):
    assert (table(explored, "01_leakage")["verdict"] != "LEAK").all()
    assert (leakage(explored.data(), "all")["verdict"] == "LEAK").sum() == 1
    data = explored.data()
    mixed = data.frame.copy()
    mixed.loc[mixed.index[:1], "part"] = "test" if mixed["part"].iloc[0] != "test" else "train"
    found = leakage(type(data)(data.store, mixed, data.split, data.settings), "train").set_index("check")["verdict"]
    assert found["sessions in two parts"] == found["seconds that windows of two parts have in common"] == "LEAK"


def test_implications_follow_from_other_data_otherwise(store_of, plain_schema, session_of):
    """Two kinds alike, states balanced and coming back, no camera: another reading of the same rules."""
    from conveyorguard.data.splits import make_split
    from conveyorguard.data.windows import Windows, WindowSettings, make_windows

    rng = np.random.default_rng(0)
    sessions = []
    for i in range(8):
        sensors = np.stack([rng.normal(20, 1, 240), rng.normal(5, 0.1, 240)], axis=1)
        sessions.append(
            session_of(f"s{i}", np.arange(240), np.repeat([3, 0, 1, 2], 60), device=f"d{i}", kind="a", sensors=sensors)
        )
    store = store_of(sessions, plain_schema)
    settings = WindowSettings(10, 10, "majority", "all")
    frame = make_windows(store, settings)
    split = make_split(frame, plain_schema, {"name": "session", "seed": 0})
    data = Windows(store, frame.assign(part=split.part_of(frame["session"])), split, settings)
    follows = {one.about: one.follows for one in exploration.implications(data)}
    assert follows["Balance of the states"] == "no class weights are needed"
    assert follows["Spread of the channels"] == "linear scales do"
    assert follows["Order of the states"].startswith("states come back")
    assert follows["Mixed windows"] == "window labels are enough"
    assert "Kinds of device" not in follows and "The camera's maximum" not in follows


@pytest.mark.slow
def test_plotly_comes_once_and_pages_open(explored, opens):
    assert (explored.out / "assets" / "plotly.min.js").stat().st_size > 1_000_000
    for page in explored.out.glob("*.html"):
        assert page.stat().st_size < 1_000_000
        assert "A small study" in page.read_text() and "not a result on AI Hub" in page.read_text()
    assert "01_preprocess.html" in (explored.out / "00_eda.html").read_text()  # written later, linked all the same
    opens(explored.out, "index", "00_eda", "01_preprocess")


@pytest.mark.slow
def test_tables_sort_by_number_when_a_head_is_clicked(explored, sorted_by):
    page, frame = explored.out / "01_preprocess.html", table(explored, "01_parts").set_index("part")
    down = frame["windows"].sort_values(ascending=False, kind="stable").index.tolist()
    assert frame["windows"].is_unique or len(set(frame["windows"])) == 2
    column = ["part", *frame].index("windows")
    assert sorted_by(page, column)[0] == down[0] == "train"
    assert sorted_by(page, column, clicks=2)[-1] == "train"


def test_the_verb_eda(explored, cache, tmp_path, capsys):
    assert verb(["eda", *explored.overrides, f"out={tmp_path / 'eda'}"]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "eda" / "00_eda.html"
    assert verb(["eda", "data=aihub"]) == 2 and "data.root" in capsys.readouterr().err


@pytest.fixture(scope="session")
def linear(tiny, tmp_path_factory):
    """A trained run of a study; tests only read or copy it."""
    return tiny(tmp_path_factory.mktemp("linear")).train("linear", LINEAR).folder


def test_a_complete_run_is_reused_and_no_other(tiny, linear, tmp_path, monkeypatch):
    folder, made = tmp_path / "runs" / "linear", []

    def execute(self, name, arguments, *_):
        made.append(name)
        shutil.copytree(linear, folder)
        return 0

    monkeypatch.setattr(Study, "execute", execute)
    shutil.copytree(linear, folder)

    def complete(*overrides):
        study = tiny(tmp_path, *overrides)
        return study.is_complete(folder, study.config(LINEAR))

    def reused(study):
        made.clear()
        return study.train("linear", LINEAR).folder == folder and not made

    assert tiny(tmp_path).finished() == ([folder], [])
    assert tiny(tmp_path, "window.stride=5").finished() == (
        [],
        ["linear is left out: it has window.stride=10, the study 5"],
    )
    assert tiny(tmp_path, "split.seed=1").finished() == ([], ["linear is left out: it has another split"])
    assert complete() and reused(tiny(tmp_path))
    assert complete("logger=none", "data.strict=false")  # neither changes the run
    assert not complete("seed=3") and not complete("window.stride=5") and not complete("split.seed=1")
    facts = json.loads((folder / "provenance.json").read_text())
    for reason, change in (
        ("it was made on other data", {"store": {**facts["store"], "fingerprint": "of other data"}}),
        ("the run is not finished", {"status": "running"}),
    ):
        (folder / "provenance.json").write_text(json.dumps({**facts, **change}))
        found, left_out = tiny(tmp_path).finished()
        assert not complete() and not found and left_out[0].startswith(f"linear is left out: {reason}")
    (folder / "provenance.json").write_text(json.dumps(facts))
    (folder / "predictions.parquet").unlink()  # killed while it was writing
    found, left_out = tiny(tmp_path).finished()
    assert not found and left_out[0].startswith("linear is left out: no predictions.parquet")
    assert not complete() and not reused(tiny(tmp_path)) and complete() and reused(tiny(tmp_path))
    fresh = tiny(tmp_path, fresh=True)
    assert not reused(fresh)
    assert reused(fresh), "another stage does not make it once more"


def test_settings_of_the_search_are_the_searchs(tiny, tmp_path):
    study = tiny(tmp_path, "sweep.n_trials=2", size="small")
    assert study.sweep_config(["sweep=optuna"], ["sweep.n_trials=3"]).sweep.n_trials == 2
    assert "sweep" not in study.config(LINEAR)
    with pytest.raises(ConfigError, match=r"sweep\.n_trial"):
        tiny(tmp_path, "sweep.n_trial=2").sweep_config(["sweep=optuna"], [])


@pytest.mark.slow
def test_a_failed_training_names_its_log(tiny, tmp_path):
    with pytest.raises(RunError, match=r"bad: the training failed: .*\n.*bad\.log"):
        tiny(tmp_path).train("bad", ["model=lightgbm", "model.num_leaves=-1"])
    assert not (tmp_path / "runs" / "bad" / "metrics.json").exists()


@pytest.mark.slow
def test_every_number_and_the_conclusion_follow_the_predictions(tiny, linear, tmp_path):
    """One predictions file is changed and nothing else: the figures of its arm follow, those of the other stay."""
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
    was_best = before[~before["shortcut"]]["macro_f1"].idxmax() == "linear"
    y = predictions["y_true"].to_numpy()
    rng = np.random.default_rng(0)
    hit = rng.random(len(y)) < 0.9
    guess = np.where(hit, (y + 1) % 4 if was_best else y, (y + 2) % 4)  # the better one becomes bad, the worse one good
    p = np.full((len(y), 4), 0.02) + 0.92 * np.eye(4)[guess]
    for k in range(4):
        predictions[f"p{k}"] = p[:, k].astype(np.float32)
    predictions["y_pred"] = guess
    predictions.to_parquet(path, index=False)
    page_after, after, differences_after, devices_after = written()
    after = after.set_index("arm")

    for part, prefix in (("test", ""), ("val", "validation_")):
        own = predictions["split"] == part
        for name, expected in (
            ("accuracy", sklearn.metrics.accuracy_score(y[own], guess[own])),
            ("macro_f1", sklearn.metrics.f1_score(y[own], guess[own], average="macro")),
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
        assert f"Best: {best}" in text
    assert f"Best: {best}" not in page
    shown = f"{after['accuracy']['linear']:.1%}"
    assert shown in page_after and f"{recall:.1%}" in page_after

    write_trees(study.site, {"linear": SavedRun(folders[0])}, {"Sensor Only": SavedRun(folders[0])}, shown="linear")
    trees = (tmp_path / "03_ml_baseline.html").read_text()
    assert shown.replace("%", " %") in trees
    assert table(study, "03_models")["test accuracy"][0] == after["accuracy"]["linear"]
    assert table(study, "03_classes_test")["recall"][3] == pytest.approx(recall)


def test_pages_of_runs_take_plotly_from_the_study_and_carry_their_own_elsewhere(linear, tmp_path):
    page = (linear / "report.html").read_text()
    assert '<script src="../../assets/plotly.min.js">' in page and len(page) < 1_000_000
    shutil.copytree(linear, tmp_path / "elsewhere")
    assert "plotly.js v" in write_report(tmp_path / "elsewhere").read_text()


def test_a_comparison_of_nothing_says_what_to_run_first(explored):
    with pytest.raises(RunError, match="no finished run to compare; run the stages 02 to 06 first"):
        write_final(explored.site, *explored.finished())
    assert not (explored.out / "07_final_comparison.html").exists()


def test_trainings_run_side_by_side(tiny, linear, tmp_path, monkeypatch):
    """Both of a pair wait for the other, so one after the other would never end."""
    pair, made = Barrier(2, timeout=60), []

    def execute(self, name, *_):
        pair.wait()
        made.append(name)
        shutil.copytree(linear, self.out / "runs" / name)
        return 0

    monkeypatch.setattr(Study, "execute", execute)
    shutil.copytree(linear, tmp_path / "runs" / "there")
    names = ("a", "there", "b", "c", "d")
    runs = tiny(tmp_path, workers=2).train_all(dict.fromkeys(names, LINEAR))
    assert sorted(made) == ["a", "b", "c", "d"]
    assert [run.folder.name for run in runs.values()] == list(names)


@pytest.mark.slow
def test_a_training_that_fails_ends_the_one_beside_it(tiny, tmp_path):
    """The long one is not waited for, nor is a third begun; what it has done stays to be resumed."""
    study = tiny(tmp_path, workers=2)
    long = ["model=fusion", "modality=sensor", "trainer.max_epochs=100000", "patience=100000"]
    with pytest.raises(RunError, match="bad: the training failed"):
        study.train_all({"long": long, "bad": ["model=lightgbm", "model.num_leaves=-1"], "third": LINEAR})
    assert not (tmp_path / "runs" / "third").exists()
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(tmp_path / "runs") in command]


@pytest.mark.slow
def test_the_search_for_trees_goes_on_and_is_of_one_set_of_features(cache, tmp_path):
    def run(trials, *more):
        command = [
            sys.executable,
            str(ROOT / "experiments" / "tune_trees.py"),
            f"trials={trials}",
            f"out={tmp_path / 'out'}",
            "data.sessions=24",
            "model.n_estimators=20",
            "threads=1",
            f"paths.cache={cache}",
            *more,
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)

    assert run(1).returncode == 0
    done = run(2)
    assert done.returncode == 0 and done.stdout.startswith("1: "), done.stdout + done.stderr
    table = pd.read_csv(tmp_path / "out" / "trials.csv").set_index("number").sort_index()
    assert len(table) == 2 and table["value"].between(0.3, 1).all()
    assert table.loc[0, ["params_model.num_leaves", "params_model.class_weight"]].tolist() == [15, "balanced"]
    assert "params_model.n_estimators" not in table, "what is given is not searched for"
    other = run(3, "features=extended")
    assert other.returncode == 1 and "give another out=DIR" in other.stderr


@pytest.mark.slow
def test_a_killed_network_is_resumed(tiny, tmp_path):
    study = tiny(tmp_path, "trainer.max_epochs=2", "modality=sensor")
    folder = study.train("net", ["model=fusion"]).folder
    (folder / "metrics.json").unlink()
    facts = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({**facts, "status": "running"}))
    resumed = study.train("net", ["model=fusion"])
    assert resumed.provenance["resumed_from"] == "last.ckpt" and resumed.provenance["status"] == "complete"


@pytest.mark.slow
def test_the_whole_study(cache, tmp_path, opens):
    """Every stage as `make study` runs it, on 12 recordings and the least of networks; then one stage again, of which
    one run is missing."""
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
def test_the_best_models_tables_are_printed_in_one_go_and_gone_on_with(cache, tmp_path, opens):
    """On 12 recordings and the least of networks; then again, of which one run is missing."""
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
    told, _, page = first.stdout.strip().rpartition("\n")
    assert Path(page) == out / "08_best_model.html" and told.strip() == (out / "summary.md").read_text().strip()
    opens(out, "08_best_model")
    sections = (
        "Targets",
        "What each input buys",
        "split=kfold",
        "split=device",
        "split=session",
        "When something fails",
        "Without the recordings' start",
        "Devices",
        "Errors near a change of state",
        "Second by second",
        "Faults: delay",
        "Recordings on which nothing was chosen",
        "Speed",
        "Notes",
    )
    assert [name for name in sections if f"\n## {name}" not in told] == []
    assert "Whether to fuse at all" in told and "of 2 folds" in told
    names = [path.name for path in (out / "tables").glob("*.csv") if path.stem != "08_best_model_speed"]
    before = {name: (out / "tables" / name).read_text() for name in names if name != "08_best_model_targets.csv"}
    shutil.rmtree(out / "runs" / "lightgbm-kfold1-seed0")  # as if it had been killed there
    again = run()
    assert again.stderr.count(": done in") == 1 and "lightgbm-kfold1-seed0: done" in again.stderr
    assert {name: (out / "tables" / name).read_text() for name in before} == before and len(before) > 10


def load_tuned(model, out):
    """The weights fit the network that `model_config` describes."""
    settings = {key: value for key, value in model["model_config"].items() if key not in ("name", "_target_")}
    network = CNNTransformer(SavedRun(out / "runs" / "tuned_both_film").schema, **settings)
    network.load_state_dict(model["model_state_dict"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("sweep.n_trials=2", "sweep.n_trials=2: there is no search in 00_eda; give it to 04_dl_tuning"),
        ("workers=0", "workers=0: how many trainings run at a time, 1 or more"),
        ("workers=two", "workers=two: how many trainings run at a time, 1 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(given, told, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/00_eda.py", given])
    assert main("what it does", {"00_eda": (None, None)}) == 2
    assert told in capsys.readouterr().err


def test_arms_of_the_best_model_are_chosen_by_name_and_the_main_ones_always_run(tiny, tmp_path):
    spec = importlib.util.spec_from_file_location("best", ROOT / "experiments" / "08_best_model.py")
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)

    def arms(split="kfold", **options):
        return set(stage.arms_of(tiny(tmp_path, size="full", options=options), split))

    least = {*stage.MAIN, *stage.SINGLE}
    assert arms(arms="") == least and arms(arms="fusion_kind") == {*least, "fusion_kind"}
    assert arms() == {*stage.ARMS} - {"dl_tuned"} and arms("device") == {*stage.MAIN}
    study = tiny(tmp_path, "data.schema.kinds=[]", size="full", options={})
    assert {*stage.arms_of(study, "kfold")} == {*stage.ARMS} - {"dl_tuned", "fusion_kind"}
    with pytest.raises(ConfigError, match="arms=fusion_knd: one or more of fusion_sensor_plain"):
        arms(arms="fusion_knd")


def test_help_of_a_stage(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/00_eda.py", "--help"])
    with pytest.raises(SystemExit) as end:
        main("what it does", {})
    assert end.value.code == 0 and "--fresh" in capsys.readouterr().out
