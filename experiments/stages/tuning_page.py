"""Stage 04: search, tuned network, ablation and speed-ups beside the seed study's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
from markupsafe import Markup
from omegaconf import DictConfig, OmegaConf

from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.evaluation.compare import compare
from conveyorguard.metrics.notation import MISSING, PERCENT, POINTS
from conveyorguard.reporting import figures, pages
from conveyorguard.reporting.comparison_figures import bars
from conveyorguard.reporting.format import state_titles
from conveyorguard.reporting.report import learning_block
from conveyorguard.reporting.site import Site
from conveyorguard.runs.saved import SavedRun
from conveyorguard.sweeps.shared_study import best_of, ended
from conveyorguard.system.files import write_text
from conveyorguard.training.checkpoints import read_checkpoint
from experiments.stages import seed_figures
from experiments.stages.run_blocks import SEED, links_of, minutes, origins_of, render, runs_table, scores_beside
from experiments.stages.search_section import class_name, search_section

FULL = CELLS[("both", True)]
CLASS_COLUMNS = ["state", "precision", "recall", "F1", "windows"]


@dataclass(frozen=True)
class Tuning:
    """Results of the stage.

    Args:
        search: the study of the search.
        settings: config of the search.
        folder: folder of the search.
        cells: runs of the ablation with the best parameters, by the name of the cell; the full one is among them.
        preset: the run with the parameters that the seed study found.
        baseline: the run of stage 02, if there is one.
        lightgbm: the run of stage 03, if there is one.
        speed: measured effect of each speed-up, as a sentence.
    """

    search: optuna.Study
    settings: DictConfig
    folder: Path
    cells: Mapping[str, SavedRun]
    preset: SavedRun
    baseline: SavedRun | None
    lightgbm: SavedRun | None
    speed: Mapping[str, str]

    @property
    def tuned(self) -> SavedRun:
        """The run of the full cell."""
        return self.cells[FULL]


def write_tuning(site: Site, tuning: Tuning) -> Path:
    """Write 04_dl_tuning.html, its tables and the files of `write_files`, and return the page's path."""
    files = write_files(site, tuning)
    scores = tuning.tuned.scores
    best = best_of(tuning.search, tuning.search.get_trials(deepcopy=False))
    sentences = [
        f"Best of {len(ended(tuning.search.get_trials(deepcopy=False)))} trials: validation accuracy "
        f"{PERCENT.number(best.value if best else None)}.",
        f"Tuned network: validation accuracy {PERCENT.number(scores['val']['accuracy'])}, test accuracy "
        f"{PERCENT.number(scores['test']['accuracy'])}.",
        *(
            f"{name}: {PERCENT.number(run.scores['val']['accuracy'])} validation accuracy."
            for name, run in tuning.cells.items()
            if name != FULL
        ),
    ]
    main = render(
        "tuning.html.jinja",
        search=search_section(site, tuning.search, tuning.settings, tuning.folder),
        result=scores_beside(site, "04_result", tuning.tuned, seed_figures.TUNED),
        training=site.table("04_training", _training(tuning)),
        learning=learning_block(tuning.tuned),
        epochs=_epochs(site, tuning),
        techniques=_techniques(site, tuning),
        files=_files(site, files),
        **_ablation(site, tuning),
        **_classes(site, tuning),
        **_against(site, tuning),
        **_seed_tables(),
    )
    return site.write("04_dl_tuning", "Search, tuned network, ablation of the inputs, and speed-ups", main, sentences)


def write_files(site: Site, tuning: Tuning) -> dict[str, str]:
    """Write tuned_model.pt, optuna_study.log and tuned_confusion_matrix.html, as the seed study has them.

    Returns:
        What each file is for, by name.
    """
    run = tuning.tuned
    state = read_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    weights = {
        key.removeprefix("model."): value for key, value in state["state_dict"].items() if key.startswith("model.")
    }
    best = best_of(tuning.search, tuning.search.get_trials(deepcopy=False))
    config: Any = OmegaConf.to_container(run.config.model, resolve=True)
    torch.save(
        {
            "model_state_dict": weights,
            "best_val_acc": 100 * run.scores["val"]["accuracy"],
            "test_acc": 100 * run.scores["test"]["accuracy"],
            "best_params": dict(best.params) if best else {},
            "ablation_results": {name: 100 * cell.scores["val"]["accuracy"] for name, cell in tuning.cells.items()},
            "model_config": {**config, "inputs": state["conveyorguard"]["inputs"]},
        },
        site.folder / "tuned_model.pt",
    )
    shutil.copyfile(tuning.folder / "journal.log", site.folder / "optuna_study.log")
    names = state_titles(run.schema)
    counts = run.scores["test"]["confusion"]
    plot = figures.confusion(counts, names, "test windows by actual and predicted state")
    main = render(
        "confusion.html.jinja",
        figure=pages.figure(plot, "confusion matrix of the tuned network on test"),
        counts=pages.table(["actual", *names], [[name, *row] for name, row in zip(names, counts, strict=True)]),
    )
    write_text(
        site.folder / "tuned_confusion_matrix.html", pages.page("Tuned network", site.banner, main, pages.PLOTLY)
    )
    return {
        "tuned_model.pt": "weights, accuracies, best parameters, ablation; torch.load(..., weights_only=True)",
        "optuna_study.log": f"the search; open with optuna.load_study(study_name={tuning.search.study_name!r}, "
        'storage=JournalStorage(JournalFileBackend("optuna_study.log"))) from optuna.storages and '
        "optuna.storages.journal",
        "tuned_confusion_matrix.html": "the confusion matrix",
    }


def _training(tuning: Tuning) -> pd.DataFrame:
    """Return the training settings, here and in the seed study."""
    config = tuning.tuned.config
    rows = [
        ("batch", config.batch_size, "64 (32 a GPU)"),
        ("optimizer", class_name(config.optimizer), "AdamW"),
        ("schedule", "cosine", "CosineAnnealing"),
        ("loss", f"cross-entropy, weights {config.loss.class_weights}", "cross-entropy, weighted"),
        ("patience, epochs", config.patience, 7),
        ("epochs at most", config.trainer.max_epochs, 30),
    ]
    return pd.DataFrame(rows, columns=["", "here", SEED])


def _epochs(site: Site, tuning: Tuning) -> Markup:
    """Draw validation accuracy and duration of each epoch."""
    history = tuning.tuned.history
    assert history is not None
    frame = pd.DataFrame(
        {"epoch": history["epoch"] + 1, "validation accuracy": history["val/accuracy"], "seconds": history["seconds"]}
    )
    return site.table("04_curve", frame, {"validation accuracy": ".1%", "seconds": ".1f"})


def _ablation(site: Site, tuning: Tuning) -> dict[str, Markup | str]:
    """Draw the cells of the ablation beside the seed study's: bars, table and a note."""
    comparison = compare([run.folder for run in tuning.cells.values()])
    by_cell = {row.cell: row for row in comparison.models}
    inputs = {name: cell for cell, name in {**CELLS, **FURTHER_CELLS}.items()}
    reference = by_cell["Sensor Only"]
    rows = []
    for name, run in tuning.cells.items():
        modality, film = inputs[name]
        arm = by_cell[name].arm
        difference = arm.difference(reference.arm, "accuracy") if name != reference.cell else None
        quoted = seed_figures.ABLATION.get(name)
        rows.append(
            {
                "arm": name,
                "sensors": _tick(modality != "image"),
                "camera": _tick(modality != "sensor"),
                "film": _tick(film),
                "validation accuracy": run.scores["val"]["accuracy"],
                "test accuracy": arm.interval("accuracy"),
                "test accuracy minus Sensor Only, points": POINTS.with_interval(difference) if difference else MISSING,
                "verdict": difference.verdict if difference else MISSING,
                f"validation accuracy, {SEED}": "not run" if quoted is None else f"{quoted:.2f} %",
            }
        )
    plot = bars(list(tuning.cells), [by_cell[name].arm.interval("accuracy") for name in tuning.cells], "Test accuracy")
    shares = {"validation accuracy": ".1%", "test accuracy": ".1%"}
    links, origins = links_of(site, tuning.cells), origins_of(tuning.cells)
    return {
        "ablation": site.table("04_ablation", pd.DataFrame(rows), shares, links, origins, "dense"),
        "ablation_bars": pages.figure(plot, "test accuracy of each arm of the ablation"),
        "ablation_note": "All arms have the best parameters and the same number of epochs. The seed study ran the full "
        f"arm for 30 epochs and the others for 10. {comparison.resampling.note}",
    }


def _tick(is_used: bool) -> str:
    return "✓" if is_used else "–"


def _classes(site: Site, tuning: Tuning) -> dict[str, Markup]:
    """Draw scores by state and the confusion matrix on test."""
    test, names = tuning.tuned.scores["test"], state_titles(tuning.tuned.schema)
    frame = pd.DataFrame(
        [
            [name, *(row[key] for key in ("precision", "recall", "f1", "support"))]
            for name, row in zip(names, test["per_class"], strict=True)
        ],
        columns=CLASS_COLUMNS,
    )
    plot = figures.confusion(test["confusion"], names, "test windows by actual and predicted state")
    return {
        "classes": site.table("04_classes", frame, dict.fromkeys(CLASS_COLUMNS[1:4], ".3f")),
        "confusion": pages.figure(plot, "confusion matrix on test"),
    }


def _techniques(site: Site, tuning: Tuning) -> Markup:
    """Draw the effect of each speed-up, here and in the seed study."""
    rows = [
        {"technique": name, "here": tuning.speed.get(name, "–"), f"how, {SEED}": how, f"effect, {SEED}": effect}
        for name, (how, effect) in seed_figures.TECHNIQUES.items()
    ]
    return site.table("04_techniques", pd.DataFrame(rows), look="prose")


def _against(site: Site, tuning: Tuning) -> dict[str, Markup | str]:
    """Draw the tuned network beside the baseline and LightGBM: table and a note."""
    runs = {"tuned here": tuning.tuned, "seed study's parameters": tuning.preset}
    if tuning.baseline:
        runs = {"baseline (02)": tuning.baseline, **runs}
    if tuning.lightgbm:
        runs = {"LightGBM (03)": tuning.lightgbm, **runs}
    sentences = [
        f"No row for {name}: run experiments/{script}.py on these data to add one."
        for name, script, run in (
            ("the baseline", "02_baseline_cnn", tuning.baseline),
            ("LightGBM", "03_ml_baseline", tuning.lightgbm),
        )
        if run is None
    ]
    if tuning.baseline:
        before, after = (run.scores["test"]["accuracy"] for run in (tuning.baseline, tuning.tuned))
        sentences.append(
            f"Tuned minus baseline: {100 * (after - before):+.1f} points of test accuracy, trained in "
            f"{minutes(tuning.tuned)} instead of {minutes(tuning.baseline)}. Stage 07 has the intervals."
        )
    return {
        "against": runs_table(site, "04_against", runs, shortcuts=False),
        "against_note": " ".join(sentences),
    }


def _seed_tables() -> dict[str, Markup]:
    """Draw the tables that are quoted from the seed study."""
    curve = [[epoch, f"{accuracy:.1f} %"] for epoch, accuracy in seed_figures.CURVE.items()]
    classes = [
        [name, f"{precision:.2f}", f"{recall:.2f}", f"{f1:.2f}", windows]
        for name, (precision, recall, f1, windows) in zip(seed_figures.STATES, seed_figures.PER_CLASS, strict=True)
    ]
    confusion = [[name, *row] for name, row in zip(seed_figures.STATES, seed_figures.CONFUSION, strict=True)]
    trees = seed_figures.LIGHTGBM
    models = [
        ["LightGBM", "–", f"{trees['test']:.2f} %", f"{trees['worst_recall']} %", f"{trees['seconds']} s"],
        *(
            [name, f"{q['val']:.2f} %", f"{q['test']:.2f} %", f"{q['worst_recall']} %", f"{q['minutes']} min"]
            for name, q in (("baseline", seed_figures.BASELINE), ("tuned", seed_figures.TUNED))
        ),
    ]
    columns = ["its model", "validation accuracy", "test accuracy", "recall of its worst state", "training"]
    return {
        "seed_epochs": pages.table(["epoch", "validation accuracy"], [*curve, [seed_figures.LAST_EPOCH, "stopped"]]),
        "seed_classes": pages.table(CLASS_COLUMNS, classes),
        "seed_confusion": pages.table(["actual", *(f"predicted {name}" for name in seed_figures.STATES)], confusion),
        "seed_models": pages.table(columns, models),
    }


def _files(site: Site, files: Mapping[str, str]) -> Markup:
    """Draw the list of the files that `write_files` wrote."""
    rows = [[name, f"{(site.folder / name).stat().st_size / 1e6:.2f} MB", use] for name, use in files.items()]
    return pages.linked(["file", "size", "use"], rows, list(files))
