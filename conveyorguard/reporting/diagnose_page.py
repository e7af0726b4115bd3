"""diagnose.html: what a run leans on, how it fares when something fails, where its errors are; its tables as csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.evaluation.advice import RULE
from conveyorguard.evaluation.breakdown import onset_summary
from conveyorguard.evaluation.diagnose import Diagnosis
from conveyorguard.evaluation.robustness import REPEATS, TOLERATED
from conveyorguard.metrics.bootstrap import FEWEST_SESSIONS, Interval
from conveyorguard.metrics.notation import PERCENT, POINTS
from conveyorguard.reporting import figures, pages
from conveyorguard.reporting.format import metric_title, warning_of
from conveyorguard.system.files import write_text

PREFIX = "diagnose_"  # of the csv files, which may lie in the run directory


def write_diagnosis(diagnosis: Diagnosis, folder: Path) -> Path:
    """Write diagnose.html and diagnose_<table>.csv into the folder; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in diagnosis.tables.items():
        write_text(folder / f"{PREFIX}{name}.csv", table.to_csv(index=False))
    run = diagnosis.run
    subtitle = (
        f"{run.model_name}, {run.modality}, run {run.folder.resolve().name}; {diagnosis.part} part of "
        f"split={run.settings['split']['name']} of {run.data_name} data"
    )
    makers = (
        _advice,
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
    blocks = [block for make in makers if (block := make(diagnosis))]
    path = folder / "diagnose.html"
    write_text(path, pages.page("Diagnosis", subtitle, blocks))
    return path


def terminal_summary(diagnosis: Diagnosis) -> str:
    """The advice and what it rests on, in a few lines."""
    lines = [f"{row['arm']}: macro-F1 {share(row, 'macro_f1')}" for _, row in diagnosis.tables["arms"].iterrows()]
    for _, row in diagnosis.tables.get("robustness", pd.DataFrame()).iterrows():
        lines.append(f"{row['corruption']}: {points(row)} points against {row['better arm']}: {row['verdict']}")
    choice = diagnosis.advice.choice or "no recommendation"
    return "\n".join([*lines, *diagnosis.notes, *diagnosis.advice.reasons, f"Recommendation: {choice}."])


def share(row: pd.Series, name: str) -> str:
    """`94.1 % [91.0, 96.2]`; a dash where there is nothing."""
    return PERCENT.with_interval(Interval.of(row, name))


def points(row: pd.Series, name: str = "difference") -> str:
    """`-1.2 [-3.0, 0.4]`, in points."""
    ends = ("low", "high") if "low" in row else (f"{name}_low", f"{name}_high")
    return POINTS.with_interval(Interval.of(row, name, *ends))


def _table(diagnosis: Diagnosis, name: str, header: list[str], rows: list[list]) -> str:
    kept = [
        [
            str(cell).replace(" [", "\u00a0[").replace(", ", ",\u00a0").replace(" %", "\u00a0%")
            if "[" in str(cell)
            else cell
            for cell in row
        ]
        for row in rows
    ]
    return f'{pages.sortable(header, kept)}<p class="csv"><a href="{PREFIX}{name}.csv">{PREFIX}{name}.csv</a></p>'


def _advice(d: Diagnosis) -> str:
    choice = d.advice.choice or "none"
    items = "".join(f"<li>{pages.escape(text)}</li>" for text in [*d.advice.reasons, *d.notes])
    note = f"The rule: {RULE} {d.note} {warning_of(d.run.data_name)}"
    return pages.section(
        "Recommendation", pages.tiles([("recommended", choice)]), f"<ul>{items}</ul>", note=note.rstrip()
    )


def _arms(d: Diagnosis) -> str:
    scores = ("macro_f1", "accuracy", "severe_recall")
    rows = [
        [
            r["arm"],
            r["run"],
            r["model"],
            r["modality"],
            "yes" if r["film"] else "no",
            *(share(r, s) for s in scores),
            PERCENT.number(r["validation_macro_f1"]),
        ]
        for _, r in d.tables["arms"].iterrows()
    ]
    header = [
        "arm",
        "run",
        "model",
        "modality",
        "film",
        *(metric_title(s, d.run.schema) for s in scores),
        "validation macro-F1",
    ]
    parts = [_table(d, "arms", header, rows)]
    gap = d.tables["gap"]
    if len(gap):
        first = next(iter(d.arms))
        told = [[r["minus"], points(r), r["verdict"]] for _, r in gap.iterrows()]
        parts.append(_table(d, "gap", [f"{first} minus", "macro-F1, points", "verdict"], told))
    return pages.section(
        "The run and what it is held against",
        *parts,
        note="The same windows for all. Better or worse: the interval of the paired difference excludes zero.",
    )


def _attribution(d: Diagnosis) -> str:
    rows = [
        [r["arm"], r["modality"], points(r, "fall"), f"{r['share']:.0%}"] for _, r in d.tables["attribution"].iterrows()
    ]
    return pages.section(
        "What each arm leans on",
        _table(d, "attribution", ["arm", "modality", "macro-F1 lost, points", "share"], rows),
        note=f"A modality is exchanged between the windows at random, {REPEATS} times, so that it says nothing of "
        "its window; "
        "the share is of all that is lost so. What two modalities both say is counted for neither.",
    )


def _robustness(d: Diagnosis) -> str:
    if "robustness" not in d.tables:
        return ""
    rows = [
        [
            r["corruption"],
            PERCENT.number(r["macro_f1"]),
            r["better arm"],
            PERCENT.number(r["its macro_f1"]),
            points(r),
            r["verdict"],
            f"{r['severe_sessions_missed']:.0f}",
        ]
        for _, r in d.tables["robustness"].iterrows()
    ]
    header = [
        "corruption",
        next(iter(d.arms)),
        "better arm of one modality",
        "its macro-F1",
        "difference, points",
        "verdict",
        metric_title("severe_sessions_missed", d.run.schema),
    ]
    return pages.section(
        "When something fails: against the better single modality",
        _table(d, "robustness", header, rows),
        note=f"Holds: not more than {100 * TOLERATED:.0f} point below the better of the arms trained on one "
        "modality, under the same corruption.",
    )


def _corruption(d: Diagnosis) -> str:
    table = d.tables["corruption"]
    labels = list(d.arms)
    rows = []
    for name in table["corruption"].unique():
        own = table[table["corruption"] == name].set_index("arm")
        rows.append(
            [name, *(f"{share(own.loc[a], 'macro_f1')}, {0.0 - 100 * own.loc[a, 'fall']:+.1f}" for a in labels)]
        )
    return pages.section(
        "When something fails: every arm",
        _table(d, "corruption", ["corruption", *labels], rows),
        note="Macro-F1 with its interval, and the change against the recordings as they are, in points. All arms see "
        "the same corrupted seconds, before "
        "scaling and before features. Missing values are the last ones held, and flagged (no model reads the flag; "
        "a flagged second is no part of a recording's start); a dead sensor (each channel in ampere, or scaled "
        "by its logarithm) reads zero, a black camera 0 degC, a frozen one goes on with "
        "the recording's first frame, and nothing says so; of an absent camera every frame is the median of the "
        "training, flagged. Noise is added, in multiples of the "
        "channel's own from second to second in the first state, on devices of the kind.",
    )


def _noise(d: Diagnosis) -> str:
    table, arms = d.tables["corruption"], d.tables["arms"].set_index("arm")
    noisy = table[table["group"] == "noise"]
    curves = {}
    for label in d.arms:
        clean = arms.loc[label]
        start = {"x": 0.0, "value": clean["macro_f1"], "low": clean["macro_f1_low"], "high": clean["macro_f1_high"]}
        own = noisy[noisy["arm"] == label]
        rest = [
            {"x": r["level"], "value": r["macro_f1"], "low": r["macro_f1_low"], "high": r["macro_f1_high"]}
            for _, r in own.iterrows()
        ]
        curves[label] = pd.DataFrame([start, *rest])
    plot = figures.interval_lines(curves, "Macro-F1 under sensor noise", "added noise, times the normal", "macro-F1")
    return pages.section("Noise", pages.figure(plot, "macro-F1 of each arm over added sensor noise"))


CURVE = "How it grows with devices"
START = "Without the recording's start"


def _curve(d: Diagnosis) -> str:
    if "curve" not in d.tables:
        return pages.section(
            CURVE,
            note="Not made: curve=4,8,16 after the run trains it, and the run of the other family, anew on so many "
            "devices.",
        )
    table = d.tables["curve"]
    curves = {
        str(label): pd.DataFrame(
            {"x": own["devices"], "value": own["macro_f1"], "low": own["macro_f1_low"], "high": own["macro_f1_high"]}
        )
        for label, own in table.groupby("arm", sort=False)
    }
    plot = figures.interval_lines(curves, "Macro-F1 by the number of devices", "devices trained on", "macro-F1")
    rows = [[r["arm"], r["devices"], share(r, "macro_f1"), r["run"]] for _, r in table.iterrows()]
    return pages.section(
        CURVE,
        pages.pair(
            pages.figure(plot, "macro-F1 of each arm over the number of devices it is trained on"),
            _table(d, "curve", ["arm", "devices", "macro-F1", "run"], rows),
        ),
        note="Trained anew on some of the train devices; fewer are a part of more. Validation and test are the same "
        "throughout.",
    )


def _groups(d: Diagnosis, name: str, first: Sequence[str]) -> str:
    table = d.tables[name]
    rows = [[*(r[column] for column in first), *(share(r, label) for label in d.arms)] for _, r in table.iterrows()]
    return _table(d, name, [*first, *d.arms], rows)


def _devices(d: Diagnosis) -> str:
    return pages.section(
        "Devices",
        _groups(d, "devices", ["device", "kind", "windows", "sessions"]),
        note="Accuracy on the windows of each device; intervals by resampling its recordings, of fewer than "
        f"{FEWEST_SESSIONS} the exact bound, a recording counting once.",
    )


def _distance(d: Diagnosis) -> str:
    return pages.section(
        "Errors near a change of state",
        _groups(d, "distance", ["nearest change of state", "windows", "sessions"]),
        note="Accuracy of windows by the time between them and the nearest change of state in their recording.",
    )


def _causal(d: Diagnosis) -> str:
    scores = ("accuracy", "macro_f1", "severe_recall")
    rows = [
        [r["arm"], r["label"], f"{r['windows']:,}", *(share(r, s) for s in scores)]
        for _, r in d.tables["causal"].iterrows()
    ]
    return pages.section(
        "Second by second",
        _table(
            d,
            "causal",
            ["arm", "label", "windows", *(metric_title(s, d.run.schema) for s in scores)],
            rows,
        ),
        note="A window ends at every second. last: it is judged by the state of that second, all that is known then; "
        "majority: by its commonest state. The model is the same.",
    )


def _onsets(d: Diagnosis) -> str:
    table = d.tables["onsets"]
    if not len(table):
        return pages.section(
            "Faults",
            note=f"No recording of the {d.part} part has a state worth an alarm, or no operating point was found.",
        )
    summary = onset_summary(table)
    told = pages.framed(pages.gathered(summary, ["missed"], " low", " high"), dict.fromkeys(summary.columns[1:], ".0f"))
    rows = [
        [
            r["session"],
            r["device"],
            r["arm"],
            "missed" if r["missed"] else _seconds(r["alarm_at"]),
            _seconds(r["delay"]),
            _seconds(r["lead"]),
        ]
        for _, r in table.sort_values(["session", "arm"]).iterrows()
    ]
    each = _table(
        d, "onsets", ["session", "device", "arm", "alarm at, s", "delay after the onset, s", "lead to the end, s"], rows
    )
    return pages.section(
        "Faults: delay after the onset, lead to the end",
        told,
        f"<details><summary>each recording</summary>{each}</details>",
        note="At the operating point of each run, chosen on validation: of the thresholds that missed no fault there "
        "and rang least without one, one in the middle. Seconds; the onset is the first second that is not "
        "normal, and not known where a recording begins so.",
    )


def _seconds(value: float) -> str:
    return "–" if value is None or not np.isfinite(float(value)) else f"{float(value):.0f}"


def _start(d: Diagnosis) -> str:
    if "start_cut" not in d.tables:
        return pages.section(
            START,
            note="Not made: the recordings are so short that no window remains when 0 to 100 s are cut off their "
            "start.",
        )
    rows = [
        [r["arm"], f"{r['windows']:,}", PERCENT.number(r["whole"]), share(r, "cut"), points(r, "change")]
        for _, r in d.tables["start_cut"].iterrows()
    ]
    return pages.section(
        START,
        _table(d, "start_cut", ["arm", "windows", "whole", "start cut off", "change, points"], rows),
        note="0 to 100 s, drawn for each recording, are cut off its start, and what is relative to the start is "
        "computed anew; macro-F1 on the windows that "
        "remain. An arm that is given nothing relative to the start cannot change.",
    )
