"""Progress bars: shown in a terminal, quiet elsewhere."""

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
_over_all = False  # whether a bar over everything is shown, beside which others would only confuse


def console() -> Console:
    """The terminal, on the error stream so that results on the output stream can be piped."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def bar() -> Progress:
    """A bar that draws nothing when the error stream is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    screen = console()
    more = (TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    quiet = _over_all or not screen.is_terminal
    period = 3600  # s that the time left is reckoned from: a study may not advance for minutes
    return Progress(*columns, *more, console=screen, disable=quiet, transient=True, speed_estimate_period=period)


@contextmanager
def bar_over_all() -> Iterator[Progress]:
    """A bar that is the only one: while it is shown, `bar` and `track` of this process draw nothing."""
    with bar() as progress, no_bars():
        yield progress


@contextmanager
def no_bars() -> Iterator[None]:
    """`bar` and `track` of this process draw nothing."""
    global _over_all
    before, _over_all = _over_all, True
    try:
        yield
    finally:
        _over_all = before


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar."""
    with bar() as progress:
        task = progress.add_task(what, total=total, note="")
        for item in items:
            yield item
            progress.advance(task)
