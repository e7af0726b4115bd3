"""Describe a data set in a page."""

from __future__ import annotations

from pathlib import Path

from conveyorguard.commands.arguments import new_folder, take_options


def main(arguments: list[str]) -> None:
    """eda [overrides] [out=DIRECTORY]

    Describe the data of a config in a page, 00_eda.html, with its tables as csv: sizes, balance of the states,
    correlations, distributions, one session with a fault, camera, environment, quality, and what follows from them by
    fixed rules.
    """
    from conveyorguard.config.checks import check
    from conveyorguard.config.compose import compose_config
    from conveyorguard.reporting.eda_page import TITLES, write_eda
    from conveyorguard.reporting.format import warning_of
    from conveyorguard.reporting.site import Site, origin_of
    from conveyorguard.runs.data import load_windows

    options, overrides = take_options(arguments, "out")
    cfg = compose_config(overrides)
    check(cfg)
    cfg.film_input = "environment"  # the environment as it was recorded
    data, name = load_windows(cfg), cfg.data.name
    origin = origin_of(data, name, f"python -m conveyorguard eda {' '.join(arguments)}")
    folder = Path(options["out"]) if "out" in options else new_folder("eda")
    print(write_eda(Site(folder, f"{name} data", TITLES, warning_of(name), origin), data))
