"""A Hydra sweeper whose trials are processes of their own; it is the study's loop: ask, launch, watch, tell.

    python app.py -m hydra/sweeper=study 'lr=tag(log, interval(1e-4, 1e-2))'

A trial is the application's own command in RUN mode, in `<folder>/<trial number>/`; it reports through
`trial.py`. So trials can be pruned, killed, timed and given a GPU one by one, and the same command again goes
on where the study stands. Nothing here knows the application: any Hydra application on POSIX may use it.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from conveyorguard.sweeps.shared_study import TUNED, SharedStudy, check_study, count_finished
from conveyorguard.sweeps.space import difference, matches, override, read_space, settings
from conveyorguard.sweeps.summary import show_summary, trial_line
from conveyorguard.sweeps.sweeper_conf import StudySweeperConf
from conveyorguard.sweeps.trial import StorageError, build_pruner, storage_place
from conveyorguard.system.processes import find_gpus, guarded, own_command, start

STOPS = {
    "timeout": "the time is over",
    "interrupted": "interrupted",
    "failures": "too many trials failed one after the other, see their trial.log",
}


def register() -> None:
    """Make `hydra/sweeper=study` known where the entry point is not installed; call before `hydra.main`."""
    Plugins.instance().register(StudySweeper)


def refuse(errors: list[str]) -> None:
    """End here, before anything is started, where there are errors."""
    if errors:
        raise SystemExit("Nothing was started:\n" + "\n".join(f"  - {error}" for error in errors))


class StudySweeper(Sweeper):
    """Runs one study, alone or beside other sweepers on the same storage; see `StudySweeperConf`."""

    def __init__(self, **settings: Any) -> None:
        self.options = StudySweeperConf(**settings)
        self.folder = Path(self.options.folder).absolute()
        self.place = storage_place(self.options.storage or str(self.folder / "journal.log"))
        self.running: list[tuple[Popen[bytes], FrozenTrial]] = []
        self.stop = ""  # why no trial is started any more: a key of STOPS

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader, self.app = hydra_context.config_loader, config

    def sweep(self, arguments: list[str]) -> optuna.Study:
        if not hasattr(os, "killpg"):
            refuse(
                ["a sweep ends its trials as POSIX process groups, which this system lacks: run it on Linux or macOS"]
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        options = self.options
        pruner = OmegaConf.to_container(options.pruner, resolve=True) if options.pruner else None
        self.pruner = json.dumps(pruner)
        self.space, self.task, errors = read_space(options.params, arguments)
        refuse(errors + self.check())
        try:
            self.shared = SharedStudy(
                self.place,
                options.study,
                options.direction,
                self.folder,
                options.n_trials,
                options.max_failures,
                self.space,
                options.sampler,
                self.settings,
                self.print_trial,
            )
        except StorageError as error:
            refuse([f"storage={error}"])
        refuse(self.check_study())  # once more: another sweep may have begun it meanwhile
        self.shared.study.set_user_attr("retrain", self.retrain)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.on_signal)
        with guarded() as self.guard:
            self.run()
        self.report()
        return self.shared.study

    def check(self) -> list[str]:
        """What is wrong with the settings and the search space."""
        options, errors = self.options, []
        if options.direction not in ("minimize", "maximize"):
            errors.append(f"direction={options.direction} is unknown: write minimize or maximize")
        for name in ("n_trials", "workers"):
            if getattr(options, name) < 1:
                errors.append(f"{name}={getattr(options, name)}: write 1 or more")
        if options.sampler._target_.endswith(("GridSampler", "QMCSampler")):
            errors.append("sampler=grid and qmc walk through lists of their own: write tpe, random, gp or cmaes")
        try:
            build_pruner(self.pruner)
        except HydraException as error:
            errors.append(f"the pruner cannot be built: {error}. Write one of optuna.pruners, or null")
        if not self.space:
            errors.append("the search space is empty: write for example 'lr=tag(log, interval(1e-4, 1e-2))'")
        for name in [name for name in self.space if matches(name, [*options.fixed, *options.own])]:
            values = getattr(self.space.pop(name), "choices", ["..."])
            errors.append(
                f"{name}={','.join(map(str, values))}: a study does not tune {name}. Write "
                f"{name}={values[0]}, and run one study for each value, each with its own sweep.study"
            )
        some = {name: getattr(d, "choices", [getattr(d, "low", None)])[0] for name, d in self.space.items()}
        overrides = [*self.task, *(override(name, value) for name, value in some.items())]
        try:
            config = self.loader.load_sweep_config(self.app, overrides)
            self.choices = config.hydra.runtime.choices
            self.retrain = ["python", *self.program()[1:], *self.retraining(config)]
        except HydraException as error:
            return [*errors, f"a trial cannot be started like this: {error}"]
        if (launcher := self.choices.get("hydra/launcher")) != "basic":
            errors.append(
                f"hydra/launcher={launcher}: a study starts its trials itself. Write sweep.workers=N for N at a time"
            )
        self.settings = self.describe(config)
        if options.validate:
            validate = instantiate({"_target_": options.validate, "_partial_": True})
            errors += validate(self.space, self.task, config)
        return errors + self.check_study()

    def check_study(self) -> list[str]:
        """What in the study as it stands forbids going on."""
        options = self.options
        try:
            return check_study(
                self.place, options.study, self.folder, options.n_trials, self.settings, options.free, self.space
            )
        except StorageError as error:
            return [f"storage={error}"]

    def describe(self, trial: DictConfig) -> dict[str, str]:
        """What all trials of a study have in common: groups, settings, and which of them are tuned."""
        groups = {name: choice for name, choice in self.choices.items() if not name.startswith("hydra/")}
        known = {key: str(value) for key, value in {**settings(trial), **groups}.items()}
        known |= {key.lstrip("+"): TUNED for key in self.space}
        kept = {key: value for key, value in known.items() if not matches(key, ["hydra", "hydra.*", *self.options.own])}
        return {**kept, "direction": self.options.direction}

    def run(self) -> None:
        """Keep `workers` trials running until the study has its trials, or there is a reason to stop."""
        waiting = False
        self.end = math.inf if self.options.timeout is None else time.monotonic() + self.options.timeout
        while not self.stop:
            self.settle_ended()
            if self.shared.is_done() and not self.running:
                break
            self.stop = self.reason_to_stop() or self.stop
            self.launch_claimed()
            if not self.running and not waiting and (others := self.shared.describe_running()):
                waiting = True
                print(others, flush=True)
            time.sleep(0.2)
        if self.running:
            print(
                f"{STOPS[self.stop]}: running trials are ended, in {self.options.grace:g} s at most; Ctrl-C: at once",
                flush=True,
            )
        self.shared.end(self.running, self.stop, lambda: self.options.grace)

    def settle_ended(self) -> None:
        """Tell the study how the trials ended whose processes have."""
        for process, trial in [pair for pair in self.running if pair[0].poll() is not None]:
            self.running.remove((process, trial))
            self.shared.settle(trial, process.returncode)

    def reason_to_stop(self) -> str:
        """A key of STOPS where failures or the time say so, else nothing."""
        if self.shared.failures > self.options.max_failures:
            return "failures"
        return "timeout" if time.monotonic() > self.end else ""

    def launch_claimed(self) -> None:
        """Start trials while there are free workers and trials to be had."""
        while not self.stop and len(self.running) < self.options.workers and (trial := self.shared.claim()):
            self.launch(trial)

    def on_signal(self, number: int, frame: Any) -> None:
        """Ctrl-C or SIGTERM: end in order; at the second one without waiting for the trials."""
        self.options.grace = 0 if self.stop else self.options.grace
        self.stop = self.stop or "interrupted"

    def launch(self, trial: FrozenTrial) -> None:
        """Start a trial: this application in RUN mode, in a folder of its own, with its share of the GPUs."""
        folder = self.shared.folder_of(trial)
        folder.mkdir()  # an error where it exists: nothing is ever overwritten
        not_for_trials = re.compile(r"[+~]*hydra[./](mode|run\.|sweep)")
        command = [
            *self.program(),
            *self.task,
            *(override(name, value) for name, value in trial.params.items()),
            *(line for line in self.app.hydra.overrides.hydra if not not_for_trials.match(line)),
            "hydra.mode=RUN",
            override("hydra.run.dir", str(folder)),
        ]
        env = {
            **os.environ,
            "SWEEP_STORAGE": self.place,
            "SWEEP_STUDY": self.options.study,
            "SWEEP_PRUNER": self.pruner,
            "SWEEP_TRIAL_ID": str(trial._trial_id),
            "SWEEP_TRIAL_NUMBER": str(trial.number),
            "SWEEP_TRIAL_DIR": str(folder),
            "SWEEP_GUARD": self.guard,
            "HYDRA_FULL_ERROR": "1",
        }
        workers, slot = self.options.workers, trial.user_attrs["slot"]
        if (workers > 1 or slot > 0) and (gpus := find_gpus()):
            env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[slot::workers] or [gpus[slot % len(gpus)]])
        self.running.append((start(command, env, folder / "trial.log"), trial))

    def program(self) -> list[str]:
        """What starts the application, without overrides."""
        given = self.app.hydra.overrides
        return list(self.options.command or own_command([*given.task, *given.hydra]))

    def retraining(self, trial: DictConfig) -> list[str]:
        """Overrides that compose, without the sweep, the config of a trial but for its parameters and the sweep's own
        keys."""
        own, name = self.options.own, self.app.hydra.job.config_name
        task = [line for line in self.task if not matches(line, own)]
        chosen = [line for line in task if matches(line, self.choices)]
        plain = self.loader.load_configuration(name, chosen, RunMode.RUN).hydra.runtime.choices
        groups = [f"{group}={choice}" for group, choice in self.choices.items() if plain.get(group) != choice]
        task = [line for line in groups if not matches(line, ["hydra/*", *own])] + task
        skipped = ["hydra", "hydra.*", *own, *(key.lstrip("+") for key in self.space)]
        rest = difference(self.loader.load_configuration(name, task, RunMode.RUN), trial)
        return task + [line for line in rest if not matches(line, skipped)]

    def print_trial(self, trial: FrozenTrial) -> None:
        """A line on a trial that has ended."""
        left = None if self.end == math.inf else self.end - time.monotonic()
        print(trial_line(self.shared.study, trial, self.options.n_trials, left), flush=True)

    def report(self) -> None:
        """The summary, and how to go on where there is more to do."""
        show_summary(self.shared.study, self.folder)
        if self.options.on_end and self.stop != "interrupted":
            instantiate({"_target_": self.options.on_end, "_partial_": True})(self.shared.study, self.folder)
        if self.stop:
            done = f"{count_finished(self.shared.trials())} of {self.options.n_trials} trials are done"
            print(f"{STOPS[self.stop]}; {done}, the same command goes on from here", flush=True)
            if self.stop != "timeout":
                raise SystemExit(130 if self.stop == "interrupted" else 1)
