"""Keys of overrides: whether the config has them, whether anything reads an added one, and what was meant instead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conveyorguard.commands.words.parser import Words
from conveyorguard.commands.words.suggest import did_you_mean, did_you_mean_key
from conveyorguard.commands.words.values import bare_key
from conveyorguard.config.compose import build, compose_config, config_dir
from conveyorguard.config.saved import merge_saved
from conveyorguard.errors import ConfigError
from conveyorguard.runs.saved import SavedRun

WHOLE = "python train.py --cfg job prints the whole config"
# blocks that take any key here; the schema and the sweeper refuse unknown ones themselves
OPEN = ("data.schema", "hydra", "sweep.params", "sweep.pruner", "sweep.spaces")


def compose_words(words: Words) -> DictConfig:
    """Compose the config of a verb that is not a Hydra job.

    Raises:
        ConfigError: an override that cannot be read, an unknown key or choice, or an added key that nothing reads.
    """
    return compose_checked(words.overrides, words.options.config_dir)


def compose_checked(overrides: list[str], folder: Path | None = None) -> DictConfig:
    """Compose a config, and refuse a mistyped override with what may have been meant.

    Args:
        folder: of yaml files beside the package's.

    Raises:
        ConfigError: as for `compose_words`.
    """
    try:
        config = _compose(overrides, folder)
    except ConfigError as error:
        raise explain(overrides, error, folder) from error
    refuse_unread(overrides, config, folder)
    return config


def merge_words(run: SavedRun, overrides: list[str]) -> DictConfig:
    """Return the saved config of a run with the overrides of a verb.

    Raises:
        ConfigError: an override names a key that is not in the run's config, or another choice of a group.
    """
    refuse_unknown(run, overrides)
    return merge_saved(run.config, overrides, run.provenance)


def refuse_unknown(run: SavedRun, overrides: list[str]) -> None:
    """Refuse an override of a key that is not in the saved config of a run.

    Raises:
        ConfigError: naming the keys that may have been meant.
    """
    for word in overrides:
        key = bare_key(word)
        if key not in _groups(None) and not _has(run.config, key):
            meant = did_you_mean_key(key, all_keys(run.config))
            raise ConfigError(f"{key}: {run.folder / 'config.yaml'} has no such key{meant or '; it lists all'}")


def refuse_unread(overrides: list[str], config: DictConfig, folder: Path | None = None) -> None:
    """Refuse `+KEY=VALUE` where nothing reads the key.

    Args:
        config: composed with the overrides.
        folder: of yaml files beside the package's.

    Raises:
        ConfigError: naming the keys that may have been meant.
    """
    added = [bare_key(word) for word in overrides if word.startswith("+")]
    if not added:
        return
    plain = _compose([word for word in overrides if not word.startswith("+")], folder)
    for key in added:
        if key not in _groups(folder) and not _has(plain, key) and not is_read(config, key):
            meant = did_you_mean_key(key, all_keys(plain)) or f"; {WHOLE}"
            raise ConfigError(f"+{key}: nothing reads this key{meant}")


def is_read(config: DictConfig, key: str) -> bool:
    """Return whether something reads a key that was added to a config: an open block, an interpolation, or the class
    that a block builds."""
    if any(key == block or key.startswith((f"{block}.", f"{block}/")) for block in OPEN) or "@" in key:
        return True
    if re.search(rf"\${{{re.escape(key)}\b", OmegaConf.to_yaml(config)):
        return True
    parts = key.split(".")
    for end in range(len(parts) - 1, 0, -1):
        node = OmegaConf.select(config, ".".join(parts[:end]))
        if isinstance(node, DictConfig) and "_target_" in node:
            return parts[end] in ("_args_", "_partial_") or _takes(node["_target_"], parts[end])
    return False


def _takes(target: str, name: str) -> bool:
    """Return whether a class or function takes an argument of a name."""
    built: Callable[..., Any] = build({"_target_": target}, _partial_=True).func
    parameters = inspect.signature(built).parameters.values()
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def explain(overrides: list[str], error: Exception, folder: Path | None = None) -> ConfigError:
    """Return the error that says which override is wrong and what to write instead.

    Args:
        overrides: as given; the first wrong one is named.
        error: Hydra's, of composing a config from them.
        folder: of yaml files beside the package's.
    """
    groups, parsed = _groups(folder), []
    for word in overrides:
        try:
            parsed.append(OverridesParser.create().parse_override(word))
        except HydraException:
            return ConfigError(_unreadable(word))
        if message := _wrong_choice(parsed[-1], groups):
            return ConfigError(message)
    chosen = [override for override in parsed if override.key_or_group in groups and not override.is_add()]
    try:
        config = _compose(map(_first, chosen), folder)
    except ConfigError:
        return ConfigError(str(error))
    messages = (_wrong_key(override, config, groups) for override in parsed)
    return ConfigError(next(filter(None, messages), str(error)))


def _wrong_key(override: Override, config: DictConfig, groups: dict[str, set[str]]) -> str:
    """Return the message for an unknown key, or for an added key that the config has already; else an empty text."""
    key = override.key_or_group
    known = key in _groups(None) or _has(config, key)
    if override.is_add() and known:
        return f"+{key}: the config has this key already; leave out the +"
    if known or key in groups or override.is_add() or override.is_force_add() or key.startswith("hydra"):
        return ""
    if is_read(config, key):
        return f"{key}: the config has no such key yet; write +{override.input_line} to add it"
    return f"{key}: no such key{did_you_mean_key(key, all_keys(config)) or f'; {WHOLE}'}"


def _unreadable(word: str) -> str:
    """Return the message for an override that Hydra's grammar does not take."""
    name, equals, value = word.partition("=")
    if not equals:
        return f"{word}: expected KEY=VALUE"
    inner = value.replace("'", "\\'")
    return f"{name}: the value {value} cannot be read; put it in quotes of its own: \"{name}='{inner}'\""


def _wrong_choice(override: Override, groups: dict[str, set[str]]) -> str:
    """Return the message for an unknown choice of a group; empty if there is none."""
    key = override.key_or_group
    if key not in groups or override.is_delete() or (override.is_sweep_override() and not override.is_choice_sweep()):
        return ""
    values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
    for value in values:
        if isinstance(value, str) and value not in groups[key]:
            meant = did_you_mean(value, groups[key]) or f"; write one of {', '.join(sorted(groups[key]))}"
            return f"{key}={value}: no such choice{meant}"
    return ""


def _first(override: Override) -> str:
    """Return the override with the first of its values, if it lists several."""
    line = str(override.input_line)
    if not override.is_sweep_override():
        return line
    value = next(iter(override.sweep_string_iterator())) if override.is_discrete_sweep() else "null"
    return f"{line.partition('=')[0]}={value}"


def first_values(overrides: list[str]) -> list[str]:
    """Return the overrides of the first job of a multirun.

    Raises:
        ConfigError: one that Hydra's grammar does not take.
    """
    first = []
    for word in overrides:
        try:
            first.append(_first(OverridesParser.create().parse_override(word)))
        except HydraException as error:
            raise ConfigError(_unreadable(word)) from error
    return first


def _compose(overrides: Iterable[str], folder: Path | None) -> DictConfig:
    """Compose a config with a folder of yaml files beside the package's."""
    return compose_config([*overrides, *(["--config-dir", str(folder)] if folder else [])])


def _groups(folder: Path | None) -> dict[str, set[str]]:
    """Return the choices of each config group."""
    groups: dict[str, set[str]] = {}
    for conf in filter(None, (config_dir(), folder)):
        for path in conf.glob("*/*.yaml"):
            groups.setdefault(path.parent.name, set()).add(path.stem)
    return groups


def _has(config: DictConfig, key: str) -> bool:
    """Return whether a config has a key, whatever its value."""
    parent, _, name = key.rpartition(".")
    try:
        node = OmegaConf.select(config, parent) if parent else config
    except OmegaConfBaseException:
        return False
    return name in list(node) if isinstance(node, DictConfig) else OmegaConf.is_list(node) and name.isdigit()


def all_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a config, blocks included."""
    for key in map(str, node):
        name = f"{prefix}{key}"
        yield name
        value = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation():
            yield from all_keys(value, f"{name}.")
