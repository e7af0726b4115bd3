"""Load the data that a config names: its frame store, its windows and their split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from conveyorguard.config.compose import build
from conveyorguard.config.saved import plain_values
from conveyorguard.data.schema import Schema
from conveyorguard.data.store import Store
from conveyorguard.data.store_build import prepare
from conveyorguard.data.views import bridge_gaps, film_view
from conveyorguard.data.windows import Windows, WindowSettings, period_of, split_windows

KEYS = ("data", "paths", "window", "split", "film", "film_input", "seed")  # of a config, those that decide its data


def load_store(config: Mapping[str, Any]) -> Store:
    """Return the frame store of a config's data; it is built if it is not there.

    Args:
        config: composed by Hydra, or the same as nested plain values.
    """
    settings = _plain(config)
    data = settings["data"]
    reader = build(data["reader"], _partial_=True)
    schema = Schema.from_config(data["schema"])
    return prepare(reader, schema, data["root"], settings["paths"]["cache"], data["name"], data["strict"])


def conditioned(store: Store, settings: Mapping[str, Any]) -> Store:
    """Return the store with the environment that FiLM is given by a config's `film_input`.

    A run of a version without `film_input` was given the recorded environment.
    """
    return film_view(store, settings.get("film_input", "environment"), settings["seed"]) if settings["film"] else store


def load_windows(config: Mapping[str, Any]) -> Windows:
    """Return store, windows and split of a config.

    Args:
        config: as for `load_store`.
    """
    settings = _plain(config)
    window = WindowSettings.of(settings["window"], period_of(settings["data"]))
    store = bridge_gaps(conditioned(load_store(settings), settings), window.max_gap)
    return split_windows(store, window, settings["split"])


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that decide the data as plain values; others may not resolve while Hydra does not run."""
    if not isinstance(config, DictConfig):
        return dict(config)
    return plain_values(OmegaConf.masked_copy(config, [key for key in KEYS if key in config]))
