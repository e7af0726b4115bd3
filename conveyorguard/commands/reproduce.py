"""Train a saved config again, and say whether it gives the same numbers or what differs."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from conveyorguard.commands.words.defaults import new_folder
from conveyorguard.commands.words.parser import VerbParser
from conveyorguard.metrics.scores import METRICS

if TYPE_CHECKING:
    from conveyorguard.runs.saved import SavedRun

# the same steps round differently with other software or hardware
TOLERANCE = 0.01  # largest difference of a metric that is a share
AGREEMENT = 0.99  # least share of equal predicted states
STACK = ("version of ", "python", "device", "threads", "platform", "processor")
CODE = ("code", "commit", "uncommitted changes")  # a change there need not change the numbers

Inputs = list[tuple[str, str, str]]  # input, old, new


PARSER = VerbParser(
    "reproduce RUN [KEY=VALUE ...]",
    """\
Train the saved config of a run again and say whether it gives the same numbers. Today's defaults play no part, and the
thread count is the run's. It prints each metric old and new, and the inputs that differ (data, split, config, code,
versions, device), the first of them by name.

Exit status 0 only where the numbers are equal: bit for bit on the same software and hardware, else within a stated
tolerance. With overrides it trains a variation of the run.""",
    """\
reproduce outputs/2026-01-31/10-00-00-fusion-both
reproduce RUN data.root=PATH                   where the recordings have moved
reproduce RUN seed=1                           a variation""",
    paths="1",
)


def main(arguments: list[str]) -> None:
    """Reproduce a run, and exit with status 1 where the numbers are not equal."""
    words = PARSER.parse_words(arguments)
    if not reproduce(words.path, words.overrides):
        sys.exit(1)


def reproduce(folder: Path, overrides: list[str]) -> bool:
    """Train the saved config of a run again and print old, new and difference.

    The new run directory is outputs/<date>/<time>-reproduce-<name of the old run>.

    Returns:
        Whether the numbers are equal.

    Raises:
        RunError: the folder is not a finished run.
        ConfigError: an override names a group or an unknown key.
    """
    from conveyorguard.commands.train import train
    from conveyorguard.commands.words.keys import merge_words
    from conveyorguard.runs.saved import SavedRun

    old = SavedRun(folder)
    saved = merge_words(old, overrides)
    if not any(line.startswith("threads=") for line in overrides):
        saved.threads = old.provenance["threads"]
    OmegaConf.set_struct(saved, False)
    target = new_folder(f"reproduce-{folder.resolve().name}")
    train(saved, target, overrides)
    keep_origin(target, old)
    equal = print_comparison(old, SavedRun(target), overrides)
    print(target)
    return equal


def keep_origin(target: Path, old: SavedRun) -> None:
    """Write the group choices of the old run into the new one, so that the new one can be reproduced too."""
    from conveyorguard.runs.shapes import Provenance, read_record, write_record

    path = target / "provenance.json"
    facts = read_record(path, Provenance)
    kept = {key: old.provenance[key] for key in ("choices", "derived") if key in old.provenance}
    write_record(path, Provenance, {**facts, **kept, "reproduces": old.folder.resolve().name})


def differing_inputs(old: SavedRun, new: SavedRun, overrides: list[str]) -> Inputs:
    """Return the inputs that differ, the likeliest cause of different numbers first."""
    from conveyorguard.runs.provenance import config_hash

    before, after = _recorded_inputs(old), _recorded_inputs(new)
    known = [key for key, value in before.items() if value is not None]  # older runs record fewer
    differing = [(key, str(before[key]), str(after.get(key))) for key in known if before[key] != after.get(key)]
    overridden = [
        (f"override {line.partition('=')[0]}", _selected(old.config, line), _selected(new.config, line))
        for line in overrides
    ]
    written, saved = old.provenance.get("config"), config_hash(old.config)
    edited = [("config.yaml was edited after the run", written, saved)] if written and written != saved else []
    return overridden + edited + differing


def _recorded_inputs(run: SavedRun) -> dict[str, Any]:
    """Return the inputs that provenance.json records, by name."""
    p = run.provenance
    return {
        "data fingerprint": run.data_fingerprint,
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


def _selected(config: DictConfig, override: str) -> str:
    """Return the value of an override's key in a config as text."""
    return str(OmegaConf.select(config, override.lstrip("+").partition("=")[0]))


def print_comparison(old: SavedRun, new: SavedRun, overrides: list[str]) -> bool:
    """Print metrics, predictions and inputs old and new, and the verdict; return whether the numbers are equal."""
    screen = Console(highlight=False, soft_wrap=True)
    if overrides:
        screen.print(f"This is a variation of {old.folder.name}: {' '.join(overrides)}")
    table, largest = _metric_table(old, new)
    screen.print(table)
    sentence, agreement = _compare_predictions(old, new)
    screen.print(sentence)
    changed = differing_inputs(old, new, overrides)
    for name, before, after in changed:
        screen.print(f"differs: {name}: {before} -> {after}")
    if changed:
        screen.print(f"The first input that differs: {changed[0][0]}.")
    if old.predictions.equals(new.predictions.reindex(columns=list(old.predictions))):  # older runs have fewer columns
        screen.print("Equal, bit for bit.")
        return True
    if _only_stack_differs(changed) and agreement >= AGREEMENT and largest <= TOLERANCE:
        screen.print(
            f"Equal within the tolerance for another stack: shares within {TOLERANCE}, {AGREEMENT:.0%} of the states."
        )
        return True
    why = "." if changed else ", although no input differs: is something in the training not deterministic here?"
    screen.print(f"Not equal{why}")
    return False


def _metric_table(old: SavedRun, new: SavedRun) -> tuple[Table, float]:
    """Return the table of metrics, and the largest difference of one that is a share."""
    table = Table(title=f"{old.folder.name} reproduced", title_justify="left")
    for name in ("part", "metric", "old", "new", "difference"):
        table.add_column(name, justify="left" if name in ("part", "metric") else "right")
    largest = 0.0
    for part, metrics in old.metrics.items():
        for name, metric in METRICS.items():
            before, after = metrics[name], new.metrics[part].get(name) if part in new.metrics else None
            difference, text = _difference(before, after)
            if metric.percent:
                largest = max(largest, abs(difference))
            table.add_row(part, metric.named(old.schema.state_names), _figure(before), _figure(after), text)
    return table, largest


def _difference(before: float | None, after: float | None) -> tuple[float, str]:
    """Return the difference of a metric, infinite where only one run has it, and its text."""
    if before is not None and after is not None:
        return after - before, f"{after - before:+.3g}"
    return (0.0, "") if before == after else (math.inf, "one has none")


def _figure(value: float | None) -> str:
    """Return a metric as text."""
    return "–" if value is None else f"{value:.5g}"


def _compare_predictions(old: SavedRun, new: SavedRun) -> tuple[str, float]:
    """Return a sentence on the agreement of predictions, and the share of equal states; 0 where the windows differ."""
    before, after = old.predictions, new.predictions
    window = ["split", "session", "device", "kind", "start"]
    if not before[window].equals(after[window]):
        return "predictions: the windows are not the same", 0.0
    agreement = float((before["y_pred"] == after["y_pred"]).mean())
    columns = [c for c in before if str(c).startswith("p") and str(c)[1:].isdigit()]
    largest = float((before[columns] - after[columns]).abs().to_numpy().max())
    sentence = (
        f"predictions: {agreement:.2%} of {len(before):,} states agree, probabilities differ by {largest:.3g} at most"
    )
    return sentence, agreement


def _only_stack_differs(changed: Inputs) -> bool:
    """Return whether versions or hardware differ and all else is the same, the code aside."""
    names = [name for name, *_ in changed if not name.startswith(CODE)]
    return bool(names) and all(name.startswith(STACK) for name in names)
