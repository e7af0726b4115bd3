"""ConveyorGuard: predict how worn a factory's transfer devices are, second by second."""

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
    """Load a trained run to apply it to recordings, labelled or not.

    `load_run(RUN).predict(frame_table)` takes a table with one row per period (session, time [s], each channel in its
    unit) and returns one row per window: state, probabilities as trained and as calibrated, each (K,), and score, the
    probability of a state that warrants an alarm. If the run uses the camera, `predict(frame_table, thermal)` also
    takes the frames (N, H, W) [degC]. Attributes: `schema` (channels, units, camera size, states), `settings` (length
    and step of a window [s]), `point` (scores at which an alarm begins and ends). See
    `conveyorguard.inference.loaded_run`.

    Args:
        folder: The run directory; `train` prints its path as the last line.

    Raises:
        RunError: The directory is not a finished run, or it has no model.
    """
    from conveyorguard.inference.loaded_ensemble import load_any  # torch takes seconds to import

    return load_any(folder)


def save_run(
    folder: str | Path, model: WindowClassifier | TabularClassifier, data: Windows, name: str = "recordings"
) -> dict[str, Any]:
    """Write the run directory, model card and page of a model that was fitted from Python.

    Args:
        folder: The folder that the model was fitted in.
        model: Result of `conveyorguard.training.fit.fit` or `conveyorguard.training.fit_tabular.fit_tabular`.
        data: The windows that it was fitted on.
        name: Name of the data set on the pages.

    Returns:
        Metrics by name for validation and test, as in `metrics.json`.
    """
    from conveyorguard.commands.results import save_run as save  # torch takes seconds to import

    return save(folder, model, data, name)
