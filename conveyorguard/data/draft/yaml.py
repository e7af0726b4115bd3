"""Write the yaml of a draft briefly, as a person would: one channel per line if there are few."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ONE_LINE_EACH = 7  # channels up to which each has its own line
WIDTH = 110  # characters of a line of several channels
SHOWN = 12  # columns listed as left out, or as possibly holding states

EXPLAINED = {
    "period": "seconds from one row of the data set to the next",
    "state_pattern": "finds the state in a file's name",
    "device_pattern": "finds the device in a file's name",
}


NO_TIME = [
    "# How long is it from one row to the next? No column tells, so each row is taken for one second.",
    "# Of 20,000 rows a second, for example, add to reader:",
    "# reader: {row_every: 0.05ms, period: 100ms}",
]


def yaml_text(
    name: str,
    root: Path,
    schema: dict[str, Any],
    reader: dict[str, Any],
    guessed: list[str],
    left_out: Mapping[str, str],
    candidates: Mapping[str, str],
    described: str = "",
    settings: Mapping[str, dict[str, Any]] | None = None,
) -> str:
    """Return the text of the yaml.

    Args:
        name: name of the data set.
        root: its files.
        schema: the block `schema`.
        reader: the block `reader`.
        guessed: channels whose unit is a guess.
        left_out: reasons by column that is left out.
        candidates: columns that may hold the states, with their values and counts.
        described: values and counts of the state column.
        settings: channels that are constant within each recording; written as comments below environment.
    """
    lines = [
        "# Drafted from the files: check every line. conf/data/table.yaml explains every key.",
        "# A line that begins with # has no effect: remove the # and one blank to use it.",
        "defaults: [table, _self_]",
        f"name: {_scalar(name)}",
        f"root: {_scalar(str(root))}",
    ]
    notes = [f"{key}: {text}" for key, text in EXPLAINED.items() if key in reader]
    lines += [f"reader: {_flow(reader)}{_comment('; '.join(notes))}"] if reader else []
    lines += [] if schema["columns"].get("time") else NO_TIME
    lines += ["schema:", f"  columns: {_flow(schema['columns'])}"]
    lines += [f"  # '{schema['columns']['state']}' holds {_short(described)}"] if described else []
    shown = [*candidates.items()][:SHOWN]
    if shown:
        other = "another column" if schema["columns"].get("state") else "a column"
        lines.append(f"  # To take {other} for the states, name it above as `state` and its values below as `states`:")
        lines += [f"  #   state: {_scalar(column)}  # {_short(text)}" for column, text in shown]
    lines += _block("channels", schema["channels"], guessed)
    out = [*left_out.items()][:SHOWN]
    lines += [f"    # {_scalar(column)} is left out: {_short(why)}" for column, why in out if column not in dict(shown)]
    lines += [f"    # and {len(left_out) - SHOWN} more columns are left out"] if len(left_out) > SHOWN else []
    if schema["environment"]:
        lines += _block("environment", schema["environment"], guessed)
    lines += _settings_as_comments(settings or {}, bool(schema["environment"]))
    if schema["thermal"]:
        lines.append(f"  thermal: {_flow(schema['thermal'])}")
    lines.append(f"  states: {_flow(schema['states'])}  # from normal to worst")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Return a value as yaml on one line."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False).strip()


def _comment(text: str) -> str:
    return f"  # {text}" if text else ""


def _short(text: str) -> str:
    """Return a text on one line, cut to 150 characters."""
    plain = " ".join(text.split())
    return plain if len(plain) <= 150 else plain[:147] + "..."


def _block(title: str, channels: dict[str, dict[str, Any]], guessed: list[str]) -> list[str]:
    """Return the lines of a block of channels, one or several per line; a channel with only a unit is `name: unit`."""
    entries = {key: _flow({key: c["unit"] if len(c) == 1 else c})[1:-1] for key, c in channels.items()}
    if len(entries) <= ONE_LINE_EACH:
        guess = "  # the unit is a guess"
        return [f"  {title}:", *(f"    {entry}{guess * (key in guessed)}" for key, entry in entries.items())]
    guesses = [key for key in entries if key in guessed]
    lines = [
        f"  {title}: {{"
        + _comment(f"units of {', '.join(guesses[:8])}{', ...' * (len(guesses) > 8)} are guesses" * bool(guesses))
    ]
    first = True
    for entry in entries.values():
        if first or len(lines[-1]) + len(entry) > WIDTH:
            lines.append("   ")
        first = False
        lines[-1] += f" {entry},"
    return [*lines, "  }"]


def _settings_as_comments(settings: Mapping[str, dict[str, Any]], has_environment: bool) -> list[str]:
    """Return comment lines that become entries of environment once their # is removed."""
    why = "constant within each recording: use it if it was set, and does not tell the state"
    entries = [_flow({key: c["unit"] if len(c) == 1 else c})[1:-1] for key, c in settings.items()]
    title = ["  # environment:"] if entries and not has_environment else []
    return title + [f"  #   {entry}  # {why}" for entry in entries]


def _scalar(text: str) -> str:
    """Return a text as a yaml scalar, quoted if necessary."""
    return _flow([text])[1:-1]
