"""The sweeper on a toy Hydra application: the whole loop, in real processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from conveyorguard.sweeps.trial import read_result
from tests.support.places import ROOT
from tests.sweeps.toy import FINISHED, distinct, processes_of, start, sweep, trials, wait_for


def test_a_study_prunes_reports_and_goes_on(toy: Path) -> None:
    output = sweep(toy, "sweep.on_end=__main__.page", "word='two words'", "group.two=3")
    found = trials(toy)
    states = [trial.state for trial in found]
    assert len(found) == 6 and set(states) == set(FINISHED)
    best = max(trial.value for trial in found)
    for trial in found:
        folder = toy / "studies/toy" / str(trial.number)
        assert trial.user_attrs["dir"] == str(folder)
        assert read_result(folder)["state"] == trial.state.name
        steps = len(trial.intermediate_values)
        assert steps == 4 if trial.state == TrialState.COMPLETE else 1 < steps < 4
        assert f"x={trial.params['x']}" in OmegaConf.load(folder / ".hydra/overrides.yaml")
    lines = [line for line in output.splitlines() if line.startswith("trial ")]
    assert [line.split()[2] for line in lines] == [state.name for state in states]
    assert lines[-1].split("6 of 6")[0].endswith(f"(trial {[t.value for t in found].index(best)})  ")
    complete = states.count(TrialState.COMPLETE)
    assert f"{complete} COMPLETE, {6 - complete} PRUNED, 0 FAILED" in output
    assert (toy / "studies/toy/page.txt").read_text() == "6"

    retrain = next(line for line in output.splitlines() if line.startswith("retrain it: "))
    command = shlex.split(retrain.removeprefix("retrain it: "))
    assert not any(word.startswith("sweep") for word in command)
    assert {"word='two words'", "group=b", "group.two=3", "steps=4"} <= set(command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    again = subprocess.run([sys.executable, *command[1:]], cwd=toy, env=environment, text=True, capture_output=True)
    assert float(again.stdout.split("value ")[1]) == best

    written = {path: path.stat().st_mtime_ns for path in (toy / "studies/toy").glob("[0-9]*/**/*")}
    sweep(toy, "sweep.n_trials=8", "word='two words'", "group.two=3")
    assert len(trials(toy)) == 8 and distinct(trials(toy)) == 8
    assert {path: path.stat().st_mtime_ns for path in written} == written


@pytest.mark.slow
def test_workers_run_side_by_side_each_on_its_gpus(toy: Path) -> None:
    sweep(
        toy,
        "sweep.n_trials=4",
        "sweep.workers=2",
        "seconds=1",
        "sweep.pruner=null",
        env={"CUDA_VISIBLE_DEVICES": "0,1,4"},
    )
    found = trials(toy)
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 4
    assert found[1].datetime_start < found[0].datetime_complete
    gpus = {trial.user_attrs["info"]["gpu"] for trial in found}
    assert gpus == {"0,4", "1"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash", "exit code 1: ValueError: the reason"),
        ("no number", "its objective is nan"),
        pytest.param("silent", "it left no trial.json", marks=pytest.mark.slow),
        pytest.param("segfault", "ended by SIGSEGV", marks=pytest.mark.slow),
    ],
)
def test_a_bad_end_is_one_failed_trial_with_its_directory(toy: Path, fault: str, reason: str) -> None:
    output = sweep(toy, f"fault='{fault}'", "sweep.max_failures=0", "seconds=0", "steps=1", code=1)
    (trial,) = trials(toy)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == reason
    assert trial.user_attrs["dir"] == str(toy / "studies/toy/0")
    line = next(line for line in output.splitlines() if line.startswith("trial "))
    assert "FAILED" in line and reason in line and str(toy / "studies/toy/0") in line
    assert "0 of 6 trials are done, the same command goes on" in output


def test_the_sweeper_gives_up_after_failures_in_a_row(toy: Path) -> None:
    sweep(toy, "fault=crash", "sweep.max_failures=1", "seconds=0", "steps=1", code=1)
    assert [trial.state for trial in trials(toy)] == [TrialState.FAIL] * 2
    assert distinct(trials(toy)) == 2


@pytest.mark.slow
def test_at_the_time_limit_trials_end_and_are_not_counted(toy: Path) -> None:
    output = sweep(toy, "sweep.n_trials=2", "sweep.timeout=2.5", "seconds=20")
    (trial,) = trials(toy)
    assert trial.state == TrialState.FAIL and trial.user_attrs["reason"] == "ended: timeout"
    assert not processes_of(toy)
    assert "the time is over; 0 of 2 trials are done, the same command goes on" in output
    sweep(toy, "sweep.n_trials=2", "sweep.timeout=100", "sweep.max_failures=0")
    found = trials(toy)
    assert [t.state.name for t in found] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert found[1].params == trial.params and found[1].user_attrs["attempt"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_all_trials_end_and_are_tried_again(toy: Path, number: signal.Signals) -> None:
    process = start(toy, "sweep.n_trials=2", "sweep.workers=2", "seconds=60")
    wait_for(lambda: len(list((toy / "studies/toy").glob("*/app.log"))) == 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not processes_of(toy)
    assert "interrupted; 0 of 2 trials are done, the same command goes on" in output
    before = trials(toy)
    assert [t.user_attrs["reason"] for t in before] == ["ended: interrupted"] * 2
    sweep(toy, "sweep.n_trials=2", "sweep.max_failures=0", "seconds=0", "sweep.pruner=null")
    after = trials(toy)
    assert [t.params for t in after[2:]] == [t.params for t in before]
    assert [t.state for t in after[2:]] == [TrialState.COMPLETE] * 2


def test_a_killed_sweeper_takes_its_trial_along_which_is_tried_again(toy: Path) -> None:
    process = start(toy, "sweep.n_trials=1", "seconds=60")
    wait_for(lambda: (toy / "studies/toy/0/app.log").exists())
    process.kill()
    process.communicate()
    wait_for(lambda: not processes_of(toy), 5)
    sweep(toy, "sweep.n_trials=1", "seconds=0")
    first, second = trials(toy)
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.params == second.params and second.user_attrs["retry_of"] == 0


def test_what_finished_untold_is_told_and_not_run_again(toy: Path) -> None:
    process = start(toy, "sweep.n_trials=1", "fault=late", "seconds=0")
    wait_for(lambda: (toy / "studies/toy/0/trial.json").exists())
    process.kill()
    process.communicate()
    output = sweep(toy, "sweep.n_trials=1", "fault=crash")
    (trial,) = trials(toy)
    assert trial.state == TrialState.COMPLETE
    assert trial.value == trial.params["x"] - trial.params["layers"] + 2
    assert "1 COMPLETE, 0 PRUNED, 0 FAILED" in output


@pytest.mark.slow
def test_sqlite_and_the_command_line_space(toy: Path) -> None:
    storage = "sweep.storage=sqlite:///x.db"
    sweep(toy, storage, "sweep.n_trials=3", "+word2=choice('1','a b')", "layers=2", "sweep.pruner=null")
    found = optuna.load_study(study_name="toy", storage=f"sqlite:///{toy}/x.db").trials
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 3
    assert set(found[0].params) == {"x", "+word2"}
    for trial in found:
        config = OmegaConf.load(toy / "studies/toy" / str(trial.number) / ".hydra/config.yaml")
        assert config.word2 == trial.params["+word2"] and config.layers == 2


@pytest.mark.slow
def test_the_entry_point_registers_the_sweeper(toy: Path) -> None:
    app = (toy / "app.py").read_text().replace("from conveyorguard.sweeps import sweeper\n", "")
    (toy / "app.py").write_text(app.replace("sweeper.register()\n", ""))
    installed = toy / "site" / "toy-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    entry = "[hydra.plugins]\nstudy = conveyorguard.sweeps.sweeper:StudySweeper\n"
    (installed / "entry_points.txt").write_text(entry)
    sweep(toy, "sweep.n_trials=1", env={"PYTHONPATH": f"{ROOT}:{toy / 'site'}"})
    assert [trial.state for trial in trials(toy)] == [TrialState.COMPLETE]
