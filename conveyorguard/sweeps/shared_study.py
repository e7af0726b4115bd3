"""An Optuna study that any number of sweepers share: claiming a trial, and telling how it ended.

A trial is in the storage, with its parameters and its owner, before its process starts, and told after the
process has ended. So whatever is killed in between, the next sweeper on that host finds the trial RUNNING
with a dead owner and settles it: with the result it left, or as FAIL, its parameters to be tried again.
"""

from __future__ import annotations

import math
import os
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from hydra.utils import instantiate
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from conveyorguard.sweeps.space import matches
from conveyorguard.sweeps.trial import find_study, open_storage, read_result
from conveyorguard.system.processes import HOST, end_processes, is_alive, memory_kills, this_process

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
TUNED = "tuned"  # what stands for the value of a key in the search space
WITHDRAWN = "withdrawn"  # lost a race between two hosts for one place; never ran
Running = Sequence[tuple[Popen[bytes], FrozenTrial]]
STATES = {TrialState.COMPLETE: "COMPLETE", TrialState.PRUNED: "PRUNED", TrialState.FAIL: "FAILED"}


class SharedStudy:
    """A study of `n_trials` finished trials, counted over everyone who works on it.

    Args:
        place: see `storage_place`.
        folder: trials run in `<folder>/<number>/`.
        max_failures: how often parameters are tried again whose trial was killed.
        space: the search space.
        sampler: config of an Optuna sampler with a `seed`.
        settings: what all trials have in common, kept with a study that is new; see `check_study`.
        told: called with every trial whose end has been told.
    """

    def __init__(
        self,
        place: str,
        name: str,
        direction: str,
        folder: Path,
        n_trials: int,
        max_failures: int,
        space: dict[str, BaseDistribution],
        sampler: Any,
        settings: dict[str, str],
        told: Callable[[FrozenTrial], None],
    ) -> None:
        self.folder, self.n_trials, self.max_failures = folder, n_trials, max_failures
        self.space, self.sampler, self.told = space, sampler, told
        self.failures = 0  # of their own doing and in a row
        self.memory_kills: dict[int, int] = {}  # of the kernel, when a trial of ours was claimed
        self.owner = this_process()
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "sweep.lock")  # the system releases it when the sweeper dies, even by kill -9
        with self.lock:
            self.study = optuna.create_study(
                study_name=name,
                storage=open_storage(place),
                sampler=self.build_sampler(0),
                direction=StudyDirection[direction.upper()],
                load_if_exists=True,
            )
            if "settings" not in self.study.user_attrs:
                self.study.set_user_attr("settings", settings)
        self.storage = self.study._storage

    def trials(self) -> list[FrozenTrial]:
        """All trials as the storage has them now, by number."""
        return self.study.get_trials(deepcopy=False)

    def claim(self) -> FrozenTrial | None:
        """A new trial that is ours to run, or None while none is to be had.

        Sweepers of one folder take turns. Sweepers elsewhere on one database may claim in the same moment:
        who has the higher number withdraws, so that the total is exact and no parameters run twice.
        """
        with self.lock:
            for trial in self.trials():
                if trial.state == TrialState.RUNNING and not is_alive(trial.user_attrs.get("owner")):
                    end_processes("SWEEP_TRIAL_DIR", str(self.folder_of(trial)))
                    self.settle(trial, None)
            before = self.trials()
            if self.is_taken(before):
                return None
            template, token = self.retry(before) or self.propose(before), uuid.uuid4().hex
            template.user_attrs |= {"owner": self.owner, "folder": str(self.folder), "token": token}
            template.user_attrs["slot"] = free_slot(before)
            self.study.add_trial(template)
            after = self.trials()
            mine = next(trial for trial in after if trial.user_attrs.get("token") == token)
            rivals = after[len(before) : mine.number]
            if self.is_taken(after[: mine.number]) or any(rival.params == mine.params for rival in rivals):
                self.tell(mine, TrialState.FAIL, reason=WITHDRAWN)
                return None
            self.memory_kills[mine.number] = memory_kills()
            return mine

    def is_taken(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the finished and the running ones are as many as wanted."""
        return sum(trial.state in (*FINISHED, TrialState.RUNNING) for trial in trials) >= self.n_trials

    def is_done(self) -> bool:
        """Whether as many as wanted have finished."""
        return count_finished(self.trials()) >= self.n_trials

    def describe_running(self) -> str:
        """Whose trials are running, and what to do when that one is gone for good; empty when none are."""
        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        hosts = ", ".join(f"{t.number} (on {t.user_attrs.get('owner', {}).get('host')})" for t in running)
        remedy = "If that host is gone, tell Optuna: study.tell(number, state=optuna.trial.TrialState.FAIL)"
        return f"waiting for another sweeper's trials: {hosts}. {remedy}" if running else ""

    def retry(self, trials: list[FrozenTrial]) -> FrozenTrial | None:
        """The first killed trial that nobody has tried again, as a new one."""
        again = {t.user_attrs.get("retry_of") for t in trials if t.user_attrs.get("reason") != WITHDRAWN}
        for old in trials:
            attempt = old.user_attrs.get("retry")
            if attempt is not None and old.number not in again and set(old.params) == set(self.space):
                return running_trial(old, attempt=attempt, retry_of=old.number)
        return None

    def propose(self, trials: list[FrozenTrial]) -> FrozenTrial:
        """The sampler's next parameters, not yet tried; in a space that is exhausted, any.

        They are drawn in a copy of the study in memory: a trial is in the storage complete or not at all.
        """
        done = [t.params for t in trials if t.state in (*FINISHED, TrialState.RUNNING)]
        tried = [t.params for t in trials if t.user_attrs.get("reason") != WITHDRAWN]
        copy = optuna.create_study(direction=self.study.direction)
        copy.add_trials([trial for trial in trials if trial.state != TrialState.WAITING])
        for draw in range(150):
            entropy = np.random.SeedSequence([self.sampler.seed or 0, len(trials), draw])
            seed = int(entropy.generate_state(1)[0])
            copy.sampler = self.build_sampler(seed) if draw < 20 else optuna.samplers.RandomSampler(seed)
            drawn = copy.ask(self.space)
            if drawn.params not in (tried if draw < 85 else done):
                break
        return running_trial(copy.trials[-1], attempt=0)

    def build_sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """The configured sampler with a seed."""
        allowed = ["optuna.samplers.*", "hydra_plugins.hydra_optuna_sweeper.*"]
        return instantiate(self.sampler, seed=seed, _execution_whitelist_=allowed)

    def settle(self, trial: FrozenTrial, code: int | None) -> None:
        """Tell how a trial ended.

        Args:
            code: exit code of its process, None when its sweeper was killed and nobody saw the end.
        """
        attrs, folder = self.storage.get_trial(trial._trial_id).user_attrs, self.folder_of(trial)
        killed, attempt = code in (None, -signal.SIGKILL), attrs["attempt"]
        result = read_result(folder)
        if "ended" not in attrs and isinstance(result, dict) and (code == 0 or killed):
            return self.accept(trial, result)
        end_processes("SWEEP_TRIAL_DIR", str(folder))  # ranks and loaders that outlived it
        if "ended" in attrs:  # not its fault
            return self.tell(trial, TrialState.FAIL, reason=f"ended: {attrs['ended']}", retry=attempt)
        starved = code == -signal.SIGKILL and memory_kills() > self.memory_kills.get(trial.number, math.inf)
        lost = killed and not starved and not (folder / "trial.json").exists()
        if lost and attempt < self.max_failures:
            return self.tell(trial, TrialState.FAIL, reason="killed, is tried again", retry=attempt + 1)
        if starved:
            reason = "out of memory: the kernel ended it"
        elif lost:
            reason = f"killed {attempt + 1} times, is given up"
        else:
            reason = exit_reason(code, folder / "trial.log") or str(result)
        self.failures += 1
        return self.tell(trial, TrialState.FAIL, reason=reason)

    def accept(self, trial: FrozenTrial, result: dict[str, Any]) -> None:
        """Tell the result that a trial has left; see `read_result`."""
        self.failures = 0
        complete = result["state"] == "COMPLETE"
        state = TrialState.COMPLETE if complete else TrialState.PRUNED
        self.tell(trial, state, result["value"] if complete else None, info=result.get("info"))

    def end(self, trials: Running, reason: str, grace: Callable[[], float]) -> None:
        """Ask running trials to end, and make them after `grace` seconds; another call tries them again."""
        for process, trial in trials:
            if process.poll() is None:
                # noted before the signal: what the trial still writes does not count
                self.storage.set_trial_user_attr(trial._trial_id, "ended", reason)
                os.killpg(process.pid, signal.SIGTERM)
        asked = time.monotonic()
        while any(process.poll() is None for process, _ in trials):
            if time.monotonic() - asked >= grace():
                for process, _ in trials:
                    process.kill()
            time.sleep(0.05)
        for process, trial in trials:
            self.settle(trial, process.returncode)

    def tell(self, trial: FrozenTrial, state: TrialState, value: float | None = None, **attrs: Any) -> None:
        """Write a trial's end to the storage, unless a person or another sweeper has done so."""
        try:
            for key, fact in {"dir": str(self.folder_of(trial)), **attrs}.items():
                self.storage.set_trial_user_attr(trial._trial_id, key, fact)
            self.study.tell(trial.number, value, state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return
        if attrs.get("reason") != WITHDRAWN:
            self.told(self.storage.get_trial(trial._trial_id))

    def folder_of(self, trial: FrozenTrial) -> Path:
        """The directory of a trial."""
        return Path(trial.user_attrs["folder"], str(trial.number))


def free_slot(trials: Sequence[FrozenTrial]) -> int:
    """The lowest number that no trial running on this host has, whichever sweeper started it: its share of the GPUs."""
    running = [t.user_attrs for t in trials if t.state == TrialState.RUNNING]
    taken = {attrs.get("slot") for attrs in running if attrs.get("owner", {}).get("host") == HOST}
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def running_trial(source: FrozenTrial, **user_attrs: Any) -> FrozenTrial:
    """A RUNNING trial with the parameters of another."""
    return create_trial(
        state=TrialState.RUNNING,
        params=source.params,
        distributions=source.distributions,
        system_attrs=source.system_attrs,
        user_attrs=user_attrs,
    )


def check_study(
    place: str,
    name: str,
    folder: Path,
    n_trials: int,
    settings: dict[str, str],
    free: list[str],
    space: dict[str, BaseDistribution],
) -> list[str]:
    """What in a study as it stands forbids going on with these settings; nothing where there is no study.

    Args:
        settings: what all trials have in common. free: keys or patterns of what may differ all the same.
    """
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]  # read before the trials
    study = find_study(place, name)
    trials = study.get_trials() if study else []
    remedy, errors = f"write another sweep.study, or move {folder} away", []
    if numbers and max(numbers) >= len(trials):
        there = f"{folder}/{max(numbers)} exists"
        errors.append(f"{there}, but the storage has {len(trials)} trials: {remedy}")
    if study is None:
        return errors
    if (done := count_finished(trials)) > n_trials:
        errors.append(f"n_trials={n_trials}, but {done} have finished: write {done} or more")
    for key, old, now in changed(study.user_attrs.get("settings", {}), settings):
        if matches(key, free):
            continue
        errors.append(
            f"{key}={now}, but the study was begun with {key}={old}: {remedy}; or, should that not matter, "
            f"add {key} to sweep.free"
        )
    for key, begun in (trials[-1].distributions if trials else {}).items():
        try:
            check_distribution_compatibility(begun, space.get(key, begun))
        except ValueError:
            errors.append(f"{key} is no longer what the study was begun with, {begun}: {remedy}")
    return errors


def changed(begun: dict[str, str], now: dict[str, str]) -> list[tuple[str, str, str]]:
    """(key, old, new) of what differs; of a group that differs, not each of its keys as well."""
    keys = [key for key in {**begun, **now} if begun and begun.get(key) != now.get(key)]
    groups = tuple(f"{key}." for key in keys)
    return [(key, begun.get(key, "nothing"), now.get(key, "nothing")) for key in keys if not key.startswith(groups)]


def count_finished(trials: Sequence[FrozenTrial]) -> int:
    """How many are COMPLETE or PRUNED."""
    return sum(trial.state in FINISHED for trial in trials)


def ended(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that have run and ended."""
    return [t for t in trials if t.state in STATES and t.user_attrs.get("reason") != WITHDRAWN]


def best_of(study: optuna.Study, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The best complete one."""
    sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: sign * trial.values[0], default=None)


def exit_reason(code: int | None, log: Path) -> str:
    """Why a process ended by its exit code; empty where the code says nothing: 0, unknown, or killed."""
    if code is None or code in (0, -signal.SIGKILL):
        return ""
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}: {last_line(log)}"


def last_line(log: Path) -> str:
    """The last line of a text that is not empty: of a crash, the exception."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].strip() if lines else "it wrote nothing"
