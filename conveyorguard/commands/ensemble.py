"""Combine finished runs."""

from __future__ import annotations

from conveyorguard.commands.arguments import new_folder, several_paths


def main(arguments: list[str]) -> None:
    """ensemble RUN RUN... [out=DIRECTORY]

    Combine finished runs over the same windows and split: soft voting, voting weighted by validation macro-F1, and
    stacking by a logistic regression cross-fitted on validation predictions by session. Each strategy becomes a run
    directory in `out` and is held against the member that is best on validation: helped, did not help, or not shown.
    """
    from conveyorguard.evaluation.ensemble import ensemble
    from conveyorguard.reporting.ensemble_page import write_ensemble
    from conveyorguard.reporting.terminal import print_ensemble

    paths, out = several_paths(arguments, "ensemble")
    folder = out or new_folder("ensemble")
    result = ensemble(paths, folder)
    print_ensemble(result)
    print(write_ensemble(result, folder))
