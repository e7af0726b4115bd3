"""What pages, cards and terminal tables call states, metrics and data. Figures are written by `metrics.notation`."""

from __future__ import annotations

from conveyorguard.data.schema import Schema, State
from conveyorguard.metrics.scores import METRICS

SIMULATED = "Simulated recordings: a result here is not a result on AI Hub."


def state_title(state: State) -> str:
    """A state's name and its label in the plant's language."""
    return f"{state.name} {state.label}".strip()


def state_titles(schema: Schema) -> list[str]:
    """`state_title` of every state, from normal to worst."""
    return [state_title(state) for state in schema.states]


def metric_title(metric: str, schema: Schema) -> str:
    """A metric's title with the names of the first and the worst state."""
    return METRICS[metric].named(schema.state_names)


def warning_of(data: str) -> str:
    """What a page about a data set has to say before its figures are believed; empty for real recordings."""
    return SIMULATED if data == "simulated" else ""
