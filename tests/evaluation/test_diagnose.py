"""Diagnoses: tables from runs and store, the rule of the advice, and refusal of runs that are not comparable."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from conveyorguard.cli import main as verb
from conveyorguard.commands.learning_curve import train_on_devices
from conveyorguard.commands.train import train
from conveyorguard.config.compose import compose_config
from conveyorguard.data.splits import Split
from conveyorguard.data.windows import WindowSettings
from conveyorguard.errors import RunError
from conveyorguard.evaluation.advice import advise, cascade, cascade_threshold
from conveyorguard.evaluation.breakdown import by_distance, change_distance
from conveyorguard.evaluation.diagnose import arm_notes, companions, diagnose
from conveyorguard.evaluation.robustness import EvaluationSet, against_single, with_starts_cut
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.resampling import Arm, resample
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.data import load_store, load_windows
from conveyorguard.runs.saved import SavedRun
from experiments.stages.best_model import elapsed_arm, pooled_arm
from tests.support.made_runs import windows

TINY = ["data=simulated", "data.sessions=12", "trainer=cpu", "trainer.max_epochs=1", "threads=1"]


@pytest.fixture(scope="session")
def multirun(tmp_path_factory):
    """A multirun of tree arms, which train fast, and a network; tests only read it."""
    folder = tmp_path_factory.mktemp("multirun")
    tree = ["model=lightgbm", "model.n_estimators=20", "features=extended"]
    for name, overrides in {
        "both": ["modality=both", *tree],
        "sensor": ["modality=sensor", *tree],
        "image": ["modality=image", *tree],
        "network": ["model=fusion", "modality=sensor", "scaling.from_start=false"],
    }.items():
        cfg = compose_config([*TINY, f"paths.cache={folder.parent / 'stores'}", *overrides])
        train(cfg, folder / name, overrides)
    return folder


def test_run_is_diagnosed_with_runs_beside_it(multirun, tmp_path, capsys):
    assert verb(["diagnose", str(multirun / "both"), f"out={tmp_path}"]) == 0
    assert "Recommendation:" in capsys.readouterr().out
    page = (tmp_path / "diagnose.html").read_text()
    assert "data; the state now, at the end of a window of 30 s" in page
    assert "Recommendation" in page and "camera frozen" in page and "Sensor only (or image only)" in page
    arms = pd.read_csv(tmp_path / "diagnose_arms.csv")
    assert arms["run"].tolist() == ["both", "sensor", "image", "network"]
    for name, run in zip(arms["run"], arms["macro_f1"], strict=True):
        assert run == pytest.approx(SavedRun(multirun / name).metrics["test"]["macro_f1"], abs=1e-6)
    corruption = pd.read_csv(tmp_path / "diagnose_corruption.csv").set_index(["corruption", "arm"])
    # an arm without the camera is not affected by its failure, nor the camera alone by the sensors
    assert (corruption.xs("camera black")["fall"].loc[["sensors alone", "fusion"]] == 0).all()
    assert corruption.loc[("sensor noise x4", "camera alone"), "fall"] == 0
    assert corruption.loc[("camera black", "camera alone"), "fall"] > 0
    shares = pd.read_csv(tmp_path / "diagnose_attribution.csv").groupby("arm")["share"].sum()
    assert (shares.round(6).isin([0, 1])).all() and shares["lightgbm"] == pytest.approx(1)
    cut = pd.read_csv(tmp_path / "diagnose_start_cut.csv").set_index("arm")
    assert cut.loc["fusion", "change"] == 0 and cut["windows"].nunique() == 1


@pytest.mark.slow
def test_learning_curve_is_reused_and_resumed(multirun, tmp_path, capsys):
    assert (
        verb(["diagnose", str(multirun / "both"), f"out={tmp_path}", "curve=99"]) == 2
        and "train_devices" in capsys.readouterr().err
    )
    assert (tmp_path / "diagnose.html").exists(), "the diagnosis is kept"
    assert verb(["diagnose", str(multirun / "both"), f"out={tmp_path}", "curve=2"]) == 0
    curve = pd.read_csv(tmp_path / "diagnose_curve.csv")
    assert set(curve["devices"]) == {2} and curve["arm"].tolist() == ["lightgbm", "fusion"]
    shorter = SavedRun(tmp_path / "curve" / curve["run"][0])
    whole = SavedRun(multirun / "both")
    assert shorter.provenance["sessions"]["train"] < whole.provenance["sessions"]["train"]
    assert shorter.split.sessions["test"] == SavedRun(multirun / "both").split.sessions["test"]
    written = (tmp_path / "curve" / curve["run"][0] / "metrics.json").stat().st_mtime_ns
    assert verb(["diagnose", str(multirun / "both"), f"out={tmp_path}", "curve=2"]) == 0
    assert (tmp_path / "curve" / curve["run"][0] / "metrics.json").stat().st_mtime_ns == written  # reused
    network = tmp_path / "curve" / curve["run"][1]
    provenance = json.loads((network / "provenance.json").read_text())
    (network / "provenance.json").write_text(json.dumps({**provenance, "status": "running"}))  # the state after kill -9
    again = train_on_devices(SavedRun(multirun / "network"), 2, network, [])
    assert again.provenance["resumed_from"] == "last.ckpt" and "resumed_from" not in provenance


def test_runs_and_data_that_are_not_comparable_are_refused(multirun, tmp_path, capsys):
    run = SavedRun(multirun / "both")
    other = tmp_path / "other"
    train(
        compose_config(
            [
                *TINY,
                f"paths.cache={multirun.parent / 'stores'}",
                "model=lightgbm",
                "model.n_estimators=5",
                "split.seed=1",
            ]
        ),
        other,
        [],
    )
    with pytest.raises(RunError, match="another split"):
        companions(run, [other])
    store = load_store(compose_config([*TINY, f"paths.cache={multirun.parent / 'stores'}", "data.seed=5"]))
    with pytest.raises(RunError, match=r"data\.root"):
        diagnose(multirun / "both", [], store)
    assert verb(["diagnose"]) == 2 and "usage" in capsys.readouterr().err
    assert verb(["diagnose", str(multirun / "both"), "curve=many"]) == 2 and "curve=4,8,16" in capsys.readouterr().err


def of_modality(*others):
    return ["split=kfold", "split.n_folds=3", *others]


def test_advice_follows_the_rule(make_run, tmp_path):
    def choice(both, sensor, image=0.5, draw=None):
        runs = {
            name: SavedRun(make_run(*of_modality(f"modality={name}"), right=right, draw=draw))
            for name, right in (("both", both), ("sensor", sensor), ("image", image))
        }
        return advise(
            runs["both"],
            {"fusion": runs["both"], "sensors alone": runs["sensor"], "camera alone": runs["image"]},
            "test",
        ).choice

    assert choice(0.9, 0.9) == "sensor only"
    assert choice(0.5, 0.5, 0.9) == "image only"
    assert choice(0.99, 0.7) == "fuse"  # equally sure where it is wrong: a cascade cannot know when to ask
    val_only = [
        SavedRun(
            make_run(*of_modality(f"modality={name}"), right=0.7 if name == "sensor" else 0.99, draw=i, parts=("val",))
        )
        for i, name in enumerate(("both", "sensor"))
    ]
    reason = advise(val_only[0], {"fusion": val_only[0], "sensors alone": val_only[1]}, "val").reasons[0]
    assert reason.count("on validation") == 2 and ";" not in reason, "validation is reported once"
    alone = SavedRun(make_run(*of_modality("modality=both")))
    assert advise(alone, {"fusion": alone}, "test").choice == ""


def test_no_modality_is_recommended_without_an_interval(make_run):
    few = windows(devices=3, sessions=2)
    both, sensor = (
        SavedRun(make_run(*of_modality(f"modality={name}"), right=right, table=few))
        for name, right in (("both", 0.7), ("sensor", 0.95))
    )
    advice = advise(both, {"fusion": both, "sensors alone": sensor}, "test")
    assert advice.choice == ""
    assert advice.reasons[-1] == "Nothing is recommended: only 6 sessions of validation, too few for an interval."


def test_lead_of_better_modality_stands_beside_the_recommendation(make_run):
    both, sensor, image = (
        SavedRun(make_run(*of_modality(f"modality={name}"), right=right, draw=i))
        for i, (name, right) in enumerate((("both", 0.7), ("sensor", 0.6), ("image", 0.95)))
    )
    advice = advise(both, {"fusion": both, "sensors alone": sensor, "camera alone": image}, "test")
    assert advice.choice == "image only"
    assert advice.reasons[1].startswith("Camera alone against sensors alone: +")
    assert advice.reasons[1].endswith(": better.")


def test_advice_decides_on_validation_and_reports_test(make_run, monkeypatch):
    both, sensor = (
        SavedRun(make_run(*of_modality(f"modality={name}"), right=right, draw=7))
        for name, right in (("both", 0.9), ("sensor", 0.9))
    )
    gains = {"val": Interval(0.02, 0.01, 0.03), "test": Interval(-0.01, -0.02, 0.005)}
    monkeypatch.setattr("conveyorguard.evaluation.advice.fusing_gain", lambda run, single, part: gains[part])
    advice = advise(both, {"fusion": both, "sensors alone": sensor}, "test")
    assert advice.choice in ("cascade", "fuse")
    assert (
        "+2.0 points of macro-F1 on validation (+1.0 to +3.0): better; -1.0 points of macro-F1 on test"
        in advice.reasons[0]
    )
    gains["val"] = Interval(0.004, 0.001, 0.007)
    assert advise(both, {"fusion": both, "sensors alone": sensor}, "test").choice == "sensor only", (
        "less than half a point is not worth a second model"
    )
    gains["val"], gains["test"] = gains["test"], gains["val"]
    assert advise(both, {"fusion": both, "sensors alone": sensor}, "test").choice == "sensor only"


def test_sessions_too_short_for_cut_start_are_diagnosed_without_it(multirun, tmp_path, monkeypatch):
    monkeypatch.setattr("conveyorguard.evaluation.robustness.LONGEST_CUT", 10_000)
    assert verb(["diagnose", str(multirun / "both"), str(multirun / "sensor"), f"out={tmp_path}"]) == 0
    assert "no window remains when up to 100 s are cut off" in (tmp_path / "diagnose.html").read_text()
    assert not (tmp_path / "diagnose_start_cut.csv").exists()
    for name in ("sensor", "network"):
        model = LoadedRun(multirun / name)
        data = load_windows(model.run.config)
        kept, predictions = with_starts_cut(model, EvaluationSet(data.store, data.split, data.settings, "test"))
        assert len(kept) == 0 and {p.p.shape for p in predictions.values()} == {(0, 4)}
    assert (
        elapsed_arm({0: data}) == {} == pooled_arm({0: {0: model.run}}, {0: data}, tmp_path / "tried", with_starts_cut)
    )


def test_missing_or_differently_trained_arms_are_noted(make_run):
    run, sensor, noisy, trees = (
        SavedRun(make_run(*overrides))
        for overrides in (
            ["model=fusion"],
            ["model=fusion", "modality=sensor"],
            ["model=fusion", "modality=image", "augment.noise=3", "mixup=0.5"],
            ["model=lightgbm"],
        )
    )
    assert arm_notes({"fusion": run, "sensors alone": sensor, "camera alone": sensor, "lightgbm": trees}) == []
    alone, without_trees = arm_notes({"fusion": run, "sensors alone": sensor})
    assert "Not given: camera alone" in alone and "Not given: trees" in without_trees
    (note,) = arm_notes({"fusion": run, "sensors alone": sensor, "camera alone": noisy, "lightgbm": trees})
    assert note.startswith("camera alone: trained with other augment and mixup than fusion")
    short = SavedRun(make_run("model=fusion", "modality=image", "film=false", "trainer.max_epochs=3"))
    (note,) = arm_notes({"fusion": run, "sensors alone": sensor, "camera alone": short, "lightgbm": trees})
    assert note.startswith("camera alone: trained with other film and trainer.max_epochs than fusion")


def test_cascade_asks_fused_model_where_single_is_unsure():
    y = np.repeat([0, 1], 50)
    fused = Predictions(y, np.eye(2)[y])
    unsure = np.arange(100) % 5 == 0
    wrong = np.where(unsure, 1 - y, y)
    single = Predictions(
        y, np.where(unsure[:, None], 0.4 * np.eye(2)[y] + 0.6 * np.eye(2)[wrong], 0.05 + 0.9 * np.eye(2)[y])
    )
    threshold, asked, cost = cascade_threshold(fused, single)
    assert 0.6 < threshold <= 0.95 and asked == pytest.approx(0.2) and cost <= 0.005
    assert (cascade(fused, single, threshold).y_pred == y).all()


def test_missed_sessions_under_corruption_are_those_of_worst_seed():
    y, session = np.repeat([0, 3], 20), np.tile(np.repeat([f"s{i}" for i in range(10)], 2), 2)
    resampling = resample(session, session)
    seeing, blind = (Predictions(y, np.eye(4)[guess], session) for guess in (y, np.zeros(40, int)))
    (row,) = against_single(
        {"dead": Arm([seeing, blind], resampling)}, {"alone": {"dead": Arm([seeing], resampling)}}
    ).to_dict("records")
    assert (row["severe_sessions_missed"], row["severe_recall"], row["seeds"]) == (10, 0.5, "2, 1")
    assert row["verdict"] == "not shown" and row["difference"] < -0.3, "alike without each session: no interval"


def test_corruption_holds_only_where_bound_lies_above_tolerance():
    rng = np.random.default_rng(0)
    session = np.repeat([f"s{i:02}" for i in range(20)], 50)
    y = rng.integers(4, size=1000)

    def arm(right, groups=session):
        guess = np.where(rng.random(1000) < right, y, (y + 1) % 4)
        return Arm([Predictions(y, np.eye(4)[guess], groups)], resample(groups, groups))

    single, poor = arm(0.8), arm(0.5)
    tables = {
        "equal": (single, single),
        "better": (arm(0.95), single),
        "unclear": (arm(0.79), single),
        "worse": (poor, single),
    }
    fused, alone = ({name: pair[i] for name, pair in tables.items()} for i in (0, 1))
    table = against_single(fused, {"alone": alone}).set_index("corruption")["verdict"]
    assert table.to_dict() == {"equal": "not shown", "better": "holds", "unclear": "not shown", "worse": "falls below"}
    few = np.repeat(["a", "b"], 500)
    pair = [arm(right, few) for right in (0.95, 0.5)]
    (row,) = against_single({"dead": pair[0]}, {"alone": {"dead": pair[1]}}).to_dict("records")
    assert row["verdict"] == "not shown" and row["difference"] > 0.3, "no interval, so nothing holds"


def test_distance_to_nearest_change_of_state(store_of, plain_schema, session_of):
    states = [np.repeat([0, 1], 50), np.zeros(100, int)]
    store = store_of(
        [session_of(f"s{i}", np.arange(100), s, device=f"d{i}") for i, s in enumerate(states)], plain_schema
    )
    rows = np.array([0, 25, 45, 50, 70, 90, 100, 150])
    assert change_distance(store, rows, 10).tolist() == [41, 16, 0, 1, 21, 41, np.inf, np.inf]
    assert store.session_start[150] == 100
    windows = pd.DataFrame({"row": rows, "session": "s", "device": "d"})
    p = Predictions(np.zeros(8, int), np.eye(4)[[0, 0, 1, 1, 0, 0, 0, 0]])
    table = by_distance(store, windows, 10, {"model": [p]}).set_index("nearest change of state")
    assert table["windows"].to_dict() == {
        "a change within the window": 1,
        "up to 10 s": 1,
        "up to 30 s": 2,
        "up to 60 s": 2,
        "no change": 2,
    }
    assert table["model"].tolist() == [0, 0, 1, 1, 1]


def test_distances_and_cut_starts_are_seconds_where_a_row_is_ten(store_of, plain_schema, session_of):
    sessions = [session_of(f"s{i}", np.arange(150), np.repeat([0, 1], 75), device=f"d{i}") for i in range(12)]
    store = store_of([replace(session, period=10.0) for session in sessions], plain_schema)
    assert change_distance(store, np.array([0, 70, 75]), 10).tolist() == [660.0, 0.0, 10.0]
    everything = Split({}, {"train": [], "val": [], "test": [session.name for session in sessions]})
    view, kept, begin = EvaluationSet(store, everything, WindowSettings(10, 10, period=10.0), "test").starts_cut
    cut = np.asarray(view.quality) != np.asarray(store.quality)
    assert len(kept) and not cut[kept["row"]].any(), "a window that remains has lost no row"
    first = store.session_start[kept["row"]]
    assert begin.tolist() == [10.0 * cut[a : a + 150].sum() for a in first] and begin.max() > 100
