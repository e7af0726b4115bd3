"""Blocks of pages that several stages share: runs as a table, and figures beside the seed study's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from conveyorguard.reporting import pages
from conveyorguard.reporting.site import Site
from conveyorguard.run import SavedRun

SEED = "the seed study's, on its own data"


def state_names(run: SavedRun) -> list[str]:
    """States as pages show them: name and label."""
    return [f"{state.name} {state.label}".strip() for state in run.schema.states]


def percent(value: float | None) -> str:
    """A share of 1 in percent."""
    return "–" if value is None or value != value else f"{100 * value:.1f} %"


def minutes(run: SavedRun) -> str:
    """How long a run was fitted."""
    seconds = run.provenance.get("fit_seconds", float("nan"))
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def beside_seed(site: Site, name: str, rows: Sequence[tuple[str, Any, Any]]) -> str:
    """Our figures and the seed study's, a column each."""
    return site.table(name, pd.DataFrame(rows, columns=["", "here", SEED]))


def scores_beside(site: Site, name: str, run: SavedRun, quoted: Mapping[str, float]) -> str:
    """Validation and test accuracy, recall of the worst state and training time, beside the seed study's."""
    worst = run.schema.states[-1].name
    part = list(run.metrics)[-1]
    return beside_seed(site, name, [
        ("validation accuracy", percent(run.metrics["val"]["accuracy"]), f"{quoted['val']:.2f} %"),
        ("test accuracy", percent(run.metrics[part]["accuracy"]), f"{quoted['test']:.2f} %"),
        (f"{worst} recall", percent(run.metrics[part]["severe_recall"]), f"{quoted['worst_recall']} %"),
        ("training", f"{minutes(run)} on {run.provenance['device']}", f"{quoted['minutes']:.1f} min on two T4"),
    ])  # fmt: skip


def shortcut_rows(run: SavedRun) -> pd.DataFrame:
    """Test accuracy of the shortcuts on the run's windows: model, test accuracy."""
    table = run.shortcuts
    if table is None:
        return pd.DataFrame(columns=["model", "test accuracy"])
    own = table[table["split"] == list(run.metrics)[-1]]
    right = (own["y_true"] == own["y_pred"]).groupby(own["shortcut"]).mean().sort_values(ascending=False)
    return pd.DataFrame({"model": [f"shortcut: {name}" for name in right.index], "test accuracy": right.to_numpy()})


def runs_table(site: Site, name: str, runs: Mapping[str, SavedRun], shortcuts: bool = True) -> str:
    """A row a run with its figures, leading to its own page, and the shortcuts; below, the command of each."""
    rows = []
    for title, run in runs.items():
        test = run.metrics[list(run.metrics)[-1]]
        rows.append({
            "model": title, "test accuracy": test["accuracy"], "macro-F1": test["macro_f1"], "severe recall": test["severe_recall"],
            "validation macro-F1": run.metrics["val"]["macro_f1"], "training, s": run.provenance.get("fit_seconds"),
            "file, MB": (run.provenance.get("model_bytes") or float("nan")) / 1e6,
        })  # fmt: skip
    table = pd.DataFrame(rows)
    if shortcuts and runs:
        table = pd.concat([table, shortcut_rows(next(iter(runs.values())))], ignore_index=True)
    links = {title: target for title, run in runs.items() if (target := page_of(site, run))}
    shares = dict.fromkeys(["test accuracy", "macro-F1", "severe recall", "validation macro-F1"], ".1%")
    drawn = site.table(name, table, {**shares, "training, s": ".1f", "file, MB": ".2f"}, links)
    sources = pd.DataFrame(
        [
            {"model": title, "run directory": run.folder.name, "command": pages.base_names(run.provenance["command"])}
            for title, run in runs.items()
        ]
    )
    commands = site.table(f"{name}_commands", sources, prose=True)
    return f"{drawn}<details><summary>run directories and commands</summary>{commands}</details>"


def page_of(site: Site, run: SavedRun) -> str | None:
    """Where a run's own page is, relative to the site."""
    return pages.path_between(site.folder, run.folder / "report.html")
