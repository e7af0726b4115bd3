"""Simulated recordings with the statistics of AI Hub #71802."""

from conveyorguard.data.simulate.generate import sessions

__all__ = ["sessions"]
