"""Build the frame store of a data set."""

from __future__ import annotations

from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "prepare [data=NAME] [data.root=PATH] [KEY=VALUE ...]",
    """\
Build the frame store of a data set and say what was left out or repaired, and why. A second call finds the store.
The last line is its folder, below paths.cache.""",
    """\
prepare                                        the simulated recordings
prepare data=aihub data.root=PATH
prepare --config-dir conf data=plant data.strict=true      stop at the first defect""",
)


def main(arguments: list[str]) -> None:
    """Build the store of a config, print its summary and its folder."""
    from conveyorguard.commands.words.keys import compose_words
    from conveyorguard.config.checks import check
    from conveyorguard.runs.data import load_store

    cfg = compose_words(PARSER.parse_words(arguments))
    check(cfg)
    store = load_store(cfg)
    print(store.summary())
    print(store.path)
