"""ConveyorGuard: how worn a factory's transfer devices are, second by second."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conveyorguard.prediction import LoadedRun

__version__ = "0.1.0"


def load_run(folder: str | Path) -> LoadedRun:
    """A trained run, ready to be applied: `load_run(RUN).predict(frame_table)`; see `conveyorguard.prediction`.

    Raises:
        RunError: the directory is not that of a finished run, or has no model.
    """
    from conveyorguard.prediction import LoadedRun  # torch takes seconds to import

    return LoadedRun(folder)
