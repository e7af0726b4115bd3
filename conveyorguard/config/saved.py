"""The config that a run has saved: loading it, and changing values of it."""

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
from conveyorguard.config.records import SavedConfig, checked, not_finite
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.metrics.alarm_settings import AlarmSettings

# Resolvers that a derived key may use; none of them reads anything from outside the config.
DERIVING = ("frames", "rows", "direction_of", "warmup_of")
# Prefixes of interpolations that read from outside: the environment, the clock, Hydra's job.
OUTSIDE = ("hydra:", "oc.env:", "now:", "run_folder:", "modality_of:")


def derived_keys(cfg: DictConfig) -> dict[str, str]:
    """Return the keys of a config that follow from others, with their interpolation.

    For example {"model.window_size": "${rows:${window.size}}"}. A saved config is resolved; with these keys an override
    of `window.size` still reaches `model.window_size`. Values from the environment, the clock or Hydra are left out:
    they stay as they were when the run began.
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
    """Read the `config.yaml` of a run. It is complete and resolved; nothing in it is executed or looked up.

    Raises:
        RunError: it cannot be read, holds an impossible value (`SavedConfig`), or an interpolation: a saved config
            has none, and one put in later could read environment variables.
    """
    from conveyorguard.system.files import refuse  # brings pandas, which takes long to import

    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)}); the run is damaged, train it again") from error
    config = refuse_interpolations(config, path)
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    place = next(not_finite({key: value for key, value in values.items() if key != "model"}, ""), None)
    refuse(path, place and f"expected a finite number at {place}, found NaN or infinity")
    checked(values, SavedConfig, path)
    return config


def plain_values(config: DictConfig) -> dict[str, Any]:
    """Return a config as nested plain values, interpolations resolved."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def alarm_settings(config: DictConfig) -> AlarmSettings:
    """Return what a config asks of alarms; the defaults where it says nothing, as runs of earlier versions."""
    block = config.get("alarms")
    return AlarmSettings.of(plain_values(block) if isinstance(block, DictConfig) else block)


def as_yaml(values: Any) -> str:
    """Return plain values as the yaml text of a config."""
    return OmegaConf.to_yaml(OmegaConf.create(values))


def load_settings(path: Path) -> dict[str, Any]:
    """Read the `config.yaml` of a run as nested plain values; see `load_saved`."""
    return plain_values(load_saved(path))


def saved_settings(values: Any, path: Path) -> dict[str, Any]:
    """Return the settings that a checkpoint holds, as nested plain values.

    Args:
        values: what the checkpoint holds.
        path: of the checkpoint, for the message.

    Raises:
        RunError: they are no settings of a run, or hold an interpolation; see `load_saved`.
    """
    return plain_values(refuse_interpolations(OmegaConf.create(values), path))


def refuse_interpolations(config: Any, path: Path) -> Any:
    """Return the config unchanged if it holds no interpolation.

    Args:
        config: a config node, or a dict as checkpoints hold it.
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
            f"{path}: {places[0]} holds an interpolation ('${{...}}'), which no run writes: the file was edited. "
            "If you trust the run, put the value itself in its place"
        )
    return config


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield every text in nested plain values, keys included, with its dotted place."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield f"{place}.{key}".lstrip("."), str(key)
            yield from _texts(below, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for i, below in enumerate(value):
            yield from _texts(below, f"{place}[{i}]")
    elif isinstance(value, str):
        yield place, value


def merge_saved(saved: DictConfig, overrides: list[str], provenance: Mapping[str, Any]) -> DictConfig:
    """Return a saved config with value overrides, and with the values that follow from them.

    Args:
        saved: the config; it is not changed.
        overrides: as `key=value`.
        provenance: of the run: `choices`, its config groups (an override that repeats one is allowed), and `derived`,
            its `derived_keys`.

    Raises:
        ConfigError: an override names a config group, which cannot be exchanged in a saved config, or an unknown key.
        RunError: a derived key reads from outside the config.
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
    """Refuse a derived key that calls a resolver which is not in DERIVING."""
    foreign = set(re.findall(r"\$\{([\w.]+):", interpolation)) - set(DERIVING)
    if foreign:
        raise RunError(
            f"provenance.json: derived.{name} asks for {', '.join(sorted(foreign))}, which no run writes: "
            "the file was edited; train the run again"
        )


def with_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a config with values replaced by their dotted keys; unknown keys are added."""
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    for key, value in values.items():
        OmegaConf.update(changed, key, value, merge=False)
    return changed
