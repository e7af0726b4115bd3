"""The config: composing it, checking it, and reading the one that a run has saved."""

from conveyorguard.config.checks import sweep_problems

__all__ = ["sweep_problems"]
