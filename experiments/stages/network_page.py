"""Stage 02: the seed study's first network."""

from __future__ import annotations

from pathlib import Path

from conveyorguard.metrics.notation import PERCENT
from conveyorguard.reporting.report import class_block, learning_block
from conveyorguard.reporting.site import Site
from conveyorguard.runs.saved import SavedRun
from experiments.stages import seed_figures
from experiments.stages.run_blocks import drawn_on, render, runs_table, scores_beside


def write_baseline(site: Site, run: SavedRun) -> Path:
    """Write 02_baseline_cnn.html and its tables, and return the page's path."""
    config = run.config
    epochs = config.trainer.max_epochs
    note = (
        f"CNN on every thermal frame ({config.model.thermal_frames} a window), Transformers, cross-attention and FiLM, "
        f"embedding width {config.model.embed_dim}, with the seed study's scaling. {run.provenance['parameters']:,} "
        f"parameters. Trained for at most {epochs} epoch{'s' if epochs > 1 else ''}."
    )
    main = render(
        "network.html.jinja",
        note=note,
        result=scores_beside(site, "02_result", run, seed_figures.BASELINE),
        classes=class_block(run, drawn_on(site, "02")),
        learning=learning_block(run),
        runs=runs_table(site, "02_runs", {"baseline_cnn": run}),
    )
    history = run.history
    assert history is not None
    site.table("02_history", history)
    test = run.scores[list(run.scores)[-1]]
    sentences = [f"Test accuracy {PERCENT.number(test['accuracy'])}, macro-F1 {PERCENT.number(test['macro_f1'])}."]
    subtitle = "The seed study's network on all frames, trained with the seed study's settings"
    return site.write("02_baseline_cnn", subtitle, main, sentences)
