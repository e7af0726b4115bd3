"""The yaml of a draft, as a person would write it: short, a channel a line where there are few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ONE_LINE_EACH = 7  # channels; more are written several a line
WIDTH = 110


def yaml_text(name: str, root: Path, schema: dict[str, Any], reader: dict[str, Any]) -> str:
    lines = [
        "# Drafted from the files; look at every line. conf/data/table.yaml explains the keys.",
        "defaults: [table, _self_]",
        f"name: {_scalar(name)}",
        f"root: {_scalar(str(root))}",
    ]
    lines += [f"reader: {_flow(reader)}"] if reader else []
    lines += ["schema:", f"  columns: {_flow(schema['columns'])}"]
    lines += _block("channels", schema["channels"])
    if schema["environment"]:
        lines += _block("environment", schema["environment"])
    if schema["thermal"]:
        lines.append(f"  thermal: {_flow(schema['thermal'])}")
    lines.append(f"  states: {_flow(schema['states'])}  # from normal to worst")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False).strip()


def _block(title: str, channels: dict[str, dict[str, str]]) -> list[str]:
    """Channels one a line, or many on few lines; of what needs no more, the unit alone."""
    entries = [_flow({key: c["unit"] if len(c) == 1 else c})[1:-1] for key, c in channels.items()]
    if len(entries) <= ONE_LINE_EACH:
        return [f"  {title}:", *(f"    {entry}" for entry in entries)]
    lines = [f"  {title}: {{"]
    for entry in entries:
        if len(lines) == 1 or len(lines[-1]) + len(entry) > WIDTH:
            lines.append("   ")
        lines[-1] += f" {entry},"
    return [*lines, "  }"]


def _scalar(text: str) -> str:
    return _flow([text])[1:-1]
