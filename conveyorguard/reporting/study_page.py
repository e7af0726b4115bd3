"""`study.html` and `trials.csv` of a sweep, from its Optuna study."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from conveyorguard.data.windows import WindowSettings, period_of
from conveyorguard.reporting import pages, study_figures
from conveyorguard.sweeps.shared_study import best_of, ended
from conveyorguard.sweeps.summary import few_digits, retraining, trial_cells
from conveyorguard.system.files import write_text

MINIMUM_FOR_IMPORTANCES = 5  # complete trials
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
PRIVATE = ("owner", "token", "folder", "dir", "slot")  # user attributes that describe the machine of a trial


def write_study_page(study: optuna.Study, folder: Path) -> Path:
    """Write the page and the table of a study's trials, print the page's path, and return it.

    The default of `sweep.on_end`.

    Args:
        study: the study of a sweep.
        folder: folder of the study; its trials' run directories are usually in it.
    """
    trials = ended(study.get_trials(deepcopy=False))
    best = best_of(study, trials)
    settings = _settings(trials)
    objective = settings.get("objective", "objective")
    main = pages.render(
        "study.html.jinja",
        unit="fold" if _folds(trials) else "epoch",
        tiles=_tiles(trials, best, objective),
        best=_best(study, trials, best) if best else None,
        **_figures(study, trials, best, objective),
        **_tables(trials, folder),
    )
    title, subtitle = f"Study {study.study_name}", f"{objective}, {study.direction.name.lower()}"
    if "window" in settings:
        subtitle += f"; {WindowSettings.of(settings['window'], period_of(settings['data'])).question}"
    path = folder / "study.html"
    write_text(path, pages.page(title, subtitle, main, pages.plotly_around(folder)))
    _write_csv(study, trials, folder / "trials.csv")
    if best:
        print(_retraining_note(trials))
    print(path, flush=True)
    return path


def searched(distribution: BaseDistribution) -> str:
    """Return the values that were searched for a parameter, as text."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(few_digits, distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    scale = ", logarithmic" if distribution.log else f", step {distribution.step:g}" if distribution.step else ""
    return f"{distribution.low:g} to {distribution.high:g}{scale}"


def _write_csv(study: optuna.Study, trials: list[FrozenTrial], path: Path) -> None:
    """Write the trials as csv, without attributes that describe the machines they ran on."""
    attributes = ("number", "state", "value", "datetime_start", "datetime_complete", "duration", "params", "user_attrs")
    frame = study.trials_dataframe(attributes)
    if trials:
        frame = frame[frame["number"].isin([trial.number for trial in trials])]
    dropped = [f"user_attrs_{name}" for name in PRIVATE]
    if folds := _folds(trials):
        by_number = {trial.number: _fold_values(trial, folds) for trial in trials}
        for fold in range(folds):
            frame[f"fold{fold}"] = [by_number[number][fold] for number in frame["number"]]
        dropped.append("user_attrs_info")
    write_text(path, frame.drop(columns=dropped, errors="ignore").to_csv(index=False))


def _settings(trials: list[FrozenTrial]) -> dict[str, Any]:
    """Return the config of the first trial whose run directory is on this machine, or an empty one."""
    paths = (_folder(trial) / place / "config.yaml" for trial in trials for place in ("", "fold0"))
    return next((yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths if path.is_file()), {})


def _folder(trial: FrozenTrial) -> Path:
    """Return a trial's run directory; a trial added by Optuna's own tools has none."""
    return Path(trial.user_attrs.get("folder", os.devnull), str(trial.number))


def _folds(trials: list[FrozenTrial]) -> int:
    """Return on how many folds a trial is trained; 0 where a trial is one training."""
    trained = max((len((trial.user_attrs.get("info") or {}).get("folds", [])) for trial in trials), default=0)
    return max(trained, (_settings(trials).get("sweep") or {}).get("folds") or 0) if trained else 0


def _fold_values(trial: FrozenTrial, folds: int) -> list[float | None]:
    """Return the objective of each fold of a trial; None for those that it was not trained on."""
    values = (trial.user_attrs.get("info") or {}).get("folds", [])
    return [*values, *[None] * (folds - len(values))]


def _max_epochs(trials: list[FrozenTrial]) -> int | None:
    settings = _settings(trials)
    return settings["trainer"]["max_epochs"] if "trainer" in settings else None


def _tiles(trials: list[FrozenTrial], best: FrozenTrial | None, objective: str) -> list[tuple[str, str]]:
    """Return the best value, the number of trials by state, and the epochs or folds trained."""
    tiles = [(word, str(sum(trial.state == state for trial in trials))) for word, state in STATES.items()]
    folds = _folds(trials)
    steps, limit = sum(len(trial.intermediate_values) for trial in trials), folds or _max_epochs(trials)
    if steps:
        most = f", of at most {limit * len(trials)}" if limit else ""
        tiles.append((f"{'folds' if folds else 'epochs'} trained{most}", str(steps)))
    return [(f"best {objective}, trial {best.number}", f"{best.value:.4f}"), *tiles] if best else tiles


def _best(study: optuna.Study, trials: list[FrozenTrial], best: FrozenTrial) -> dict[str, Any]:
    """Return the best parameters and how to train with them."""
    rows = [[name, few_digits(value), searched(best.distributions[name])] for name, value in best.params.items()]
    return {
        "parameters": pages.table(["parameter", "best", "searched"], rows),
        "retraining": _retraining_note(trials),
        "command": retraining(study, best),
    }


def _retraining_note(trials: list[FrozenTrial]) -> str:
    """Return how the sweep trained, and what the printed command does differently."""
    settings, limit, folds = _settings(trials), _max_epochs(trials), _folds(trials)
    sentences = ["The command that retrains the best trial has the same settings."]
    if folds:
        sentences = [
            f"A trial was trained on {folds} folds of train and validation together; its value is the mean of their "
            f"{settings.get('objective', 'objectives')}. The command trains with the same settings on all of train "
            "and validation, without a validation part (a network for the median of the folds' best epochs). "
            "Temperature, memory and alarm threshold come from the predictions of the folds."
        ]
    elif any(trial.intermediate_values for trial in trials) and limit:
        sentences = [
            f"A trial trained for at most {limit} epoch{'s' if limit > 1 else ''} and kept the epoch with the best "
            f"{settings['objective']}.",
            *sentences,
            "To train longer, change trainer.max_epochs; the results will differ.",
        ]
    if settings and not settings["test"]:
        sentences.append("The sweep did not use the test data; the command evaluates on them at the end.")
    return " ".join(sentences)


def _figures(
    study: optuna.Study, trials: list[FrozenTrial], best: FrozenTrial | None, objective: str
) -> dict[str, Any]:
    """Return the drawn figures by their names in the template; None for those that the trials do not allow."""
    copy = study_figures.plottable(study, trials)
    figures: dict[str, Any] = dict.fromkeys(("history", "steps", "parallel", "slices"))
    if any(trial.intermediate_values for trial in trials):
        unit = "fold" if _folds(trials) else "epoch"
        steps = study_figures.intermediate_values(copy, best.number if best else None, objective, unit)
        figures["steps"] = pages.figure(steps, f"{objective} of each trial by {unit}")
    if best:
        history = study_figures.optimization_history(copy, objective)
        figures["history"] = pages.figure(history, f"{objective} of each complete trial, and the best so far")
        parallel = study_figures.parallel_coordinate(copy, objective)
        figures["parallel"] = pages.figure(parallel, f"a line for each trial through {objective} and its parameters")
        slices = zip(best.params, study_figures.slices(copy, best.params, objective), strict=True)
        figures["slices"] = [pages.figure(plot, f"{objective} of the trials by {name}") for name, plot in slices]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    note, can_tell = _importance_note(complete)
    shares = study_figures.importances(copy) if can_tell else None
    figures["importances"] = pages.figure(shares, "importance of each parameter") if shares else None
    return {**figures, "importance_note": note}


def _importance_note(complete: list[FrozenTrial]) -> tuple[str, bool]:
    """Return how to read the importances, or why there are none; and whether there are any."""
    if len(complete) < MINIMUM_FOR_IMPORTANCES:
        trials = f"{len(complete)} complete trial{'' if len(complete) == 1 else 's'}"
        return f"Not computed: {trials}, at least {MINIMUM_FOR_IMPORTANCES} are needed.", False
    if len({trial.value for trial in complete}) == 1:
        return "Not computed: all complete trials have the same objective.", False
    return (
        f"Share of the objective's variance that each parameter explains (fANOVA on {len(complete)} complete trials). "
        "With fewer than about 50 trials take it as a hint only."
    ), True


def _tables(trials: list[FrozenTrial], folder: Path) -> dict[str, Any]:
    """Return the drawn tables of all trials and of the failed ones (None if there are none)."""
    folds = _folds(trials)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    targets = {trial.number: _target(trial, folder) for trial in trials}
    header = ["trial", "state", "value", "s", *(f"fold {fold + 1}" for fold in range(folds)), *names]
    rows = []
    for trial in trials:
        cells = trial_cells(trial, names)
        values = ("" if value is None else f"{value:.5g}" for value in _fold_values(trial, folds))
        rows.append([*cells[:4], *values, *cells[4:]])
    table = pages.linked(header, rows, targets.values())
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    reasons = [[trial.number, trial.user_attrs.get("reason", "marked as failed by hand")] for trial in failed]
    failures = pages.linked(["trial", "reason"], reasons, [targets[trial.number] for trial in failed], "prose")
    return {"trials": table, "failed": failures if failed else None}


def _target(trial: FrozenTrial, folder: Path) -> str | None:
    """Return the relative path of a trial's page or log; None if the trial ran on another machine."""
    paths = (_folder(trial) / name for name in ("report.html", "trial.log"))
    target = next((path for path in paths if path.is_file()), None)
    return Path(os.path.relpath(target, folder)).as_posix() if target else None
