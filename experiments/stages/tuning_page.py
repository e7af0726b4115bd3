"""Stage 04: search, tuned network, ablation and speed, in the seed study's tables beside its figures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
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
from experiments.stages.run_blocks import SEED, THEIRS, links_of, minutes, origins_of, runs_table, scores_beside
from experiments.stages.search_section import class_name, search_section

FULL = CELLS[("both", True)]


@dataclass(frozen=True)
class Tuning:
    """What the stage has made.

    settings: config of the search. cells: runs with the best parameters by the name of the cell, the full one among
    them. preset: the run with the seed study's own parameters. speed: technique -> what it buys here, measured.
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
        return self.cells[FULL]


def write_tuning(site: Site, made: Tuning) -> Path:
    """Write 04_dl_tuning.html, its tables, tuned_model.pt, the study and tuned_confusion_matrix.html."""
    files = write_files(site, made)
    tuned = made.tuned.scores
    best = best_of(made.search, made.search.get_trials(deepcopy=False))
    said = [
        f"Best of {len(ended(made.search.get_trials(deepcopy=False)))} trials: validation accuracy "
        f"{PERCENT.number(best.value if best else None)}.",
        f"Tuned network: validation accuracy {PERCENT.number(tuned['val']['accuracy'])}, test accuracy "
        f"{PERCENT.number(tuned['test']['accuracy'])}.",
        *(
            f"{name}: {PERCENT.number(run.scores['val']['accuracy'])} validation accuracy."
            for name, run in made.cells.items()
            if name != FULL
        ),
    ]
    blocks = [
        search_section(site, made.search, made.settings, made.folder),
        _trained(site, made),
        learning_block(made.tuned),
        _curve(site, made),
        _ablation(site, made),
        _classes(site, made),
        _techniques(site, made),
        _against(site, made),
        _files(site, files),
    ]
    return site.write(
        "04_dl_tuning", "Search, the tuned network, what each input is worth, and what makes it fast", blocks, said
    )


def write_files(site: Site, made: Tuning) -> dict[str, str]:
    """The seed study's files, by name with what they are for."""
    run = made.tuned
    state = read_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    weights = {
        key.removeprefix("model."): value for key, value in state["state_dict"].items() if key.startswith("model.")
    }
    best = best_of(made.search, made.search.get_trials(deepcopy=False))
    config: Any = OmegaConf.to_container(run.config.model, resolve=True)
    torch.save(
        {
            "model_state_dict": weights,
            "best_val_acc": 100 * run.scores["val"]["accuracy"],
            "test_acc": 100 * run.scores["test"]["accuracy"],
            "best_params": dict(best.params) if best else {},
            "ablation_results": {name: 100 * cell.scores["val"]["accuracy"] for name, cell in made.cells.items()},
            "model_config": {**config, "inputs": state["conveyorguard"]["inputs"]},
        },
        site.folder / "tuned_model.pt",
    )
    shutil.copyfile(made.folder / "journal.log", site.folder / "optuna_study.log")
    names = state_titles(run.schema)
    plot = figures.confusion(run.scores["test"]["confusion"], names, "test windows by actual and predicted state")
    block = pages.section(
        "Confusion matrix",
        pages.figure(plot, "confusion matrix of the tuned network on test"),
        pages.table(
            ["actual", *names], [[name, *row] for name, row in zip(names, run.scores["test"]["confusion"], strict=True)]
        ),
    )
    write_text(
        site.folder / "tuned_confusion_matrix.html",
        pages.page("Tuned network", site.banner, [block], "assets/plotly.min.js"),
    )
    return {
        "tuned_model.pt": "weights, accuracies, best parameters, ablation; torch.load(..., weights_only=True)",
        "optuna_study.log": f"the search: optuna.load_study(study_name={made.search.study_name!r}, "
        'storage=JournalStorage(JournalFileBackend("optuna_study.log"))), of optuna.storages and '
        "optuna.storages.journal",
        "tuned_confusion_matrix.html": "the confusion matrix",
    }


def _trained(site: Site, made: Tuning) -> str:
    config = made.tuned.config
    rows = [
        ("batch", config.batch_size, "64 (32 a GPU)"),
        ("optimizer", class_name(config.optimizer), "AdamW"),
        ("schedule", "cosine", "CosineAnnealing"),
        ("loss", f"cross-entropy, weights {config.loss.class_weights}", "cross-entropy, weighted"),
        ("patience, epochs", config.patience, 7),
        ("epochs at most", config.trainer.max_epochs, 30),
    ]
    settings = site.table("04_training", pd.DataFrame(rows, columns=["", "here", SEED]))
    scores = scores_beside(site, "04_result", made.tuned, seed_figures.TUNED)
    return pages.section(
        "The tuned network",
        "<h3>Result</h3>",
        scores,
        "<h3>Training</h3>",
        settings,
        note="The full cell of the ablation, trained anew with the best parameters of the search.",
    )


def _curve(site: Site, made: Tuning) -> str:
    history = made.tuned.history
    assert history is not None
    own = pd.DataFrame(
        {"epoch": history["epoch"] + 1, "validation accuracy": history["val/accuracy"], "seconds": history["seconds"]}
    )
    quoted = pages.table(
        ["epoch", "validation accuracy"],
        [[k, f"{v:.1f} %"] for k, v in seed_figures.CURVE.items()] + [[seed_figures.LAST_EPOCH, "stopped"]],
    )
    shown = site.table("04_curve", own, {"validation accuracy": ".1%", "seconds": ".1f"})
    return pages.section("Epoch by epoch", pages.pair("<h3>Here</h3>" + str(shown), THEIRS + str(quoted)))


def _ablation(site: Site, made: Tuning) -> str:
    comparison = compare([run.folder for run in made.cells.values()])
    by_cell = {row.cell: row for row in comparison.models}
    keys = {name: cell for cell, name in {**CELLS, **FURTHER_CELLS}.items()}
    base = by_cell["Sensor Only"]
    rows = []
    for name, run in made.cells.items():
        modality, film = keys[name]
        difference = by_cell[name].arm.difference(base.arm, "accuracy") if name != base.cell else None
        quoted = seed_figures.ABLATION.get(name)
        rows.append(
            {
                "arm": name,
                "sensors": _tick(modality != "image"),
                "camera": _tick(modality != "sensor"),
                "film": _tick(film),
                "validation accuracy": run.scores["val"]["accuracy"],
                "test accuracy": by_cell[name].arm.interval("accuracy"),
                "test, points over sensors alone": POINTS.with_interval(difference) if difference else MISSING,
                "verdict": difference.verdict if difference else MISSING,
                f"validation accuracy, {SEED}": "not run" if quoted is None else f"{quoted:.2f} %",
            }
        )
    arms = [by_cell[name].arm.interval("accuracy") for name in made.cells]
    plot = bars(list(made.cells), arms, "Test accuracy")
    shares = {"validation accuracy": ".1%", "test accuracy": ".1%"}
    table = site.table(
        "04_ablation", pd.DataFrame(rows), shares, links_of(site, made.cells), origins_of(made.cells), "dense"
    )
    note = (
        "Every arm has the best parameters and the same budget; the seed study ran the full arm for 30 epochs and "
        "the others for 10. "
        f"{comparison.resampling.note}"
    )
    return pages.section("Ablation", pages.figure(plot, "test accuracy of each arm of the ablation"), table, note=note)


def _tick(there: bool) -> str:
    return "✓" if there else "–"


def _classes(site: Site, made: Tuning) -> str:
    test, names = made.tuned.scores["test"], state_titles(made.tuned.schema)
    own = pd.DataFrame(
        [
            [name, *(row[key] for key in ("precision", "recall", "f1", "support"))]
            for name, row in zip(names, test["per_class"], strict=True)
        ],
        columns=["state", "precision", "recall", "F1", "windows"],
    )
    quoted = pages.table(
        ["state", "precision", "recall", "F1", "windows"],
        [
            [name, f"{p:.2f}", f"{r:.2f}", f"{f:.2f}", n]
            for name, (p, r, f, n) in zip(seed_figures.STATES, seed_figures.PER_CLASS, strict=True)
        ],
    )
    plot = figures.confusion(test["confusion"], names, "test windows by actual and predicted state")
    rows = [[name, *row] for name, row in zip(seed_figures.STATES, seed_figures.CONFUSION, strict=True)]
    matrix = pages.table(["actual", *(f"predicted {name}" for name in seed_figures.STATES)], rows)
    shown = site.table("04_classes", own, dict.fromkeys(["precision", "recall", "F1"], ".3f"))
    return pages.section(
        "By state",
        pages.pair(shown, THEIRS + str(quoted)),
        pages.pair(pages.figure(plot, "confusion matrix on test"), THEIRS + str(matrix)),
    )


def _techniques(site: Site, made: Tuning) -> str:
    rows = [
        {"technique": name, "here": made.speed.get(name, "–"), f"how, {SEED}": how, f"what it bought, {SEED}": bought}
        for name, (how, bought) in seed_figures.TECHNIQUES.items()
    ]
    shown = site.table("04_techniques", pd.DataFrame(rows), look="prose")
    return pages.section("What makes it fast", shown, note="Here: measured by this stage on the machine it ran on.")


def _against(site: Site, made: Tuning) -> str:
    runs = {"tuned here": made.tuned, "seed study's parameters": made.preset}
    if made.baseline:
        runs = {"baseline (02)": made.baseline, **runs}
    if made.lightgbm:
        runs = {"LightGBM (03)": made.lightgbm, **runs}
    quoted = pages.table(
        ["its model", "validation accuracy", "test accuracy", "recall of its worst state", "training"],
        [
            [
                "LightGBM",
                "–",
                f"{seed_figures.LIGHTGBM['test']:.2f} %",
                f"{seed_figures.LIGHTGBM['worst_recall']} %",
                f"{seed_figures.LIGHTGBM['seconds']} s",
            ],
            *(
                [name, f"{q['val']:.2f} %", f"{q['test']:.2f} %", f"{q['worst_recall']} %", f"{q['minutes']} min"]
                for name, q in (("baseline", seed_figures.BASELINE), ("tuned", seed_figures.TUNED))
            ),
        ],
    )
    told = [
        f"No row for {name}: experiments/{script}.py has not been run on these data."
        for name, script, run in (
            ("the baseline", "02_baseline_cnn", made.baseline),
            ("LightGBM", "03_ml_baseline", made.lightgbm),
        )
        if run is None
    ]
    if made.baseline:
        before, after = made.baseline.scores["test"]["accuracy"], made.tuned.scores["test"]["accuracy"]
        told.append(
            f"Tuned minus baseline: {100 * (after - before):+.1f} points of test accuracy, training "
            f"{minutes(made.tuned)} instead of "
            f"{minutes(made.baseline)}. Stage 07 has the intervals."
        )
    return pages.section(
        "Baseline, tuned, trees",
        runs_table(site, "04_against", runs, shortcuts=False),
        THEIRS + str(quoted),
        note=" ".join(told),
    )


def _files(site: Site, files: Mapping[str, str]) -> str:
    rows = [[name, f"{(site.folder / name).stat().st_size / 1e6:.2f} MB", what] for name, what in files.items()]
    return pages.section("Files", pages.linked(["file", "size", "for"], rows, list(files)))
