"""A config as a run leaves it: saved, loaded, and given other values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conveyorguard.config.compose import config_dir, first_line
from conveyorguard.errors import ConfigError, RunError

# resolvers that may stand in a derived key; none of them reads anything from outside the config
DERIVING = ("frames", "direction_of")
# what marks an interpolation that does: of the environment, of the clock, of Hydra's job
OUTSIDE = ("hydra:", "oc.env:", "now:", "run_folder:")


def derived_keys(cfg: DictConfig) -> dict[str, str]:
    """Keys of a config that follow from others, with their interpolation: `model.window_size: ${window.size}`.

    A saved config is resolved; these let an override of the one still reach the other. What comes from the environment,
    the clock or Hydra is no such key: it stays as it was.
    """
    derived = {}

    def walk(node: DictConfig, prefix: str) -> None:
        for key in map(str, node):
            name = f"{prefix}{key}"
            if OmegaConf.is_interpolation(node, key):
                text = str(node._get_node(key)._value())  # type: ignore[union-attr]
                if not any(outside in text for outside in OUTSIDE):
                    derived[name] = text
            elif OmegaConf.is_dict(node[key]):
                walk(node[key], f"{name}.")

    walk(cfg, "")
    return derived


def load_saved(path: Path) -> DictConfig:
    """Read the config that a run has left; it is whole and resolved, and nothing in it is executed or looked up.

    Raises:
        RunError: it cannot be read, or holds an interpolation: a saved config has none, and one put in later could
            fetch environment variables.
    """
    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)}); the run is damaged, train it again") from error
    return refuse_interpolations(config, path)


def plain_values(config: DictConfig) -> dict[str, Any]:
    """A config as nested plain values, interpolations resolved."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def as_yaml(values: Any) -> str:
    """Plain values as a config is written."""
    return OmegaConf.to_yaml(OmegaConf.create(values))


def load_settings(path: Path) -> dict[str, Any]:
    """`load_saved` as nested plain values."""
    return plain_values(load_saved(path))


def saved_settings(values: Any, path: Path) -> dict[str, Any]:
    """The settings that a file of a run holds, if they are plain values without interpolations.

    Raises:
        RunError: they are not; see `load_saved`.
    """
    return plain_values(refuse_interpolations(OmegaConf.create(values), path))


def refuse_interpolations(config: Any, path: Path) -> Any:
    """The config as it was given, if it is a mapping of plain values: a config node, or a dict as checkpoints hold it.

    Args:
        path: of the file it was read from, for the message.

    Raises:
        RunError: it is no config of a run, or holds an interpolation.
    """
    if not (isinstance(config, Mapping) and "data" in config and "model" in config):
        raise RunError(
            f"{path}: expected the settings of a run, data and model among them; the run is damaged, train it again"
        )
    values = OmegaConf.to_container(config) if isinstance(config, DictConfig) else config
    places = [place for place, text in _texts(values, "") if "${" in text]
    if places:
        raise RunError(
            f"{path}: {places[0]} holds an interpolation ('${{...}}'), which no run writes: the file was changed. "
            "Write the value itself, if you know where the run comes from"
        )
    return config


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text of a tree of plain values, names of settings included, with its place."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield f"{place}.{key}".lstrip("."), str(key)
            yield from _texts(below, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for i, below in enumerate(value):
            yield from _texts(below, f"{place}[{i}]")
    elif isinstance(value, str):
        yield place, value


def merge_saved(saved: DictConfig, overrides: list[str], provenance: dict[str, Any]) -> DictConfig:
    """A saved config with value overrides, and with what follows from them.

    Args:
        provenance: of the run: `choices`, the config groups it was made of (naming one of them again is allowed), and
            `derived`, its `derived_keys`.

    Raises:
        ConfigError: an override names a config group (the saved config is whole, a group cannot be exchanged) or a key
            that is not there.
        RunError: `derived` asks for something outside the config.
    """
    merged = saved.copy()
    for name, interpolation in provenance.get("derived", {}).items():
        _refuse_outside(name, str(interpolation))
        OmegaConf.update(merged, name, interpolation)
    OmegaConf.set_struct(merged, True)
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    choices = provenance.get("choices", {})
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
            key, value = parsed.key_or_group, parsed.value()
            if choices.get(key) == value:
                continue
            if key in groups and (OmegaConf.is_config(OmegaConf.select(saved, key)) or key == "modality"):
                raise ConfigError(
                    f"{override}: a saved config takes values only; start a new run to change the group '{key}'"
                )
            OmegaConf.update(merged, key, value)
        except (OmegaConfBaseException, HydraException) as error:
            raise ConfigError(f"{override}: {first_line(error)}") from error
    OmegaConf.resolve(merged)
    return merged


def _refuse_outside(name: str, interpolation: str) -> None:
    """Refuse a derived key that calls another resolver than those of DERIVING."""
    foreign = set(re.findall(r"\$\{([\w.]+):", interpolation)) - set(DERIVING)
    if foreign:
        raise RunError(
            f"provenance.json: derived.{name} asks for {', '.join(sorted(foreign))}, which no run writes: "
            "the file was changed"
        )


def with_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy of a config with other values by their dotted keys; keys that it does not have are added."""
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    for key, value in values.items():
        OmegaConf.update(changed, key, value, merge=False)
    return changed
