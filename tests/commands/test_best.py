"""The verb `best`: plan, folds, choice, and going on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from conveyorguard.commands.candidates import candidates, fit_into
from conveyorguard.runs.saved import SavedRun
from tests.support.places import ROOT

SMALL = ["data.sessions=16", "trainer.max_epochs=4", "threads=1", "modality=sensor"]


def names(overrides, sensors=True, camera=True):
    listed, rest = candidates(overrides, sensors, camera)
    return [c.name for c in listed], rest


def test_modality_and_film_restrict_the_candidates():
    trees = ["logistic_regression", "lightgbm", "extra_trees", "log_mean"]
    assert names(["seed=1"]) == ([*trees, "fusion-sensor", "fusion-both"], ["seed=1"])
    assert names(["modality=sensor", "film=true,false"])[0] == [*trees, "fusion-sensor", "fusion-sensor-nofilm"]
    assert names([], camera=False)[0] == [*trees, "fusion-sensor"]
    listed, _ = candidates(["modality=image"], True, True)
    assert all("modality=image" in c.overrides for c in listed)


def test_plan_leaves_out_what_does_not_fit_and_keeps_the_first():
    seconds = {
        "logistic_regression": 5.0,
        "lightgbm": 30.0,
        "extra_trees": 30.0,
        "log_mean": 50.0,
        "fusion-both": 900.0,
    }
    assert fit_into(seconds, 3) == (["logistic_regression", "lightgbm", "extra_trees", "log_mean"], ["fusion-both"])
    assert fit_into(seconds, 0)[0] == ["lightgbm"]
    assert fit_into(seconds, 60)[1] == []


def shell(folder, cache, *words, wait=True):
    line = [sys.executable, "-m", "conveyorguard", "best", *SMALL, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CONVEYORGUARD_CACHE": str(cache)}
    process = subprocess.Popen(
        line, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if not wait:
        return process
    out, error = process.communicate(timeout=900)
    return subprocess.CompletedProcess(line, process.returncode, out, error)


@pytest.mark.slow
@pytest.mark.promise("crashes", "A killed `best` goes on where it was, and ends with the same choice and model.")
def test_killed_search_goes_on_and_ends_like_an_uninterrupted_one(tmp_path, cache):
    """Killed inside the trees and inside the network, whose training is resumed from its last epoch."""
    whole = shell(tmp_path, cache, "out=whole")
    assert whole.returncode == 0, whole.stderr
    for place in ("extra_trees/fold1/provenance.json", "fusion-sensor/fold1/checkpoints/last.ckpt"):
        process = shell(tmp_path, cache, "out=killed", wait=False)
        end = time.time() + 300
        while not (tmp_path / "killed" / "folds" / place).exists():
            assert process.poll() is None and time.time() < end, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "killed" / "best.html").exists()
    done = shell(tmp_path, cache, "out=killed")
    assert done.returncode == 0, done.stderr
    tables = [pd.read_csv(tmp_path / name / "best.csv") for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*tables)
    runs = [SavedRun(tmp_path / name / "model") for name in ("whole", "killed")]
    assert runs[0].predictions.equals(runs[1].predictions)
    assert not (tmp_path / "killed/folds/fusion-sensor/fold0/metrics.json").read_text().count('"test"')  # test unseen
    page = (tmp_path / "whole" / "best.html").read_text(encoding="utf-8")
    assert "; the state now, at the end of a window" in page
    assert all(name in page for name in tables[0]["candidate"]) and "Would more recordings help?" in page
    again = shell(tmp_path, cache, "out=whole", "seed=3")
    assert again.returncode == 2 and "plan.json: was made with other overrides" in again.stderr


@pytest.mark.slow
def test_chosen_model_is_a_run_that_other_verbs_take(tmp_path, cache):
    done = shell(tmp_path, cache, "minutes=0", "out=found")
    assert done.returncode == 0 and "left out" in done.stderr, done.stderr
    assert done.stdout.splitlines()[-1] == "found/best.html"
    assert json.loads((tmp_path / "found/plan.json").read_text())["candidates"][0]["name"] == "lightgbm"
    run = SavedRun(tmp_path / "found/model")
    val = run.rows("val")
    folds = [SavedRun(tmp_path / f"found/folds/lightgbm/fold{k}") for k in range(run.settings["split"]["n_folds"])]
    assert (
        val["session"].nunique()
        == len(run.saved_split["sessions"]["train"])
        == sum(len(fold.saved_split["sessions"]["val"]) for fold in folds)
    )
    for fold in folds:  # predicted by the model that was not trained on it
        rows = fold.rows("val").set_index(["session", "start"])["p0"]
        mine = val.set_index(["session", "start"])["p0"].loc[rows.index]
        assert np.array_equal(rows, mine) and "test" not in fold.metrics
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CONVEYORGUARD_CACHE": str(cache)}
    for words in (
        ["check", "found/model", "depth=data"],
        ["report", "found/model"],
        ["compare", "found/model"],
        ["predict", "found/model", "data.sessions=16", "out=predicted"],
        ["reproduce", "found/model"],
    ):
        verb = subprocess.run(
            [sys.executable, "-m", "conveyorguard", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert verb.returncode == 0, (words, verb.stdout, verb.stderr)
