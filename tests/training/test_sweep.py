"""The sweeper on a toy Hydra application: real processes and kills, read back with Optuna's own tools."""

from __future__ import annotations

import json
import math
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import optuna
import psutil
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

import conveyorguard
from conveyorguard.sweeps import shared_study as study
from conveyorguard.sweeps.shared_study import SharedStudy
from conveyorguard.sweeps.space import difference, matches, override, read_space
from conveyorguard.sweeps.trial import Journal, StorageError, find_study, open_storage, read_result, storage_place
from conveyorguard.system import processes

ROOT = Path(conveyorguard.__file__).parents[1]
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

APP = """
import math, os, signal, time
from pathlib import Path

import hydra
from conveyorguard.sweeps import sweeper
from conveyorguard.sweeps.trial import current_trial

sweeper.register()


def page(study, folder):
    Path(folder, "page.txt").write_text(str(len(study.trials)))


def check(space, overrides, cfg):
    return ["no layers=3 here: write 1 or 2"] if 3 in space["layers"].choices else []


@hydra.main(config_path="conf", config_name="app")
def main(cfg):
    trial = current_trial()
    value = cfg.x - cfg.layers + cfg.group.one
    for step in range(cfg.steps):
        time.sleep(cfg.seconds / cfg.steps)
        if trial and trial.report(step, value):
            return trial.finish("PRUNED", value)
    if cfg.fault == "crash":
        raise ValueError("the reason")
    if cfg.fault == "no number":
        value = math.nan
    if cfg.fault == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if trial and cfg.fault != "silent":
        trial.finish("COMPLETE", value, gpu=os.environ.get("CUDA_VISIBLE_DEVICES"))
    if cfg.fault == "late":  # finished, but its sweeper never sees the end
        time.sleep(60)
    print("value", value)


if __name__ == "__main__":
    main()
"""

CONFIG = {
    "app.yaml": """
        defaults: [_self_, {group: a}, {sweep: null}]
        x: 0.0
        layers: 1
        word: plain
        steps: 3
        seconds: 0.1
        seed: 0
        fault: null
        """,
    "group/a.yaml": "one: 1",
    "group/b.yaml": "{one: 2, two: 0}",
    "sweep/optuna.yaml": """
        # @package _global_
        defaults:
          - override /group: b
          - override /hydra/sweeper: study
        steps: 4
        sweep:
          study: toy
          folder: studies/${sweep.study}
          storage: null
          n_trials: 6
          timeout: null
          workers: 1
          max_failures: 3
          direction: maximize
          pruner: {_target_: optuna.pruners.MedianPruner, n_startup_trials: 2, n_warmup_steps: 1}
          params:
            x: interval(-5.0, 5.0)
            layers: choice(1, 2)
          fixed: [seed, group]
          free: [steps, seconds, fault]
          validate: null
          on_end: null
        hydra:
          sweeper:
            sampler: {seed: 0}
        """,
}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder with the toy application."""
    (tmp_path / "app.py").write_text(APP)
    for name, text in CONFIG.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


def start(toy: Path, *overrides: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The sweep as a process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    command = [sys.executable, "app.py", "-m", "sweep=optuna", *overrides]
    return subprocess.Popen(
        command, cwd=toy, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def sweep(toy: Path, *overrides: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """The output of a sweep that runs to its end."""
    process = start(toy, *overrides, env=env)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def trials(toy: Path, name: str = "toy") -> list[FrozenTrial]:
    """The trials as Optuna's own tools read them."""
    storage = JournalStorage(JournalFileBackend(str(toy / "studies" / name / "journal.log")))
    return optuna.load_study(study_name=name, storage=storage).trials


def finished(found: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in found if trial.state in FINISHED]


def distinct(found: list[FrozenTrial]) -> int:
    return len({tuple(sorted(trial.params.items())) for trial in found})


def processes_of(folder: Path) -> list[psutil.Process]:
    """Trial processes of a study that live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SWEEP_TRIAL_DIR", "").startswith(str(folder)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition, seconds: float = 60):
    """Until the condition holds; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain")


# The whole loop


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


# What is refused


def test_all_errors_come_at_once_with_what_to_write(toy: Path) -> None:
    output = sweep(
        toy,
        "seed=0,1",
        "group=a,b",
        "sweep.direction=up",
        "sweep.workers=0",
        "hydra/sweeper/sampler=grid",
        "sweep.pruner={_target_:os.system}",
        "x=glob(*)",
        "hydra/launcher=joblib",
        code=1,
    )
    assert output.startswith("Nothing was started:")
    for part in (
        "Write seed=0,",
        "Write group=a,",
        "direction=up is unknown: write minimize or maximize",
        "workers=0: write 1 or more",
        "sampler=grid",
        "the pruner cannot be built",
        "hydra/launcher=joblib: a study starts its trials itself. Write sweep.workers=N",
        "x=glob(*): not a search space",
    ):
        assert part in output, part
    assert not (toy / "studies").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sweep.params=null"], "the search space is empty: write for example"),
        (["+y.z=choice(1,2)", "missing=choice(1,2)"], "Could not override 'missing'"),
        (["sweep.validate=__main__.check", "layers=choice(1,3)"], "no layers=3 here: write 1 or 2"),
        (["sweep.n_trials=4,5"], "a study does not tune sweep.n_trials"),
    ],
)
def test_refused_before_anything_starts(toy: Path, overrides: list[str], message: str) -> None:
    output = sweep(toy, *overrides, code=1)
    assert message in output
    assert not (toy / "studies").exists()


def test_a_study_is_not_continued_as_another_one(toy: Path) -> None:
    sweep(toy, "sweep.n_trials=2", "seconds=0", "steps=1")
    journal = toy / "studies/toy/journal.log"
    before = journal.read_bytes()
    output = sweep(
        toy,
        "sweep.n_trials=1",
        "seed=1",
        "group=a",
        "sweep.direction=minimize",
        "layers=choice(1,3)",
        "word=choice(a,b)",
        "+more=1",
        code=1,
    )
    for part in (
        "n_trials=1, but 2 have finished: write 2 or more",
        "seed=1, but the study was begun with seed=0",
        "group=a, but the study was begun with group=b",
        "direction=minimize, but",
        "layers is no longer",
        "word=tuned, but the study was begun with word=plain",
        "more=1, but the study was begun with more=nothing",
    ):
        assert part in output, part
    assert "group.one" not in output and "group.two" not in output  # the group says it all
    assert "layers=2, but the study was begun with layers=tuned" in sweep(toy, "layers=2", code=1)
    assert journal.read_bytes() == before
    sweep(toy, "sweep.n_trials=3", "seconds=0", "steps=2", "seed=1", "sweep.free=[se*,steps]")
    assert len(trials(toy)) == 3
    journal.unlink()
    output = sweep(toy, code=1)
    assert f"{toy}/studies/toy/2 exists, but the storage has 0 trials" in output
    assert not journal.exists()


@pytest.mark.slow
def test_of_two_different_sweeps_begun_at_once_in_one_folder_one_is_refused(toy: Path) -> None:
    both = [
        start(toy, "sweep.n_trials=2", "sweep.pruner=null", "seconds=1", f"word={word}") for word in ("left", "right")
    ]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], outputs
    (refused,) = [output for output in outputs if "but the study was begun with word=" in output]
    assert "Nothing was started:" in refused and "trial  " not in refused
    words = {OmegaConf.load(path).word for path in toy.glob("studies/toy/*/.hydra/config.yaml")}
    assert len(words) == 1 and len(finished(trials(toy))) == 2


@pytest.mark.slow
def test_folders_of_any_name(toy: Path) -> None:
    there = toy.rename(toy.with_name("공장 1호기, it's [a] {b} $x=1"))
    sweep(there, "sweep.n_trials=2", "sweep.study='이송 장치'", "seconds=0", "sweep.pruner=null")
    assert [trial.state for trial in trials(there, "이송 장치")] == [TrialState.COMPLETE] * 2
    sqlite = f"sweep.storage='sqlite:///{there}/x.db'".replace("it's", "it\\'s")
    sweep(there, "sweep.n_trials=1", sqlite, "seconds=0", "sweep.pruner=null")
    assert (there / "x.db").exists()


@pytest.mark.slow
def test_a_trial_whose_directory_was_removed_stays_counted(toy: Path) -> None:
    sweep(toy, "sweep.n_trials=3", "seconds=0", "sweep.pruner=null")
    for number in (1, 2):
        shutil.rmtree(toy / "studies/toy" / str(number))
    output = sweep(toy, "sweep.n_trials=4", "seconds=0", "sweep.pruner=null")
    assert "4 COMPLETE, 0 PRUNED, 0 FAILED" in output and (toy / "studies/toy/3/trial.json").exists()
    assert not (toy / "studies/toy/2").exists()


def test_a_storage_that_cannot_be_used_is_refused_by_name(toy: Path) -> None:
    journal = toy / "studies/toy/journal.log"
    sweep(toy, "sweep.n_trials=2", "seconds=0")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[4:]]))
    damaged = journal.read_bytes()
    output = sweep(toy, code=1)
    assert f"storage={journal}: not a journal of Optuna, or damaged" in output and "Traceback" not in output
    assert journal.read_bytes() == damaged
    output = sweep(
        toy, "sweep.storage='nosuch://me:secret@host/x'", "sweep.folder=studies/b", "sweep.workers=0", code=1
    )
    assert "storage=nosuch://me:***@host/x: cannot be opened" in output and "workers=0: write 1" in output
    assert not (toy / "studies/b").exists()


# Claiming and settling, without processes

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


# The parts


@pytest.mark.parametrize("content", [b"a text\n", b"a text", b'{"half": '])
def test_a_file_that_is_no_journal_is_not_written_to(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    if content.startswith(b"{"):  # what a kill may leave of a first line
        assert find_study(str(path), "s") is None
        return
    with pytest.raises(StorageError, match=r"notes\.txt: not a journal of Optuna"):
        open_storage(str(path))
    assert path.read_bytes() == content


def test_half_a_line_in_the_journal_does_not_end_the_study(tmp_path: Path) -> None:
    path = tmp_path / "j"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="s")
    study.ask()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 5, "half')
    optuna.load_study(study_name="s", storage=open_storage(str(path))).ask()
    read = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    assert len(read.trials) == 2
    assert path.read_bytes().startswith(whole)
    assert isinstance(study._storage._backend, Journal)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.text("'\\\" a$,=[]{}:x1.가")
SCALAR = TEXT.filter(lambda text: not text.startswith(("[", "{"))) | st.none() | st.booleans() | st.integers()


@settings(deadline=None)
@given(SCALAR | st.floats(allow_nan=False) | st.lists(SCALAR, max_size=3))
@example("null")
@example("True")
@example("nan")
@example("it's")
@example("a\\'")
@example("C:\\")
@example("이송")
@example(1e-5)
def test_a_value_arrives_as_it_was(value: object) -> None:
    def plain(found: object) -> object:
        return [plain(one) for one in found] if isinstance(found, list) else getattr(found, "text", found)

    (read,) = OverridesParser.create().parse_overrides([override("key", value)])
    arrived = plain(read.value())
    assert arrived == value and type(arrived) is type(value)


def test_later_lines_replace_earlier_ones() -> None:
    space, task, errors = read_space(
        {"a": "choice(1, 2)", "b": "interval(0.0, 1.0)", "c": 5}, ["a=3", "b=choice(7,8)", "~d", "e=glob(*)"]
    )
    assert list(space) == ["b"] and space["b"].choices == (7, 8)
    assert task == ["c=5", "a=3", "~d"]
    assert len(errors) == 1 and errors[0].startswith("e=glob(*): ")


def test_the_difference_of_configs_as_overrides() -> None:
    old = OmegaConf.create({"a": 1, "b": {"c": "${a}", "d": [1], "e": 2}, "gone": 1})
    new = OmegaConf.create({"a": 2, "b": {"c": "${a}", "d": [1, 2], "e": None, "f": "x/y"}})
    assert difference(old, new) == ["a=2", "b.d=[1, 2]", "b.e=null", "+b.f=x/y"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("split.seed=1", True),
        ("+seed=a", True),
        ("seed@x=a", True),
        ("seeds=1", False),
        ("a.seed=1", False),
        ("split=1", False),
        ("seed.x=1", False),
    ],
)
def test_patterns_name_keys(line: str, named: bool) -> None:
    assert matches(line, ["seed", "split.*"]) is named


def test_gpus_are_those_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert processes.find_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert processes.find_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert processes.find_gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'GPU 0: H200 (UUID: x)\\n  MIG 1g Device 0\\nGPU 1: H200 (UUID: y)\\n'\n")
    tool.chmod(0o755)
    assert processes.find_gpus() == ["0", "1"]


# Minutes


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_kills_lose_nothing_and_double_nothing(toy: Path, seed: int) -> None:
    """kill -9 of the sweeper or one of its trials, at random moments, until 20 kills; then run to the end."""
    command = ["sweep.n_trials=6", f"sweep.workers={seed}", "seconds=1.5", "steps=15"]
    chance, folder, kills, log = random.Random(seed), toy / "studies/toy", 0, []
    process, in_trials = start(toy, *command), 0
    while kills < 20:
        results, moment = len(list(folder.glob("*/trial.json"))), chance.random()
        if moment < 0.5:  # while a trial runs, however slow this machine is
            wait_for(lambda ended=process.poll: ended() is not None or processes_of(folder))
            time.sleep(chance.uniform(0, 0.6 if results >= 4 else 2))
        elif moment < 0.8 and results < 4:  # when a trial has left its result and nobody was told, or hardly
            wait_for(
                lambda ended=process.poll, n=results: ended() is not None or len(list(folder.glob("*/trial.json"))) > n
            )
            time.sleep(chance.uniform(0, 0.3))
        else:  # before any trial runs, perhaps
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
    found = trials(toy)
    assert in_trials >= 5 and 2 <= sum(": trial" in line for line in log) <= 18, story
    assert len(finished(found)) == 6, story
    assert distinct(finished(found)) == 6, story
    assert not [trial for trial in found if trial.state == TrialState.RUNNING], story
    assert not processes_of(folder), story
    again = [trial.user_attrs["retry_of"] for trial in found if "retry_of" in trial.user_attrs]
    assert sorted(again) == [trial.number for trial in found if "retry" in trial.user_attrs], story
    for trial in found:  # each result on disk is told exactly as it is, none is lost
        result = read_result(folder / str(trial.number))
        assert (trial.state in FINISHED) == isinstance(result, dict), f"trial {trial.number}\n{story}"
    sweep(toy, *command)
    assert len(trials(toy)) == len(found), story


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["null", "sqlite:///x.db"])
def test_two_sweepers_share_a_study_exactly(toy: Path, storage: str) -> None:
    """On one journal in one folder; on one database in two folders, as on two machines."""
    common = ["sweep.n_trials=9", "seconds=0.3", "sweep.pruner=null", f"sweep.storage={storage}"]
    folders = ["studies/toy", "studies/toy"] if storage == "null" else ["studies/a", "studies/b"]
    sweepers = [
        start(toy, *common, f"sweep.folder={folder}", f"sweep.workers={workers}")
        for folder, workers in zip(folders, (1, 2), strict=True)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in sweepers]
    assert [process.returncode for process in sweepers] == [0, 0], outputs
    found = (
        trials(toy)
        if storage == "null"
        else optuna.load_study(study_name="toy", storage=f"sqlite:///{toy}/x.db").trials
    )
    assert len(finished(found)) == 9 and distinct(finished(found)) == 9
    ran = sorted(int(path.parent.name) for path in toy.glob("studies/*/*/trial.json"))
    assert ran == [trial.number for trial in finished(found)]
    owners = {trial.user_attrs["owner"]["pid"] for trial in finished(found)}
    assert len(owners) == 2
    assert all("9 COMPLETE, 0 PRUNED, 0 FAILED" in output for output in outputs)
