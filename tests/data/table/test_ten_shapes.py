"""Sets of ten shapes, as plants and test rigs write them, go from files to alarms by the commands of the README."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.data.table.test_from_the_shell import shell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.promise("input", "Sets of ten shapes go from files to alarms by the commands of the README."),
]
FEW_TREES = "model=lightgbm model.n_estimators=20 threads=1 modality=sensor"


@dataclass
class SetShape:
    """A set of recordings and what is right about it.

    Attributes:
        files: by name, each a table.
        period: s.
        channels, states: that the draft has.
        write: options of `to_csv`.
        train: words of the command line.
        dated: alarms have clock times.
    """

    files: dict
    period: float
    channels: set
    states: list
    write: dict = field(default_factory=dict)
    train: str = ""
    dated: bool = True


def moments(rows, step, start="2024-03-05 10:00"):
    return pd.Timestamp(start) + pd.to_timedelta(np.arange(rows) * step, unit="s")


def wearing(i, rows, share=0.5):
    """Noise by a seed, and how worn a device is at each row, from 0 to 1; it begins at a share of the rows."""
    rng = np.random.default_rng(i)
    begin = int(rows * (share + 0.1 * (i % 3)))
    return rng, np.clip((np.arange(rows) - begin) / (rows - begin), 0, 1)


def valve_rig():
    """1 Hz, semicolons, dates, a folder of valves; the label is a number."""
    files = {}
    for i in range(12):
        rng, wear = wearing(i, 300)
        files[f"valve{i % 4}_{i}"] = pd.DataFrame(
            {
                "datetime": moments(300, 1 + 0 * i, f"2024-03-{i + 1:02d}"),
                "Pressure": rng.normal(4, 0.1, 300) - 2 * wear,
                "Current": rng.normal(2, 0.1, 300) + wear,
                "anomaly": (wear > 0).astype(int),
            }
        )
    return SetShape(files, 1, {"Pressure", "Current"}, ["state0", "state1"], {"sep": ";"})


def wind_turbine():
    """A row every 10 minutes, months of them, decimal commas."""
    files = {}
    for i in range(8):
        rng, wear = wearing(i, 900)
        time = moments(900, 600, f"2023-{i + 1:02d}-01").strftime("%d.%m.%Y %H:%M")
        files[f"wtg{i % 4}_{i}"] = pd.DataFrame(
            {
                "Zeitstempel": time,
                "gearbox temp (°C)": rng.normal(60, 1, 900) + 15 * wear,
                "wind_speed": rng.gamma(4, 2, 900),
                "Status": np.where(wear > 0, "fault", "normal"),
            }
        )
    options = {"sep": ";", "decimal": ",", "float_format": "%.3f"}
    return SetShape(files, 600, {"gearbox_temp", "wind_speed"}, ["normal", "fault"], options)


def machine_temperature():
    """One machine, one long file of a row every 5 minutes, cut by days."""
    rng, _ = wearing(1, 288 * 24)
    day = np.arange(288 * 24) // 288
    hot = (day % 4 >= 2) & (np.arange(288 * 24) % 288 > 100)
    value = rng.normal(85, 1, len(day)) + 8 * hot
    frame = pd.DataFrame({"timestamp": moments(len(day), 300), "value": value, "label": hot.astype(int)})
    train = "data.reader.split_every=1d"
    return SetShape({"machine_temperature": frame}, 300, {"value"}, ["state0", "state1"], {}, train)


def turbofan():
    """Cycles, not seconds; many engines in one file."""
    parts = []
    for i in range(16):
        rng, wear = wearing(i, 150)
        values = {"unit": i + 1, "cycle": np.arange(1, 151), "T30": rng.normal(1580, 2, 150) + 20 * wear}
        condition = np.where(wear > 0, "degraded", "healthy")
        parts.append(pd.DataFrame({**values, "P15": rng.normal(21, 0.1, 150) - wear, "condition": condition}))
    return SetShape({"engines": pd.concat(parts)}, 1, {"T30", "P15"}, ["healthy", "degraded"], {}, "", False)


def gearbox():
    """200 samples a second; only the spread of the vibration tells the state, which is in the name of the file."""
    files = {}
    for i in range(12):
        rng = np.random.default_rng(i)
        state = "healthy" if i % 2 else "broken"
        spread = 1 if i % 2 else 3
        values = {f"a{k}": rng.normal(0, spread, 24000) for k in (1, 2)}
        files[f"{state}/run{i}"] = pd.DataFrame({"time": np.arange(24000) / 200, **values})
    channels = {f"a{k}" for k in (1, 2)}
    return SetShape(files, 1, channels, ["healthy", "broken"], {"float_format": "%.4f"}, "", False)


def hydraulic_rig():
    """Ten rows a second in ms since the start, a unit below the header."""
    files = {}
    for i in range(12):
        rng, wear = wearing(i, 1500)
        columns = {"time_ms": np.arange(1500) * 100, "PS1": rng.normal(150, 2, 1500) - 20 * wear}
        frame = pd.DataFrame({**columns, "FS1": rng.normal(8, 0.2, 1500), "leak": np.where(wear > 0, "severe", "ok")})
        files[f"rig{i % 3}_{i}"] = frame.rename(columns={"leak": "pump_condition"})
    return SetShape(files, 1, {"PS1", "FS1"}, ["ok", "severe"], {"float_format": "%.3f"}, "", False)


def packaging_line():
    """Date and time in two columns, AM and PM; states Korean."""
    files = {}
    for i in range(12):
        rng, wear = wearing(i, 240)
        time = moments(240, 1, f"2024-05-{i + 13:02d} 11:58")
        values = {"Date": time.strftime("%m/%d/%Y"), "Time": time.strftime("%I:%M:%S %p")}
        values |= {"torque": rng.normal(20, 0.5, 240) + 6 * wear, "전류": rng.normal(3, 0.1, 240)}
        files[f"line{i % 3}_{i}"] = pd.DataFrame({**values, "상태": np.where(wear > 0, "이상", "정상")})
    return SetShape(files, 1, {"torque", "전류"}, ["정상", "이상"])


def epochs_of_a_gateway():
    """Epochs in ms, tabs, a zone of UTC; a second now and then is missing."""
    files = {}
    for i in range(12):
        rng, wear = wearing(i, 300)
        keep = np.sort(rng.permutation(300)[:290])
        ms = 1_709_600_000_000 + 86_400_000 * i + np.arange(300) * 1000
        values = {"ts": ms, "rpm": rng.normal(1450, 5, 300), "vib": rng.normal(2, 0.1, 300) + wear}
        frame = pd.DataFrame({**values, "machine_status": np.where(wear > 0, "BROKEN", "NORMAL")})
        files[f"m{i % 4}_{i}"] = frame.iloc[keep]
    return SetShape(files, 1, {"rpm", "vib"}, ["NORMAL", "BROKEN"], {"sep": "\t"})


def hourly_plant():
    """A row an hour, ISO with Z."""
    files = {}
    for i in range(8):
        rng, wear = wearing(i, 700)
        time = moments(700, 3600, f"2023-{i + 1:02d}-01").strftime("%Y-%m-%dT%H:%M:%SZ")
        values = {"time": time, "flow": rng.normal(30, 1, 700) - 8 * wear, "pressure": rng.normal(6, 0.1, 700)}
        files[f"pump{i % 4}_{i}"] = pd.DataFrame({**values, "health": np.where(wear > 0, "warning", "ok")})
    return SetShape(files, 3600, {"flow", "pressure"}, ["ok", "warning"])


def newest_first():
    """An export whose newest rows come first, quoted, with an identifier of each row."""
    files = {}
    for i in range(12):
        rng, wear = wearing(i, 300)
        values = {"id": np.arange(300) + 1000 * i, "timestamp": moments(300, 1, f"2024-06-{i + 1:02d}")}
        values |= {"load": rng.normal(50, 1, 300) + 10 * wear, "oil": rng.normal(60, 1, 300)}
        files[f"press{i % 4}_{i}"] = pd.DataFrame({**values, "fault": wear > 0}).iloc[::-1]
    return SetShape(files, 1, {"load", "oil"}, ["False", "True"], {"quoting": 1})


SHAPES = [valve_rig, wind_turbine, machine_temperature, turbofan, gearbox, hydraulic_rig, packaging_line]
SHAPES += [epochs_of_a_gateway, hourly_plant, newest_first]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_set_goes_from_files_to_alarms(shape, tmp_path):
    the_set = shape()
    for name, frame in the_set.files.items():
        path = tmp_path / "recordings" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False, **the_set.write)
    shell("schema recordings out=conf/data/plant.yaml", tmp_path)
    draft = yaml.safe_load((tmp_path / "conf" / "data" / "plant.yaml").read_text(encoding="utf-8"))
    assert {*draft["schema"]["channels"]} == the_set.channels
    assert [state["name"] for state in draft["schema"]["states"]] == the_set.states
    assert draft.get("reader", {}).get("period", 1) == the_set.period
    printed, _ = shell(f"train --config-dir conf data=plant {the_set.train} {FEW_TREES}", tmp_path)
    run = printed.splitlines()[-1]
    predictions = pd.read_parquet(tmp_path / run / "predictions.parquet").query("split == 'test'")
    assert (predictions["y_true"] == predictions["y_pred"]).mean() > 0.75
    printed, _ = shell(f"predict {run} data.root=recordings out=predicted", tmp_path)
    assert printed.splitlines()[-1] == "predicted/predictions.html"
    assert all(state in (tmp_path / "predicted" / "predictions.html").read_text("utf-8") for state in the_set.states)
    alarms = pd.read_csv(tmp_path / "predicted" / "alarms.csv")
    assert len(alarms) and (alarms["end"] >= alarms["begin"]).all()
    assert (alarms["begin"] % the_set.period == 0).all()
    if the_set.dated:
        assert pd.to_datetime(alarms["begin_time"], format="ISO8601", utc=True).dt.year.isin([2023, 2024]).all()
    else:
        assert alarms["begin_time"].isna().all()
