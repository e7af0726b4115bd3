"""Claim and settle the trials of a study, without processes."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import psutil
import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from conveyorguard.sweeps import shared_study as study
from conveyorguard.sweeps.shared_study import SharedStudy
from conveyorguard.sweeps.trial import storage_place
from conveyorguard.system import processes
from tests.sweeps.toy import distinct, finished, wait_for

pytestmark = pytest.mark.promise("crashes", "Killed trials and sweepers lose no trial and repeat none.")

SPACE = {"x": FloatDistribution(0, 1), "layers": CategoricalDistribution((1, 2))}


def shared(place: Path | str, folder: Path, n_trials: int = 3, space=SPACE, **settings) -> SharedStudy:
    sampler = OmegaConf.create({"_target_": "optuna.samplers.TPESampler", "seed": 0, "n_startup_trials": 2})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {
        "direction": "maximize",
        "max_failures": 1,
        "settings": {},
        "on_trial_end": lambda trial: None,
        **settings,
    }
    return SharedStudy(str(place), "s", folder=folder, n_trials=n_trials, space=space, sampler=sampler, **options)


def write_result(study: SharedStudy, trial: FrozenTrial, **result) -> None:
    folder = study.folder_of(trial)
    folder.mkdir(exist_ok=True)
    (folder / "trial.json").write_text(json.dumps({"state": "COMPLETE", "value": trial.params["x"], **result}))


def orphan(study: SharedStudy) -> FrozenTrial:
    """Claim a trial for a dead sweeper: it has the pid of this process, but another start time."""
    study.owner = {**processes.this_process(), "start": 0.0}
    trial = study.claim()
    assert trial is not None
    study.folder_of(trial).mkdir()
    return trial


def test_owner_is_identified_by_host_pid_and_start() -> None:
    me = processes.this_process()
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(child.pid).create_time()
    wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    dead = {**me, "pid": child.pid, "start": started}
    assert processes.is_alive(me)
    assert not processes.is_alive(dead)  # a zombie: its parent has not waited for it yet
    child.wait()
    assert not processes.is_alive(dead)
    assert not processes.is_alive({**me, "start": me["start"] - 60})  # another process, same pid
    assert processes.is_alive({**dead, "host": "elsewhere"})  # unknown from this host


def test_trial_of_dead_owner_is_retried_max_failures_times(tmp_path: Path) -> None:
    params = []
    for _ in range(3):
        params.append(orphan(shared(tmp_path / "j", tmp_path)).params)
    study = shared(tmp_path / "j", tmp_path)
    params.append(study.claim().params)
    assert params[0] == params[1] and params[2] == params[3] and params[1] != params[2]
    reasons = [trial.user_attrs.get("reason") for trial in study.trials()]
    assert reasons == [
        "killed, will be retried",
        "killed 2 times, not retried",
        "killed, will be retried",
        None,
    ]


@pytest.mark.parametrize(
    ("result", "state"),
    [
        ({}, "COMPLETE"),
        ({"state": "PRUNED"}, "PRUNED"),
        ({"value": math.nan}, "FAIL"),
        ({"state": "FAILED"}, "FAIL"),
    ],
)
def test_result_of_dead_owner_is_accepted(tmp_path: Path, result: dict, state: str) -> None:
    study = shared(tmp_path / "j", tmp_path, 1)
    trial = orphan(study)
    write_result(study, trial, **result)
    later = shared(tmp_path / "j", tmp_path, 1)
    more = later.claim()
    settled = later.trials()[0]
    assert settled.state.name == state and (more is None) == (state != "FAIL")
    assert settled.value == (trial.params["x"] if state == "COMPLETE" else None)
    if more:  # the trial failed by itself: other parameters
        assert more.params != trial.params


def test_result_written_after_termination_does_not_count(tmp_path: Path) -> None:
    study = shared(tmp_path / "j", tmp_path, 1)
    trial = orphan(study)
    study.storage.set_trial_user_attr(trial._trial_id, "ended", "timeout")
    write_result(study, trial)
    again = shared(tmp_path / "j", tmp_path, 1).claim()
    assert again.params == trial.params and again.user_attrs["attempt"] == 0


def test_trial_of_other_host_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = shared(tmp_path / "j", tmp_path, 1)
    study.owner = {"host": "elsewhere", "pid": 1, "start": 0.0}
    study.claim()
    here = shared(tmp_path / "j", tmp_path, 1)
    assert here.claim() is None and not here.is_done()
    assert "0 (on elsewhere)" in here.describe_running()
    here.study.tell(0, state=TrialState.FAIL)  # the remedy in the message
    assert here.claim() is not None


@pytest.mark.parametrize("same", [True, False])
def test_simultaneous_claims_make_the_later_withdraw(tmp_path: Path, same: bool) -> None:
    place = storage_place(f"sqlite:///{tmp_path}/x.db")
    ours, theirs = (shared(place, tmp_path / name, 2 if same else 1) for name in ("a", "b"))
    propose, rivals = ours.propose, []

    def slow(stored: list[FrozenTrial]) -> FrozenTrial:
        proposal = propose(stored)
        rivals.append(theirs.claim())
        if not same:
            proposal.params = {**proposal.params, "x": 0.5}
        return proposal

    ours.propose = slow
    assert ours.claim() is None
    withdrawn, claimed = sorted(ours.trials(), key=lambda trial: trial.state != TrialState.FAIL)
    assert withdrawn.user_attrs["reason"] == study.WITHDRAWN and withdrawn.number > claimed.number
    assert claimed.number == rivals[0].number and claimed.state == TrialState.RUNNING


def test_running_trials_of_one_host_have_distinct_slots(tmp_path: Path) -> None:
    first, second = shared(tmp_path / "j", tmp_path, 5), shared(tmp_path / "j", tmp_path, 5)
    elsewhere = shared(tmp_path / "j", tmp_path, 5)
    elsewhere.owner = {"host": "elsewhere", "pid": 1, "start": 0.0}
    elsewhere.claim()
    claimed = [first.claim(), second.claim()]
    assert [trial.user_attrs["slot"] for trial in claimed] == [0, 1]
    write_result(first, claimed[0])
    first.settle(claimed[0], 0)
    assert second.claim().user_attrs["slot"] == 0


def test_sampler_does_not_repeat_itself_and_restarts_change_nothing(tmp_path: Path) -> None:
    def run(folder: Path, restart: bool) -> list[dict]:
        study = shared(folder / "j", folder, 8)
        for _ in range(8):
            study = shared(folder / "j", folder, 8) if restart else study
            trial = study.claim()
            write_result_in(study, trial)
        return [trial.params for trial in study.trials()]

    def write_result_in(study: SharedStudy, trial: FrozenTrial) -> None:
        write_result(study, trial)
        study.settle(trial, 0)

    straight = run(tmp_path / "a", False)
    assert len({trial["x"] for trial in straight}) == 8
    assert run(tmp_path / "b", True) == straight


def test_small_space_is_tried_completely_before_repeating(tmp_path: Path) -> None:
    space = {"x": CategoricalDistribution((1.0, 2.0, 3.0)), "layers": CategoricalDistribution((1, 2))}
    study = shared(tmp_path / "j", tmp_path, 7, space)
    for _ in range(7):  # six combinations: the seventh repeats one
        trial = study.claim()
        write_result(study, trial)
        study.settle(trial, 0)
    stored = study.trials()
    assert distinct(stored[:6]) == 6 and distinct(stored) == 6 and len(finished(stored)) == 7


def test_out_of_memory_kill_fails_trial_and_other_kill_retries_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both end with SIGKILL; the kernel counts its out-of-memory kills."""
    count = processes.memory_kills()
    assert count == int(dict(map(str.split, Path("/proc/vmstat").read_text().splitlines()))["oom_kill"])
    study = shared(tmp_path / "j", tmp_path, 3)
    for number, more in enumerate((0, 1)):
        trial = study.claim()
        study.folder_of(trial).mkdir()
        monkeypatch.setattr("conveyorguard.sweeps.shared_study.memory_kills", lambda more=more: count + more)
        study.settle(trial, -signal.SIGKILL)
        reason = study.trials()[number].user_attrs["reason"]
        assert reason == ("killed, will be retried", "out of memory: killed by the kernel")[more]
    first, second = study.trials()
    assert second.params == first.params and study.claim().params != first.params
