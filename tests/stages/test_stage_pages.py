"""Pages of stages 02 to 07, drawn from run directories with made-up predictions."""

import json
import re
import shutil

import optuna
import pandas as pd
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.reporting.site import Site
from conveyorguard.runs.saved import SavedRun
from experiments.stages import seed_figures
from experiments.stages.final_page import write_ensemble_stage, write_final
from experiments.stages.network_page import write_baseline
from experiments.stages.study import TITLES
from experiments.stages.trees_page import write_trees
from experiments.stages.tuning_page import FULL, Tuning, write_tuning
from tests.support.made_runs import run_maker
from tests.support.pages import missing_of
from tests.support.places import ROOT

TRAINED = ROOT / "tests" / "fixtures" / "runs" / "cnn_transformer"
EVIL = "<img src=x>"


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path, "Study", TITLES, EVIL, [("command", EVIL)])


@pytest.fixture
def run(tmp_path, schema_node):
    """Write the run directory runs/<name>, and return it as a SavedRun; networks have a history and a checkpoint."""
    make = run_maker(tmp_path / "runs", schema_node)

    def save(name, *overrides, **settings):
        folder = make(*overrides, folder=tmp_path / "runs" / name, **settings)
        if "model=lightgbm" not in overrides:
            shutil.copy(TRAINED / "history.csv", folder)
            shutil.copytree(TRAINED / "checkpoints", folder / "checkpoints", dirs_exist_ok=True)
        return SavedRun(folder)

    return save


@pytest.fixture
def search(tmp_path, tiny):
    """A finished search in runs/search: its study, folder and config."""
    folder = tmp_path / "runs" / "search"
    shutil.copytree(ROOT / "tests" / "fixtures" / "study", folder)
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    study = optuna.load_study(study_name="small", storage=storage)
    return study, folder, tiny(tmp_path, size="small").sweep_config(["experiment=dl_tuned"], [])


def sections(page):
    return re.findall("<h2>(.*?)</h2>", page)


def written(site, stem, expected):
    """The text of a page that has these sections, no broken links, and escapes what is not its own."""
    path = site.folder / f"{stem}.html"
    page = path.read_text(encoding="utf-8")
    assert sections(page) == [*expected, "Where it comes from"]
    assert EVIL not in page and "&lt;img src=x&gt;" in page
    assert [link for link in missing_of(path) if "report.html" not in link] == []
    return page


def test_tuning_page_shows_search_ablation_and_seed_study(site, run, search):
    study, folder, settings = search
    network = ["model=cnn_transformer"]
    cells = {}
    for (modality, film), name in {**CELLS, **FURTHER_CELLS}.items():
        overrides = [*network, f"modality={modality}", f"film={str(film).lower()}"]
        cells[name] = run(f"tuned_{modality}_{film}", *overrides, right=0.95 if name == FULL else 0.6)
    preset, baseline = run("dl_tuned", *network, "seed=1"), run("baseline_cnn", *network, "seed=2", right=0.8)
    (folder / "study.html").touch()
    speed = {"mixed precision": f"1.5 times faster {EVIL}"}
    write_tuning(site, Tuning(study, settings, folder, cells, preset, baseline, None, speed))
    page = written(
        site,
        "04_dl_tuning",
        [
            "Search",
            "The tuned network",
            "Learning",
            "Epoch by epoch",
            "Ablation",
            "By state",
            "Speed-ups",
            "Baseline, tuned network and trees",
            "Files",
        ],
    )
    ablation = pd.read_csv(site.folder / "tables" / "04_ablation.csv").set_index("arm")
    assert ablation.loc[FULL, "test accuracy"] == cells[FULL].scores["test"]["accuracy"]
    assert ablation.loc[FULL, f"validation accuracy, {seed_figures.REFERENCE.column}"] == "90.35 %"
    assert ablation.loc["Sensor Only", "verdict"] == "–" and (ablation["verdict"] == "better").any()
    assert 'href="runs/search/study.html"' in page and "No row for LightGBM" in page and "baseline (02)" in page
    assert page.count('role="img"') == page.count("Plotly.newPlot(")
    trials = pd.read_csv(site.folder / "tables" / "04_trials.csv")
    assert len(trials) == len([trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED", "FAIL")])
    confusion = (site.folder / "tuned_confusion_matrix.html").read_text(encoding="utf-8")
    assert sections(confusion) == ["Confusion matrix"] and "&lt;img src=x&gt;" in confusion
    saved = torch.load(site.folder / "tuned_model.pt", weights_only=True)
    assert saved["best_params"] == study.best_params and set(saved["ablation_results"]) == set(cells)


def test_network_page_shows_result_beside_seed_study_and_shortcut(site, run):
    write_baseline(site, run("baseline_cnn", "model=cnn_transformer"))
    page = written(site, "02_baseline_cnn", ["Result", "By state", "Learning", "Comparison with shortcuts"])
    assert "92.72 %" in page and "shortcut: elapsed seconds only" in page and "embedding width" in page


def test_trees_page_shows_models_and_cells(site, run):
    models = {"lightgbm": run("lightgbm", "model=lightgbm"), "other": run("other", "model=lightgbm", "seed=1")}
    write_trees(site, models, {"Sensor Only": models["lightgbm"]}, shown="lightgbm")
    page = written(site, "03_ml_baseline", ["LightGBM", "Models and features", "Inputs", "By state"])
    assert "96.89 %" in page and "Sensor Only" in page
    facts = json.loads((site.folder / "assets" / "03_ml_baseline.json").read_text())
    assert facts["said"][0].startswith("LightGBM on plain window statistics: test accuracy")


def test_ensemble_and_final_pages_compare_all_runs(site, run, tmp_path):
    members = {
        name: run(name, f"model={name}", right=right) for name, right in (("lightgbm", 0.8), ("extra_trees", 0.9))
    }
    write_ensemble_stage(site, members, tmp_path / "runs" / "ensemble")
    page = (tmp_path / "06_ensemble.html").read_text(encoding="utf-8")
    assert sections(page)[0] == "Did combining help?" and "As csv" in sections(page) and "ensemble stacking" in page
    write_final(site, [run.folder for run in members.values()], [f"broken is left out: {EVIL}"])
    page = (tmp_path / "07_final_comparison.html").read_text(encoding="utf-8")
    assert "Results of the seed study" in sections(page) and EVIL not in page and "broken is left out" in page
    assert 'href="tables/07_comparison.csv">07_comparison.csv</a>' in page
