"""What all exported files have in common: the versions of the format, and the packages that write it."""

from __future__ import annotations

from importlib.util import find_spec

from conveyorguard.errors import ConfigError

OPSET = 18
IR = 8  # of the file format; before it constants are inputs


def require_packages(*packages: str) -> None:
    """Refuse to go on without packages of the extra `export`.

    Raises:
        ConfigError: naming those that are not installed.
    """
    missing = [name for name in packages if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"export needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}: pip install "
            "'conveyorguard[export]'"
        )
