"""Trials that are a training on each fold: value, pruning, folds taken over from a killed trial, retraining."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from conveyorguard.commands.folds import best_epoch, epochs_overrides, train_folds
from conveyorguard.config.checks import sweep_problems
from conveyorguard.errors import ConfigError
from conveyorguard.runs.saved import SavedRun
from conveyorguard.sweeps.trial import TrialHandle, open_storage, read_result
from tests.sweeps.real import FINISHED, Trainer, distinct, variables, wait_for

SPACE = {"x": FloatDistribution(0, 1)}
# sweep.params asks for the choices of a job of Hydra
MODEL = ["sweep=optuna", "model=logistic_regression", "modality=sensor", "sweep.study=s", "sweep.params=null"]
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 1}


def trial_of(state: TrialState, means: tuple[float, ...] = (), **attrs: object) -> FrozenTrial:
    """Return a trial with means over its folds so far."""
    value = means[-1] if state == TrialState.COMPLETE else None
    steps = dict(enumerate(means))
    return create_trial(
        state=state,
        value=value,
        params={"x": 0.5},
        distributions=SPACE,
        intermediate_values=steps,
        user_attrs=dict(attrs),
    )


@pytest.fixture
def handle(tmp_path, monkeypatch):
    """Add trials to a study, the last one running, and return the handle of that one."""

    def make(*trials: FrozenTrial, pruner: object = None) -> TrialHandle:
        place = str(tmp_path / "journal.log")
        study = optuna.create_study(study_name="s", storage=open_storage(place), direction="maximize")
        for trial in trials:
            study.add_trial(trial)
        number = len(trials) - 1
        folder = tmp_path / str(number)
        folder.mkdir()
        facts = {"NUMBER": number, "ID": study.trials[-1]._trial_id, "DIR": folder, "STORAGE": place}
        for name, value in {**facts, "STUDY": "s", "PRUNER": json.dumps(pruner)}.items():
            key = f"SWEEP_{name}" if name in ("STORAGE", "STUDY", "PRUNER") else f"SWEEP_TRIAL_{name}"
            monkeypatch.setenv(key, str(value))
        return TrialHandle()

    return make


@pytest.fixture
def config(compose):
    """Compose the config of a trial, without a job of Hydra."""

    def make(*overrides: str):
        return compose(*MODEL, *overrides)

    return make


def test_mean_over_folds_is_judged_alone(handle) -> None:
    """Every trial is best on fold 0; MedianPruner by itself would compare that with the others' lower means."""
    earlier = trial_of(TrialState.COMPLETE, (0.9, 0.8, 0.8))
    trial = handle(earlier, trial_of(TrialState.RUNNING), pruner=MEDIAN)
    assert not trial.report(0, 0.85, is_mean=True)  # n_warmup_steps=1: not after the first fold
    assert not trial.report(1, 0.7)
    assert trial.report(1, 0.7, is_mean=True) and not trial.report(1, 0.81, is_mean=True)
    assert trial.study.trials[1].intermediate_values == {0: 0.85, 1: 0.81}


def test_value_is_the_mean_of_the_folds_and_each_session_validates_once(handle, config, tmp_path) -> None:
    trial = handle(trial_of(TrialState.RUNNING))
    value = train_folds(config("sweep.folds=3", "test=false"), trial.folder, ["model=logistic_regression"], trial)
    result = read_result(trial.folder)
    runs = [SavedRun(trial.folder / f"fold{k}") for k in range(3)]
    assert result["info"]["folds"] == [run.metrics["val"]["accuracy"] for run in runs]
    assert result["value"] == value == pytest.approx(np.mean(result["info"]["folds"]))
    steps = trial.study.trials[0].intermediate_values
    assert steps == pytest.approx({k: np.mean(result["info"]["folds"][: k + 1]) for k in range(3)})
    held_out = [name for run in runs for name in run.saved_split["sessions"]["val"]]
    trained = {name for run in runs for name in run.saved_split["sessions"]["train"]}
    tested = set(runs[0].saved_split["sessions"]["test"])
    assert len(held_out) == len(set(held_out)) and set(held_out) == trained and not tested & trained
    devices = [set(run.rows("val")["device"]) for run in runs]
    assert not devices[0] & devices[1] and not devices[0] & devices[2] and not devices[1] & devices[2]
    assert not any("test" in run.metrics for run in runs) and epochs_overrides(runs) == []
    place = os.path.relpath(trial.folder)
    assert {"split=out_of_fold", "split.fold=null", "split.n_folds=3"} <= set(result["info"]["retrain"])
    assert any(line.startswith("split.runs=") and place in line for line in result["info"]["retrain"])
    assert all(run.provenance["choices"]["split"] == "out_of_fold" for run in runs)


def test_trial_is_pruned_after_a_fold(handle, config) -> None:
    better = trial_of(TrialState.COMPLETE, (2.0, 2.0, 2.0))
    trial = handle(better, trial_of(TrialState.RUNNING), pruner=MEDIAN)
    assert np.isnan(train_folds(config("sweep.folds=3", "test=false"), trial.folder, [], trial))
    result = read_result(trial.folder)
    assert result["state"] == "PRUNED" and len(result["info"]["folds"]) == 2
    assert result["value"] == pytest.approx(np.mean(result["info"]["folds"]))
    assert not (trial.folder / "fold2").exists()


def test_last_fold_prunes_nothing(handle, config) -> None:
    better = trial_of(TrialState.COMPLETE, (2.0, 2.0))
    trial = handle(better, trial_of(TrialState.RUNNING), pruner={**MEDIAN, "n_warmup_steps": 1})
    train_folds(config("sweep.folds=2", "test=false"), trial.folder, [], trial)
    assert read_result(trial.folder)["state"] == "COMPLETE"


def test_finished_folds_of_killed_trials_are_taken_over(handle, config, tmp_path) -> None:
    """Trial 2 retries 1, which retried 0: fold 0 is in both, fold 1 only in 0, half of fold 2 in 1."""
    cfg = config("sweep.folds=3", "test=false")
    first = handle(trial_of(TrialState.RUNNING))
    train_folds(cfg, first.folder, [], first)
    whole, runs = read_result(first.folder), first.folder
    (tmp_path / "journal.log").unlink()
    attrs = {"folder": str(tmp_path)}
    killed = [
        trial_of(TrialState.FAIL, **attrs, retry=1),
        trial_of(TrialState.FAIL, **attrs, retry=2, retry_of=0),
        trial_of(TrialState.RUNNING, **attrs, retry_of=1),
    ]
    (tmp_path / "1").mkdir()
    (runs / "fold2/metrics.json").unlink()
    (runs / "fold2").rename(tmp_path / "1/fold2")
    provenance = tmp_path / "1/fold2/provenance.json"
    provenance.write_text(provenance.read_text().replace('"complete"', '"running"'))
    begun = {k: SavedRun(runs / f"fold{k}").provenance["seconds"] for k in (0, 1)}
    last = handle(*killed)
    assert last.retried_folders() == [tmp_path / "1", tmp_path / "0"]
    train_folds(config("sweep.folds=3", "test=false"), last.folder, [], last)
    assert read_result(last.folder)["info"]["folds"] == whole["info"]["folds"]
    for k in (0, 1):
        copies = [folder / f"fold{k}/checkpoints" for folder in (runs, last.folder)]
        (old,), (new,) = (list(folder.glob("best.*")) for folder in copies)
        assert old.stat().st_mtime_ns == new.stat().st_mtime_ns  # copied, not trained again
        assert SavedRun(last.folder / f"fold{k}").provenance["seconds"] == begun[k]


def test_more_folds_than_devices_are_refused_naming_the_key(handle, config) -> None:
    trial = handle(trial_of(TrialState.RUNNING))
    with pytest.raises(ConfigError, match=r"sweep.folds=60: .* must be 2 to \d+, the number of devices"):
        train_folds(config("sweep.folds=60"), trial.folder, [], trial)


@pytest.mark.parametrize(
    "override, message",
    [
        ("sweep.folds=0", "sweep.folds=0: write null or a whole number"),
        ("sweep.folds=2.5", "sweep.folds=2.5: write null or a whole number"),
        ("sweep.folds=true", "sweep.folds=True: write null or a whole number"),
        ("split=out_of_fold", "leave out split=out_of_fold"),
    ],
)
def test_folds_that_cannot_work_are_refused_before_a_trial(config, override: str, message: str) -> None:
    (problem,) = sweep_problems({}, [], config("sweep.folds=3", override))
    assert message in problem
    assert sweep_problems({}, [], config("sweep.folds=1", "split=out_of_fold")) == []


def test_trials_are_pruned_from_the_second_fold_or_the_fourth_epoch(config) -> None:
    assert config().sweep.pruner.n_warmup_steps == 3
    assert config("sweep.folds=5").sweep.pruner.n_warmup_steps == 1


@pytest.mark.slow
@pytest.mark.promise("crashes", "Killed trials and sweepers of a sweep over folds lose no trial and no finished fold.")
def test_killed_sweep_over_folds_goes_on_and_its_best_trial_retrains(trainer: Trainer) -> None:
    """Killed inside a trial's second fold: first the trial, then the sweeper."""
    command = ["-m", "sweep=optuna", "model=fusion", "sweep.study=s", "sweep.timeout=null", "trainer=cpu"]
    command += ["sweep.folds=3", "sweep.n_trials=3", "sweep.workers=2", "trainer.max_epochs=2", "sweep.pruner=null"]
    studies = trainer.folder / "studies/s"
    process = trainer.start(*command)
    wait_for(lambda: list(studies.glob("*/fold1/provenance.json")), 300)
    victim = next(p for p in trainer.living() if "SWEEP_TRIAL_DIR" in variables(p))
    victim.kill()
    wait_for(
        lambda: any(trial.user_attrs.get("retry_of") == 0 or "retry" in trial.user_attrs for trial in trainer.trials())
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    output = trainer.run(*command)
    stored = trainer.trials()
    finished = [trial for trial in stored if trial.state in FINISHED]
    assert len(finished) == distinct(finished) == 3 and all(t.state in (*FINISHED, TrialState.FAIL) for t in stored)
    assert any("retry_of" in trial.user_attrs for trial in finished)
    for trial in finished:
        folds = [SavedRun(studies / str(trial.number) / f"fold{k}") for k in range(3)]
        assert trial.value == pytest.approx(np.mean([fold.metrics["val"]["accuracy"] for fold in folds]))
    number = max(finished, key=lambda trial: trial.value).number
    table = (studies / "trials.csv").read_text().splitlines()
    assert table[0].endswith("fold0,fold1,fold2") and "Folds of the trials" in (studies / "study.html").read_text()

    refused = trainer.run(*command, "sweep.folds=2", code=1)
    assert "sweep.folds=2, but the study was started with sweep.folds=3" in refused
    line = next(line for line in output.splitlines() if line.startswith("retrain it: "))
    words = shlex.split(line.removeprefix("retrain it: "))
    done = subprocess.run(
        [sys.executable, *words[1:], "hydra.run.dir=again"],
        cwd=trainer.folder,
        env=trainer.env,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    run, folds = SavedRun(trainer.folder / "again"), [SavedRun(studies / f"{number}/fold{k}") for k in range(3)]
    assert run.settings["keep"] == "last"
    assert run.settings["trainer"]["max_epochs"] == int(np.median([best_epoch(fold) + 1 for fold in folds]))
    assert len(run.saved_split["sessions"]["train"]) == sum(len(f.saved_split["sessions"]["val"]) for f in folds)
    assert len(run.rows("val")) == sum(len(fold.rows("val")) for fold in folds) and "test" in run.metrics
