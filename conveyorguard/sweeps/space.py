"""Search spaces as Hydra overrides: read from config and command line, and written for a trial."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from hydra.errors import HydraException
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution

# text that needs no quotes; a choice that is a list or dict is already text in the grammar
PLAIN = r"(?!(?i:null|true|false|nan|inf)$)[A-Za-z_][A-Za-z0-9_./-]*|[\[{].*"


def read_space(params: Any, arguments: list[str]) -> tuple[dict[str, BaseDistribution], list[str], list[str]]:
    """Read the search space.

    The grammar is the Optuna plugin's: choice(a, b), range(1, 8), interval(0.1, 0.5) and
    tag(log, interval(1e-4, 1e-2)). A later line replaces an earlier one with the same key.

    Args:
        params: Search space or value by key, from the config.
        arguments: Overrides from the command line.

    Returns:
        Search space by key, overrides that every trial gets, errors as sentences.
    """
    space: dict[str, BaseDistribution] = {}
    task, errors = [], []
    for line in [*(f"{key}={value}" for key, value in (params or {}).items()), *arguments]:
        try:
            searched, fixed, _ = create_params_from_overrides([line])
        except (AssertionError, ValueError, NotImplementedError, HydraException) as error:
            remedy = "use choice(a, b), range(1, 8) or interval(0.1, 0.5)"
            errors.append(f"{line}: {str(error) or 'not a search space'}; {remedy}")
            continue
        replaced = [name.lstrip("+") for name in (*searched, *fixed)]
        space = {name: domain for name, domain in space.items() if name.lstrip("+") not in replaced} | searched
        task += [] if searched else [line]
    return space, task, errors


def override(name: str, value: Any) -> str:
    """Return a setting as an override for the command line."""
    return f"{name}={written(value)}"


def written(value: Any) -> str:
    """Return a value in Hydra's grammar; text that Hydra could parse as another type is quoted."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {written(inner)}' for key, inner in value.items())}}}"
    if not isinstance(value, str) or re.fullmatch(PLAIN, value):
        return str(value)
    # a backslash is literal unless a quote follows
    return "'" + re.sub(r"(\\*)('|\Z)", lambda match: 2 * match[1] + (match[2] and "\\'"), value) + "'"


def difference(old: DictConfig, new: DictConfig) -> list[str]:
    """Return overrides that turn the config `old` into `new`; keys missing in `new` are kept."""
    before, after = settings(old), settings(new)
    changed = {key: value for key, value in after.items() if key not in before or before[key] != value}
    return [override(key if key in before else f"+{key}", value) for key, value in changed.items()]


def settings(config: DictConfig) -> dict[str, Any]:
    """Return every value of a config by its dotted key, with interpolations unresolved."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{path}{key}.")
            else:
                yield f"{path}{key}", value

    return dict(walk(OmegaConf.to_container(config), ""))


def matches(line: str, patterns: list[str]) -> bool:
    """Return whether an override sets a key that matches one of the patterns (`split`, `split.*`)."""
    key = re.split("[=@]", line.lstrip("+~"))[0]
    return any(fnmatchcase(key, pattern) for pattern in patterns)
