"""Compare the choice of `best` with every candidate on devices that it has not seen: experiments/best_choice.csv.

    python experiments/best_choice.py                             # 72, 216 and 341 sessions, 3 draws each
    python experiments/best_choice.py sessions=72 draws=2 models=lightgbm,extra_trees,log_mean,logistic_regression

sessions, draws: simulated data sets; draw d has data.seed=2026+d and split.seed=42+d. models: candidates whose
names begin with one of these; default all. minutes: the budget of `best` (30), in which it plans. out: of the runs
(outputs/best_choice). Other words are overrides of the config, such as threads=1.

For each draw `best` plans, trains the folds and chooses. Then every candidate in `models`, those that the plan left out
as well, is trained on all of train and validation and judged on the test devices, at which the choice has not looked.
A draw that is in the table is not run again, and a killed one goes on where it was.

Columns: sessions, draw, test_devices, candidate, planned (whether `best` tried it), chosen, out_of_fold and test
(macro-F1 of the state now; out_of_fold only where it is trained), behind (test macro-F1 of the best candidate of the
draw minus this one's, in points; that of the chosen one is what the choice has cost).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.commands.best import PARSER
from conveyorguard.commands.candidates import ModelCandidate, candidates
from conveyorguard.commands.search import deployed, search, train_all, train_final, units_of
from conveyorguard.errors import ConveyorGuardError
from conveyorguard.evaluation.plan import Result
from conveyorguard.metrics.scores import metric_values
from conveyorguard.runs.derive import as_predictions
from conveyorguard.system.files import write_text

SESSIONS, DRAWS, MINUTES = "72,216,341", 3, 30.0
FIRST_DATA, FIRST_SPLIT = 2026, 42  # seeds of draw 0
WITHIN = 0.5  # points of macro-F1 that a choice may cost
FILE = Path(__file__).with_suffix(".csv")
OWN = ("sessions", "draws", "models", "minutes", "out", "file")


def main(arguments: list[str]) -> pd.DataFrame:
    """Run the draws that the table lacks, write it after each, and return it."""
    options = dict(word.split("=", 1) for word in arguments if word.partition("=")[0] in OWN)
    overrides = [word for word in arguments if word.partition("=")[0] not in OWN]
    models = tuple(filter(None, options.get("models", "").split(",")))
    file, out = Path(options.get("file", FILE)), Path(options.get("out", "outputs/best_choice"))
    table = pd.read_csv(file) if file.is_file() else pd.DataFrame()
    for sessions in map(int, options.get("sessions", SESSIONS).split(",")):
        for draw in range(int(options.get("draws", DRAWS))):
            if len(table) and ((table["sessions"] == sessions) & (table["draw"] == draw)).any():
                continue
            seeds = [f"data.seed={FIRST_DATA + draw}", f"split.seed={FIRST_SPLIT + draw}"]
            folder = out / f"{sessions}-{draw}"
            words = [f"data.sessions={sessions}", *seeds, *overrides, f"out={folder}"]
            rows = run_draw(words, models, float(options.get("minutes", MINUTES)))
            table = pd.concat([table, rows.assign(sessions=sessions, draw=draw)], ignore_index=True)
            first = ["sessions", "draw", "test_devices", "candidate"]
            table = table[[*first, *(name for name in table if name not in first)]]
            write_text(file, table.to_csv(index=False, float_format="%.6g"))
    return table


def run_draw(words: list[str], models: tuple[str, ...], minutes: float) -> pd.DataFrame:
    """Run `best` on a data set and judge each candidate on its test devices.

    Args:
        words: of the verb.
        models: beginnings of the candidates' names; empty for all.
        minutes: budget of `best`.

    Returns:
        A row a candidate.
    """
    parsed = PARSER.parse_words(words)
    result = search(parsed, minutes, 1)
    schema = result.model.schema
    every, _ = candidates(parsed.overrides, "sensors" in schema.inputs, "thermal" in schema.inputs)
    rows = [row_of(c, result) for c in every if not models or c.name.startswith(models)]
    table = pd.DataFrame(rows)
    return table.assign(behind=100 * (table["test"].max() - table["test"]))


def row_of(candidate: ModelCandidate, result: Result) -> dict[str, object]:
    """Train a candidate of `best` as its chosen one is, where it is another, and return its row."""
    folds, plan = result.folder / "folds", result.plan
    chosen = candidate.name == result.choice.name
    if chosen:
        run = result.model
    else:
        train_all(units_of(plan, candidate, folds, None), 1)  # finished ones are not trained again
        run = train_final(plan, candidate, folds / candidate.name, result.folder / "others" / candidate.name)
    test = run.rows("test")
    scores = [
        metric_values(as_predictions(t, "c"))["macro_f1"] for t in (deployed(folds / candidate.name, plan.folds), test)
    ]
    return {
        "test_devices": test["device"].nunique(),
        "candidate": candidate.name,
        "planned": candidate.name in [c["name"] for c in plan.candidates],
        "chosen": chosen,
        "out_of_fold": scores[0],
        "test": scores[1],
    }


def summary(table: pd.DataFrame) -> str:
    """Return in how many draws the choice is within `WITHIN` points of the best candidate."""
    costs = table[table["chosen"]]["behind"]
    return (
        f"within {WITHIN} points in {(costs <= WITHIN).sum()} of {len(costs)} draws; most lost {costs.max():.2f} points"
    )


if __name__ == "__main__":
    try:
        print(summary(main(sys.argv[1:])))
    except ConveyorGuardError as error:
        sys.exit(f"{type(error).__name__}: {error}")
