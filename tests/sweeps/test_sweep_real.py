"""Sweeps and multiruns of the real train.py on small data: pruning, DDP, launchers, kills."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import optuna
import pandas as pd
import psutil
import pytest
import yaml
from omegaconf import OmegaConf
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from conveyorguard.sweeps.trial import open_storage
from tests.support.places import ROOT

SMALL = ["data=simulated", "data.sessions=12", "threads=1", "modality=sensor"]
SWEEP = ["-m", "sweep=optuna", "model=fusion", "sweep.study=s", "sweep.timeout=null"]
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

FAULT = """
import os
import torch
from conveyorguard.training.loss import WindowLoss


class Faulty(WindowLoss):
    def forward(self, *arguments):
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
            raise ValueError("rank 1 has a fault")
        if "FAULT" in os.environ:
            raise ValueError("the loss has a fault")
        return super().forward(*arguments)


class OtherRates(torch.optim.AdamW):
    def __init__(self, parameters, lr, **settings):
        super().__init__(parameters, lr * (1 + torch.distributed.get_rank()), **settings)
"""


class Trainer:
    """`python train.py` in a folder, all of whose processes are found again by a mark in their environment."""

    def __init__(self, folder: Path, cache: Path):
        self.folder, self.mark, self.program = folder, uuid4().hex, [str(ROOT / "train.py")]
        self.env = {
            **os.environ,
            "CONVEYORGUARD_CACHE": str(cache),
            "PYTHONPATH": f"{ROOT}:{folder}",
            "TEST_MARK": self.mark,
        }

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        command = [sys.executable, *self.program, *SMALL, *overrides]
        with open(self.folder / "output.txt", "w") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.env, text=True, stdout=output, stderr=output, start_new_session=True
            )

    def wait(self, process: subprocess.Popen[str], code: int = 0) -> str:
        returned = process.wait(timeout=500)
        output = (self.folder / "output.txt").read_text()
        assert returned == code, output
        return output

    def run(self, *overrides: str, code: int = 0) -> str:
        output = self.wait(self.start(*overrides), code)
        wait_for(lambda: not self.living())
        return output

    def living(self, **environment: str) -> list[psutil.Process]:
        """Processes of this folder with these variables in their environment."""
        wanted = {"TEST_MARK": self.mark, **environment}
        return [one for one in psutil.process_iter() if wanted.items() <= variables(one).items()]

    def trials(self) -> list[FrozenTrial]:
        """The trials as Optuna's own tools read them."""
        storage = JournalStorage(JournalFileBackend(str(self.folder / "studies/s/journal.log")))
        return optuna.load_study(study_name="s", storage=storage).trials

    def epochs(self, folder: str) -> int:
        """Trained in all run directories of a folder."""
        return sum(len(pd.read_csv(path)) for path in (self.folder / folder).glob("*/history.csv"))


@pytest.fixture
def trainer(tmp_path: Path, cache: Path):
    found = Trainer(tmp_path, cache)
    yield found
    for process in found.living():
        process.kill()


def variables(process: psutil.Process) -> dict[str, str]:
    """The environment of a process; nothing of one that has just ended or is another user's."""
    try:
        return process.environ()
    except (psutil.Error, ProcessLookupError):
        return {}


def wait_for(condition, seconds: float = 120):
    """Until the condition holds; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def distinct(trials: list[FrozenTrial]) -> int:
    return len({tuple(sorted(trial.params.items())) for trial in trials})


def threshold(**limit: float) -> list[str]:
    """A pruner that ends what is beyond the limit after its second epoch."""
    ((side, value),) = limit.items()
    pruner = f"{{_target_:optuna.pruners.ThresholdPruner,{side}:{value},n_warmup_steps:1}}"
    return ["~sweep.pruner", f"+sweep.pruner={pruner}"]


def check_ranks(folder: Path, **optimizer: float) -> None:
    """Two processes trained this job, both with these settings."""
    first, second = json.loads((folder / "ranks.json").read_text())
    assert (first.pop("rank"), second.pop("rank")) == (0, 1) and first.pop("pid") != second.pop("pid")
    assert first == second
    assert {name: first["optimizer"][name] for name in optimizer} == optimizer


# What is refused


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


# Minutes


@pytest.mark.slow
def test_a_sweep_is_continued_on_the_same_data_and_settings_or_not_at_all(trainer: Trainer) -> None:
    """On another machine paths, threads and loggers may differ."""
    command = [*SWEEP, "model=logistic_regression", "sweep.n_trials=1"]
    trainer.run(*command)
    output = trainer.run(*command, "data.sessions=16", "window.stride=5", "scaling=seed", "split=device", code=1)
    for part in (
        "data.sessions=16, but the study was begun with data.sessions=12",
        "window.stride=5, but",
        "scaling=seed, but",
        "split=device, but the study was begun with split=session",
    ):
        assert part in output, part
    assert output.count("but the study") == 4 and len(trainer.trials()) == 1
    trainer.run(*command, "sweep.n_trials=2", "threads=2", "logger=none", f"paths.cache={trainer.folder}/elsewhere")
    assert [trial.state for trial in trainer.trials()] == [TrialState.COMPLETE] * 2


@pytest.mark.slow
def test_trials_of_the_verb_are_the_verb(trainer: Trainer) -> None:
    """`python -m conveyorguard train -m` sweeps as train.py does, and names itself in the command that retrains."""
    trainer.program = ["-m", "conveyorguard", "train"]
    command = ["-m", "sweep=optuna", "sweep.study=s", "model=logistic_regression"]
    output = trainer.run(*command, "sweep.n_trials=2", "test=true")
    assert set(json.loads((trainer.folder / "studies/s/0/metrics.json").read_text())) == {"val", "test"}  # as asked
    assert [trial.state for trial in trainer.trials()] == [TrialState.COMPLETE] * 2
    assert "retrain it: python -m conveyorguard train " in output


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml")))
def test_the_space_of_every_model_gives_trials_that_train(trainer: Trainer, model: str) -> None:
    if model in ("xgboost", "catboost"):
        pytest.importorskip(model)
    trainer.run("-m", "sweep=optuna", f"model={model}", "sweep.study=s", "sweep.n_trials=2", "trainer.max_epochs=1")
    space = yaml.safe_load((ROOT / "conf/sweep/optuna.yaml").read_text())["sweep"]["spaces"][model]
    for trial in trainer.trials():
        assert trial.state == TrialState.COMPLETE and set(trial.params) == set(space)
        config = OmegaConf.load(trainer.folder / "studies/s" / str(trial.number) / "config.yaml")
        assert {key: OmegaConf.select(config, key) for key in space} == trial.params


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("model.width=choice(3000000)", "can't allocate memory"),
        ("optimizer.lr=choice(1e30)", "RunError: the network gives no numbers"),
        ("loss._target_=fault.Faulty", "ValueError: the loss has a fault"),
    ],
    ids=["memory", "NaN", "crash"],
)
def test_a_fault_is_one_failed_trial_with_its_directory(trainer: Trainer, fault: str, reason: str) -> None:
    (trainer.folder / "fault.py").write_text(FAULT)
    trainer.env |= {"CONVEYORGUARD_WHITELIST": "fault.*", "FAULT": "1"}
    output = trainer.run(*SWEEP, fault, "trainer=cpu", "trainer.max_epochs=1", "sweep.max_failures=0", code=1)
    (trial,) = trainer.trials()
    line = next(line for line in output.splitlines() if line.startswith("trial "))
    assert trial.state == TrialState.FAIL and "FAILED" in line and reason in line
    assert line.endswith(f"see {trainer.folder}/studies/s/0") and "0 COMPLETE, 0 PRUNED, 1 FAILED" in output


@pytest.mark.slow
def test_ddp_in_workers_of_joblib_is_refused(trainer: Trainer) -> None:
    output = trainer.run("-m", "trainer=ddp_cpu", "seed=0,1", "hydra/launcher=joblib", code=1)
    assert "hydra/launcher=joblib and trainer=ddp_cpu: joblib's workers cannot start the 2 processes of a job" in output
    assert "write hydra/launcher=submitit_local" in output


@pytest.mark.slow
def test_pruning_saves_epochs_and_the_best_trial_is_trained_again(trainer: Trainer) -> None:
    """The same five trials without pruner and with one whose limit is known to prune two of them."""
    common = [*SWEEP, "trainer=cpu", "trainer.max_epochs=5", "patience=9", "objective=val/loss", "sweep.n_trials=5"]
    trainer.run(*common, "sweep.pruner=null")
    whole, epochs = trainer.trials(), trainer.epochs("studies/s")
    assert [trial.state for trial in whole] == [TrialState.COMPLETE] * 5 and epochs == 25
    (trainer.folder / "studies").rename(trainer.folder / "unpruned")

    late = [max(value for step, value in trial.intermediate_values.items() if step >= 1) for trial in whole]
    limit = sum(sorted(late)[2:4]) / 2  # three stay below it
    output = trainer.run(*common, *threshold(upper=limit))
    found = trainer.trials()
    assert [trial.params for trial in found] == [trial.params for trial in whole]
    expected = ["PRUNED" if value > limit else "COMPLETE" for value in late]
    assert [trial.state.name for trial in found] == expected and expected.count("PRUNED") == 2
    lines = [line.split() for line in output.splitlines() if line.startswith("trial ")]
    assert [line[2] for line in lines] == expected
    assert "3 COMPLETE, 2 PRUNED, 0 FAILED" in output
    assert trainer.epochs("studies/s") == sum(len(trial.intermediate_values) for trial in found) < epochs
    print(f"epochs: {epochs} without pruner, {trainer.epochs('studies/s')} with it")
    for trial in found:  # of the test data nothing is there
        folder = trainer.folder / "studies/s" / str(trial.number)
        if trial.state == TrialState.COMPLETE:
            assert list(json.loads((folder / "metrics.json").read_text())) == ["val"]
            assert set(pd.read_parquet(folder / "predictions.parquet")["split"]) == {"val"}
        else:
            assert not (folder / "metrics.json").exists() and not (folder / "predictions.parquet").exists()

    page = (trainer.folder / "studies/s/study.html").read_text()
    assert str(trainer.folder / "studies/s/study.html") in output and 'href="0/' in page

    best = min((trial for trial in found if trial.state == TrialState.COMPLETE), key=lambda trial: trial.value)
    retrain = next(line for line in output.splitlines() if line.startswith("retrain it: "))
    command = shlex.split(retrain.removeprefix("retrain it: "))
    assert {"objective=val/loss", "trainer.max_epochs=5"} <= set(command) and "test=false" not in command
    again = subprocess.run(
        [sys.executable, *command[1:], "hydra.run.dir=again"],
        cwd=trainer.folder,
        env=trainer.env,
        text=True,
        capture_output=True,
    )
    assert again.returncode == 0, again.stderr
    metrics = json.loads((trainer.folder / "again/metrics.json").read_text())
    kept = json.loads((trainer.folder / f"studies/s/{best.number}/metrics.json").read_text())
    assert metrics["val"] == kept["val"] and "test" in metrics and "test" not in kept
    configs = [
        yaml.safe_load((trainer.folder / name / "config.yaml").read_text())
        for name in ("again", f"studies/s/{best.number}")
    ]
    assert differences(*configs) <= {"sweep", "test"}


def differences(a: dict, b: dict) -> set[str]:
    return {key for key in {*a, *b} if a.get(key) != b.get(key)}


@pytest.mark.slow
def test_ranks_of_a_multirun_train_the_same_jobs(trainer: Trainer) -> None:
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
def test_ranks_of_a_trial_train_the_same_and_stop_together(
    trainer: Trainer, pruner: list[str], state: TrialState, epochs: int
) -> None:
    trainer.run(*SWEEP, "trainer=ddp_cpu", "trainer.max_epochs=3", "sweep.n_trials=2", *pruner)
    found = trainer.trials()
    assert [trial.state for trial in found] == [state] * 2 and distinct(found) == 2
    folders = sorted(path for path in (trainer.folder / "studies/s").glob("*/"))
    assert [path.name for path in folders] == ["0", "1"]
    assert not (trainer.folder / "multirun").exists() and not (trainer.folder / "outputs").exists()
    for trial, folder in zip(found, folders, strict=True):
        names = ("lr", "weight_decay")
        check_ranks(folder, **{name: trial.params[f"optimizer.{name}"] for name in names})
        ranks = json.loads((folder / "ranks.json").read_text())
        assert [rank["model"]["width"] for rank in ranks] == [trial.params["model.width"]] * 2
        assert len(pd.read_csv(folder / "history.csv")) == epochs == len(trial.intermediate_values)


@pytest.mark.slow
def test_ranks_that_train_different_jobs_are_an_error(trainer: Trainer) -> None:
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
def test_a_rank_that_fails_leaves_no_process(trainer: Trainer, sweep: list[str]) -> None:
    (trainer.folder / "fault.py").write_text(FAULT)
    trainer.env["CONVEYORGUARD_WHITELIST"] = "fault.*"
    settings = ["sweep.max_failures=0"] if sweep else ["-m", "seed=0,1", "hydra.sweep.dir=studies/s"]
    output = trainer.run(*sweep, *settings, "trainer=ddp_cpu", "loss._target_=fault.Faulty", code=1)
    assert "rank 1 has a fault" in (output if not sweep else (trainer.folder / "studies/s/0/trial.log").read_text())
    if sweep:
        (trial,) = trainer.trials()
        assert trial.state == TrialState.FAIL and "0 COMPLETE, 0 PRUNED, 1 FAILED" in output


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
def test_an_interrupted_or_killed_parent_leaves_no_rank(
    trainer: Trainer, sweep: list[str], number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    """Ctrl-C in a terminal reaches all processes of the group, kill the parent alone."""
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
def test_orphans_of_a_dead_sweeper_are_ended_before_its_trial_is_tried_again(trainer: Trainer) -> None:
    """The sweeper and the guard beside it are both killed, so nobody is left to end the ranks but the next sweeper."""
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
def test_two_sweepers_share_a_study(trainer: Trainer) -> None:
    command = [*SWEEP, "trainer=cpu", "trainer.max_epochs=1", "sweep.n_trials=5", "sweep.pruner=null"]
    both = [trainer.start(*command) for _ in range(2)]
    assert [process.wait(timeout=500) for process in both] == [0, 0]
    found = trainer.trials()
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 5 and distinct(found) == 5
    assert len({trial.user_attrs["owner"]["pid"] for trial in found}) == 2
    assert trainer.epochs("studies/s") == 5 and not trainer.living()


@pytest.mark.slow
def test_ten_kills_of_real_trainings_lose_nothing_and_double_nothing(trainer: Trainer) -> None:
    """kill -9 of the sweeper or a trial at random moments, 10 times, over a study of 6; then run to the end. `make
    kill` has 20."""
    command = [*SWEEP, "trainer=cpu", "trainer.max_epochs=2", "sweep.n_trials=6", "sweep.workers=2"]
    chance, folder, log = random.Random(0), trainer.folder / "studies/s", []

    def running() -> list[psutil.Process]:
        return [one for one in trainer.living() if "SWEEP_TRIAL_DIR" in variables(one)]

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
    found = trainer.trials()
    finished = [trial for trial in found if trial.state in FINISHED]
    of_trials, in_trials = (sum(word in line for line in log) for word in ("trial ", "while trials run"))
    print(
        f"{10 - of_trials} kills of the sweeper, {of_trials} of trials, {in_trials} while trials ran; "
        f"{len(found)} trials, {len(finished)} finished"
    )
    assert in_trials >= 3 and 1 <= of_trials <= 9
    assert len(finished) == distinct(finished) == 6
    assert not [trial for trial in found if trial.state == TrialState.RUNNING] and not trainer.living()
    ran = sorted(int(path.parent.name) for path in folder.glob("*/trial.json"))
    assert ran == [trial.number for trial in finished]
    trainer.run(*command)
    assert len(trainer.trials()) == len(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "kind"), [("joblib", "cpu"), ("submitit_local", "cpu"), ("submitit_local", "ddp_cpu")]
)
def test_grids_run_with_parallel_launchers(trainer: Trainer, launcher: str, kind: str) -> None:
    trainer.run(
        "-m",
        f"trainer={kind}",
        "trainer.max_epochs=1",
        "optimizer.lr=0.001,0.002",
        f"hydra/launcher={launcher}",
        "hydra.sweep.dir=grid",
    )
    for job, lr in (("0", 0.001), ("1", 0.002)):
        folder = trainer.folder / "grid" / job
        assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"]["lr"] == lr
        assert set(json.loads((folder / "metrics.json").read_text())) == {"val", "test"}
        assert (folder / "report.html").exists()
        if kind == "ddp_cpu":
            check_ranks(folder, lr=lr)
    assert trainer.epochs("grid") == 2 and (trainer.folder / "grid/comparison.html").exists()
