"""Progress bars, drawn only in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
_suppressed = False  # whether bars are off, because one bar already covers the whole command


def console() -> Console:
    """Return a console on stderr, so that results on stdout can be piped."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def bar() -> Progress:
    """Return a progress bar that draws nothing when stderr is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    screen = console()
    remaining = (TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    hidden = _suppressed or not screen.is_terminal
    period = 3600  # s; the estimate of the time left needs a long memory, a study may not advance for minutes
    return Progress(*columns, *remaining, console=screen, disable=hidden, transient=True, speed_estimate_period=period)


@contextmanager
def bar_over_all() -> Iterator[Progress]:
    """Show one bar for a whole command; `bar` and `track` draw nothing inside the context."""
    with bar() as progress, no_bars():
        yield progress


@contextmanager
def no_bars() -> Iterator[None]:
    """Turn off `bar` and `track` inside the context."""
    global _suppressed
    before, _suppressed = _suppressed, True
    try:
        yield
    finally:
        _suppressed = before


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate over items with a progress bar labelled `what`."""
    with bar() as progress:
        task = progress.add_task(what, total=total, note="")
        for item in items:
            yield item
            progress.advance(task)
