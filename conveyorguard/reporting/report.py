"""`report.html` of one run, drawn from the files of its directory alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.config.saved import as_yaml
from conveyorguard.data.schema import Schema
from conveyorguard.metrics.alarms import OperatingPoint, how_chosen, when_it_rings
from conveyorguard.metrics.bootstrap import Arm, Interval, Resampling, resample
from conveyorguard.metrics.calibration import reliability
from conveyorguard.metrics.notation import PERCENT, SIGNIFICANT, WHOLE_PERCENT, notation_of
from conveyorguard.metrics.scores import METRICS, OBJECTIVES
from conveyorguard.reporting import figures, pages, recording_figures
from conveyorguard.reporting.format import metric_title, state_titles, warning_of
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_text

Draw = Callable[[str, pd.DataFrame, Mapping[str, str]], str]  # a table, given its name and the formats of its columns


def write_report(folder: Path) -> Path:
    """Draw the page of a run; returns its path.

    Raises:
        RunError: the directory is not that of a finished run.
    """
    run = SavedRun(folder)
    schema = run.schema
    shown = list(run.scores)[-1]  # test, or validation where test was not asked for
    names = state_titles(schema)
    model = run.model_name
    arms = arms_of(run)
    blocks = [_summary(run, schema, shown, arms[shown]), class_block(run, arms=arms)]
    if run.history is not None:
        blocks.append(learning_block(run))
    if run.importance is not None:
        blocks.append(importance_block(run.importance))
    blocks += [
        _alarms(run, shown),
        _calibration(run, shown, arms[shown].resampling),
        _examples(run, schema, names, shown),
        _origin(run),
        _config(run),
    ]
    title = f"{model} · {run.modality} · film {'on' if run.film else 'off'}"
    subtitle = f"{run.data_name} data, split {run.settings['split']['name']}, run {folder.resolve().name}"
    path = folder / "report.html"
    links = [("model card", "MODEL_CARD.md", False)] if (folder / "MODEL_CARD.md").exists() else []
    write_text(path, pages.page(title, subtitle, blocks, pages.plotly_around(folder), links))
    return path


def arms_of(run: SavedRun) -> dict[str, Arm]:
    """The predictions of each part, ready to be resampled."""
    found = {}
    for part in run.scores:
        rows = run.predictions[run.predictions["split"] == part]
        found[part] = Arm([as_predictions(rows)], resample(rows["session"].to_numpy(str), rows["device"].to_numpy(str)))
    return found


def _summary(run: SavedRun, schema: Schema, shown: str, arm: Arm) -> str:
    worst = schema.states[-1].name
    titles = {
        **{name: metric_title(name, schema) for name in ("accuracy", "macro_f1", "severe_recall", "severe_as_normal")},
        "severe_sessions_missed": f"sessions whose {worst} state was missed entirely",
        "ece": "expected calibration error",
    }
    values = []
    for name, title in titles.items():
        notation, interval = notation_of(name), arm.interval(name)
        bounds = notation.range(interval)
        values.append((f"{title}, 95 % interval {bounds}" if bounds else title, notation.number(interval.value)))
    sessions = run.provenance["sessions"][shown]
    note = (
        f"On the {shown} part: {run.scores[shown]['n']:,} windows of {sessions} sessions, "
        f"{run.predictions.query('split == @shown')['device'].nunique()} devices. {arm.resampling.note} One seed: "
        "how much another would differ, only several runs can say (python -m conveyorguard compare). "
        f"{warning_of(run.data_name)}"
    )
    return pages.section("Result", pages.tiles(values), note=note)


def plain_table(name: str, frame: pd.DataFrame, formats: Mapping[str, str]) -> str:
    """A table on a page that stands alone; a page of a site keeps it as csv, too."""
    return pages.framed(frame, formats)


def class_block(run: SavedRun, draw: Draw = plain_table, arms: dict[str, Arm] | None = None) -> str:
    """Confusion matrix and per-class table of each part, every figure with its interval; arms: `arms_of` the run, if at
    hand."""
    arms, parts, notes = arms or arms_of(run), [], set()
    names = state_titles(run.schema)
    all_metrics: dict[str, list] = {"metric": [metric_title(name, run.schema) for name in METRICS]}
    for part, m in run.scores.items():
        columns: dict[str, list] = {"state": names}
        by_class = [arms[part].class_intervals(k) for k in range(len(names))]
        columns |= dict(zip(("precision", "recall", "F1"), map(list, zip(*by_class, strict=True)), strict=True))
        columns["windows"] = [row["support"] for row in m["per_class"]]
        shown = draw(f"classes_{part}", pd.DataFrame(columns), dict.fromkeys(["precision", "recall", "F1"], ".1%"))
        matrix = figures.confusion(m["confusion"], names, f"{part}: windows by actual and predicted state")
        note = arms[part].resampling.note
        beside = f"<h3>{part}</h3>{shown}"
        if note not in notes:  # of parts alike it is said once
            beside += f'<p class="note">{pages.shown(note)}</p>'
        notes.add(note)
        parts.append(pages.pair(pages.figure(matrix, f"confusion matrix of the {part} windows"), beside))
        all_metrics[part] = [arms[part].interval(name) for name in METRICS]
    more = draw("metrics", pd.DataFrame(all_metrics), dict.fromkeys(run.scores, ".4g"))
    return pages.section("By state", *parts, f"<details><summary>all metrics</summary>{more}</details>")


def _alarms(run: SavedRun, shown: str) -> str:
    """What the operating point, chosen on validation, would have meant."""
    facts = run.facts("alarms")
    if not facts.get("operating_point"):
        return pages.section(
            "Alarms", note="No validation recording has a state worth an alarm: nothing to choose a threshold by."
        )
    point, a = facts["operating_point"], facts["parts"][shown]
    bound, early = a["false_alarms_per_hour_bound"], a.get("early_alarms", 0)  # runs of earlier versions do not tell
    missed = "fault recordings missed"
    if share := a["missed_share_interval"]:
        missed += f", 95 % interval of the share {WHOLE_PERCENT.range(Interval(np.nan, *share))}"
    values = [
        (missed, f"{a['missed']} of {a['fault_sessions']}"),
        ("lead to the recording's end, median", _seconds(a["lead_seconds"])),
        ("after the onset of the fault, median", _seconds(a["delay_seconds"])),
        (
            "false alarms, begun without a fault",
            f"{a['false_alarms']} in {a['exposure_hours']:.2f} h" if a["exposure_hours"] else "–",
        ),
        (
            "false alarms an hour that these hours do not exclude, 95 % bound",
            "–" if bound is None else f"{bound:.1f} ({24 * bound:.0f} a day)",
        ),
    ]
    rows = [
        [
            r["session"],
            r["device"],
            "missed" if r["missed"] else f"{r['alarm_at']} s",
            *(_whole(r[k]) for k in ("lead", "delay")),
        ]
        for r in a["sessions"]
    ]
    header = ["fault recording", "device", "alarm at", "lead to its end, s", "after onset, s"]
    table = f"<details><summary>each fault recording</summary>{pages.sortable(header, rows)}</details>"
    excluded = (
        f"The bound is what {a['exposure_hours']:.2f} hours without a fault can exclude, and no more: it says "
        "nothing about a plant's ordinary days."
        if a["exposure_hours"]
        else "There is no time without a fault, so of false alarms nothing can be said."
    )
    note = (
        f"{when_it_rings(run.schema.alarming, OperatingPoint(**point))}, or where no window follows for longer than "
        f"one lasts. {how_chosen(facts)} Stamped at the end of the window. The onset is the first second that "
        "is not normal, though an "
        f"alarm is for {facts['state']}; where a recording begins so it is not known. {excluded}"
        + f" Begun after the onset of a fault, and at no time in {run.schema.alarming}: {early}."
        * bool(early)
    )
    return pages.section("Alarms", pages.tiles(values), table, note=note)


def _seconds(spread: dict[str, float] | None) -> str:
    return "–" if spread is None else f"{spread['median']:.0f} s ({spread['least']:.0f} to {spread['most']:.0f})"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _calibration(run: SavedRun, shown: str, resampling: Resampling) -> str:
    """Reliability before and after temperature scaling."""
    facts = run.facts("calibration")
    if not facts:
        return ""
    rows = run.predictions[run.predictions["split"] == shown]
    before, after = (as_predictions(rows, prefix) for prefix in ("p", "c"))
    plot = figures.reliability_plot(
        {"as trained": reliability(before, resampling), "calibrated": reliability(after, resampling)}
    )
    table = pages.table(
        ["", "as trained", "calibrated"],
        [
            [
                metric_title(k, run.schema),
                *(
                    SIGNIFICANT.with_interval(arm.interval(k))
                    for arm in (Arm([before], resampling), Arm([after], resampling))
                ),
            ]
            for k in facts["parts"][shown]["before"]
        ],
    )
    note = (
        f"Temperature {facts['temperature']:.2f}, fitted on validation (above 1: the model was too sure); "
        "validation's own figures "
        f"are cross-fitted by {facts['crossed_by']}."
    )
    return pages.section(
        "Can the probabilities be trusted?", pages.pair(pages.figure(plot, "reliability diagram"), table), note=note
    )


def learning_block(run: SavedRun) -> str:
    """Curves of the training."""
    history = run.history
    assert history is not None
    objective = run.objective
    values = history[objective]
    place = int(values.argmax() if OBJECTIVES[objective] else values.argmin())
    best = int(history["epoch"].iloc[place])
    loss = figures.learning_curve(history, ["train/loss", "val/loss"], "Loss", "loss", best)
    score = figures.learning_curve(
        history, ["val/macro_f1", "train/accuracy", "val/accuracy"], "Macro-F1 and accuracy", "share", best
    )
    note = (
        f"{len(history)} epochs in {history['seconds'].sum():.0f} s; the weights of epoch {best + 1}, best by "
        f"{objective}, were tested."
    )
    both = pages.pair(pages.figure(loss, "loss by epoch"), pages.figure(score, "macro-F1 and accuracy by epoch"))
    return pages.section("Learning", both, note=note)


def importance_block(table: pd.DataFrame, draw: Draw = plain_table, shown: int = 20) -> str:
    """What the features are worth to the model: one by one, by sensor and by modality."""
    known = table["shap"].notna().all()
    measures = {"gain": "gain", "shap": "mean |SHAP|"} if known else {"gain": "gain"}
    shares = table[list(measures)].div(table[list(measures)].sum()).join(table[["feature", "source", "modality"]])
    first = list(measures)[-1]
    best = shares.sort_values(first, ascending=False, kind="stable").head(shown).set_index("feature")
    plots = [(best, f"The first {len(best)} features", "importance by feature")]
    for by, title in (("source", "By sensor, camera and environment"), ("modality", "By modality")):
        sums = shares.groupby(by)[list(measures)].sum().sort_values(first, ascending=False)
        plots.append((sums, title, f"importance by {'sensor' if by == 'source' else by}"))
    one, *others = (
        pages.figure(
            figures.horizontal_bars(
                list(map(str, sums.index)),
                {name: list(sums[column]) for column, name in measures.items()},
                title,
                "share",
            ),
            alt,
        )
        for sums, title, alt in plots
    )
    columns = {"source": "of", "gain": "gain, share", "shap": "mean |SHAP|, log-odds"}
    listed = table if known else table.drop(columns="shap")
    every = draw("importance", listed.rename(columns=columns), dict.fromkeys(list(columns.values())[1:], ".4f"))
    note = (
        f"{len(table)} features; shares of what all of them are worth. Gain: by the model's own measure. "
        + (
            "SHAP: contributions on the validation windows, their size averaged over windows and states. "
            if known
            else ""
        )
        + "Features that say the same share what they are worth between them."
    )
    return pages.section(
        "What the model looks at",
        pages.pair(one, "".join(others)),
        f"<details><summary>all features</summary>{every}</details>",
        note=note,
    )


def _examples(run: SavedRun, schema: Schema, names: list[str], shown: str) -> str:
    examples = run.examples
    if not examples:
        return pages.section("Windows to look at first", note="none were kept")
    channels = list(schema.channels)
    units = [schema.channels[name].unit for name in channels]
    thermal = examples.get("thermal")
    low, high = (float(thermal.min()), float(thermal.max())) if thermal is not None else (0.0, 1.0)
    blocks = []
    for i in range(len(examples["session"])):
        truth, guess = int(examples["y_true"][i]), int(examples["y_pred"][i])
        seconds = examples["seconds"][i]
        verdict = "right" if truth == guess else "wrong"
        heading = (
            f"{examples['session'][i]}, seconds {seconds[0]} to {seconds[-1]}: actual {names[truth]}, predicted "
            f"{names[guess]} "
            f"({PERCENT.number(float(examples['p'][i].max()))})"
        )
        plot = recording_figures.traces(
            seconds, examples["sensors"][i], channels, units, examples["state"][i], len(names)
        )
        blocks.append(
            f'<h3 class="{verdict}">{pages.escape(heading)}</h3>'
            f"{pages.figure(plot, f'sensor traces of {heading}')}"
        )
        if thermal is not None:
            places = examples["thermal_seconds"]
            frames = [
                (
                    recording_figures.thermal_image(np.asarray(frame), low, high),
                    f"{seconds[t]} s, up to {frame.max():.1f} °C",
                )
                for frame, t in zip(thermal[i], places, strict=True)
            ]
            blocks.append(pages.film(frames))
    note = (
        f"From the {shown} part: first the mistakes that matter most (by states apart, then by how sure the model "
        "was; one of each "
        "session), then the surest hit of each state. Colours behind the traces are the actual states; "
    )
    note += (
        f"thermal frames from {low:.0f} °C (dark) to {high:.0f} °C (yellow)." if thermal is not None else "no camera."
    )
    return pages.section("Windows to look at first", *blocks, note=note)


def _origin(run: SavedRun) -> str:
    p = run.provenance
    commit = p["git"]["commit"]
    parts = [f"{part} {n} sessions, {p['windows'][part]:,} windows" for part, n in p["sessions"].items()]
    rows = [
        ["command", pages.base_names(p["command"])],
        [
            "commit",
            "–" if not commit else commit[:12] + (" with uncommitted changes" if p["git"]["dirty"] else ""),
        ],
        ["data", f"{p['store']['name']}, fingerprint {p['store']['fingerprint'][:12]}"],
        ["split", f"{p['split']} ({', '.join(parts)})"],
        ["not used", ", ".join(p["unused"]) or "–"],
        ["device", f"{p['device']}, {p['threads']} threads"],
        ["seed", p["seed"]],
        ["size", _size(p)],
        [
            "took",
            f"{p.get('seconds', 0):.0f} s, of it training {p.get('fit_seconds', 0):.1f} s, "
            f"{p.get('peak_memory_mib', 0):,} MiB at the most",
        ],
        ["versions", ", ".join(f"{name} {v}" for name, v in p["versions"].items())],
    ]
    return pages.section("Where it comes from", pages.table(["", ""], rows))


def _size(provenance: dict[str, Any]) -> str:
    count, size = provenance.get("parameters"), provenance.get("model_bytes")
    return ", ".join(([f"{count:,} parameters"] if count else []) + ([f"{size / 1e6:.2f} MB"] if size else [])) or "–"


def _config(run: SavedRun) -> str:
    shown = as_yaml(pages.base_names_within(run.settings))
    return pages.section(
        "Config",
        f"<details><summary>config.yaml</summary><pre>{pages.escape(shown)}</pre></details>",
    )
