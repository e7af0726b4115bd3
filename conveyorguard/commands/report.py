"""Draw the page and the model card of a run again."""

from __future__ import annotations

from conveyorguard.commands.arguments import one_path


def main(arguments: list[str]) -> None:
    """report RUN

    Draw RUN/report.html and RUN/MODEL_CARD.md again. It reads the run directory alone: no data and no model are needed.
    """
    from conveyorguard.reporting.model_card import write_card
    from conveyorguard.reporting.report import write_report

    folder, _ = one_path(arguments, "report RUN")
    write_card(folder)
    print(write_report(folder))
