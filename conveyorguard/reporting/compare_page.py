"""The page, the csv tables and the terminal's table of a comparison."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from conveyorguard.data.schema import Schema
from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.evaluation.compare import Comparison, Row
from conveyorguard.evaluation.ensemble import Ensemble
from conveyorguard.metrics.bootstrap import FEWEST_SESSIONS
from conveyorguard.metrics.scores import METRICS
from conveyorguard.reporting import figures, pages
from conveyorguard.reporting.model_card import write_card
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_text
from experiments.stages import seed_figures

SHOWN = ("accuracy", "macro_f1", "severe_recall", "severe_sessions_missed", "severe_as_normal", "ordinal_error", "ece")
DRAWN = ("accuracy", "macro_f1", "severe_recall")
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
        "differences": _all_differences(comparison),
        "devices": comparison.by_device(),
    }


def comparison_blocks(comparison: Comparison, home: Path) -> list[str]:
    """The sections of the page as html; `home` is the folder it is written to."""
    blocks = [
        _conclusion(comparison),
        _results(comparison, home),
        _intervals(comparison),
        _cost(comparison),
        _ablation(comparison),
        _differences(comparison),
        _safety(comparison),
        _confusions(comparison),
        _devices(comparison),
        _sources(comparison, home),
    ]
    return [block for block in blocks if block]


def print_comparison(comparison: Comparison) -> None:
    """The main table, the differences and the conclusion in the terminal."""
    screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    screen.print(comparison.protocol)
    for note in comparison.notes:
        screen.print(f"note: {note}")
    table = Table(title=f"{comparison.part}: mean [95 % interval] ± sd over seeds", title_justify="left")
    table.add_column("arm")
    for name in DRAWN:
        table.add_column(METRICS[name].named(comparison.schema.state_names), justify="right")
    for name in ("sessions missed", "seeds"):
        table.add_column(name, justify="right")
    for _, row in comparison.table.iterrows():
        cells = [_with_interval(row, name) + _sd(row, name) for name in DRAWN]
        missed = "–" if np.isnan(row["severe_sessions_missed"]) else f"{row['severe_sessions_missed']:.3g}"
        table.add_row(("(shortcut) " if row["shortcut"] else "") + row["arm"], *cells, missed, str(row["seeds"]))
    screen.print(table)
    differences = _all_differences(comparison)
    if len(differences):
        table = Table(title="differences in points, paired", title_justify="left")
        for name in ("arm", "minus", "metric", "difference [95 % interval]", "verdict"):
            table.add_column(name)
        for _, row in differences.iterrows():
            table.add_row(
                row["arm"],
                row["reference"],
                METRICS[row["metric"]].named(comparison.schema.state_names),
                _points(row),
                row["verdict"],
            )
        screen.print(table)
    quoted = {row.cell for row in comparison.models} & set(seed_figures.ABLATION)
    if len(quoted) > 1:
        told = ", ".join(f"{cell} {seed_figures.ABLATION[cell]}" for cell in seed_figures.ABLATION if cell in quoted)
        screen.print(f"the seed study, on its own data, validation accuracy in percent: {told}")
    screen.print(comparison.resampling.note)
    for sentence in comparison.conclusion():
        screen.print(sentence)


def write_ensemble(result: Ensemble, folder: Path) -> Path:
    """ensemble.html: each strategy against the best member, then the whole comparison; ensemble.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "ensemble.csv", ensemble_table(result).to_csv(index=False))
    for strategy in result.folders:
        write_card(strategy)
    return write_comparison(result.comparison, folder, ensemble_block(result), "ensemble")


def ensemble_table(result: Ensemble) -> pd.DataFrame:
    """A row a strategy: strategy, best_member, difference of macro-F1, low, high, verdict."""
    facts = [
        {
            "strategy": name,
            "best_member": result.best,
            "difference": d.value,
            "low": d.low,
            "high": d.high,
            "verdict": verdict,
        }
        for name, d, verdict in result.against
    ]
    return pd.DataFrame(facts)


def ensemble_block(result: Ensemble) -> str:
    """Did combining help? As html."""
    found = ensemble_table(result)
    frame = pd.DataFrame(
        {
            "strategy": found["strategy"],
            "minus the best member": found["best_member"],
            "macro-F1, points": 100 * found["difference"],
            "macro-F1, points low": 100 * found["low"],
            "macro-F1, points high": 100 * found["high"],
            "verdict": found["verdict"],
        }
    )
    note = (
        "The best member is the one with the highest validation macro-F1. Helped: the interval of the paired "
        "difference lies "
        "above zero; not shown: it includes zero. In brackets 95 % intervals."
    )
    how = (
        "<p class='note'>soft: the mean of the members' probabilities. weighted: each member weighs as much as its "
        "validation macro-F1. stacking: a "
        "logistic regression on the members' log-probabilities, fitted on validation alone; its own validation "
        "figures are cross-fitted by session.</p>"
    )
    return pages.section("Did combining help?", pages.framed(frame, {"macro-F1, points": "+.1f"}), how, note=note)


def print_ensemble(result: Ensemble) -> None:
    """The comparison, then each strategy against the best member."""
    print_comparison(result.comparison)
    for name, d, verdict in result.against:
        points = _points({"difference": d.value, "low": d.low, "high": d.high})
        print(f"{name} minus the best member on validation ({result.best}): macro-F1 {points} points: {verdict}")


def _references(comparison: Comparison) -> list[Row]:
    """What differences are taken to: sensor-only, the arm chosen on validation."""
    found = [row for row in (comparison.sensor_only, comparison.chosen) if row is not None]
    return [row for i, row in enumerate(found) if row not in found[:i]]


def _all_differences(comparison: Comparison) -> pd.DataFrame:
    tables = [comparison.differences(reference) for reference in _references(comparison)]
    return pd.concat(tables, ignore_index=True)


def _number(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{100 * value:.1f} %" if METRICS[name].percent else f"{value:.3g}"


def _with_interval(row: pd.Series, name: str) -> str:
    """`94.1 % [91.0, 96.2]`."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if not np.isfinite(low):  # too few sessions
        return _number(name, value)
    scale, digits = (100, ".1f") if METRICS[name].percent else (1, ".3g")
    return f"{_number(name, value)} [{scale * low:{digits}}, {scale * high:{digits}}]"


def _bracketed(row: pd.Series, name: str, ends: tuple[str, str]) -> str:
    """A share with its interval, if there is one: `94.1 % [91.0, 96.2]`."""
    value, low, high = 100 * row[name], 100 * row[name + ends[0]], 100 * row[name + ends[1]]
    if np.isnan(value):
        return "–"
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]" if np.isfinite(low) else f"{value:.1f} %"


def _sd(row: pd.Series, name: str) -> str:
    sd = row[f"{name}_sd"]
    return f" ± {100 * sd:.1f}" if np.isfinite(sd) and METRICS[name].percent else ""


def _points(row: Mapping[str, Any] | pd.Series) -> str:
    if not np.isfinite(row["low"]):
        return f"{100 * row['difference']:+.1f}"
    return f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"


def _conclusion(comparison: Comparison) -> str:
    items = "".join(f"<li>{pages.escape(sentence)}</li>" for sentence in [*comparison.conclusion(), *comparison.notes])
    note = f"Written from the numbers below by fixed rules. {comparison.resampling.note}"
    if comparison.protocol.startswith("simulated"):
        note += " Simulated recordings: a result here is not a result on AI Hub."
    return pages.section("Conclusion", f"<ul>{items}</ul>", note=note)


def _results(comparison: Comparison, home: Path) -> str:
    """Every arm in one table: figures with intervals, cost, and what they come from."""
    schema, table = comparison.schema, comparison.table.copy()
    table["megabytes"] = table["model_bytes"] / 1e6
    columns, formats = {"model": table["arm"].where(~table["shortcut"], "shortcut: " + table["arm"])}, {}
    for name in SHOWN:
        title = metric_title(name, schema)
        columns[title], formats[title] = table[name], ".1%" if METRICS[name].percent else ".3g"
        if METRICS[name].percent:
            columns |= {f"{title} {side}": table[f"{name}_{side}"] for side in ("low", "high")}
    if len(schema.states) > 3:
        inner = " + ".join(state.name for state in schema.states[1:-1])
        for name in ("accuracy", "macro_f1"):
            title = f"{METRICS[name].title}, {inner} merged"
            columns[title], formats[title] = table[f"merged_{name}"], ".1%"
            columns |= {f"{title} {side}": table[f"merged_{name}_{side}"] for side in ("low", "high")}
    for name, title in COSTS.items():
        columns[title], formats[title] = (
            table[name],
            ",.0f" if name == "parameters" else ",.1f",
        )
    if table["seeds"].max() > 1:
        columns |= {"macro-F1, sd over seeds": table["macro_f1_sd"], "seeds": table["seeds"]}
        formats["macro-F1, sd over seeds"] = ".2%"
    origins = {row.label: origin_of(row) for row in comparison.models}
    links = {row.label: target for row in comparison.models if (target := _page_of(row, home))}
    worst = len(schema.states) - 1
    own = comparison.windows[comparison.windows["y_true"] == worst]
    note = (
        "Ranked by macro-F1; the shortcuts, which know one obvious fact, below. In brackets 95 % intervals. "
        f"{_state_name(schema, worst)}: {len(own):,} "
        f"windows in {own['session'].nunique()} sessions. Merged: the states between the first and the last taken "
        "as one, because the border between "
        "them is an arbitrary midpoint of the fault. Times are of the machine a run was made on. A row tells its "
        "run directory and command where the "
        "mouse rests on it; they are listed at the end of the page."
    )
    return pages.section("Results", pages.framed(pd.DataFrame(columns), formats, links, origins, "dense"), note=note)


def metric_title(name: str, schema: Schema) -> str:
    """What a page calls a metric, with the names of the worst and the first state."""
    return METRICS[name].named([_state_name(schema, k) for k in range(len(schema.states))])


def _state_name(schema: Schema, k: int) -> str:
    return f"{schema.states[k].name} {schema.states[k].label}".strip()


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
    ranked = [*comparison.models, *(row for row in comparison.rows if row.shortcut)]
    for name in ("accuracy", "macro_f1"):
        plot = figures.interval_plot(
            [row.label for row in ranked],
            [row.arm.interval(name) for row in ranked],
            [list(row.arm.by_seed(name)) for row in ranked],
            METRICS[name].title,
        )
        plots.append(pages.figure(plot, f"{METRICS[name].title} of each model with its interval"))
    return pages.section(
        "Intervals", pages.pair(*plots), note="Bar: 95 % interval; large dot: mean; small dots: single seeds."
    )


def _ablation(comparison: Comparison) -> str:
    """The cells of each model beside one another; and the seed study's figures beside those of its network, if it is
    there."""
    families = comparison.ablations
    if not families:
        return ""
    cells = [*CELLS.values(), *FURTHER_CELLS.values()]
    firsts = [next(iter(family.values())) for family in families]
    models = [row.model for row in firsts]
    names = [row.model if models.count(row.model) == 1 else row.label for row in firsts]
    bars = {
        name: {cell: row.arm.interval("accuracy") for cell, row in family.items()}
        for name, family in zip(names, families, strict=True)
    }
    plot = figures.grouped_bars(cells, bars, f"Accuracy on {comparison.part}")
    accuracy = comparison.table.set_index("arm")["validation_accuracy"]
    networks = [family for family in families if next(iter(family.values())).model == "cnn_transformer"]
    quoted = [
        [row.label, f"{100 * accuracy[row.label]:.2f} %", f"{seed_figures.ABLATION[cell]:.2f} %"]
        for family in (networks or families)[:1]
        for cell in cells
        if cell in seed_figures.ABLATION and (row := family.get(cell))
    ]
    told = (
        "<p class='note'>The seed study ran the full arm for 30 epochs and the others for 10; here every arm has "
        "the same "
        "budget. Its figures are of other data: they are quoted, not compared.</p>"
    )
    beside = told + pages.table(["arm", "validation accuracy here", "the seed study's, on its own data"], quoted)
    return pages.section(
        "Ablation",
        pages.figure(plot, "accuracy of each cell of the ablation"),
        beside,
        note="What each input is worth: one model with the same settings, given other inputs.",
    )


def _differences(comparison: Comparison) -> str:
    differences = _all_differences(comparison)
    if not len(differences):
        return ""
    frame = pd.DataFrame(
        {
            "arm": differences["arm"],
            "minus": differences["reference"],
            "metric": [metric_title(name, comparison.schema) for name in differences["metric"]],
            "points": 100 * differences["difference"],
            "points low": 100 * differences["low"],
            "points high": 100 * differences["high"],
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
    plot = figures.cost_plot(list(table["arm"]), list(table["fit_seconds"]), list(table["accuracy"]))
    return pages.section(
        "Accuracy against training time",
        pages.figure(plot, "accuracy of each model over its training time"),
        note="Times are of the machines the runs were made on. The other models' names show where the mouse rests.",
    )


def _safety(comparison: Comparison) -> str:
    names = ("accuracy", "macro_f1", "severe_recall", "severe_precision", "qwk")
    axes = {name: metric_title(name, comparison.schema) for name in names}
    shown = comparison.models[:IN_FULL]
    values = [[float(row.arm.by_seed(name).mean()) for name in axes] for row in shown]
    plot = figures.radar([row.label for row in shown], list(axes.values()), values)
    return pages.section("Profile", pages.figure(plot, "radar of five metrics of each model"), note=_which(comparison))


def _which(comparison: Comparison) -> str:
    """Which arms are drawn one by one."""
    return "" if len(comparison.models) <= IN_FULL else f"The {IN_FULL} best by macro-F1."


def _confusions(comparison: Comparison) -> str:
    names = [_state_name(comparison.schema, k) for k in range(len(comparison.schema.states))]
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
    for device, row in table.iterrows():
        title = f"{device} ({row['windows']})"
        columns |= {
            f"{title}{end}": [row[f"{label}{bound}"] for label in labels]
            for end, bound in (("", ""), (" low", "_low"), (" high", "_high"))
        }
    frame = pd.DataFrame(columns)
    drawn = pages.framed(
        frame,
        dict.fromkeys(frame.columns[1:], ".1%"),
        origins={row.label: origin_of(row) for row in comparison.models},
        look="dense",
    )
    plot = figures.heat(labels, list(table.index), table[labels].T.to_numpy(), "Accuracy by device")
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
    table = pages.linked(["run directory", "model", "command"], rows, targets).replace('"wide"', '"wide prose"', 1)
    return pages.section(
        "Where each number comes from", table, note="Every figure follows from predictions.parquet of these runs."
    )
