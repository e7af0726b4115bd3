"""Figures of another study that a page quotes beside its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reference:
    """What another study reports of its own data; a page quotes it apart from its own figures and names the study.

    Args:
        study: what the study is called, e.g. "pilot study".
        sizes: unit -> how many of it the study had, e.g. {"sessions": 12}.
        state_shares: share of each state in its recorded time, in the order of the states.
        worst_sessions: sessions that contain the worst state ('contain'), or in which it is commonest ('dominated').
        correlations: quantity -> its correlation with the state.
        ablation: cell -> validation accuracy in percent.
        ablation_note: how the cells were trained.
        model: name of the model here that the study's is.
    """

    study: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    state_shares: Sequence[float] = ()
    worst_sessions: Mapping[str, int] = field(default_factory=dict)
    correlations: Mapping[str, float] = field(default_factory=dict)
    ablation: Mapping[str, float] = field(default_factory=dict)
    ablation_note: str = ""
    model: str = ""

    @property
    def heading(self) -> str:
        """Return the heading of the study's figures."""
        return f"{self.study[:1].upper()}{self.study[1:]}, on its own data"

    @property
    def column(self) -> str:
        """Return the heading of a column of the study's figures."""
        return f"the {self.study}'s, on its own data"
