"""Voting and stacking from saved predictions: values, and refusal of members that differ."""

import numpy as np
import pytest

from conveyorguard.cli import main
from conveyorguard.errors import RunError
from conveyorguard.evaluation.ensemble import ensemble, stacking
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
    stacked = stacking(val, y, session, val[:, :5])
    assert abs((stacked["val"].argmax(1) == y).mean() - 0.5) < 0.25
    assert (
        stacked["val"].shape == (800, 2) and stacked["test"].shape == (5, 2) and np.allclose(stacked["val"].sum(1), 1)
    )


def test_stacking_weighs_better_member_higher():
    rng = np.random.default_rng(1)
    session, y = np.repeat(np.arange(20), 30), rng.integers(3, size=600)
    good = np.full((600, 3), 0.1) + 0.7 * np.eye(3)[y]
    noise = rng.dirichlet(np.ones(3) * 0.3, 600)
    stacked = stacking(np.stack([good, noise]), y, session, np.stack([good, noise]))
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
    assert "Did combining help?" in (tmp_path / "out" / "ensemble.html").read_text()
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
