"""Follow recordings that are still being written, and yield their new seconds."""

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
    """Return the follower that suits the reader of a folder.

    Args:
        reader: the instantiated `data.reader`; AI Hub frame files and tables can be followed.
        root: folder into which the collector writes.
        schema: the schema of the data set.
        known: `Follower.known` of an earlier follower of this folder, or empty.

    Raises:
        ConfigError: `root` is not a folder, or the reader cannot follow one.
    """
    if not Path(root).is_dir():
        raise ConfigError(
            f"data.root={root}: no such folder. Point --watch at the folder into which the collector writes."
        )
    function = getattr(reader, "func", reader)
    if function is archive.sessions:
        return FrameFiles(Path(root), schema, known)
    if function is table.sessions:
        options = {**getattr(reader, "keywords", {}), "incomplete": True, "split_every": None}
        return Tables(Path(root), schema, Layout.of(options))
    raise ConfigError(
        f"--watch cannot follow {function.__module__}, only data=aihub and tables. Run predict without --watch instead."
    )
