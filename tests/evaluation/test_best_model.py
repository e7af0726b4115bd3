"""Targets and findings of the best model follow from pooled runs by fixed rules."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.evaluation.best_model import findings, others_table, starts_cut_table, targets, verdict
from conveyorguard.evaluation.bootstrap import Interval
from conveyorguard.evaluation.compare import compare
from conveyorguard.reporting.best_model_page import TRIED, BestModel, write_best_model
from conveyorguard.reporting.site import Site

SPEED = pd.DataFrame(
    {
        "model": ["fusion", "dl_tuned"],
        "windows_per_second": [2000.0, 100.0],
        "latency_ms": [3.0, 40.0],
        "parameters": [200_000, 3_000_000],
    }
)
WORST = pd.DataFrame({"corruption": ["camera black", "CT1 dead"], "macro_f1": [0.8, 0.7], "better arm": ["fusion_sensor_film"] * 2,
                      "its macro_f1": [0.79, 0.72], "difference": [0.01, -0.02], "difference_low": [0.0, -0.03], "difference_high": [0.02, -0.01],
                      "verdict": ["holds", "falls below"]})  # fmt: skip


@pytest.fixture
def compared(make_run):
    """Two seeds of each arm; fusion is right more often than trees, film makes no difference."""
    arms = {
        "fusion_both_film": ["model=fusion", "modality=both"], "fusion_both_plain": ["model=fusion", "modality=both", "film=false"],
        "fusion_sensor_film": ["model=fusion", "modality=sensor"], "lightgbm": ["model=lightgbm"],
        "lightgbm_extended_both_film": ["model=lightgbm", "features=extended"],
    }  # fmt: skip
    right = {"fusion_sensor_film": 0.7, "lightgbm": 0.6}
    folders = {}
    for arm, own in arms.items():
        for seed in (0, 1):
            folder = make_run(
                *own,
                f"seed={seed}",
                "split=kfold",
                "split.n_folds=3",
                right=right.get(arm, 0.95),
                draw=seed,
                shortcut=False,
            )
            folders[folder] = arm
    comparison = compare(folders)
    names = {row.label: folders[row.sources[0].folder] for row in comparison.models}
    return comparison, names, {names[row.label]: row for row in comparison.models}


def test_targets_are_told_reached_or_not(compared):
    _, _, rows = compared
    table = targets(rows, WORST, SPEED, minutes=20.0, full=True)
    told = {row["target"].split(",")[0]: row for _, row in table.iterrows()}
    assert told["macro-F1 above LightGBM on the window's statistics"]["verdict"] == "reached"
    assert told["macro-F1 not more than half a point below LightGBM extended"]["verdict"] == "reached"
    assert told["film=true not more than half a point below film=false"]["figure"] == "+0.00 points"
    robust = told["never more than a point below its better arm of one modality; worst with CT1 dead"]
    assert (robust["verdict"], robust["figure"]) == ("not reached", "-2.00 points")
    assert told["trains 10 times as many windows a second as dl_tuned"]["figure"] == "20.0 times"
    assert told["trained to its best epoch in under 15 minutes"]["verdict"] == "not reached"
    assert told["recall of the worst state"]["interval"].startswith("from ")
    without = {name: row for name, row in rows.items() if name != "fusion_both_plain"}
    unknown = targets(without, WORST, SPEED, 20.0, full=True).set_index("target")["verdict"]
    assert unknown["film=true not more than half a point below film=false, both"] == "not run"
    worse = {**rows, "lightgbm": rows["fusion_both_film"], "fusion_both_film": rows["lightgbm"]}
    assert targets(worse, WORST, SPEED, 1.0, True)["verdict"].tolist()[:2] == ["not reached", "not reached"]
    assert targets(rows, WORST, SPEED, 20.0, full=False)["verdict"].str.endswith("(not at full size)").all()


def test_what_an_input_buys_is_said_by_one_rule(compared):
    _, _, rows = compared
    found = findings(rows, {"camera": ("fusion_both_film", "fusion_sensor_film"), "film": ("fusion_both_film", "fusion_both_plain"),
                            "sensors": ("fusion_sensor_film", "fusion_both_film"), "nobody": ("fusion_both_film", "absent")})  # fmt: skip
    assert found.set_index("question")["verdict"].to_dict() == {
        "camera": "helps",
        "film": "does not",
        "sensors": "does not",
    }
    assert verdict(Interval(0.01, -0.01, 0.03)) == "not shown" and verdict(Interval(0.0, np.nan, np.nan)) == "not shown"


def test_page_and_summary_say_what_they_are_of(compared, tmp_path):
    comparison, names, rows = compared
    site = Site(tmp_path, "Best", {"08_best_model": "The best model"}, "", [("data", "simulated")])
    starts = starts_cut_table({"fusion": {"whole": rows["fusion_both_film"].arm, "cut": rows["fusion_sensor_film"].arm},
                               "lightgbm": dict.fromkeys(("whole", "cut"), rows["lightgbm"].arm)}, "lightgbm")  # fmt: skip
    seen = others_table({"fusion": rows["fusion_both_film"].arm, "lightgbm": rows["lightgbm"].arm}, "fusion")
    made = BestModel({"kfold": comparison}, {"kfold": names}, targets(rows, WORST, SPEED, 1.0, False),
                     findings(rows, {"camera": ("fusion_both_film", "fusion_sensor_film")}), WORST, WORST, starts, seen, SPEED, ["split=device is left out"])  # fmt: skip
    page = write_best_model(site, made, full=False)
    text = (tmp_path / "summary.md").read_text()
    assert (
        "None of these figures counts" in text and "(not at full size)" in text and "split=device is left out" in text
    )
    assert "| camera black |" in text and "CT1 dead" in page.read_text()
    assert "points low" in text and "points low" not in page.read_text(), (
        "on the page bounds stand in the cells of their figure"
    )
    assert (
        pd.read_csv(tmp_path / "tables" / "08_best_model_targets.csv")["target"].tolist()
        == made.targets["target"].tolist()
    )
    shown = pd.read_csv(tmp_path / "tables" / "08_best_model_starts_cut.csv").set_index("arm")
    change = rows["fusion_sensor_film"].arm.difference(rows["fusion_both_film"].arm, "macro_f1")
    beside = rows["fusion_sensor_film"].arm.difference(rows["lightgbm"].arm, "macro_f1")
    cut = rows["fusion_sensor_film"].arm
    assert shown.loc["fusion", "severe recall"] == pytest.approx(cut.by_seed("severe_recall").mean())
    assert shown.loc["fusion", "severe sessions missed"] == cut.by_seed("severe_sessions_missed").max()
    assert shown.loc["fusion", ["change", "change low", "change high"]].tolist() == pytest.approx(
        [100 * change.value, 100 * change.low, 100 * change.high]
    )
    assert shown.loc["fusion", ["before lightgbm", "before lightgbm high"]].tolist() == pytest.approx(
        [100 * beside.value, 100 * beside.high]
    )
    assert shown.loc["lightgbm", ["change", "before lightgbm"]].tolist() == [0, 0] and "| fusion | " in text
    other = pd.read_csv(tmp_path / "tables" / "08_best_model_others.csv").set_index("arm")
    gain = rows["fusion_both_film"].arm.difference(rows["lightgbm"].arm, "macro_f1")
    assert other.loc["lightgbm", ["points", "points low"]].tolist() == pytest.approx([100 * gain.value, 100 * gain.low])
    assert (
        other.loc["lightgbm", "severe_sessions_missed"] == rows["lightgbm"].arm.by_seed("severe_sessions_missed").max()
    )
    assert "Recordings on which nothing was chosen" in text
    assert TRIED in text and TRIED in page.read_text(), "the robustness of WORST is not reached"
    made.targets["verdict"] = "reached"
    write_best_model(site, made, full=True)
    assert TRIED not in (tmp_path / "summary.md").read_text()
    assert "None of these figures counts" not in (tmp_path / "summary.md").read_text()
