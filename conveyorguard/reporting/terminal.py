"""Tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from conveyorguard.data.schema import Schema


def class_table(metrics: dict[str, Any], part: str, schema: Schema) -> None:
    """Precision, recall and F1 of each state, and the run's figures below."""
    table = Table(title=f"{part}: {metrics['n']:,} windows")
    for name in ("state", "precision", "recall", "F1", "windows"):
        table.add_column(name, justify="left" if name == "state" else "right")
    for state, row in zip(schema.states, metrics["per_class"], strict=True):
        label = f"{state.name} {state.label}".strip()
        table.add_row(label, *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")), f"{row['support']:,}")
    screen = Console(highlight=False, soft_wrap=True)
    screen.print(table)
    worst = schema.states[-1].name
    recall = metrics["severe_recall"]
    screen.print(
        f"accuracy {metrics['accuracy']:.4f}   macro-F1 {metrics['macro_f1']:.4f}   "
        f"{worst} recall {'-' if recall is None else f'{recall:.4f}'}   "
        f"{worst} windows called {schema.states[0].name}: {metrics['severe_as_normal']:.0f}"
    )
