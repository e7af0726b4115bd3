"""Terminal output of a study: a line per trial, then the table, the best parameters and the command to retrain."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from conveyorguard.sweeps.shared_study import STATES, best_of, count_finished, ended
from conveyorguard.sweeps.space import matches, override


def trial_line(study: optuna.Study, trial: FrozenTrial, n_trials: int, left: float | None) -> str:
    """Return a line on a trial that has ended; `left` is the time until the limit [s], or None."""
    trials = study.get_trials(deepcopy=False)
    best = best_of(study, trials)
    words = [f"trial {trial.number:3d}", f"{STATES[trial.state]:8}"]
    words += [f"{trial.value:.5g}"] if trial.value is not None else []
    words += [f"best {best.value:.5g} (trial {best.number})"] if best else []
    words += [f"{count_finished(trials)} of {n_trials}"]
    words += [f"{max(0, left):.0f} s left"] if left is not None else []
    if trial.state == TrialState.FAIL:
        words += [trial.user_attrs["reason"], f"see {trial.user_attrs['dir']}"]
    return "  ".join(words)


def show_summary(study: optuna.Study, folder: Path) -> None:
    """Print the table of trials, the best parameters and the command that retrains them."""
    trials = study.get_trials(deepcopy=False)
    show_table(ended(trials))
    if best := best_of(study, trials):
        parameters = [override(name, value) for name, value in best.params.items()]
        print(f"best: trial {best.number}, {best.value:.6g}: {', '.join(parameters)}")
        print(f"retrain it: {retraining(study, best)}")
    print(f"study {study.study_name!r} in {folder}", flush=True)


def retraining(study: optuna.Study, trial: FrozenTrial) -> str:
    """Return the command that trains a trial again outside its study, with the same settings.

    The overrides that the trial itself has left for it (`retrain` of `TrialHandle.finish`) replace those of the study.
    """
    added = (trial.user_attrs.get("info") or {}).get("retrain", [])
    keys = [line.partition("=")[0] for line in added]
    replaced = [*keys, *(f"{key}.*" for key in keys if "." not in key)]
    words = [line for line in study.user_attrs["retrain"] if "=" not in line or not matches(line, replaced)]
    parameters = [override(name, value) for name, value in trial.params.items()]
    return shlex.join([*words, *parameters, *added])


def show_table(trials: Sequence[FrozenTrial]) -> None:
    """Print a table of trials with their parameters."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    table = Table("trial", "state", "value", "s", *names, title=state_counts(trials), title_justify="left")
    for trial in trials:
        table.add_row(*trial_cells(trial, names))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def state_counts(trials: Sequence[FrozenTrial]) -> str:
    """Return the number of trials per state, as in `4 COMPLETE, 2 PRUNED, 0 FAILED`."""
    return ", ".join(f"{sum(trial.state == state for trial in trials)} {word}" for state, word in STATES.items())


def trial_cells(trial: FrozenTrial, names: Sequence[str]) -> list[str]:
    """Return a trial as a row of a table: number, state, value, duration [s] and the named parameters."""
    value = "" if trial.value is None else f"{trial.value:.5g}"
    seconds = f"{trial.duration.total_seconds():.0f}" if trial.duration else ""
    return [
        str(trial.number),
        STATES[trial.state],
        value,
        seconds,
        *(few_digits(trial.params.get(name, "")) for name in names),
    ]


def few_digits(value: Any) -> str:
    """Return a parameter's value, floats with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
