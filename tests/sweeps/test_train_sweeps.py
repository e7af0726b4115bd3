"""Sweeps of the real train.py on small data: pruning, faults, spaces, launchers."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf
from optuna.trial import TrialState

from tests.support.places import ROOT
from tests.sweeps.real import FAULT, SWEEP, Trainer, check_ranks, differences, threshold


@pytest.mark.slow
def test_sweep_with_other_data_or_settings_is_refused(trainer: Trainer) -> None:
    """On another machine paths, threads and loggers may differ."""
    command = [*SWEEP, "model=logistic_regression", "sweep.n_trials=1"]
    trainer.run(*command)
    output = trainer.run(*command, "data.sessions=16", "window.stride=5", "scaling=seed", "split=device", code=1)
    for part in (
        "data.sessions=16, but the study was started with data.sessions=12",
        "window.stride=5, but the study was started with window.stride=null",
        "scaling=seed, but",
        "split=device, but the study was started with split=auto",
    ):
        assert part in output, part
    assert output.count("but the study") == 4 and len(trainer.trials()) == 1
    trainer.run(*command, "sweep.n_trials=2", "threads=2", "logger=none", f"paths.cache={trainer.folder}/elsewhere")
    assert [trial.state for trial in trainer.trials()] == [TrialState.COMPLETE] * 2


@pytest.mark.slow
def test_sweep_of_verb_retrains_by_verb(trainer: Trainer) -> None:
    """`python -m conveyorguard train -m` sweeps as train.py does, and names itself in the command that retrains."""
    trainer.program = ["-m", "conveyorguard", "train"]
    command = ["-m", "sweep=optuna", "sweep.study=s", "model=logistic_regression"]
    output = trainer.run(*command, "sweep.n_trials=2", "test=true")
    assert set(json.loads((trainer.folder / "studies/s/0/metrics.json").read_text())) == {
        "val",
        "test",
        "now",
    }
    assert [trial.state for trial in trainer.trials()] == [TrialState.COMPLETE] * 2
    assert "retrain it: python -m conveyorguard train " in output


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml")))
def test_search_space_of_every_model_trains(trainer: Trainer, model: str) -> None:
    if model in ("xgboost", "catboost"):
        pytest.importorskip(model)
    trainer.run("-m", "sweep=optuna", f"model={model}", "sweep.study=s", "sweep.n_trials=2", "trainer.max_epochs=1")
    space = yaml.safe_load((ROOT / "conf/sweep/optuna.yaml").read_text())["sweep"]["spaces"][model]
    for trial in trainer.trials():
        assert trial.state == TrialState.COMPLETE and set(trial.params) == set(space)
        config = OmegaConf.load(trainer.folder / "studies/s" / str(trial.number) / "config.yaml")
        assert {key: OmegaConf.select(config, key) for key in space} == trial.params


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("model.width=choice(3000000)", "can't allocate memory"),
        ("optimizer.lr=choice(1e30)", "RunError: the network predicts NaN"),
        ("loss._target_=fault.Faulty", "ValueError: the loss has a fault"),
    ],
    ids=["memory", "NaN", "crash"],
)
def test_fault_in_training_fails_trial_with_reason_and_directory(trainer: Trainer, fault: str, reason: str) -> None:
    (trainer.folder / "fault.py").write_text(FAULT)
    trainer.env |= {"CONVEYORGUARD_WHITELIST": "fault.*", "FAULT": "1"}
    output = trainer.run(*SWEEP, fault, "trainer=cpu", "trainer.max_epochs=1", "sweep.max_failures=0", code=1)
    (trial,) = trainer.trials()
    line = next(line for line in output.splitlines() if line.startswith("trial "))
    assert trial.state == TrialState.FAIL and "FAILED" in line and reason in line
    assert line.endswith(f"see {trainer.folder}/studies/s/0") and "0 COMPLETE, 0 PRUNED, 1 FAILED" in output


@pytest.mark.slow
def test_ddp_in_joblib_workers_is_refused(trainer: Trainer) -> None:
    output = trainer.run("-m", "trainer=ddp_cpu", "seed=0,1", "hydra/launcher=joblib", code=2)
    assert "hydra/launcher=joblib and trainer=ddp_cpu: joblib's workers cannot start the 2 processes of a job" in output
    assert "write hydra/launcher=submitit_local" in output


@pytest.mark.slow
def test_pruning_saves_epochs_and_best_trial_can_be_retrained(trainer: Trainer) -> None:
    """The same five trials without pruner and with one whose limit is known to prune two of them."""
    common = [*SWEEP, "trainer=cpu", "trainer.max_epochs=5", "patience=9", "objective=val/loss", "sweep.n_trials=5"]
    trainer.run(*common, "sweep.pruner=null")
    whole, epochs = trainer.trials(), trainer.epochs("studies/s")
    assert [trial.state for trial in whole] == [TrialState.COMPLETE] * 5 and epochs == 25
    (trainer.folder / "studies").rename(trainer.folder / "unpruned")

    late = [max(value for step, value in trial.intermediate_values.items() if step >= 1) for trial in whole]
    limit = sum(sorted(late)[2:4]) / 2  # three trials stay below it
    output = trainer.run(*common, *threshold(upper=limit))
    stored = trainer.trials()
    assert [trial.params for trial in stored] == [trial.params for trial in whole]
    expected = ["PRUNED" if value > limit else "COMPLETE" for value in late]
    assert [trial.state.name for trial in stored] == expected and expected.count("PRUNED") == 2
    lines = [line.split() for line in output.splitlines() if line.startswith("trial ")]
    assert [line[2] for line in lines] == expected
    assert "3 COMPLETE, 2 PRUNED, 0 FAILED" in output
    assert trainer.epochs("studies/s") == sum(len(trial.intermediate_values) for trial in stored) < epochs
    print(f"epochs: {epochs} without pruner, {trainer.epochs('studies/s')} with it")
    for trial in stored:  # no trial was evaluated on test
        folder = trainer.folder / "studies/s" / str(trial.number)
        if trial.state == TrialState.COMPLETE:
            assert list(json.loads((folder / "metrics.json").read_text())) == ["val", "now"]
            assert set(pd.read_parquet(folder / "predictions.parquet")["split"]) == {"val"}
        else:
            assert not (folder / "metrics.json").exists() and not (folder / "predictions.parquet").exists()

    page = (trainer.folder / "studies/s/study.html").read_text()
    assert str(trainer.folder / "studies/s/study.html") in output and 'href="0/' in page

    best = min((trial for trial in stored if trial.state == TrialState.COMPLETE), key=lambda trial: trial.value)
    retrain = next(line for line in output.splitlines() if line.startswith("retrain it: "))
    command = shlex.split(retrain.removeprefix("retrain it: "))
    assert {"objective=val/loss", "trainer.max_epochs=5"} <= set(command) and "test=false" not in command
    again = subprocess.run(
        [sys.executable, *command[1:], "hydra.run.dir=again"],
        cwd=trainer.folder,
        env=trainer.env,
        text=True,
        capture_output=True,
    )
    assert again.returncode == 0, again.stderr
    metrics = json.loads((trainer.folder / "again/metrics.json").read_text())
    kept = json.loads((trainer.folder / f"studies/s/{best.number}/metrics.json").read_text())
    assert metrics["val"] == kept["val"] and "test" in metrics and "test" not in kept
    configs = [
        yaml.safe_load((trainer.folder / name / "config.yaml").read_text())
        for name in ("again", f"studies/s/{best.number}")
    ]
    assert differences(*configs) <= {"sweep", "test"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "kind"), [("joblib", "cpu"), ("submitit_local", "cpu"), ("submitit_local", "ddp_cpu")]
)
def test_grid_runs_with_parallel_launcher(trainer: Trainer, launcher: str, kind: str) -> None:
    trainer.run(
        "-m",
        f"trainer={kind}",
        "trainer.max_epochs=1",
        "optimizer.lr=0.001,0.002",
        f"hydra/launcher={launcher}",
        "hydra.sweep.dir=grid",
    )
    for job, lr in (("0", 0.001), ("1", 0.002)):
        folder = trainer.folder / "grid" / job
        assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"] == lr
        assert set(json.loads((folder / "metrics.json").read_text())) == {"val", "test", "now"}
        assert (folder / "report.html").exists()
        if kind == "ddp_cpu":
            check_ranks(folder, lr=lr)
    assert trainer.epochs("grid") == 2 and (trainer.folder / "grid/comparison.html").exists()
