"""Combine finished runs."""

from __future__ import annotations

from conveyorguard.commands.words.defaults import new_folder
from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "ensemble RUN RUN... [out=FOLDER]",
    """\
Combine finished runs and say whether it helped. The runs share windows and split. Strategies: soft voting, voting
weighted by validation macro-F1, and stacking by a logistic regression cross-fitted on the validation predictions by
device. predict FOLDER/weighted applies the weighted one to new recordings; its members stay where they are.

Each strategy becomes a run directory in FOLDER, by default a new one in outputs/, and is compared with the member that
is best on validation: helped, did not help, or not shown.""",
    """\
ensemble RUN RUN
ensemble RUN RUN RUN out=ensemble""",
    paths="+",
    settings=["out"],
    overrides=False,
)


def main(arguments: list[str]) -> None:
    """Combine runs, print the gain over the best member and write the page."""
    from conveyorguard.evaluation.ensemble import ensemble
    from conveyorguard.reporting.ensemble_page import write_ensemble
    from conveyorguard.reporting.terminal import print_ensemble

    words = PARSER.parse_words(arguments)
    folder = words.out or new_folder("ensemble")
    result = ensemble(words.paths, folder)
    print_ensemble(result)
    print(write_ensemble(result, folder))
