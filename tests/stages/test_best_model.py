"""Targets and findings of the best model: fixed rules on pooled runs."""

import os
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from conveyorguard.data.splits import Split
from conveyorguard.data.windows import Windows, WindowSettings, make_windows
from conveyorguard.evaluation import robustness
from conveyorguard.evaluation.breakdown import by_device, by_distance
from conveyorguard.evaluation.compare import compare
from conveyorguard.evaluation.robustness import EvaluationSet, second_by_second
from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.scores import Predictions
from conveyorguard.reporting.site import Site
from conveyorguard.runs.saved import SavedRun
from experiments.stages import best_model
from experiments.stages.best_model import (
    causal_table,
    distance_table,
    findings,
    onset_table,
    others_table,
    starts_cut_table,
    verdict,
)
from experiments.stages.best_model_page import TRIED, BestModel, write_best_model
from experiments.stages.best_model_targets import targets
from tests.support.made_runs import run_maker

SPEED = pd.DataFrame(
    {
        "model": ["fusion", "dl_tuned"],
        "windows_per_second": [2000.0, 100.0],
        "latency_ms": [3.0, 40.0],
        "parameters": [200_000, 3_000_000],
    }
)
WORST = pd.DataFrame(
    {
        "corruption": ["camera black", "CT1 dead"],
        "macro_f1": [0.8, 0.7],
        "better arm": ["fusion_sensor_film"] * 2,
        "its macro_f1": [0.79, 0.72],
        "difference": [0.01, -0.02],
        "difference_low": [0.0, -0.03],
        "difference_high": [0.02, -0.01],
        "verdict": ["holds", "falls below"],
        "severe_recall": [0.9, 0.4],
        "severe_sessions_missed": [0.0, 7.0],
        "seeds": ["2, 1"] * 2,
    }
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory, schema_node):
    """Comparison of two seeds of each arm; fusion is better than trees, film makes no difference."""
    make_run = run_maker(tmp_path_factory.mktemp("runs"), schema_node)
    arms = {
        "fusion_both_film": ["model=fusion", "modality=both"],
        "fusion_both_plain": ["model=fusion", "modality=both", "film=false"],
        "fusion_sensor_film": ["model=fusion", "modality=sensor"],
        "lightgbm": ["model=lightgbm"],
        "lightgbm_extended_both_film": ["model=lightgbm", "features=extended"],
    }
    right = {"fusion_sensor_film": 0.7, "lightgbm": 0.6}
    folders = {}
    for arm, overrides in arms.items():
        for seed in (0, 1):
            folder = make_run(
                *overrides,
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
    rows = {names[row.label]: row for row in comparison.models}
    return comparison, names, {name: rows[name] for name in arms}


def test_targets_have_verdict_reached_or_not(compared):
    _, _, rows = compared
    table = targets(rows, WORST, SPEED, minutes=20.0, full=True)
    verdicts = {row["target"].split(",")[0]: row for _, row in table.iterrows()}
    assert verdicts["fusion: macro-F1 above LightGBM on the window's statistics"]["verdict"] == "reached"
    same = verdicts["fusion: macro-F1 not more than half a point below LightGBM extended"]
    assert (same["figure"], same["verdict"]) == ("+0.00 points", "not reached")  # equal predictions have no interval
    assert verdicts["fusion: film=true not more than half a point below film=false"]["figure"] == "+0.00 points"
    robust = verdicts["fusion: never more than a point below its better arm of one modality; worst with CT1 dead"]
    assert (robust["verdict"], robust["figure"]) == ("not reached", "-2.00 points")
    assert verdicts["fusion: trains 10 times as many windows a second as dl_tuned"]["figure"] == "20.0 times"
    assert verdicts["fusion: trained to its best epoch in under 15 minutes"]["verdict"] == "not reached"
    assert verdicts["best arm: recall of the worst state"]["interval"].startswith("from ")
    called = table.set_index("target").loc["best arm: no window of the worst state called normal, by any seed"]
    bound = rows["fusion_both_film"].arm.interval("severe_as_normal")
    assert called["figure"].startswith("0 of ") and called["interval"] == f"up to {bound.high:.1f}" and bound.high > 1
    without = {name: row for name, row in rows.items() if name != "fusion_both_plain"}
    unknown = targets(without, WORST, SPEED, 20.0, full=True).set_index("target")["verdict"]
    assert unknown["fusion: film=true not more than half a point below film=false, both"] == "not run"
    worse = {**rows, "lightgbm": rows["fusion_both_film"], "fusion_both_film": rows["lightgbm"]}
    assert targets(worse, WORST, SPEED, 1.0, True)["verdict"].tolist()[1:3] == ["not reached", "not reached"]
    assert targets(rows, WORST, SPEED, 20.0, full=False)["verdict"].str.endswith("(not at full size)").all()


def test_best_arm_is_the_best_on_validation_whichever_it_is(compared):
    _, _, rows = compared
    others = dict.fromkeys(rows, rows["lightgbm"])
    table = targets({**others, "lightgbm": rows["fusion_both_film"]}, WORST, SPEED, 1.0, full=True)
    assert table["target"][0] == "best arm by validation: lightgbm; its macro-F1"
    score = rows["fusion_both_film"].arm.interval("macro_f1")
    assert table["figure"][0] == f"{100 * score.value:.1f} %" and table["verdict"][0] == "reported"


@pytest.mark.parametrize(("low", "expected"), [(-0.0099, "reached"), (-0.0101, "not reached"), (np.nan, "not reached")])
def test_target_on_a_difference_is_reached_by_the_end_of_its_interval(compared, low, expected):
    _, _, rows = compared
    robust = WORST.assign(difference=0.01, difference_low=low, difference_high=0.02)
    table = targets(rows, robust, SPEED, 1.0, full=True).set_index("target")
    (name,) = (target for target in table.index if "never more than a point below" in target)
    assert (table.loc[name, "figure"], table.loc[name, "verdict"]) == ("+1.00 points", expected)


def test_absent_state_has_no_claim_and_bound_is_of_worst_seed(compared):
    _, _, rows = compared
    best = rows["fusion_both_film"]

    def severe(row, change):
        return replace(row, predictions=[change(seed, p) for seed, p in enumerate(row.predictions)])

    def without(_, p):
        return Predictions(np.minimum(p.y_true, 2), p.p, p.session)

    table = targets({name: severe(row, without) for name, row in rows.items()}, WORST, SPEED, 1.0, True)
    assert (table["verdict"] == "no window has the worst state").sum() == 2
    assert not table["target"].str.contains("recall").any() and not table["figure"].str.contains("nan").any()

    def second_seed_blind(seed, p):
        return Predictions(p.y_true, np.where((p.y_true == 3)[:, None], np.eye(4)[0], p.p), p.session) if seed else p

    table = targets({**rows, "fusion_both_film": severe(best, second_seed_blind)}, WORST, SPEED, 1.0, True).set_index(
        "target"
    )
    row, windows = (
        table.loc["best arm: no window of the worst state called normal, by any seed"],
        int((best.predictions[0].y_true == 3).sum()),
    )
    assert row["figure"] == f"{windows} of {windows} by the worst seed" and row["verdict"] == "not reached"
    assert row["interval"] == f"up to {windows:.1f}", "of the blind seed, not of the mean of both"


def test_finding_on_input_follows_rule_for_difference(compared):
    _, _, rows = compared
    table = findings(
        rows,
        {
            "camera": ("fusion_both_film", "fusion_sensor_film"),
            "film": ("fusion_both_film", "fusion_both_plain"),
            "sensors": ("fusion_sensor_film", "fusion_both_film"),
            "nobody": ("fusion_both_film", "absent"),
        },
    )
    assert table.set_index("question")["verdict"].to_dict() == {
        "camera": "helps",
        "film": "not shown",  # equal predictions have no interval
        "sensors": "does not",
    }
    one_seed = replace(rows["fusion_both_film"], predictions=rows["fusion_both_film"].predictions[:1])
    uneven = findings({**rows, "fusion_both_film": one_seed}, {"film": ("fusion_both_film", "fusion_both_plain")})
    assert set(table["seeds"]) == {"2, 2"} and uneven["seeds"].tolist() == ["1, 2"]
    assert verdict(Interval(0.01, -0.01, 0.03)) == "not shown" and verdict(Interval(0.0, np.nan, np.nan)) == "not shown"


def test_page_and_summary_have_same_tables_and_warn_of_small_run(compared, tmp_path):
    comparison, names, rows = compared
    site = Site(tmp_path, "Best", {"08_best_model": "The best model"}, "", [("data", "simulated")])
    starts = starts_cut_table(
        {
            "fusion": {"whole": rows["fusion_both_film"].arm, "cut": rows["fusion_sensor_film"].arm},
            "lightgbm": dict.fromkeys(("whole", "cut"), rows["lightgbm"].arm),
        },
        "lightgbm",
    )
    seen = others_table({"fusion": rows["fusion_both_film"].arm, "lightgbm": rows["lightgbm"].arm}, "fusion")
    arms = {name: row.predictions for name, row in rows.items()}
    every_second = {name: {"majority": row.arm, "last": rows["lightgbm"].arm} for name, row in rows.items()}
    devices = by_device(comparison.windows, arms)
    results = BestModel(
        {"kfold": comparison},
        {"kfold": names},
        targets(rows, WORST, SPEED, 1.0, False),
        findings(rows, {"camera": ("fusion_both_film", "fusion_sensor_film")}),
        WORST,
        WORST,
        starts,
        devices,
        devices.rename(columns={"device": "nearest change of state"}),
        causal_table(every_second),
        onset_table({name: row.runs for name, row in rows.items()}),
        seen,
        SPEED,
        ["split=device is left out"],
    )
    page = write_best_model(site, results, "Do not use these figures.")
    text = (tmp_path / "summary.md").read_text()
    assert "Do not use these figures" in text and "(not at full size)" in text and "split=device is left out" in text
    assert "\n| camera black |" in text and "CT1 dead" in page.read_text()
    of_corruption = [
        line for line in text.splitlines() if line.startswith(("| corruption ", "| camera black |", "| CT1 dead "))
    ]
    assert len(of_corruption) == 6 and {line.index("|", 1) for line in of_corruption} == {15}, "columns are in line"
    assert "points low" in text and "points low" not in page.read_text(), "the page shows bounds beside their value"
    assert (
        pd.read_csv(tmp_path / "tables" / "08_best_model_targets.csv")["target"].tolist()
        == results.targets["target"].tolist()
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
    assert shown.loc["fusion", ["minus lightgbm", "minus lightgbm high"]].tolist() == pytest.approx(
        [100 * beside.value, 100 * beside.high]
    )
    assert shown.loc["lightgbm", ["change", "minus lightgbm"]].tolist() == [0, 0] and "\n| fusion " in text
    other = pd.read_csv(tmp_path / "tables" / "08_best_model_others.csv").set_index("arm")
    arms = pd.read_csv(tmp_path / "tables" / "08_best_model_kfold.csv").set_index("arm")
    gain = rows["fusion_both_film"].arm.difference(rows["lightgbm"].arm, "macro_f1")
    assert arms.loc["lightgbm", ["fusion minus it", "fusion minus it low"]].tolist() == pytest.approx(
        [100 * gain.value, 100 * gain.low]
    )
    assert gain.value > 0 and arms.loc["fusion_both_film", "fusion minus it"] == 0
    every = pd.read_csv(tmp_path / "tables" / "08_best_model_causal.csv").set_index(["arm", "label"])
    assert every.loc[("fusion_both_film", "last"), "macro_f1"] == rows["lightgbm"].arm.interval("macro_f1").value
    assert (
        every.loc[("fusion_both_film", "majority"), "macro_f1 low"]
        == rows["fusion_both_film"].arm.interval("macro_f1").low
    )
    assert (every["windows"] == len(comparison.windows)).all()
    gain = rows["fusion_both_film"].arm.difference(rows["lightgbm"].arm, "macro_f1")
    assert other.loc["lightgbm", ["points", "points low"]].tolist() == pytest.approx([100 * gain.value, 100 * gain.low])
    assert (
        other.loc["lightgbm", "severe_sessions_missed"] == rows["lightgbm"].arm.by_seed("severe_sessions_missed").max()
    )
    assert "Recordings used for no choice" in text
    asked = [part for part in text.split("\n## ")[1:] if "Asked: the commonest state of a window of 30 s" in part]
    assert len(asked) == len(text.split("\n## ")[1:]) - 3, "all but two questions at once, speed, and the notes"
    assert TRIED in text and TRIED in page.read_text(), "the robustness target is not reached in WORST"
    results.targets["verdict"] = "reached"
    write_best_model(site, results)
    assert TRIED not in (tmp_path / "summary.md").read_text()
    assert "Do not use these figures" not in (tmp_path / "summary.md").read_text()


def test_accuracy_of_device_is_averaged_over_seeds(compared):
    comparison, _, rows = compared
    trees = rows["lightgbm"]
    table = by_device(comparison.windows, {"trees": trees.predictions}).set_index("device")
    rows_of_device = (comparison.windows["device"] == table.index[0]).to_numpy()
    right = [(p.y_pred == p.y_true)[rows_of_device].mean() for p in trees.predictions]
    assert len(right) == 2 and right[0] != right[1] and table["trees"].iloc[0] == pytest.approx(np.mean(right))
    assert table["windows"].sum() == len(comparison.windows) and table.loc["dev00", "kind"] == "oht"


def test_onset_table_has_row_a_seed_over_all_folds(compared):
    _, _, rows = compared
    runs = rows["lightgbm"].runs
    table = onset_table({"trees": runs}).set_index("arm")
    assert list(table.index) == ["trees, seed 0", "trees, seed 1"]
    faults = [fault for run in runs[1].values() for fault in run.facts("alarms")["parts"]["test"]["sessions"]]
    leads = [fault["lead"] for fault in faults if not fault["missed"]]
    assert table.loc["trees, seed 1", "faults"] == len(faults) > 0
    assert table.loc["trees, seed 1", "missed"] == len(faults) - len(leads)
    low, high = table.loc["trees, seed 1", ["missed low", "missed high"]]
    assert 0 <= low <= len(faults) - len(leads) < high < len(faults), "no miss among few faults excludes no miss"
    nothing = SimpleNamespace(alarms=SimpleNamespace(parts={"test": SimpleNamespace(sessions=[])}))
    assert onset_table({"trees": {0: {0: nothing}}}) is None
    assert table.loc["trees, seed 1", "lead, median"] == pytest.approx(np.median(leads))


def test_folds_are_pooled_within_seed(tmp_path, monkeypatch):
    runs = {seed: {fold: f"seed {seed}, fold {fold}" for fold in range(2)} for seed in range(3)}
    monkeypatch.setattr(best_model, "_predictions", lambda run, data, *_: pd.DataFrame({"run": [run], "data": [data]}))
    monkeypatch.setattr(best_model, "_arms", lambda tables: [table.to_numpy().tolist() for table in tables])
    pooled = best_model.pooled_arm(runs, {0: "of fold 0", 1: "of fold 1"}, tmp_path, None)
    assert pooled == [[[f"seed {seed}, fold {fold}", f"of fold {fold}"] for fold in range(2)] for seed in range(3)]


def test_predictions_are_cached_until_code_or_run_changes(tmp_path, schema_node, monkeypatch):
    run = SavedRun(run_maker(tmp_path, schema_node)("model=fusion"))
    windows = pd.DataFrame({"session": ["a", "b"], "device": "d", "start": 0})
    calls = []

    def predict(model, evaluation):
        calls.append(evaluation)
        p = Predictions(np.array([0, 1]), np.eye(4)[:2], windows["session"].to_numpy())
        return windows, {"whole": p}

    def arm():
        return best_model.pooled_arm(
            {0: {0: run}}, {0: SimpleNamespace(store=None, split=None, settings=None)}, tmp_path / "kept", predict
        )["whole"]

    monkeypatch.setattr(best_model, "LoadedRun", lambda folder: None)
    assert (arm().by_seed("accuracy") == arm().by_seed("accuracy")).all() and len(calls) == 1
    monkeypatch.setattr(best_model, "code_hash", lambda: "another")
    arm()
    assert len(calls) == 2, "changed code used predictions of the earlier code"
    later = (tmp_path / "kept" / "another" / f"{run.folder.name}.parquet").stat().st_mtime + 10
    os.utime(run.folder / "predictions.parquet", (later, later))
    arm()
    assert len(calls) == 3, "a run trained again kept its earlier predictions"


def test_causal_evaluation_labels_window_by_its_last_second(store_of, plain_schema, session_of):
    """A model that names the state of the last second is wrong by the majority label after the change."""
    store = store_of([session_of("s0", np.arange(60), np.repeat([0, 1], 30))], plain_schema)
    settings = WindowSettings(10, 10)
    evaluation = EvaluationSet(store, Split({}, {"train": [], "val": [], "test": ["s0"]}), settings, "test")

    def now(windows):
        return store.to_frame()["state"].to_numpy()[windows["row"] + 9]

    with patch.object(
        robustness,
        "predictions_on",
        lambda model, store, w: Predictions(w["label"].to_numpy(), np.eye(4)[now(w)], w["session"].to_numpy()),
    ):
        windows, predictions = second_by_second(None, evaluation)
    assert len(windows) == 51 and (predictions["last"].y_pred == predictions["last"].y_true).all()
    wrong = predictions["majority"].y_pred != predictions["majority"].y_true
    assert 3 <= wrong.sum() <= 5 and set(windows["end"][wrong]) <= set(range(29, 37))


def test_distance_does_not_depend_on_order_of_windows(store_of, plain_schema, session_of):
    store = store_of(
        [session_of(f"s{i}", np.arange(100), np.repeat([0, 1], [50, 50] if i else [90, 10])) for i in range(2)],
        plain_schema,
    )
    settings = WindowSettings(10, 10)
    frame = make_windows(store, settings)
    data = Windows(
        store, frame.assign(part="test"), Split({}, {"train": [], "val": [], "test": ["s0", "s1"]}), settings
    )
    mixed = frame.drop(columns="row").sample(frac=1, random_state=0)
    right = np.isin(mixed["start"], [40, 80])  # near the change of s1 and of s0
    p = Predictions(np.zeros(len(mixed), int), np.eye(4)[np.where(right, 0, 1)])
    table = distance_table(mixed, data, {"model": [p]}).set_index("nearest change of state")
    first = np.where(mixed["session"] == "s1", 100, 0)  # sessions of 100 s each
    placed = mixed.assign(row=mixed["start"].astype(int) + first)
    pd.testing.assert_frame_equal(
        table, by_distance(store, placed, 10, {"model": [p]}).set_index("nearest change of state")
    )
    assert table["windows"].sum() == len(frame) and table["model"].max() > 0 and table["model"].nunique() > 1
