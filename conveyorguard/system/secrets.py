"""Keys and passwords must not get into a config: it is saved, shown on pages and uploaded."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from netrc import NetrcParseError, netrc
from pathlib import Path

SECRET_NAME = re.compile("(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)  # of a setting or a variable
URL_LOGIN = re.compile(r"https?://[^/\s]*@|://[^:/@\s]*:[^@/\s]*@", re.IGNORECASE)  # of a web service a user is a key
SHORTEST = 8  # characters; a shorter value may be in a config by chance


def secret_problems(settings: Sequence[tuple[str, str]]) -> list[str]:
    """Return a sentence for each setting that holds a secret; the secret itself is not repeated.

    A setting holds a secret if its value contains a secret of the environment or of netrc, if it is named like one, or
    if it is a URL with a password (of a web service, any login: there a user name may be a token).

    Args:
        settings: Dotted name and text of each value.
    """
    known = {f"${name}": value for name, value in os.environ.items() if SECRET_NAME.search(name)} | _logins()
    problems = []
    for name, value in settings:
        problems += [
            f"{name}: holds the value of {source}, which would be saved and shown; leave it out"
            for source, secret in known.items()
            if len(secret) >= SHORTEST and secret in value
        ]
        if SECRET_NAME.search(name) and len(value) >= SHORTEST:
            problems.append(
                f"{name}: a config is saved and shown, so it must not hold a key; set the key in the environment, or "
                "run `wandb login`"
            )
        if URL_LOGIN.search(value):
            problems.append(
                f"{name}: a config is saved and shown, so its URLs must not hold a login; leave it out, and give it "
                "as MLFLOW_TRACKING_PASSWORD (MLflow), as PGPASSWORD or in ~/.pgpass (PostgreSQL), or in ~/.my.cnf "
                "(MySQL)"
            )
    return problems


def without_password(url: str) -> str:
    """Return a URL with `***` in place of its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _logins() -> dict[str, str]:
    """Return the passwords of the netrc file, where `wandb login` leaves them, by a description of each."""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        hosts = netrc(str(path)).hosts
        return {f"{path.name}'s login at {host}": str(login[2]) for host, login in hosts.items() if login[2]}
    except (OSError, NetrcParseError, UnicodeDecodeError):  # no file, or one that no program could log in with
        return {}
