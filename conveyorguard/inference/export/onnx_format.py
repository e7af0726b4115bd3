"""Versions of the ONNX format, and the check for the packages that write it."""

from __future__ import annotations

from importlib.util import find_spec

from conveyorguard.errors import ConfigError

OPSET = 18
IR = 8  # version of the file format; earlier ones count constants as inputs


def require_packages(*packages: str) -> None:
    """Check that packages of the extra `export` are installed.

    Raises:
        ConfigError: naming those that are not.
    """
    missing = [name for name in packages if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"export: the package{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} not installed: pip install 'conveyorguard[export]'"
        )
