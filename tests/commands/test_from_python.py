"""A network from Python, without a Hydra job: files, store, windows, model, run directory."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard import load_run, save_run
from conveyorguard.data import Schema, WindowSettings, prepare, split_windows
from conveyorguard.data.table import sessions
from conveyorguard.models.fusion import Fusion
from conveyorguard.training.fit import fit
from conveyorguard.training.recipe import Recipe
from tests.support.pumps import write_pumps

pytestmark = pytest.mark.promise("code", "Everything works from Python, without a config.")


@pytest.fixture
def pumps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pumps(tmp_path / "recordings")
    return tmp_path


def test_network_fitted_by_a_recipe_predicts_the_same_after_loading_its_run(pumps):
    states = [{"name": name} for name in ("ok", "worn", "broken")]
    node = {"columns": {"time": "time", "state": "state"}, "channels": {"pressure": "bar"}, "states": states}
    store = prepare(sessions, Schema.from_config(node), "recordings", "cache", "pumps", jobs=1)
    data = split_windows(store, WindowSettings(size=20, stride=10), {"name": "session", "seed": 1})
    recipe = Recipe(Fusion, {"width": 8, "dilations": (1, 2)}, epochs=2, batch_size=16)
    model = fit(recipe, data, ["sensors"], "run")
    metrics = save_run("run", model, data, "pumps")
    assert set(metrics) == {"val", "test", "now"} and metrics["test"]["n"] == len(data.judged("test"))
    saved = pd.read_parquet("run/predictions.parquet")
    again = load_run("run").predict_store(store).windows.set_index(["session", "start"])
    rows = again.loc[list(zip(saved["session"], saved["start"], strict=True))]
    np.testing.assert_allclose(rows[["p0", "p1", "p2"]], saved[["p0", "p1", "p2"]], atol=1e-6)
