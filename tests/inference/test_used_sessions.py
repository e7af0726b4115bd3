"""`predict` recognises the sessions that a run was trained on, and scores the others apart."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.errors import DataError
from conveyorguard.runs.saved import SavedRun
from tests.support.plant import plant_table, write_plant

pytestmark = pytest.mark.promise(
    "numbers", "`predict` recognises sessions of the training by their content, and scores the others apart."
)


@pytest.fixture
def predict(tmp_path, capsys):
    """Predict a folder with a run; return what was printed, and the folder of the tables."""

    def run(folder, recordings, conf):
        out = tmp_path / "out"
        words = ["--config-dir", str(conf), "data=plant", f"data.root={recordings}", f"out={out}"]
        capsys.readouterr()
        assert main(["predict", str(folder), *words]) == 0
        return capsys.readouterr().out, out

    return run


def test_sessions_of_the_training_are_recognised_under_other_names_and_scored_apart(plant, predict, tmp_path):
    run, conf = plant
    split = SavedRun(run).saved_split
    folder = tmp_path / "new"
    write_plant(folder, [101, 102, 103])
    for name in (split.sessions["train"][0], split.sessions["val"][0]):
        number = int(name.split("_")[1])
        plant_table(number, state=number % 2 == 0).to_csv(folder / f"other{number}_x.csv", index=False)
    printed, out = predict(run, folder, conf)
    assert "of 5 sessions, 1 in training and 1 in validation of this run, by content" in printed
    table = pd.read_csv(out / "recordings.csv", keep_default_na=False)
    assert dict(table.groupby("used_in").size()) == {"": 3, "train": 1, "val": 1}
    assert table.loc[table["used_in"] == "", "session"].str.startswith("pump").all()
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["used_in_training"] == figures["used_in_validation"] == 1
    assert figures["not_used"]["sessions"] == 3 < figures["all"]["sessions"]
    page = (out / "predictions.html").read_text()
    assert "of the 3 labelled sessions used in neither" in printed and "Of the 3 labelled sessions" in page


def test_predicting_the_training_set_says_that_nothing_is_known_about_others(plant, predict, tmp_path):
    run, conf = plant
    folder, split = tmp_path / "new", SavedRun(run).saved_split
    write_plant(folder, [int(name.split("_")[1]) for name in split.sessions["train"][:2]])
    printed, out = predict(run, folder, conf)
    assert "all 2 sessions were used for this run (2 in training): this says nothing about other sessions" in printed
    assert json.loads((out / "metrics.json").read_text())["not_used"] is None


def test_run_of_an_earlier_version_says_that_its_training_sessions_are_not_known(plant, predict, tmp_path):
    run, conf = plant
    shutil.copytree(run, tmp_path / "old")
    saved = json.loads((tmp_path / "old" / "split.json").read_text())
    del saved["content"]
    (tmp_path / "old" / "split.json").write_text(json.dumps(saved))
    write_plant(tmp_path / "new", [101])
    printed, out = predict(tmp_path / "old", tmp_path / "new", conf)
    assert "does not record the content of its training sessions" in printed
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["used_in_training"] is None and figures["not_used"] is None


def test_changed_session_is_not_taken_for_one_of_the_training(plant, predict, tmp_path):
    run, conf = plant
    (name, *_), folder = SavedRun(run).saved_split.sessions["train"], tmp_path / "new"
    folder.mkdir()
    table = plant_table(int(name.split("_")[1]))
    table.loc[7, "pressure"] += 0.001
    table.to_csv(folder / f"{name}.csv", index=False)
    assert "none of these 1 sessions was used in training or validation" in predict(run, folder, conf)[0]


def test_table_of_ten_minute_rows_has_the_predictions_of_its_file(plant):
    run, _ = plant
    loaded, table = load_run(run), plant_table(101)
    frames = table[["pressure", "flow"]].assign(session="a", time=np.arange(len(table)) * 600)
    windows = loaded.predict(frames)
    assert windows["end"].tolist() == [600 * row for row in range(29, 150)]
    with pytest.raises(DataError, match=r"expected whole multiples of 600 s since the session began, found .*30"):
        loaded.predict(frames.assign(time=np.arange(len(table)) * 30))


def test_card_and_page_of_sensors_at_ten_minutes_name_no_camera_and_real_times(plant):
    run, _ = plant
    card, page = (run / "MODEL_CARD.md").read_text(), (run / "report.html").read_text()
    assert "from a window of 5 h of sensors." in card and "one row every 10 min" in card
    assert "camera" not in card and "No camera" not in page
    assert "lightgbm · sensor · film off" in page


def test_hours_of_the_model_card_are_real_time(plant):
    run, _ = plant
    facts = SavedRun(run).provenance
    hours = sum(sum(part.values()) for part in facts["data"]["hours"].values())
    assert hours == pytest.approx(16 * 150 * 600 / 3600)
