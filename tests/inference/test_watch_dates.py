"""A watch of dated tables writes the clock times that a later prediction writes."""

import pandas as pd

from conveyorguard import load_run
from conveyorguard.config.compose import build
from conveyorguard.config.saved import plain_values
from conveyorguard.data.live import follow
from conveyorguard.inference.data_schema import schema_for
from conveyorguard.inference.watch import Watch
from conveyorguard.runs.saved import SavedRun
from tests.inference.watched import afterwards
from tests.support.plant import plant_table


def test_watch_of_dated_tables_writes_the_clock_times_of_a_prediction(plant, tmp_path):
    run, _ = plant
    incoming, out = tmp_path / "in", tmp_path / "out"
    incoming.mkdir()
    out.mkdir()
    (out / "watch.json").write_text('{"known": {}}')
    data = plain_values(SavedRun(run).config)["data"]
    loaded = load_run(run)
    schema = schema_for(loaded, data)

    def begin():
        return Watch(loaded, follow(build(data["reader"], _partial_=True), incoming, schema, {}), schema, out)

    watch, table = begin(), plant_table(104)  # the end of summer time lies in it: an hour comes twice
    for rows in (40, 90, 91, 150):
        table[:rows].drop(columns="state").to_csv(incoming / "pump52_104.csv", index=False)
        watch.poll()
        if rows == 90:
            watch.close()
            watch = begin()
    watch.close()
    alarms, windows = pd.read_csv(out / "alarms.csv", keep_default_na=False), pd.read_csv(out / "windows.csv")
    _, expected = afterwards(run, incoming, tmp_path / "later")
    for column in ("start", "end", "start_time", "end_time"):
        assert windows[column].tolist() == expected[column].tolist()
    assert windows["start_time"].str.endswith(("+01:00", "+02:00")).all()
    later = pd.read_csv(tmp_path / "later" / "alarms.csv", keep_default_na=False)
    begun = alarms[alarms["event"] == "begin"]
    assert len(later) and begun["begin_time"].tolist() == later["begin_time"].tolist()
    assert begun["end_time"].tolist() == begun["begin_time"].tolist(), "an alarm that has just begun"
