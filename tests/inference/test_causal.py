"""No answer looks ahead: a recording cut off at a second has the same answers up to it."""

import shutil

import numpy as np
import pandas as pd
import pytest

from conveyorguard import load_run
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.reduce import reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.store_build import store_in_memory
from conveyorguard.data.table import reader as table
from conveyorguard.inference.frame_table import sessions_of
from conveyorguard.runs.data import load_windows
from tests.support.recorded import frames_of

CUTS = (35, 52, 77, 90, 121)  # s


def answered(loaded, sessions, schema):
    store = store_in_memory([reduce_session(session, schema) for session in sessions], schema)
    predicted = loaded.predict_store(store)
    return predicted.windows, predicted.seconds


def refuse_look_ahead(answers, cuts=CUTS):
    """Compare the answers for whole recordings with those for recordings cut off; `answers` maps a last second."""
    whole = answers(10**9)
    for last in cuts:
        for table_of_cut, table_of_all, time in zip(answers(last), whole, ("end", "time"), strict=True):
            before = table_of_all[table_of_all[time] <= table_of_cut[time].max()].reset_index(drop=True)
            assert len(before) == len(table_of_cut) and last - 15 < table_of_cut[time].max() <= last
            columns = [c for c in before if c[0] in "cp" and c[1:].isdigit()]
            np.testing.assert_allclose(table_of_cut[columns], before[columns], atol=1e-6, err_msg=f"cut at {last} s")
            assert table_of_cut["state"].tolist() == before["state"].tolist()


def spoil(frames, channels, seed):
    """Return a table with missing values (from the first row, in runs, at the end of cuts) and gaps, short and long."""
    rng = np.random.default_rng(seed)
    values = frames[channels].to_numpy(float)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:3, 0] = np.nan
    values[70:95, 1] = np.nan
    values[100:118, 2] = np.inf
    frames = frames.assign(**dict(zip(channels, values.T, strict=True)))
    return frames[~frames["time"].isin([40, 41, 60, *range(128, 140)])]


def frames_of_store(store, schema):
    frames = store.to_frame(slice(0, int(store.sessions["rows"].iloc[0])))
    return frames[["session", "time", *schema.channels, *schema.environment]].astype({"session": str, "time": int})


@pytest.mark.parametrize("seed", [0, 1])
def test_later_values_never_change_an_earlier_second_of_a_table(sensor_run, compose, seed):
    loaded = load_run(sensor_run)
    schema = Schema.from_config({**loaded.schema.to_dict(), "thermal": None})
    frames = spoil(frames_of_store(load_windows(compose()).store, schema), list(schema.channels), seed)

    def answers(last):
        return answered(loaded, sessions_of(schema, frames[frames["time"] <= last], None), schema)

    refuse_look_ahead(answers)


@pytest.mark.parametrize("camera", ["alive", "frozen", "blind"])
def test_later_frames_never_change_an_earlier_second(finished_run, compose, camera):
    loaded = load_run(finished_run)
    schema = loaded.schema
    frames = spoil(frames_of_store(load_windows(compose()).store, schema), list(schema.channels), 2)
    thermal = np.random.default_rng(0).normal(40, 5, (len(frames), *schema.thermal.shape)).astype(np.float32)
    if camera == "frozen":
        thermal[50:] = thermal[50]
    elif camera == "blind":
        thermal[60:63] = np.nan  # three frames are left out, and bridged
        thermal[80, : len(thermal[0]) // 3] = 999  # repaired from the same frame

    def answers(last):
        kept = (frames["time"] <= last).to_numpy()
        return answered(loaded, sessions_of(schema, frames[kept], thermal[kept]), schema)

    refuse_look_ahead(answers)


def test_later_rows_never_change_an_earlier_second_of_a_csv(sensor_run, compose, tmp_path):
    loaded = load_run(sensor_run)
    columns = {"time": "time", "device": "device", "kind": "kind"}
    schema = Schema.from_config({**loaded.schema.to_dict(), "thermal": None, "columns": columns})
    frames = spoil(frames_of_store(load_windows(compose()).store, schema), list(schema.channels), 3)

    def answers(last):
        folder = tmp_path / str(last)
        if not folder.exists():
            folder.mkdir()
            rows = frames[frames["time"] <= last].drop(columns="session").assign(device="agv01", kind="agv")
            rows.to_csv(folder / "agv01.csv", index=False)
        return answered(loaded, table.sessions(folder, schema), schema)

    refuse_look_ahead(answers)


def test_later_files_never_change_an_earlier_second_of_archives(sensor_run, recordings, tmp_path):
    loaded = load_run(sensor_run)
    schema = Schema.from_config({**loaded.schema.to_dict(), "thermal": None})
    source = sorted(recordings.iterdir())[0]
    names = [path.name for i, path in enumerate(frames_of(source)) if i not in (40, 41, 60, *range(128, 140))]

    def answers(last):
        folder = tmp_path / str(last) / source.name
        if not folder.exists():
            folder.mkdir(parents=True)
            for name in names:
                if name in [path.name for path in frames_of(source)[: last + 1]]:
                    shutil.copy(source / name, folder / name)
            for name in names[55:57]:
                if (folder / name).exists():
                    content = pd.read_csv(folder / name)
                    content["CT1"] = np.nan
                    content.to_csv(folder / name, index=False)
        return answered(loaded, archive.sessions(folder.parent, schema), schema)

    refuse_look_ahead(answers, CUTS[2:])
