"""Stage 08: the best model's targets, comparisons over several splits, robustness and speed; and a summary in
markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from conveyorguard.evaluation.comparison import Comparison
from conveyorguard.metrics.bootstrap import FEWEST_SESSIONS
from conveyorguard.reporting import pages
from conveyorguard.reporting.site import Site
from conveyorguard.system.files import write_text
from experiments.stages.best_model import RULE

STEM = "08_best_model"
FIRST = "fusion"  # the model that the page is about


@dataclass
class BestModel:
    """All that the stage found.

    comparisons: by split, the folds pooled; the first is the one that the targets are of. names: of an arm, by the
    label that the comparison gives it. robustness, against_trees: of `against_single`. devices, distance, causal,
    onsets: of `evaluation.breakdown` and `by_label_rule`, of the main arms. starts_cut: None where recordings are too
    short. onsets: None where there is no fault. others: None where the data cannot be drawn anew.
    """

    comparisons: Mapping[str, Comparison]
    names: Mapping[str, Mapping[str, str]]
    targets: pd.DataFrame
    findings: pd.DataFrame
    robustness: pd.DataFrame
    against_trees: pd.DataFrame
    starts_cut: pd.DataFrame | None
    devices: pd.DataFrame
    distance: pd.DataFrame
    causal: pd.DataFrame
    onsets: pd.DataFrame | None
    others: pd.DataFrame | None
    speed: pd.DataFrame
    notes: list[str]


@dataclass
class Part:
    """A table of the page and of the summary; name: of its csv."""

    title: str
    note: str
    name: str
    table: pd.DataFrame
    formats: Mapping[str, str] = field(default_factory=dict)


def parts(made: BestModel) -> list[Part]:
    first = next(iter(made.comparisons.values()))
    failing = {**POINTS, **SHARES, **MISSED}
    missed = made.targets["verdict"].str.startswith("not reached").any()
    note = " ".join([first.resampling.note, DIFFERENCES, *([TRIED] if missed else [])])
    found = [
        Part("Targets", note, "targets", made.targets),
        Part(
            "What each input buys",
            f"{RULE} {SEEDS_NOTE}",
            "findings",
            _in_points(made.findings, "low", "high"),
            POINTS,
        ),
        *(
            Part(
                f"split={split}",
                f"{comparison.protocol}. {comparison.resampling.note}",
                split,
                results(comparison, made.names[split]),
                {**SHARES, **BEFORE},
            )
            for split, comparison in made.comparisons.items()
        ),
        Part(
            "When something fails",
            "Fusion, one trained model, against the better of its arms of one modality under the same corruption, "
            f"in points of macro-F1. {HOLDS} {FAILING} {NOISE}",
            "robustness",
            _in_points(made.robustness),
            failing,
        ),
        Part(
            "When something fails: against trees",
            f"Fusion against LightGBM extended under the same corruption, in points of macro-F1. {HOLDS} {FAILING}",
            "against_trees",
            _in_points(made.against_trees.rename(columns={"better arm": "trees"})),
            failing,
        ),
        *(
            []
            if made.starts_cut is None
            else [Part("Without the recordings' start", STARTS_NOTE, "starts_cut", _starts(made.starts_cut), STARTS)]
        ),
        Part(
            "Devices",
            f"Accuracy on the windows of each device, which no model was trained on, seeds averaged. {FEW}",
            "devices",
            *_by_arm(made.devices),
        ),
        Part(
            "Errors near a change of state",
            "Accuracy of windows by the time between them and the nearest change of state in their recording, "
            "seeds averaged.",
            "distance",
            *_by_arm(made.distance),
        ),
        Part(
            "Second by second",
            CAUSAL_NOTE,
            "causal",
            pages.gathered(made.causal, ["accuracy", "macro_f1", "severe_recall"]),
            SHARES,
        ),
        *(
            []
            if made.onsets is None
            else [
                Part(
                    "Faults: delay after the onset, lead to the end",
                    ONSETS_NOTE,
                    "onsets",
                    pages.gathered(made.onsets, ["missed"], " low", " high"),
                    dict.fromkeys(made.onsets.columns[1:], ",.0f"),
                )
            ]
        ),
    ]
    if made.others is not None:
        found.append(
            Part(
                "Recordings on which nothing was chosen",
                OTHERS_NOTE,
                "others",
                _in_points(pages.gathered(made.others, ["macro_f1", "severe_recall"])),
                OTHERS,
            )
        )
    return [
        *found,
        Part("Speed", SPEED_NOTE, "speed", made.speed, SPEED),
    ]


def write_best_model(site: Site, made: BestModel, full: bool) -> Path:
    """The page, its tables as csv, and summary.md beside them; returns the page's path.

    Args:
        full: whether the data have the size that the targets are of.
    """
    first = next(iter(made.comparisons.values()))
    blocks = [
        pages.section(
            part.title,
            site.table(f"{STEM}_{part.name}", part.table, part.formats, look="prose" if part.name == "targets" else ""),
            note=part.note,
        )
        for part in parts(made)
    ]
    if made.notes:
        blocks.append(pages.section("Notes", "".join(f"<p>{pages.escape(note)}</p>" for note in made.notes)))
    said = [
        f"{row['target']}: {row['figure']} ({row['interval']}): {row['verdict']}." for _, row in made.targets.iterrows()
    ]
    write_text(site.folder / "summary.md", summary(site, made, full))
    return site.write(STEM, f"Targets on {first.protocol}", blocks, said)


DIFFERENCES = "A target on a difference is reached by its figure, not by the end of its interval, unless it says so."
TRIED = "What was tried for a target that is not reached, failures included: experiments/best_model/log.md."
SEEDS_NOTE = (
    "Intervals are of devices and recordings; seeds of an arm are averaged, and where it has one (seeds: of the "
    "arm, of what is subtracted) another would "
    "give other figures, by up to half a point a fold. A bound within a few hundredths of a border of the rule may "
    "lie beyond it by other replicates."
)
HOLDS = "Holds: not more than a point below it, by the figure."
FAILING = (
    "Severe recall, and sessions whose worst state its worst seed missed entirely; seeds: of fusion, of the other."
)
SPEED_NOTE = (
    "On this machine; a ratio says more than a time. Windows a second of processor time in training steps "
    "(augmentation, blending, forward, backward), the "
    "models in turns; then of each a single window from the store to probabilities on one thread, its recording's "
    "start at hand."
)
NOISE = (
    "Noise is added to a channel's own on devices of the kind, so that x1 makes it 1.4 times as large. Of an "
    "absent camera every frame is the training's median, flagged; predict "
    "fills no camera in, but tells such a recording as one that cannot be read. No model reads the flag of what "
    "was missing."
)
STARTS_NOTE = (
    "0 to 100 s are cut off each recording's start; the windows that remain, in the whole recordings and in the "
    "cut ones. Change and what an arm "
    "then has before LightGBM on the 64 features, which knows no start, in points of macro-F1; what is said of the "
    "worst state is of the cut ones."
)
FEW = (
    f"Intervals by resampling its recordings; of fewer than {FEWEST_SESSIONS} the exact bound, a recording "
    "counting once."
)
CAUSAL_NOTE = (
    "A window ends at every second. last: it is judged by the state of that second, all that is known then; "
    "majority: by its commonest state, "
    "as the seed study does. The models are the same."
)
ONSETS_NOTE = (
    "A row a seed: fault recordings, those that no alarm told of, and of the others the seconds. The model of each "
    "fold alarms at its own "
    "operating point, chosen on its validation: of the thresholds that missed no fault there and rang least "
    "without one, one in the middle. A delay "
    "counts from the first second that is not normal; a state that is worth an alarm may begin long after it, so a "
    "long delay need not be a late alarm."
)
OTHERS_NOTE = (
    "Recordings and devices drawn by another data.seed for this table alone. Choosing was done on the validation "
    "windows of all folds, each of "
    "which is a test window of another fold; here is what was never looked at. The models of all folds and seeds "
    "count as seeds; points of macro-F1 that fusion has before each."
)
SHARES = dict.fromkeys(
    ["macro-F1", "accuracy", "severe recall", "macro_f1", "its macro_f1", "severe_recall", "whole", "cut"], ".1%"
)
BEFORE = {f"{FIRST} before it": "+.2f"}
POINTS = {"points": "+.2f"}
MISSED = {"severe_sessions_missed": ".0f"}
STARTS = {
    **SHARES,
    **dict.fromkeys(["change", "before lightgbm"], "+.2f"),
    **dict.fromkeys(["severe sessions missed", "severe as normal"], ".0f"),
}
OTHERS = {**SHARES, **POINTS, **MISSED, "severe_as_normal": ".0f"}
SPEED = {"windows_per_second": ",.1f", "latency_ms": ".2f", "parameters": ",.0f"}


def results(comparison: Comparison, names: Mapping[str, str]) -> pd.DataFrame:
    """A row an arm, the best first: macro-F1 with its interval, what fusion has before it in points, and what else
    counts."""
    table, arms = comparison.table, {row.label: row.arm for row in comparison.rows}
    first = next(arms[label] for label, name in names.items() if name == f"{FIRST}_both_film")
    return pd.DataFrame(
        {
            "arm": [names.get(label, f"shortcut: {label}") for label in table["arm"]],
            "macro-F1": pages.intervals_of(table, "macro_f1"),
            f"{FIRST} before it": [first.difference(arms[label], "macro_f1").times(100) for label in table["arm"]],
            "accuracy": table["accuracy"],
            "severe recall": table["severe_recall"],
            "severe sessions missed": table["severe_sessions_missed"],
            "severe called normal": table["severe_as_normal"],
            "seeds": table["seeds"],
        }
    )


def _in_points(table: pd.DataFrame, low: str = "difference_low", high: str = "difference_high") -> pd.DataFrame:
    """The difference of a table, whose bounds are in these columns, as points."""
    points = [difference.times(100) for difference in pages.intervals_of(table, "difference", low, high)]
    return table.assign(difference=points).drop(columns=[low, high]).rename(columns={"difference": "points"})


def _starts(table: pd.DataFrame) -> pd.DataFrame:
    """The page's columns: changes in points instead of shares."""
    found = pages.gathered(table, ["cut", "change", "beside"])
    for name in ("change", "beside"):
        found[name] = [interval.times(100) for interval in found[name]]
    return found.rename(columns=lambda name: name.replace("beside", "before lightgbm").replace("_", " "))


def _by_arm(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """A table of `breakdown.by_group` with its accuracies as intervals, and their formats."""
    arms = list(table.columns[table.columns.get_loc("sessions") + 1 :: 3])  # an arm, its lower, its upper bound
    return pages.gathered(table, arms), dict.fromkeys(arms, ".1%")


def summary(site: Site, made: BestModel, full: bool) -> str:
    """The page's tables as markdown, for the repository."""
    origin = "\n".join(f"- {what}: {value}" for what, value in site.origin)
    warning = "" if full else "**A small run: it shows that everything works. None of these figures counts.**\n\n"
    comparison = next(iter(made.comparisons.values()))
    blocks = [f"# The best model\n\n{warning}{comparison.protocol}.\n\n{origin}"]
    blocks += [f"## {part.title}\n\n{part.note}\n\n{markdown(part.table, part.formats)}" for part in parts(made)]
    if made.notes:
        blocks.append("## Notes\n\n" + "\n".join(f"- {note}" for note in made.notes))
    return "\n\n".join(blocks) + "\n"


def markdown(table: pd.DataFrame, formats: Mapping[str, str] | None = None) -> str:
    """A table as markdown, its columns in line for whoever reads it in a terminal; bounds of intervals have columns of
    their own, a missing number is a dash."""
    specs = {f"{name}{end}": spec for name, spec in (formats or {}).items() for end in ("", " low", " high")}
    frame = pages.flat(table)
    head = [str(column) for column in frame]
    rows = [
        [pages.cell(value, specs.get(name, "")).replace("|", "\\|") for name, value in zip(head, row, strict=True)]
        for row in frame.itertuples(index=False)
    ]
    widths = [max(3, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)
