"""The search of stage 04: what was searched, by what, and what came of each trial, beside the seed study's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from omegaconf import DictConfig
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from conveyorguard.metrics.notation import MISSING
from conveyorguard.reporting import pages
from conveyorguard.reporting.site import Site
from conveyorguard.reporting.study_page import optimization_history, searched
from conveyorguard.sweeps.shared_study import best_of, ended
from conveyorguard.sweeps.summary import few_digits
from experiments.stages import seed_figures
from experiments.stages.run_blocks import SEED


def search_section(site: Site, search: optuna.Study, settings: DictConfig, folder: Path) -> str:
    """The section of a search as html, its tables as csv.

    Args:
        settings: config of the search. folder: of the search, with its own page.
    """
    trials = ended(search.get_trials(deepcopy=False))
    plot = optimization_history(trials, search.direction == StudyDirection.MAXIMIZE, "validation accuracy")
    plot.update_xaxes(dtick=max(1, len(trials) // 10))
    page = folder / "study.html"
    link = page.exists() and f'<p><a href="{page.relative_to(site.folder).as_posix()}">The page of the search</a></p>'
    formats = {"validation accuracy": ".4f", "seconds": ".0f"}
    return pages.section(
        "Search",
        "<h3>Space</h3>",
        site.table("04_space", _space(trials, best_of(search, trials))),
        "<h3>Settings</h3>",
        site.table("04_settings", _settings(trials, settings)),
        pages.pair(
            pages.figure(plot, "validation accuracy by trial"),
            "<h3>Trials</h3>" + str(site.table("04_trials", _trials(trials), formats)),
        ),
        link or "",
        f"<details><summary>{SEED}: trials</summary>{_their_trials()}</details>",
        note="Chosen by validation accuracy; test data were not touched.",
    )


def _space(trials: list[FrozenTrial], best: FrozenTrial | None) -> pd.DataFrame:
    """A row a parameter: what was searched and what was best, here and there."""
    params = best.params if best else {}
    space = trials[0].distributions if trials else {}
    rows = []
    for name, distribution in space.items():
        their_range, their_best = seed_figures.SEARCH.get(name, (MISSING, MISSING))
        rows.append(
            {
                "parameter": name,
                "range": searched(distribution),
                "best here": few_digits(params.get(name, MISSING)),
                f"range, {SEED}": their_range,
                f"best, {SEED}": their_best,
            }
        )
    return pd.DataFrame(rows)


def _settings(trials: list[FrozenTrial], settings: DictConfig) -> pd.DataFrame:
    """Sampler, pruner and what became of the trials, here and there."""
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


def _their_trials() -> str:
    best = max(seed_figures.TRIALS.values())
    rows = [
        [f"{number}{' (best)' if value == best else ''}", f"{value:.2f} %"]
        for number, value in seed_figures.TRIALS.items()
    ]
    return pages.table(["trial", "validation accuracy"], rows)


def class_name(node: Any) -> str:
    """What a config node builds, e.g. MedianPruner; a dash for none."""
    return str(node._target_).rsplit(".", 1)[-1] if node else MISSING
