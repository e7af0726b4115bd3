"""The search of stage 04: space, settings and trials beside the seed study's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from markupsafe import Markup
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from conveyorguard.metrics.notation import MISSING
from conveyorguard.reporting import pages
from conveyorguard.reporting.site import Site
from conveyorguard.reporting.study_figures import optimization_history, plottable
from conveyorguard.reporting.study_page import searched
from conveyorguard.sweeps.shared_study import best_of, ended
from conveyorguard.sweeps.summary import few_digits
from experiments.stages import seed_figures
from experiments.stages.run_blocks import SEED, render


def search_section(site: Site, search: optuna.Study, settings: DictConfig, folder: Path) -> Markup:
    """Draw the section of a search, and write its tables as csv.

    Args:
        settings: config of the search.
        folder: folder of the search, in which its own page lies.
    """
    trials = ended(search.get_trials(deepcopy=False))
    history = optimization_history(plottable(search, trials), "validation accuracy")
    page = folder / "study.html"
    formats = {"validation accuracy": ".4f", "seconds": ".0f"}
    return render(
        "search.html.jinja",
        space=site.table("04_space", _space(trials, best_of(search, trials))),
        settings=site.table("04_settings", _settings(trials, settings)),
        history=pages.figure(history, "validation accuracy of each complete trial, and the best so far"),
        trials=site.table("04_trials", _trials(trials), formats),
        page=page.relative_to(site.folder).as_posix() if page.exists() else None,
        seed_trials=_seed_trials(),
    )


def _space(trials: list[FrozenTrial], best: FrozenTrial | None) -> pd.DataFrame:
    """Return the searched range and the best value of each parameter, here and in the seed study."""
    params = best.params if best else {}
    space = trials[0].distributions if trials else {}
    rows = []
    for name, distribution in space.items():
        seed_range, seed_best = seed_figures.SEARCH.get(name, (MISSING, MISSING))
        rows.append(
            {
                "parameter": name,
                "range": searched(distribution),
                "best here": few_digits(params.get(name, MISSING)),
                f"range, {SEED}": seed_range,
                f"best, {SEED}": seed_best,
            }
        )
    return pd.DataFrame(rows)


def _settings(trials: list[FrozenTrial], settings: DictConfig) -> pd.DataFrame:
    """Return sampler, pruner and the number of trials by state, here and in the seed study."""
    states = [trial.state for trial in trials]
    planned = f"{seed_figures.TRIALS_PLANNED} planned, {seed_figures.TIMEOUT_MINUTES} min at most"
    rows = [
        ("sampler", class_name(settings.hydra.sweeper.sampler), "TPE"),
        ("pruner", class_name(settings.sweep.pruner), "MedianPruner"),
        ("trials", len(trials), planned),
        ("complete", states.count(TrialState.COMPLETE), seed_figures.TRIALS_COMPLETE),
        ("pruned", states.count(TrialState.PRUNED), seed_figures.TRIALS_PRUNED),
        ("failed", states.count(TrialState.FAIL), MISSING),
    ]
    return pd.DataFrame(rows, columns=["", "here", SEED])


def _trials(trials: list[FrozenTrial]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": [t.number for t in trials],
            "validation accuracy": [t.value for t in trials],
            "state": [t.state.name for t in trials],
            "epochs": [len(t.intermediate_values) for t in trials],
            "seconds": [t.duration.total_seconds() if t.duration else float("nan") for t in trials],
        }
    )


def _seed_trials() -> Markup:
    """Draw the trials of the seed study."""
    best = max(seed_figures.TRIALS.values())
    rows = [
        [f"{number}{' (best)' if value == best else ''}", f"{value:.2f} %"]
        for number, value in seed_figures.TRIALS.items()
    ]
    return pages.table(["trial", "validation accuracy"], rows)


def class_name(node: Any) -> str:
    """Return the class that a config node builds, e.g. MedianPruner; a dash for no node."""
    return str(node._target_).rsplit(".", 1)[-1] if node else MISSING
