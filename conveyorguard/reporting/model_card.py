"""MODEL_CARD.md of a run: what the model was trained on, what it does and does not do, drawn from the run's files
alone.

After Mitchell et al., Model Cards for Model Reporting (2019).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from conveyorguard.data.durations import text_of
from conveyorguard.data.splits import PARTS
from conveyorguard.metrics.alarm_settings import HOURS_PER_WEEK
from conveyorguard.metrics.alarms import OperatingPoint
from conveyorguard.metrics.intervals import verdicts
from conveyorguard.metrics.notation import MISSING, PERCENT, notation_of
from conveyorguard.metrics.resampling import Arm, resample
from conveyorguard.reporting import pages
from conveyorguard.reporting.alarm_section import (
    curve_note,
    curve_rows,
    highest_cost,
    monthly_cost,
    precision,
    share_range,
    times_sentence,
)
from conveyorguard.reporting.alarm_sentences import alarm_rule, duration, per_week, threshold_choice, weekly_claim
from conveyorguard.reporting.format import counted, metric_title, state_titles, warning_of
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_text

FILE = "MODEL_CARD.md"
UNKNOWN = "?"
NO_INTERVAL = "none"
SHOWN = (
    "accuracy",
    "macro_f1",
    "severe_recall",
    "severe_precision",
    "severe_as_normal",
    "severe_sessions_missed",
    "qwk",
    "ece",
)


def write_card(folder: Path) -> Path:
    """Write the card of a run and return its path.

    Raises:
        RunError: the directory is not that of a finished run.
    """
    run = SavedRun(folder)
    path = folder / FILE
    card = _markdown().get_template("model_card.md.jinja")
    write_text(path, card.render(**_head(run), **_protocol(run), **_evaluation(run), **_limits_and_use(run)))
    return path


@cache
def _markdown() -> Environment:
    """Return the environment of markdown templates, in which a printed value is plain text."""
    templates = pages.environment(finalize=lambda value: value if isinstance(value, Markup) else Markup(plain(value)))
    templates.filters["code"] = lambda name: Markup(code(name))
    return templates


def plain(text: Any) -> str:
    """Escape text from data, so that nothing in it is markdown or html; it becomes one line."""
    for sign in "\\`*_[]<>|":
        text = str(text).replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(str(text).split())


def code(name: str) -> str:
    """Write a name in code, as it has to be typed; one that could be markup, or end the code, as plain text."""
    return plain(name) if {*"<>`\n"} & {*name} else f"`{name}`"


def _head(run: SavedRun) -> dict[str, Any]:
    """Return what the model is and the data it was trained on."""
    facts, schema = run.provenance, run.schema
    changed = " with uncommitted changes" if facts["git"]["dirty"] else ""
    return {
        "model": run.model_name,
        "members": run.provenance.get("members") or [],
        "name": run.folder.resolve().name,
        "states": state_titles(schema),
        "inputs": {"sensor": "sensors", "image": "the camera", "both": "sensors and camera"}.get(
            run.modality, run.modality
        ),
        "film": run.film,
        "size": (
            f"{facts['parameters']:,} parameters"
            if facts.get("parameters")
            else f"{facts.get('model_bytes', 0) / 1e6:.2f} MB"
        ),
        "date": facts["start"][:10],
        "seconds": f"{facts.get('fit_seconds') or 0:.0f}",
        "version": facts["versions"].get("conveyorguard", UNKNOWN),
        "commit": (facts["git"]["commit"] or "unknown")[:12] + changed,
        "data": _data(run),
    }


def _data(run: SavedRun) -> dict[str, Any]:
    facts, schema = run.provenance, run.schema
    trained = facts.get("data", {})
    parts = []
    for part in PARTS:
        hours = trained.get("hours", {}).get(part, {})
        devices = trained.get("devices", {}).get(part)
        parts.append(
            [
                part,
                facts["sessions"][part],
                len(devices) if devices else UNKNOWN,
                f"{facts['windows'][part]:,}",
                *(f"{hours[name]:.2f}" if name in hours else UNKNOWN for name in schema.state_names),
            ]
        )
    return {
        "name": run.data_name,
        "store": facts["store"]["name"],
        "fingerprint": facts["store"]["fingerprint"],
        "header": ["part", "sessions", "devices", "windows", *(f"{name}, hours" for name in schema.state_names)],
        "parts": parts,
        "devices": [(part, trained["devices"][part]) for part in PARTS if trained.get("devices")],
        "channels": [(name, channel.unit) for name, channel in {**schema.channels, **schema.environment}.items()],
        "camera": schema.thermal.shape if schema.thermal else None,
    }


def _protocol(run: SavedRun) -> dict[str, Any]:
    """Return how windows were cut, split and fitted."""
    split = run.split
    return {
        "window": run.window,
        "length": text_of(run.window.size * run.window.period),
        "period": text_of(run.window.period),
        "split": {
            "name": split.settings["name"],
            "settings": [(key, value) for key, value in split.settings.items() if key != "name"],
            "hash": split.hash,
            "note": split.note,
        },
        "epochs_by": run.objective if run.history is not None else None,
        "scaled_on_train": run.history is None or run.settings["scaling"]["fit_on"] == "train",
        "seed": run.provenance["seed"],
    }


def _evaluation(run: SavedRun) -> dict[str, Any]:
    """Return the scores of each part, the shortcut baselines, the alarms and the calibration."""
    calibration = run.facts("calibration")
    return {
        "results": [_part(run, part) for part in run.metrics],
        "shortcuts": _shortcuts(run, list(run.metrics)[-1]),
        "alarms": _alarms(run),
        "temperature": f"{calibration['temperature']:.3f}" if calibration else None,
    }


def _part(run: SavedRun, part: str) -> dict[str, Any]:
    rows = run.predictions[run.predictions["split"] == part]
    resampling = resample(rows["session"].to_numpy(), rows["device"].to_numpy())
    arm = Arm([as_predictions(rows, run.answer)], resampling)
    return {
        "name": part,
        "metrics": [_metric_row(run, arm, name) for name in SHOWN],
        "note": resampling.note,
        "states": [
            [row["class"], *map(PERCENT.with_range, arm.class_intervals(k)), f"{row['support']:,}"]
            for k, row in enumerate(run.metrics[part]["per_class"])
        ],
    }


def _metric_row(run: SavedRun, arm: Arm, name: str) -> list[str]:
    """Return a metric's title, value and interval."""
    notation, interval = notation_of(name), arm.interval(name)
    return [
        metric_title(name, run.schema),
        notation.number(interval.value),
        notation.range(interval) or NO_INTERVAL,
    ]


def _shortcuts(run: SavedRun, part: str) -> list[list[str]]:
    """Return the shortcut baselines on the windows of a part, and whether the model is better than each."""
    table = run.shortcuts
    if table is None:
        return []
    windows = run.predictions[run.predictions["split"] == part].sort_values(["session", "start"], ignore_index=True)
    resampling = resample(windows["session"].to_numpy(), windows["device"].to_numpy())
    model = Arm([as_predictions(windows, run.answer)], resampling)
    arms = {
        str(name): Arm([as_predictions(rows.sort_values(["session", "start"], ignore_index=True))], resampling)
        for name, rows in table[table["split"] == part].groupby("shortcut", sort=False)
    }
    leads = [model.difference(arm, "macro_f1") for arm in arms.values()]
    names = verdicts(leads) if resampling.enough else [f"not shown: {resampling.shortage}"] * len(leads)
    return [
        [name, PERCENT.with_range(arm.interval("macro_f1")), PERCENT.range(lead) or NO_INTERVAL, verdict]
        for (name, arm), lead, verdict in zip(arms.items(), leads, names, strict=True)
    ]


def _alarms(run: SavedRun) -> dict[str, Any] | None:
    """Return the operating point and what it means on each part; None where validation gave none."""
    facts = run.facts("alarms")
    if not facts.get("operating_point"):
        return None
    parts = []
    for part, figures in facts["parts"].items():
        most, right = figures["false_alarms_per_hour_bound"], share_range(figures.get("true_share_interval"))
        cost = highest_cost(facts, figures) if facts.get("choice") else ""
        parts.append(
            [
                part,
                f"{figures['missed']} of {figures['fault_sessions']}",
                share_range(figures["missed_share_interval"]) or NO_INTERVAL,
                precision(figures) + (f" ({right})" if right else ""),
                f"{figures['false_alarms']} in {duration(figures['exposure_hours'])}",
                MISSING if most is None else per_week(most * HOURS_PER_WEEK),
                monthly_cost(figures) + (f" ({cost} at the upper bounds)" if cost else ""),
            ]
        )
    last = list(facts["parts"])[-1]
    return {
        "rule": alarm_rule(
            run.schema.alarming, OperatingPoint(facts["operating_point"]["on"], facts["operating_point"]["off"])
        ),
        "choice": threshold_choice(facts),
        "parts": parts,
        "times": times_sentence(facts, last),
        "claim": weekly_claim(facts["parts"][last]),
        "curve_header": ["threshold", "false alarms a week", "guaranteed lead", "faults missed", "cost a month"],
        "curve": curve_rows(facts["parts"][last]),
        "curve_note": curve_note(facts, last),
        "part": last,
    }


def _judged_from(run: SavedRun) -> str:
    """Say what an answer is computed from, beside the seconds of its window."""
    used = [f"its own {text_of(run.window.size * run.window.period)}"]
    block = "features" if run.is_tabular else "scaling"
    if (run.settings.get(block) or {}).get("from_start"):
        used.append("the change since the start of its session")
    if run.memory:
        used.append("the answers of up to 15 rows before")
    return ", ".join(used[:-1]) + " and " + used[-1] if len(used) > 1 else f"{used[0]} alone"


def _limits_and_use(run: SavedRun) -> dict[str, Any]:
    settings, schema = run.settings, run.schema
    windows = run.predictions[run.predictions["split"] == list(run.metrics)[-1]]
    warning = warning_of(run.data_name)
    return {
        "limits": [*([warning] if warning else []), *(settings["data"].get("limits") or [])],
        "tested": {
            "devices": counted(windows["device"].nunique(), "device"),
            "sessions": counted(windows["session"].nunique(), "session"),
            "new_devices": settings["split"]["name"] in ("device", "kfold"),
        },
        "worst": schema.state_names[-1],
        "judged_from": _judged_from(run),
        "ranges_known": bool(run.facts("ranges")),
        "has_model": (run.folder / "checkpoints").is_dir(),
        "columns": ["session", "time", *schema.channels],
        "environment": bool(schema.environment),
    }
