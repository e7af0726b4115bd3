"""Suggestions for a mistyped verb, option, config key or choice."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

ALIKE = 0.6  # least ratio of difflib at which a name is suggested


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return "; did you mean NAME?" for the name closest to a word, or nothing where none is close."""
    close = get_close_matches(word, list(names), n=1, cutoff=ALIKE)
    return f"; did you mean {close[0]}?" if close else ""


def did_you_mean_key(key: str, keys: Iterable[str]) -> str:
    """Return "; did you mean KEY or KEY?" for the dotted keys closest to one, or nothing where none is close.

    The last parts are compared, so that `epochs` suggests `trainer.max_epochs`.
    """
    ranked = sorted((-_likeness(key, known), len(known), known) for known in keys)
    close = [known for likeness, _, known in ranked if -likeness >= max(ALIKE, -ranked[0][0] - 0.05)]
    return f"; did you mean {' or '.join(close[:3])}?" if close else ""


def _likeness(key: str, known: str) -> float:
    """Return the similarity of the last parts of two dotted keys, 0 to 1, and a little more within the same block."""
    (block, _, name), (known_block, _, known_name) = key.rpartition("."), known.rpartition(".")
    return SequenceMatcher(None, name, known_name).ratio() + 0.03 * (block == known_block)
