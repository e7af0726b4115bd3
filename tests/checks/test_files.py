"""The files of a run against each other and against the data: each that is wrong is told by name."""

import json

import numpy as np
import pandas as pd
import pytest

from conveyorguard.checks.files import devices_apart
from conveyorguard.checks.run import DATA, FILES
from conveyorguard.checks.subject import Failed, Subject
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_json
from tests.checks.spoiled import CARD, PAGE, edit_json, edit_predictions, failed, redraw, told, verdicts


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


@pytest.mark.slow
def test_a_history_by_an_objective_that_predictions_do_not_tell_is_held_against_the_checkpoint(train_run):
    run = train_run("modality=sensor", "objective=val/loss", "average=null")
    found = verdicts(run)
    assert found["history is of the model"].verdict == "ok"
    assert "FAILED" not in {outcome.verdict for outcome in found.values()}


def test_a_split_of_another_name_or_with_other_sessions_is_told(copied):
    edit_json(copied / "split.json", lambda split: split["settings"].update(name="device"))
    assert "expected settings.name = auto" in failed(copied, "files")["the split is the recorded one"]
    edit_json(copied / "split.json", lambda split: split["sessions"]["train"].pop())
    assert "missing" in told(copied, "the split is that of data and config")


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
