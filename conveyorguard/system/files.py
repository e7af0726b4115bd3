"""Files that are whole or not there, directories that one process works on."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow.lib import ArrowException

from conveyorguard.errors import RunError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write a file at: renamed once it is whole, so that a reader never sees half of it; gone if it
    fails."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Work on a directory, made if it is not there, as the only process.

    Raises:
        RunError: another process works on it.
    """
    path = folder / ".lock"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it ends with the process, however that ends
            mine = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except OSError:
            mine = False
        if not mine:
            raise RunError(f"{folder}: another process works on it; wait for it, or give another directory")
        try:
            yield folder
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def own_directory(folder: Path) -> Iterator[Path]:
    """A directory for a new run: `folder`, or one named after it where another run of the same second has that one."""
    for number in itertools.count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(place))
            except RunError:
                continue
            if not (place / "provenance.json").exists():
                yield place
                return


def write_json(path: Path, value: Any) -> None:
    """Write and rename, so that a reader never sees half a file."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as aside:
        table.to_parquet(aside, index=False)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read json.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, ArrowException) as error:
        raise damaged(path, error) from error


def refuse(path: Path, problem: str | None) -> None:
    """Raise a RunError if there is a problem with the content of a file of a run directory."""
    if problem:
        raise RunError(f"{path}: {problem}; the run is damaged or was edited, train it again")


def damaged(path: Path, error: BaseException) -> RunError:
    """What to tell of a file of a run directory that cannot be read."""
    return RunError(f"{path}: cannot be read ({error}); the run is damaged or unfinished, train it again")
