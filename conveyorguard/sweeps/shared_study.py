"""An Optuna study shared by any number of sweepers: claim a trial, run it, tell Optuna how it ended.

A trial is written to the storage with its parameters and its owner before its process starts, and its end is written
after the process has ended. Whatever is killed in between, the next sweeper on that host sees a RUNNING trial with a
dead owner and settles it: with the result that the trial left, or as FAIL, and its parameters are tried again.
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
TUNED = "tuned"  # recorded in place of a value for each key of the search space
WITHDRAWN = "withdrawn"  # reason of a trial that lost a race between two hosts; it never ran
Running = Sequence[tuple[Popen[bytes], FrozenTrial]]
STATES = {TrialState.COMPLETE: "COMPLETE", TrialState.PRUNED: "PRUNED", TrialState.FAIL: "FAILED"}


class SharedStudy:
    """A study of `n_trials` finished trials, counted over all sweepers that work on it.

    Args:
        place: Journal file or database URL, see `storage_place`.
        name: Name of the study.
        direction: `minimize` or `maximize`.
        folder: Trials run in `<folder>/<number>/`.
        n_trials: Number of COMPLETE and PRUNED trials to reach.
        max_failures: How often the parameters of a killed trial are tried again.
        space: Search space.
        sampler: Config of an Optuna sampler with a `seed`.
        settings: Settings that all trials share, stored with a new study; see `check_study`.
        on_trial_end: Called with every trial whose end was written to the storage by this sweeper.
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
        on_trial_end: Callable[[FrozenTrial], None],
    ) -> None:
        self.folder, self.n_trials, self.max_failures = folder, n_trials, max_failures
        self.space, self.sampler, self.on_trial_end = space, sampler, on_trial_end
        self.failures = 0  # trials in a row that failed through a fault of their own
        self.memory_kills: dict[int, int] = {}  # trial number -> the kernel's count when this sweeper claimed it
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
        """Return all trials as they are in the storage now, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)

    def claim(self) -> FrozenTrial | None:
        """Claim a new trial for this sweeper, or return None while the study needs no further trial.

        Sweepers of one folder take turns by a lock. Sweepers of other folders on the same database may claim at the
        same moment; then the trial with the higher number withdraws, so that the total is exact and no parameters run
        twice.
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
            claimed = next(trial for trial in after if trial.user_attrs.get("token") == token)
            rivals = after[len(before) : claimed.number]
            if self.is_taken(after[: claimed.number]) or any(rival.params == claimed.params for rival in rivals):
                self.tell(claimed, TrialState.FAIL, reason=WITHDRAWN)
                return None
            self.memory_kills[claimed.number] = memory_kills()
            return claimed

    def is_taken(self, trials: Sequence[FrozenTrial]) -> bool:
        """Return whether finished and running trials together reach `n_trials`."""
        return sum(trial.state in (*FINISHED, TrialState.RUNNING) for trial in trials) >= self.n_trials

    def is_done(self) -> bool:
        """Return whether `n_trials` trials have finished."""
        return count_finished(self.trials()) >= self.n_trials

    def describe_running(self) -> str:
        """Return a sentence on the running trials: their hosts, and the remedy for a lost host; empty if none run."""
        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        hosts = ", ".join(f"{t.number} (on {t.user_attrs.get('owner', {}).get('host')})" for t in running)
        remedy = "If that host is gone for good, call study.tell(number, state=optuna.trial.TrialState.FAIL)"
        return f"waiting for the trials of other sweepers: {hosts}. {remedy}" if running else ""

    def retry(self, trials: list[FrozenTrial]) -> FrozenTrial | None:
        """Return a new trial with the parameters of the first killed trial not yet retried, or None."""
        retried = {t.user_attrs.get("retry_of") for t in trials if t.user_attrs.get("reason") != WITHDRAWN}
        for old in trials:
            attempt = old.user_attrs.get("retry")
            if attempt is not None and old.number not in retried and set(old.params) == set(self.space):
                return running_trial(old, attempt=attempt, retry_of=old.number)
        return None

    def propose(self, trials: list[FrozenTrial]) -> FrozenTrial:
        """Return a trial with the sampler's next parameters that were not tried yet, or any in an exhausted space.

        The parameters are drawn in an in-memory copy of the study, so that no half-written trial reaches the storage.
        Draws that repeat tried parameters are rejected: 20 by the sampler, then random ones; after 85 draws parameters
        of failed trials are allowed, after 150 any.
        """
        counted = [t.params for t in trials if t.state in (*FINISHED, TrialState.RUNNING)]
        tried = [t.params for t in trials if t.user_attrs.get("reason") != WITHDRAWN]
        copy = optuna.create_study(direction=self.study.direction)
        copy.add_trials([trial for trial in trials if trial.state != TrialState.WAITING])
        for draw in range(150):
            entropy = np.random.SeedSequence([self.sampler.seed or 0, len(trials), draw])
            seed = int(entropy.generate_state(1)[0])
            copy.sampler = self.build_sampler(seed) if draw < 20 else optuna.samplers.RandomSampler(seed)
            drawn = copy.ask(self.space)
            if drawn.params not in (tried if draw < 85 else counted):
                break
        return running_trial(copy.trials[-1], attempt=0)

    def build_sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Build the configured sampler with a seed."""
        allowed = ["optuna.samplers.*", "hydra_plugins.hydra_optuna_sweeper.*"]
        return instantiate(self.sampler, seed=seed, _execution_whitelist_=allowed)

    def settle(self, trial: FrozenTrial, code: int | None) -> None:
        """Write to the storage how a trial ended.

        Args:
            trial: The trial, RUNNING in the storage.
            code: Exit code of its process, or None if its sweeper was killed and nothing saw the end.
        """
        attrs, folder = self.storage.get_trial(trial._trial_id).user_attrs, self.folder_of(trial)
        killed, attempt = code in (None, -signal.SIGKILL), attrs["attempt"]
        result = read_result(folder)
        if "ended" not in attrs and isinstance(result, dict) and (code == 0 or killed):
            return self.accept(trial, result)
        end_processes("SWEEP_TRIAL_DIR", str(folder))  # DDP ranks and loader workers that outlived it
        if "ended" in attrs:  # by the sweeper: not a failure of the trial
            return self.tell(trial, TrialState.FAIL, reason=f"ended: {attrs['ended']}", retry=attempt)
        starved = code == -signal.SIGKILL and memory_kills() > self.memory_kills.get(trial.number, math.inf)
        lost = killed and not starved and not (folder / "trial.json").exists()
        if lost and attempt < self.max_failures:
            return self.tell(trial, TrialState.FAIL, reason="killed, will be retried", retry=attempt + 1)
        if starved:
            reason = "out of memory: killed by the kernel"
        elif lost:
            reason = f"killed {attempt + 1} times, not retried"
        else:
            reason = exit_reason(code, folder / "trial.log") or str(result)
        self.failures += 1
        return self.tell(trial, TrialState.FAIL, reason=reason)

    def accept(self, trial: FrozenTrial, result: dict[str, Any]) -> None:
        """Write the result of a trial (see `read_result`) to the storage."""
        self.failures = 0
        complete = result["state"] == "COMPLETE"
        state = TrialState.COMPLETE if complete else TrialState.PRUNED
        self.tell(trial, state, result["value"] if complete else None, info=result.get("info"))

    def end(self, trials: Running, reason: str, grace: Callable[[], float]) -> None:
        """End running trials: SIGTERM, then SIGKILL after `grace` seconds; the next sweep retries them."""
        for process, trial in trials:
            if process.poll() is None:
                # recorded before the signal, so that a result written after it does not count
                self.storage.set_trial_user_attr(trial._trial_id, "ended", reason)
                os.killpg(process.pid, signal.SIGTERM)
        terminated = time.monotonic()
        while any(process.poll() is None for process, _ in trials):
            if time.monotonic() - terminated >= grace():
                for process, _ in trials:
                    process.kill()
            time.sleep(0.05)
        for process, trial in trials:
            self.settle(trial, process.returncode)

    def tell(self, trial: FrozenTrial, state: TrialState, value: float | None = None, **attrs: Any) -> None:
        """Write a trial's end to the storage, unless a person or another sweeper has already done so."""
        try:
            for key, entry in {"dir": str(self.folder_of(trial)), **attrs}.items():
                self.storage.set_trial_user_attr(trial._trial_id, key, entry)
            self.study.tell(trial.number, value, state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return
        if attrs.get("reason") != WITHDRAWN:
            self.on_trial_end(self.storage.get_trial(trial._trial_id))

    def folder_of(self, trial: FrozenTrial) -> Path:
        """Return the directory of a trial."""
        return Path(trial.user_attrs["folder"], str(trial.number))


def free_slot(trials: Sequence[FrozenTrial]) -> int:
    """Return the lowest slot not taken by a running trial on this host, of any sweeper; it decides a trial's GPUs."""
    running = [t.user_attrs for t in trials if t.state == TrialState.RUNNING]
    taken = {attrs.get("slot") for attrs in running if attrs.get("owner", {}).get("host") == HOST}
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def running_trial(source: FrozenTrial, **user_attrs: Any) -> FrozenTrial:
    """Return a RUNNING trial with the parameters of another."""
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
    """Return a sentence for each reason why an existing study cannot go on with these settings; none without a study.

    Args:
        place: Journal file or database URL, see `storage_place`.
        name: Name of the study.
        folder: Folder of the trials.
        n_trials: Number of finished trials to reach.
        settings: Settings that all trials share.
        free: Keys or patterns of settings that may differ from those of the study.
        space: Search space.
    """
    # read before the trials: a folder is created after its trial
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
    study = find_study(place, name)
    trials = study.get_trials() if study else []
    remedy, errors = f"choose another sweep.study, or move {folder} away", []
    if numbers and max(numbers) >= len(trials):
        errors.append(f"{folder}/{max(numbers)} exists, but the storage has {len(trials)} trials: {remedy}")
    if study is None:
        return errors
    if (done := count_finished(trials)) > n_trials:
        errors.append(f"n_trials={n_trials}, but {done} trials have finished: set {done} or more")
    for key, old, now in changed(study.user_attrs.get("settings", {}), settings):
        if matches(key, free):
            continue
        errors.append(
            f"{key}={typed(now)}, but the study was started with {key}={typed(old)}: {remedy}; "
            f"if the difference does not matter, add {key} to sweep.free"
        )
    for key, earlier in (trials[-1].distributions if trials else {}).items():
        try:
            check_distribution_compatibility(earlier, space.get(key, earlier))
        except ValueError:
            errors.append(f"{key}: the study searches {earlier}, which the new search space does not fit: {remedy}")
    return errors


def typed(value: str) -> str:
    """Return a recorded setting as it is typed in an override."""
    return "null" if value == "None" else value


def changed(before: dict[str, str], now: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return (key, old, new) of the settings that differ; if a config group differs, its keys are not listed.

    Nothing is listed for a study without recorded settings (`before` is empty).
    """
    keys = [key for key in {**before, **now} if before and before.get(key) != now.get(key)]
    groups = tuple(f"{key}." for key in keys)
    return [(key, before.get(key, "nothing"), now.get(key, "nothing")) for key in keys if not key.startswith(groups)]


def count_finished(trials: Sequence[FrozenTrial]) -> int:
    """Return how many trials are COMPLETE or PRUNED."""
    return sum(trial.state in FINISHED for trial in trials)


def ended(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that have run and ended."""
    return [t for t in trials if t.state in STATES and t.user_attrs.get("reason") != WITHDRAWN]


def best_of(study: optuna.Study, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the best COMPLETE trial, or None."""
    sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: sign * trial.values[0], default=None)


def exit_reason(code: int | None, log: Path) -> str:
    """Return why a process ended, from its exit code; empty for 0, None (unknown) and SIGKILL."""
    if code is None or code in (0, -signal.SIGKILL):
        return ""
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}: {last_line(log)}"


def last_line(log: Path) -> str:
    """Return the last non-empty line of a log: after a crash, the exception."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].strip() if lines else "the log is empty"
