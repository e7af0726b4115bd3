"""Describe a data set in a page."""

from __future__ import annotations

from pathlib import Path

from conveyorguard.commands.arguments import new_folder


def main(arguments: list[str]) -> None:
    """eda [overrides] [out=DIRECTORY]

    Describe the data of a config in a page, 00_eda.html, with its tables as csv: sizes, balance of the states,
    correlations, distributions, one session with a fault, camera, environment, quality, and what follows from them by
    fixed rules.
    """
    from conveyorguard.reporting.eda_page import write_eda
    from experiments.stages.study import StagedStudy

    out = next((Path(line[4:]) for line in arguments if line.startswith("out=")), None)
    overrides = [line for line in arguments if not line.startswith("out=")]
    study = StagedStudy(
        out or new_folder("eda"), overrides=overrides, command=f"python -m conveyorguard eda {' '.join(arguments)}"
    )
    print(write_eda(study.site, study.data()))
