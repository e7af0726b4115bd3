"""Blocks of pages that several stages share: runs as a table, and figures beside the seed study's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from conveyorguard.metrics.bootstrap import Arm, Interval, Resampling, resample
from conveyorguard.metrics.notation import PERCENT
from conveyorguard.reporting import pages
from conveyorguard.reporting.format import metric_title
from conveyorguard.reporting.report import Draw
from conveyorguard.reporting.site import Site
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from experiments.stages.seed_figures import REFERENCE

SEED = REFERENCE.column
THEIRS = f"<h3>{REFERENCE.heading}</h3>"


def minutes(run: SavedRun) -> str:
    """How long a run was fitted."""
    seconds = run.provenance.get("fit_seconds", float("nan"))
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def drawn_on(site: Site, prefix: str) -> Draw:
    """How blocks that several pages share draw their tables on a page of a site: the csv is called after its stage."""
    return lambda name, frame, formats: site.table(f"{prefix}_{name}", frame, formats)


def beside_seed(site: Site, name: str, run: SavedRun, rows: Sequence[tuple[str, Any, Any]]) -> str:
    """Our figures, which are of one run, and the seed study's, a column each."""
    origin = next(iter(origins_of({"": run}).values()))
    frame = pd.DataFrame(rows, columns=["", "here", SEED])
    shown = site.table(name, frame, origins=dict.fromkeys([str(row[0]) for row in rows], origin))
    return f'{shown}<p class="note">Here: {pages.escape(origin)}</p>'


def scores_beside(site: Site, name: str, run: SavedRun, quoted: Mapping[str, float]) -> str:
    """Validation and test accuracy, recall of the worst state and training time, beside the seed study's."""
    return beside_seed(
        site,
        name,
        run,
        [
            ("validation accuracy", PERCENT.number(run.scores["val"]["accuracy"]), f"{quoted['val']:.2f} %"),
            *tested_beside(run, quoted),
            ("training", f"{minutes(run)} on {run.provenance['device']}", f"{quoted['minutes']:.1f} min on two T4"),
        ],
    )


def tested_beside(run: SavedRun, quoted: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Rows of `beside_seed`: test accuracy and recall of the worst state."""
    figures = measured(tested(run), resampling_of(run))
    return [
        ("test accuracy", PERCENT.with_interval(figures["accuracy"]), f"{quoted['test']:.2f} %"),
        (
            metric_title("severe_recall", run.schema),
            PERCENT.with_interval(figures["severe_recall"]),
            f"{quoted['worst_recall']} %",
        ),
    ]


MEASURED = ("accuracy", "macro_f1", "severe_recall")


def measured(rows: pd.DataFrame, resampling: Resampling) -> dict[str, Interval]:
    """The metrics of MEASURED of predictions, with their intervals."""
    arm = Arm([as_predictions(rows)], resampling)
    return {metric: arm.interval(metric) for metric in MEASURED}


def titled(figures: Mapping[str, Interval], run: SavedRun) -> dict[str, Interval]:
    """Figures of `measured` by the titles of their columns."""
    titles = {"accuracy": "test accuracy"}
    return {titles.get(name, metric_title(name, run.schema)): figure for name, figure in figures.items()}


def tested(run: SavedRun) -> pd.DataFrame:
    """Predictions of the part that figures are of: test, or validation where test was not asked for."""
    return run.predictions[run.predictions["split"] == list(run.scores)[-1]]


def resampling_of(run: SavedRun) -> Resampling:
    """How the recordings that a run is tested on are drawn anew for intervals."""
    rows = tested(run)
    return resample(rows["session"].to_numpy(), rows["device"].to_numpy())


def shortcut_rows(run: SavedRun, resampling: Resampling) -> list[dict[str, Any]]:
    """The shortcuts on the run's windows, the best first: model and the figures of `titled`."""
    table = run.shortcuts
    if table is None:
        return []
    by_name = table[table["split"] == list(run.scores)[-1]].groupby("shortcut", sort=False)
    figures = {name: measured(rows, resampling) for name, rows in by_name}
    ranked = sorted(figures, key=lambda name: figures[name]["macro_f1"].value, reverse=True)
    return [{"model": f"shortcut: {name}", **titled(figures[name], run)} for name in ranked]


def runs_table(site: Site, name: str, runs: Mapping[str, SavedRun], shortcuts: bool = True) -> str:
    """A row a run with figures, intervals and its source, leading to its own page, and the shortcuts; below, all
    commands."""
    first = next(iter(runs.values()))
    resampling = resampling_of(first)
    rows: list[dict[str, Any]] = [
        {
            "model": title,
            **titled(measured(tested(run), resampling), run),
            "validation accuracy": run.scores["val"]["accuracy"],
            "validation macro-F1": run.scores["val"]["macro_f1"],
            "training, s": run.provenance.get("fit_seconds"),
            "file, MB": (run.provenance.get("model_bytes") or float("nan")) / 1e6,
            "run directory": run.folder.name,
        }
        for title, run in runs.items()
    ]
    shares = [name for name, value in rows[0].items() if isinstance(value, Interval)]
    table = pd.DataFrame([*rows, *(shortcut_rows(first, resampling) if shortcuts else [])])
    drawn = site.table(
        name,
        table,
        {
            **dict.fromkeys([*shares, "validation accuracy", "validation macro-F1"], ".1%"),
            "training, s": ".1f",
            "file, MB": ".2f",
        },
        links_of(site, runs),
        origins_of(runs),
        "dense",
    )
    commands = site.table(f"{name}_commands", commands_of(runs), look="prose")
    note = pages.escape(resampling.note)
    return (
        f'{drawn}<p class="note">{note}</p><details><summary>run directories and commands</summary>{commands}</details>'
    )


def commands_of(runs: Mapping[str, SavedRun]) -> pd.DataFrame:
    """Where the numbers of runs come from: model, run directory, command."""
    rows = [(title, run.folder.name, pages.base_names(run.provenance["command"])) for title, run in runs.items()]
    return pd.DataFrame(rows, columns=["model", "run directory", "command"])


def links_of(site: Site, runs: Mapping[str, SavedRun]) -> dict[str, str]:
    """Where the runs' own pages are, by title."""
    return {title: target for title, run in runs.items() if (target := page_of(site, run))}


def origins_of(runs: Mapping[str, SavedRun]) -> dict[str, str]:
    """Run directory and command of each run, by title."""
    return {title: f"{run.folder.name}: {pages.base_names(run.provenance['command'])}" for title, run in runs.items()}


def page_of(site: Site, run: SavedRun) -> str | None:
    """Where a run's own page is, relative to the site."""
    return pages.path_between(site.folder, run.folder / "report.html")
