"""Parts that the pages of several stages share: tables of runs, and figures beside the seed study's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.notation import PERCENT
from conveyorguard.metrics.resampling import Arm, Resampling, resample
from conveyorguard.metrics.scores import Predictions
from conveyorguard.reporting import pages
from conveyorguard.reporting.format import metric_title
from conveyorguard.reporting.report import Draw
from conveyorguard.reporting.site import Site
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from experiments.stages.seed_figures import REFERENCE

TEMPLATES = Path(__file__).with_name("templates")
SEED = REFERENCE.column


def render(template: str, **values: Any) -> Markup:
    """Draw a template of the stages; `seed` in it is the seed study's `Reference`."""
    return pages.render(template, folder=TEMPLATES, seed=REFERENCE, **values)


def minutes(run: SavedRun) -> str:
    """Return how long fitting a run took, in s below 2 minutes, else in min."""
    seconds = run.provenance.get("fit_seconds", float("nan"))
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def drawn_on(site: Site, prefix: str) -> Draw:
    """Return a function that draws a table on a page of the site and names its csv after the stage.

    Args:
        prefix: number of the stage, e.g. "02".
    """
    return lambda name, frame, formats: site.table(f"{prefix}_{name}", frame, formats)


def beside_seed(site: Site, name: str, run: SavedRun, rows: Sequence[tuple[str, Any, Any]]) -> Markup:
    """Draw the figures of a run beside the seed study's.

    Args:
        name: name of the csv.
        rows: what is measured, the run's figure, the seed study's figure.
    """
    origin = next(iter(origins_of({"": run}).values()))
    frame = pd.DataFrame(rows, columns=["", "here", SEED])
    table = site.table(name, frame, origins=dict.fromkeys([str(row[0]) for row in rows], origin))
    return render("beside_seed.html.jinja", table=table, origin=origin)


def scores_beside(site: Site, name: str, run: SavedRun, quoted: Mapping[str, float]) -> Markup:
    """Draw accuracy, recall of the worst state and training time of a run beside the seed study's figures `quoted`."""
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
    """Return rows of `beside_seed`: test accuracy and recall of the worst state."""
    figures = measured(run, resampling_of(run))
    return [
        ("test accuracy", PERCENT.with_interval(figures["accuracy"]), f"{quoted['test']:.2f} %"),
        (
            metric_title("severe_recall", run.schema),
            PERCENT.with_interval(figures["severe_recall"]),
            f"{quoted['worst_recall']} %",
        ),
    ]


MEASURED = ("accuracy", "macro_f1", "severe_recall")


def measured(run: SavedRun, resampling: Resampling) -> dict[str, Interval]:
    """Return the metrics of MEASURED of a run's deployed answers on test, with their intervals."""
    return _measured(as_predictions(tested(run), run.answer), resampling)


def _measured(predictions: Predictions, resampling: Resampling) -> dict[str, Interval]:
    arm = Arm([predictions], resampling)
    return {metric: arm.interval(metric) for metric in MEASURED}


def titled(figures: Mapping[str, Interval], run: SavedRun) -> dict[str, Interval]:
    """Return the figures of `measured` by column title."""
    titles = {"accuracy": "test accuracy"}
    return {titles.get(name, metric_title(name, run.schema)): figure for name, figure in figures.items()}


def tested(run: SavedRun) -> pd.DataFrame:
    """Return the predictions on test, or on validation if the run was not evaluated on test."""
    return run.predictions[run.predictions["split"] == list(run.scores)[-1]]


def resampling_of(run: SavedRun) -> Resampling:
    """Return the resampling for intervals on the sessions that a run is tested on."""
    rows = tested(run)
    return resample(rows["session"].to_numpy(), rows["device"].to_numpy())


def shortcut_rows(run: SavedRun, resampling: Resampling) -> list[dict[str, Any]]:
    """Return a row for each shortcut on the run's windows, by macro-F1 from best to worst."""
    table = run.shortcuts
    if table is None:
        return []
    by_name = table[table["split"] == list(run.scores)[-1]].groupby("shortcut", sort=False)
    figures = {name: _measured(as_predictions(rows), resampling) for name, rows in by_name}
    ranked = sorted(figures, key=lambda name: figures[name]["macro_f1"].value, reverse=True)
    return [{"model": f"shortcut: {name}", **titled(figures[name], run)} for name in ranked]


def runs_table(site: Site, name: str, runs: Mapping[str, SavedRun], shortcuts: bool = True) -> Markup:
    """Draw a table of runs with figures, intervals and links to their pages, and below it their commands.

    Args:
        name: name of the csv.
        runs: runs on the same test sessions, by title.
        shortcuts: append the shortcuts of the first run.
    """
    first = next(iter(runs.values()))
    resampling = resampling_of(first)
    rows: list[dict[str, Any]] = [
        {
            "model": title,
            **titled(measured(run, resampling), run),
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
    return render("runs_table.html.jinja", table=drawn, note=resampling.note, commands=commands)


def commands_of(runs: Mapping[str, SavedRun]) -> pd.DataFrame:
    """Return model, run directory and command of each run."""
    rows = [(title, run.folder.name, pages.base_names(run.provenance["command"])) for title, run in runs.items()]
    return pd.DataFrame(rows, columns=["model", "run directory", "command"])


def links_of(site: Site, runs: Mapping[str, SavedRun]) -> dict[str, str]:
    """Return the relative paths of the runs' own pages, by title."""
    return {title: target for title, run in runs.items() if (target := page_of(site, run))}


def origins_of(runs: Mapping[str, SavedRun]) -> dict[str, str]:
    """Return run directory and command of each run as text, by title."""
    return {title: f"{run.folder.name}: {pages.base_names(run.provenance['command'])}" for title, run in runs.items()}


def page_of(site: Site, run: SavedRun) -> str | None:
    """Return the path of a run's own page relative to the site, or None if it has none."""
    return pages.path_between(site.folder, run.folder / "report.html")
