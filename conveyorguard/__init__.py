"""ConveyorGuard: how worn a factory's transfer devices are, second by second."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conveyorguard.inference.loaded_run import LoadedRun

__version__ = "0.1.0"


def load_run(folder: str | Path) -> LoadedRun:
    """A trained run, ready to be applied to recordings, labelled or not.

    `load_run(RUN).predict(frame_table)` takes a table of one row a second (session, time in s, every channel in its
    unit) and returns one row a window with its state, its probabilities as trained and calibrated, (K,) each, and its
    score, the probability of a state worth an alarm. Where the run uses the camera, `predict(frame_table, thermal)`
    takes the frames as well, (n, rows, columns) in degC. `schema` says which channels, units, pixels and states these
    are, `settings` the length and step of a window in s, `point` the scores at which an alarm begins and ends. See
    `conveyorguard.inference.loaded_run`.

    Args:
        folder: the run directory, as a training prints it last.

    Raises:
        RunError: the directory is not that of a finished run, or has no model.
    """
    from conveyorguard.inference.loaded_run import LoadedRun  # torch takes seconds to import

    return LoadedRun(folder)
