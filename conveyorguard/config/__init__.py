"""The config: composing it, checking it, and reading the one that a run has saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conveyorguard.config.checks import sweep_problems

__all__ = ["sweep_problems"]


def __getattr__(name: str) -> Any:
    """Import `sweep_problems`, which saved configs name, when it is asked for: help need not wait for pandas."""
    if name in __all__:
        from conveyorguard.config import checks

        return getattr(checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
