"""Text that ends up in messages and on pages."""

from __future__ import annotations

import os


def printable(name: str) -> str:
    """A name as it may be shown and written as UTF-8: what is no character of a text is written by its number."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def without_path(error: BaseException) -> str:
    """The error in words; those of the system name the whole path, and messages end up on pages."""
    return (
        os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error) or type(error).__name__
    )
