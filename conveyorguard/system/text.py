"""Text that is safe to print in messages and on pages."""

from __future__ import annotations

import os


def printable(name: str) -> str:
    """Return a name with unprintable characters escaped (`\\n`, `\\udcff`), so that it can be encoded as UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def without_path(error: BaseException) -> str:
    """Return the error's message without the absolute path in an OSError's own text: messages end up on pages."""
    return (
        os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error) or type(error).__name__
    )
