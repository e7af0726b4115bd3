"""Recordings: read, built into a frame store, cut into windows, split."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conveyorguard.data.schema import Schema
    from conveyorguard.data.session import Recording, Session, Unreadable
    from conveyorguard.data.store import Store, open_store
    from conveyorguard.data.store_build import prepare
    from conveyorguard.data.windows import Windows, WindowSettings, split_windows

# imported on first use: a caller that needs only a schema should not wait for imports that build stores
PUBLIC = {
    "prepare": "store_build",
    "Schema": "schema",
    "Recording": "session",
    "Session": "session",
    "Unreadable": "session",
    "Store": "store",
    "open_store": "store",
    "Windows": "windows",
    "WindowSettings": "windows",
    "split_windows": "windows",
}
__all__ = [
    "Recording",
    "Schema",
    "Session",
    "Store",
    "Unreadable",
    "WindowSettings",
    "Windows",
    "open_store",
    "prepare",
    "split_windows",
]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)
