"""`check RUN`: a sound run passes, and each way to make numbers wrong is told by name."""

import json
import shutil
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch

from conveyorguard.checks import tabular as check_tabular
from conveyorguard.checks.files import devices_apart
from conveyorguard.checks.model import TENSORS, balanced_accuracy
from conveyorguard.checks.run import DATA, FILES, TRAINING, check_run
from conveyorguard.checks.subject import Failed, Subject
from conveyorguard.cli import main
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.errors import RunError
from conveyorguard.evaluation.ensemble import ensemble
from conveyorguard.models.fusion import Fusion
from conveyorguard.models.tabular import LogisticRegression
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.derive import derive
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_json
from conveyorguard.training.fit import build_module
from conveyorguard.training.setup import used_inputs

CARD, PAGE = "the model card says what the files say", "the page says what the files say"


@pytest.fixture
def copied(finished_run, tmp_path):
    """A copy of a sound run, to be spoiled."""
    return shutil.copytree(finished_run, tmp_path / "copy")


def verdicts(folder, depth="data", *overrides):
    return {outcome.name: outcome for outcome in check_run(folder, depth, list(overrides))}


def failed(folder, depth="data", *overrides):
    return {
        name: outcome.told
        for name, outcome in verdicts(folder, depth, *overrides).items()
        if outcome.verdict == "FAILED"
    }


def told(folder, name, *overrides):
    """What one check says of a run that it finds wrong; None where it finds nothing. All of them take seconds."""
    try:
        {**FILES, **DATA}[name](Subject(folder, list(overrides)))
    except Failed as wrong:
        return str(wrong)
    return None


def edit_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write_json(path, content)


def edit_predictions(folder, change, consistent=False):
    """Change the table; `consistent`: everything that follows from it too, as one would who wanted to deceive."""
    path = folder / "predictions.parquet"
    table = pd.read_parquet(path)
    table = change(table)
    if consistent:
        run = SavedRun(folder)
        plain = table.drop(columns=[c for c in table if c[0] == "c"])
        derived = derive(
            [plain[plain["split"] == part].reset_index(drop=True) for part in plain["split"].unique()],
            run.schema,
            run.config.window.stride,
        )
        table = derived.predictions
        for name, content in (
            ("metrics", derived.metrics),
            ("calibration", derived.calibration),
            ("alarms", derived.alarms),
        ):
            write_json(folder / f"{name}.json", content)
    table.to_parquet(path, index=False)
    if consistent:
        redraw(folder)


def redraw(folder):
    """Card and page, as one would who wanted to deceive; of other windows than the shortcuts' no card can be drawn."""
    with suppress(RunError):
        write_card(folder)
    write_report(folder)


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


def test_a_session_in_two_parts_is_told(copied):
    def share(split):
        split["sessions"]["val"].append(split["sessions"]["train"][0])

    name = json.loads((copied / "split.json").read_text())["sessions"]["train"][0]
    edit_json(copied / "split.json", share)
    wrong = failed(copied, "files")
    assert f"{name} in train and val" in wrong["no session in two parts"]
    assert "the split is the recorded one" in wrong and "predictions are of the split" in wrong


def test_a_device_in_two_parts_is_told_where_the_split_is_of_devices(copied):
    def one_device(table):
        return table.assign(device=table["device"].iloc[0])

    edit_predictions(copied, one_device)
    assert "no device in two parts" not in failed(copied, "files"), "split=session may share devices"
    edit_json(copied / "split.json", lambda split: split["settings"].update(name="kfold"))
    assert "in several parts" in failed(copied, "files")["no device in two parts"]


def test_a_device_of_train_in_test_is_told(copied):
    """The device split of a data set that names one of train's devices for test."""

    def share(split):
        split["settings"]["name"] = "device"
        moved = split["sessions"]["train"]
        device = {name.split("_")[3] for name in split["sessions"]["test"]}.pop()
        split["sessions"]["train"] = [*moved, f"TS_made_up_{device}"]

    edit_json(copied / "split.json", share)
    with pytest.raises(Failed, match="as split=device means it, found oht01"):
        devices_apart(Subject(copied), {"train": {"oht01", "agv02"}, "val": {"oht03"}, "test": {"oht01"}})


@pytest.mark.parametrize("change", ["another session", "a window twice"])
def test_predictions_of_other_windows_are_told_from_the_files_alone(change, copied):
    def other(table):
        if change == "a window twice":
            return pd.concat([table, table.iloc[[0]]])
        return table.replace({"session": {table["session"].iloc[0]: "TS_agv_01_agv01_0101_0000"}})

    edit_predictions(copied, other, consistent=True)
    counted = ["counts are of the split"] if change == "a window twice" else []
    assert list(failed(copied, "files")) == ["predictions are of the split", *counted, CARD]


NO_TABLE = {
    "a state that is none": (
        lambda t: t.assign(y_pred=7),
        'expected y_pred to be one of 0, 1, 2, 3, found "7" in row 0',
    ),
    "a label that is none": (lambda t: t.assign(y_true=9), 'expected y_true to be one of 0, 1, 2, 3, found "9"'),
    "text": (lambda t: t.assign(y_pred=t["y_pred"].astype(str)), "expected whole numbers in column y_pred"),
    "no rows": (lambda t: t.iloc[:0], "expected a row or more, found none"),
    "no labels": (lambda t: t.drop(columns="y_true"), "found no y_true"),
    "no number": (lambda t: t.assign(p0=np.nan), "expected probabilities that are numbers, found none in row 0"),
    "another part": (lambda t: t.assign(split="train"), "expected split to be one of val, test"),
    "another state": (lambda t: t.assign(p4=0.0), "expected probabilities of 4 states, p0 to p3, found p4"),
}


@pytest.mark.parametrize("change", NO_TABLE)
def test_predictions_that_are_no_predictions_fail_the_checks_that_need_them_and_no_others(change, copied):
    spoil, expected = NO_TABLE[change]
    edit_predictions(copied, spoil)
    found = verdicts(copied, "files")
    assert list(found) == list(FILES)
    (wrong,) = (outcome.told for outcome in found.values() if outcome.verdict == "FAILED")
    assert expected in wrong and "predictions.parquet" in wrong and "train it again" in wrong
    assert found["the split is the recorded one"].verdict == found["no session in two parts"].verdict == "ok"
    assert found["metrics follow from predictions"].verdict == "not checked"


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("split", [], "split.json: expected a mapping, found []"),
        (
            "split",
            {"settings": {"name": "session"}, "sessions": {"train": 5}, "note": ""},
            "split.json: expected a list at sessions.train, found 5",
        ),
        ("metrics", {}, "metrics.json: expected val, found none"),
        ("provenance", [], "provenance.json: expected a mapping, found []"),
    ],
)
def test_a_json_file_that_is_not_what_it_should_be_is_told_by_name(name, content, expected, copied):
    write_json(copied / f"{name}.json", content)
    found = verdicts(copied, "files")
    assert list(found) == list(FILES) and found["probabilities are probabilities"].verdict == "ok"
    assert expected in " ".join(outcome.told for outcome in found.values() if outcome.verdict == "FAILED")


def test_provenance_without_the_data_is_told_and_what_does_not_need_it_is_checked(copied):
    edit_json(copied / "provenance.json", lambda p: p.update(store=None))
    found = verdicts(copied)
    assert list(found) == [*FILES, *DATA] and found["metrics follow from predictions"].verdict == "ok"
    assert "expected a mapping at store, found null" in found["the config is the run's"].told
    assert found["the data are the run's"].verdict == "not checked"


def test_the_model_is_looked_at_although_the_predictions_are_none(copied):
    edit_predictions(copied, lambda table: table.iloc[:0])
    found = verdicts(copied)
    for name in ("scaling is fitted on train", "constant input gives chance", "every modality gets a gradient"):
        assert found[name].verdict == "ok", found[name]


def test_a_window_twice_does_not_keep_the_model_from_being_asked(copied):
    edit_predictions(copied, lambda table: pd.concat([table, table.iloc[[0]]]), consistent=True)
    assert told(copied, "predictions are the model's") is None


@pytest.mark.parametrize("change", ["place", "label", "gone"])
def test_windows_and_labels_that_are_not_those_of_the_data_are_told(change, copied):
    def other(table):
        if change == "gone":
            return table.drop(index=5)
        column = "start" if change == "place" else "y_true"
        table.loc[5, column] = table.loc[5, column] + 1 if change == "place" else (table.loc[5, column] + 1) % 4
        return table

    edit_predictions(copied, other, consistent=change == "label")
    assert told(copied, "windows match data and split")
    if change == "label":
        assert list(failed(copied)) == ["windows match data and split", "history is of the model"]


@pytest.mark.parametrize(
    "file, place",
    [("metrics", "val.confusion[0][0]"), ("calibration", "temperature"), ("alarms", "operating_point.on")],
)
def test_figures_that_do_not_follow_from_the_predictions_are_told(file, place, copied):
    def spoil(content):
        if file == "metrics":
            content["val"]["confusion"][0][0] += 1
        elif file == "alarms":
            content["operating_point"]["on"] *= 0.9
        else:
            content["temperature"] *= 1.1

    edit_json(copied / f"{file}.json", spoil)
    redraw(copied)
    (wrong,) = failed(copied, "files").values()
    assert f"{place} = " in wrong and f"in {file}.json" in wrong


def test_probabilities_that_are_none_are_told(copied):
    edit_predictions(copied, lambda table: table.assign(p1=table["p1"] + 0.1), consistent=True)
    assert "with sum 1" in failed(copied, "files")["probabilities are probabilities"]


def test_a_prediction_that_is_not_the_likeliest_state_is_told(copied):
    edit_predictions(copied, lambda table: table.assign(y_pred=(table["y_pred"] + 1) % 4))
    assert "y_pred the state of the largest" in failed(copied, "files")["probabilities are probabilities"]


def test_predictions_that_the_checkpoint_does_not_give_are_told(copied):
    """Better figures, consistent in every file: only the model and what its training wrote contradict them."""

    def flatter(table):
        p = np.eye(4)[table["y_true"]] * 0.96 + 0.01
        return table.assign(y_pred=table["y_true"], **{f"p{k}": p[:, k].astype(np.float32) for k in range(4)})

    edit_predictions(copied, flatter, consistent=True)
    found = [
        "examples are of the predictions",
        "history is of the model",
        "predictions are the model's",
        "examples show the data",
    ]
    assert list(failed(copied)) == found


def test_scaling_fitted_outside_train_is_told(copied, train_run):
    seeds = train_run("modality=sensor", "scaling=seed", "trainer.max_epochs=1")
    assert "it has seen the test sessions" in told(seeds, "scaling is fitted on train")
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    state["state_dict"]["scaling.sensors_center"] *= 1.01
    torch.save(state, path)
    assert "sensors_center of the train sessions" in told(copied, "scaling is fitted on train")


def test_ranges_that_are_not_of_train_are_told(copied):
    edit_json(copied / "ranges.json", lambda ranges: ranges["NTC"].update(high=999.0))
    assert "NTC.high" in told(copied, "ranges are of train")


def test_other_recordings_are_told(finished_run):
    assert "other recordings" in told(finished_run, "the data are the run's", "data.seed=1")
    assert told(finished_run, "windows match data and split", "data.seed=1")


def test_a_broken_off_run_is_refused(copied, capsys):
    edit_json(copied / "provenance.json", lambda p: p.update(status="running"))
    assert main(["check", str(copied)]) == 2
    assert "the run is not finished (status running" in capsys.readouterr().err


def test_an_edited_config_is_told(copied):
    with (copied / "config.yaml").open("a") as stream:
        stream.write("extra: 1\n")
    assert set(failed(copied, "files")) == {"the config is the run's", PAGE}


@pytest.mark.parametrize("column", ["seconds_to_end", "seconds_since_onset", "kind", "device", "end"])
def test_facts_of_windows_that_are_not_those_of_the_data_are_told(column, copied):
    """Lead, delay and the verdicts by kind and device are computed from them."""

    def other(table):
        return table.assign(**{column: "agv" if table[column].dtype.kind not in "if" else table[column] + 60})

    everywhere = column == "device"  # once, in all that follows from them: nothing else contradicts them then
    edit_predictions(copied, other, consistent=everywhere)
    assert f"expected {column} = " in told(copied, "windows match data and split")
    assert not everywhere or list(failed(copied)) == ["windows match data and split"]


def test_a_part_that_the_run_was_to_be_evaluated_on_must_be_there(copied):
    edit_predictions(copied, lambda table: table[table["split"] != "test"], consistent=True)
    wrong = failed(copied, "files")
    assert "expected windows of val and test" in wrong["predictions are of the split"]
    assert set(wrong) == {"predictions are of the split", "examples are of the predictions", CARD}


def test_shortcuts_that_the_data_do_not_give_are_told(copied):
    path = copied / "shortcuts.parquet"
    table = pd.read_parquet(path)
    table.assign(y_pred=0, **dict.fromkeys(["p0", "p1", "p2", "p3"], np.float32(0.25))).to_parquet(path, index=False)
    redraw(copied)
    assert list(failed(copied)) == ["shortcuts are of the data"]
    path.unlink()
    assert "expected shortcuts.parquet" in told(copied, "shortcuts are of the data")


def change_history(table, change):
    if change == "a better epoch":
        table.loc[table["epoch"] == table["val/macro_f1"].idxmin(), "val/macro_f1"] = 0.99
    elif change == "a better figure":
        table["val/macro_f1"] += 0.02  # of a run on a GPU less is no difference
    elif change == "another figure":
        table["val/accuracy"] = 0.99
    else:
        table = table.iloc[:-1]
    return table


@pytest.mark.parametrize("change", ["a better epoch", "a better figure", "another figure", "an epoch less"])
def test_a_history_that_is_not_of_the_model_is_told(change, copied):
    change_history(pd.read_csv(copied / "history.csv"), change).to_csv(copied / "history.csv", index=False)
    assert "history.csv" in told(copied, "history is of the model")
    if change == "a better figure":
        redraw(copied)
        assert list(failed(copied)) == ["history is of the model"]


def test_of_a_run_on_a_gpu_a_window_may_have_fallen_to_its_other_side(copied):
    edit_json(copied / "provenance.json", lambda p: p.update(device="NVIDIA H100"))
    table = pd.read_csv(copied / "history.csv")
    one_window = table.assign(
        **{"val/accuracy": table["val/accuracy"] + 0.003, "val/severe_as_normal": table["val/severe_as_normal"] + 1}
    )
    for history, wrong in ((one_window, False), (table.assign(**{"val/accuracy": 0.99}), True)):
        history.to_csv(copied / "history.csv", index=False)
        assert bool(told(copied, "history is of the model")) == wrong


@pytest.mark.slow
def test_a_history_by_an_objective_that_predictions_do_not_tell_is_held_against_the_checkpoint(train_run):
    run = train_run("modality=sensor", "objective=val/loss", "average=null")
    found = verdicts(run)
    assert found["history is of the model"].verdict == "ok"
    assert "FAILED" not in {outcome.verdict for outcome in found.values()}


def test_card_and_page_with_other_figures_are_told(copied):
    value = f"{100 * json.loads((copied / 'metrics.json').read_text())['test']['accuracy']:.1f} %"
    for name, check in (("MODEL_CARD.md", CARD), ("report.html", PAGE)):
        text = (copied / name).read_text(encoding="utf-8")
        assert value in text
        (copied / name).write_text(text.replace(value, "99.9 %"), encoding="utf-8")
        wrong = failed(copied, "files")
        assert list(wrong) == [check] and "99.9 %" in wrong[check] and value in wrong[check]
        (copied / name).write_text(text, encoding="utf-8")


def test_a_page_of_another_version_is_not_held_against_this_ones_words(copied):
    page = copied / "report.html"
    page.write_text(page.read_text(encoding="utf-8").replace("By state", "State by state"), encoding="utf-8")
    assert "'By state' in report.html" in failed(copied, "files")[PAGE]
    edit_json(copied / "provenance.json", lambda p: p.update(code="0" * 16))
    assert verdicts(copied, "files")[PAGE].verdict == "not checked"
    page.unlink()
    assert "draws it" in verdicts(copied, "files")[PAGE].told


def test_a_split_of_another_name_or_with_other_sessions_is_told(copied):
    edit_json(copied / "split.json", lambda split: split["settings"].update(name="device"))
    assert "expected settings.name = session" in failed(copied, "files")["the split is the recorded one"]
    edit_json(copied / "split.json", lambda split: split["sessions"]["train"].pop())
    assert "missing" in told(copied, "the split is that of data and config")


@pytest.mark.slow
def test_a_run_of_some_train_devices_leaves_sessions_out(train_run):
    assert not failed(train_run("modality=sensor", "split.train_devices=3", "trainer.max_epochs=1"))


@pytest.fixture
def peeking(monkeypatch):
    """A model that looks at the label which lies in the batch beside its inputs."""
    honest = Fusion.forward

    def forward(self, batch):
        logits = honest(self, batch)
        return {**logits, "window": logits["window"] + 20 * torch.nn.functional.one_hot(batch["window"], 4)}

    monkeypatch.setattr(Fusion, "forward", forward)


def test_a_model_that_sees_the_labels_is_told(copied, peeking):
    assert "something tells it the labels" in told(copied, "constant input gives chance")


def test_a_modality_without_gradient_is_told(copied, monkeypatch):
    honest = Fusion.forward

    def forward(self, batch):
        return honest(self, {k: v.detach() if k.startswith("thermal") else v for k, v in batch.items()})

    monkeypatch.setattr(Fusion, "forward", forward)
    wrong = failed(copied)
    assert list(wrong) == ["every modality gets a gradient"]
    assert "none to thermal" in wrong["every modality gets a gradient"]


def test_a_modality_that_is_cut_off_in_training_alone_is_told(copied, monkeypatch):
    honest = Fusion.forward

    def forward(self, batch):
        cut = {k: v.detach() if k.startswith("thermal") and self.training else v for k, v in batch.items()}
        return honest(self, cut)

    monkeypatch.setattr(Fusion, "forward", forward)
    assert "in training, found none to thermal" in told(copied, "every modality gets a gradient")


def test_sizes_and_hours_that_are_not_those_of_split_and_data_are_told(copied):
    """As one would who wanted the card to look better, card and page drawn again."""
    edit_json(copied / "provenance.json", lambda p: p["sessions"].update(test=300))
    redraw(copied)
    assert list(failed(copied, "files")) == ["counts are of the split"]
    right = len(SavedRun(copied).split.sessions["test"])
    edit_json(copied / "provenance.json", lambda p: p["sessions"].update(test=right))
    edit_json(copied / "provenance.json", lambda p: p["data"]["hours"]["train"].update(normal=99.0))
    redraw(copied)
    wrong = failed(copied)
    assert list(wrong) == ["hours and devices are of the data"] and "99.0" in wrong["hours and devices are of the data"]


def edit_examples(folder, **changes):
    with np.load(folder / "examples.npz") as arrays:
        found = dict(arrays)
    np.savez_compressed(
        folder / "examples.npz", **{**found, **{name: change(found) for name, change in changes.items()}}
    )


def test_examples_that_are_not_of_predictions_and_data_are_told(copied):
    """As one would who wanted the page to look better, page drawn again."""
    edit_examples(copied, y_pred=lambda found: found["y_true"])
    redraw(copied)
    assert list(failed(copied)) == ["examples are of the predictions", "examples show the data"]


@pytest.mark.parametrize("name", ["sensors", "thermal", "state", "seconds"])
def test_examples_that_show_something_else_are_told(name, copied):
    edit_examples(copied, **{name: lambda found: np.zeros_like(found[name])})
    assert told(copied, "examples are of the predictions") is None
    assert f"{name} of the" in told(copied, "examples show the data")


def test_facts_that_are_not_those_of_config_and_model_are_told(copied):
    for change, name, place in (
        ({"seed": 42}, "the config is the run's", "seed = 0"),
        (
            {"store": {**SavedRun(copied).provenance["store"], "name": "aihub-deadbeef"}},
            "the config is the run's",
            "data set of the store = simulated",
        ),
        ({"parameters": 7}, "predictions are the model's", "parameters = "),
        ({"model_bytes": 1}, "predictions are the model's", "model_bytes = "),
    ):
        sound = (copied / "provenance.json").read_bytes()
        edit_json(copied / "provenance.json", lambda p, change=change: p.update(change))
        assert f"expected {place}" in told(copied, name)
        (copied / "provenance.json").write_bytes(sound)


def test_every_tensor_that_a_network_may_look_at_belongs_to_a_modality(compose):
    cfg = compose("model=fusion")
    data = load_windows(cfg)
    inputs, _ = used_inputs(cfg, data.store.schema)
    batch = WindowDataset(data.store, data.part("train"), data.settings, inputs).__getitems__([0, 1])
    scaled = build_module(cfg, data, inputs).scaling(batch)
    labels_and_raw = {"index", "window", "second", "mask", "sensors_start", "thermal_stats_start"}
    assert {name for names in TENSORS.values() for name in names} == {*scaled} - labels_and_raw


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


def test_balanced_accuracy_is_the_mean_recall_of_the_states_that_occur():
    y, guess = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 1, 2, 0])
    value, low, high, chance = balanced_accuracy(y, np.eye(4)[guess], np.arange(6).astype(str))
    assert value == pytest.approx((3 / 4 + 1 / 2) / 2) and chance == 0.5
    assert 0 <= low < value < high <= 1


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
