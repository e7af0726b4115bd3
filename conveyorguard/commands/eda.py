"""Describe a data set in a page."""

from __future__ import annotations

from conveyorguard.commands.words.defaults import new_folder
from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "eda [KEY=VALUE ...] [out=FOLDER]",
    """\
Describe a data set in a page. It shows sizes, balance of the states, correlations, distributions, one session with a
fault, camera, environment and quality, and by fixed rules what follows from them for a model.

Writes 00_eda.html and its tables as csv into FOLDER, by default a new one in outputs/.""",
    """\
eda                                            the simulated recordings
eda data=aihub data.root=PATH
eda --config-dir conf data=plant out=plant-eda""",
    settings=["out"],
)


def main(arguments: list[str]) -> None:
    """Explore the data of a config and write the page."""
    from conveyorguard.commands.words.keys import compose_words
    from conveyorguard.config.checks import check
    from conveyorguard.reporting.eda_page import TITLES, write_eda
    from conveyorguard.reporting.format import warning_of
    from conveyorguard.reporting.site import Site, origin_of
    from conveyorguard.runs.data import load_windows

    words = PARSER.parse_words(arguments)
    cfg = compose_words(words)
    check(cfg)
    cfg.film_input = "environment"  # the environment as it was recorded
    data, name = load_windows(cfg), cfg.data.name
    origin = origin_of(data, name, f"python -m conveyorguard eda {' '.join(arguments)}")
    folder = words.out or new_folder("eda")
    print(write_eda(Site(folder, f"{name} data", TITLES, warning_of(name), origin), data))
