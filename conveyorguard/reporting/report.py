"""`report.html`: the page of one run, drawn from the files of its directory alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from conveyorguard.config.saved import as_yaml
from conveyorguard.metrics.calibration import reliability
from conveyorguard.metrics.notation import MISSING, PERCENT, SIGNIFICANT, notation_of
from conveyorguard.metrics.resampling import Arm, Resampling, resample
from conveyorguard.metrics.scores import METRICS, OBJECTIVES
from conveyorguard.reporting import figures, pages, recording_figures
from conveyorguard.reporting.alarm_section import alarm_section
from conveyorguard.reporting.alarm_sentences import moment
from conveyorguard.reporting.format import counted, metric_title, state_titles, warning_of
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_text

Draw = Callable[[str, pd.DataFrame, Mapping[str, str]], Markup]  # a table: its name, its data, formats of its columns


ANSWERS = {
    "c": "The answer is the state with the highest calibrated probability, as deployed.",
    "p": "The answer is the state with the highest probability as trained, not calibrated.",
}
CALIBRATION_TITLES = {"c": "calibrated probabilities, as deployed", "p": "probabilities as trained, not calibrated"}


def write_report(folder: Path) -> Path:
    """Draw the page of a run and return its path.

    Raises:
        RunError: the directory is not that of a finished run.
    """
    run = SavedRun(folder)
    part = list(run.scores)[-1]  # test, or validation where test was not asked for
    arms = arms_of(run)
    main = pages.render(
        "report.html.jinja",
        result=_result(run, part, arms[part]),
        by_state=class_block(run, arms=arms, read={arms[part].resampling.note}),
        learning=learning_block(run) if run.history is not None else None,
        importance=importance_block(run.importance) if run.importance is not None else None,
        alarms=alarm_section(run.facts("alarms"), part, run.schema),
        calibration=_calibration(run, part, arms[part].resampling),
        examples=_examples(run, part),
        origin=_origin(run),
        config=as_yaml(pages.base_names_within(run.settings)),
    )
    name = f"Ensemble ({run.model_name.removeprefix('ensemble-')})" if run.is_ensemble else run.model_name
    film = run.film if isinstance(run.film, str) else "on" if run.film else "off"
    title = f"{name} · {run.modality} · film {film}"
    subtitle = f"{run.data_name} data, split {run.settings['split']['name']}, run {folder.resolve().name}"
    links = [("model card", "MODEL_CARD.md", False)] if (folder / "MODEL_CARD.md").exists() else []
    path = folder / "report.html"
    write_text(path, pages.page(title, subtitle, main, pages.plotly_around(folder), links))
    return path


def arms_of(run: SavedRun) -> dict[str, Arm]:
    """Return the predictions of each part, ready to be resampled."""
    arms = {}
    for part in run.scores:
        rows = run.predictions[run.predictions["split"] == part]
        arms[part] = Arm(
            [as_predictions(rows, run.answer)], resample(rows["session"].to_numpy(str), rows["device"].to_numpy(str))
        )
    return arms


def _result(run: SavedRun, part: str, arm: Arm) -> dict[str, Any]:
    """Return the tiles of the main metrics and a note on what they were measured on."""
    schema = run.schema
    titles = {
        **{name: metric_title(name, schema) for name in ("accuracy", "macro_f1", "severe_recall", "severe_as_normal")},
        "severe_sessions_missed": f"sessions whose {schema.states[-1].name} state was missed entirely",
        "ece": f"expected calibration error of the {CALIBRATION_TITLES[run.answer]}",
    }
    rows = worst_rows(run, part)
    titles["severe_recall"] += f", of {worst_windows(rows)}"
    titles["severe_as_normal"] += f", of {len(rows):,}"
    titles["severe_sessions_missed"] += f", of {rows['session'].nunique():,}"
    tiles = []
    for name, title in titles.items():
        notation, interval = notation_of(name), arm.interval(name)
        bounds = notation.range(interval)
        tiles.append((f"{title}, 95 % interval {bounds}" if bounds else title, notation.number(interval.value)))
    devices = run.predictions.query("split == @part")["device"].nunique()
    note = (
        f"Asked: {run.window.question}. {ANSWERS[run.answer]} "
        f"Measured on the {part} part: {counted(run.scores[part]['n'], 'window')} of "
        f"{counted(run.provenance['sessions'][part], 'session')}, {counted(devices, 'device')}. "
        f"{arm.resampling.note} This is one seed; to see how results vary between seeds, train more and compare them "
        f"(python -m conveyorguard compare). {warning_of(run.data_name)}"
    )
    return {"tiles": tiles, "note": note.rstrip()}


def worst_rows(run: SavedRun, part: str) -> pd.DataFrame:
    """Return the predictions of a part of the split for windows in the worst state."""
    rows = run.rows(part)
    return rows[rows["y_true"] == len(run.schema.states) - 1]


def worst_windows(worst: pd.DataFrame) -> str:
    """Say how many windows are in the worst state, and how long before the end of their sessions they end.

    Args:
        worst: result of `worst_rows`.
    """
    if not len(worst):
        return "no window"
    sessions, to_end = counted(worst["session"].nunique(), "session"), worst["seconds_to_end"]
    span = f"{moment(to_end.min())} to {moment(to_end.max())}"
    return f"{counted(len(worst), 'window')} in {sessions}, {span} before the end of the session"


def plain_table(name: str, frame: pd.DataFrame, formats: Mapping[str, str]) -> Markup:
    """Draw a table of a page that stands alone; a page of a site also keeps it as csv."""
    return pages.framed(frame, formats)


def class_block(
    run: SavedRun, draw: Draw = plain_table, arms: dict[str, Arm] | None = None, read: Iterable[str] = ()
) -> Markup:
    """Draw the confusion matrix and the scores of each state, by part.

    Args:
        draw: draws a table. arms: result of `arms_of`, if it was computed before. read: notes on intervals that the
            page has above.
    """
    arms, parts, notes = arms or arms_of(run), [], set(read)
    names = state_titles(run.schema)
    metrics: dict[str, list] = {"metric": [metric_title(name, run.schema) for name in METRICS]}
    for part, scores in run.scores.items():
        columns: dict[str, list] = {"state": names}
        by_class = [arms[part].class_intervals(k) for k in range(len(names))]
        columns |= dict(zip(("precision", "recall", "F1"), map(list, zip(*by_class, strict=True)), strict=True))
        columns["windows"] = [row["support"] for row in scores["per_class"]]
        formats = dict.fromkeys(["precision", "recall", "F1"], ".1%")
        matrix = figures.confusion(scores["confusion"], names, f"{part}: actual and predicted state")
        note = arms[part].resampling.note
        parts.append(
            {
                "name": part,
                "matrix": pages.figure(matrix, f"confusion matrix of the {part} windows"),
                "table": draw(f"classes_{part}", pd.DataFrame(columns), formats),
                "note": "" if note in notes else note,  # the same note once
            }
        )
        notes.add(note)
        metrics[part] = [arms[part].interval(name) for name in METRICS]
    table = draw("metrics", pd.DataFrame(metrics), dict.fromkeys(run.scores, ".4g"))
    return pages.render("by_state.html.jinja", parts=parts, metrics=table)


def _calibration(run: SavedRun, part: str, resampling: Resampling) -> dict[str, Any] | None:
    """Return reliability and scores before and after temperature scaling."""
    facts = run.facts("calibration")
    if not facts:
        return None
    rows = run.predictions[run.predictions["split"] == part]
    before, after = (as_predictions(rows, prefix) for prefix in ("p", "c"))
    curves = {"as trained": reliability(before, resampling), "as deployed": reliability(after, resampling)}
    arms = (Arm([before], resampling), Arm([after], resampling))
    scores = [
        [metric_title(name, run.schema), *(SIGNIFICANT.with_interval(arm.interval(name)) for arm in arms)]
        for name in facts["parts"][part]["before"]
    ]
    temperature = (
        f"Temperature {facts['temperature']:.2f}, fitted on validation; above 1 means an overconfident model. Figures "
        f"of validation itself take temperatures fitted on other parts of it (cross-fitted by {facts['crossed_by']})."
    )
    memory = "With memory: the answer also weighs what the model said 3, 8 and 15 rows before, fitted on validation."
    return {
        "plot": pages.figure(figures.reliability_plot(curves), "reliability diagram"),
        "table": pages.table(["", "as trained", "as deployed"], scores),
        "note": memory if run.memory else temperature,
    }


def learning_block(run: SavedRun) -> Markup:
    """Draw the learning curves of a run that has a history."""
    history, objective = run.history, run.objective
    assert history is not None
    values = history[objective]
    place = int(values.argmax() if OBJECTIVES[objective] else values.argmin())
    best = int(history["epoch"].iloc[place])
    loss = figures.learning_curve(history, ["train/loss", "val/loss"], "Loss", "loss", best)
    score = figures.learning_curve(
        history, ["val/macro_f1", "train/accuracy", "val/accuracy"], "Macro-F1 and accuracy", "share", best
    )
    return pages.render(
        "learning.html.jinja",
        epochs=len(history),
        seconds=f"{history['seconds'].sum():.0f}",
        best=best + 1,
        objective=objective,
        loss=pages.figure(loss, "loss by epoch"),
        score=pages.figure(score, "macro-F1 and accuracy by epoch"),
    )


def importance_block(table: pd.DataFrame, draw: Draw = plain_table, shown: int = 20) -> Markup:
    """Draw the importance of the features: one by one, by sensor and by modality.

    Args:
        table: importance.csv of a run. draw: draws a table. shown: how many features have a bar.
    """
    shap_known = table["shap"].notna().all()
    measures = {"gain": "gain", "shap": "mean |SHAP|"} if shap_known else {"gain": "gain"}
    shares = table[list(measures)].div(table[list(measures)].sum()).join(table[["feature", "source", "modality"]])
    order = list(measures)[-1]
    best = shares.sort_values(order, ascending=False, kind="stable").head(shown).set_index("feature")
    plots = [(best, f"The first {len(best)} features", "importance by feature")]
    for by, title in (("source", "By sensor, camera and environment"), ("modality", "By modality")):
        sums = shares.groupby(by)[list(measures)].sum().sort_values(order, ascending=False)
        plots.append((sums, title, f"importance by {'sensor' if by == 'source' else by}"))
    features, *groups = (
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
    listed = (table if shap_known else table.drop(columns="shap")).rename(columns=columns)
    return pages.render(
        "importance.html.jinja",
        features=features,
        groups=groups,
        every=draw("importance", listed, dict.fromkeys(list(columns.values())[1:], ".4f")),
        count=len(table),
        shap=shap_known,
    )


def _examples(run: SavedRun, part: str) -> dict[str, Any]:
    """Return the stored windows with their traces and thermal frames."""
    examples, schema = run.examples, run.schema
    if not examples:
        return {"note": "This run stored no example windows.", "windows": []}
    names, channels = state_titles(schema), list(schema.channels)
    units = [schema.channels[name].unit for name in channels]
    thermal = examples.get("thermal")
    low, high = (float(thermal.min()), float(thermal.max())) if thermal is not None else (0.0, 1.0)
    windows = []
    for i in range(len(examples["session"])):
        truth, guess = int(examples["y_true"][i]), int(examples["y_pred"][i])
        seconds = examples["seconds"][i]
        heading = (
            f"{examples['session'][i]}, {moment(seconds[0])} to {moment(seconds[-1])}: actual {names[truth]}, "
            f"predicted {names[guess]} ({PERCENT.number(float(examples['p'][i].max()))})"
        )
        plot = recording_figures.traces(
            seconds, examples["sensors"][i], channels, units, examples["state"][i], len(names)
        )
        frames = zip(thermal[i], examples["thermal_seconds"], strict=True) if thermal is not None else ()
        windows.append(
            {
                "heading": heading,
                "verdict": "right" if truth == guess else "wrong",
                "plot": pages.figure(plot, f"sensor traces of {heading}"),
                "frames": [
                    (
                        recording_figures.thermal_image(np.asarray(frame), low, high),
                        f"{moment(seconds[t])}, up to {frame.max():.1f} °C",
                    )
                    for frame, t in frames
                ],
            }
        )
    camera = f" Thermal frames: {low:.0f} °C (dark) to {high:.0f} °C (yellow)." if thermal is not None else ""
    note = (
        f"From the {part} part: first the worst mistakes (most states apart, then most confident; one per session), "
        "then the most confident hit of each state; in brackets the probability of the predicted state. States and "
        "probabilities here are as trained, not calibrated, so the deployed answer may differ. Shading behind the "
        f"traces: actual states.{camera}"
    )
    return {"note": note, "windows": windows}


def _origin(run: SavedRun) -> Markup:
    """Draw the table of what the run was made from and on."""
    facts = run.provenance
    commit = facts["git"]["commit"]
    parts = [f"{part} {n} sessions, {facts['windows'][part]:,} windows" for part, n in facts["sessions"].items()]
    changed = " with uncommitted changes" if facts["git"]["dirty"] else ""
    rows = [
        ["command", facts["command"]],
        ["commit", commit[:12] + changed if commit else MISSING],
        ["data", f"{facts['store']['name']}, fingerprint {facts['store']['fingerprint'][:12]}"],
        ["split", f"{facts['split']} ({', '.join(parts)})"],
        ["unused config keys", ", ".join(facts["unused"]) or MISSING],
        ["device", f"{facts['device']}, {facts['threads']} threads"],
        ["seed", facts["seed"]],
        ["size", _size(facts)],
        [
            "time and memory",
            f"{facts.get('seconds', 0):.0f} s, of which training {facts.get('fit_seconds', 0):.1f} s; "
            f"peak memory {facts.get('peak_memory_mib', 0):,} MiB",
        ],
        ["versions", ", ".join(f"{name} {v}" for name, v in facts["versions"].items())],
    ]
    return pages.table(["", ""], rows)


def _size(provenance: Mapping[str, Any]) -> str:
    count, size = provenance.get("parameters"), provenance.get("model_bytes")
    known = ([f"{count:,} parameters"] if count else []) + ([f"{size / 1e6:.2f} MB"] if size else [])
    return ", ".join(known) or MISSING
