"""The documents: short where they shall be, and linked to what exists."""

import ast
import re
from importlib import import_module

import pytest

from tests.docs.blocks import DOCUMENTS, FENCE, blocks
from tests.support.places import ROOT

LINKED = [*DOCUMENTS, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "tests/README.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
MOST_WORDS = 900
LANGUAGES = {"bash", "python", "yaml", ""}  # those of test_commands.py, and drawings


def anchors(path):
    """Return the anchors of a document's headings, as they are made of their words."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", LINKED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_of_a_document_lead_to_existing_files_and_headings(document):
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if not re.match(r"https?:", target):
            name, _, anchor = target.partition("#")
            path = (document.parent / name).resolve() if name else document
            assert path.exists(), f"{document}: {target}"
            assert not anchor or anchor in anchors(path), f"{document}: {target}"


def test_every_document_is_reached_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = {(ROOT / target).resolve() for target in LINK.findall(readme)}
    assert not set(DOCUMENTS) - targets - {ROOT / "README.md"}


def test_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < MOST_WORDS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_blocks_are_of_languages_that_are_run(document):
    languages = {match[1] for match in FENCE.finditer(document.read_text(encoding="utf-8"))}
    assert languages <= LANGUAGES, f"{languages - LANGUAGES}: blocks of these are neither run nor composed"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_that_a_document_imports_are_public(document):
    for block in blocks(document, "python"):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("conveyorguard"):
                public = import_module(node.module).__all__
                assert not {alias.name for alias in node.names} - set(public), f"{document}: {node.module}"
