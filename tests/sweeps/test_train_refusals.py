"""What a sweep of train.py refuses before a trial starts."""

from __future__ import annotations

import optuna
import pytest
from optuna.distributions import FloatDistribution

from conveyorguard.sweeps.trial import open_storage
from tests.sweeps.real import SWEEP, Trainer


@pytest.mark.slow
def test_all_that_a_study_must_not_vary_is_refused_at_once(trainer: Trainer) -> None:
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
        "Write data=simulated,",
        "Write seed=0,",
        "Write split=session,",
        "Write modality=sensor,",
        "Write film=",
        "Write window.stride=5,",
        "objective=val/nonsense: one of val/loss",
        "Write sweep.workers=N",
        "no password may stand in it: leave it out",
        "model.num_heads=8 does not divide model.embed_dim=100: leave one of them out",
    ):
        assert remedy in output, remedy
    assert "model.num_heads=4 does not" not in output and "secret" not in output
    assert not (trainer.folder / "studies").exists()


@pytest.mark.slow
def test_what_no_trial_could_do_is_refused_before_one_starts(trainer: Trainer) -> None:
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
        "patience=0: a whole number, 1 or more",
        "n_trials=0: write 1 or more",
    ):
        assert part in output, part


def test_a_sweep_without_multirun_is_refused(trainer: Trainer) -> None:
    output = trainer.run("sweep=optuna", code=2)
    assert "sweep= needs -m: python train.py -m data=simulated" in output
    assert not list(trainer.folder.glob("outputs/*/*"))


@pytest.mark.slow
def test_fewer_trials_than_are_done_are_refused(trainer: Trainer) -> None:
    journal = trainer.folder / "studies/s/journal.log"
    study = optuna.create_study(study_name="s", storage=open_storage(str(journal)), direction="maximize")
    for value in (0.1, 0.2):
        space = {"optimizer.lr": FloatDistribution(5e-4, 5e-3, log=True)}
        study.add_trial(optuna.trial.create_trial(params={"optimizer.lr": 1e-3}, distributions=space, value=value))
    output = trainer.run(*SWEEP, "sweep.n_trials=1", code=1)
    assert "n_trials=1, but 2 have finished: write 2 or more" in output
