"""Damage a run directory, and collect what its checks report."""

import json
from contextlib import suppress

import pandas as pd

from conveyorguard.checks.run import DATA, FILES, check_run
from conveyorguard.checks.subject import Failed, Subject
from conveyorguard.errors import RunError
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from conveyorguard.runs.derive import derive
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_json

CARD, PAGE = "model card matches the other files", "report page matches the other files"


def verdicts(folder, depth="data", *overrides):
    """Return the outcome of each check, by name."""
    return {outcome.name: outcome for outcome in check_run(folder, depth, list(overrides))}


def failed(folder, depth="data", *overrides):
    """Return the messages of the checks that fail, by name."""
    return {
        name: outcome.message
        for name, outcome in verdicts(folder, depth, *overrides).items()
        if outcome.verdict == "FAILED"
    }


def failure(folder, name, *overrides):
    """Return the message of one check if it fails, else None; to make them all takes seconds."""
    try:
        {**FILES, **DATA}[name](Subject(folder, list(overrides)))
    except Failed as error:
        return str(error)
    return None


def edit_json(path, change):
    """Change the content of a json file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write_json(path, content)


def edit_predictions(folder, change, consistent=False):
    """Change predictions.parquet; with `consistent` also all that follows from it, as a forger would."""
    path = folder / "predictions.parquet"
    table = pd.read_parquet(path)
    table = change(table)
    if consistent:
        run = SavedRun(folder)
        plain = table.drop(columns=[c for c in table if c[0] == "c"])
        derived = derive(
            [plain[plain["split"] == part].reset_index(drop=True) for part in plain["split"].unique()],
            run.schema,
            run.window,
        )
        table = derived.predictions
        for name, content in (
            ("metrics", derived.metrics),
            ("calibration", derived.calibration),
            ("memory", derived.memory),
            ("alarms", derived.alarms),
        ):
            if content is not None:
                write_json(folder / f"{name}.json", content)
    table.to_parquet(path, index=False)
    if consistent:
        redraw(folder)


def redraw(folder):
    """Write card and page again, as a forger would; no card can be written for other windows than the shortcuts'."""
    with suppress(RunError):
        write_card(folder)
    write_report(folder)
