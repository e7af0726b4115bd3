"""Recordings that are still being written: what is new in a folder, second by second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.live.follower import Follower
from conveyorguard.data.live.frame_files import FrameFiles
from conveyorguard.data.live.tables import Tables
from conveyorguard.data.schema import Schema
from conveyorguard.data.table import reader as table
from conveyorguard.data.table.layout import Layout
from conveyorguard.errors import ConfigError

__all__ = ["Follower", "follow"]


def follow(reader: Any, root: str | Path, schema: Schema, known: dict[str, Any]) -> Follower:
    """The follower of a folder.

    Args:
        reader: of `data.reader`; AI Hub frame files and tables can be followed.
        known: of an earlier follower, or empty.

    Raises:
        ConfigError: the reader is of another format, or there is no such folder.
    """
    if not Path(root).is_dir():
        raise ConfigError(f"data.root={root}: no such folder; --watch follows a folder into which a collector writes")
    function = getattr(reader, "func", reader)
    if function is archive.sessions:
        return FrameFiles(Path(root), schema, known)
    if function is table.sessions:
        options = {**getattr(reader, "keywords", {}), "incomplete": True, "split_every": None}
        return Tables(Path(root), schema, Layout.of(options))
    raise ConfigError(
        f"--watch follows data=aihub and tables, not {function.__module__}; run predict without it, as often as needed"
    )
