"""The page and the csv tables of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.evaluation.comparison import Comparison, Row
from conveyorguard.metrics.intervals import FEWEST_SESSIONS, Interval
from conveyorguard.metrics.scores import METRICS
from conveyorguard.reporting import comparison_figures, figures, pages
from conveyorguard.reporting.format import counted, metric_title, state_titles, warning_of
from conveyorguard.reporting.reference import Reference
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_text

SHOWN = ("accuracy", "macro_f1", "severe_recall", "severe_sessions_missed", "severe_as_normal", "ordinal_error", "ece")
PROFILE = ("accuracy", "macro_f1", "severe_recall", "severe_precision", "qwk")
COSTS = {
    "fit_seconds": "training, s",
    "parameters": "parameters",
    "megabytes": "file, MB",
    "latency_ms": "latency of a window, ms",
}
IN_FULL = 6  # arms that have a confusion matrix and a line in the profile: the best


def write_comparison(
    comparison: Comparison, folder: Path, first: Markup | None = None, name: str = "comparison", title: str = ""
) -> Path:
    """Write the page, comparison.csv, differences.csv and devices.csv into the folder; return the page's path.

    Args:
        first: a drawn section to begin with. name: of the page's file. title: of the page; by default it says that
            models are compared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stem, frame in comparison_tables(comparison).items():
        write_text(folder / f"{stem}.csv", frame.to_csv(index=False))
    content = comparison_content(comparison, folder)
    main = first + content if first else content
    path = folder / f"{name}.html"
    title = title or f"Comparison of {counted(len(comparison.models), 'model')}"
    write_text(path, pages.page(title, comparison.protocol, main))
    return path


def comparison_tables(comparison: Comparison) -> dict[str, pd.DataFrame]:
    """Return the numbers of the page by name: every arm, the paired differences, the devices."""
    commands = {row.label: "; ".join(map(command_of, row.sources)) for row in comparison.rows}
    return {
        "comparison": comparison.table.assign(command=comparison.table["arm"].map(commands)),
        "differences": comparison.differences,
        "devices": comparison.by_device(),
    }


def comparison_content(comparison: Comparison, home: Path, reference: Reference | None = None) -> Markup:
    """Draw the sections of the page.

    Args:
        home: the folder that the page is written to. reference: a study whose ablation is quoted beside this one's.
    """
    return pages.render(
        "comparison.html.jinja",
        conclusion=_conclusion(comparison),
        results=_results(comparison, home),
        intervals=_intervals(comparison),
        cost=_cost(comparison),
        ablation=_ablation(comparison, reference),
        differences=_differences(comparison),
        shown=f"Shown are the {IN_FULL} best by macro-F1 on validation." if len(comparison.models) > IN_FULL else "",
        profile=_profile(comparison),
        confusions=_confusions(comparison),
        devices=_devices(comparison),
        sources=_sources(comparison, home),
    )


def _conclusion(comparison: Comparison) -> dict[str, Any]:
    note = (
        "Fixed rules derive these sentences from the numbers below. "
        f"{comparison.resampling.note} {warning_of(comparison.data)}"
    )
    return {"note": note.rstrip(), "sentences": [*comparison.conclusion(), *comparison.notes]}


def _results(comparison: Comparison, home: Path) -> dict[str, Any]:
    """Return every arm in one table: figures with intervals, cost, and what they come from."""
    schema = comparison.schema
    frame, formats = _results_table(comparison)
    origins = {row.label: origin_of(row) for row in comparison.models}
    links = {row.label: target for row in comparison.models if (target := _page_of(row, home))}
    worst = comparison.windows[comparison.windows["y_true"] == len(schema.states) - 1]
    merged = "Merged: the states between the first and the last count as one. " if _inner_states(comparison) else ""
    note = (
        "Ranked by macro-F1 on validation; shortcuts, baselines that know one obvious fact, come last. Brackets: 95 % "
        f"intervals. {state_titles(schema)[-1]}: {counted(len(worst), 'window')} in "
        f"{counted(worst['session'].nunique(), 'session')}. {merged}Times were measured on the machine of each run. "
        "Hover over a row to see its run directory and command, which the end of the page lists, too."
    )
    return {"table": pages.framed(frame, formats, links, origins, "dense"), "note": note}


def _results_table(comparison: Comparison) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the table of `_results` and the formats of its columns."""
    table = comparison.table
    columns: dict[str, Any] = {"model": table["arm"].where(~table["shortcut"], "shortcut: " + table["arm"])}
    formats = {}
    for name in SHOWN:
        title = metric_title(name, comparison.schema)
        percent = METRICS[name].percent
        columns[title] = pages.intervals_of(table, name) if percent else table[name]
        formats[title] = ".1%" if percent else ".3g"
    if inner := _inner_states(comparison):
        for name in ("accuracy", "macro_f1"):
            title = f"{METRICS[name].title}, {inner} merged"
            columns[title], formats[title] = pages.intervals_of(table, f"merged_{name}"), ".1%"
    costs = table.assign(megabytes=table["model_bytes"] / 1e6)
    for name, title in COSTS.items():
        columns[title], formats[title] = costs[name], ",.0f" if name == "parameters" else ",.1f"
    if table["seeds"].max() > 1:
        columns |= {"macro-F1, sd over seeds": table["macro_f1_sd"], "seeds": table["seeds"]}
        formats["macro-F1, sd over seeds"] = ".2%"
    return pd.DataFrame(columns), formats


def _inner_states(comparison: Comparison) -> str:
    """Return the names of the states between the first and the last, where there are several."""
    inner = comparison.schema.state_names[1:-1]
    return " + ".join(inner) if len(inner) > 1 else ""


def command_of(run: SavedRun) -> str:
    """Return the command of a run, without the folders of the machine."""
    return pages.base_names(run.provenance["command"])


def origin_of(row: Row) -> str:
    """Return the run directories and commands of an arm."""
    return "\n".join(f"{run.folder.resolve().name}: {command_of(run)}" for run in row.sources)


def _page_of(row: Row, home: Path) -> str | None:
    return pages.path_between(home, row.sources[0].folder / "report.html") if len(row.sources) == 1 else None


def _intervals(comparison: Comparison) -> list[Markup]:
    plots = []
    ranked = [*comparison.models, *comparison.shortcuts]
    for name in ("accuracy", "macro_f1"):
        plot = comparison_figures.interval_plot(
            [row.label for row in ranked],
            [row.arm.interval(name) for row in ranked],
            [list(row.arm.by_seed(name)) for row in ranked],
            METRICS[name].title,
        )
        plots.append(pages.figure(plot, f"{METRICS[name].title} of each model with its interval"))
    return plots


def _ablation(comparison: Comparison, reference: Reference | None) -> dict[str, Any] | None:
    """Return the cells of each model side by side and, beside them, those of a reference, if there is one."""
    families = comparison.ablations
    if not families:
        return None
    firsts = [next(iter(family.values())) for family in families]
    models = [row.model for row in firsts]
    names = [row.model if models.count(row.model) == 1 else row.label for row in firsts]
    bars = {
        name: {cell: row.arm.interval("accuracy") for cell, row in family.items()}
        for name, family in zip(names, families, strict=True)
    }
    cells = [*CELLS.values(), *FURTHER_CELLS.values()]
    plot = comparison_figures.grouped_bars(cells, bars, f"Accuracy on {comparison.part}")
    return {
        "plot": pages.figure(plot, "accuracy of each cell of the ablation"),
        "quoted": _quoted_ablation(comparison, reference) if reference else None,
    }


def _quoted_ablation(comparison: Comparison, reference: Reference) -> dict[str, Any]:
    """Return a table of the validation accuracy here beside the reference's, for the ablation's cells that both have.

    The accuracy is that of the reference's model, if it was trained here, else of the first model.
    """
    families = comparison.ablations
    network = [family for family in families if next(iter(family.values())).model == reference.model]
    rows = [
        [row.label, f"{100 * row.mean_validation('accuracy'):.2f} %", f"{accuracy:.2f} %"]
        for family in (network or families)[:1]
        for cell, accuracy in reference.ablation.items()
        if (row := family.get(cell))
    ]
    table = pages.table(["arm", "validation accuracy here", reference.column], rows)
    return {"note": reference.ablation_note, "table": table}


def _differences(comparison: Comparison) -> dict[str, Any] | None:
    differences = comparison.differences
    if not len(differences):
        return None
    frame = pd.DataFrame(
        {
            "arm": differences["arm"],
            "minus": differences["reference"],
            "metric": [metric_title(name, comparison.schema) for name in differences["metric"]],
            "points": [d.times(100) for d in pages.intervals_of(differences, "difference", "low", "high")],
            "verdict": differences["verdict"],
        }
    )
    return {"table": pages.framed(frame, {"points": "+.1f"}), "count": len(frame)}


def _cost(comparison: Comparison) -> Markup | None:
    table = comparison.table[~comparison.table["shortcut"]]
    if not np.isfinite(table["fit_seconds"]).any():
        return None
    accuracy = list(table["validation_accuracy"])
    plot = comparison_figures.cost_plot(list(table["arm"]), list(table["fit_seconds"]), accuracy)
    return pages.figure(plot, "validation accuracy of each model over its training time")


def _profile(comparison: Comparison) -> Markup:
    axes = [metric_title(name, comparison.schema) for name in PROFILE]
    rows = comparison.models[:IN_FULL]
    plot = comparison_figures.radar([row.label for row in rows], axes, [[*map(row.mean, PROFILE)] for row in rows])
    return pages.figure(plot, "radar of five metrics of each model")


def _confusions(comparison: Comparison) -> list[Markup]:
    names = state_titles(comparison.schema)
    plots = []
    for row in comparison.models[:IN_FULL]:
        matrix = np.mean([totals.summed().confusion for totals in row.arm.totals], axis=0)
        plot = figures.confusion(np.rint(matrix).astype(int).tolist(), names, row.label)
        plots.append(pages.figure(plot, f"confusion matrix of {row.label}"))
    return plots


def _devices(comparison: Comparison) -> dict[str, Any]:
    table = comparison.by_device().set_index("device")
    labels = [row.label for row in comparison.models]
    columns: dict[str, list] = {"model": labels}
    for device, row in zip(table.index, table.to_dict("records"), strict=True):
        columns[f"{device} ({row['windows']})"] = [Interval.of(row, label) for label in labels]
    frame = pd.DataFrame(columns)
    plot = comparison_figures.heat(labels, list(table.index), table[labels].T.to_numpy(), "Accuracy by device")
    return {
        "plot": pages.figure(plot, "accuracy of each model on the windows of each device"),
        "table": pages.framed(
            frame,
            dict.fromkeys(frame.columns[1:], ".1%"),
            origins={row.label: origin_of(row) for row in comparison.models},
            look="dense",
        ),
        "note": (
            "Accuracy on the windows of each device, averaged over seeds; behind each device its number of windows. "
            f"Brackets: 95 % intervals over the sessions of the device; fewer than {FEWEST_SESSIONS} sessions have "
            "none, and such a figure says little."
        ),
    }


def _sources(comparison: Comparison, home: Path) -> Markup:
    runs = [(row.label, run) for row in comparison.models for run in row.sources]
    rows = [[run.folder.resolve().name, label, command_of(run)] for label, run in runs]
    targets = [pages.path_between(home, run.folder / "report.html") for _, run in runs]
    return pages.linked(["run directory", "model", "command"], rows, targets, "prose")
