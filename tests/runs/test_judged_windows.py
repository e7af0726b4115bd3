"""Which windows of validation and test a run is judged by, and what its metrics follow from."""

import json

import numpy as np
import pandas as pd
import pytest

from conveyorguard.cli import main
from conveyorguard.data.windows import make_windows
from conveyorguard.metrics.scores import evaluate
from conveyorguard.reporting import model_card
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun

LIGHT = ["modality=sensor", "model=lightgbm", "model.n_estimators=5"]


@pytest.fixture(scope="module")
def run(compose, tmp_path_factory):
    """A finished LightGBM run with the default windows; tests only read it."""
    from conveyorguard.commands.train import train

    folder = tmp_path_factory.mktemp("judged") / "run"
    train(compose(*LIGHT), folder, LIGHT)
    return folder


def test_default_run_is_judged_at_every_second_of_validation_and_test(run, compose):
    table, data = SavedRun(run).predictions, load_windows(compose(*LIGHT))
    for part in ("val", "test"):
        rows = table[table["split"] == part].groupby("session")["end"].apply(list).to_dict()
        sessions = data.store.sessions.set_index("name")["rows"]
        assert rows == {name: list(range(29, sessions[name])) for name in data.split.sessions[part]}


def test_metrics_of_parts_follow_from_p_and_of_now_from_c(run):
    saved, metrics = SavedRun(run), json.loads((run / "metrics.json").read_text())
    for part in ("val", "test"):
        rows = saved.predictions[saved.predictions["split"] == part]
        for prefix, values in (("p", metrics[part]), ("c", metrics["now"][part])):
            expected = evaluate(as_predictions(rows, prefix), saved.schema.state_names)
            assert expected["confusion"] == values["confusion"] and expected["n"] == len(rows)
            assert values["ece"] == pytest.approx(expected["ece"], abs=1e-6)
    assert metrics["now"]["val"]["nll"] != metrics["val"]["nll"]


def test_page_and_card_answer_for_the_current_second(run):
    asked = "Asked: the state now, at the end of a window of 30 s, judged every 1 s"
    now = json.loads((run / "metrics.json").read_text())["now"]["test"]
    for name in ("report.html", model_card.FILE):
        text = (run / name).read_text()
        assert asked in text, name
        assert f"{100 * now['accuracy']:.1f} %" in text or f"{100 * now['accuracy']:.1f}%" in text, name


def test_old_question_takes_one_word(train_run):
    text = (train_run(*LIGHT, "window.label=majority") / "report.html").read_text()
    assert "Asked: the commonest state of a window of 30 s" in text and "the state now" not in text


@pytest.mark.parametrize("depth", ["files", "data"])
def test_check_passes_for_a_run_judged_at_every_second(run, compose, depth, capsys, monkeypatch):
    monkeypatch.setenv("CONVEYORGUARD_CACHE", str(compose().paths.cache))
    assert main(["check", str(run), f"depth={depth}"]) == 0, capsys.readouterr().out


def test_check_refuses_a_changed_figure_of_the_deployed_answer(train_run, capsys):
    folder = train_run(*LIGHT, "test=false")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["now"]["val"]["accuracy"] += 0.01
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(SystemExit):
        main(["check", str(folder), "depth=files"])
    assert "now.val.accuracy" in capsys.readouterr().out


def test_majority_judges_the_windows_of_the_stride(train_run, compose):
    overrides = [*LIGHT, "window.label=majority"]
    table, data = SavedRun(train_run(*overrides)).predictions, load_windows(compose(*overrides))
    windows = make_windows(data.store, data.settings, stride=10)
    for part in ("val", "test"):
        expected = windows[windows["session"].isin(data.split.sessions[part])].reset_index(drop=True)
        rows = table[table["split"] == part].reset_index(drop=True)
        assert rows["start"].tolist() == expected["start"].tolist()
        assert rows["y_true"].tolist() == expected["label"].tolist()
        states = data.store.state[expected["row"].to_numpy()[:, None] + np.arange(30)]
        commonest = [np.bincount(row).argmax() for row in states]
        assert rows["y_true"].tolist() == commonest
        pd.testing.assert_series_equal(rows["session"], expected["session"], check_dtype=False)
