"""diagnose.html: what a run relies on, how it degrades when something fails, and where its errors are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from conveyorguard.data.durations import text_of
from conveyorguard.data.views import LONGEST_CUT
from conveyorguard.evaluation.advice import RULE
from conveyorguard.evaluation.breakdown import onset_summary
from conveyorguard.evaluation.diagnose import Diagnosis
from conveyorguard.evaluation.robustness import REPEATS, TOLERATED
from conveyorguard.metrics.intervals import FEWEST_SESSIONS, Interval
from conveyorguard.metrics.notation import PERCENT, POINTS
from conveyorguard.reporting import figures, pages
from conveyorguard.reporting.format import metric_title, warning_of
from conveyorguard.system.files import write_text

PREFIX = "diagnose_"  # of the csv files, which may lie in a run directory
SCORES = ("macro_f1", "accuracy", "severe_recall")


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        parts: drawn tables and figures.
        side_by_side: draw the parts side by side.
        details: a drawn table that opens by a click.
    """

    title: str
    note: str
    parts: Sequence[Markup] = ()
    side_by_side: bool = False
    details: Markup | None = None


def write_diagnosis(diagnosis: Diagnosis, folder: Path) -> Path:
    """Write diagnose.html and diagnose_<table>.csv into a folder, and return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in diagnosis.tables.items():
        write_text(folder / f"{PREFIX}{name}.csv", table.to_csv(index=False))
    run = diagnosis.run
    subtitle = (
        f"{run.model_name}, {run.modality}, run {run.folder.resolve().name}; {diagnosis.part} part of "
        f"split={run.settings['split']['name']} of {run.data_name} data; {run.window.question}"
    )
    builders = (
        _arms,
        _attribution,
        _robustness,
        _corruption,
        _noise,
        _curve,
        _devices,
        _distance,
        _causal,
        _onsets,
        _start,
    )
    sections = [section for build in builders if (section := build(diagnosis))]
    path = folder / "diagnose.html"
    main = pages.render("diagnose.html.jinja", advice=_advice(diagnosis), sections=sections)
    write_text(path, pages.page("Diagnosis", subtitle, main))
    return path


def terminal_summary(diagnosis: Diagnosis) -> str:
    """Return the recommendation with the figures and reasons behind it, as lines of text."""
    lines = [f"{row['arm']}: macro-F1 {share(row, 'macro_f1')}" for _, row in diagnosis.tables["arms"].iterrows()]
    for _, row in diagnosis.tables.get("robustness", pd.DataFrame()).iterrows():
        lines.append(f"{row['corruption']}: {points(row)} points compared with {row['better arm']}: {row['verdict']}")
    choice = diagnosis.advice.choice or "none"
    return "\n".join([*lines, *diagnosis.notes, *diagnosis.advice.reasons, f"Recommendation: {choice}."])


def share(row: pd.Series, name: str) -> str:
    """Return a share with its interval, e.g. `94.1 % [91.0, 96.2]`; a dash if it is missing."""
    return PERCENT.with_interval(Interval.of(row, name))


def points(row: pd.Series, name: str = "difference") -> str:
    """Return a difference in points with its interval, e.g. `-1.2 [-3.0, 0.4]`."""
    ends = ("low", "high") if "low" in row else (f"{name}_low", f"{name}_high")
    return POINTS.with_interval(Interval.of(row, name, *ends))


def _table(name: str, header: Sequence[str], rows: list[list[Any]]) -> Markup:
    """Draw a table with a link to its csv; a value stays on one line with its interval."""
    cells = [[_unbroken(cell) if isinstance(cell, str) and "[" in cell else cell for cell in row] for row in rows]
    return pages.sortable(header, cells, csv=f"{PREFIX}{name}.csv")


def _unbroken(text: str) -> str:
    return text.replace(" [", "\u00a0[").replace(", ", ",\u00a0").replace(" %", "\u00a0%")


def _advice(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the recommendation, its reasons and its rule."""
    advice = diagnosis.advice
    note = f"Rule: {RULE} {diagnosis.note} {warning_of(diagnosis.run.data_name)}"
    return {
        "choice": advice.choice or "none",
        "reasons": [*advice.reasons, *diagnosis.notes],
        "note": note.rstrip(),
    }


def _arms(diagnosis: Diagnosis) -> Section:
    arms = diagnosis.tables["arms"]
    rows = [
        [
            row["arm"],
            row["run"],
            row["model"],
            row["modality"],
            "yes" if row["film"] else "no",
            *(share(row, score) for score in SCORES),
            PERCENT.number(row["validation_macro_f1"]),
        ]
        for _, row in arms.iterrows()
    ]
    titles = [metric_title(score, diagnosis.run.schema) for score in SCORES]
    header = ["arm", "run", "model", "modality", "film", *titles, "validation macro-F1"]
    parts = [_table("arms", header, rows)]
    gap = diagnosis.tables["gap"]
    if len(gap):
        rows = [[row["minus"], points(row), row["verdict"]] for _, row in gap.iterrows()]
        parts.append(_table("gap", [f"{next(iter(diagnosis.arms))} minus", "macro-F1, points", "verdict"], rows))
    note = (
        "All arms on the same windows. Better or worse: zero is excluded from the paired difference after Holm's "
        "correction for the number of rows. Brackets: 95 % interval of each figure alone."
    )
    return Section("The run and the arms it is compared with", note, parts)


def _attribution(diagnosis: Diagnosis) -> Section:
    rows = [
        [row["arm"], row["modality"], points(row, "fall"), f"{row['share']:.0%}"]
        for _, row in diagnosis.tables["attribution"].iterrows()
    ]
    note = (
        f"A modality is permuted between the windows at random, {REPEATS} times, so that it carries no information on "
        "its window. share: of the sum of all losses. Information that is in both modalities counts for neither."
    )
    header = ["arm", "modality", "macro-F1 lost, points", "share"]
    return Section("What each arm relies on", note, [_table("attribution", header, rows)])


def _robustness(diagnosis: Diagnosis) -> Section | None:
    if "robustness" not in diagnosis.tables:
        return None
    rows = [
        [
            row["corruption"],
            PERCENT.number(row["macro_f1"]),
            row["better arm"],
            PERCENT.number(row["its macro_f1"]),
            points(row),
            row["verdict"],
            f"{row['severe_sessions_missed']:.0f}",
        ]
        for _, row in diagnosis.tables["robustness"].iterrows()
    ]
    header = [
        "corruption",
        next(iter(diagnosis.arms)),
        "better arm of one modality",
        "its macro-F1",
        "difference, points",
        "verdict",
        metric_title("severe_sessions_missed", diagnosis.run.schema),
    ]
    note = (
        f"Holds: shown to be at most {100 * TOLERATED:.0f} point below the better of the arms trained on one modality, "
        "under the same corruption; falls below: shown to be further below. Shown: by the bound of the interval, after "
        "Holm's correction for the number of rows; otherwise, and without an interval, not shown."
    )
    title = "When something fails: compared with the better single modality"
    return Section(title, note, [_table("robustness", header, rows)])


def _corruption(diagnosis: Diagnosis) -> Section:
    table, labels = diagnosis.tables["corruption"], list(diagnosis.arms)
    rows = []
    for name in table["corruption"].unique():
        arms = table[table["corruption"] == name].set_index("arm")
        changes = (f"{share(arms.loc[a], 'macro_f1')}, {0.0 - 100 * arms.loc[a, 'fall']:+.1f}" for a in labels)
        rows.append([name, *changes])
    note = (
        "Macro-F1 with its interval, and the change from the unchanged recordings in points. All arms see the same "
        "corrupted seconds; scaling and features are computed after the corruption. Missing values: the last value is "
        "held and flagged; no model reads the flag, but a flagged second is not used as the start of a recording. Dead "
        "sensor (each channel in A, or with scaling: log) reads 0, black camera 0 °C, frozen camera the recording's "
        "first frame; none of these is flagged. Absent camera: every frame is the median of the training frames, "
        "flagged. Noise: in multiples of the channel's own variation between seconds in the first state, on devices of "
        "the kind."
    )
    drawn = _table("corruption", ["corruption", *labels], rows)
    return Section("When something fails: every arm", note, [drawn])


def _noise(diagnosis: Diagnosis) -> Section:
    table, arms = diagnosis.tables["corruption"], diagnosis.tables["arms"].set_index("arm")
    noisy = table[table["group"] == "noise"]
    curves = {}
    for label in diagnosis.arms:
        clean = arms.loc[label]
        start = {"x": 0.0, "value": clean["macro_f1"], "low": clean["macro_f1_low"], "high": clean["macro_f1_high"]}
        levels = [
            {"x": row["level"], "value": row["macro_f1"], "low": row["macro_f1_low"], "high": row["macro_f1_high"]}
            for _, row in noisy[noisy["arm"] == label].iterrows()
        ]
        curves[label] = pd.DataFrame([start, *levels])
    plot = figures.interval_lines(curves, "Macro-F1 under sensor noise", "added noise, times the normal", "macro-F1")
    return Section("Noise", "", [pages.figure(plot, "macro-F1 of each arm over added sensor noise")])


def _curve(diagnosis: Diagnosis) -> Section:
    title = "Macro-F1 by number of devices"
    if "curve" not in diagnosis.tables:
        note = (
            "Not computed. Add e.g. curve=4,8,16 to the command, which then trains the run, and the run of the other "
            "family, on that many devices."
        )
        return Section(title, note)
    table = diagnosis.tables["curve"]
    curves = {
        str(label): pd.DataFrame(
            {"x": arm["devices"], "value": arm["macro_f1"], "low": arm["macro_f1_low"], "high": arm["macro_f1_high"]}
        )
        for label, arm in table.groupby("arm", sort=False)
    }
    plot = figures.interval_lines(curves, title, "devices trained on", "macro-F1")
    rows = [[row["arm"], row["devices"], share(row, "macro_f1"), row["run"]] for _, row in table.iterrows()]
    parts = [
        pages.figure(plot, "macro-F1 of each arm over the number of devices it is trained on"),
        _table("curve", ["arm", "devices", "macro-F1", "run"], rows),
    ]
    note = (
        "Trained on subsets of the train devices, a smaller one within a larger one. Validation and test do not change."
    )
    return Section(title, note, parts, side_by_side=True)


def _groups(diagnosis: Diagnosis, name: str, columns: Sequence[str]) -> Markup:
    """Draw the accuracy of each arm in groups of windows, described by the first columns."""
    rows = [
        [*(row[column] for column in columns), *(share(row, label) for label in diagnosis.arms)]
        for _, row in diagnosis.tables[name].iterrows()
    ]
    return _table(name, [*columns, *diagnosis.arms], rows)


def _devices(diagnosis: Diagnosis) -> Section:
    note = (
        "Accuracy on the windows of each device. Intervals are over its recordings; a device with fewer than "
        f"{FEWEST_SESSIONS} has none."
    )
    return Section("Devices", note, [_groups(diagnosis, "devices", ["device", "kind", "windows", "sessions"])])


def _distance(diagnosis: Diagnosis) -> Section:
    note = "Accuracy by the time between a window and the nearest change of state in its recording."
    groups = _groups(diagnosis, "distance", ["nearest change of state", "windows", "sessions"])
    return Section("Errors near a change of state", note, [groups])


def _causal(diagnosis: Diagnosis) -> Section:
    scores = ("accuracy", "macro_f1", "severe_recall")
    rows = [
        [row["arm"], row["label"], f"{row['windows']:,}", *(share(row, score) for score in scores)]
        for _, row in diagnosis.tables["causal"].iterrows()
    ]
    header = ["arm", "label", "windows", *(metric_title(score, diagnosis.run.schema) for score in scores)]
    note = (
        "A window ends at every second. last: compared with the state of its last second, as in operation; majority: "
        "with its most common state. The model is the same."
    )
    return Section("Second by second", note, [_table("causal", header, rows)])


def _onsets(diagnosis: Diagnosis) -> Section:
    table = diagnosis.tables["onsets"]
    if not len(table):
        reason = f"No recording of the {diagnosis.part} part has a state that needs an alarm"
        return Section("Faults", f"{reason}, or there is no operating point.")
    summary = onset_summary(table)
    formats = dict.fromkeys(summary.columns[1:], ".0f")
    rows = [
        [
            row["session"],
            row["device"],
            row["arm"],
            "missed" if row["missed"] else _seconds(row["alarm_at"]),
            _seconds(row["delay"]),
            _seconds(row["lead"]),
        ]
        for _, row in table.sort_values(["session", "arm"]).iterrows()
    ]
    header = ["session", "device", "arm", "alarm at, s", "delay, s", "lead to the end, s"]
    note = (
        "At the operating point of each run, chosen on validation. Times in s. A delay counts from the onset of the "
        "alarm state, in runs of earlier versions from the first wear; it is unknown where a recording begins that way."
    )
    return Section(
        "Faults: delay of the alarm, lead to the end",
        note,
        [pages.framed(pages.gathered(summary, ["missed"], " low", " high"), formats)],
        details=_table("onsets", header, rows),
    )


def _seconds(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(float(value)) else f"{float(value):.0f}"


def _start(diagnosis: Diagnosis) -> Section:
    title, longest = "Without the recording's start", text_of(LONGEST_CUT * diagnosis.run.window.period)
    if "start_cut" not in diagnosis.tables:
        note = f"Not computed: no window remains when up to {longest} are cut off the start of each session."
        return Section(title, note)
    rows = [
        [row["arm"], f"{row['windows']:,}", PERCENT.number(row["whole"]), share(row, "cut"), points(row, "change")]
        for _, row in diagnosis.tables["start_cut"].iterrows()
    ]
    note = (
        f"Up to {longest}, drawn for each session, are cut off its start; inputs relative to the start are computed "
        "again. Macro-F1 on the windows that remain. An arm that uses nothing relative to the start cannot change."
    )
    header = ["arm", "windows", "whole", "start cut off", "change, points"]
    return Section(title, note, [_table("start_cut", header, rows)])
