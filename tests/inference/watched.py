"""Alarms of a watch, and those of a later prediction of the whole sessions."""

import pandas as pd

from conveyorguard.cli import main


def alarms_in(out, event="begin"):
    """Return session and begin of the events in alarms.csv."""
    table = pd.read_csv(out / "alarms.csv")
    return [tuple(row) for row in table[table["event"] == event][["session", "begin"]].itertuples(index=False)]


def afterwards(run, root, out):
    """Predict the whole sessions, and return session and begin of the alarms, and the windows."""
    assert main(["predict", str(run), f"data.root={root}", f"out={out}"]) == 0
    table = pd.read_csv(out / "alarms.csv")
    return [tuple(row) for row in table[["session", "begin"]].itertuples(index=False)], pd.read_parquet(
        out / "predictions.parquet"
    )
