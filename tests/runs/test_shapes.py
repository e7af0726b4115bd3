"""Every file of a run directory is written and read through one shape: impossible values are refused by field."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from conveyorguard.config.checks import resolve_window_of
from conveyorguard.data.windows import WindowSettings
from conveyorguard.errors import RunError
from conveyorguard.runs.saved import SavedRun
from conveyorguard.runs.shapes import (
    Alarms,
    Calibration,
    Features,
    Provenance,
    Ranges,
    SavedMetrics,
    SavedSplit,
    read_record,
    write_record,
)
from conveyorguard.runs.tables import examples_problem, predictions_problem
from conveyorguard.runs.writer import Run
from tests.support.made_runs import predicted, windows
from tests.support.places import ROOT

OLD_RUNS = ROOT / "tests" / "fixtures" / "runs"
SHAPES = {
    "alarms": Alarms,
    "calibration": Calibration,
    "features": Features,
    "metrics": SavedMetrics,
    "provenance": Provenance,
    "ranges": Ranges,
    "split": SavedSplit,
}
IMPOSSIBLE = {
    "calibration": [
        (("temperature",), 0, "expected a number above 0 at temperature, found 0"),
        (("temperature",), -1.5, "expected a number above 0 at temperature"),
        (("temperature",), float("nan"), "expected a finite number at temperature"),
        (("temperature",), float("inf"), "expected a finite number at temperature"),
        (("temperature",), True, "expected a number at temperature, found true"),
        (("parts", "val", "after", "ece"), 1.5, "expected a number of 1 or less at parts.val.after.ece"),
        (("note",), [1, {"x": float("nan")}], "expected a finite number at note[1].x"),
    ],
    "alarms": [
        (("operating_point", "off"), 0.9, "expected 0 < off <= on <= 1 at operating_point"),
        (("operating_point", "off"), 0.0, "expected 0 < off <= on <= 1 at operating_point"),
        (("operating_point", "on"), 1.01, "expected 0 < off <= on <= 1 at operating_point"),
        (("parts", "val", "missed"), -1, "expected a number of 0 or more at parts.val.missed"),
        (("parts", "val", "missed"), 99, "expected missed <= fault_sessions at parts.val"),
        (("parts", "val", "lead_seconds", "median"), 1e6, "expected least <= median <= most at parts.val.lead_seconds"),
        (("parts", "val", "missed_share_interval"), [0.5], "expected 2 items or more at parts.val.missed_share"),
        (("parts", "val", "sessions", 0, "missed"), "no", "expected true or false at parts.val.sessions[0].missed"),
    ],
    "metrics": [
        (("val", "accuracy"), 1.2, "expected a number of 1 or less at val.accuracy, found 1.2"),
        (("val", "macro_f1"), "high", 'expected a number at val.macro_f1, found "high"'),
        (("test", "qwk"), -1.1, "expected a number of -1 or more at test.qwk"),
        (("val", "n"), 68.5, "expected a whole number at val.n, found 68.5"),
        (("val", "confusion", 0, 0), -1, "expected a number of 0 or more at val.confusion[0][0]"),
        (("val", "confusion", 0), [1, 2], "expected confusion of 4 x 4 states, as per_class has them"),
    ],
    "ranges": [(("NTC", "low"), 1e6, "expected low <= high at NTC")],
    "split": [(("sessions", "train"), "all", 'expected a list at sessions.train, found "all"')],
    "provenance": [
        (("threads",), 0, "expected a number above 0 at threads, found 0"),
        (("start",), "yesterday", 'expected a time in ISO 8601 at start, found "yesterday"'),
        (("fit_seconds",), -1.0, "expected a number of 0 or more at fit_seconds"),
        (("versions", "torch"), 2, "expected a text at versions.torch, found 2"),
        (("windows", "val"), 1.5, "expected a whole number at windows.val"),
    ],
}
CONFIG = [
    ("seed", -1, "expected a number of 0 or more at seed"),
    ("film", "yes", "expected true or false, or 'mixed' at film, found \"yes\""),
    ("modality", "radar", "expected 'sensor', 'image', 'both' or 'mixed' at modality"),
    ("threads", 0, "expected a number above 0 at threads"),
    ("mixup", float("nan"), "expected a finite number at mixup, found NaN or infinity"),
    ("optimizer", {"lr": float("inf")}, "expected a finite number at optimizer.lr, found NaN or infinity"),
    ("objective", "val/none", "expected one of val/loss, "),
    ("window", {"size": 0}, "expected a number above 0 at window.size"),
    ("window", {"thermal_frames": 31}, "window.thermal_frames=31: 1..30 (window.size in rows), or all"),
    ("window", {"thermal_frames": "some"}, "expected a whole number, or 'all' at window.thermal_frames"),
    ("data", {"name": "plant"}, "expected data.schema, found none"),
]


@pytest.fixture
def old_run(tmp_path):
    """A copy of a run that an earlier version has left."""
    return shutil.copytree(OLD_RUNS / "lightgbm", tmp_path / "lightgbm")


def put(values, place, value):
    for key in place[:-1]:
        values = values[key]
    values[place[-1]] = value


@pytest.mark.parametrize(
    "name, place, value, message", [(name, *case) for name, cases in IMPOSSIBLE.items() for case in cases]
)
def test_impossible_value_is_refused_by_file_and_field_when_read_and_when_written(name, place, value, message, old_run):
    path = old_run / f"{name}.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    put(values, place, value)
    path.write_text(json.dumps(values), encoding="utf-8")  # json.dumps writes NaN, as an editor may
    with pytest.raises(RunError) as refused:
        read_record(path, SHAPES[name])
    assert f"{name}.json: {message}" in str(refused.value) and "train it again" in str(refused.value)
    other = path.with_name("other.json")
    if place != ("note",):  # json.dumps itself refuses NaN where no shape knows the field
        with pytest.raises(RunError, match=r"other\.json: expected .*; not written"):
            write_record(other, SHAPES[name], values)
    assert not other.exists()


@pytest.mark.parametrize("key, value, message", CONFIG)
def test_impossible_setting_of_a_saved_config_is_refused_by_name(key, value, message, old_run):
    path = old_run / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**config, key: value}), encoding="utf-8")
    with pytest.raises(RunError) as refused:
        SavedRun(old_run)
    assert f"config.yaml: {message}" in str(refused.value) and "train it again" in str(refused.value)


@pytest.mark.parametrize("path", sorted(OLD_RUNS.rglob("*.json")), ids=lambda path: str(path.relative_to(OLD_RUNS)))
def test_file_of_an_old_run_is_written_again_as_it_was(path, tmp_path):
    record = read_record(path, SHAPES[path.stem])
    write_record(tmp_path / path.name, SHAPES[path.stem], record)
    content = (tmp_path / path.name).read_text(encoding="utf-8")
    assert json.loads(content) == json.loads(path.read_text(encoding="utf-8"))


def test_fields_of_a_later_version_are_kept_and_do_not_disturb(old_run):
    for name, place in {"metrics": ("later",), "alarms": ("operating_point", "hold"), "provenance": ("site",)}.items():
        path = old_run / f"{name}.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        put(values, place, {"new": [1, None]})
        path.write_text(json.dumps(values), encoding="utf-8")
        assert read_record(path, SHAPES[name]).plain() == values
    config = old_run / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("  size: 30\n", "  size: 30\n  hop: 3\n"))
    run = SavedRun(old_run)
    assert list(run.metrics) == ["val", "test"] and run.window.size == 30 and run.settings["window"]["hop"] == 3
    assert run.alarms.operating_point.on > run.alarms.operating_point.off
    assert run.provenance["site"] == {"new": [1, None]}


def test_record_is_a_mapping_of_what_its_file_holds(old_run):
    run = SavedRun(old_run)
    row = run.metrics["val"]["per_class"][0]
    assert row["class"] == row.state == "normal" and "state" not in row
    assert dict(run.provenance.store) == json.loads((old_run / "provenance.json").read_text())["store"]
    assert run.provenance.members is None and "members" not in run.provenance
    assert run.provenance.get("members", 3) == 3 and len(run.provenance.sessions) == 3


def spoiled(change):
    """Made-up predictions of validation, changed in row 7."""
    table = predicted(windows(devices=2), "val", 0.9, 0).assign(c0=0.25, c1=0.25, c2=0.25, c3=0.25)
    for column, value in change.items():
        table.loc[7, column] = value
    return table


@pytest.mark.parametrize(
    "change, message",
    [
        ({}, None),
        ({"p0": np.nan}, "expected p0 to p3 between 0 and 1 with sum 1, found nan, "),
        ({"p0": 1.2, "p1": -0.2, "p2": 0, "p3": 0}, "found 1.2, -0.2, 0, 0 in row 7"),
        ({"p0": 0.5, "p1": 0.5, "p2": 0.5, "p3": 0.5}, "found 0.5, 0.5, 0.5, 0.5 in row 7"),
        ({"c2": 0.5}, "expected c0 to c3 between 0 and 1 with sum 1"),
        ({"end": 3}, "expected end at start or later, found it earlier in row 7"),
        ({"device": None}, "expected text in column device"),
    ],
)
def test_impossible_row_of_predictions_is_told_by_column_and_row(change, message):
    problem = predictions_problem(spoiled(change), 4)
    assert problem is None if message is None else message in problem


def test_calibrated_probabilities_are_of_all_states_or_absent():
    table = spoiled({})
    assert "found no c3" in predictions_problem(table.drop(columns="c3"), 4)
    assert predictions_problem(table.drop(columns=["c0", "c1", "c2", "c3"]), 4) is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({}, None),
        ({"p": np.full((2, 4), 0.3)}, "expected p between 0 and 1 with sum 1"),
        ({"p": np.full((2, 3), 1 / 3)}, "expected p of shape (2, 4), found (2, 3)"),
        ({"sensors": np.zeros((2, 29, 8))}, "expected sensors of shape (2, 30, C), found (2, 29, 8)"),
        ({"y_pred": np.array([0, 4])}, "expected states of the data in y_true and y_pred"),
        ({"p": np.full((2, 4), "0.25")}, "expected numbers in p, found <U4"),
        ({"session": np.zeros(2)}, "expected text in session, found float64"),
        ({"thermal": np.zeros((2, 5, 30, 40))}, "found no thermal_seconds"),
    ],
)
def test_impossible_array_of_examples_is_told_by_name(change, message):
    arrays = {
        "session": np.array(["a", "b"]),
        "y_true": np.array([0, 3]),
        "y_pred": np.array([1, 3]),
        "p": np.full((2, 4), 0.25),
        "seconds": np.zeros((2, 30)),
        "state": np.zeros((2, 30)),
        "sensors": np.zeros((2, 30, 8)),
    }
    problem = examples_problem({**arrays, **change}, 4)
    assert problem is None if message is None else message in problem


def resolved(cfg):
    """Return the config as a training writes it, with durations in seconds."""
    resolve_window_of(cfg)
    return cfg


def test_run_that_diverged_leaves_no_predictions(compose, schema, tmp_path):
    table = spoiled({"p0": np.nan}).drop(columns=["c0", "c1", "c2", "c3"])
    refused = pytest.raises(RunError, match=r"predictions\.parquet: expected p0 to p3 .* lower optimizer\.lr")
    with refused, Run(resolved(compose()), tmp_path / "run", []) as run:
        run.write_predictions([table], schema, WindowSettings())
    assert not (tmp_path / "run" / "predictions.parquet").exists()
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["status"] == "failed: RunError"


def test_run_is_not_complete_without_its_data(compose, tmp_path):
    refused = pytest.raises(RunError, match=r"provenance\.json: expected store, found none; not written")
    with refused, Run(resolved(compose()), tmp_path / "run", []):
        pass
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["status"] == "running"


def test_package_is_imported_without_pydantic():
    code = "import sys, conveyorguard, conveyorguard.cli; assert not {'pydantic', 'pandas'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_predictions_of_an_old_run_are_read(old_run):
    table = SavedRun(old_run).predictions
    assert len(table) == len(pd.read_parquet(old_run / "predictions.parquet")) and table["start"].dtype == "float64"
