"""The directory of a run that was refused before anything was trained."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

BEFORE_TRAINING = ("config.yaml", "provenance.json", "split.json", "ranges.json", ".hydra")  # and empty folders, logs


def remove_untrained(folder: Path, new: Sequence[Path]) -> None:
    """Remove a run directory that holds nothing but the record of a refused job, and parents that it leaves empty.

    A directory that was there before, or holds anything else, such as a checkpoint, stays as it is.

    Args:
        folder: the run directory; it may have a number behind the name of the directory that was made for the job.
        new: the directories that were made for the job, the deepest first.
    """
    if not new:
        return
    with suppress(OSError):
        if folder.is_dir() and all(_is_of_refusal(path) for path in folder.iterdir()):
            shutil.rmtree(folder)
    for path in new:
        with suppress(OSError):
            path.rmdir()  # only if it is empty


def _is_of_refusal(path: Path) -> bool:
    if path.name in BEFORE_TRAINING or path.suffix == ".log":
        return True
    return path.is_dir() and not any(path.iterdir())
