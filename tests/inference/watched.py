"""Alarms of a watch, and those of a prediction of the whole recordings afterwards."""

import pandas as pd

from conveyorguard.cli import main


def alarms_in(out, event="begin"):
    table = pd.read_csv(out / "alarms.csv")
    return [tuple(row) for row in table[table["event"] == event][["session", "begin"]].itertuples(index=False)]


def afterwards(run, root, out):
    """What predict says of the whole recordings."""
    assert main(["predict", str(run), f"data.root={root}", f"out={out}"]) == 0
    table = pd.read_csv(out / "alarms.csv")
    return [tuple(row) for row in table[["session", "begin"]].itertuples(index=False)], pd.read_parquet(
        out / "predictions.parquet"
    )
