"""The data of a config: its frame store, its windows and their split."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from conveyorguard.config.compose import build
from conveyorguard.data.build import prepare
from conveyorguard.data.schema import Schema
from conveyorguard.data.splits import make_split
from conveyorguard.data.store import Store
from conveyorguard.data.views import film_view
from conveyorguard.data.windows import Windows, WindowSettings, make_windows


def load_store(cfg: DictConfig) -> Store:
    """The frame store of the config's data, built if it is not there."""
    schema = Schema.from_config(OmegaConf.to_container(cfg.data.schema, resolve=True))  # type: ignore[arg-type]
    reader = build(cfg.data.reader, _partial_=True)
    return prepare(reader, schema, cfg.data.root, cfg.paths.cache, cfg.data.name, cfg.data.strict)


def conditioned(store: Store, cfg: DictConfig) -> Store:
    """The store with the environment that the config's film is given; runs made before there was a choice have their
    own."""
    return film_view(store, cfg.get("film_input", "environment"), cfg.seed) if cfg.film else store


def load_windows(cfg: DictConfig) -> Windows:
    """Store, windows and split of a config."""
    store = conditioned(load_store(cfg), cfg)
    settings = WindowSettings(**cfg.window)
    frame = make_windows(store, settings)
    split = make_split(frame, store.schema, OmegaConf.to_container(cfg.split))  # type: ignore[arg-type]
    return Windows(store, frame.assign(part=split.part_of(frame["session"])), split, settings)
