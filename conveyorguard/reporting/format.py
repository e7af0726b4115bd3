"""Names of states, metrics and data on pages, cards and in the terminal. `metrics.notation` writes figures."""

from __future__ import annotations

from conveyorguard.data.schema import Schema, State
from conveyorguard.metrics.scores import METRICS

SIMULATED = "Simulated recordings: a result here is not a result on AI Hub."


def state_title(state: State) -> str:
    """Return a state's name and its label in the plant's language."""
    return f"{state.name} {state.label}".strip()


def state_titles(schema: Schema) -> list[str]:
    """Return the title of every state, from normal to worst."""
    return [state_title(state) for state in schema.states]


def metric_title(metric: str, schema: Schema) -> str:
    """Return a metric's title with the names of the first and the worst state."""
    return METRICS[metric].named(schema.state_names)


def warning_of(data: str) -> str:
    """Return the warning that a page about this data set carries; empty for real recordings."""
    return SIMULATED if data == "simulated" else ""


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: `1 session`, `2 sessions`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
