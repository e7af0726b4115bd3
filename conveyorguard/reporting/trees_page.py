"""Stage 03: trees and a linear model on statistics of windows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from conveyorguard.evaluation import seed_study
from conveyorguard.reporting import pages
from conveyorguard.reporting.report import class_block, importance_block
from conveyorguard.reporting.run_blocks import (
    beside_seed,
    minutes,
    page_of,
    percent,
    runs_table,
    state_names,
)
from conveyorguard.reporting.site import Site
from conveyorguard.run import SavedRun


def write_trees(site: Site, models: Mapping[str, SavedRun], cells: Mapping[str, SavedRun], shown: str) -> Path:
    """Write 03_ml_baseline.html and its tables.

    Args:
        models: by the name of the run, all modalities. cells: one model in every modality, with film and without.
        shown: the run of `models` that is shown in full.
    """
    run = models[shown]
    test = run.metrics[list(run.metrics)[-1]]
    worst = run.schema.states[-1].name
    result = beside_seed(site, "03_result", [
        ("test accuracy", percent(test["accuracy"]), f"{seed_study.LIGHTGBM['test']:.2f} %"),
        (f"{worst} recall", percent(test["severe_recall"]), f"{seed_study.LIGHTGBM['worst_recall']} %"),
        ("training", minutes(run), f"{seed_study.LIGHTGBM['seconds']} s"),
    ])  # fmt: skip
    importance = run.importance
    blocks = [
        pages.section("LightGBM", result, note="On the plain statistics of a window, as in the seed study."),
        pages.section("Models and features", runs_table(site, "03_models", models),
                      note="extended: logarithms, slopes, lags, hot spot and deviation from the recording's start; without_start leaves the last out, "
                      "since a plant has no recording start. A name leads to the run's own page."),
        pages.section("Which inputs", _cells(site, cells), note="LightGBM with the features of one modality; film adds those of the environment."),
        class_block(run, state_names(run)),
    ]  # fmt: skip
    if importance is not None:
        site.table("03_importance", importance)
        site.table(
            "03_importance_by_source",
            importance.groupby(["modality", "source"], as_index=False)[["gain", "shap"]].sum(),
        )
        blocks.append(importance_block(importance))
    best = max(models, key=lambda name: models[name].metrics["val"]["macro_f1"])
    chosen = models[best].metrics[list(models[best].metrics)[-1]]
    said = [
        f"LightGBM on plain statistics: test accuracy {percent(test['accuracy'])} after {minutes(run)} of training.",
        f"Best by validation macro-F1: {best}, test accuracy {percent(chosen['accuracy'])}, macro-F1 {percent(chosen['macro_f1'])}.",
    ]
    return site.write("03_ml_baseline", "Trees and a linear model on statistics of the same windows", blocks, said)


def _cells(site: Site, cells: Mapping[str, SavedRun]) -> str:
    rows = []
    for name, run in cells.items():
        test = run.metrics[list(run.metrics)[-1]]
        rows.append({"cell": name, "features": 0 if run.importance is None else len(run.importance), "validation accuracy": run.metrics["val"]["accuracy"],
                     "test accuracy": test["accuracy"], "macro-F1": test["macro_f1"], "severe recall": test["severe_recall"]})  # fmt: skip
    links = {name: target for name, run in cells.items() if (target := page_of(site, run))}
    shares = dict.fromkeys(["validation accuracy", "test accuracy", "macro-F1", "severe recall"], ".1%")
    return site.table("03_cells", pd.DataFrame(rows), shares, links)
