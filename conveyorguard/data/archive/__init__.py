"""Reader of recordings in the layout of AI Hub #71802: three files per second, in zips or folders."""

from conveyorguard.data.archive.reader import sessions

__all__ = ["sessions"]
