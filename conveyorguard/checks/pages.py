"""Checks that what a person reads of a run, its model card and its page, says what its files say."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from conveyorguard.checks.subject import Failed, NotChecked, Subject
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from conveyorguard.runs.provenance import code_hash


def card_is_of_the_run(subject: Subject) -> str:
    return _drawn_again(subject, "MODEL_CARD.md", write_card, card_lines)


def page_is_of_the_run(subject: Subject) -> str:
    """Its text; what the plots hold is written by a library, and in the tables of the page too."""
    return _drawn_again(subject, "report.html", write_report, page_lines)


def card_lines(text: str) -> list[str]:
    """The lines of a card but for the title, which is the name that the directory had."""
    return [line for line in text.splitlines() if line and not line.startswith("# ")]


def page_lines(text: str) -> list[str]:
    """The text of a page piece by piece, without plots, and without the header, where the directory's name stands."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", text.partition("<main>")[2], flags=re.DOTALL)
    return [piece for tag in re.split(r"<[^>]*>", body) if (piece := tag.strip())]


def _drawn_again(subject: Subject, name: str, draw: Callable[[Path], Path], lines: Callable[[str], list[str]]) -> str:
    """Draw a file of the run anew, in a directory of links to the others, and compare."""
    folder, remedy = subject.run.folder.resolve(), "python -m conveyorguard report RUN draws it"
    if not (folder / name).is_file():
        raise NotChecked(f"there is no {name}; {remedy}")
    if set(subject.run.metrics) != set(subject.parts):  # predictions_are_of_the_split and metrics_follow tell
        raise NotChecked("metrics.json and predictions.parquet are of other parts")
    with tempfile.TemporaryDirectory() as place:
        beside = Path(place) / folder.name
        beside.mkdir()
        for path in folder.iterdir():
            if path.name != name:
                (beside / path.name).symlink_to(path)
        wanted = lines(draw(beside).read_text(encoding="utf-8"))
    found = lines((folder / name).read_text(encoding="utf-8", errors="replace"))
    if wanted == found:
        return f"{len(found)} lines, drawn again from the files of the run"
    if subject.run.provenance.get("code") != code_hash() and _words(wanted) != _words(found):
        raise NotChecked(f"{name} has other words than this version of ConveyorGuard writes; {remedy} again")
    i = next((i for i, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), -1)
    want, have = (wanted[i], found[i]) if i >= 0 else (f"{len(wanted)} lines", f"{len(found)}")
    raise Failed(f"'{want[:200]}' in {name}", f"'{have[:200]}'; {remedy} again")


def _words(lines: list[str]) -> list[str]:
    """The lines without their figures."""
    return [re.sub(r"[\d.,]+", "0", line) for line in lines]
