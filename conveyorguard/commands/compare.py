"""Put runs side by side."""

from __future__ import annotations

from conveyorguard.commands.words.defaults import new_folder
from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "compare RUN... | MULTIRUN [out=FOLDER]",
    """\
Put runs side by side, or all runs of a multirun. Every metric comes with its interval; then paired differences,
shortcut baselines, seeds averaged and folds pooled.

Writes comparison.html and its tables as csv into FOLDER: by default the multirun's directory, or a new one in
outputs/. Runs over different windows or splits are refused.""",
    """\
compare multirun/2026-01-31/10-00-00
compare RUN RUN RUN out=comparison""",
    paths="+",
    settings=["out"],
    overrides=False,
)


def main(arguments: list[str]) -> None:
    """Compare runs, print the comparison and write its page."""
    from conveyorguard.evaluation.compare import compare
    from conveyorguard.reporting.compare_page import write_comparison
    from conveyorguard.reporting.terminal import print_comparison

    words = PARSER.parse_words(arguments)
    comparison = compare(words.paths)
    multirun = len(words.paths) == 1 and not (words.path / "config.yaml").exists()
    print_comparison(comparison)
    print(write_comparison(comparison, words.out or (words.path if multirun else new_folder("comparison"))))
