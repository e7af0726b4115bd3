"""Draw the page and the model card of a run again."""

from __future__ import annotations

from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "report RUN",
    """\
Draw report.html and MODEL_CARD.md of a run again. It reads the run directory alone: neither the recordings nor the
model are needed.""",
    "report outputs/2026-01-31/10-00-00-fusion-both",
    paths="1",
    overrides=False,
)


def main(arguments: list[str]) -> None:
    """Draw the page and the card of a run and print the page's path."""
    from conveyorguard.reporting.model_card import write_card
    from conveyorguard.reporting.report import write_report

    folder = PARSER.parse_words(arguments).path
    write_card(folder)
    print(write_report(folder))
