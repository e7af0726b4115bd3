"""Sweeps of train.py that are refused before a trial starts."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution

from conveyorguard.sweeps.trial import open_storage
from tests.sweeps.real import SWEEP, Trainer


@pytest.mark.slow
def test_all_keys_that_no_study_varies_are_refused_at_once(trainer: Trainer) -> None:
    output = trainer.run(
        "-m",
        "sweep=optuna",
        "data=simulated,aihub",
        "seed=0,1,2",
        "split=session,device",
        "modality=sensor,both",
        "film=true,false",
        "objective=val/nonsense",
        "model.embed_dim=choice(64,100)",
        "model.num_heads=choice(4,8)",
        "hydra/launcher=joblib",
        "sweep.storage='nosuch://me:secret@plant/x'",
        "window.stride=5,10",
        code=1,
    )
    assert output.startswith("Nothing was started:")
    for remedy in (
        "Set data=simulated,",
        "Set seed=0,",
        "Set split=session,",
        "Set modality=sensor,",
        "Set film=",
        "Set window.stride=5,",
        "objective=val/nonsense: one of val/loss",
        "Set sweep.workers=N",
        "sweep.storage: a config is saved and shown, so its URLs must not hold a login; leave it out",
        "model.num_heads=8 does not divide model.embed_dim=100: leave one of them out",
    ):
        assert remedy in output, remedy
    assert "model.num_heads=4 does not" not in output and "secret" not in output
    assert not (trainer.folder / "studies").exists()


@pytest.mark.slow
def test_config_that_fails_every_trial_is_refused_before_one_starts(trainer: Trainer) -> None:
    output = trainer.run(
        "-m",
        "sweep=optuna",
        "data.root=???",
        "trainer=ddp_2xT4",
        "window.size=0",
        "patience=0",
        "batch_size=choice(16,32)",
        "sweep.n_trials=0",
        code=1,
    )
    for part in (
        "data.root is not set: add data.root=PATH",
        "trainer=ddp_2xT4 needs 2 CUDA devices",
        "window.size=0",
        "patience=0: must be a whole number, 1 or more",
        "n_trials=0: set 1 or more",
    ):
        assert part in output, part


def test_sweep_without_multirun_is_refused(trainer: Trainer) -> None:
    output = trainer.run("sweep=optuna", code=2)
    assert "sweep= needs -m: python train.py -m data=simulated" in output
    assert not list(trainer.folder.glob("outputs/*/*"))


@pytest.mark.slow
def test_fewer_trials_than_finished_are_refused(trainer: Trainer) -> None:
    journal = trainer.folder / "studies/s/journal.log"
    study = optuna.create_study(study_name="s", storage=open_storage(str(journal)), direction="maximize")
    for value in (0.1, 0.2):
        space = {"optimizer.lr": FloatDistribution(5e-4, 5e-3, log=True)}
        study.add_trial(optuna.trial.create_trial(params={"optimizer.lr": 1e-3}, distributions=space, value=value))
    output = trainer.run(*SWEEP, "sweep.n_trials=1", code=1)
    assert "n_trials=1, but 2 trials have finished: set 2 or more" in output
