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

from conveyorguard.evaluation import seed_study
from conveyorguard.evaluation.bootstrap import FEWEST_SESSIONS
from conveyorguard.evaluation.compare import Comparison, Row
from conveyorguard.evaluation.ensemble import Ensemble
from conveyorguard.evaluation.metrics import METRICS
from conveyorguard.reporting import figures, pages
from conveyorguard.reporting.model_card import write_card
from conveyorguard.run import write_text

SHOWN = ("accuracy", "macro_f1", "severe_recall", "severe_sessions_missed", "severe_as_normal", "ordinal_error", "ece")
DRAWN = ("accuracy", "macro_f1", "severe_recall")


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
    return {
        "comparison": comparison.table,
        "differences": _all_differences(comparison),
        "devices": comparison.by_device(),
    }


def comparison_blocks(comparison: Comparison, home: Path) -> list[str]:
    """The sections of the page as html; `home` is the folder it is written to."""
    blocks = [
        _conclusion(comparison), _results(comparison), _intervals(comparison), _ablation(comparison), _cost(comparison),
        _safety(comparison), _confusions(comparison), _devices(comparison), _sources(comparison, home),
    ]  # fmt: skip
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
        table.add_column(METRICS[name].title, justify="right")
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
            table.add_row(row["arm"], row["reference"], METRICS[row["metric"]].title, _points(row), row["verdict"])
        screen.print(table)
    quoted = {row.cell for row in comparison.models} & set(seed_study.ABLATION)
    if len(quoted) > 1:
        told = ", ".join(f"{cell} {seed_study.ABLATION[cell]}" for cell in seed_study.ABLATION if cell in quoted)
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
    facts = [{"strategy": name, "best_member": result.best, "difference": d.value, "low": d.low, "high": d.high, "verdict": verdict}
             for name, d, verdict in result.against]  # fmt: skip
    return pd.DataFrame(facts)


def ensemble_block(result: Ensemble) -> str:
    """Did combining help? As html."""
    rows = [[r["strategy"], r["best_member"], _points(r), r["verdict"]] for _, r in ensemble_table(result).iterrows()]
    header = ["strategy", "minus the best member", "macro-F1, points [95 % interval]", "verdict"]
    note = ("The best member is the one with the highest validation macro-F1. Helped: the interval of the paired difference lies "
            "above zero; not shown: it includes zero.")  # fmt: skip
    return pages.section("Did combining help?", pages.table(header, rows), note=note)


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


def _results(comparison: Comparison) -> str:
    rows = []
    for _, row in comparison.table.iterrows():
        rows.append([
            ("shortcut: " if row["shortcut"] else "") + row["arm"],
            *((_with_interval(row, name) if METRICS[name].percent else _number(name, row[name])) + _sd(row, name) for name in SHOWN),
            _bracketed(row, "merged_macro_f1", ("_low", "_high")),
            row["seeds"],
        ])  # fmt: skip
    inner = [state.name for state in comparison.schema.states[1:-1]]
    header = ["model", *(METRICS[name].title for name in SHOWN), f"macro-F1, {' and '.join(inner)} merged", "seeds"]
    note = ("Ranked by macro-F1; the shortcuts, which know one obvious fact, below. In brackets 95 % intervals; after ± the sd over seeds, where there are several, which is another thing. The middle states "
            "merged, because the border between them is an arbitrary midpoint of the fault.")  # fmt: skip
    return pages.section("Results", pages.sortable(header, rows), note=note)


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
    """Differences; and, where the six cells are there, the seed study's figures beside."""
    differences = _all_differences(comparison)
    if not len(differences):
        return ""
    rows = [
        [r["arm"], r["reference"], METRICS[r["metric"]].title, _points(r), r["verdict"]]
        for _, r in differences.iterrows()
    ]
    table = pages.sortable(["arm", "minus", "metric", "points [95 % interval]", "verdict"], rows)
    parts = [table]
    cells = [row for row in comparison.models if row.cell in seed_study.ABLATION]
    if len({row.cell for row in cells}) > 1:
        accuracy = comparison.table.set_index("arm")["validation_accuracy"]
        quoted = [
            [row.label, f"{100 * accuracy[row.label]:.2f} %", f"{seed_study.ABLATION[row.cell]:.2f} %"] for row in cells
        ]
        plot = figures.bars([row.label for row in cells], [row.arm.interval("accuracy") for row in cells],
                            f"Accuracy on {comparison.part}")  # fmt: skip
        beside = pages.table(["arm", "validation accuracy here", "the seed study's, on its own data"], quoted)
        told = ("<p class='note'>The seed study ran the full arm for 30 epochs and the others for 10; here every arm has the same "
                "budget. Its figures are of other data: they are quoted, not compared.</p>")  # fmt: skip
        parts.append(pages.pair(pages.figure(plot, "accuracy of each cell of the ablation"), told + beside))
    note = ("Paired: both arms in the same replicates, seeds averaged inside each. Better or worse: the interval excludes zero; "
            "otherwise not shown.")  # fmt: skip
    return pages.section("Differences", *parts, note=note)


def _cost(comparison: Comparison) -> str:
    table = comparison.table[~comparison.table["shortcut"]]
    if not np.isfinite(table["fit_seconds"]).any():
        return ""
    rows = [[r["arm"], _fact(r["fit_seconds"], ".1f"), _fact(r["parameters"], ",.0f"), _fact(r["model_bytes"] / 1e6, ".2f"),
             _fact(r["latency_ms"], ".2f")] for _, r in table.iterrows()]  # fmt: skip
    plot = figures.cost_plot(list(table["arm"]), list(table["fit_seconds"]), list(table["accuracy"]))
    header = ["model", "training, s", "parameters", "file, MB", "one window, ms"]
    return pages.section("Cost", pages.pair(pages.figure(plot, "accuracy against training time"), pages.sortable(header, rows)),
                         note="Times are of the machines the runs were made on.")  # fmt: skip


def _fact(value: float, spec: str) -> str:
    return f"{value:{spec}}" if np.isfinite(value) else "–"


def _safety(comparison: Comparison) -> str:
    axes = {"accuracy": "accuracy", "macro_f1": "macro-F1", "severe_recall": "severe recall", "severe_precision": "severe precision",
            "qwk": "weighted kappa"}  # fmt: skip
    shown = comparison.models[:6]
    values = [[float(row.arm.by_seed(name).mean()) for name in axes] for row in shown]
    plot = figures.radar([row.label for row in shown], list(axes.values()), values)
    return pages.section("Profile", pages.figure(plot, "radar of five metrics of each model"),
                         note="" if len(shown) == len(comparison.models) else "The six best by macro-F1.")  # fmt: skip


def _confusions(comparison: Comparison) -> str:
    names = [f"{s.name} {s.label}".strip() for s in comparison.schema.states]
    plots = []
    for row in comparison.models[:6]:
        one = np.ones(len(comparison.resampling.sessions))
        matrix = np.mean([totals.weighted(one).confusion for totals in row.arm.totals], axis=0)
        plot = figures.confusion(np.rint(matrix).astype(int).tolist(), names, row.label)
        plots.append(pages.figure(plot, f"confusion matrix of {row.label}"))
    pairs = [pages.pair(*plots[i : i + 2]) for i in range(0, len(plots), 2)]
    return pages.section(
        "Confusion matrices", *pairs, note="Windows by actual and predicted state; the mean over seeds."
    )


def _devices(comparison: Comparison) -> str:
    table = comparison.by_device()
    rows = [[r["device"], r["kind"], r["windows"], r["sessions"], *(_bracketed(r, row.label, (", low", ", high")) for row in comparison.models)]
            for _, r in table.iterrows()]  # fmt: skip
    return pages.section("Devices", pages.sortable(["device", "kind", "windows", "sessions", *(r.label for r in comparison.models)], rows),
                         note="Accuracy on the windows of each device, seeds averaged. In brackets 95 % intervals, sessions of the device resampled; "
                              f"none where it has fewer than {FEWEST_SESSIONS} sessions here: such a figure says little.")  # fmt: skip


def _sources(comparison: Comparison, home: Path) -> str:
    runs = [(row.label, run) for row in comparison.models for run in row.sources]
    rows = [[run.folder.resolve().name, label, pages.base_names(run.provenance["command"])] for label, run in runs]
    targets = [pages.path_between(home, run.folder / "report.html") for _, run in runs]
    table = pages.linked(["run directory", "model", "command"], rows, targets).replace('"wide"', '"wide prose"', 1)
    return pages.section(
        "Where each number comes from", table, note="Every figure follows from predictions.parquet of these runs."
    )
