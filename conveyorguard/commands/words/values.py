"""Values of overrides that are paths, quoted so that Hydra's grammar takes any character in them."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase

PATH_KEYS = (
    "data.root",
    "data.reader.labels",
    "data.reader.thermal_folder",
    "reader.labels",
    "ckpt_path",
    "paths.*",
    "sweep.storage",
    "hydra.run.dir",
    "hydra.sweep.dir",
)
SWEPT = ("data.*", "reader.*", "ckpt_path")  # those of which a multirun may list several
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
FUNCTION = re.compile(r"\w+\(.*\)", re.DOTALL)  # of Hydra's grammar, as choice(a,b)


def bare_key(override: str) -> str:
    """Return the key of an override without the signs before it that add, force or delete."""
    return override.partition("=")[0].lstrip("+~")


def is_path_key(key: str) -> bool:
    """Return whether the value of a key is a path."""
    return any(fnmatchcase(key, pattern) for pattern in PATH_KEYS)


def quote_paths(words: list[str], multirun: bool = False) -> list[str]:
    """Return the words with the values of path keys quoted, `~` expanded; the other words are as they were.

    A value that is quoted already stays. In a multirun a comma separates several paths, unless the whole value names
    an existing one.
    """
    return [_quote_path(word, multirun) for word in words]


def _quote_path(word: str, multirun: bool) -> str:
    name, _, value = word.partition("=")
    key = bare_key(word)
    if not is_path_key(key) or value in ("", "null", "???"):
        return word
    if os.path.exists(os.path.expanduser(value)):
        return f"{name}={quoted(value)}"
    if QUOTED.fullmatch(value):
        return word
    if multirun and "," in value and any(fnmatchcase(key, pattern) for pattern in SWEPT):
        if FUNCTION.fullmatch(value) or "'" in value or '"' in value:
            return word
        return f"{name}={','.join(map(quoted, value.split(',')))}"
    return f"{name}={quoted(value)}"


def quoted(path: str) -> str:
    """Return a path as a quoted value of Hydra's grammar, `~` expanded."""
    from hydra.core.override_parser.types import Quote, QuotedString  # help does not wait for Hydra

    return QuotedString(text=os.path.expanduser(path), quote=Quote.single).with_quotes()
