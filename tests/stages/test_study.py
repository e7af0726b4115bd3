"""The trainings of a study: complete runs are reused and no others, side by side, what cannot work is refused."""

import importlib.util
import json
import shutil
import sys
from threading import Barrier

import psutil
import pytest

from conveyorguard.errors import ConfigError, RunError
from conveyorguard.reporting.report import write_report
from experiments.stages.command_line import main
from experiments.stages.final_page import write_final
from experiments.stages.study import StagedStudy
from tests.support.places import ROOT
from tests.support.studies import LINEAR


def test_a_complete_run_is_reused_and_no_other(tiny, linear, tmp_path, monkeypatch):
    folder, made = tmp_path / "runs" / "linear", []

    def execute(self, name, arguments, *_):
        made.append(name)
        shutil.copytree(linear, folder)
        return 0

    monkeypatch.setattr(StagedStudy, "execute", execute)
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

    monkeypatch.setattr(StagedStudy, "execute", execute)
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
def test_a_killed_network_is_resumed(tiny, tmp_path):
    study = tiny(tmp_path, "trainer.max_epochs=2", "modality=sensor")
    folder = study.train("net", ["model=fusion"]).folder
    (folder / "metrics.json").unlink()
    facts = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({**facts, "status": "running"}))
    resumed = study.train("net", ["model=fusion"])
    assert resumed.provenance["resumed_from"] == "last.ckpt" and resumed.provenance["status"] == "complete"


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
