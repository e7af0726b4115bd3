"""Build the frame store of a data set."""

from __future__ import annotations


def main(arguments: list[str]) -> None:
    """prepare [data=simulated|aihub|table|NAME] [--config-dir FOLDER] [data.root=PATH] [data.strict=true]
    [data.thermal.reduce=mean_max|stride]

    Build the frame store (once; a second call finds it), and say how much there is and what was left out or repaired.
    """
    from conveyorguard.config.checks import check
    from conveyorguard.config.compose import compose_config
    from conveyorguard.runs.data import load_store

    cfg = compose_config(arguments)
    check(cfg)
    store = load_store(cfg)
    print(store.summary())
    print(store.path)
