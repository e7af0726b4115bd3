"""Keys and passwords, which must not come into a config: it is saved, shown on pages and uploaded."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path

KEY = re.compile("(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)  # names, of the environment and in a config
SHORTEST = 8  # characters; a shorter value may stand in a config by chance


def secret_problems(settings: Sequence[tuple[str, str]]) -> list[str]:
    """What in a config is a key, or is called one; as sentences.

    Args:
        settings: dotted name and text of each value.
    """
    text = "\n".join(value for _, value in settings)
    known = {f"${name}": value for name, value in os.environ.items() if KEY.search(name)} | _logins()
    return [
        f"the value of {name} stands in the config, which is saved and shown: leave it, and what asks for it, out"
        for name, value in known.items()
        if len(value) >= SHORTEST and value in text
    ] + [
        f"{name}: a config is saved and shown, no key may stand in it; set it in the environment, or run `wandb login`"
        for name, value in settings
        if KEY.search(name) and len(value) >= SHORTEST
    ]


def _logins() -> dict[str, str]:
    """Passwords that `wandb login` and others have left, by what to call them."""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        hosts = netrc(str(path)).hosts
        return {f"{path.name}'s login at {host}": str(login[2]) for host, login in hosts.items() if login[2]}
    except (OSError, NetrcParseError, UnicodeDecodeError):  # none, or none that anybody could log in with
        return {}
