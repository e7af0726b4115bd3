"""Run directories and a study of earlier versions (`tests/fixtures`) still open, with the same results."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from conveyorguard.cli import main
from conveyorguard.reporting.study_page import write_study_page
from tests.support.places import ROOT

pytestmark = pytest.mark.promise("code", "Run directories and a study of earlier versions open.")

FIXTURES = ROOT / "tests" / "fixtures"
SINGLE = ["fusion", "cnn_transformer", "lightgbm", "extra_trees"]
ENSEMBLES = ["ensemble/soft", "ensemble/weighted", "ensemble/stacking"]
DATA = ["data.sessions=12", "data.seed=0"]  # of all old runs
# The command of fixtures/study without the folder of the study, which each test gives.
SWEEP = [
    "-m",
    "sweep=optuna",
    "model=fusion",
    "modality=sensor",
    "data.sessions=12",
    "threads=1",
    "model.width=choice(4,8)",
    "optimizer.lr=tag(log,interval(2e-3,2e-2))",
    "scaling.bins=4",
    "model.dilations=[1,2]",
    "model.sparsity=1",
    "batch_size=16",
    "trainer.max_epochs=3",
    "sweep.pruner.n_startup_trials=5",
    "sweep.pruner.n_warmup_steps=0",
    "sweep.n_trials=8",
    "sweep.timeout=null",
    "sweep.study=small",
]
SAME_MODEL = 1e-6  # tolerance of probabilities; on the processor that the runs were made on they are equal bit for bit


@pytest.fixture(autouse=True)
def one_process():
    """One process and one thread: the old runs used one thread, and their data are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with joblib.parallel_config(backend="sequential"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def old_run(tmp_path):
    """Copies an old run by its name; the copy keeps the name of the folder."""

    def copy(name):
        return shutil.copytree(FIXTURES / "runs" / name, tmp_path / "runs" / name)

    return copy


@pytest.fixture
def old_study(tmp_path):
    """A copy of the old study, with the absolute path of the copy in its journal, as sweepers write it."""
    folder = shutil.copytree(FIXTURES / "study", tmp_path / "study")
    journal = folder / "journal.log"
    text = journal.read_text(encoding="utf-8")
    path = json.dumps(str(folder))[1:-1]
    text = text.replace('"folder":"study"', f'"folder":"{path}"').replace('"dir":"study/', f'"dir":"{path}/')
    journal.write_text(text, encoding="utf-8")
    return folder


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def checked(run, capsys):
    """Verdicts of the checks of a run's files, by check; no check may fail."""
    assert main(["check", str(run), "depth=files"]) == 0
    lines = capsys.readouterr().out
    assert lines.strip().endswith("no check failed")
    return {name: verdict for verdict, name in re.findall(r"^ *(ok|FAILED|not checked)  ([^:]+):", lines, re.MULTILINE)}


def must_be_the_stored(run, predictions):
    """Assert that predictions of validation and test windows equal those stored in the old run."""
    key = ["session", "start"]
    stored = pd.read_parquet(run / "predictions.parquet").set_index(key)
    again = predictions.set_index(key)
    assert not again.index.has_duplicates and stored.index.isin(again.index).all()
    again = again.loc[stored.index]
    assert (again[["end", "device", "y_true", "y_pred"]] == stored[["end", "device", "y_true", "y_pred"]]).all().all()
    p = ["p0", "p1", "p2", "p3"]
    assert np.abs(again[p].to_numpy(float) - stored[p].to_numpy(float)).max() <= SAME_MODEL
    # stored c of validation are cross-fitted over its devices; those of test use the run's one temperature
    test, c = stored["split"] == "test", ["c0", "c1", "c2", "c3"]
    assert np.abs(again.loc[test, c].to_numpy(float) - stored.loc[test, c].to_numpy(float)).max() <= 10 * SAME_MODEL


@pytest.mark.parametrize("name", [*SINGLE, *ENSEMBLES])
def test_old_run_gets_page_and_card_and_passes_the_checks_of_its_files(old_run, name, capsys):
    run = old_run(name)
    before = checked(run, capsys)  # with the card of the old version, without a page
    (run / "MODEL_CARD.md").unlink()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    page, card = ((run / file).read_text(encoding="utf-8") for file in ("report.html", "MODEL_CARD.md"))
    for figures in metrics_of(run).values():
        for figure in (figures["accuracy"], figures["macro_f1"]):
            assert f"{100 * figure:.1f} %" in card
    assert f"{100 * metrics_of(run)['test']['accuracy']:.1f} %" in page
    after = checked(run, capsys)
    assert before.keys() == after.keys()
    unchecked = {check for check, verdict in after.items() if verdict != "ok"}
    assert unchecked == ({"examples match predictions"} if name in ENSEMBLES else set())


def test_old_runs_are_compared_with_their_stored_figures(old_run, tmp_path, capsys):
    runs, out = {Path(name).name: old_run(name) for name in (*SINGLE, *ENSEMBLES)}, tmp_path / "comparison"
    assert main(["compare", *map(str, runs.values()), f"out={out}"]) == 0
    assert capsys.readouterr().out.strip().endswith(str(out / "comparison.html"))
    page, table = (out / "comparison.html").read_text(encoding="utf-8"), pd.read_csv(out / "comparison.csv")
    models = table[~table["shortcut"]].set_index("runs")
    assert set(models.index) == set(runs) and table["shortcut"].any()
    for name, run in runs.items():
        stored = metrics_of(run)
        assert models.loc[name, "arm"] in page
        assert models.loc[name, "validation_macro_f1"] == pytest.approx(stored["val"]["macro_f1"], abs=1e-12)
        shown = [key for key in stored["test"] if key in table]
        assert {"accuracy", "macro_f1", "severe_recall", "severe_sessions_missed", "qwk", "nll", "ece"} <= set(shown)
        for key in shown:
            figure = stored["test"][key]  # null: no window was predicted severe
            figure = np.nan if figure is None else figure
            assert models.loc[name, key] == pytest.approx(figure, abs=1e-12, nan_ok=True), (name, key)


@pytest.mark.parametrize("name", SINGLE)
def test_old_run_predicts_its_stored_probabilities(old_run, name, tmp_path):
    run, out = old_run(name), tmp_path / "predicted"
    assert main(["predict", str(run), f"out={out}"]) == 0  # the recordings of its config, simulated anew
    assert (out / "predictions.html").is_file()
    must_be_the_stored(run, pd.read_parquet(out / "predictions.parquet"))


@pytest.mark.slow
def test_old_run_predicts_its_stored_probabilities_from_archives(old_run, tmp_path, capsys):
    archives = tmp_path / "archives"
    assert main(["simulate", str(archives), *DATA]) == 0
    sessions = pd.read_parquet(FIXTURES / "runs" / SINGLE[0] / "predictions.parquet")["session"]
    wanted = {name[2:] for name in sessions}  # without TS or VS; an archive of labels begins with TL or VL
    for path in archives.rglob("*.zip"):
        if path.stem[2:] not in wanted:  # of a recording that trained
            path.unlink()
    for name in SINGLE:
        run, out = old_run(name), tmp_path / "predicted" / name
        assert main(["predict", str(run), f"data.root={archives}", f"out={out}"]) == 0
        assert "read as archives of AI Hub" in capsys.readouterr().out
        must_be_the_stored(run, pd.read_parquet(out / "predictions.parquet"))


def test_ensemble_of_old_runs_gives_the_stored_probabilities(old_run, tmp_path):
    members, out = [old_run("fusion"), old_run("lightgbm")], tmp_path / "combined"
    assert main(["ensemble", *map(str, members), f"out={out}"]) == 0
    for name in ENSEMBLES:
        again, stored = (pd.read_parquet(run / "predictions.parquet") for run in (out / Path(name).name, old_run(name)))
        p = ["p0", "p1", "p2", "p3"]
        assert (again[["split", "session", "start"]] == stored[["split", "session", "start"]]).all().all()
        assert np.abs(again[p].to_numpy() - stored[p].to_numpy()).max() <= SAME_MODEL, name


def test_old_study_gets_its_page_and_table(old_study, capsys):
    storage = JournalStorage(JournalFileBackend(str(old_study / "journal.log")))
    stored = pd.read_csv(old_study / "trials.csv")
    (old_study / "trials.csv").unlink()
    page = write_study_page(optuna.load_study(study_name="small", storage=storage), old_study)
    assert page == old_study / "study.html" and capsys.readouterr().out.strip().endswith(str(page))
    must_be_the_page_of_the_study(page.read_text(encoding="utf-8"))
    pd.testing.assert_frame_equal(pd.read_csv(old_study / "trials.csv")[list(stored)], stored)


@pytest.mark.slow
def test_command_of_a_finished_old_study_trains_nothing(old_study):
    journal, folders = old_study / "journal.log", sorted(old_study.iterdir())
    lines = len(journal.read_text(encoding="utf-8").splitlines())
    # sweep.free: settings that are new since then would otherwise make it another study
    command = ["-m", "conveyorguard", "train", *SWEEP, "sweep.free=['*']", f"hydra.sweep.dir={old_study.name}"]
    root = str(ROOT)
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, *command], cwd=old_study.parent, capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 COMPLETE, 1 PRUNED, 1 FAILED" in done.stdout and "best: trial 7, 0.661765" in done.stdout
    must_be_the_page_of_the_study((old_study / "study.html").read_text(encoding="utf-8"))
    written = {path.name for path in old_study.iterdir()} - {path.name for path in folders}
    assert written == {"study.html", "sweep.lock"}
    added = journal.read_text(encoding="utf-8").splitlines()[lines:]
    assert [line for line in added if "trial" in line] == []


def must_be_the_page_of_the_study(html):
    for what, count in (("complete", 7), ("pruned", 1), ("failed", 1), ("epochs trained, of at most 27", 22)):
        assert f"<b>{count}</b><span>{what}</span>" in html
    assert "<b>0.6618</b><span>best val/accuracy, trial 7</span>" in html
    assert "model.width=8 optimizer.lr=0.008149163662785792" in html  # of the command that trains the best again
    assert "killed, is tried again" in html and "fANOVA on 7 complete trials" in html
    for number in range(9):
        assert f'<a href="{number}/trial.log">{number}</a>' in html


@pytest.mark.slow
def test_old_run_is_reproduced_diagnosed_and_compared_with_a_new_one(tmp_path, capsys, monkeypatch):
    old = Path(shutil.copytree(FIXTURES / "runs" / "lightgbm", tmp_path / "lightgbm"))
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", str(old)]) == 0
    printed = capsys.readouterr().out
    assert "Equal, bit for bit." in printed and "data fingerprint" not in printed
    (new,) = (tmp_path / "outputs").rglob("*-reproduce-lightgbm")
    fusion = Path(shutil.copytree(FIXTURES / "runs" / "fusion", tmp_path / "fusion"))
    assert main(["compare", str(new), str(fusion)]) == 0
    assert main(["diagnose", str(old)]) == 0
