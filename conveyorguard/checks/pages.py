"""Checks that a run's model card and page show the content of its other files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from conveyorguard.checks.subject import Failed, NotChecked, Subject
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from conveyorguard.runs.provenance import code_hash


def card_matches_files(subject: Subject) -> str:
    """Write MODEL_CARD.md again and compare its lines."""
    return _drawn_again(subject, "MODEL_CARD.md", write_card, card_lines)


def page_matches_files(subject: Subject) -> str:
    """Write report.html again and compare its text; plots are left out, because the tables hold their numbers too."""
    return _drawn_again(subject, "report.html", write_report, page_lines)


def card_lines(text: str) -> list[str]:
    """Return the lines of a card without its title, which names the directory in which it was written."""
    return [line for line in text.splitlines() if line and not line.startswith("# ")]


def page_lines(text: str) -> list[str]:
    """Return the pieces of a page's text, without plots and without the header, which names the directory."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", text.partition("<main>")[2], flags=re.DOTALL)
    return [piece for tag in re.split(r"<[^>]*>", body) if (piece := tag.strip())]


def _drawn_again(subject: Subject, name: str, draw: Callable[[Path], Path], lines: Callable[[str], list[str]]) -> str:
    """Write a file of the run again, in a temporary directory of links to the other files, and compare.

    Args:
        subject: the run.
        name: name of the file.
        draw: writes the file into a run directory.
        lines: the parts of the file's text that are compared.
    """
    folder, remedy = subject.run.folder.resolve(), "write it with: python -m conveyorguard report RUN"
    if not (folder / name).is_file():
        raise NotChecked(f"there is no {name}; {remedy}")
    if set(subject.run.metrics) != set(subject.parts):  # reported by other checks
        raise NotChecked("metrics.json and predictions.parquet have different parts")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / folder.name
        copy.mkdir()
        for path in folder.iterdir():
            if path.name != name:
                (copy / path.name).symlink_to(path)
        wanted = lines(draw(copy).read_text(encoding="utf-8"))
    actual = lines((folder / name).read_text(encoding="utf-8", errors="replace"))
    if wanted == actual:
        return f"{len(actual)} lines equal those written again"
    if subject.run.provenance.get("code") != code_hash() and _words(wanted) != _words(actual):
        raise NotChecked(f"another version of ConveyorGuard, with other wording, wrote {name}; {remedy}")
    i = next((i for i, pair in enumerate(zip(wanted, actual, strict=False)) if pair[0] != pair[1]), -1)
    expected_line, line = (wanted[i], actual[i]) if i >= 0 else (f"{len(wanted)} lines", f"{len(actual)}")
    raise Failed(f"'{expected_line[:200]}' in {name}", f"'{line[:200]}'; {remedy}")


def _words(lines: list[str]) -> list[str]:
    """Return the lines with every number replaced by 0."""
    return [re.sub(r"[\d.,]+", "0", line) for line in lines]
