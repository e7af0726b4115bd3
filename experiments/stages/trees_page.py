"""Stage 03: trees and a linear model on statistics of windows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from conveyorguard.metrics.notation import PERCENT
from conveyorguard.reporting import pages
from conveyorguard.reporting.report import class_block, importance_block
from conveyorguard.reporting.site import Site
from conveyorguard.runs.saved import SavedRun
from experiments.stages import seed_figures
from experiments.stages.run_blocks import (
    beside_seed,
    drawn_on,
    links_of,
    measured,
    minutes,
    origins_of,
    resampling_of,
    runs_table,
    tested,
    tested_beside,
    titled,
)


def write_trees(site: Site, models: Mapping[str, SavedRun], cells: Mapping[str, SavedRun], shown: str) -> Path:
    """Write 03_ml_baseline.html and its tables.

    Args:
        models: by the name of the run, all modalities. cells: one model in every modality, with film and without.
        shown: the run of `models` that is shown in full.
    """
    run = models[shown]
    test = run.scores[list(run.scores)[-1]]
    result = beside_seed(
        site,
        "03_result",
        run,
        [
            *tested_beside(run, seed_figures.LIGHTGBM),
            ("training", minutes(run), f"{seed_figures.LIGHTGBM['seconds']} s"),
        ],
    )
    importance = run.importance
    blocks = [
        pages.section("LightGBM", result, note="On the plain statistics of a window, as in the seed study."),
        pages.section(
            "Models and features",
            runs_table(site, "03_models", models),
            note="extended: logarithms, slopes, lags, hot spot and deviation from the recording's start; "
            "without_start leaves the last out, "
            "since a plant has no recording start. A name leads to the run's own page.",
        ),
        pages.section(
            "Which inputs",
            _cells(site, cells),
            note="LightGBM with the features of one modality; film adds those of the environment.",
        ),
        class_block(run, drawn_on(site, "03")),
    ]
    if importance is not None:
        blocks.append(importance_block(importance, drawn_on(site, "03")))
        for by in ("source", "modality"):
            site.table(f"03_importance_by_{by}", importance.groupby(by, as_index=False)[["gain", "shap"]].sum())
    best = max(models, key=lambda name: models[name].scores["val"]["macro_f1"])
    chosen = models[best].scores[list(models[best].scores)[-1]]
    said = [
        f"LightGBM on plain statistics: test accuracy {PERCENT.number(test['accuracy'])} after {minutes(run)} of "
        "training.",
        f"Best by validation macro-F1: {best}, test accuracy {PERCENT.number(chosen['accuracy'])}, macro-F1 "
        f"{PERCENT.number(chosen['macro_f1'])}.",
    ]
    return site.write("03_ml_baseline", "Trees and a linear model on statistics of the same windows", blocks, said)


def _cells(site: Site, cells: Mapping[str, SavedRun]) -> str:
    resampling = resampling_of(next(iter(cells.values())))
    rows = [
        {
            "cell": name,
            "features": 0 if run.importance is None else len(run.importance),
            "validation accuracy": run.scores["val"]["accuracy"],
            **titled(measured(tested(run), resampling), run),
            "run directory": run.folder.name,
        }
        for name, run in cells.items()
    ]
    shares = dict.fromkeys([name for name in rows[0] if name not in ("cell", "features", "run directory")], ".1%")
    return site.table("03_cells", pd.DataFrame(rows), shares, links_of(site, cells), origins_of(cells))
