"""Stage 03: trees and a linear model on window statistics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from conveyorguard.metrics.notation import PERCENT
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
    render,
    resampling_of,
    runs_table,
    tested_beside,
    titled,
)


def write_trees(site: Site, models: Mapping[str, SavedRun], cells: Mapping[str, SavedRun], shown: str) -> Path:
    """Write 03_ml_baseline.html and its tables, and return the page's path.

    Args:
        models: runs with all modalities, by run name.
        cells: runs of one model with each modality, with and without film, by the name of the cell.
        shown: name of the run in `models` that is shown in detail.
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
    main = render(
        "trees.html.jinja",
        result=result,
        models=runs_table(site, "03_models", models),
        cells=_cells(site, cells),
        classes=class_block(run, drawn_on(site, "03")),
        importance=Markup("") if importance is None else importance_block(importance, drawn_on(site, "03")),
    )
    if importance is not None:
        for by in ("source", "modality"):
            site.table(f"03_importance_by_{by}", importance.groupby(by, as_index=False)[["gain", "shap"]].sum())
    best = max(models, key=lambda name: models[name].scores["val"]["macro_f1"])
    chosen = models[best].scores[list(models[best].scores)[-1]]
    sentences = [
        f"LightGBM on plain window statistics: test accuracy {PERCENT.number(test['accuracy'])}, trained in "
        f"{minutes(run)}.",
        f"Best by validation macro-F1: {best}, test accuracy {PERCENT.number(chosen['accuracy'])}, macro-F1 "
        f"{PERCENT.number(chosen['macro_f1'])}.",
    ]
    return site.write("03_ml_baseline", "Trees and a linear model on window statistics", main, sentences)


def _cells(site: Site, cells: Mapping[str, SavedRun]) -> Markup:
    resampling = resampling_of(next(iter(cells.values())))
    rows = [
        {
            "cell": name,
            "features": 0 if run.importance is None else len(run.importance),
            "validation accuracy": run.scores["val"]["accuracy"],
            **titled(measured(run, resampling), run),
            "run directory": run.folder.name,
        }
        for name, run in cells.items()
    ]
    shares = dict.fromkeys([name for name in rows[0] if name not in ("cell", "features", "run directory")], ".1%")
    return site.table("03_cells", pd.DataFrame(rows), shares, links_of(site, cells), origins_of(cells))
