"""Interruptions: Ctrl-C and SIGTERM end a command as an outcome of its own, with the exit status 128 + signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


class Interrupted(BaseException):
    """The process was asked to end.

    It is no KeyboardInterrupt, because Lightning and others turn that into an exit status of their own choice.

    Attributes:
        status: exit status of the command, as shells give it: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, number: int):
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.status = 128 + number


def interrupt(number: int, frame: Any) -> None:
    """Handle a signal by raising `Interrupted`; a second one ends the process at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


def pass_over(number: int, frame: Any) -> None:
    """Handle a signal by nothing, so that the handlers after this one decide."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` in the main thread on Ctrl-C and SIGTERM, unless another handler is set or they are ignored.

    A shell makes background processes ignore Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in previous.items():
        if handler in DEFAULTS:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
