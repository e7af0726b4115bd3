"""The words after a verb: paths, options of the verb, and Hydra's overrides."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from conveyorguard.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from conveyorguard.runs.saved import SavedRun


def one_path(arguments: list[str], usage: str) -> tuple[Path, list[str]]:
    """Split arguments into the one path that a verb takes and the key=value words.

    Raises:
        ConfigError: none or several paths.
    """
    paths = [a for a in arguments if "=" not in a]
    if len(paths) != 1:
        raise ConfigError(
            f"usage: python -m conveyorguard {usage} [overrides]; found {' '.join(arguments) or 'nothing'}"
        )
    return Path(paths[0]), [a for a in arguments if "=" in a]


def several_paths(arguments: list[str], verb: str) -> tuple[list[Path], Path | None]:
    """Split arguments into run directories and the value of out=, the only option.

    Raises:
        ConfigError: no path, or another option.
    """
    options = dict(a.split("=", 1) for a in arguments if "=" in a)
    paths = [Path(a) for a in arguments if "=" not in a]
    if not paths or set(options) - {"out"}:
        raise ConfigError(
            f"usage: python -m conveyorguard {verb} RUN RUN... [out=DIRECTORY]; found "
            f"{' '.join(arguments) or 'nothing'}"
        )
    return paths, Path(options["out"]) if "out" in options else None


def take_options(words: list[str], *names: str) -> tuple[dict[str, str], list[str]]:
    """Split key=value words into the verb's options, by name, and Hydra's overrides."""
    options = dict(word.split("=", 1) for word in words if word.partition("=")[0] in names and "=" in word)
    return options, [word for word in words if word.partition("=")[0] not in options]


def new_folder(name: str) -> Path:
    """Return outputs/<date>/<time>-<name>; it is not created."""
    now = datetime.now()
    return Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{name}"


def data_of(run: SavedRun, overrides: list[str]) -> DictConfig:
    """Return the config by which new recordings are read: the run's own, or that of data=NAME."""
    from conveyorguard.config.compose import compose_config
    from conveyorguard.config.saved import merge_saved

    if any(a.startswith("data=") for a in overrides):
        return compose_config(overrides)
    if run.config.data.name == "simulated" and any(a.startswith("data.root=") for a in overrides):
        # the simulator writes the layout of AI Hub
        print(
            "the run was trained on simulated recordings: data.root is read as archives of AI Hub (data=NAME for "
            "others)"
        )
        return compose_config(["data=aihub", f"data.thermal.reduce={run.config.data.thermal.reduce}", *overrides])
    return merge_saved(run.config, overrides, run.provenance)
