"""Self-checks of a run directory: whether its numbers are what they claim to be.

A check returns what it compared, or raises `Failed` with what was expected and what was found, or `NotChecked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conveyorguard.checks import data, examples, files, model, pages, training
from conveyorguard.checks.subject import Failed, NotChecked, Subject
from conveyorguard.errors import ConveyorGuardError, RunError

FILES: dict[str, Callable[[Subject], str]] = {
    "config.yaml is unchanged": files.config_is_unchanged,
    "no session in two parts": files.no_session_in_two_parts,
    "split.json matches its hash and config.yaml": files.split_matches_record,
    "no device in two parts": files.no_device_in_two_parts,
    "predictions cover the split": files.predictions_cover_split,
    "recorded counts match the split": files.counts_match_split,
    "probabilities are valid": files.probabilities_are_valid,
    "examples match predictions": examples.examples_match_predictions,
    "metrics follow from predictions": files.metrics_follow_from_predictions,
    "calibration and alarms follow from predictions": files.calibration_and_alarms_follow_from_predictions,
    "model card matches the other files": pages.card_matches_files,
    "report page matches the other files": pages.page_matches_files,
}
DATA: dict[str, Callable[[Subject], str]] = {
    "data are unchanged": data.data_are_unchanged,
    "split follows from data and config": data.split_follows_from_data,
    "no device in two parts, train included": data.no_device_in_two_parts_of_data,
    "validation is out of fold": data.validation_is_out_of_fold,
    "windows match data and split": data.windows_match_data,
    "recorded hours and devices match the data": data.hours_and_devices_match_data,
    "scaling is fitted on train": model.scaling_is_fitted_on_train,
    "ranges are those of train": data.ranges_are_those_of_train,
    "no channel gives the state away": data.no_channel_gives_the_state_away,
    "shortcuts follow from the data": data.shortcuts_follow_from_data,
    "history matches checkpoint and predictions": model.history_matches_checkpoint,
    "predictions match the checkpoint": model.predictions_match_checkpoint,
    "examples match the data": examples.examples_match_data,
    "constant input gives chance": model.constant_input_gives_chance,
    "every modality is used": model.every_modality_is_used,
}
TRAINING: dict[str, Callable[[Subject], str]] = {
    "training on shuffled labels gives chance": training.training_on_shuffled_labels_gives_chance,
    "training on constant input gives chance": training.training_on_constant_input_gives_chance,
}
DEPTHS = {"files": [FILES], "data": [FILES, DATA], "training": [FILES, DATA, TRAINING]}
DEEPEST = "training"


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check.

    Attributes:
        name: name of the check.
        verdict: ok, FAILED or not checked.
        message: what was compared, what was expected and found, or why the check was not made.
    """

    name: str
    verdict: str
    message: str


def check_run(folder: str | Path, depth: str = DEEPEST, overrides: list[str] | None = None) -> Iterator[CheckResult]:
    """Make the checks of a depth one after another, and yield the outcome of each.

    Args:
        folder: the run directory.
        depth: files, data or training; each includes the ones before it.
        overrides: of the run's config, for example where its recordings are now (data.root=...).

    Raises:
        RunError: it is not the directory of a finished run, or the depth is unknown.
    """
    if depth not in DEPTHS:
        raise RunError(f"depth={depth}: must be one of {', '.join(DEPTHS)}")
    subject, first_check = Subject(folder, overrides), dict[str, str]()
    for checks in DEPTHS[depth]:
        for name, check in checks.items():
            try:
                yield CheckResult(name, "ok", check(subject))
            except Failed as failed:
                yield CheckResult(name, "FAILED", str(failed))
            except NotChecked as reason:
                yield CheckResult(name, "not checked", str(reason))
            except ConveyorGuardError as error:  # a file that cannot be read counts as a failure, once
                if (first := first_check.setdefault(str(error), name)) == name:
                    yield CheckResult(name, "FAILED", f"cannot be checked: {error}")
                else:
                    yield CheckResult(name, "not checked", f"for the same reason as '{first}'")
