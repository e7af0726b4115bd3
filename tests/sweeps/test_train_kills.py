"""Sweeps of the real train.py in which the parent, the sweeper or trials are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from optuna.trial import TrialState

from tests.sweeps.real import FINISHED, SWEEP, Trainer, distinct, variables, wait_for

pytestmark = pytest.mark.promise("crashes", "Killed trials and sweepers lose no trial and repeat none.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sweep", "number", "send"),
    [
        ([], signal.SIGINT, os.kill),
        ([], signal.SIGINT, os.killpg),
        ([], signal.SIGTERM, os.kill),
        ([], signal.SIGKILL, os.kill),
        (SWEEP, signal.SIGINT, os.killpg),
        (SWEEP, signal.SIGKILL, os.kill),
    ],
    ids=["plain", "plain in a terminal", "plain terminated", "plain killed", "sweep", "sweeper killed"],
)
def test_interrupted_or_killed_parent_leaves_no_rank(
    trainer: Trainer, sweep: list[str], number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    """Ctrl-C in a terminal reaches all processes of the group, `kill` only the parent."""
    settings = ["sweep.n_trials=1"] if sweep else ["-m", "seed=0,1", "hydra.sweep.dir=studies/s"]
    process = trainer.start(*sweep, *settings, "trainer=ddp_cpu", "trainer.max_epochs=5000", "patience=5000")
    wait_for(lambda: (trainer.folder / "studies/s/0/history.csv").exists())
    ranks = json.loads((trainer.folder / "studies/s/0/ranks.json").read_text())
    assert {rank["pid"] for rank in ranks} <= {living.pid for living in trainer.living()}
    send(process.pid, number)
    assert process.wait(timeout=300) != 0  # on a machine full of other work
    wait_for(lambda: not trainer.living())
    assert not (trainer.folder / "studies/s/1").exists()


@pytest.mark.slow
def test_orphans_of_dead_sweeper_end_before_its_trial_is_retried(trainer: Trainer) -> None:
    """The sweeper and its guard are both killed, so only the next sweeper can end the ranks."""
    command = [*SWEEP, "trainer=ddp_cpu", "sweep.n_trials=1", "sweep.pruner=null"]
    process = trainer.start(*command, "trainer.max_epochs=5000", "patience=5000")
    wait_for(lambda: (trainer.folder / "studies/s/0/history.csv").exists())
    (guard,) = [
        child for child in psutil.Process(process.pid).children() if "processes.py" in " ".join(child.cmdline())
    ]
    guard.kill()
    process.kill()
    process.wait()
    time.sleep(2)
    orphans = trainer.living(SWEEP_TRIAL_DIR=str(trainer.folder / "studies/s/0"))
    assert len(orphans) >= 3  # the trial and its ranks
    trainer.run(*command, "trainer.max_epochs=1", "sweep.free=[trainer.max_epochs,patience]")
    assert not any(orphan.is_running() for orphan in orphans)
    first, second = trainer.trials()
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE) and first.params == second.params


@pytest.mark.slow
def test_two_real_sweepers_share_a_study(trainer: Trainer) -> None:
    command = [*SWEEP, "trainer=cpu", "trainer.max_epochs=1", "sweep.n_trials=5", "sweep.pruner=null"]
    both = [trainer.start(*command) for _ in range(2)]
    assert [process.wait(timeout=500) for process in both] == [0, 0]
    stored = trainer.trials()
    assert [trial.state for trial in stored] == [TrialState.COMPLETE] * 5 and distinct(stored) == 5
    assert len({trial.user_attrs["owner"]["pid"] for trial in stored}) == 2
    assert trainer.epochs("studies/s") == 5 and not trainer.living()


@pytest.mark.slow
def test_ten_kills_of_real_trainings_lose_and_repeat_no_trial(trainer: Trainer) -> None:
    """kill -9 of the sweeper or a trial at random moments, 10 times, over a study of 6; then run to the end. `make
    kill` has 20."""
    command = [*SWEEP, "trainer=cpu", "trainer.max_epochs=2", "sweep.n_trials=6", "sweep.workers=2"]
    chance, folder, log = random.Random(0), trainer.folder / "studies/s", []

    def running() -> list[psutil.Process]:
        return [process for process in trainer.living() if "SWEEP_TRIAL_DIR" in variables(process)]

    process = trainer.start(*command)
    while len(log) < 10:
        enough = len(list(folder.glob("*/trial.json"))) >= 4
        if chance.random() < 0.8:  # while a trial runs, however slow this machine is; else even before one
            wait_for(lambda ended=process.poll: ended() is not None or running(), 300)
        time.sleep(chance.uniform(0, 3 if enough else 10))
        if process.poll() is not None:
            process = trainer.start(*command)
            continue
        living = running()
        victim = chance.choice(living) if living and chance.random() < 0.5 else process
        log.append(("sweeper" if victim is process else "trial") + (" while trials run" if living else ""))
        victim.kill()
        if victim is process:
            process.wait()
            process = trainer.start(*command)
    while process.wait(timeout=500) != 0:
        process = trainer.start(*command)
    stored = trainer.trials()
    finished = [trial for trial in stored if trial.state in FINISHED]
    of_trials, in_trials = (sum(word in line for line in log) for word in ("trial ", "while trials run"))
    print(
        f"{10 - of_trials} kills of the sweeper, {of_trials} of trials, {in_trials} while trials ran; "
        f"{len(stored)} trials, {len(finished)} finished"
    )
    assert in_trials >= 3 and 1 <= of_trials <= 9
    assert len(finished) == distinct(finished) == 6
    assert not [trial for trial in stored if trial.state == TrialState.RUNNING] and not trainer.living()
    ran = sorted(int(path.parent.name) for path in folder.glob("*/trial.json"))
    assert ran == [trial.number for trial in finished]
    trainer.run(*command)
    assert len(trainer.trials()) == len(stored)
