"""Overrides of the `alarms` block, with which `predict` chooses the operating point of a run anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from conveyorguard.commands.words.keys import compose_checked
from conveyorguard.commands.words.parser import Words
from conveyorguard.commands.words.values import bare_key
from conveyorguard.config.saved import plain_values
from conveyorguard.errors import ConfigError
from conveyorguard.metrics.alarm_settings import AlarmSettings


def without_alarms(words: Words) -> tuple[Words, list[str]]:
    """Return the words without overrides of the `alarms` block, and these."""
    alarms = [word for word in words.overrides if bare_key(word).split(".")[0] == "alarms"]
    return replace(words, overrides=[word for word in words.overrides if word not in alarms]), alarms


def alarms_with(settings: AlarmSettings, overrides: list[str]) -> AlarmSettings:
    """Return settings with overrides; a run of an earlier version, whose config lacks the block, takes them as well.

    Args:
        settings: those of the run.
        overrides: such as alarms.miss_rate=0.05.

    Raises:
        ConfigError: an unknown key, or a value that cannot be.
    """
    if removed := [word for word in overrides if word.startswith("~")]:
        raise ConfigError(f"{removed[0]}: a setting of alarms cannot be removed; give it another value")
    composed = compose_checked(overrides)
    values: dict[str, Any] = {"alarms": settings.to_dict()}
    changed = OmegaConf.create(values)
    for key in map(bare_key, overrides):
        OmegaConf.update(changed, key, OmegaConf.select(composed, key))
    result = AlarmSettings.of(plain_values(changed)["alarms"])
    if problems := result.problems():
        raise ConfigError("; ".join(problems))
    return result
