"""Write simulated recordings as archives."""

from __future__ import annotations

import shlex

from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "simulate FOLDER [data.sessions=72] [data.seed=0] [data.archive=zip|folder]",
    """\
Write simulated recordings as archives in the layout of AI Hub #71802. They are zips, or with data.archive=folder
folders of the same files, in the new folder FOLDER.""",
    """\
simulate plant data.sessions=12 data.seed=3
prepare data=aihub data.root=plant             reads them""",
    paths="1",
)


def main(arguments: list[str]) -> None:
    """Simulate recordings, write them and print how to train on them."""
    from conveyorguard.commands.words.keys import compose_checked
    from conveyorguard.config.saved import plain_values
    from conveyorguard.data.archive.writer import write
    from conveyorguard.data.schema import Schema

    words = PARSER.parse_words(arguments)
    cfg = compose_checked(["data=simulated", *words.overrides], words.options.config_dir)
    schema = Schema.from_config(plain_values(cfg)["data"]["schema"])
    count = write(words.path, schema, cfg.data.sessions, cfg.data.seed, cfg.data.archive)
    root = shlex.quote(f"data.root={words.path}")
    print(f"{count} sessions; train on them with: python train.py data=aihub {root}")
    print(words.path)
