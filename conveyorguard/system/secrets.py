"""Keys and passwords, which must not come into a config: it is saved, shown on pages and uploaded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

KEY = re.compile("(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)  # names, of the environment and in a config
SHORTEST = 8  # characters; a shorter value may stand in a config by chance


def keys_in(cfg: DictConfig) -> list[str]:
    """What in a config is a key, or is called one; as sentences."""
    values = list(values_of(cfg))
    text = "\n".join(value for _, value in values)
    known = {f"${name}": value for name, value in os.environ.items() if KEY.search(name)} | _logins()
    return [
        f"the value of {name} stands in the config, which is saved and shown: leave it, and what asks for it, out"
        for name, value in known.items()
        if len(value) >= SHORTEST and value in text
    ] + [
        f"{name}: a config is saved and shown, no key may stand in it; set it in the environment, or run `wandb login`"
        for name, value in values
        if KEY.search(name) and len(value) >= SHORTEST
    ]


def values_of(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The name of each value of a config, and the value as text, as far as it is known by now: of Hydra's job it may
    not be."""
    keys: Iterable[Any] = node if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        try:
            value = node[key]
        except OmegaConfBaseException:
            continue
        own = f"{name}.{key}" if name else str(key)
        if isinstance(value, DictConfig | ListConfig):
            yield from values_of(value, own)
        else:
            yield own, str(value)


def _logins() -> dict[str, str]:
    """Passwords that `wandb login` and others have left, by what to call them."""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        hosts = netrc(str(path)).hosts
        return {f"{path.name}'s login at {host}": str(login[2]) for host, login in hosts.items() if login[2]}
    except (OSError, NetrcParseError, UnicodeDecodeError):  # none, or none that anybody could log in with
        return {}
