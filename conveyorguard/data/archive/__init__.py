"""Recordings as archives in the layout of AI Hub #71802: three files a frame, zipped or in folders."""

from conveyorguard.data.archive.reader import sessions

__all__ = ["sessions"]
