"""Draft the yaml of a folder of csv or parquet files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from conveyorguard.commands.arguments import one_path
from conveyorguard.errors import ConfigError


def main(arguments: list[str]) -> None:
    """schema PATH [out=conf/data/NAME.yaml] [reader.KEY=VALUE ...]

    Look at a folder of csv or parquet files (or one file) and draft the yaml that makes a data set of them: channels
    with units as far as names tell, time, states, devices, a camera if there is one. What is odd about the files is
    listed. The draft can be trained with as it is; look at it first. An existing file is never written over. How the
    files are read can be said beforehand, as reader.time_format=%d/%m/%Y (conf/data/table.yaml explains the keys).
    """
    from conveyorguard.config.compose import config_dir
    from conveyorguard.data.draft.draft import draft

    path, words = one_path(arguments, "schema PATH [out=conf/data/NAME.yaml] [reader.KEY=VALUE ...]")
    name = re.sub(r"\W+", "_", path.resolve().stem).strip("_") or "plant"
    options = dict(word.split("=", 1) for word in words)
    reader = {key.removeprefix("reader."): options.pop(key) for key in [*options] if key.startswith("reader.")}
    out = _output(options, name)
    drafted = draft(path, out.stem, {key: yaml.safe_load(value) for key, value in reader.items()})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(drafted.text, encoding="utf-8")
    print(drafted.text)
    for sentence in drafted.odd:
        print(f"- {sentence}")
    configs = out.parent.parent
    option = "" if configs.resolve() == config_dir().resolve() else f"--config-dir {shlex.quote(str(configs))} "
    print(f"\nLook at it, then: python -m conveyorguard train {option}data={out.stem}")
    print(out)


def _output(options: dict[str, str], name: str) -> Path:
    """The file to write.

    Raises:
        ConfigError: Hydra would not find it there, it exists, or another option is given.
    """
    out = Path(options.pop("out", f"conf/data/{name}.yaml"))
    if options:
        raise ConfigError(f"schema takes out=FILE.yaml and reader.KEY=VALUE, not {', '.join(options)}")
    if out.suffix != ".yaml" or out.resolve().parent.name != "data":
        raise ConfigError(f"out={out}: Hydra looks for it in a folder called data: write out=conf/data/{out.stem}.yaml")
    if out.exists():
        raise ConfigError(f"{out} is there already: remove it, or give another name with out=conf/data/NAME.yaml")
    return out
