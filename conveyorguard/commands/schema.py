"""Draft the yaml of a folder of csv or parquet files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from conveyorguard.commands.words.parser import VerbParser
from conveyorguard.errors import ConfigError

PARSER = VerbParser(
    "schema PATH [out=conf/data/NAME.yaml] [reader.KEY=VALUE ...]",
    """\
Draft the yaml of your own recordings, a folder of csv or parquet files or one file. It holds channels with units as far
as their names suggest, time, states, devices and camera; what is odd about the files is listed.

Look at the draft before you train with it. An existing file is not written over. Keys of the reader, such as
reader.time_format, are used for reading the files and written into the draft (conf/data/table.yaml explains them).""",
    """\
schema recordings
schema recordings out=conf/data/plant.yaml
schema recordings reader.time_format=%d/%m/%Y
train --config-dir conf data=plant             trains with the draft""",
    paths="1",
    settings=["out"],
)


def main(arguments: list[str]) -> None:
    """Draft the yaml, write it, print it with what is odd, and print the command that trains with it."""
    from conveyorguard.config.compose import config_dir
    from conveyorguard.data.draft.draft import draft

    words = PARSER.parse_words(arguments)
    path = words.path
    name = re.sub(r"\W+", "_", path.resolve().stem).strip("_") or "plant"
    out = _output(words.out or Path(f"conf/data/{name}.yaml"))
    drafted = draft(path, out.stem, _reader_keys(words.overrides))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(drafted.text, encoding="utf-8")
    print(drafted.text)
    for sentence in drafted.odd:
        print(f"- {sentence}")
    configs = out.parent.parent
    option = "" if configs.resolve() == config_dir().resolve() else f"--config-dir {shlex.quote(str(configs))} "
    print(f"\nLook at it, then: python -m conveyorguard train {option}data={out.stem}")
    print(out)


def _reader_keys(overrides: list[str]) -> dict[str, Any]:
    """Return the keys of the reader that the command line sets, by name.

    Raises:
        ConfigError: another key is set.
    """
    settings = dict(word.lstrip("+").split("=", 1) for word in overrides)
    if others := [key for key in settings if not key.startswith("reader.")]:
        raise ConfigError(f"schema takes out=FILE.yaml and reader.KEY=VALUE, not {', '.join(others)}")
    return {key.removeprefix("reader."): yaml.safe_load(value) for key, value in settings.items()}


def _output(out: Path) -> Path:
    """Return the file to write.

    Raises:
        ConfigError: Hydra would not find it there, or it exists.
    """
    if out.suffix != ".yaml" or out.resolve().parent.name != "data":
        raise ConfigError(f"out={out}: Hydra looks for it in a folder called data: write out=conf/data/{out.stem}.yaml")
    if out.exists():
        raise ConfigError(f"{out} is there already: remove it, or give another name with out=conf/data/NAME.yaml")
    return out
