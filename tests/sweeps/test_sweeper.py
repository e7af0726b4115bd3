"""The sweeper's whole loop on a toy Hydra application, in real processes."""

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

pytestmark = pytest.mark.promise("crashes", "Killed trials and sweepers lose no trial and repeat none.")


def test_study_prunes_reports_and_continues(toy: Path) -> None:
    output = sweep(toy, "sweep.on_end=__main__.page", "word='two words'", "group.two=3")
    stored = trials(toy)
    states = [trial.state for trial in stored]
    assert len(stored) == 6 and set(states) == set(FINISHED)
    best = max(trial.value for trial in stored)
    for trial in stored:
        folder = toy / "studies/toy" / str(trial.number)
        assert trial.user_attrs["dir"] == str(folder)
        assert read_result(folder)["state"] == trial.state.name
        steps = len(trial.intermediate_values)
        assert steps == 4 if trial.state == TrialState.COMPLETE else 1 < steps < 4
        assert f"x={trial.params['x']}" in OmegaConf.load(folder / ".hydra/overrides.yaml")
    lines = [line for line in output.splitlines() if line.startswith("trial ")]
    assert [line.split()[2] for line in lines] == [state.name for state in states]
    assert lines[-1].split("6 of 6")[0].endswith(f"(trial {[t.value for t in stored].index(best)})  ")
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
def test_workers_run_in_parallel_on_separate_gpus(toy: Path) -> None:
    sweep(
        toy,
        "sweep.n_trials=4",
        "sweep.workers=2",
        "seconds=1",
        "sweep.pruner=null",
        env={"CUDA_VISIBLE_DEVICES": "0,1,4"},
    )
    stored = trials(toy)
    assert [trial.state for trial in stored] == [TrialState.COMPLETE] * 4
    assert stored[1].datetime_start < stored[0].datetime_complete
    gpus = {trial.user_attrs["info"]["gpu"] for trial in stored}
    assert gpus == {"0,4", "1"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash", "exit code 1: ValueError: the reason"),
        ("no number", "objective is nan"),
        pytest.param("silent", "no trial.json was written", marks=pytest.mark.slow),
        pytest.param("segfault", "ended by SIGSEGV", marks=pytest.mark.slow),
    ],
)
def test_failing_trial_is_recorded_with_reason_and_directory(toy: Path, fault: str, reason: str) -> None:
    output = sweep(toy, f"fault='{fault}'", "sweep.max_failures=0", "seconds=0", "steps=1", code=1)
    (trial,) = trials(toy)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["reason"] == reason
    assert trial.user_attrs["dir"] == str(toy / "studies/toy/0")
    line = next(line for line in output.splitlines() if line.startswith("trial "))
    assert "FAILED" in line and reason in line and str(toy / "studies/toy/0") in line
    assert "0 of 6 trials have finished, the same command continues" in output


def test_sweeper_gives_up_after_failures_in_a_row(toy: Path) -> None:
    sweep(toy, "fault=crash", "sweep.max_failures=1", "seconds=0", "steps=1", code=1)
    assert [trial.state for trial in trials(toy)] == [TrialState.FAIL] * 2
    assert distinct(trials(toy)) == 2


@pytest.mark.slow
def test_time_limit_ends_trials_without_counting_them(toy: Path) -> None:
    output = sweep(toy, "sweep.n_trials=2", "sweep.timeout=2.5", "seconds=20")
    (trial,) = trials(toy)
    assert trial.state == TrialState.FAIL and trial.user_attrs["reason"] == "ended: timeout"
    assert not processes_of(toy)
    assert "time limit reached; 0 of 2 trials have finished, the same command continues" in output
    sweep(toy, "sweep.n_trials=2", "sweep.timeout=100", "sweep.max_failures=0")
    stored = trials(toy)
    assert [t.state.name for t in stored] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert stored[1].params == trial.params and stored[1].user_attrs["attempt"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_sweep_ends_trials_and_next_retries_them(toy: Path, number: signal.Signals) -> None:
    process = start(toy, "sweep.n_trials=2", "sweep.workers=2", "seconds=60")
    wait_for(lambda: len(list((toy / "studies/toy").glob("*/app.log"))) == 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not processes_of(toy)
    assert "interrupted; 0 of 2 trials have finished, the same command continues" in output
    before = trials(toy)
    assert [t.user_attrs["reason"] for t in before] == ["ended: interrupted"] * 2
    sweep(toy, "sweep.n_trials=2", "sweep.max_failures=0", "seconds=0", "sweep.pruner=null")
    after = trials(toy)
    assert [t.params for t in after[2:]] == [t.params for t in before]
    assert [t.state for t in after[2:]] == [TrialState.COMPLETE] * 2


def test_killed_sweeper_ends_its_trial_and_next_retries_it(toy: Path) -> None:
    process = start(toy, "sweep.n_trials=1", "seconds=60")
    wait_for(lambda: (toy / "studies/toy/0/app.log").exists())
    process.kill()
    process.communicate()
    wait_for(lambda: not processes_of(toy), 5)
    sweep(toy, "sweep.n_trials=1", "seconds=0")
    first, second = trials(toy)
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.params == second.params and second.user_attrs["retry_of"] == 0


def test_unrecorded_result_is_recorded_without_running_again(toy: Path) -> None:
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
def test_sqlite_storage_takes_space_from_command_line(toy: Path) -> None:
    storage = "sweep.storage=sqlite:///x.db"
    sweep(toy, storage, "sweep.n_trials=3", "+word2=choice('1','a b')", "layers=2", "sweep.pruner=null")
    stored = optuna.load_study(study_name="toy", storage=f"sqlite:///{toy}/x.db").trials
    assert [trial.state for trial in stored] == [TrialState.COMPLETE] * 3
    assert set(stored[0].params) == {"x", "+word2"}
    for trial in stored:
        config = OmegaConf.load(toy / "studies/toy" / str(trial.number) / ".hydra/config.yaml")
        assert config.word2 == trial.params["+word2"] and config.layers == 2


@pytest.mark.slow
def test_entry_point_registers_sweeper(toy: Path) -> None:
    app = (toy / "app.py").read_text().replace("from conveyorguard.sweeps import sweeper\n", "")
    (toy / "app.py").write_text(app.replace("sweeper.register()\n", ""))
    installed = toy / "site" / "toy-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    entry = "[hydra.plugins]\nstudy = conveyorguard.sweeps.sweeper:StudySweeper\n"
    (installed / "entry_points.txt").write_text(entry)
    sweep(toy, "sweep.n_trials=1", env={"PYTHONPATH": f"{ROOT}:{toy / 'site'}"})
    assert [trial.state for trial in trials(toy)] == [TrialState.COMPLETE]
