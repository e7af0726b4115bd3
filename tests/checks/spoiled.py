"""A run directory, to be spoiled, and what its checks say of it."""

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

CARD, PAGE = "the model card says what the files say", "the page says what the files say"


def verdicts(folder, depth="data", *overrides):
    return {outcome.name: outcome for outcome in check_run(folder, depth, list(overrides))}


def failed(folder, depth="data", *overrides):
    return {
        name: outcome.told
        for name, outcome in verdicts(folder, depth, *overrides).items()
        if outcome.verdict == "FAILED"
    }


def told(folder, name, *overrides):
    """What one check says of a run that it finds wrong; None where it finds nothing. All of them take seconds."""
    try:
        {**FILES, **DATA}[name](Subject(folder, list(overrides)))
    except Failed as wrong:
        return str(wrong)
    return None


def edit_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write_json(path, content)


def edit_predictions(folder, change, consistent=False):
    """Change the table; `consistent`: everything that follows from it too, as one would who wanted to deceive."""
    path = folder / "predictions.parquet"
    table = pd.read_parquet(path)
    table = change(table)
    if consistent:
        run = SavedRun(folder)
        plain = table.drop(columns=[c for c in table if c[0] == "c"])
        derived = derive(
            [plain[plain["split"] == part].reset_index(drop=True) for part in plain["split"].unique()],
            run.schema,
            run.config.window.stride,
        )
        table = derived.predictions
        for name, content in (
            ("metrics", derived.metrics),
            ("calibration", derived.calibration),
            ("alarms", derived.alarms),
        ):
            write_json(folder / f"{name}.json", content)
    table.to_parquet(path, index=False)
    if consistent:
        redraw(folder)


def redraw(folder):
    """Card and page, as one would who wanted to deceive; of other windows than the shortcuts' no card can be drawn."""
    with suppress(RunError):
        write_card(folder)
    write_report(folder)
