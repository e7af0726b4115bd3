"""Tables in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from conveyorguard.data.schema import Schema
from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.notation import POINTS, Notation, notation_of
from conveyorguard.metrics.scores import METRICS
from conveyorguard.reporting.format import metric_title, state_titles

if TYPE_CHECKING:
    from conveyorguard.evaluation.comparison import Comparison
    from conveyorguard.evaluation.ensemble import Ensemble

COMPARED = ("accuracy", "macro_f1", "severe_recall")  # metrics of the table of a comparison
SPREAD = Notation(".1f", 100)  # a standard deviation of shares


def class_table(metrics: dict[str, Any], part: str, schema: Schema) -> None:
    """Print precision, recall and F1 of each state, and below them the main metrics."""
    table = Table(title=f"{part}: {metrics['n']:,} windows")
    for name in ("state", "precision", "recall", "F1", "windows"):
        table.add_column(name, justify="left" if name == "state" else "right")
    for title, row in zip(state_titles(schema), metrics["per_class"], strict=True):
        table.add_row(title, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), f"{row['support']:,}")
    screen = Console(highlight=False, soft_wrap=True)
    screen.print(table)
    recall = metrics["severe_recall"]
    screen.print(
        f"accuracy {metrics['accuracy']:.4f}   macro-F1 {metrics['macro_f1']:.4f}   "
        f"{metric_title('severe_recall', schema)} {'-' if recall is None else f'{recall:.4f}'}   "
        f"{metric_title('severe_as_normal', schema)}: {metrics['severe_as_normal']:.0f}"
    )


def print_comparison(comparison: Comparison) -> None:
    """Print the table of arms, their differences and the conclusion."""
    screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    screen.print(comparison.protocol)
    for note in comparison.notes:
        screen.print(f"note: {note}")
    screen.print(_arms_table(comparison))
    if len(comparison.differences):
        screen.print(_differences_table(comparison.differences, comparison.schema))
    screen.print(comparison.resampling.note)
    for sentence in comparison.conclusion():
        screen.print(sentence)


def print_ensemble(result: Ensemble) -> None:
    """Print the comparison, then each strategy against the best member."""
    print_comparison(result.comparison)
    for name, difference, verdict in result.against:
        points = POINTS.with_interval(difference)
        print(f"{name} minus the best member on validation ({result.best}): macro-F1 {points} points: {verdict}")


def _arms_table(comparison: Comparison) -> Table:
    table = Table(title=f"{comparison.part}: mean [95 % interval] ± sd over seeds", title_justify="left")
    table.add_column("arm")
    for name in COMPARED:
        table.add_column(metric_title(name, comparison.schema), justify="right")
    for name in ("sessions missed", "seeds"):
        table.add_column(name, justify="right")
    for row in comparison.table.to_dict("records"):
        missed = notation_of("severe_sessions_missed").number(row["severe_sessions_missed"])
        arm = ("(shortcut) " if row["shortcut"] else "") + row["arm"]
        table.add_row(arm, *(_with_spread(row, name) for name in COMPARED), missed, str(row["seeds"]))
    return table


def _with_spread(row: Mapping[Any, Any], name: str) -> str:
    """Write `94.1 % [91.0, 96.2] ± 0.4`; a single seed has no spread."""
    figure = notation_of(name).with_interval(Interval.of(row, name))
    spread = row[f"{name}_sd"]
    return f"{figure} ± {SPREAD.number(spread)}" if METRICS[name].percent and spread == spread else figure


def _differences_table(differences: pd.DataFrame, schema: Schema) -> Table:
    table = Table(title="differences in points, paired; verdicts after Holm's correction", title_justify="left")
    for name in ("arm", "minus", "metric", "difference [95 % interval]", "verdict"):
        table.add_column(name)
    for row in differences.to_dict("records"):
        points = POINTS.with_interval(Interval.of(row, "difference", "low", "high"))
        table.add_row(row["arm"], row["reference"], metric_title(row["metric"], schema), points, row["verdict"])
    return table
