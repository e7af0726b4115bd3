"""`check RUN`: a sound run passes, the verb, files that cannot be read, and runs of other kinds."""

import pandas as pd
import pytest
import skops.io

from conveyorguard.checks import tabular as check_tabular
from conveyorguard.checks.run import DATA, FILES, TRAINING, check_run
from conveyorguard.cli import main
from conveyorguard.errors import RunError
from conveyorguard.evaluation.ensemble import ensemble
from conveyorguard.models.tabular import LogisticRegression
from tests.checks.spoiled import CARD, PAGE, edit_json, failed, told, verdicts


def test_a_sound_run_passes_every_check(finished_run):
    found = verdicts(finished_run)
    assert list(found) == [*FILES, *DATA]
    assert {outcome.verdict for outcome in found.values()} == {"ok"}, failed(finished_run)


def test_the_verb_says_each_verdict_and_ends_with_status_1_when_one_failed(copied, capsys):
    assert main(["check", str(copied), "depth=files"]) == 0
    assert "no check failed" in capsys.readouterr().out
    edit_json(copied / "metrics.json", lambda m: m["test"].update(accuracy=0.999))
    with pytest.raises(SystemExit) as end:
        main(["check", str(copied), "depth=files"])
    said = capsys.readouterr().out
    assert end.value.code == 1
    assert "FAILED  metrics follow from predictions: expected test.accuracy = " in said and "found 0.999" in said
    assert main(["check", str(copied), "depth=deep"]) == 2


def test_the_verb_checks_all_there_is_unless_told_otherwise(tmp_path, monkeypatch):
    depths = []
    monkeypatch.setattr("conveyorguard.checks.run.check_run", lambda folder, depth, _: depths.append(depth) or [])
    for arguments in ([], ["depth=files"]):
        main(["check", str(tmp_path), *arguments])
    assert depths == ["training", "files"] and "shuffled labels give chance" in TRAINING


def test_an_unknown_depth_is_refused(copied):
    with pytest.raises(RunError, match="files, data, training"):
        list(check_run(copied, "deep"))


def test_other_recordings_are_told(finished_run):
    assert "other recordings" in told(finished_run, "the data are the run's", "data.seed=1")
    assert told(finished_run, "windows match data and split", "data.seed=1")


def test_a_broken_off_run_is_refused(copied, capsys):
    edit_json(copied / "provenance.json", lambda p: p.update(status="running"))
    assert main(["check", str(copied)]) == 2
    assert "the run is not finished (status running" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_of_some_train_devices_leaves_sessions_out(train_run):
    assert not failed(train_run("modality=sensor", "split.train_devices=3", "trainer.max_epochs=1"))


@pytest.mark.slow
def test_an_ensemble_is_checked_as_far_as_it_has_files(train_run, tmp_path):
    members = [train_run(*own) for own in (["modality=sensor"], ["modality=sensor", "model=lightgbm"])]
    ensemble(members, tmp_path / "out")
    found = tmp_path / "out" / "soft"
    outcomes = verdicts(found).values()
    assert "FAILED" not in {outcome.verdict for outcome in outcomes}
    assert [outcome.name for outcome in outcomes if outcome.verdict == "not checked"] == [
        "examples are of the predictions",
        CARD,
        PAGE,
        "scaling is fitted on train",
        "ranges are of train",
        "shortcuts are of the data",
        "history is of the model",
        "predictions are the model's",
        "examples show the data",
        "constant input gives chance",
        "every modality gets a gradient",
    ]
    edit_json(found / "metrics.json", lambda m: m["test"].update(accuracy=0.999))
    assert told(found, "metrics follow from predictions")


@pytest.mark.parametrize("model", [pytest.param("lightgbm", marks=pytest.mark.slow), "logistic_regression"])
def test_tabular_runs_are_checked_alike(model, train_run, monkeypatch):
    run = train_run("modality=sensor", f"model={model}")
    found = verdicts(run)
    assert {outcome.verdict for outcome in found.values()} <= {"ok", "not checked"}, failed(run)
    assert found["scaling is fitted on train"].verdict == ("not checked" if model == "lightgbm" else "ok")
    if model == "logistic_regression":
        path = run / "checkpoints" / LogisticRegression.FILE
        sound = path.read_bytes()
        for step, name, what in (
            ("standardscaler", "scale_", "sd"),
            ("standardscaler", "mean_", "mean"),
            ("simpleimputer", "statistics_", "median"),
        ):
            estimator = skops.io.load(path, trusted=LogisticRegression.TRUSTED)
            setattr(estimator[step], name, getattr(estimator[step], name) * 1.05)
            skops.io.dump(estimator, path)
            assert f"the train windows' {what} of " in told(run, "scaling is fitted on train")
            path.write_bytes(sound)
    table = pd.read_csv(run / "importance.csv")
    changed = table.assign(gain=table["gain"].where(table["modality"] != "environment", 0.0))
    changed.to_csv(run / "importance.csv", index=False)
    assert "in importance.csv, as the model gives it" in told(run, "every modality gets a gradient")
    monkeypatch.setattr(check_tabular, "importance", lambda *_: changed)  # a model that makes nothing of it
    assert "none of environment" in told(run, "every modality gets a gradient")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fusion", "lightgbm"])
def test_small_trainings_without_information_give_chance(model, train_run):
    run = train_run("modality=sensor", f"model={model}")
    found = verdicts(run, "training")
    assert list(found) == [*FILES, *DATA, *TRAINING] and not failed(run, "training")


@pytest.mark.slow
def test_small_trainings_of_a_model_that_sees_the_labels_are_told(copied, peeking):
    wrong = failed(copied, "training")
    assert "something tells it the labels" in wrong["shuffled labels give chance"]
    assert "something tells it the labels" in wrong["training on constant input gives chance"]
