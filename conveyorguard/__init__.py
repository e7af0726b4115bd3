"""ConveyorGuard: how worn a factory's transfer devices are, second by second."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from conveyorguard.data.windows import Windows
    from conveyorguard.inference.loaded_run import LoadedRun
    from conveyorguard.training.fit_tabular import TabularClassifier
    from conveyorguard.training.module import WindowClassifier

__all__ = ["load_run", "save_run"]

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


def save_run(
    folder: str | Path, model: WindowClassifier | TabularClassifier, data: Windows, name: str = "recordings"
) -> dict[str, Any]:
    """Make the run directory of a model that was fitted from Python, with its card and page.

    Args:
        folder: the one that the model was fitted in.
        model: of `conveyorguard.training.fit.fit` or `conveyorguard.training.fit_tabular.fit_tabular`.
        data: the windows it was fitted on.
        name: of the data set, for the pages.

    Returns:
        Metrics of validation and test by name, as in `metrics.json`.
    """
    from conveyorguard.commands.results import save_run as save  # torch takes seconds to import

    return save(folder, model, data, name)
