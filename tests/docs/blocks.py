"""The fenced blocks of README.md and docs/, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.places import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int  # of its first line in the document
    language: str
    text: str

    @property
    def place(self) -> str:
        """The document and the line, for messages and the names of tests."""
        return f"{self.document.relative_to(ROOT).as_posix()}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a bash block; `variables` are those set before it."""

    place: str
    variables: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command as it is typed."""
        return shlex.join([*self.variables, *self.words])


def blocks(document: Path, language: str) -> list[Block]:
    """Return the blocks of one language in a document."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(document, text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def commands(document: Path) -> list[Command]:
    """Return the commands of a document's bash blocks, in order; A && B is two."""
    return [
        Command(f"{block.document.relative_to(ROOT).as_posix()}:{block.line + number}", variables, words)
        for block in blocks(document, "bash")
        for number, line in enumerate(block.text.splitlines())
        for variables, words in _split(line)
    ]


def _split(line: str) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield variables and words of each command of a line, without its comment."""
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if word != "&&":
            words.append(word)
        elif words:
            first = next(i for i, each in enumerate(words) if not re.match(r"[A-Z_]+=", each))
            yield tuple(words[:first]), tuple(words[first:])
            words = []
