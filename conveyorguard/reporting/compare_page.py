"""The page and the csv tables of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.evaluation.comparison import Comparison, Row
from conveyorguard.metrics.bootstrap import FEWEST_SESSIONS, Interval
from conveyorguard.metrics.scores import METRICS
from conveyorguard.reporting import comparison_figures, figures, pages
from conveyorguard.reporting.format import metric_title, state_titles, warning_of
from conveyorguard.reporting.reference import Reference
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_text

SHOWN = ("accuracy", "macro_f1", "severe_recall", "severe_sessions_missed", "severe_as_normal", "ordinal_error", "ece")
COSTS = {
    "fit_seconds": "training, s",
    "parameters": "parameters",
    "megabytes": "file, MB",
    "latency_ms": "one window, ms",
}
IN_FULL = 6  # arms that are drawn one by one: the best


def write_comparison(comparison: Comparison, folder: Path, first: str = "", name: str = "comparison") -> Path:
    """Write comparison.html, comparison.csv, differences.csv and devices.csv into the folder; returns the page's path.

    Args:
        first: html of a section to begin with. name: of the page's file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stem, frame in comparison_tables(comparison).items():
        write_text(folder / f"{stem}.csv", frame.to_csv(index=False))
    blocks = [first, *comparison_blocks(comparison, folder)]
    path = folder / f"{name}.html"
    models = len(comparison.models)
    title = f"Comparison of {models} model{'s' if models > 1 else ''}"
    write_text(path, pages.page(title, comparison.protocol, [block for block in blocks if block]))
    return path


def comparison_tables(comparison: Comparison) -> dict[str, pd.DataFrame]:
    """The numbers of the page by name: every arm, the paired differences, the devices."""
    commands = {row.label: "; ".join(map(command_of, row.sources)) for row in comparison.rows}
    return {
        "comparison": comparison.table.assign(command=comparison.table["arm"].map(commands)),
        "differences": all_differences(comparison),
        "devices": comparison.by_device(),
    }


def comparison_blocks(comparison: Comparison, home: Path, reference: Reference | None = None) -> list[str]:
    """The sections of the page as html.

    Args:
        home: the folder that the page is written to. reference: a study whose ablation is quoted beside this one's.
    """
    blocks = [
        _conclusion(comparison),
        _results(comparison, home),
        _intervals(comparison),
        _cost(comparison),
        _ablation(comparison, reference),
        _differences(comparison),
        _safety(comparison),
        _confusions(comparison),
        _devices(comparison),
        _sources(comparison, home),
    ]
    return [block for block in blocks if block]


def all_differences(comparison: Comparison) -> pd.DataFrame:
    """`Comparison.differences` to sensors alone and to the arm chosen on validation."""
    references = [row for row in (comparison.sensor_only, comparison.chosen) if row is not None]
    distinct = {id(row): row for row in references}.values()
    return pd.concat([comparison.differences(reference) for reference in distinct], ignore_index=True)


def _conclusion(comparison: Comparison) -> str:
    items = "".join(f"<li>{pages.escape(sentence)}</li>" for sentence in [*comparison.conclusion(), *comparison.notes])
    note = f"Written from the numbers below by fixed rules. {comparison.resampling.note} {warning_of(comparison.data)}"
    return pages.section("Conclusion", f"<ul>{items}</ul>", note=note.rstrip())


def _results(comparison: Comparison, home: Path) -> str:
    """Every arm in one table: figures with intervals, cost, and what they come from."""
    schema = comparison.schema
    frame, formats = _results_table(comparison)
    origins = {row.label: origin_of(row) for row in comparison.models}
    links = {row.label: target for row in comparison.models if (target := _page_of(row, home))}
    worst = comparison.windows[comparison.windows["y_true"] == len(schema.states) - 1]
    merged = "Merged: the states between the first and the last taken as one. " if _inner_states(comparison) else ""
    note = (
        "Ranked by macro-F1; the shortcuts, which know one obvious fact, below. In brackets 95 % intervals. "
        f"{state_titles(schema)[-1]}: {len(worst):,} windows in {worst['session'].nunique()} sessions. {merged}"
        "Times are of the machine a run was made on. A row tells its run directory and command where the mouse rests "
        "on it; they are listed at the end of the page."
    )
    return pages.section("Results", pages.framed(frame, formats, links, origins, "dense"), note=note)


def _results_table(comparison: Comparison) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table of `_results` and the formats of its columns."""
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
    """Names of the states between the first and the last, where there are several."""
    inner = comparison.schema.state_names[1:-1]
    return " + ".join(inner) if len(inner) > 1 else ""


def command_of(run: SavedRun) -> str:
    """The command of a run, without the folders of the machine."""
    return pages.base_names(run.provenance["command"])


def origin_of(row: Row) -> str:
    """Run directories and commands of an arm."""
    return "\n".join(f"{run.folder.resolve().name}: {command_of(run)}" for run in row.sources)


def _page_of(row: Row, home: Path) -> str | None:
    return pages.path_between(home, row.sources[0].folder / "report.html") if len(row.sources) == 1 else None


def _intervals(comparison: Comparison) -> str:
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
    return pages.section(
        "Intervals", pages.pair(*plots), note="Bar: 95 % interval; large dot: mean; small dots: single seeds."
    )


def _ablation(comparison: Comparison, reference: Reference | None) -> str:
    """The cells of each model side by side, and beside them a reference's, if there is one."""
    families = comparison.ablations
    if not families:
        return ""
    firsts = [next(iter(family.values())) for family in families]
    models = [row.model for row in firsts]
    names = [row.model if models.count(row.model) == 1 else row.label for row in firsts]
    bars = {
        name: {cell: row.arm.interval("accuracy") for cell, row in family.items()}
        for name, family in zip(names, families, strict=True)
    }
    cells = [*CELLS.values(), *FURTHER_CELLS.values()]
    plot = comparison_figures.grouped_bars(cells, bars, f"Accuracy on {comparison.part}")
    return pages.section(
        "Ablation",
        pages.figure(plot, "accuracy of each cell of the ablation"),
        _quoted_ablation(comparison, reference) if reference else "",
        note="What each input is worth: one model with the same settings, given other inputs.",
    )


def _quoted_ablation(comparison: Comparison, reference: Reference) -> str:
    """Validation accuracy of the cells that a reference has too: of its network, if that is there."""
    families = comparison.ablations
    network = [family for family in families if next(iter(family.values())).model == reference.model]
    rows = [
        [row.label, f"{100 * row.mean_validation('accuracy'):.2f} %", f"{accuracy:.2f} %"]
        for family in (network or families)[:1]
        for cell, accuracy in reference.ablation.items()
        if (row := family.get(cell))
    ]
    note = f'<p class="note">{pages.shown(reference.ablation_note)}</p>'
    return note + pages.table(["arm", "validation accuracy here", reference.column], rows)


def _differences(comparison: Comparison) -> str:
    differences = all_differences(comparison)
    if not len(differences):
        return ""
    frame = pd.DataFrame(
        {
            "arm": differences["arm"],
            "minus": differences["reference"],
            "metric": [metric_title(name, comparison.schema) for name in differences["metric"]],
            "points": [d.times(100) for d in pages.intervals_of(differences, "difference", "low", "high")],
            "verdict": differences["verdict"],
        }
    )
    table = pages.framed(frame, {"points": "+.1f"})
    note = (
        "Paired: both arms in the same replicates, seeds averaged inside each; in brackets 95 % intervals. Better "
        "or worse: the interval excludes "
        "zero; otherwise not shown. Against sensors alone, and against the arm that is best on validation."
    )
    if len(frame) > 24:
        table = f"<details><summary>all {len(frame)} differences</summary>{table}</details>"
    return pages.section("Differences", table, note=note)


def _cost(comparison: Comparison) -> str:
    table = comparison.table[~comparison.table["shortcut"]]
    if not np.isfinite(table["fit_seconds"]).any():
        return ""
    plot = comparison_figures.cost_plot(list(table["arm"]), list(table["fit_seconds"]), list(table["accuracy"]))
    return pages.section(
        "Accuracy against training time",
        pages.figure(plot, "accuracy of each model over its training time"),
        note="Times are of the machines the runs were made on. The other models' names show where the mouse rests.",
    )


def _safety(comparison: Comparison) -> str:
    names = ("accuracy", "macro_f1", "severe_recall", "severe_precision", "qwk")
    axes = {name: metric_title(name, comparison.schema) for name in names}
    shown = comparison.models[:IN_FULL]
    values = [[row.mean(name) for name in axes] for row in shown]
    plot = comparison_figures.radar([row.label for row in shown], list(axes.values()), values)
    return pages.section("Profile", pages.figure(plot, "radar of five metrics of each model"), note=_which(comparison))


def _which(comparison: Comparison) -> str:
    """Which arms are drawn one by one."""
    return "" if len(comparison.models) <= IN_FULL else f"The {IN_FULL} best by macro-F1."


def _confusions(comparison: Comparison) -> str:
    names = state_titles(comparison.schema)
    plots = []
    for row in comparison.models[:IN_FULL]:
        one = np.ones(len(comparison.resampling.sessions))
        matrix = np.mean([totals.weighted(one).confusion for totals in row.arm.totals], axis=0)
        plot = figures.confusion(np.rint(matrix).astype(int).tolist(), names, row.label)
        plots.append(pages.figure(plot, f"confusion matrix of {row.label}"))
    pairs = [pages.pair(*plots[i : i + 2]) for i in range(0, len(plots), 2)]
    return pages.section(
        "Confusion matrices",
        *pairs,
        note=f"Windows by actual and predicted state; the mean over seeds. {_which(comparison)}",
    )


def _devices(comparison: Comparison) -> str:
    table = comparison.by_device().set_index("device")
    labels = [row.label for row in comparison.models]
    columns: dict[str, list] = {"model": labels}
    for device, row in zip(table.index, table.to_dict("records"), strict=True):
        columns[f"{device} ({row['windows']})"] = [Interval.of(row, label) for label in labels]
    frame = pd.DataFrame(columns)
    drawn = pages.framed(
        frame,
        dict.fromkeys(frame.columns[1:], ".1%"),
        origins={row.label: origin_of(row) for row in comparison.models},
        look="dense",
    )
    plot = comparison_figures.heat(labels, list(table.index), table[labels].T.to_numpy(), "Accuracy by device")
    return pages.section(
        "Devices",
        pages.figure(plot, "accuracy of each model on the windows of each device"),
        f"<details><summary>the numbers</summary>{drawn}</details>",
        note="Accuracy on the windows of each device, seeds averaged; behind a device its number of windows. In "
        "brackets 95 % "
        f"intervals, the device's sessions resampled; where it has fewer than {FEWEST_SESSIONS} the exact bound, a "
        "session counting once: such a figure says little.",
    )


def _sources(comparison: Comparison, home: Path) -> str:
    runs = [(row.label, run) for row in comparison.models for run in row.sources]
    rows = [[run.folder.resolve().name, label, command_of(run)] for label, run in runs]
    targets = [pages.path_between(home, run.folder / "report.html") for _, run in runs]
    table = pages.linked(["run directory", "model", "command"], rows, targets, "prose")
    return pages.section(
        "Where each number comes from", table, note="Every figure follows from predictions.parquet of these runs."
    )
