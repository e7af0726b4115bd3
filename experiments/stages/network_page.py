"""Stage 02: the seed study's first network."""

from __future__ import annotations

from pathlib import Path

from conveyorguard.metrics.notation import PERCENT
from conveyorguard.reporting import pages
from conveyorguard.reporting.report import class_block, learning_block
from conveyorguard.reporting.site import Site
from conveyorguard.runs.saved import SavedRun
from experiments.stages import seed_figures
from experiments.stages.run_blocks import drawn_on, runs_table, scores_beside


def write_baseline(site: Site, run: SavedRun) -> Path:
    """Write 02_baseline_cnn.html and its tables."""
    config = run.config
    note = (
        f"CNN on every thermal frame ({config.model.thermal_frames} a window), Transformers, cross-attention and "
        f"FiLM, {config.model.embed_dim} wide, "
        f"with the seed study's scaling; {run.provenance['parameters']:,} parameters; epochs: "
        f"{config.trainer.max_epochs} at most."
    )
    blocks = [
        pages.section("Result", scores_beside(site, "02_result", run, seed_figures.BASELINE), note=note),
        class_block(run, drawn_on(site, "02")),
        learning_block(run),
        pages.section(
            "Held against shortcuts",
            runs_table(site, "02_runs", {"baseline_cnn": run}),
            note="A shortcut knows one obvious fact; a model that is not clearly better has learned that fact. The "
            "model's name leads to its own page.",
        ),
    ]
    history = run.history
    assert history is not None
    site.table("02_history", history)
    test = run.scores[list(run.scores)[-1]]
    said = [f"Test accuracy {PERCENT.number(test['accuracy'])}, macro-F1 {PERCENT.number(test['macro_f1'])}."]
    return site.write(
        "02_baseline_cnn", "The seed study's network with all frames, trained by its recipe", blocks, said
    )
