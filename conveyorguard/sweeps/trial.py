"""The trial's side of a study: report values, ask whether to stop, write the result.

`sweeper.py` starts a trial as a process and describes the study in environment variables (SWEEP_*). An application
writes:

    trial = current_trial()                       # None outside a sweep
    if trial and trial.report(epoch, value):      # True: the pruner stops this trial
        trial.finish("PRUNED", value)
    ...
    if trial:
        trial.finish("COMPLETE", value, best_epoch=7)

and exits with code 0. In distributed training only rank 0 may call these. The functions that both sides share, opening
the storage and reading the result of a trial, are here too.
"""

from __future__ import annotations

import json
import math
import os
import time
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import lock_descriptor
from hydra.utils import instantiate
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from conveyorguard.system.secrets import without_password

State = Literal["COMPLETE", "PRUNED", "FAILED"]


def build_pruner(config: str) -> optuna.pruners.BasePruner:
    """Build a pruner from its config in JSON (null: no pruner); only classes of `optuna.pruners` are allowed."""
    node = json.loads(config)
    return instantiate(node, _execution_whitelist_="optuna.pruners.*") if node else optuna.pruners.NopPruner()


class TrialHandle:
    """The trial that this process runs, read from the environment."""

    def __init__(self) -> None:
        self.number, self.folder = int(os.environ["SWEEP_TRIAL_NUMBER"]), Path(os.environ["SWEEP_TRIAL_DIR"])
        self.storage_id = int(os.environ["SWEEP_TRIAL_ID"])

    @cached_property
    def study(self) -> optuna.Study:
        """The study, opened on first use."""
        storage, pruner = open_storage(os.environ["SWEEP_STORAGE"]), build_pruner(os.environ["SWEEP_PRUNER"])
        return optuna.load_study(study_name=os.environ["SWEEP_STUDY"], storage=storage, pruner=pruner)

    def report(self, step: int, value: float, is_mean: bool = False) -> bool:
        """Record the objective after a step; return True if the pruner stops the trial.

        Args:
            step: an epoch, or a fold of a cross-validation.
            value: the objective after it.
            is_mean: the value is a mean over the steps so far, and replaces those of earlier steps. The pruner then
                judges it alone: MedianPruner would compare the best value of all steps, which after an easy first
                fold is that of the first fold.
        """
        storage = self.study._storage  # Optuna's Trial class would draw the parameters anew
        storage.set_trial_intermediate_value(self.storage_id, step, float(value))
        trial = storage.get_trial(self.storage_id)
        if is_mean:
            trial = copy(trial)
            trial.intermediate_values = {step: float(value)}
        return self.study.pruner.prune(self.study, trial)

    def retried_folders(self) -> list[Path]:
        """Return the folders of the killed trials whose parameters this trial tries again, the latest first."""
        trials, folders = self.study.get_trials(deepcopy=False), []
        number = trials[self.number].user_attrs.get("retry_of")
        while number is not None:
            attrs = trials[number].user_attrs
            folders.append(Path(attrs["folder"], str(number)))
            number = attrs.get("retry_of")
        return folders

    def finish(self, state: State, value: float | None, **info: Any) -> None:
        """Write trial.json, whole or not at all, as the trial's last action: the sweeper takes it as the result.

        Args:
            state: how the trial ended.
            value: its objective.
            info: recorded with the trial; `retrain`, a list of overrides, is added to the command that retrains it.
        """
        result = {"state": state, "value": None if value is None else float(value), "info": info}
        part = self.folder / "trial.json.part"
        part.write_text(json.dumps(result))
        part.replace(self.folder / "trial.json")

    @property
    def pruned(self) -> bool:
        """Whether this trial has finished as PRUNED, in any of its processes."""
        result = read_result(self.folder)
        return isinstance(result, dict) and result["state"] == "PRUNED"


def current_trial() -> TrialHandle | None:
    """Return the trial of this process, or None outside a sweep."""
    return TrialHandle() if "SWEEP_TRIAL_DIR" in os.environ else None


def read_result(folder: Path) -> dict[str, Any] | str:
    """Return the result in a trial's folder, or a sentence on what is wrong with it."""
    try:
        result = json.loads((folder / "trial.json").read_text())
        state, value = result["state"], result["value"]
        if state == "PRUNED" or (state == "COMPLETE" and math.isfinite(value)):
            return result
        return f"objective is {value}" if state == "COMPLETE" else f"ended as {state} {result.get('info')}"
    except FileNotFoundError:
        return "no trial.json was written"
    except (ValueError, KeyError, TypeError) as error:
        return f"trial.json cannot be read: {error!r}"


class Journal(JournalFileBackend):
    """Optuna's journal file, made safe against kill -9.

    The lock ends with the process that holds it, and an incomplete last line is cut off before the next is appended.
    With Optuna's lock file a kill would block all others for 30 s, and an incomplete line joined with the next would
    make the journal unreadable.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append logs as lines of json, under a lock on the journal itself."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with open(self._file_path, "r+b") as file:
            lock_descriptor(file.fileno(), poll_interval=0.01)  # s; closing the file releases it
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            if file.read(1) not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())


def storage_place(place: str) -> str:
    """Return a journal file or database URL with an absolute path: a trial may run in another directory."""
    if place.startswith("sqlite:///"):
        return "sqlite:///" + str(Path(place.removeprefix("sqlite:///")).absolute())
    return place if "://" in place else str(Path(place).absolute())


class StorageError(Exception):
    """A storage cannot be opened or read; the message names it, the reason and the remedy."""


def open_storage(place: str) -> BaseStorage:
    """Open a storage, creating it if needed.

    Args:
        place: Journal file or database URL, see `storage_place`.

    Raises:
        StorageError: No such server, no driver for it, no permission, or a damaged file.
    """
    file = Path(place.removeprefix("sqlite:///"))
    if "://" in place:
        return open_database(place, is_file="://" not in str(file))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        check_journal(file)
        return JournalStorage(Journal(place))
    except OSError as error:
        raise StorageError(f"{place}: {error.strerror}: choose another sweep.storage") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{place}: not an Optuna journal, or damaged ({error}): restore a copy of it, or choose another sweep.study"
        ) from error


def check_journal(file: Path) -> None:
    """Raise a ValueError if a file is not a journal, so that it is not appended to."""
    if file.exists():
        with open(file, "rb") as stream:
            first = stream.readline()
        if first and not first.startswith(b'{"'):
            raise ValueError(f"it begins with {first[:20]!r}")


def open_database(url: str, is_file: bool) -> RDBStorage:
    """Open a database as storage, with retries: two sweepers that create the tables of a new one at once collide."""
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError  # slow to import, and not needed for a journal

    if is_file:
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        url = url.replace("{", "{{").replace("}", "}}")  # Optuna formats it as a template
    patience = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}  # s, for the lock
    for wait in (0.5, 1, 2, 4, 0):  # s
        try:
            return RDBStorage(url, engine_kwargs=patience)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            failure = error
            if isinstance(error, ArgumentError | ImportError):
                break
            time.sleep(wait)
    reason = str(failure.__cause__ or failure).strip().splitlines()[0]
    remedy = "check that it exists and its driver is installed, or set sweep.storage=null"
    raise StorageError(f"{without_password(url)}: cannot be opened ({reason}): {remedy}") from failure


def find_study(place: str, name: str) -> optuna.Study | None:
    """Return the study, or None if there is none; no file is created."""
    file = place.removeprefix("sqlite:///")
    if "://" not in file and not Path(file).exists():
        return None
    try:
        return optuna.load_study(study_name=name, storage=open_storage(place))
    except KeyError:
        return None
