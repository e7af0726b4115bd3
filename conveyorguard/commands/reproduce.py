"""Running a saved config anew, and saying whether it gives the same numbers, and if not, what differs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from conveyorguard.config.saved import merge_saved
from conveyorguard.metrics.scores import METRICS
from conveyorguard.runs.provenance import config_hash
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import read_json, write_json

# on another stack or device the same steps round differently
TOLERANCE = 0.01  # of each metric that is a share
AGREEMENT = 0.99  # of the predicted states
STACK = ("version of ", "python", "device", "threads", "platform", "processor")
CODE = ("code", "commit", "uncommitted changes")  # what changed there need not matter


def reproduce(folder: Path, overrides: list[str]) -> bool:
    """Train anew by the config in the run directory; print old, new and difference; True when the numbers are equal.

    The new run directory is outputs/<date>/<time>-reproduce-<name of the old>.

    Raises:
        RunError: not a finished run. ConfigError: an override names a group or an unknown key.
    """
    from conveyorguard.commands.train import train

    old = SavedRun(folder)
    saved = merge_saved(old.config, overrides, old.provenance)
    if not any(line.startswith("threads=") for line in overrides):
        saved.threads = old.provenance["threads"]
    OmegaConf.set_struct(saved, False)
    now = datetime.now()
    target = Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-reproduce-{folder.resolve().name}"
    train(saved, target, overrides)
    keep_origin(target, old)
    new = SavedRun(target)
    changed = differing_inputs(old, new, overrides)
    equal = _print(old, new, changed, overrides)
    print(target)
    return equal


def keep_origin(target: Path, old: SavedRun) -> None:
    """The new run was made of the old one's choices; so it can be reproduced in turn."""
    facts = read_json(target / "provenance.json")
    kept = {key: old.provenance[key] for key in ("choices", "derived") if key in old.provenance}
    write_json(target / "provenance.json", {**facts, **kept, "reproduces": old.folder.resolve().name})


def differing_inputs(old: SavedRun, new: SavedRun, overrides: list[str]) -> list[tuple[str, str, str]]:
    """What went in that is not the same: (input, old, new), what explains most first."""

    def facts(run: SavedRun) -> dict[str, Any]:
        p = run.provenance
        return {
            "data fingerprint": p["store"]["fingerprint"],
            "split hash": p["split"],
            "code": p.get("code"),
            "commit": p["git"]["commit"],
            "uncommitted changes": p["git"]["dirty"],
            **{f"version of {name}": p["versions"].get(name) for name in sorted(p["versions"])},
            "python": p["python"],
            "device": p["device"],
            "threads": p["threads"],
            "platform": p["platform"],
            "processor": p.get("processor"),
        }

    before, after = facts(old), facts(new)
    known = [key for key, value in before.items() if value is not None]  # an older run may not have recorded it
    found = [(key, str(before[key]), str(after.get(key))) for key in known if before[key] != after.get(key)]
    given = [
        (f"override {line.partition('=')[0]}", _selected(old.config, line), _selected(new.config, line))
        for line in overrides
    ]
    written = old.provenance.get("config")
    if written and written != config_hash(old.config):
        found.insert(0, ("config.yaml was edited after the run", written, config_hash(old.config)))
    return given + found


def _selected(config: DictConfig, override: str) -> str:
    return str(OmegaConf.select(config, override.lstrip("+").partition("=")[0]))


def _print(old: SavedRun, new: SavedRun, changed: list[tuple[str, str, str]], overrides: list[str]) -> bool:
    """Tables and verdict; whether the numbers are equal."""
    screen = Console(highlight=False, soft_wrap=True)
    if overrides:
        screen.print(f"This is a variation of {old.folder.name}: {' '.join(overrides)}")
    table = Table(title=f"{old.folder.name} reproduced", title_justify="left")
    for name in ("part", "metric", "old", "new", "difference"):
        table.add_column(name, justify="left" if name in ("part", "metric") else "right")
    largest = 0.0
    for part, metrics in old.metrics.items():
        for name, metric in METRICS.items():
            before, after = metrics[name], new.metrics.get(part, {}).get(name)
            if before is None or after is None:
                difference, told = (0.0 if before == after else np.inf), "" if before == after else "one has none"
            else:
                difference, told = after - before, f"{after - before:+.3g}"
            if metric.percent:
                largest = max(largest, abs(difference))
            table.add_row(part, metric.named(old.schema.state_names), _told(before), _told(after), told)
    screen.print(table)
    same_windows = old.predictions.iloc[:, :5].equals(new.predictions.iloc[:, :5])
    bitwise = old.predictions.equals(new.predictions)
    if same_windows:
        agreement = float((old.predictions["y_pred"] == new.predictions["y_pred"]).mean())
        columns = [c for c in old.predictions if str(c).startswith("p") and str(c)[1:].isdigit()]
        apart = float((old.predictions[columns] - new.predictions[columns]).abs().to_numpy().max())
        screen.print(
            f"predictions: {agreement:.2%} of {len(old.predictions):,} states agree, probabilities differ by "
            f"{apart:.3g} at most"
        )
    else:
        agreement = 0.0
        screen.print("predictions: the windows are not the same")
    for what, before, after in changed:
        screen.print(f"differs: {what}: {before} -> {after}")
    if changed:
        screen.print(f"The first input that differs: {changed[0][0]}.")
    names = [what for what, *_ in changed]
    stack = [what for what in names if what.startswith(STACK)]
    others = [what for what in names if not what.startswith((*STACK, *CODE))]
    if bitwise:
        screen.print("Equal, bit for bit.")
        return True
    if stack and not others and agreement >= AGREEMENT and largest <= TOLERANCE:
        screen.print(
            f"Equal within the tolerance for another stack: shares within {TOLERANCE}, {AGREEMENT:.0%} of the states."
        )
        return True
    why = "." if changed else ", although no input differs: is something in the training not deterministic here?"
    screen.print(f"Not equal{why}")
    return False


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"
