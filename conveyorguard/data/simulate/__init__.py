"""Reader of simulated recordings with the published statistics of AI Hub #71802."""

from conveyorguard.data.simulate.generate import sessions

__all__ = ["sessions"]
