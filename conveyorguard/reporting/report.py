"""`report.html` of one run, drawn from the files of its directory alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from conveyorguard.data.schema import Schema
from conveyorguard.evaluation.calibration import reliability
from conveyorguard.evaluation.metrics import METRICS, OBJECTIVES
from conveyorguard.reporting import figures, pages
from conveyorguard.run import SavedRun, as_predictions, write_text

Draw = Callable[[str, pd.DataFrame, Mapping[str, str]], str]  # a table, given its name and the formats of its columns


def write_report(folder: Path) -> Path:
    """Draw the page of a run; returns its path.

    Raises:
        RunError: the directory is not that of a finished run.
    """
    run = SavedRun(folder)
    schema = run.schema
    shown = list(run.scores)[-1]  # test, or validation where test was not asked for
    names = [f"{s.name} {s.label}".strip() for s in schema.states]
    model = run.config.model.get("name", "model")
    blocks = [_summary(run, schema, shown), class_block(run.scores, names)]
    if run.history is not None:
        blocks.append(learning_block(run))
    if run.importance is not None:
        blocks.append(importance_block(run.importance))
    blocks += [
        _alarms(run, shown),
        _calibration(run, shown),
        _examples(run, schema, names, shown),
        _origin(run),
        _config(run),
    ]
    title = f"{model} · {run.config.modality} · film {'on' if run.config.film else 'off'}"
    subtitle = f"{run.config.data.name} data, split {run.config.split.name}, run {folder.resolve().name}"
    path = folder / "report.html"
    write_text(path, pages.page(title, subtitle, blocks, pages.plotly_around(folder)))
    return path


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _summary(run: SavedRun, schema: Schema, shown: str) -> str:
    m = run.scores[shown]
    worst, first = schema.states[-1].name, schema.states[0].name
    missed = m["severe_sessions_missed"]
    values = [
        ("accuracy", _percent(m["accuracy"])),
        ("macro-F1", _percent(m["macro_f1"])),
        (f"{worst} recall", _percent(m["severe_recall"])),
        (f"{worst} windows called {first}", f"{m['severe_as_normal']:.0f}"),
        (f"sessions whose {worst} state was missed entirely", "–" if missed is None else f"{missed:.0f}"),
        ("expected calibration error", _percent(m["ece"])),
    ]
    sessions = run.provenance["sessions"][shown]
    note = (f"On the {shown} part: {m['n']:,} windows of {sessions} sessions, "
            f"{run.predictions.query('split == @shown')['device'].nunique()} devices. ")  # fmt: skip
    if run.config.data.name == "simulated":
        note += "Simulated recordings: a result here is not a result on AI Hub."
    return pages.section("Result", pages.tiles(values), note=note)


def plain_table(name: str, frame: pd.DataFrame, formats: Mapping[str, str]) -> str:
    """A table on a page that stands alone; a page of a site keeps it as csv, too."""
    return pages.framed(frame, formats)


def class_block(metrics: dict[str, Any], names: list[str], draw: Draw = plain_table) -> str:
    """Confusion matrix and per-class table of each part."""
    parts = []
    for part, m in metrics.items():
        table = pd.DataFrame(m["per_class"]).rename(columns={"class": "state", "f1": "F1", "support": "windows"})
        matrix = figures.confusion(m["confusion"], names, f"{part}: windows by actual and predicted state")
        shown = draw(f"classes_{part}", table.assign(state=names), dict.fromkeys(["precision", "recall", "F1"], ".3f"))
        parts.append(
            pages.pair(pages.figure(matrix, f"confusion matrix of the {part} windows"), f"<h3>{part}</h3>{shown}")
        )
    rest = [name for name in METRICS if name not in ("accuracy", "macro_f1")]
    table = pd.DataFrame({"metric": [METRICS[name].title for name in rest],
                          **{part: [m[name] for name in rest] for part, m in metrics.items()}}, dtype=object)  # fmt: skip
    more = draw("metrics", table, dict.fromkeys(metrics, ".4g"))
    return pages.section("By state", *parts, f"<details><summary>all metrics</summary>{more}</details>")


def _alarms(run: SavedRun, shown: str) -> str:
    """What the operating point, chosen on validation, would have meant."""
    facts = run.facts("alarms")
    if not facts.get("operating_point"):
        return pages.section(
            "Alarms", note="No validation recording has a state worth an alarm: nothing to choose a threshold by."
        )
    point, a = facts["operating_point"], facts["parts"][shown]
    bound = a["false_alarms_per_hour_bound"]
    values = [
        ("fault recordings missed", f"{a['missed']} of {a['fault_sessions']}"),
        ("lead to the recording's end, median", _seconds(a["lead_seconds"])),
        ("after the onset of the fault, median", _seconds(a["delay_seconds"])),
        ("false alarms", f"{a['false_alarms']} in {a['exposure_hours']:.2f} h"),
        ("false alarms an hour, 95 % bound", "–" if bound is None else f"{bound:.1f}"),
    ]
    rows = [[r["session"], r["device"], "missed" if r["missed"] else f"{r['alarm_at']} s", *(_whole(r[k]) for k in ("lead", "delay"))]
            for r in a["sessions"]]  # fmt: skip
    header = ["fault recording", "device", "alarm at", "lead to its end, s", "after onset, s"]
    table = f"<details><summary>each fault recording</summary>{pages.sortable(header, rows)}</details>"
    note = (f"An alarm begins when the calibrated probability of {facts['state']} or worse reaches {point['on']:.3f} and ends below "
            f"{point['off']:.3f}: the highest threshold that missed no fault recording of validation. Stamped at the end of the window. "
            f"The bound is what {a['exposure_hours']:.2f} hours without a fault can exclude, and no more: it says nothing about a "
            "plant's ordinary days.")  # fmt: skip
    return pages.section("Alarms", pages.tiles(values), table, note=note)


def _seconds(spread: dict[str, float] | None) -> str:
    return "–" if spread is None else f"{spread['median']:.0f} s ({spread['least']:.0f} to {spread['most']:.0f})"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _calibration(run: SavedRun, shown: str) -> str:
    """Reliability before and after temperature scaling."""
    facts = run.facts("calibration")
    if not facts:
        return ""
    rows = run.predictions[run.predictions["split"] == shown]
    before, after = (as_predictions(rows, prefix) for prefix in ("p", "c"))
    plot = figures.reliability_plot({"as trained": reliability(before), "calibrated": reliability(after)})
    figures_of = facts["parts"][shown]
    table = pages.table(
        ["", "as trained", "calibrated"],
        [
            [METRICS[k].title, f"{figures_of['before'][k]:.4f}", f"{figures_of['after'][k]:.4f}"]
            for k in figures_of["before"]
        ],
    )
    note = (f"Temperature {facts['temperature']:.2f}, fitted on validation (above 1: the model was too sure); validation's own figures "
            f"are cross-fitted by {facts['crossed_by']}.")  # fmt: skip
    return pages.section(
        "Can the probabilities be trusted?", pages.pair(pages.figure(plot, "reliability diagram"), table), note=note
    )


def learning_block(run: SavedRun) -> str:
    """Curves of the training."""
    history = run.history
    assert history is not None
    objective = run.config.objective
    values = history[objective]
    best = int(history["epoch"][values.idxmax() if OBJECTIVES[objective] else values.idxmin()])
    loss = figures.learning_curve(history, ["train/loss", "val/loss"], "Loss", "loss", best)
    score = figures.learning_curve(
        history, ["val/macro_f1", "train/accuracy", "val/accuracy"], "Macro-F1 and accuracy", "share", best
    )
    note = f"{len(history)} epochs in {history['seconds'].sum():.0f} s; the weights of epoch {best + 1}, best by {objective}, were tested."
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
        pages.figure(figures.horizontal_bars(list(map(str, sums.index)), {name: list(sums[column]) for column, name in measures.items()}, title, "share"), alt)
        for sums, title, alt in plots
    )  # fmt: skip
    columns = {"source": "of", "gain": "gain, share", "shap": "mean |SHAP|, log-odds"}
    every = draw("importance", table.rename(columns=columns), dict.fromkeys(list(columns.values())[1:], ".4f"))
    note = (f"{len(table)} features; shares of what all of them are worth. Gain: by the model's own measure. "
            + ("SHAP: contributions on the validation windows, their size averaged over windows and states. " if known else "")
            + "Features that say the same share what they are worth between them.")  # fmt: skip
    return pages.section("What the model looks at", pages.pair(one, "".join(others)),
                         f"<details><summary>all features</summary>{every}</details>", note=note)  # fmt: skip


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
        heading = (f"{examples['session'][i]}, seconds {seconds[0]} to {seconds[-1]}: actual {names[truth]}, predicted {names[guess]} "
                   f"({_percent(float(examples['p'][i].max()))})")  # fmt: skip
        plot = figures.traces(seconds, examples["sensors"][i], channels, units, examples["state"][i], len(names))
        blocks.append(
            f'<h3 class="{verdict}">{pages.escape(heading)}</h3>' + pages.figure(plot, f"sensor traces of {heading}")
        )
        if thermal is not None:
            places = examples["thermal_seconds"]
            frames = [(figures.thermal_image(np.asarray(frame), low, high), f"{seconds[t]} s, up to {frame.max():.1f} °C")
                      for frame, t in zip(thermal[i], places, strict=True)]  # fmt: skip
            blocks.append(pages.film(frames))
    note = (f"From the {shown} part: first the mistakes that matter most (by states apart, then by how sure the model was; one of each "
            "session), then the surest hit of each state. Colours behind the traces are the actual states; ")  # fmt: skip
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
            f"{p.get('seconds', 0):.0f} s, of it training {p.get('fit_seconds', 0):.1f} s, {p.get('peak_memory_mib', 0):,} MiB at the most",
        ],
        ["versions", ", ".join(f"{name} {v}" for name, v in p["versions"].items())],
    ]
    return pages.section("Where it comes from", pages.table(["", ""], rows))


def _size(provenance: dict[str, Any]) -> str:
    count, size = provenance.get("parameters"), provenance.get("model_bytes")
    return ", ".join(([f"{count:,} parameters"] if count else []) + ([f"{size / 1e6:.2f} MB"] if size else [])) or "–"


def _config(run: SavedRun) -> str:
    lines = [pages.base_names(line) for line in OmegaConf.to_yaml(run.config).splitlines()]
    return pages.section(
        "Config",
        f"<details><summary>config.yaml</summary><pre>{pages.escape(chr(10).join(lines))}</pre></details>",
    )
