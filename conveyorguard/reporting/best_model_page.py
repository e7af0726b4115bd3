"""Stage 08: the best model's targets, comparisons over several splits, robustness and speed; and a summary in markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from conveyorguard.evaluation.best_model import RULE
from conveyorguard.evaluation.compare import Comparison
from conveyorguard.reporting import pages
from conveyorguard.reporting.site import Site
from conveyorguard.run import write_text

STEM = "08_best_model"


@dataclass
class BestModel:
    """All that the stage found.

    comparisons: by split, the folds pooled; the first is the one that the targets are of. names: of an arm, by the label
    that the comparison gives it.
    """

    comparisons: Mapping[str, Comparison]
    names: Mapping[str, Mapping[str, str]]
    targets: pd.DataFrame
    findings: pd.DataFrame
    robustness: pd.DataFrame | None
    starts_cut: pd.DataFrame | None
    speed: pd.DataFrame
    notes: list[str]


def write_best_model(site: Site, made: BestModel, size: str) -> Path:
    """The page, its tables as csv, and summary.md beside them; returns the page's path."""
    first = next(iter(made.comparisons.values()))
    blocks = [
        pages.section("Targets", site.table(f"{STEM}_targets", made.targets, look="prose"), note=first.resampling.note),
        pages.section(
            "What each input buys", site.table(f"{STEM}_findings", _in_points(made.findings), POINTS), note=RULE
        ),
    ]
    for split, comparison in made.comparisons.items():
        table = results(comparison, made.names[split])
        blocks.append(
            pages.section(f"split={split}", site.table(f"{STEM}_{split}", table, SHARES), note=comparison.protocol)
        )
    if made.robustness is not None:
        blocks.append(pages.section("When something fails", site.table(f"{STEM}_robustness", _in_points(made.robustness), {**POINTS, **SHARES}),
                                    note="Fusion, one trained model, against the better of its arms of one modality under the same corruption; points of macro-F1."))  # fmt: skip
    if made.starts_cut is not None:
        blocks.append(
            pages.section(
                STARTS_CUT, site.table(f"{STEM}_starts_cut", _starts(made.starts_cut), STARTS), note=STARTS_NOTE
            )
        )
    blocks.append(
        pages.section(
            "Speed",
            site.table(f"{STEM}_speed", made.speed, SPEED),
            note="In turns on this machine; a ratio says more than a time.",
        )
    )
    if made.notes:
        blocks.append(pages.section("Notes", "".join(f"<p>{pages.escape(note)}</p>" for note in made.notes)))
    said = [
        f"{row['target']}: {row['figure']} ({row['interval']}): {row['verdict']}." for _, row in made.targets.iterrows()
    ]
    write_text(site.folder / "summary.md", summary(site, made, size))
    return site.write(STEM, f"Targets on {first.protocol}", blocks, said)


SHARES = dict.fromkeys(["macro-F1", "low", "high", "accuracy", "severe recall", "macro_f1", "its macro_f1"], ".1%")
POINTS = dict.fromkeys(["points", "points, low", "points, high"], "+.2f")
STARTS_CUT = "Without the recordings' start"
STARTS_NOTE = (
    "0 to 100 s are cut off each recording's start; the windows that remain, in the whole recordings and in the cut ones. Change and what an arm "
    "then has before LightGBM on the 64 features, which knows no start, in points of macro-F1."
)
STARTS = {**dict.fromkeys(["whole", "cut", "cut, low", "cut, high"], ".1%"),
          **{f"{name}{end}": "+.2f" for name in ("change", "before lightgbm") for end in ("", ", low", ", high")}}  # fmt: skip
SPEED = {"windows_per_second": ",.1f", "latency_ms": ".2f", "parameters": ",.0f"}


def results(comparison: Comparison, names: Mapping[str, str]) -> pd.DataFrame:
    """A row an arm, the best first: macro-F1 with its interval, and what else counts."""
    table = comparison.table
    return pd.DataFrame({
        "arm": [names.get(label, f"shortcut: {label}") for label in table["arm"]], "macro-F1": table["macro_f1"], "low": table["macro_f1_low"],
        "high": table["macro_f1_high"], "accuracy": table["accuracy"], "severe recall": table["severe_recall"],
        "severe sessions missed": table["severe_sessions_missed"], "severe called normal": table["severe_as_normal"], "seeds": table["seeds"],
    })  # fmt: skip


def _in_points(table: pd.DataFrame) -> pd.DataFrame:
    """Differences in points instead of shares."""
    known = {
        "difference": "points",
        "low": "points, low",
        "high": "points, high",
        "difference_low": "points, low",
        "difference_high": "points, high",
    }
    found = table.rename(columns=known)
    for name in POINTS:
        found[name] = 100 * found[name]
    return found


def _starts(table: pd.DataFrame) -> pd.DataFrame:
    """The page's columns: changes in points instead of shares."""
    names = {column: column.replace("beside", "before lightgbm").replace("_", ", ") for column in map(str, table)}
    found = table.rename(columns=names)
    for name in STARTS:
        if not name.startswith(("whole", "cut")):
            found[name] = 100 * found[name]
    return found


def summary(site: Site, made: BestModel, size: str) -> str:
    """The page's tables as markdown, for the repository."""
    origin = "\n".join(f"- {what}: {value}" for what, value in site.origin)
    warning = (
        "" if size == "full" else "**A small run: it shows that everything works. None of these figures counts.**\n\n"
    )
    first, comparison = next(iter(made.comparisons.items()))
    parts = [
        f"# The best model\n\n{warning}{comparison.protocol}. {comparison.resampling.note}\n\n{origin}",
        f"## Targets\n\n{markdown(made.targets)}",
        f"## What each input buys\n\n{RULE}\n\n{markdown(_in_points(made.findings), POINTS)}",
        *(
            f"## split={split}\n\n{markdown(results(c, made.names[split]), SHARES)}"
            for split, c in made.comparisons.items()
        ),
    ]
    if made.robustness is not None:
        parts.append(f"## When something fails\n\n{markdown(_in_points(made.robustness), {**POINTS, **SHARES})}")
    if made.starts_cut is not None:
        parts.append(f"## {STARTS_CUT}\n\n{STARTS_NOTE}\n\n{markdown(_starts(made.starts_cut), STARTS)}")
    parts.append(f"## Speed\n\n{markdown(made.speed, SPEED)}")
    if made.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in made.notes))
    return "\n\n".join(parts) + "\n"


def markdown(table: pd.DataFrame, formats: Mapping[str, str] | None = None) -> str:
    """A table as markdown; a missing number is a dash."""

    def cell(value: object, spec: str) -> str:
        if isinstance(value, float) and value != value:
            return "–"
        return (format(value, spec) if spec and not isinstance(value, str) else str(value)).replace("|", "\\|")

    known = formats or {}
    head = [str(column) for column in table]
    rows = [
        [cell(value, known.get(name, "")) for name, value in zip(head, row, strict=True)]
        for row in table.itertuples(index=False)
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
