"""Multiruns and sweeps of trainings in two processes."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from optuna.trial import TrialState

from tests.sweeps.real import FAULT, SWEEP, Trainer, check_ranks, distinct, threshold


@pytest.mark.slow
def test_ranks_of_multirun_train_the_same_job(trainer: Trainer) -> None:
    trainer.run("-m", "trainer=ddp_cpu", "trainer.max_epochs=1", "optimizer.lr=0.001,0.002", "hydra.sweep.dir=multi")
    assert sorted(path.name for path in (trainer.folder / "multi").glob("*/")) == ["0", "1"]
    assert not (trainer.folder / "multirun").exists() and not (trainer.folder / "outputs").exists()
    for job, lr in (("0", 0.001), ("1", 0.002)):
        check_ranks(trainer.folder / "multi" / job, lr=lr)
    assert trainer.epochs("multi") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pruner", "state", "epochs"),
    [(["sweep.pruner=null"], TrialState.COMPLETE, 3), (threshold(lower=1.1), TrialState.PRUNED, 2)],
    ids=["without pruner", "pruned"],
)
def test_ranks_of_trial_train_the_same_job_and_stop_together(
    trainer: Trainer, pruner: list[str], state: TrialState, epochs: int
) -> None:
    trainer.run(*SWEEP, "trainer=ddp_cpu", "trainer.max_epochs=3", "sweep.n_trials=2", *pruner)
    stored = trainer.trials()
    assert [trial.state for trial in stored] == [state] * 2 and distinct(stored) == 2
    folders = sorted(path for path in (trainer.folder / "studies/s").glob("*/"))
    assert [path.name for path in folders] == ["0", "1"]
    assert not (trainer.folder / "multirun").exists() and not (trainer.folder / "outputs").exists()
    for trial, folder in zip(stored, folders, strict=True):
        names = ("lr", "weight_decay")
        check_ranks(folder, **{name: trial.params[f"optimizer.{name}"] for name in names})
        ranks = json.loads((folder / "ranks.json").read_text())
        assert [rank["model"]["width"] for rank in ranks] == [trial.params["model.width"]] * 2
        assert len(pd.read_csv(folder / "history.csv")) == epochs == len(trial.intermediate_values)


@pytest.mark.slow
def test_ranks_with_different_jobs_are_refused(trainer: Trainer) -> None:
    (trainer.folder / "fault.py").write_text(FAULT)
    trainer.env["CONVEYORGUARD_WHITELIST"] = "fault.*"
    settings = ["hydra.run.dir=run", "trainer=ddp_cpu", "trainer.max_epochs=1"]
    output = trainer.run(*settings, "optimizer._target_=fault.OtherRates", "optimizer.lr=0.001", code=1)
    assert "trains another job than rank" in output
    ranks = json.loads((trainer.folder / "run/ranks.json").read_text())
    assert [rank["optimizer"]["lr"] for rank in ranks] == [0.001, 0.002]
    assert trainer.epochs(".") == 0


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [[], SWEEP], ids=["plain", "sweep"])
def test_failing_rank_leaves_no_process(trainer: Trainer, sweep: list[str]) -> None:
    (trainer.folder / "fault.py").write_text(FAULT)
    trainer.env["CONVEYORGUARD_WHITELIST"] = "fault.*"
    settings = ["sweep.max_failures=0"] if sweep else ["-m", "seed=0,1", "hydra.sweep.dir=studies/s"]
    output = trainer.run(*sweep, *settings, "trainer=ddp_cpu", "loss._target_=fault.Faulty", code=1)
    assert "rank 1 has a fault" in (output if not sweep else (trainer.folder / "studies/s/0/trial.log").read_text())
    if sweep:
        (trial,) = trainer.trials()
        assert trial.state == TrialState.FAIL and "0 COMPLETE, 0 PRUNED, 1 FAILED" in output
