"""Define the protocol of a follower of a folder, and its time limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from conveyorguard.data.session import Session

PATIENCE = 3.0  # s to wait for a second that is missing or incomplete
AT_A_TIME = 600  # s of a recording in one Session, to bound memory


class Follower(Protocol):
    """Yields each new second of a folder once, as soon as it is complete, in time order within a recording.

    A second is a row of the store, whatever the period of the data. One that is incomplete, or missing while later
    ones exist, is left out after `PATIENCE`.

    Attributes:
        notices: messages for the user; the caller empties the list.
        known: plain values for the next follower of the folder, so that recordings keep their names and time origins.
    """

    notices: list[str]
    known: dict[str, Any]

    def poll(self) -> Iterator[Session]:
        """Yield the seconds that have become complete since the last call."""

    def skip(self, name: str, second: int) -> None:
        """Skip the seconds of a recording before `second`; call it before the first `poll`."""
