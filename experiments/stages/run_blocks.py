"""Blocks of pages that several stages share: runs as a table, and figures beside the seed study's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from conveyorguard.metrics.bootstrap import Arm, Interval, Resampling, resample
from conveyorguard.reporting import pages
from conveyorguard.reporting.report import Draw
from conveyorguard.reporting.site import Site
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun

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
    figures = measured(tested(run), resampling_of(run))
    return beside_seed(
        site,
        name,
        run,
        [
            ("validation accuracy", percent(run.scores["val"]["accuracy"]), f"{quoted['val']:.2f} %"),
            ("test accuracy", with_interval(figures, "test accuracy"), f"{quoted['test']:.2f} %"),
            (f"{state_names(run)[-1]} recall", with_interval(figures, "severe recall"), f"{quoted['worst_recall']} %"),
            ("training", f"{minutes(run)} on {run.provenance['device']}", f"{quoted['minutes']:.1f} min on two T4"),
        ],
    )


def with_interval(figures: Mapping[str, float], name: str) -> str:
    """`94.1 % [91.0, 96.2]` of figures as `measured` gives them."""
    low, high = (figures[f"{name} {side}"] for side in ("low", "high"))
    return percent(figures[name]) + (f" [{100 * low:.1f}, {100 * high:.1f}]" if low == low else "")


MEASURED = {"test accuracy": "accuracy", "macro-F1": "macro_f1", "severe recall": "severe_recall"}


def measured(rows: pd.DataFrame, resampling: Resampling) -> dict[str, float]:
    """Figures of predictions with their intervals, as columns `x`, `x low` and `x high`."""
    arm = Arm([as_predictions(rows)], resampling)
    found: dict[str, float] = {}
    for title, metric in MEASURED.items():
        found |= interval_columns(title, arm.interval(metric))
    return found


def interval_columns(title: str, interval: Interval) -> dict[str, float]:
    """A figure and its bounds as the columns that `pages.framed` takes together."""
    return {title: interval.value, f"{title} low": interval.low, f"{title} high": interval.high}


def tested(run: SavedRun) -> pd.DataFrame:
    """Predictions of the part that figures are of: test, or validation where test was not asked for."""
    return run.predictions[run.predictions["split"] == list(run.scores)[-1]]


def resampling_of(run: SavedRun) -> Resampling:
    """How the recordings that a run is tested on are drawn anew for intervals."""
    rows = tested(run)
    return resample(rows["session"].to_numpy(), rows["device"].to_numpy())


def shortcut_rows(run: SavedRun, resampling: Resampling) -> pd.DataFrame:
    """The shortcuts on the run's windows, the best first: model and the columns of `measured`."""
    table = run.shortcuts
    if table is None:
        return pd.DataFrame()
    own = table[table["split"] == list(run.scores)[-1]].groupby("shortcut", sort=False)
    rows = [{"model": f"shortcut: {name}", **measured(rows, resampling)} for name, rows in own]
    return pd.DataFrame(rows).sort_values("macro-F1", ascending=False)


def runs_table(site: Site, name: str, runs: Mapping[str, SavedRun], shortcuts: bool = True) -> str:
    """A row a run with figures, intervals and its source, leading to its own page, and the shortcuts; below, all
    commands."""
    first = next(iter(runs.values()))
    resampling = resampling_of(first)
    rows = [
        {
            "model": title,
            **measured(tested(run), resampling),
            "validation accuracy": run.scores["val"]["accuracy"],
            "validation macro-F1": run.scores["val"]["macro_f1"],
            "training, s": run.provenance.get("fit_seconds"),
            "file, MB": (run.provenance.get("model_bytes") or float("nan")) / 1e6,
            "run directory": run.folder.name,
        }
        for title, run in runs.items()
    ]
    table = pd.DataFrame(rows)
    if shortcuts:
        table = pd.concat([table, shortcut_rows(first, resampling)], ignore_index=True)
    shares = dict.fromkeys([*MEASURED, "validation accuracy", "validation macro-F1"], ".1%")
    drawn = site.table(
        name,
        table,
        {**shares, "training, s": ".1f", "file, MB": ".2f"},
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
