"""The trainings of a study: which runs are reused, what runs at the same time, which settings are refused."""

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


def test_only_complete_run_of_same_config_and_data_is_reused(tiny, linear, tmp_path, monkeypatch):
    folder, trained = tmp_path / "runs" / "linear", []

    def execute(self, name, arguments, *_):
        trained.append(name)
        shutil.copytree(linear, folder)
        return 0

    monkeypatch.setattr(StagedStudy, "execute", execute)
    shutil.copytree(linear, folder)

    def complete(*overrides):
        study = tiny(tmp_path, *overrides)
        return study.is_complete(folder, study.config(LINEAR))

    def reused(study):
        trained.clear()
        return study.train("linear", LINEAR).folder == folder and not trained

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
        ("it was trained on other data", {"store": {**facts["store"], "fingerprint": "of other data"}}),
        ("the run is not finished", {"status": "running"}),
    ):
        (folder / "provenance.json").write_text(json.dumps({**facts, **change}))
        folders, left_out = tiny(tmp_path).finished()
        assert not complete() and not folders and left_out[0].startswith(f"linear is left out: {reason}")
    (folder / "provenance.json").write_text(json.dumps(facts))
    (folder / "predictions.parquet").unlink()  # as if killed while it was writing
    folders, left_out = tiny(tmp_path).finished()
    assert not folders and left_out[0].startswith("linear is left out: no predictions.parquet")
    assert not complete() and not reused(tiny(tmp_path)) and complete() and reused(tiny(tmp_path))
    fresh = tiny(tmp_path, fresh=True)
    assert not reused(fresh)
    assert reused(fresh), "another stage trained it again"


def test_sweep_overrides_apply_to_search_and_not_to_trainings(tiny, tmp_path):
    study = tiny(tmp_path, "sweep.n_trials=2", size="small")
    assert study.sweep_config(["sweep=optuna"], ["sweep.n_trials=3"]).sweep.n_trials == 2
    assert "sweep" not in study.config(LINEAR)
    with pytest.raises(ConfigError, match=r"sweep\.n_trial"):
        tiny(tmp_path, "sweep.n_trial=2").sweep_config(["sweep=optuna"], [])


def test_data_of_sweep_open_outside_of_a_job(tiny, tmp_path):
    study = tiny(tmp_path, size="small")
    sweep = study.sweep_config(["experiment=dl_tuned"], [])
    assert study.data(sweep).split.hash == study.data().split.hash


@pytest.mark.slow
def test_failed_training_names_its_log(tiny, tmp_path):
    with pytest.raises(RunError, match=r"bad: the training failed: .*\n.*bad\.log"):
        tiny(tmp_path).train("bad", ["model=lightgbm", "model.num_leaves=-1"])
    assert not (tmp_path / "runs" / "bad" / "metrics.json").exists()


def test_page_of_run_shares_plotly_within_study_and_embeds_it_elsewhere(linear, tmp_path):
    page = (linear / "report.html").read_text()
    assert '<script src="../../assets/plotly.min.js">' in page and len(page) < 1_000_000
    shutil.copytree(linear, tmp_path / "elsewhere")
    assert "plotly.js v" in write_report(tmp_path / "elsewhere").read_text()


def test_comparison_without_runs_says_what_to_run_first(explored):
    with pytest.raises(RunError, match=r"no finished run to compare\. Run stages 02 to 06 first"):
        write_final(explored.site, *explored.finished())
    assert not (explored.out / "07_final_comparison.html").exists()


def test_two_workers_train_two_runs_at_a_time(tiny, linear, tmp_path, monkeypatch):
    """Each of two trainings waits for the other, so a single worker would never finish."""
    pair, trained = Barrier(2, timeout=60), []

    def execute(self, name, *_):
        pair.wait()
        trained.append(name)
        shutil.copytree(linear, self.out / "runs" / name)
        return 0

    monkeypatch.setattr(StagedStudy, "execute", execute)
    shutil.copytree(linear, tmp_path / "runs" / "there")
    names = ("a", "there", "b", "c", "d")
    runs = tiny(tmp_path, workers=2).train_all(dict.fromkeys(names, LINEAR))
    assert sorted(trained) == ["a", "b", "c", "d"]
    assert [run.folder.name for run in runs.values()] == list(names)


@pytest.mark.slow
def test_failing_training_stops_the_others(tiny, tmp_path):
    """The long training is stopped, and a third is not started."""
    study = tiny(tmp_path, workers=2)
    long = ["model=fusion", "modality=sensor", "trainer.max_epochs=100000", "patience=100000"]
    with pytest.raises(RunError, match="bad: the training failed"):
        study.train_all({"long": long, "bad": ["model=lightgbm", "model.num_leaves=-1"], "third": LINEAR})
    assert not (tmp_path / "runs" / "third").exists()
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(tmp_path / "runs") in command]


@pytest.mark.slow
def test_killed_network_is_resumed_from_its_checkpoint(tiny, tmp_path):
    study = tiny(tmp_path, "trainer.max_epochs=2", "modality=sensor")
    folder = study.train("net", ["model=fusion"]).folder
    (folder / "metrics.json").unlink()
    facts = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({**facts, "status": "running"}))
    resumed = study.train("net", ["model=fusion"])
    assert resumed.provenance["resumed_from"] == "last.ckpt" and resumed.provenance["status"] == "complete"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("sweep.n_trials=2", "sweep.n_trials=2: 00_eda runs no search. Give it to 04_dl_tuning"),
        ("workers=0", "workers=0 is not a number of trainings. Give a whole number of 1 or more."),
        ("workers=two", "workers=two is not a number of trainings. Give a whole number of 1 or more."),
    ],
)
def test_invalid_argument_of_stage_is_refused_with_remedy(argument, message, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/00_eda.py", argument])
    assert main("what it does", {"00_eda": (None, None)}) == 2
    assert message in capsys.readouterr().err


def test_arms_option_adds_named_arms_to_the_main_ones(tiny, tmp_path):
    spec = importlib.util.spec_from_file_location("best", ROOT / "experiments" / "08_best_model.py")
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)

    def arms(split="kfold", **options):
        return set(stage.arms_of(tiny(tmp_path, size="full", options=options), split))

    always = {*stage.MAIN, *stage.SINGLE}
    assert arms(arms="") == always and arms(arms="fusion_kind") == {*always, "fusion_kind"}
    assert arms() == {*stage.ARMS} - {"dl_tuned"} and arms("device") == {*stage.MAIN}
    study = tiny(tmp_path, "data.schema.kinds=[]", size="full", options={})
    assert {*stage.arms_of(study, "kfold")} == {*stage.ARMS} - {"dl_tuned", "fusion_kind"}
    with pytest.raises(ConfigError, match=r"arms=fusion_knd: unknown\. Give one or more of fusion_sensor_plain"):
        arms(arms="fusion_knd")


def test_help_of_stage_lists_its_options(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments/00_eda.py", "--help"])
    with pytest.raises(SystemExit) as end:
        main("what it does", {})
    assert end.value.code == 0 and "--fresh" in capsys.readouterr().out
