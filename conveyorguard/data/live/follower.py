"""The protocol of what follows a folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from conveyorguard.data.session import Session

PATIENCE = 3.0  # s that a second which is missing or not whole is waited for
AT_A_TIME = 600  # s of a recording given at once, where it is long already


class Follower(Protocol):
    """What is new in a folder: each second once, when it is whole, in the order of time.

    A second that is not whole, or is missing while later ones are there, is waited for, and after `PATIENCE` left out.

    notices: what a person should see; whoever reads them empties the list.
    known: plain values for the next follower of the folder, so that recordings keep their names and clocks.
    """

    notices: list[str]
    known: dict[str, Any]

    def poll(self) -> Iterator[Session]:
        """Seconds that have become whole since the last call."""

    def skip(self, name: str, second: int) -> None:
        """Of a recording, only seconds from this one on are wanted."""
