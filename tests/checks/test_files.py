"""A run's files against each other and against the data: each damage fails the check of that name."""

import json

import numpy as np
import pandas as pd
import pytest

from conveyorguard.checks.files import devices_apart
from conveyorguard.checks.run import DATA, FILES
from conveyorguard.checks.subject import Failed, Subject
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import write_json
from tests.checks.spoiled import CARD, PAGE, edit_json, edit_predictions, failed, failure, redraw, verdicts


def test_session_in_two_parts_fails(copied):
    def share(split):
        split["sessions"]["val"].append(split["sessions"]["train"][0])

    name = json.loads((copied / "split.json").read_text())["sessions"]["train"][0]
    edit_json(copied / "split.json", share)
    wrong = failed(copied, "files")
    assert f"{name} in train and val" in wrong["no session in two parts"]
    assert "split.json matches its hash and config.yaml" in wrong and "predictions cover the split" in wrong


def test_device_in_two_parts_fails_unless_split_is_by_session(copied):
    def one_device(table):
        return table.assign(device=table["device"].iloc[0])

    edit_predictions(copied, one_device)
    assert "no device in two parts" not in failed(copied, "files"), "split=session may share devices"
    edit_json(copied / "split.json", lambda split: split["settings"].update(name="kfold"))
    assert "in several parts" in failed(copied, "files")["no device in two parts"]


def test_train_device_in_test_fails_a_device_split(copied):
    """A device split that puts a train device into test."""

    def share(split):
        split["settings"]["name"] = "device"
        moved = split["sessions"]["train"]
        device = {name.split("_")[3] for name in split["sessions"]["test"]}.pop()
        split["sessions"]["train"] = [*moved, f"TS_made_up_{device}"]

    edit_json(copied / "split.json", share)
    with pytest.raises(Failed, match="because split=device, found oht01"):
        devices_apart(Subject(copied), {"train": {"oht01", "agv02"}, "val": {"oht03"}, "test": {"oht01"}})


@pytest.mark.parametrize("change", ["another session", "a window twice"])
def test_predictions_of_other_windows_fail_the_file_checks(change, copied):
    def other(table):
        if change == "a window twice":
            return pd.concat([table, table.iloc[[0]]])
        return table.replace({"session": {table["session"].iloc[0]: "TS_agv_01_agv01_0101_0000"}})

    edit_predictions(copied, other, consistent=True)
    counted = ["recorded counts match the split"] if change == "a window twice" else []
    assert list(failed(copied, "files")) == ["predictions cover the split", *counted, CARD]


INVALID_TABLES = {
    "unknown state": (
        lambda t: t.assign(y_pred=7),
        'expected y_pred to be one of 0, 1, 2, 3, found "7" in row 0',
    ),
    "unknown label": (lambda t: t.assign(y_true=9), 'expected y_true to be one of 0, 1, 2, 3, found "9"'),
    "text": (lambda t: t.assign(y_pred=t["y_pred"].astype(str)), "expected whole numbers in column y_pred"),
    "no rows": (lambda t: t.iloc[:0], "expected a row or more, found none"),
    "no labels": (lambda t: t.drop(columns="y_true"), "found no y_true"),
    "missing numbers": (lambda t: t.assign(p0=np.nan), "expected p0 to p3 between 0 and 1 with sum 1, found nan, "),
    "another part": (lambda t: t.assign(split="train"), "expected split to be one of val, test"),
    "another state": (lambda t: t.assign(p4=0.0), "expected probabilities of 4 states, p0 to p3, found p4"),
}


@pytest.mark.parametrize("change", INVALID_TABLES)
def test_invalid_predictions_fail_only_the_checks_that_need_them(change, copied):
    spoil, expected = INVALID_TABLES[change]
    edit_predictions(copied, spoil)
    outcomes = verdicts(copied, "files")
    assert list(outcomes) == list(FILES)
    (wrong,) = (outcome.message for outcome in outcomes.values() if outcome.verdict == "FAILED")
    assert expected in wrong and "predictions.parquet" in wrong and "train it again" in wrong
    for name in ("split.json matches its hash and config.yaml", "no session in two parts"):
        assert outcomes[name].verdict == "ok"
    assert outcomes["metrics follow from predictions"].verdict == "not checked"


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
def test_invalid_json_file_is_named(name, content, expected, copied):
    write_json(copied / f"{name}.json", content)
    outcomes = verdicts(copied, "files")
    assert list(outcomes) == list(FILES) and outcomes["probabilities are valid"].verdict == "ok"
    assert expected in " ".join(outcome.message for outcome in outcomes.values() if outcome.verdict == "FAILED")


def test_provenance_without_store_fails_only_the_checks_that_need_it(copied):
    edit_json(copied / "provenance.json", lambda p: p.update(store=None))
    outcomes = verdicts(copied)
    assert list(outcomes) == [*FILES, *DATA] and outcomes["metrics follow from predictions"].verdict == "ok"
    assert "expected a mapping at store, found null" in outcomes["config.yaml is unchanged"].message
    assert outcomes["data are unchanged"].verdict == "not checked"


@pytest.mark.parametrize("change", ["place", "label", "gone"])
def test_windows_or_labels_unlike_the_data_fail(change, copied):
    def other(table):
        if change == "gone":
            return table.drop(index=5)
        column = "start" if change == "place" else "y_true"
        table.loc[5, column] = table.loc[5, column] + 1 if change == "place" else (table.loc[5, column] + 1) % 4
        return table

    edit_predictions(copied, other, consistent=change == "label")
    assert failure(copied, "windows match data and split")
    if change == "label":
        assert list(failed(copied)) == ["windows match data and split", "history matches checkpoint and predictions"]


@pytest.mark.parametrize(
    "file, place",
    [("metrics", "val.confusion[0][0]"), ("calibration", "temperature"), ("alarms", "operating_point.on")],
)
def test_figures_that_do_not_follow_from_predictions_fail(file, place, copied):
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


def test_probabilities_that_do_not_sum_to_one_fail(copied):
    edit_predictions(copied, lambda table: table.assign(p1=table["p1"] + 5e-4), consistent=True)
    assert "with sum 1" in failed(copied, "files")["probabilities are valid"]


def test_prediction_other_than_most_probable_state_fails(copied):
    edit_predictions(copied, lambda table: table.assign(y_pred=(table["y_pred"] + 1) % 4))
    assert "y_pred to be the most probable state" in failed(copied, "files")["probabilities are valid"]


def test_edited_config_fails(copied):
    with (copied / "config.yaml").open("a") as stream:
        stream.write("extra: 1\n")
    assert set(failed(copied, "files")) == {"config.yaml is unchanged", PAGE}


@pytest.mark.parametrize("column", ["seconds_to_end", "seconds_since_onset", "kind", "device", "end"])
def test_facts_of_windows_unlike_the_data_fail(column, copied):
    """Lead, delay and the results by kind and device are computed from them."""

    def other(table):
        return table.assign(**{column: "agv" if table[column].dtype.kind not in "if" else table[column] + 60})

    everywhere = column == "device"  # with all that follows from them, so that nothing else contradicts them
    edit_predictions(copied, other, consistent=everywhere)
    assert f"expected {column} = " in failure(copied, "windows match data and split")
    assert not everywhere or list(failed(copied)) == ["windows match data and split"]


def test_missing_part_in_predictions_fails(copied):
    edit_predictions(copied, lambda table: table[table["split"] != "test"], consistent=True)
    wrong = failed(copied, "files")
    assert "expected windows of val and test" in wrong["predictions cover the split"]
    assert set(wrong) == {"predictions cover the split", "examples match predictions", CARD}


def test_shortcuts_unlike_the_data_fail(copied):
    path = copied / "shortcuts.parquet"
    table = pd.read_parquet(path)
    table.assign(y_pred=0, **dict.fromkeys(["p0", "p1", "p2", "p3"], np.float32(0.25))).to_parquet(path, index=False)
    redraw(copied)
    assert list(failed(copied)) == ["shortcuts follow from the data"]
    path.unlink()
    assert "expected shortcuts.parquet" in failure(copied, "shortcuts follow from the data")


def change_history(table, change):
    if change == "a better epoch":
        table.loc[table["epoch"] == table["val/macro_f1"].idxmin(), "val/macro_f1"] = 0.99
    elif change == "a better figure":
        table["val/macro_f1"] += 0.02  # more than the tolerance of a run on a GPU
    elif change == "another figure":
        table["val/accuracy"] = 0.99
    else:
        table = table.iloc[:-1]
    return table


@pytest.mark.parametrize("change", ["a better epoch", "a better figure", "another figure", "an epoch less"])
def test_history_unlike_the_checkpoint_fails(change, copied):
    change_history(pd.read_csv(copied / "history.csv"), change).to_csv(copied / "history.csv", index=False)
    assert "history.csv" in failure(copied, "history matches checkpoint and predictions")
    if change == "a better figure":
        redraw(copied)
        assert list(failed(copied)) == ["history matches checkpoint and predictions"]


@pytest.mark.slow
def test_history_with_loss_as_objective_passes_by_the_checkpoint(train_run):
    run = train_run("modality=sensor", "objective=val/loss", "average=null")
    outcomes = verdicts(run)
    assert outcomes["history matches checkpoint and predictions"].verdict == "ok"
    assert "FAILED" not in {outcome.verdict for outcome in outcomes.values()}


def test_split_with_other_name_or_sessions_fails(copied):
    edit_json(copied / "split.json", lambda split: split["settings"].update(name="device"))
    assert "expected settings.name = auto" in failed(copied, "files")["split.json matches its hash and config.yaml"]
    edit_json(copied / "split.json", lambda split: split["sessions"]["train"].pop())
    assert "missing" in failure(copied, "split follows from data and config")


def test_recorded_sizes_and_hours_unlike_the_data_fail(copied):
    """A forger makes the card look better, and writes card and page again."""
    edit_json(copied / "provenance.json", lambda p: p["sessions"].update(test=300))
    redraw(copied)
    assert list(failed(copied, "files")) == ["recorded counts match the split"]
    recorded = len(SavedRun(copied).split.sessions["test"])
    edit_json(copied / "provenance.json", lambda p: p["sessions"].update(test=recorded))
    edit_json(copied / "provenance.json", lambda p: p["data"]["hours"]["train"].update(normal=99.0))
    redraw(copied)
    ((name, message),) = failed(copied).items()
    assert name == "recorded hours and devices match the data" and "99.0" in message


def test_provenance_unlike_config_and_model_fails(copied):
    for change, name, place in (
        ({"seed": 42}, "config.yaml is unchanged", "seed = 0"),
        (
            {"store": {**SavedRun(copied).provenance["store"], "name": "aihub-deadbeef"}},
            "config.yaml is unchanged",
            "data set of the store = simulated",
        ),
        ({"parameters": 7}, "predictions match the checkpoint", "parameters = "),
        ({"model_bytes": 1}, "predictions match the checkpoint", "model_bytes = "),
    ):
        sound = (copied / "provenance.json").read_bytes()
        edit_json(copied / "provenance.json", lambda p, change=change: p.update(change))
        assert f"expected {place}" in failure(copied, name)
        (copied / "provenance.json").write_bytes(sound)
