"""MODEL_CARD.md of a run: what the model was trained on, what it does and does not do, drawn from the run's files
alone.

After Mitchell et al., Model Cards for Model Reporting (2019).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.splits import PARTS
from conveyorguard.metrics.alarms import OperatingPoint, how_chosen, when_it_rings
from conveyorguard.metrics.bootstrap import Arm, Interval, resample
from conveyorguard.metrics.notation import PERCENT, WHOLE_PERCENT, notation_of
from conveyorguard.reporting.format import metric_title, state_titles, warning_of
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_text

FILE = "MODEL_CARD.md"
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
    """Write the card of a run; returns its path.

    Raises:
        RunError: the directory is not that of a finished run.
    """
    run = SavedRun(folder)
    parts = [_head(run), _data(run), _protocol(run), _results(run), _alarms(run), _limits(run), _use(run)]
    path = folder / FILE
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _table(header: list[str], rows: Iterable[Iterable[Any]]) -> str:
    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(plain(cell) for cell in cells) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *(line(row) for row in rows)])


def plain(text: Any) -> str:
    """Text from data as text: nothing in it is markup or html."""
    for sign in "\\`*_[]<>|":
        text = str(text).replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(str(text).split())


def code(name: str) -> str:
    """A name as it has to be written, in code; one that could be markup, or end the code, as text."""
    return plain(name) if {*"<>`\n"} & {*name} else f"`{name}`"


def _head(run: SavedRun) -> str:
    p, model = run.provenance, run.model_name
    size = f"{p['parameters']:,} parameters" if p.get("parameters") else f"{p.get('model_bytes', 0) / 1e6:.2f} MB"
    states = ", ".join(map(plain, state_titles(run.schema)))
    modality = run.modality if run.schema.thermal or run.modality != "both" else "sensor"
    looks = {"sensor": "sensors", "image": "the camera", "both": "sensors and camera"}.get(modality, modality)
    film = ", conditioned on the environment" if run.film and run.schema.environment else ""
    return (
        f"# Model card: {plain(model)}, {plain(run.folder.resolve().name)}\n\n"
        f"Tells the state of a device ({states}) from a window of {run.window.size} s of {looks}{film}. "
        f"{size}; trained on {p['start'][:10]} in {p.get('fit_seconds') or 0:.0f} s, conveyorguard "
        f"{p['versions'].get('conveyorguard', '?')}, "
        f"commit {(p['git']['commit'] or 'unknown')[:12]}{' with uncommitted changes' if p['git']['dirty'] else ''}. "
        "The page of the run is [report.html](report.html)."
    )


def _data(run: SavedRun) -> str:
    p, schema = run.provenance, run.schema
    trained = p.get("data", {})
    rows = []
    for part in PARTS:
        hours = trained.get("hours", {}).get(part, {})
        devices = trained.get("devices", {}).get(part)
        rows.append(
            [
                part,
                p["sessions"][part],
                len(devices) if devices else "?",
                f"{p['windows'][part]:,}",
                *(f"{hours[s]:.2f}" if s in hours else "?" for s in schema.state_names),
            ]
        )
    header = ["part", "sessions", "devices", "windows", *(f"{name}, hours" for name in schema.state_names)]
    names = [
        f"{part}: {', '.join(plain(d) for d in trained['devices'][part])}" for part in PARTS if trained.get("devices")
    ]
    units = "; ".join(
        f"{plain(name)} [{plain(c.unit)}]" for name, c in {**schema.channels, **schema.environment}.items()
    )
    camera = f" Camera: {schema.thermal.shape[0]} x {schema.thermal.shape[1]} pixels." if schema.thermal else ""
    store = p["store"]
    lines = [
        "## Trained on",
        f"Data set {plain(run.data_name)}, store {plain(store['name'])}, fingerprint `{store['fingerprint']}`.",
        _table(header, rows),
    ]
    lines += ["Devices, " + "; ".join(names) + "."] if names else []
    return "\n\n".join([*lines, f"Channels: {units}.{camera}"])


def _protocol(run: SavedRun) -> str:
    window, split = run.window, run.split
    labels = {"majority": "the commonest state in it", "last": "the state of its last second"}[window.label]
    settings = ", ".join(f"{key} {plain(value)}" for key, value in split.settings.items() if key != "name")
    note = f" {plain(split.note)}." if split.note else ""
    if run.history is None:
        fitted = "Fitted once on the training part; validation chose nothing of it."
    else:
        on_train = run.settings["scaling"]["fit_on"] == "train"
        scaled = "the training part" if on_train else "all recordings, the test's included"
        fitted = f"The weights are those of the best epoch by {run.objective}; scaling is fitted on {scaled}."
    return (
        "## Protocol\n\n"
        f"Windows of {window.size} s every {window.stride} s within a recording; a window's label is {labels}. "
        f"Split {code(split.settings['name'])} ({settings}; `{split.hash}`): no recording is in two parts.{note} "
        f"{fitted} "
        f"Seed {run.provenance['seed']}."
    )


def _results(run: SavedRun) -> str:
    blocks = ["## Results"]
    for part in run.metrics:
        rows = run.predictions[run.predictions["split"] == part]
        drawn = resample(rows["session"].to_numpy(), rows["device"].to_numpy())
        arm = Arm([as_predictions(rows)], drawn)
        shown = [_metric_row(run, arm, name) for name in SHOWN]
        per_class = [
            [plain(r["class"]), *map(PERCENT.with_range, arm.class_intervals(k)), f"{r['support']:,}"]
            for k, r in enumerate(run.metrics[part]["per_class"])
        ]
        blocks += [
            f"### {part}",
            _table(["metric", "value", "95 % interval"], shown),
            plain(drawn.note),
            _table(["state", "precision (95 %)", "recall (95 %)", "F1 (95 %)", "windows"], per_class),
        ]
    blocks += _shortcuts(run, list(run.metrics)[-1])
    return "\n\n".join(blocks)


def _metric_row(run: SavedRun, arm: Arm, name: str) -> list[str]:
    """A metric's title, value and interval."""
    notation, interval = notation_of(name), arm.interval(name)
    title = plain(metric_title(name, run.schema))
    return [title, notation.number(interval.value), notation.range(interval) or NO_INTERVAL]


def _shortcuts(run: SavedRun, part: str) -> list[str]:
    """The shortcut baselines on the same windows, and whether the model is better than each."""
    table = run.shortcuts
    if table is None:
        return []
    own = run.predictions[run.predictions["split"] == part].sort_values(["session", "start"], ignore_index=True)
    drawn = resample(own["session"].to_numpy(), own["device"].to_numpy())
    model, rows = Arm([as_predictions(own)], drawn), []
    for name, shortcut in table[table["split"] == part].groupby("shortcut", sort=False):
        arm = Arm([as_predictions(shortcut.sort_values(["session", "start"], ignore_index=True))], drawn)
        value, difference = arm.interval("macro_f1"), model.difference(arm, "macro_f1")
        verdict = difference.verdict if np.isfinite(difference.low) else "not shown: too few sessions"
        rows.append([name, PERCENT.with_range(value), PERCENT.range(difference) or NO_INTERVAL, verdict])
    note = (
        "What can be had without a model, on the same windows. A model that is not shown to be better has learned "
        "the recording's "
        "clock or the kind of device rather than wear."
    )
    return [
        "### Shortcuts",
        note,
        _table(["shortcut", "macro-F1 (95 %)", "the model minus it, 95 %", "the model is"], rows),
    ]


def _alarms(run: SavedRun) -> str:
    facts, calibration = run.facts("alarms"), run.facts("calibration")
    lines = ["## Alarms"]
    point = facts.get("operating_point")
    if not point:
        lines.append("None: no validation recording has a state worth an alarm, so there is no operating point.")
    else:
        rings = OperatingPoint(point["on"], point["off"])
        lines.append(f"{when_it_rings(plain(run.schema.alarming), rings)}. {how_chosen(facts)}")
        rows = [
            [
                part,
                f"{a['missed']} of {a['fault_sessions']}",
                _share(a["missed_share_interval"]),
                a["false_alarms"],
                f"{a['exposure_hours']:.2f}",
                "–" if a["false_alarms_per_hour_bound"] is None else f"{a['false_alarms_per_hour_bound']:.1f}",
            ]
            for part, a in facts["parts"].items()
        ]
        header = [
            "part",
            "fault recordings missed",
            "their share, 95 %",
            "false alarms",
            "hours without a fault",
            "false alarms an hour, 95 % bound",
        ]
        lines.append(_table(header, rows))
    if calibration:
        lines.append(
            f"Probabilities are calibrated by a temperature of {calibration['temperature']:.3f}, fitted on validation."
        )
    return "\n\n".join(lines)


def _share(bounds: list[float] | None) -> str:
    """The interval of a share, of which alarms.json has the bounds."""
    return WHOLE_PERCENT.range(Interval(np.nan, *bounds)) if bounds else NO_INTERVAL


def _limits(run: SavedRun) -> str:
    settings, facts = run.settings, run.facts("ranges")
    said = [plain(sentence) for sentence in settings["data"].get("limits") or []]
    if warning := warning_of(run.data_name):
        said.insert(0, warning)
    worst = plain(run.schema.state_names[-1])
    windows = run.predictions[run.predictions["split"] == list(run.metrics)[-1]]
    devices = windows["device"].nunique()
    said.append(
        f"The results are of {devices} devices, {windows['session'].nunique()} recordings; "
        + (
            "they were never trained on."
            if settings["split"]["name"] in ("device", "kfold")
            else "the devices may have been trained on, in other recordings: split=device tells how it does on new "
            "ones."
        )
    )
    said.append(
        f"{worst} is what the labels call it. A window is judged from its own {run.window.size} s alone, and is "
        "known at its end."
    )
    said.append(
        "Inputs outside the ranges of the training (`ranges.json`), missing channels and dead sensors are reported "
        "by predict, and "
        "what is then said of the state is a guess."
        if facts
        else "The ranges of the training inputs are not known."
    )
    said.append(
        "It advises a person. Whether a line may be stopped or kept running by it alone is not shown by these figures."
    )
    return "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in said)


def _use(run: SavedRun) -> str:
    if not (run.folder / "checkpoints").is_dir():
        return "## Using it\n\nThe run holds predictions of its members and no model of its own; apply those."
    needs = ", ".join(code(name) for name in ("session", "time", *run.schema.channels))
    environment = ", the environment's channels" if run.schema.environment else ""
    return f"""## Using it

```python
from conveyorguard import load_run

windows = load_run("RUN").predict(frame_table)  # RUN: this directory
```

`frame_table` has a row a second: {needs}{environment}, in the
units above; where the run uses the camera, `predict(frame_table, thermal)`. From a shell:

```bash
python -m conveyorguard predict RUN data.root=NEW            # new recordings: states, alarms, a page
python -m conveyorguard predict RUN data.root=NEW --watch    # a folder while a collector writes into it
python -m conveyorguard export RUN                           # ONNX
python -m conveyorguard reproduce RUN                        # the same numbers anew
```

Loading executes nothing from the files of the run: weights are read with `weights_only=True`, trees from text, json
or skops."""
