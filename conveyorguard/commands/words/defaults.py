"""What verbs derive from their words: a new output folder, and the config by which new recordings are read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from conveyorguard.commands.words.parser import Words
    from conveyorguard.runs.saved import SavedRun


def new_folder(name: str) -> Path:
    """Return outputs/<date>/<time>-<name>, without creating it."""
    now = datetime.now()
    return Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{name}"


def data_config(run: SavedRun, words: Words) -> DictConfig:
    """Return the config by which new recordings are read: that of data=NAME where it is given, else the run's.

    Raises:
        ConfigError: an override names an unknown key or choice.
    """
    from conveyorguard.commands.words.keys import compose_checked, compose_words, merge_words

    if any(word.startswith("data=") for word in words.overrides):
        return compose_words(words)
    if run.config.data.name == "simulated" and any(word.startswith("data.root=") for word in words.overrides):
        # the simulator writes the layout of AI Hub
        print(
            "The run was trained on simulated recordings: data.root is read as archives of AI Hub. "
            "Write data=NAME for another format."
        )
        reduce = f"data.thermal.reduce={run.config.data.thermal.reduce}"
        return compose_checked(["data=aihub", reduce, *words.overrides], words.options.config_dir)
    return merge_words(run, words.overrides)
