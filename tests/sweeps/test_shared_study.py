"""Claiming and settling the trials of a study, without processes."""

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

SPACE = {"x": FloatDistribution(0, 1), "layers": CategoricalDistribution((1, 2))}


def shared(place: Path | str, folder: Path, n_trials: int = 3, space=SPACE, **settings) -> SharedStudy:
    sampler = OmegaConf.create({"_target_": "optuna.samplers.TPESampler", "seed": 0, "n_startup_trials": 2})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {"direction": "maximize", "max_failures": 1, "settings": {}, "told": lambda trial: None, **settings}
    return SharedStudy(str(place), "s", folder=folder, n_trials=n_trials, space=space, sampler=sampler, **options)


def write_result(study: SharedStudy, trial: FrozenTrial, **result) -> None:
    folder = study.folder_of(trial)
    folder.mkdir(exist_ok=True)
    (folder / "trial.json").write_text(json.dumps({"state": "COMPLETE", "value": trial.params["x"], **result}))


def orphan(study: SharedStudy) -> FrozenTrial:
    """A trial whose sweeper has died: its process id is ours, but it started at another time."""
    study.owner = {**processes.this_process(), "start": 0.0}
    trial = study.claim()
    assert trial is not None
    study.folder_of(trial).mkdir()
    return trial


def test_owners_are_known_by_host_pid_and_start() -> None:
    me = processes.this_process()
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(child.pid).create_time()
    wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    dead = {**me, "pid": child.pid, "start": started}
    assert processes.is_alive(me)
    assert not processes.is_alive(dead)  # killed, and its parent has not looked yet
    child.wait()
    assert not processes.is_alive(dead)
    assert not processes.is_alive({**me, "start": me["start"] - 60})  # another process, same pid
    assert processes.is_alive({**dead, "host": "elsewhere"})  # nobody here can tell


def test_a_dead_owners_trial_is_tried_again_so_often_and_not_more(tmp_path: Path) -> None:
    params = []
    for _ in range(3):
        params.append(orphan(shared(tmp_path / "j", tmp_path)).params)
    study = shared(tmp_path / "j", tmp_path)
    params.append(study.claim().params)
    assert params[0] == params[1] and params[2] == params[3] and params[1] != params[2]
    reasons = [trial.user_attrs.get("reason") for trial in study.trials()]
    assert reasons == [
        "killed, is tried again",
        "killed 2 times, is given up",
        "killed, is tried again",
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
def test_a_dead_owners_result_is_taken(tmp_path: Path, result: dict, state: str) -> None:
    study = shared(tmp_path / "j", tmp_path, 1)
    trial = orphan(study)
    write_result(study, trial, **result)
    later = shared(tmp_path / "j", tmp_path, 1)
    more = later.claim()
    told = later.trials()[0]
    assert told.state.name == state and (more is None) == (state != "FAIL")
    assert told.value == (trial.params["x"] if state == "COMPLETE" else None)
    if more:  # a fault of its own: other parameters
        assert more.params != trial.params


def test_what_a_trial_writes_after_it_was_told_to_end_does_not_count(tmp_path: Path) -> None:
    study = shared(tmp_path / "j", tmp_path, 1)
    trial = orphan(study)
    study.storage.set_trial_user_attr(trial._trial_id, "ended", "timeout")
    write_result(study, trial)
    again = shared(tmp_path / "j", tmp_path, 1).claim()
    assert again.params == trial.params and again.user_attrs["attempt"] == 0


def test_another_hosts_trial_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = shared(tmp_path / "j", tmp_path, 1)
    study.owner = {"host": "elsewhere", "pid": 1, "start": 0.0}
    study.claim()
    here = shared(tmp_path / "j", tmp_path, 1)
    assert here.claim() is None and not here.is_done()
    assert "0 (on elsewhere)" in here.describe_running()
    here.study.tell(0, state=TrialState.FAIL)  # by hand, as the message says
    assert here.claim() is not None


@pytest.mark.parametrize("same", [True, False])
def test_of_two_claims_in_one_moment_the_later_withdraws(tmp_path: Path, same: bool) -> None:
    place = storage_place(f"sqlite:///{tmp_path}/x.db")
    ours, theirs = (shared(place, tmp_path / name, 2 if same else 1) for name in ("a", "b"))
    propose, rivals = ours.propose, []

    def slow(found: list[FrozenTrial]) -> FrozenTrial:
        proposal = propose(found)
        rivals.append(theirs.claim())
        if not same:
            proposal.params = {**proposal.params, "x": 0.5}
        return proposal

    ours.propose = slow
    assert ours.claim() is None
    withdrawn, claimed = sorted(ours.trials(), key=lambda trial: trial.state != TrialState.FAIL)
    assert withdrawn.user_attrs["reason"] == study.WITHDRAWN and withdrawn.number > claimed.number
    assert claimed.number == rivals[0].number and claimed.state == TrialState.RUNNING


def test_trials_of_all_sweepers_on_a_host_have_slots_of_their_own(tmp_path: Path) -> None:
    first, second = shared(tmp_path / "j", tmp_path, 5), shared(tmp_path / "j", tmp_path, 5)
    elsewhere = shared(tmp_path / "j", tmp_path, 5)
    elsewhere.owner = {"host": "elsewhere", "pid": 1, "start": 0.0}
    elsewhere.claim()
    claimed = [first.claim(), second.claim()]
    assert [trial.user_attrs["slot"] for trial in claimed] == [0, 1]
    write_result(first, claimed[0])
    first.settle(claimed[0], 0)
    assert second.claim().user_attrs["slot"] == 0


def test_the_sampler_does_not_repeat_itself_and_restarts_change_nothing(tmp_path: Path) -> None:
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


def test_every_set_of_a_small_space_is_tried_once(tmp_path: Path) -> None:
    space = {"x": CategoricalDistribution((1.0, 2.0, 3.0)), "layers": CategoricalDistribution((1, 2))}
    study = shared(tmp_path / "j", tmp_path, 7, space)
    for _ in range(7):  # the seventh has nothing new left
        trial = study.claim()
        write_result(study, trial)
        study.settle(trial, 0)
    found = study.trials()
    assert distinct(found[:6]) == 6 and distinct(found) == 6 and len(finished(found)) == 7


def test_memory_that_ran_out_is_a_fault_of_the_trial_and_a_kill_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both end with SIGKILL; the kernel counts its own."""
    count = processes.memory_kills()
    assert count == int(dict(map(str.split, Path("/proc/vmstat").read_text().splitlines()))["oom_kill"])
    study = shared(tmp_path / "j", tmp_path, 3)
    for number, more in enumerate((0, 1)):
        trial = study.claim()
        study.folder_of(trial).mkdir()
        monkeypatch.setattr("conveyorguard.sweeps.shared_study.memory_kills", lambda more=more: count + more)
        study.settle(trial, -signal.SIGKILL)
        reason = study.trials()[number].user_attrs["reason"]
        assert reason == ("killed, is tried again", "out of memory: the kernel ended it")[more]
    first, second = study.trials()
    assert second.params == first.params and study.claim().params != first.params
