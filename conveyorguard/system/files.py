"""Files that are written whole or not at all, and directories locked by one process."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from pyarrow.lib import ArrowException

from conveyorguard.errors import RunError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to, and rename it to `path` on success.

    A reader never sees half a file; the temporary file is removed if the writing fails.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Lock a directory for this process, creating it if needed.

    Raises:
        RunError: Another process holds the lock.
    """
    path = folder / ".lock"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path, blocking=False).acquire()  # the system releases it when the process dies, even by kill -9
    except Timeout as error:
        raise RunError(f"{folder}: another process works on it; wait for it, or give another directory") from error
    with lock:
        try:
            yield folder
        finally:
            if os.name != "nt":  # there filelock removes the file on release
                path.unlink(missing_ok=True)  # while held: a process that has it open sees it is gone


@contextmanager
def claim_directory(folder: Path) -> Iterator[Path]:
    """Lock a directory for a new run: `folder`, or `folder-2`, `folder-3`, … if it is locked or already holds a run.

    Default names hold the second of the start, so two runs started together would share one.
    """
    for number in itertools.count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(place))
            except RunError:
                continue
            if not (place / "provenance.json").exists():
                yield place
                return


def write_json(path: Path, value: Any) -> None:
    """Write a value as json, whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet, whole or not at all."""
    with replacing(path) as aside:
        table.to_parquet(aside, index=False)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a json file.

    Raises:
        RunError: The file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a parquet file.

    Raises:
        RunError: The file is missing or damaged.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, ArrowException) as error:
        raise damaged(path, error) from error


def refuse(path: Path, problem: str | None) -> None:
    """Raise a RunError if there is a problem with a run directory's file; None means no problem."""
    if problem:
        raise RunError(f"{path}: {problem}; the run is damaged or was edited, train it again")


def damaged(path: Path, error: BaseException) -> RunError:
    """Return the error for a run directory's file that cannot be read."""
    reason = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
    return RunError(f"{path}: {reason}; the run is damaged or unfinished, train it again")
