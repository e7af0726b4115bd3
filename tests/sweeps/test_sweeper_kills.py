"""Kills at random moments and two sweepers in parallel: no trial is lost or repeated."""

from __future__ import annotations

import random
import time
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from conveyorguard.sweeps.trial import read_result
from tests.sweeps.toy import FINISHED, distinct, finished, processes_of, start, sweep, trials, wait_for

pytestmark = pytest.mark.promise("crashes", "Killed trials and sweepers lose no trial and repeat none.")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_kills_lose_and_repeat_no_trial(toy: Path, seed: int) -> None:
    """kill -9 of the sweeper or one of its trials, at random moments, until 20 kills; then run to the end."""
    command = ["sweep.n_trials=6", f"sweep.workers={seed}", "seconds=1.5", "steps=15"]
    chance, folder, kills, log = random.Random(seed), toy / "studies/toy", 0, []
    process, in_trials = start(toy, *command), 0
    while kills < 20:
        results, moment = len(list(folder.glob("*/trial.json"))), chance.random()
        if moment < 0.5:  # while a trial runs, however slow this machine is
            wait_for(lambda ended=process.poll: ended() is not None or processes_of(folder))
            time.sleep(chance.uniform(0, 0.6 if results >= 4 else 2))
        elif moment < 0.8 and results < 4:  # when a trial has just written its result
            wait_for(
                lambda ended=process.poll, n=results: ended() is not None or len(list(folder.glob("*/trial.json"))) > n
            )
            time.sleep(chance.uniform(0, 0.3))
        else:  # possibly before any trial runs
            time.sleep(chance.uniform(0, 2))
        if process.poll() is not None:
            log.append(f"restart after exit {process.returncode}")
            process = start(toy, *command)
            continue
        living = processes_of(folder)
        victim = chance.choice(living) if living and chance.random() < 0.6 else psutil.Process(process.pid)
        is_sweeper = victim.pid == process.pid
        log.append(f"kill {kills}: {'sweeper' if is_sweeper else 'trial'}, {len(living)} trials alive")
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
        kills, in_trials = kills + 1, in_trials + bool(living)
        if is_sweeper:
            process.communicate()
            process = start(toy, *command)
    output, _ = process.communicate(timeout=300)
    while process.returncode != 0 and len(log) < 60:
        log.append(f"restart after exit {process.returncode}")
        process = start(toy, *command)
        output, _ = process.communicate(timeout=300)
    story = "\n".join([*log, output])
    print(story)
    stored = trials(toy)
    assert in_trials >= 5 and 2 <= sum(": trial" in line for line in log) <= 18, story
    assert len(finished(stored)) == 6, story
    assert distinct(finished(stored)) == 6, story
    assert not [trial for trial in stored if trial.state == TrialState.RUNNING], story
    assert not processes_of(folder), story
    again = [trial.user_attrs["retry_of"] for trial in stored if "retry_of" in trial.user_attrs]
    assert sorted(again) == [trial.number for trial in stored if "retry" in trial.user_attrs], story
    for trial in stored:  # each result on disk is in the storage
        result = read_result(folder / str(trial.number))
        assert (trial.state in FINISHED) == isinstance(result, dict), f"trial {trial.number}\n{story}"
    sweep(toy, *command)
    assert len(trials(toy)) == len(stored), story


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["null", "sqlite:///x.db"])
def test_two_sweepers_reach_exact_trial_count(toy: Path, storage: str) -> None:
    """One journal in one folder, or one database and two folders, as on two machines."""
    common = ["sweep.n_trials=9", "seconds=0.3", "sweep.pruner=null", f"sweep.storage={storage}"]
    folders = ["studies/toy", "studies/toy"] if storage == "null" else ["studies/a", "studies/b"]
    sweepers = [
        start(toy, *common, f"sweep.folder={folder}", f"sweep.workers={workers}")
        for folder, workers in zip(folders, (1, 2), strict=True)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in sweepers]
    assert [process.returncode for process in sweepers] == [0, 0], outputs
    stored = (
        trials(toy)
        if storage == "null"
        else optuna.load_study(study_name="toy", storage=f"sqlite:///{toy}/x.db").trials
    )
    assert len(finished(stored)) == 9 and distinct(finished(stored)) == 9
    ran = sorted(int(path.parent.name) for path in toy.glob("studies/*/*/trial.json"))
    assert ran == [trial.number for trial in finished(stored)]
    owners = {trial.user_attrs["owner"]["pid"] for trial in finished(stored)}
    assert len(owners) == 2
    assert all("9 COMPLETE, 0 PRUNED, 0 FAILED" in output for output in outputs)
