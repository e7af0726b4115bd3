"""`check RUN`: a sound run passes; the verb, unreadable files, and runs of other kinds."""

import pandas as pd
import pytest
import skops.io

from conveyorguard.checks import tabular as check_tabular
from conveyorguard.checks.run import DATA, FILES, TRAINING, check_run
from conveyorguard.cli import main
from conveyorguard.errors import RunError
from conveyorguard.evaluation.ensemble import ensemble
from conveyorguard.models.tabular import LogisticRegression
from tests.checks.spoiled import CARD, PAGE, edit_json, failed, failure, verdicts

pytestmark = pytest.mark.promise(
    "numbers",
    "`check` notices a session or device in two parts; scaling or ranges fitted outside train; metrics, "
    "windows, sizes, pages or cards that do not follow from the data; a model that knows the labels when "
    "they are shuffled or the input is constant; an input without gradient.",
)


def test_sound_run_passes_every_check(finished_run):
    outcomes = verdicts(finished_run)
    assert list(outcomes) == [*FILES, *DATA]
    assert {outcome.verdict for outcome in outcomes.values()} == {"ok"}, failed(finished_run)


def test_check_verb_prints_verdicts_and_exits_1_on_failure(copied, capsys):
    assert main(["check", str(copied), "depth=files"]) == 0
    assert "no check failed" in capsys.readouterr().out
    edit_json(copied / "metrics.json", lambda m: m["test"].update(accuracy=0.999))
    with pytest.raises(SystemExit) as end:
        main(["check", str(copied), "depth=files"])
    printed = capsys.readouterr().out
    assert end.value.code == 1
    assert "FAILED  metrics follow from predictions: expected test.accuracy = " in printed and "found 0.999" in printed
    assert main(["check", str(copied), "depth=deep"]) == 2


def test_check_verb_defaults_to_the_deepest_checks(tmp_path, monkeypatch):
    depths = []
    monkeypatch.setattr("conveyorguard.checks.run.check_run", lambda folder, depth, _: depths.append(depth) or [])
    for arguments in ([], ["depth=files"]):
        main(["check", str(tmp_path), *arguments])
    assert depths == ["training", "files"] and "training on shuffled labels gives chance" in TRAINING


def test_unknown_depth_is_refused(copied):
    with pytest.raises(RunError, match="files, data, training"):
        list(check_run(copied, "deep"))


def test_other_data_fail_the_data_checks(finished_run):
    assert "other recordings" in failure(finished_run, "data are unchanged", "data.seed=1")
    assert failure(finished_run, "windows match data and split", "data.seed=1")


def test_unfinished_run_is_refused(copied, capsys):
    edit_json(copied / "provenance.json", lambda p: p.update(status="running"))
    assert main(["check", str(copied)]) == 2
    assert "the run is not finished (status running" in capsys.readouterr().err


@pytest.mark.slow
def test_run_on_fewer_train_devices_passes(train_run):
    assert not failed(train_run("modality=sensor", "split.train_devices=3", "trainer.max_epochs=1"))


@pytest.mark.slow
def test_ensemble_passes_and_skips_checks_that_need_a_model(train_run, tmp_path):
    members = [train_run(*overrides) for overrides in (["modality=sensor"], ["modality=sensor", "model=lightgbm"])]
    ensemble(members, tmp_path / "out")
    run = tmp_path / "out" / "soft"
    outcomes = verdicts(run).values()
    assert "FAILED" not in {outcome.verdict for outcome in outcomes}
    assert [outcome.name for outcome in outcomes if outcome.verdict == "not checked"] == [
        "examples match predictions",
        CARD,
        PAGE,
        "scaling is fitted on train",
        "ranges are those of train",
        "shortcuts follow from the data",
        "history matches checkpoint and predictions",
        "predictions match the checkpoint",
        "examples match the data",
        "constant input gives chance",
        "every modality is used",
    ]
    edit_json(run / "metrics.json", lambda m: m["test"].update(accuracy=0.999))
    assert failure(run, "metrics follow from predictions")


@pytest.mark.parametrize("model", [pytest.param("lightgbm", marks=pytest.mark.slow), "logistic_regression"])
def test_tabular_run_passes_and_its_damage_is_detected(model, train_run, monkeypatch):
    run = train_run("modality=sensor", f"model={model}")
    outcomes = verdicts(run)
    assert {outcome.verdict for outcome in outcomes.values()} <= {"ok", "not checked"}, failed(run)
    assert outcomes["scaling is fitted on train"].verdict == ("not checked" if model == "lightgbm" else "ok")
    if model == "logistic_regression":
        path = run / "checkpoints" / LogisticRegression.FILE
        sound = path.read_bytes()
        for step, name, statistic in (
            ("standardscaler", "scale_", "sd"),
            ("standardscaler", "mean_", "mean"),
            ("simpleimputer", "statistics_", "median"),
        ):
            estimator = skops.io.load(path, trusted=LogisticRegression.TRUSTED)
            setattr(estimator[step], name, getattr(estimator[step], name) * 1.05)
            skops.io.dump(estimator, path)
            assert f"expected {statistic} = " in failure(run, "scaling is fitted on train")
            path.write_bytes(sound)
    table = pd.read_csv(run / "importance.csv")
    changed = table.assign(gain=table["gain"].where(table["modality"] != "environment", 0.0))
    changed.to_csv(run / "importance.csv", index=False)
    assert "in importance.csv, as computed from the model" in failure(run, "every modality is used")
    monkeypatch.setattr(check_tabular, "importance", lambda *_: changed)  # as if the model did not use it
    assert "none from environment" in failure(run, "every modality is used")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fusion", "lightgbm"])
def test_training_without_information_gives_chance(model, train_run):
    run = train_run("modality=sensor", f"model={model}")
    outcomes = verdicts(run, "training")
    assert list(outcomes) == [*FILES, *DATA, *TRAINING] and not failed(run, "training")


@pytest.mark.slow
def test_training_checks_detect_a_model_that_sees_labels(copied, peeking):
    wrong = failed(copied, "training")
    assert "the labels leak into its input" in wrong["training on shuffled labels gives chance"]
    assert "the labels leak into its input" in wrong["training on constant input gives chance"]
