"""best.html: the candidates, the chosen one and why, and whether more recordings would help."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from conveyorguard.evaluation.choice import RULE
from conveyorguard.evaluation.plan import HALF, Result
from conveyorguard.metrics.notation import PERCENT, POINTS
from conveyorguard.reporting import figures, pages
from conveyorguard.reporting.format import metric_title
from conveyorguard.system.files import write_text

UNITS = {
    "device": "Folds hold out whole devices, so figures are of devices that a model has not seen.",
    "recording": "There are fewer than 3 devices: folds hold out recordings, so figures are of new recordings of the "
    "same devices; on another device expect less.",
    "time": "There is one recording of one device: folds hold out consecutive parts of it, so figures are of the same "
    "machine at other times, and neighbouring parts resemble each other; on another device expect less.",
}


def write_best(result: Result) -> Path:
    """Write best.html into the folder of a search, and return the page's path."""
    main = pages.render("best.html.jinja", **_values(result))
    path = result.folder / "best.html"
    asked = result.model.window.question
    subtitle = f"{result.data_name} data: {len(result.choice.standings)} candidates, {result.plan.folds} folds; {asked}"
    write_text(path, pages.page("Best model", subtitle, main))
    return path


def _values(result: Result) -> dict[str, Any]:
    """Prepare the values of the template."""
    choice, plan, schema = result.choice, result.plan, result.model.schema
    standings = {s.name: s for s in choice.standings}
    test = result.model.metrics.get("now", result.model.metrics)["test"]
    best = standings[choice.name]
    tiles = [
        ("chosen", choice.name),
        ("macro-F1 now, out of fold", PERCENT.with_interval(best.macro_f1)),
        ("macro-F1 now, test", PERCENT.number(test["macro_f1"])),
    ]
    severe = metric_title("severe_recall", schema)
    frame = pd.DataFrame(
        {
            "candidate": [s.name for s in choice.standings],
            "macro-F1, %": [s.macro_f1.times(100) for s in choice.standings],
            f"{severe}, %": [s.severe_recall.times(100) for s in choice.standings],
            "behind the highest, points": [s.behind.times(100) for s in choice.standings],
            "trained, s": [result.seconds[s.name] for s in choice.standings],
        }
    )
    columns = [name for name in map(str, frame) if name.endswith((", %", ", points"))]
    formats: dict[str, str] = {**{name: ".1f" for name in columns}, "trained, s": ".0f"}
    links = {choice.name: "model/report.html"}
    return {
        "tiles": tiles,
        "reason": choice.reason,
        "rule": RULE,
        "note": choice.note,
        "unit": UNITS[plan.unit],
        "table": pages.framed(frame, formats, links, csv="best.csv"),
        "left_out": plan.left_out,
        "minutes": f"{plan.minutes:g}",
        "curve": None if result.curve is None else _curve(result),
        "verdict": _verdict(result),
        "advice": _advice(result),
    }


def _curve(result: Result) -> Markup:
    """Draw the learning curve."""
    assert result.curve is not None
    half, whole, _ = (i.times(100) for i in result.curve)
    rows = pd.DataFrame(
        [{"x": x, "value": i.value, "low": i.low, "high": i.high} for x, i in ((HALF, half), ("all devices", whole))]
    )
    plot = figures.interval_lines(
        {result.choice.name: rows}, "Learning curve", "devices of train and validation", "macro-F1 out of fold [%]"
    )
    return pages.figure(plot, "macro-F1 out of fold, trained on half of the devices and on all")


def _verdict(result: Result) -> str:
    """Say whether more recordings would help."""
    if result.curve is None:
        return "Not measured: the folds are not of devices, or there are too few devices to train on half of them."
    gain = result.curve[2]
    text = f"{POINTS.number(gain.value)} points from half of the devices to all"
    if not gain.known:
        return f"{text}; there are too few devices for an interval, so it is not shown that more would help."
    bounds = f"[{POINTS.bounds(gain)}]"
    if gain.low > 0:
        return f"{text} {bounds}: recordings of more devices would help."
    return f"{text} {bounds}: it is not shown that recordings of more devices would help."


def _advice(result: Result) -> list[str]:
    """Say what to try next."""
    plan, model = result.plan, shlex.quote(str(result.folder / "model"))
    advice = []
    if plan.left_out:
        needed = sum(plan.seconds.values()) * 1.6 / 60
        advice.append(f"Try the candidates that were left out: minutes={needed:.0f} and another out=FOLDER.")
    if result.curve is not None and result.curve[2].low > 0:
        advice.append("Record more devices: the learning curve still rises.")
    if plan.unit != "device":
        advice.append("Record more devices: until then nothing here says how the model does on another one.")
    advice.append(f"Use it: python -m conveyorguard predict {model} data.root=FOLDER")
    return advice
