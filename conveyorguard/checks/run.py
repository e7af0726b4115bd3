"""Self-checks of a run directory: whether its numbers are what they are taken for.

A check returns what it found, or raises `Failed` with what was expected instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conveyorguard.checks import data, examples, files, model, pages, training
from conveyorguard.checks.subject import Failed, NotChecked, Subject
from conveyorguard.errors import ConveyorGuardError, RunError

FILES: dict[str, Callable[[Subject], str]] = {
    "the config is the run's": files.config_is_the_runs,
    "no session in two parts": files.sessions_are_apart,
    "the split is the recorded one": files.split_is_the_recorded_one,
    "no device in two parts": files.devices_are_apart,
    "predictions are of the split": files.predictions_are_of_the_split,
    "counts are of the split": files.counts_are_of_the_split,
    "probabilities are probabilities": files.probabilities_are_probabilities,
    "examples are of the predictions": examples.of_the_predictions,
    "metrics follow from predictions": files.metrics_follow,
    "calibration and alarms follow from predictions": files.calibration_and_alarms_follow,
    "the model card says what the files say": pages.card_is_of_the_run,
    "the page says what the files say": pages.page_is_of_the_run,
}
DATA: dict[str, Callable[[Subject], str]] = {
    "the data are the run's": data.data_are_the_runs,
    "the split is that of data and config": data.split_is_of_the_data,
    "no device in two parts, train included": data.devices_of_all_parts_are_apart,
    "windows match data and split": data.windows_match,
    "hours and devices are of the data": data.hours_and_devices,
    "scaling is fitted on train": model.scaling_is_of_train,
    "ranges are of train": data.ranges_are_of_train,
    "no channel gives the state away": data.no_channel_gives_the_state_away,
    "shortcuts are of the data": data.shortcuts_are_of_the_data,
    "history is of the model": model.history_is_of_the_model,
    "predictions are the model's": model.predictions_are_the_models,
    "examples show the data": examples.show_the_data,
    "constant input gives chance": model.constant_input,
    "every modality gets a gradient": model.every_modality_gets_a_gradient,
}
TRAINING: dict[str, Callable[[Subject], str]] = {
    "shuffled labels give chance": training.shuffled_labels,
    "training on constant input gives chance": training.constant_training,
}
DEPTHS = {"files": [FILES], "data": [FILES, DATA], "training": [FILES, DATA, TRAINING]}
DEEPEST = "training"


@dataclass(frozen=True)
class Outcome:
    """Verdict of a check: ok, FAILED or not checked, and what was found."""

    name: str
    verdict: str
    told: str


def check_run(folder: str | Path, depth: str = DEEPEST, overrides: list[str] | None = None) -> Iterator[Outcome]:
    """Do the checks of a depth one after the other.

    Args:
        depth: files, data or training; each includes the ones before it.
        overrides: of the run's config, as where its recordings are now (data.root=...).

    Raises:
        RunError: it is not the directory of a finished run, or there is no such depth.
    """
    if depth not in DEPTHS:
        raise RunError(f"depth={depth}: one of {', '.join(DEPTHS)}")
    subject, told = Subject(folder, overrides), dict[str, str]()
    for checks in DEPTHS[depth]:
        for name, check in checks.items():
            try:
                yield Outcome(name, "ok", check(subject))
            except Failed as failed:
                yield Outcome(name, "FAILED", str(failed))
            except NotChecked as reason:
                yield Outcome(name, "not checked", str(reason))
            except ConveyorGuardError as error:  # what cannot be looked at has not been found sound
                if (first := told.setdefault(str(error), name)) == name:
                    yield Outcome(name, "FAILED", f"it could not be checked: {error}")
                else:
                    yield Outcome(name, "not checked", f"for the reason told at '{first}'")
