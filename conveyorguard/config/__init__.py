"""The config: composing it, checking it, and reading the one of a saved run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conveyorguard.config.checks import sweep_problems

__all__ = ["sweep_problems"]


def __getattr__(name: str) -> Any:
    """Import `sweep_problems`, which saved configs name, on first use, so that help does not wait for pandas."""
    if name in __all__:
        from conveyorguard.config import checks

        return getattr(checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
