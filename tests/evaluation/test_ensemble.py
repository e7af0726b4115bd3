"""Voting and stacking from saved predictions: values, and refusal of members that differ."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.errors import RunError
from conveyorguard.evaluation.ensemble import ensemble, stacking
from conveyorguard.metrics.stacking import StackingWeights
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from tests.support.made_runs import windows


def test_soft_voting_averages_and_weighted_voting_weighs_by_validation(make_run, tmp_path):
    folders = [make_run("model=fusion", right=0.9), make_run("model=cnn_transformer", right=0.6)]
    result = ensemble(folders, tmp_path / "out")
    p = [as_predictions(SavedRun(f).predictions.sort_values(["split", "session", "start"])).p for f in folders]
    soft, weighted = (SavedRun(tmp_path / "out" / name) for name in ("soft", "weighted"))
    voted = as_predictions(soft.predictions.sort_values(["split", "session", "start"])).p
    assert np.allclose(voted, (p[0] + p[1]) / 2, atol=1e-6)
    w = [SavedRun(f).metrics["val"]["macro_f1"] for f in folders]
    voted = as_predictions(weighted.predictions.sort_values(["split", "session", "start"])).p
    assert np.allclose(voted, np.average(p, axis=0, weights=w), atol=1e-6)
    assert result.best == "fusion" and [name for name, *_ in result.against] == ["soft", "weighted", "stacking"]


def test_voting_helps_members_with_independent_errors(make_run, tmp_path):
    members = [make_run(f"model.dropout=0.{k}", right=0.85) for k in (1, 2, 3)]
    verdicts = {name: verdict for name, _, verdict in ensemble(members, tmp_path / "out").against}
    assert verdicts["soft"] == "helped"


def test_ensemble_of_identical_members_changes_nothing(make_run, tmp_path):
    members = [make_run("model.dropout=0.1", right=0.9, draw=3), make_run("model.dropout=0.2", right=0.9, draw=3)]
    against = {name: (d.value, verdict) for name, d, verdict in ensemble(members, tmp_path / "out").against}
    assert against["soft"] == (0.0, "not shown")


def test_stacking_is_cross_fitted_by_session():
    """Labels are random per session: a leak between sessions would show as accuracy above chance."""
    rng = np.random.default_rng(0)
    session = np.repeat(np.arange(40), 20)
    y = np.repeat(rng.integers(2, size=40), 20)
    code = np.repeat(rng.random(40), 20)  # identifies the session
    val = np.stack([np.stack([code, 1 - code], axis=1)] * 2)
    stacked, _ = stacking(val, y, session, session, val[:, :5])
    assert abs((stacked["val"].argmax(1) == y).mean() - 0.5) < 0.25
    assert (
        stacked["val"].shape == (800, 2) and stacked["test"].shape == (5, 2) and np.allclose(stacked["val"].sum(1), 1)
    )


def test_stacking_is_cross_fitted_by_device():
    """Labels are random per device, and sessions of a device look alike: a leak would show as accuracy above chance."""
    rng = np.random.default_rng(0)
    session, device = np.repeat(np.arange(80), 10), np.repeat(np.arange(20), 40)
    y = np.repeat(rng.integers(2, size=20), 40)
    code = np.eye(20)[device] * 0.9 + 0.005
    val = np.stack([code / code.sum(axis=1, keepdims=True)] * 2)

    def accuracy(by):
        return (stacking(val, y, session, by, val[:, :5])[0]["val"][:, :2].argmax(1) == y).mean()

    assert accuracy(np.zeros(800)) > 0.95, "by session, where there is one device"
    assert accuracy(device) < 0.8


def test_saved_stacking_weights_give_the_same_probabilities():
    rng = np.random.default_rng(2)
    for states in (2, 3):
        y, p = rng.integers(states, size=90), rng.dirichlet(np.ones(4), (2, 90))
        weights = StackingWeights.fit(p, y)
        model = LogisticRegression(C=0.1, max_iter=2000).fit(np.log(np.concatenate([*p], axis=1)), y)
        expected = model.predict_proba(np.log(np.concatenate([*p], axis=1)))
        assert np.allclose(StackingWeights.of(weights.to_dict()).combine(p)[:, :states], expected, atol=1e-6)


def test_stacking_weighs_better_member_higher():
    rng = np.random.default_rng(1)
    session, y = np.repeat(np.arange(20), 30), rng.integers(3, size=600)
    good = np.full((600, 3), 0.1) + 0.7 * np.eye(3)[y]
    noise = rng.dirichlet(np.ones(3) * 0.3, 600)
    stacked, _ = stacking(np.stack([good, noise]), y, session, session, np.stack([good, noise]))
    assert (stacked["val"].argmax(1) == y).mean() > 0.98 > ((good + noise).argmax(1) == y).mean()


def test_members_with_different_windows_or_split_are_refused(make_run, tmp_path):
    changed = windows()
    changed.loc[0, "label"] = 1
    with pytest.raises(RunError, match="the members of an ensemble share"):
        ensemble([make_run(), make_run(table=changed)], tmp_path / "out")
    with pytest.raises(RunError, match="two runs or more"):
        ensemble([make_run()], tmp_path / "out")
    with pytest.raises(RunError, match="test=true"):
        ensemble([make_run(), make_run(parts=("val",))], tmp_path / "out")
    with pytest.raises(RunError, match="different protocols"):
        ensemble([make_run(), make_run("split=device")], tmp_path / "out")


def test_ensemble_command_writes_run_directories_and_page(make_run, tmp_path, capsys):
    members = [make_run("model=fusion"), make_run("model=cnn_transformer")]
    assert main(["ensemble", *map(str, members), f"out={tmp_path / 'out'}"]) == 0
    output = capsys.readouterr().out
    assert "soft minus the best member on validation" in output and output.strip().endswith("ensemble.html")
    page = (tmp_path / "out" / "ensemble.html").read_text()
    assert "Did combining help?" in page and "<h1>Ensemble of 2 runs" in page
    command = SavedRun(tmp_path / "out" / "soft").provenance["command"]
    assert all(str(member) in command for member in members) and f"out={tmp_path / 'out'}" in command
    assert "Model card: ensemble of 2 runs" in (tmp_path / "out" / "soft" / "MODEL_CARD.md").read_text()
    assert main(["compare", str(members[0]), str(tmp_path / "out" / "stacking"), f"out={tmp_path / 'two'}"]) == 0
    assert SavedRun(tmp_path / "out" / "stacking").metrics["test"]["n"] == len(windows())


@pytest.mark.slow
def test_ensemble_cost_is_sum_of_members(make_run, tmp_path):
    members = [make_run("model=fusion"), make_run("model=cnn_transformer")]
    costs = [SavedRun(run).provenance for run in members]
    provenance = SavedRun(ensemble(members, tmp_path / "out").folders[0]).provenance
    for name in ("fit_seconds", "parameters", "model_bytes", "latency_ms"):
        assert provenance[name] == sum(cost[name] for cost in costs)
    facts = members[0] / "provenance.json"
    facts.write_text(facts.read_text().replace('"parameters": 1000', '"parameters": null'))
    assert SavedRun(ensemble(members, tmp_path / "trees").folders[0]).provenance["parameters"] is None


@pytest.fixture
def trained(train_run, tmp_path):
    """A folder with two trees on other modalities and their ensemble."""
    settings = ("model=lightgbm", "model.n_estimators=3")
    members = [train_run("modality=sensor", *settings), train_run("modality=image", *settings)]
    ensemble(members, tmp_path / "out")
    return tmp_path, members


@pytest.mark.parametrize("strategy", ["soft", "weighted", "stacking"])
def test_ensemble_predicts_what_it_was_evaluated_with(trained, compose, strategy):
    folder, _ = trained
    loaded = load_run(folder / "out" / strategy)
    predicted = loaded.predict_store(load_windows(compose()).store).windows.set_index(["session", "start"])
    saved = loaded.run.predictions.query("split == 'test'").set_index(["session", "start"])
    columns = ["p0", "p1", "p2", "p3", "c0", "c1", "c2", "c3"]
    assert np.allclose(predicted.loc[saved.index, columns], saved[columns], atol=1e-5)


def test_ensemble_is_applied_from_shell_after_a_move_and_names_a_missing_member(trained, tmp_path, capsys):
    folder, members = trained
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (folder / "out", *members):
        shutil.move(path, moved / path.name)
    data = ["data.seed=5", "data.sessions=4"]
    assert main(["predict", str(moved / "out" / "weighted"), *data, f"out={tmp_path / 'new'}"]) == 0
    assert len(pd.read_parquet(tmp_path / "new" / "predictions.parquet"))
    shutil.rmtree(moved / members[1].name)
    assert main(["predict", str(moved / "out" / "weighted"), *data, f"out={tmp_path / 'again'}"]) == 2
    assert f"its member {members[1].name} is missing" in capsys.readouterr().err
