"""The Python example of the README: files, store, windows, model, run directory and page, without a Hydra job."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from conveyorguard import load_run, save_run
from conveyorguard.cli import main
from conveyorguard.data import Schema, WindowSettings, prepare, split_windows
from conveyorguard.data.table import sessions
from conveyorguard.models.fusion import Fusion
from conveyorguard.training.fit import fit
from conveyorguard.training.recipe import Recipe
from tests.support.places import ROOT


def write_pumps(folder, count=9):
    """Write recordings of pumps that wear, with the column names of the README's example."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        state = np.repeat([0, 1, 2], [100 + 5 * i, 80, 60 - 5 * i])
        pressure, flow = 5 - state + 0.2 * rng.normal(size=240), 20 + 3 * state + rng.normal(size=240)
        labels = np.array(["ok", "worn", "broken"])[state]
        table = pd.DataFrame({"time": np.arange(240), "pressure": pressure, "flow": flow, "state": labels})
        table.to_csv(folder / f"pump{i}.csv", index=False)


@pytest.fixture
def pumps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pumps(tmp_path / "recordings")
    return tmp_path


def test_example_of_the_readme_ends_with_a_page_and_a_run_that_predicts(pumps, capsys):
    (example,) = re.findall(
        r"```python\n(from conveyorguard import save_run\n.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    done = subprocess.run([sys.executable, "-c", example], cwd=pumps, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.8
    run = pumps / "outputs" / "pumps"
    assert "broken" in (run / "report.html").read_text(encoding="utf-8")
    assert main(["check", str(run), "depth=files"]) == 0, capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    table = pd.read_csv(pumps / "recordings" / "pump3.csv").drop(columns="state").assign(session="new")
    windows = load_run(run).predict(table)
    assert windows["state"].iloc[0] == "ok" and windows["state"].iloc[-1] == "broken"


def test_network_fitted_by_a_recipe_predicts_the_same_after_loading_its_run(pumps):
    states = [{"name": name} for name in ("ok", "worn", "broken")]
    node = {"columns": {"time": "time", "state": "state"}, "channels": {"pressure": "bar"}, "states": states}
    store = prepare(sessions, Schema.from_config(node), "recordings", "cache", "pumps", jobs=1)
    data = split_windows(store, WindowSettings(size=20, stride=10), {"name": "session", "seed": 1})
    recipe = Recipe(Fusion, {"width": 8, "dilations": (1, 2)}, epochs=2, batch_size=16)
    model = fit(recipe, data, ["sensors"], "run")
    metrics = save_run("run", model, data, "pumps")
    assert set(metrics) == {"val", "test"} and metrics["test"]["n"] == len(data.part("test"))
    saved = pd.read_parquet("run/predictions.parquet")
    again = load_run("run").predict_store(store).windows.set_index(["session", "start"])
    rows = again.loc[list(zip(saved["session"], saved["start"], strict=True))]
    np.testing.assert_allclose(rows[["p0", "p1", "p2"]], saved[["p0", "p1", "p2"]], atol=1e-6)
