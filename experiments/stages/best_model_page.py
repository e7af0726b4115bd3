"""Stage 08: targets of the best model, comparisons on several splits, robustness and speed, also as markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from conveyorguard.evaluation.comparison import Comparison
from conveyorguard.metrics.intervals import FEWEST_SESSIONS
from conveyorguard.reporting import pages
from conveyorguard.reporting.site import Site
from conveyorguard.system.files import write_text
from experiments.stages.best_model import RULE
from experiments.stages.run_blocks import render

STEM = "08_best_model"
FIRST = "fusion"  # the model that the page is about


@dataclass
class BestModel:
    """Results of the stage.

    Args:
        comparisons: comparison by split, folds pooled; the targets refer to the first.
        names: by split, the arm of each label in the comparison.
        targets: table of `best_model_targets.targets`.
        findings: table of `best_model.findings`.
        robustness: table of `against_single` for the arms of one modality; None if left out.
        against_trees: table of `against_single` for LightGBM; None if left out.
        starts_cut: table of `starts_cut_table`; None if left out, or if the recordings are too short.
        devices: table of `breakdown.by_device` for the main arms.
        distance: table of `distance_table` for the main arms.
        causal: table of `causal_table` for the main arms.
        onsets: table of `onset_table` for the main arms; None if there is no fault.
        others: table of `others_table`; None if left out, or if the data cannot be simulated again.
        speed: table of `speed.side_by_side`.
        notes: sentences for the end of the page.
    """

    comparisons: Mapping[str, Comparison]
    names: Mapping[str, Mapping[str, str]]
    targets: pd.DataFrame
    findings: pd.DataFrame
    robustness: pd.DataFrame | None
    against_trees: pd.DataFrame | None
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
    """A table of the page and the summary, with its title, its note and the name of its csv."""

    title: str
    note: str
    name: str
    table: pd.DataFrame
    formats: Mapping[str, str] = field(default_factory=dict)


def parts(results: BestModel) -> list[Part]:
    """Return the tables of the page and the summary, in order."""
    first = next(iter(results.comparisons.values()))
    missed = results.targets["verdict"].str.startswith("not reached").any()
    two_questions = Part(
        "Second by second",
        CAUSAL_NOTE,
        "causal",
        pages.gathered(results.causal, ["accuracy", "macro_f1", "severe_recall"]),
        SHARES,
    )
    note = " ".join([first.resampling.note, DIFFERENCES, *([TRIED] if missed else [])])
    tables = [
        Part("Targets", note, "targets", results.targets),
        Part(
            "What each input contributes",
            f"{RULE} {SEEDS_NOTE}",
            "findings",
            _in_points(results.findings, "low", "high"),
            POINTS,
        ),
        *(
            Part(
                f"split={split}",
                f"{comparison.protocol}. {comparison.resampling.note}",
                split,
                arms_table(comparison, results.names[split]),
                {**SHARES, **MINUS},
            )
            for split, comparison in results.comparisons.items()
        ),
        *_failing(results),
        *(
            []
            if results.starts_cut is None
            else [Part("Without the recordings' start", STARTS_NOTE, "starts_cut", _starts(results.starts_cut), STARTS)]
        ),
        Part(
            "Devices",
            "Accuracy on the windows of each device, averaged over seeds; the models were trained on other devices. "
            f"{FEW}",
            "devices",
            *_by_arm(results.devices),
        ),
        Part(
            "Errors near a change of state",
            "Accuracy by the time between a window and the nearest change of state in its recording, averaged over "
            "seeds.",
            "distance",
            *_by_arm(results.distance),
        ),
        two_questions,
        *(
            []
            if results.onsets is None
            else [
                Part(
                    "Faults: delay of the alarm, lead to the end",
                    ONSETS_NOTE,
                    "onsets",
                    pages.gathered(results.onsets, ["missed"], " low", " high"),
                    dict.fromkeys(results.onsets.columns[1:], ",.0f"),
                )
            ]
        ),
    ]
    if results.others is not None:
        tables.append(
            Part(
                "Recordings used for no choice",
                OTHERS_NOTE,
                "others",
                _in_points(pages.gathered(results.others, ["macro_f1", "severe_recall"])),
                OTHERS,
            )
        )
    question = first.rows[0].sources[0].window.question
    asked = [
        part if part is two_questions else replace(part, note=f"{part.note} Asked: {question}.") for part in tables
    ]
    return [*asked, Part("Speed", SPEED_NOTE, "speed", results.speed, SPEED)]


def _failing(results: BestModel) -> list[Part]:
    """Return the tables on corrupted recordings; none if they were left out."""
    if results.robustness is None or results.against_trees is None:
        return []
    failing = {**POINTS, **SHARES, **MISSED}
    return [
        Part(
            "When something fails",
            "Fusion compared with the better of its two arms of one modality under the same corruption, in points of "
            f"macro-F1. {HOLDS} {FAILING} {NOISE}",
            "robustness",
            _in_points(results.robustness),
            failing,
        ),
        Part(
            "When something fails: against trees",
            "Fusion compared with LightGBM extended under the same corruption, in points of macro-F1. "
            f"{HOLDS} {FAILING}",
            "against_trees",
            _in_points(results.against_trees.rename(columns={"better arm": "trees"})),
            failing,
        ),
    ]


def write_best_model(site: Site, results: BestModel, warning: str = "") -> Path:
    """Write the page, its tables as csv, and summary.md beside them, and return the page's path.

    Args:
        warning: a sentence for the top of summary.md, on what the figures are not good for.
    """
    first = next(iter(results.comparisons.values()))
    sections = [
        {
            "title": part.title,
            "note": part.note,
            "table": site.table(
                f"{STEM}_{part.name}", part.table, part.formats, look="prose" if part.name == "targets" else ""
            ),
        }
        for part in parts(results)
    ]
    sentences = [
        f"{row['target']}: {row['figure']} ({row['interval']}): {row['verdict']}."
        for _, row in results.targets.iterrows()
    ]
    write_text(site.folder / "summary.md", summary(site, results, warning))
    main = render("best_model.html.jinja", parts=sections, notes=results.notes)
    return site.write(STEM, f"Targets on {first.protocol}", main, sentences)


DIFFERENCES = "A target on a difference is reached by the end of its interval, never by its value."
TRIED = "What was tried for targets that were not reached, failures included: experiments/best_model/log.md."
SEEDS_NOTE = (
    "Intervals cover devices and recordings, not seeds: the seeds of an arm are averaged. Where an arm has one seed "
    "(column seeds: of the arm, of what is subtracted), another seed would change the difference by up to half a "
    "point per fold."
)
HOLDS = "Holds: shown to be at most one point below, by the lower bound, after Holm's correction."
FAILING = (
    "Severe recall is the mean over fusion's seeds, missed sessions those of its worst seed; column seeds: of "
    "fusion, of the other."
)
SPEED_NOTE = (
    "Measured on this machine, the models in turns, so ratios are more reliable than times. windows_per_second: "
    "windows of training steps (augmentation, blending, forward, backward) per second of processor time. "
    "latency_ms: one window from the store to probabilities on one thread, with its recording's start at hand."
)
NOISE = (
    "Noise: x1 adds noise of a channel's own normal size on devices of the kind, which is 1.4 times the noise in all. "
    "Absent camera: every frame is the median of the training frames, flagged as missing, while predict refuses a "
    "recording without its camera. No model reads the flag."
)
STARTS_NOTE = (
    "0 to 100 s are cut off each recording's start. Macro-F1 on the windows that remain, in the whole and in the "
    "cut recordings. change, and minus lightgbm (the cut arm minus LightGBM on the 64 features, which do not use "
    "the start), in points. The columns on the worst state refer to the cut recordings."
)
FEW = f"Intervals are over the device's sessions; a device with fewer than {FEWEST_SESSIONS} has none."
CAUSAL_NOTE = (
    "A window ends at every second. last: compared with the state of its last second, as in operation; majority: "
    "with its most common state, as in the seed study. The models are the same."
)
ONSETS_NOTE = (
    "One row per seed: recordings with a fault, those without an alarm, and times in s for the others. The model of "
    "each fold uses its own operating point, chosen on validation by a cap on false alarms and a miss rate. A delay "
    "counts from the onset of the state that needs an alarm."
)
OTHERS_NOTE = (
    "Recordings and devices simulated with another data.seed for this table alone. Choices were made on the "
    "validation windows of all folds, each of which is a test window of another fold; these recordings were used "
    "for none. The models of all folds and seeds count as seeds. points: fusion minus the arm, in points of "
    "macro-F1."
)
SHARES = dict.fromkeys(
    ["macro-F1", "accuracy", "severe recall", "macro_f1", "its macro_f1", "severe_recall", "whole", "cut"], ".1%"
)
MINUS = {f"{FIRST} minus it": "+.2f"}
POINTS = {"points": "+.2f"}
MISSED = {"severe_sessions_missed": ".0f"}
STARTS = {
    **SHARES,
    **dict.fromkeys(["change", "minus lightgbm"], "+.2f"),
    **dict.fromkeys(["severe sessions missed", "severe as normal"], ".0f"),
}
OTHERS = {**SHARES, **POINTS, **MISSED, "severe_as_normal": ".0f"}
SPEED = {"windows_per_second": ",.1f", "latency_ms": ".2f", "parameters": ",.0f"}


def arms_table(comparison: Comparison, names: Mapping[str, str]) -> pd.DataFrame:
    """Return a row for each arm, the best first: macro-F1 with its interval, fusion minus it in points, other scores.

    Args:
        names: the arm of each label in the comparison.
    """
    table, arms = comparison.table, {row.label: row.arm for row in comparison.rows}
    first = next(arms[label] for label, name in names.items() if name == f"{FIRST}_both_film")
    return pd.DataFrame(
        {
            "arm": [names.get(label, f"shortcut: {label}") for label in table["arm"]],
            "macro-F1": pages.intervals_of(table, "macro_f1"),
            f"{FIRST} minus it": [first.difference(arms[label], "macro_f1").times(100) for label in table["arm"]],
            "accuracy": table["accuracy"],
            "severe recall": table["severe_recall"],
            "severe sessions missed": table["severe_sessions_missed"],
            "severe called normal": table["severe_as_normal"],
            "seeds": table["seeds"],
        }
    )


def _in_points(table: pd.DataFrame, low: str = "difference_low", high: str = "difference_high") -> pd.DataFrame:
    """Return the table with its column `difference` and the two columns of bounds as an interval `points`."""
    points = [difference.times(100) for difference in pages.intervals_of(table, "difference", low, high)]
    return table.assign(difference=points).drop(columns=[low, high]).rename(columns={"difference": "points"})


def _starts(table: pd.DataFrame) -> pd.DataFrame:
    """Return `starts_cut_table` with the page's column names, and differences in percentage points."""
    frame = pages.gathered(table, ["cut", "change", "difference"])
    for name in ("change", "difference"):
        frame[name] = [interval.times(100) for interval in frame[name]]
    return frame.rename(columns=lambda name: name.replace("difference", "minus lightgbm").replace("_", " "))


def _by_arm(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a table of `breakdown.by_group` with its accuracies as intervals, and their formats."""
    arms = list(table.columns[table.columns.get_loc("sessions") + 1 :: 3])  # each arm is followed by its bounds
    return pages.gathered(table, arms), dict.fromkeys(arms, ".1%")


def summary(site: Site, results: BestModel, warning: str = "") -> str:
    """Return the page's tables as markdown; see `write_best_model`."""
    origin = "\n".join(f"- {what}: {value}" for what, value in site.origin)
    warning = f"**{warning}**\n\n" if warning else ""
    comparison = next(iter(results.comparisons.values()))
    blocks = [f"# The best model\n\n{warning}{comparison.protocol}.\n\n{origin}"]
    blocks += [f"## {part.title}\n\n{part.note}\n\n{markdown(part.table, part.formats)}" for part in parts(results)]
    if results.notes:
        blocks.append("## Notes\n\n" + "\n".join(f"- {note}" for note in results.notes))
    return "\n\n".join(blocks) + "\n"


def markdown(table: pd.DataFrame, formats: Mapping[str, str] | None = None) -> str:
    """Return a table as markdown with aligned columns; bounds get columns of their own, a missing number is a dash."""
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
