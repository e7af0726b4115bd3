"""The trial's side of a study: report values, ask whether to go on, leave the result behind.

`sweeper.py` starts a trial as a process and names the study in environment variables (SWEEP_*). An application
writes:

    trial = current_trial()                       # None outside a sweep
    if trial and trial.report(epoch, value):      # True: no hope, stop here
        trial.finish("PRUNED", value)
    ...
    if trial:
        trial.finish("COMPLETE", value, best_epoch=7)

and exit code 0. With several ranks only rank 0 may call these. What both sides share is here too: opening the
storage, and reading what a trial left.
"""

from __future__ import annotations

import json
import math
import os
import time
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
    """A pruner from its config in JSON (null: none); nothing outside `optuna.pruners` is built."""
    node = json.loads(config)
    return instantiate(node, _execution_whitelist_="optuna.pruners.*") if node else optuna.pruners.NopPruner()


class TrialHandle:
    """The trial that this process runs, as the environment names it."""

    def __init__(self) -> None:
        self.number, self.folder = int(os.environ["SWEEP_TRIAL_NUMBER"]), Path(os.environ["SWEEP_TRIAL_DIR"])
        self.storage_id = int(os.environ["SWEEP_TRIAL_ID"])

    @cached_property
    def study(self) -> optuna.Study:
        """The study, opened when first needed."""
        storage, pruner = open_storage(os.environ["SWEEP_STORAGE"]), build_pruner(os.environ["SWEEP_PRUNER"])
        return optuna.load_study(study_name=os.environ["SWEEP_STUDY"], storage=storage, pruner=pruner)

    def report(self, step: int, value: float) -> bool:
        """Record the objective after a step (an epoch); True when the trial should stop."""
        storage = self.study._storage  # Optuna's Trial class would draw the parameters anew
        storage.set_trial_intermediate_value(self.storage_id, step, float(value))
        return self.study.pruner.prune(self.study, storage.get_trial(self.storage_id))

    def finish(self, state: State, value: float | None, **info: Any) -> None:
        """Write trial.json, whole or not at all. The trial's last act: it is taken as the result."""
        result = {"state": state, "value": None if value is None else float(value), "info": info}
        part = self.folder / "trial.json.part"
        part.write_text(json.dumps(result))
        part.replace(self.folder / "trial.json")

    @property
    def pruned(self) -> bool:
        """Whether this trial has finished as PRUNED, in whichever of its processes."""
        result = read_result(self.folder)
        return isinstance(result, dict) and result["state"] == "PRUNED"


def current_trial() -> TrialHandle | None:
    """The trial of this process, or None outside a sweep."""
    return TrialHandle() if "SWEEP_TRIAL_DIR" in os.environ else None


def read_result(folder: Path) -> dict[str, Any] | str:
    """What a trial left in its folder, or what is wrong with it."""
    try:
        result = json.loads((folder / "trial.json").read_text())
        state, value = result["state"], result["value"]
        if state == "PRUNED" or (state == "COMPLETE" and math.isfinite(value)):
            return result
        return f"its objective is {value}" if state == "COMPLETE" else f"it says {state} {result.get('info')}"
    except FileNotFoundError:
        return "it left no trial.json"
    except (ValueError, KeyError, TypeError) as error:
        return f"its trial.json cannot be read: {error!r}"


class Journal(JournalFileBackend):
    """Optuna's journal file, safe against kill -9: the kernel frees the lock, half a last line is cut off.

    With Optuna's own lock a kill would hold everyone up for 30 s, and half a line with the next one glued to
    it would make the file unreadable.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
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
    """A journal file or a database URL, with files made absolute: a trial may run in another directory."""
    if place.startswith("sqlite:///"):
        return "sqlite:///" + str(Path(place.removeprefix("sqlite:///")).absolute())
    return place if "://" in place else str(Path(place).absolute())


class StorageError(Exception):
    """A storage that cannot be opened or read: which, why, and what to do."""


def open_storage(place: str) -> BaseStorage:
    """Open the storage at a place as of `storage_place`; create it where there is none.

    Raises:
        StorageError: no such server, no driver for it, no permission, or a damaged file.
    """
    file = Path(place.removeprefix("sqlite:///"))
    if "://" in place:
        return open_database(place, is_file="://" not in str(file))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        check_journal(file)
        return JournalStorage(Journal(place))
    except OSError as error:
        raise StorageError(f"{place}: {error.strerror}: write another sweep.storage") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{place}: not a journal of Optuna, or damaged ({error}): bring back a copy of it, or write another "
            "sweep.study"
        ) from error


def check_journal(file: Path) -> None:
    """Refuse, with a ValueError, a file that is something else: it would be written to."""
    if file.exists():
        with open(file, "rb") as stream:
            first = stream.readline()
        if first and not first.startswith(b'{"'):
            raise ValueError(f"it begins with {first[:20]!r}")


def open_database(url: str, is_file: bool) -> RDBStorage:
    """A database as storage. Two sweepers that make the tables of a new one at once get in each other's way: so
    again."""
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError  # slow to import, and not needed for a journal

    if is_file:
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        url = url.replace("{", "{{").replace("}", "}}")  # Optuna takes it for a template
    patience = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}  # s, for the lock
    for wait in (0.5, 1, 2, 4, 0):  # s
        try:
            return RDBStorage(url, engine_kwargs=patience)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            known = error
            if isinstance(error, ArgumentError | ImportError):
                break
            time.sleep(wait)
    reason = str(known.__cause__ or known).strip().splitlines()[0]
    remedy = "see that it is there and its driver is installed, or write sweep.storage=null"
    raise StorageError(f"{without_password(url)}: cannot be opened ({reason}): {remedy}") from known


def find_study(place: str, name: str) -> optuna.Study | None:
    """The study, or None where there is none; makes no file."""
    file = place.removeprefix("sqlite:///")
    if "://" not in file and not Path(file).exists():
        return None
    try:
        return optuna.load_study(study_name=name, storage=open_storage(place))
    except KeyError:
        return None
