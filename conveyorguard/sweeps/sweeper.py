"""A Hydra sweeper that runs each trial as a separate process: ask Optuna, launch, wait, tell Optuna.

    python app.py -m hydra/sweeper=study 'lr=tag(log, interval(1e-4, 1e-2))'

A trial is the application's command in RUN mode, in `<folder>/<trial number>/`; it reports through `trial.py`. As a
process, each trial can be pruned, killed, timed and given GPUs separately, and the same command continues an
interrupted study. Nothing here depends on the application: any Hydra application on a POSIX system can use it.
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
from conveyorguard.system.processes import find_gpus, guarded, launch_command, start

STOPS = {
    "timeout": "time limit reached",
    "interrupted": "interrupted",
    "failures": "too many trials failed in a row, see their trial.log",
}


def register() -> None:
    """Register `hydra/sweeper=study` where the entry point is not installed; call before `hydra.main`."""
    Plugins.instance().register(StudySweeper)


def refuse(errors: list[str]) -> None:
    """Exit before anything is started if there are errors."""
    if errors:
        raise SystemExit("Nothing was started:\n" + "\n".join(f"  - {error}" for error in errors))


class StudySweeper(Sweeper):
    """Run one study, alone or beside other sweepers on the same storage; see `StudySweeperConf`."""

    def __init__(self, **settings: Any) -> None:
        self.options = StudySweeperConf(**settings)
        self.folder = Path(self.options.folder).absolute()
        self.place = storage_place(self.options.storage or str(self.folder / "journal.log"))
        self.running: list[tuple[Popen[bytes], FrozenTrial]] = []
        self.stop = ""  # why no further trial is started: a key of STOPS

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the application's config and the loader that composes those of its trials; called by Hydra."""
        self.loader, self.app = hydra_context.config_loader, config

    def sweep(self, arguments: list[str]) -> optuna.Study:
        """Run the study to its end; called by Hydra with the overrides of the command line.

        Raises:
            SystemExit: The sweep is refused, was interrupted, or too many trials failed.
        """
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
        refuse(self.check_study())  # again: another sweeper may have created the study meanwhile
        self.shared.study.set_user_attr("retrain", self.retrain)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.on_signal)
        with guarded() as self.guard:
            self.run()
        self.report()
        return self.shared.study

    def check(self) -> list[str]:
        """Return what is wrong with the settings and the search space, as sentences."""
        options, errors = self.options, []
        if options.direction not in ("minimize", "maximize"):
            errors.append(f"direction={options.direction} is unknown: use minimize or maximize")
        for name in ("n_trials", "workers"):
            if getattr(options, name) < 1:
                errors.append(f"{name}={getattr(options, name)}: set 1 or more")
        if options.sampler._target_.endswith(("GridSampler", "QMCSampler")):
            errors.append(
                "sampler=grid and qmc would restart their sequence at every trial: use tpe, random, gp or cmaes"
            )
        try:
            build_pruner(self.pruner)
        except HydraException as error:
            errors.append(f"the pruner cannot be built: {error}. Use a class of optuna.pruners, or null")
        if not self.space:
            errors.append("the search space is empty: add for example 'lr=tag(log, interval(1e-4, 1e-2))'")
        for name in [name for name in self.space if matches(name, [*options.fixed, *options.own])]:
            values = getattr(self.space.pop(name), "choices", ["..."])
            errors.append(
                f"{name}={','.join(map(str, values))}: a study does not tune {name}. Set {name}={values[0]}, and run a "
                "separate study for each value, each with another sweep.study"
            )
        example = {name: getattr(d, "choices", [getattr(d, "low", None)])[0] for name, d in self.space.items()}
        overrides = [*self.task, *(override(name, value) for name, value in example.items())]
        try:
            config = self.loader.load_sweep_config(self.app, overrides)
            self.choices = config.hydra.runtime.choices
            self.retrain = ["python", *self.program()[1:], *self.retraining(config)]
        except HydraException as error:
            return [*errors, f"the config of a trial cannot be composed: {error}"]
        if (launcher := self.choices.get("hydra/launcher")) != "basic":
            errors.append(
                f"hydra/launcher={launcher}: a study starts its trials itself. Set sweep.workers=N for N at a time"
            )
        self.settings = self.describe(config)
        if options.validate:
            validate = instantiate({"_target_": options.validate, "_partial_": True})
            errors += validate(self.space, self.task, config)
        return errors + self.check_study()

    def check_study(self) -> list[str]:
        """Return why the study in the storage cannot go on with these settings, as sentences."""
        options = self.options
        try:
            return check_study(
                self.place, options.study, self.folder, options.n_trials, self.settings, options.free, self.space
            )
        except StorageError as error:
            return [f"storage={error}"]

    def describe(self, trial: DictConfig) -> dict[str, str]:
        """Return what all trials of a study share: config groups and settings, with TUNED for the searched keys."""
        groups = {name: choice for name, choice in self.choices.items() if not name.startswith("hydra/")}
        values = {key: str(value) for key, value in {**settings(trial), **groups}.items()}
        values |= {key.lstrip("+"): TUNED for key in self.space}
        excluded = ["hydra", "hydra.*", *self.options.own]
        shared = {key: value for key, value in values.items() if not matches(key, excluded)}
        binding = {key: values[key] for key in self.options.binding if values.get(key, "None") != "None"}
        return {**shared, **binding, "direction": self.options.direction}

    def run(self) -> None:
        """Keep `workers` trials running until the study has its trials or there is a reason to stop."""
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
                f"{STOPS[self.stop]}: ending running trials within {self.options.grace:g} s; Ctrl-C ends them at once",
                flush=True,
            )
        self.shared.end(self.running, self.stop, lambda: self.options.grace)

    def settle_ended(self) -> None:
        """Settle the trials whose processes have ended."""
        for process, trial in [pair for pair in self.running if pair[0].poll() is not None]:
            self.running.remove((process, trial))
            self.shared.settle(trial, process.returncode)

    def reason_to_stop(self) -> str:
        """Return a key of STOPS after too many failures or past the time limit, else an empty string."""
        if self.shared.failures > self.options.max_failures:
            return "failures"
        return "timeout" if time.monotonic() > self.end else ""

    def launch_claimed(self) -> None:
        """Start trials while there are free workers and trials to claim."""
        while not self.stop and len(self.running) < self.options.workers and (trial := self.shared.claim()):
            self.launch(trial)

    def on_signal(self, number: int, frame: Any) -> None:
        """Handle Ctrl-C or SIGTERM: the first asks the trials to end, the second kills them at once."""
        self.options.grace = 0 if self.stop else self.options.grace
        self.stop = self.stop or "interrupted"

    def launch(self, trial: FrozenTrial) -> None:
        """Start a trial: this application in RUN mode, in a new folder, with its share of the GPUs."""
        folder = self.shared.folder_of(trial)
        folder.mkdir()  # fails if it exists: nothing is ever overwritten
        of_sweep = re.compile(r"[+~]*hydra[./](mode|run\.|sweep)")
        command = [
            *self.program(),
            *self.task,
            *(override(name, value) for name, value in trial.params.items()),
            *(line for line in self.app.hydra.overrides.hydra if not of_sweep.match(line)),
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
        """Return the command that starts the application, without overrides."""
        overrides = self.app.hydra.overrides
        return list(self.options.command or launch_command([*overrides.task, *overrides.hydra]))

    def retraining(self, trial: DictConfig) -> list[str]:
        """Return overrides that compose a trial's config outside the sweep, without the searched and the sweep's keys.

        Args:
            trial: Config of a trial.
        """
        excluded, name = self.options.own, self.app.hydra.job.config_name
        task = [line for line in self.task if not matches(line, excluded)]
        chosen = [line for line in task if matches(line, self.choices)]
        default = self.loader.load_configuration(name, chosen, RunMode.RUN).hydra.runtime.choices
        groups = [f"{group}={choice}" for group, choice in self.choices.items() if default.get(group) != choice]
        task = [line for line in groups if not matches(line, ["hydra/*", *excluded])] + task
        skipped = ["hydra", "hydra.*", *excluded, *(key.lstrip("+") for key in self.space)]
        rest = difference(self.loader.load_configuration(name, task, RunMode.RUN), trial)
        return task + [line for line in rest if not matches(line, skipped)]

    def print_trial(self, trial: FrozenTrial) -> None:
        """Print a line on a trial that has ended."""
        left = None if self.end == math.inf else self.end - time.monotonic()
        print(trial_line(self.shared.study, trial, self.options.n_trials, left), flush=True)

    def report(self) -> None:
        """Print the summary, and how to continue if trials are missing."""
        show_summary(self.shared.study, self.folder)
        if self.options.on_end and self.stop != "interrupted":
            instantiate({"_target_": self.options.on_end, "_partial_": True})(self.shared.study, self.folder)
        if self.stop:
            done = f"{count_finished(self.shared.trials())} of {self.options.n_trials} trials have finished"
            print(f"{STOPS[self.stop]}; {done}, the same command continues the study", flush=True)
            if self.stop != "timeout":
                raise SystemExit(130 if self.stop == "interrupted" else 1)
