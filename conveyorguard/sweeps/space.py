"""Search spaces as Hydra overrides: read from the command line and the config, and written for a trial."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from hydra.errors import HydraException
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution

# text that needs no quotes; a list or dict that is a choice comes as text in the grammar already
PLAIN = r"(?!(?i:null|true|false|nan|inf)$)[A-Za-z_][A-Za-z0-9_./-]*|[\[{].*"


def read_space(params: Any, arguments: list[str]) -> tuple[dict[str, BaseDistribution], list[str], list[str]]:
    """The search space, the overrides that every trial gets, and what is wrong.

    The grammar is the Optuna plugin's: choice(a, b), range(1, 8), interval(0.1, 0.5) and
    tag(log, interval(1e-4, 1e-2)). A later line replaces an earlier one with the same key.

    Args:
        params: {key: space or value} of the config.
        arguments: overrides of the command line.
    """
    space: dict[str, BaseDistribution] = {}
    task, errors = [], []
    for line in [*(f"{key}={value}" for key, value in (params or {}).items()), *arguments]:
        try:
            found, fixed, _ = create_params_from_overrides([line])
        except (AssertionError, ValueError, NotImplementedError, HydraException) as error:
            remedy = "write choice(a, b), range(1, 8) or interval(0.1, 0.5)"
            errors.append(f"{line}: {str(error) or 'not a search space'}; {remedy}")
            continue
        named = [name.lstrip("+") for name in (*found, *fixed)]
        space = {name: known for name, known in space.items() if name.lstrip("+") not in named} | found
        task += [] if found else [line]
    return space, task, errors


def override(name: str, value: Any) -> str:
    """A setting for the command line."""
    return f"{name}={written(value)}"


def written(value: Any) -> str:
    """A value in Hydra's grammar; text that Hydra might read as something else is quoted."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {written(inner)}' for key, inner in value.items())}}}"
    if not isinstance(value, str) or re.fullmatch(PLAIN, value):
        return str(value)
    # backslashes count as such unless a quote follows
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + (found[2] and "\\'"), value) + "'"


def difference(old: DictConfig, new: DictConfig) -> list[str]:
    """Overrides that make one config of another; keys that are gone stay."""
    before, after = settings(old), settings(new)
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return [override(key if key in before else f"+{key}", value) for key, value in changed.items()]


def settings(config: DictConfig) -> dict[str, Any]:
    """{dotted key: value} of everything in a config, interpolations as they are written."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{path}{key}.")
            else:
                yield f"{path}{key}", value

    return dict(walk(OmegaConf.to_container(config), ""))


def matches(line: str, patterns: list[str]) -> bool:
    """Whether an override sets a key that one of the patterns (`split`, `split.*`) names."""
    key = re.split("[=@]", line.lstrip("+~"))[0]
    return any(fnmatchcase(key, pattern) for pattern in patterns)
