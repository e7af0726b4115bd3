"""Comparisons: which runs are comparable, how runs become rows, and figures that follow from the predictions."""

import json

import numpy as np
import pandas as pd
import pytest

from conveyorguard.cli import main
from conveyorguard.errors import RunError
from conveyorguard.evaluation.compare import compare
from conveyorguard.evaluation.comparison import Row
from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.scores import METRICS
from conveyorguard.reporting.compare_page import write_comparison
from conveyorguard.runs.saved import SavedRun
from tests.support.made_runs import predicted, windows


def cells(make_run, seeds=(0,), right=None):
    right = right or {("sensor", "false"): 0.85, ("both", "true"): 0.95}
    return [
        make_run(f"modality={m}", f"film={f}", f"seed={s}", right=right.get((m, f), 0.8))
        for m in ("sensor", "image", "both")
        for f in ("true", "false")
        for s in seeds
    ]


def test_threshold_on_another_channel_in_each_fold_is_pooled_as_one_shortcut(make_run):
    table, folders = windows(), []
    sessions = np.sort(table["session"].unique())
    for k, channel in enumerate(("CT1", "NTC")):
        of_fold = table[table["session"].isin(sessions[k::2])].reset_index(drop=True)
        folder = make_run("split=kfold", "split.n_folds=2", f"split.fold={k}", table=of_fold)
        path = folder / "shortcuts.parquet"
        elapsed = pd.read_parquet(path)
        pd.concat([elapsed, elapsed.assign(shortcut=f"{channel} threshold")]).to_parquet(path, index=False)
        folders.append(folder)
    shortcuts = [row for row in compare(folders).rows if row.shortcut]
    assert {row.label for row in shortcuts} == {"elapsed seconds only", "threshold of the best channel"}
    assert {len(row.predictions[0].y_true) for row in shortcuts} == {len(table)}


def test_six_cells_are_named_and_seeds_form_one_row(make_run):
    comparison = compare(cells(make_run, seeds=(0, 1)))
    assert {row.label for row in comparison.models} == {
        "Sensor Only",
        "Image Only",
        "Sensor + Image",
        "Sensor + Image + FiLM (Full)",
        "Sensor + FiLM",
        "Image + FiLM",
    }
    assert all(len(row.predictions) == 2 for row in comparison.models) and comparison.sensor_only.label == "Sensor Only"
    best = comparison.models[0]
    assert best.label == "Sensor + Image + FiLM (Full)" == comparison.chosen.label
    row = comparison.table.set_index("arm").loc[best.label]
    seeds = [SavedRun(run.folder).metrics["test"]["macro_f1"] for folds in best.runs.values() for run in folds.values()]
    assert row["macro_f1"] == pytest.approx(np.mean(seeds)) and row["macro_f1_sd"] == pytest.approx(
        np.std(seeds, ddof=1)
    )
    assert row["macro_f1_low"] < row["macro_f1"] < row["macro_f1_high"]


def test_metrics_of_single_run_match_metrics_json(make_run):
    folder = make_run(right=0.8)
    row = compare([folder]).table.iloc[0]
    deployed = json.loads((folder / "metrics.json").read_text())["now"]["test"]
    for name in METRICS:
        assert row[name] == pytest.approx(deployed[name]), name


def test_differences_are_taken_to_sensor_only(make_run):
    comparison = compare(cells(make_run))
    differences = comparison.differences
    against = differences[differences["reference"] == "Sensor Only"].set_index(["arm", "metric"])
    table = comparison.table.set_index("arm")["accuracy"]
    full = against.loc[("Sensor + Image + FiLM (Full)", "accuracy")]
    assert full["difference"] == pytest.approx(table["Sensor + Image + FiLM (Full)"] - table["Sensor Only"])
    assert full["low"] < full["difference"] < full["high"] and full["verdict"] == "better"


def test_folds_are_pooled_into_one_row_per_model(make_run):
    everything = windows()
    folds = [everything[everything["device"].isin([f"dev{d:02d}" for d in range(k, 12, 3)])] for k in range(3)]
    runs = [
        make_run(f"model={m}", "split=kfold", "split.n_folds=3", f"split.fold={k}", table=folds[k], right=r)
        for m, r in (("fusion", 0.95), ("cnn_transformer", 0.8))
        for k in range(3)
    ]
    comparison = compare(runs)
    assert [row.label for row in comparison.models] == ["fusion", "cnn_transformer"]
    assert (
        len(comparison.windows) == len(everything)
        and comparison.resampling.devices == 12
        and comparison.resampling.by_device
    )
    rights = [(SavedRun(r).predictions.query("split == 'test'").eval("y_true == y_pred")).sum() for r in runs[:3]]
    assert comparison.models[0].arm.by_seed("accuracy")[0] == pytest.approx(sum(rights) / len(everything))
    assert "3 of 3 folds" in comparison.protocol
    with pytest.raises(RunError, match="cnn_transformer seed 0: fold 2"):
        compare(runs[:-1])


def test_out_of_fold_validation_is_pooled_and_overlapping_validation_is_refused(make_run):
    everything = windows()
    folds = [everything[everything["device"].isin([f"dev{d:02d}" for d in range(k, 12, 3)])] for k in range(3)]
    runs = {
        split: [
            make_run(f"split={split}", "split.n_folds=3", f"split.fold={k}", table=folds[k], parts=("val",))
            for k in range(3)
        ]
        for split in ("out_of_fold", "kfold")
    }
    comparison = compare(runs["out_of_fold"])
    assert comparison.part == "val" and len(comparison.windows) == len(everything)
    with pytest.raises(RunError, match="their validation parts overlap"):
        compare(runs["kfold"])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("window.stride=5", "window.eval_stride: 10 in run0, 5"),
        ("split.seed=43", "split.seed: 42 in run0, 43"),
        ("split=device", "split.name: auto in run0, device"),
        ("window.label=last", "window.label"),
        ("data=aihub data.root=x", "data: simulated in run0, aihub"),
    ],
)
def test_different_protocols_are_refused_naming_the_setting(make_run, override, named):
    with pytest.raises(RunError, match=named):
        compare([make_run(), make_run(*override.split())])


def test_different_windows_or_labels_are_refused(make_run):
    changed = windows()
    changed.loc[0, "label"] = 2
    with pytest.raises(RunError, match="windows that are not those of"):
        compare([make_run(), make_run("seed=1", table=changed)])
    with pytest.raises(RunError, match="windows that are not those of"):
        compare([make_run(), make_run("seed=1", table=windows().iloc[:-1])])


def test_mix_of_tested_and_untested_runs_is_refused(make_run):
    only_val = make_run("seed=1", parts=("val",))
    with pytest.raises(RunError, match=f"not evaluated on test \\({only_val.name}\\)"):
        compare([make_run(), only_val])
    comparison = compare([only_val])
    assert comparison.part == "val" and any("validation figures" in note for note in comparison.notes)


def test_arms_with_same_model_and_cell_are_labelled_by_differing_settings(make_run):
    comparison = compare([make_run("model.dropout=0.1"), make_run("model.dropout=0.3")])
    assert {row.label for row in comparison.models} == {"fusion model.dropout=0.1", "fusion model.dropout=0.3"}
    comparison = compare(
        [make_run(), make_run("objective=val/accuracy"), make_run("logger=none", "threads=1", "seed=1")]
    )
    assert sorted(len(row.predictions) for row in comparison.models) == [1, 2]  # the objective decides the epoch
    assert not comparison.notes
    assert {row.label for row in comparison.models} == {
        "fusion objective=val/accuracy",
        "fusion objective=val/macro_f1",
    }


def test_unfinished_run_of_multirun_is_left_out_with_note(make_run, tmp_path):
    for number in range(2):
        make_run(f"seed={number}", folder=tmp_path / "many" / str(number))
    (tmp_path / "many" / "2").mkdir()
    (tmp_path / "many" / "2" / "config.yaml").write_text("seed: 2")
    comparison = compare([tmp_path / "many"])
    assert len(comparison.models[0].predictions) == 2 and comparison.notes == ["2 of many is unfinished and left out"]
    with pytest.raises(RunError, match="no finished run"):
        compare([tmp_path])


def test_model_no_better_than_shortcut_gets_warning(make_run):
    comparison = compare([make_run(right=0.4, draw=99)])
    assert any("not shown to be better than the shortcut 'elapsed seconds only'" in s for s in comparison.conclusion())
    assert not any("Warning" in s for s in compare([make_run(right=0.95)]).conclusion())


def test_comparison_page_follows_predictions(make_run, tmp_path, capsys):
    runs = [make_run(f"modality={m}", "film=false", right=r) for m, r in (("sensor", 0.95), ("both", 0.8))]
    out = tmp_path / "out"
    assert main(["compare", *map(str, runs), f"out={out}"]) == 0
    output = capsys.readouterr().out
    assert "Best: Sensor Only" in output and output.strip().endswith("comparison.html")
    before, page = pd.read_csv(out / "comparison.csv"), (out / "comparison.html").read_text()
    assert "Best: Sensor Only" in page and "elapsed seconds only" in page
    # make the other arm nearly perfect: table, order and conclusion follow
    table = predicted(windows(), "test", 0.99, 5)
    rewrite(runs[1], predicted(windows(), "val", 0.99, 5), table)
    write_comparison(compare(runs), out)
    after, page = pd.read_csv(out / "comparison.csv"), (out / "comparison.html").read_text()
    assert before["arm"][0] == "Sensor Only" and after["arm"][0] == "Sensor + Image" and "Best: Sensor + Image" in page
    assert after["accuracy"][0] == pytest.approx((table["y_true"] == table["y_pred"]).mean())


def rewrite(folder, *parts):
    """Replace the predictions of a run, and the metrics that follow from them."""
    pd.concat(parts).to_parquet(folder / "predictions.parquet", index=False)


def test_best_on_test_alone_is_no_winner(make_run):
    """The arm chosen on validation is worse on test than the other: none is called best."""
    chosen, lucky = (make_run(f"modality={m}", "film=false") for m in ("sensor", "both"))
    for folder, val, test in ((chosen, 0.95, 0.8), (lucky, 0.8, 0.95)):
        rewrite(folder, predicted(windows(), "val", val, 3), predicted(windows(), "test", test, 4))
    comparison = compare([chosen, lucky])
    first = comparison.conclusion()[0]
    assert comparison.chosen.label == "Sensor Only" == comparison.models[0].label
    assert first.startswith("No winner: Sensor Only minus Sensor + Image is -") and "Best" not in first
    (row,) = comparison.differences.query("metric == 'macro_f1'").to_dict("records")
    assert (row["arm"], row["verdict"]) == ("Sensor + Image", "better")


def test_lead_that_may_be_zero_names_no_winner(make_run):
    alike = compare([make_run("model.dropout=0.1", right=0.9), make_run("model.dropout=0.3", right=0.9)])
    assert (
        alike.conclusion()[0].startswith("No winner: fusion") and "not shown to be above zero" in alike.conclusion()[0]
    )


def test_few_test_sessions_name_no_winner(make_run):
    few = windows(devices=2, sessions=1)
    comparison = compare([make_run(table=few), make_run("model.dropout=0.3", table=few, right=0.5)])
    assert comparison.conclusion()[0].startswith("No winner: only 2 sessions of test. Highest macro-F1 on validation: ")
    assert set(comparison.differences["verdict"]) == {"not shown"}
    untested = compare([make_run(parts=("val",)), make_run("model.dropout=0.3", parts=("val",), right=0.5)])
    assert untested.conclusion()[0].startswith("No winner: no run was evaluated on test.")


def test_model_that_calls_everything_severe_is_not_safest(make_run):
    good, crier = make_run(right=0.9), make_run("model.dropout=0.3", right=0.9)
    parts = [predicted(windows(), part, 1, 1) for part in ("val", "test")]
    for table in parts:
        for prefix in "pc":
            table[[f"{prefix}{k}" for k in range(4)]] = np.tile([0.01, 0.01, 0.01, 0.97], (len(table), 1))
        table["y_pred"] = 3
    rewrite(crier, *parts)
    comparison = compare([good, crier])
    assert comparison.models[1].mean("severe_recall") == 1
    (sentence,) = [s for s in comparison.conclusion() if "safest" in s.lower()]
    assert (
        f"on validation it is {comparison.chosen.label}," in sentence and "right at least 50% of the time" in sentence
    )
    rewrite(good, *parts)  # now both do
    assert any(s.startswith("No safest model: there is none") for s in compare([good, crier]).conclusion())


def test_faster_model_is_named_only_where_shown_to_be_as_good(make_run, monkeypatch):
    seconds = {"fusion": 100.0, "cnn_transformer": 1.0}
    monkeypatch.setattr(Row, "mean_fact", lambda row, name: seconds[row.label])

    slow, fast = make_run(draw=1), make_run("model=cnn_transformer", draw=1)
    rewrite(slow, predicted(windows(), "val", 0.99, 3), predicted(windows(), "test", 0.8, 4))
    rewrite(fast, predicted(windows(), "val", 0.9, 3), predicted(windows(), "test", 0.95, 4))
    assert (
        "Fastest to train of those shown to be at most half a point of macro-F1 below fusion: cnn_transformer, 1.0 s."
    ) in compare([slow, fast]).conclusion()
    rewrite(fast, predicted(windows(), "val", 0.9, 3), predicted(windows(), "test", 0.8, 5))  # its bound is lower
    assert "No model that trains faster is shown to be at most half a point of macro-F1 below fusion." in (
        compare([slow, fast]).conclusion()
    )


def test_verdicts_of_table_carry_holms_correction(make_run, monkeypatch):
    comparison = compare(cells(make_run))
    alone = [Interval.of(row, "difference", "low", "high").verdict for row in comparison.differences.to_dict("records")]
    assert comparison.differences["verdict"].isin(["better", "worse", "not shown"]).all()
    adjusted = list(comparison.differences["verdict"])
    assert adjusted.count("not shown") > alone.count("not shown"), "some are shown alone, not among so many"


def test_missing_run_directory_is_refused_by_name(tmp_path, capsys):
    assert main(["compare", str(tmp_path / "nothing")]) == 2
    assert "no such directory" in capsys.readouterr().err
    assert main(["compare"]) == 2 and "usage" in capsys.readouterr().err


def test_page_rows_name_run_directory_and_command(make_run, tmp_path):
    runs = cells(make_run)
    page = write_comparison(compare(runs), tmp_path / "out").read_text()
    for run in runs:
        command = SavedRun(run).provenance["command"]
        assert f'<tr title="{run.name}: {command}">' in page
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("runs")
    assert table["command"].dropna().to_dict() == {run.name: SavedRun(run).provenance["command"] for run in runs}


def test_validation_figures_follow_predictions(make_run):
    folder = make_run(right=0.8)
    table = pd.read_parquet(folder / "predictions.parquet")
    for prefix in "pc":
        table[[f"{prefix}{k}" for k in range(4)]] = np.eye(4, dtype=np.float32)[table["y_true"]]
    table.to_parquet(folder / "predictions.parquet", index=False)
    row = compare([folder]).table.iloc[0]
    assert row["validation_accuracy"] == row["validation_macro_f1"] == row["accuracy"] == 1


def test_too_few_sessions_give_one_warning(make_run):
    few = windows(devices=1, sessions=3)
    comparison = compare([make_run(table=few), make_run("seed=1", "model.dropout=0.3", table=few)])
    warnings = [sentence for sentence in comparison.conclusion() if sentence.startswith("Warning")]
    assert len(warnings) == 1 and "only 3 sessions, too few" in warnings[0]


def test_ablation_groups_runs_that_differ_in_modality_and_film_alone(make_run):
    six = cells(make_run)
    comparison = compare([*six, make_run("model=cnn_transformer"), make_run("model.dropout=0.1", "modality=sensor")])
    (family,) = comparison.ablations
    assert set(family) == {row.cell for row in compare(six).models} and len(family) == 6
    assert {row.model for row in family.values()} == {"fusion"}
