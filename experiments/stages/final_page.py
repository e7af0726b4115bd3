"""Stages 06 and 07: the ensembles and the final comparison as pages of the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from conveyorguard.errors import RunError
from conveyorguard.evaluation.compare import compare
from conveyorguard.evaluation.comparison import Comparison, Row
from conveyorguard.evaluation.ensemble import ensemble
from conveyorguard.reporting import pages
from conveyorguard.reporting.compare_page import comparison_content, comparison_tables
from conveyorguard.reporting.ensemble_page import ensemble_block, ensemble_table
from conveyorguard.reporting.report import write_report
from conveyorguard.reporting.site import Site
from conveyorguard.runs.saved import SavedRun
from experiments.stages import seed_figures
from experiments.stages.run_blocks import render


def write_ensemble_stage(site: Site, members: Mapping[str, SavedRun], out: Path) -> Path:
    """Combine the members by every strategy, write 06_ensemble.html and its tables, and return the page's path.

    Args:
        members: runs to combine, by run name.
        out: folder for the run directories of the ensembles.
    """
    result = ensemble([run.folder for run in members.values()], out)
    for folder in result.folders:
        write_report(folder)
    labels = {id(row): row.label for row in result.comparison.rows}
    _label_by_run(result.comparison)
    result.best = next(row.label for row in result.comparison.models if labels[id(row)] == result.best)
    site.table("06_ensemble", ensemble_table(result))
    main = render(
        "ensemble.html.jinja",
        helped=ensemble_block(result),
        comparison=comparison_content(result.comparison, site.folder, seed_figures.REFERENCE),
        csvs=_csvs(site, "06", result.comparison),
    )
    sentences = [f"{name} against {result.best}: {verdict}." for name, _, verdict in result.against]
    subtitle = f"{len(members)} models combined by voting, weighted voting and stacking, against the best of them"
    return site.write("06_ensemble", subtitle, main, sentences)


def write_final(site: Site, folders: Sequence[Path], left_out: Sequence[str] = ()) -> Path:
    """Compare all runs, write 07_final_comparison.html and its tables, and return the page's path.

    Args:
        folders: run directories to compare.
        left_out: a sentence about each run that is not compared.

    Raises:
        RunError: there is no run to compare.
    """
    if not folders:
        reasons = "".join(f"\n  - {sentence}" for sentence in left_out)
        raise RunError(
            f"{site.folder / 'runs'}: no finished run to compare. Run stages 02 to 06 first, or the whole study."
            f"{reasons}"
        )
    comparison = compare(folders)
    comparison.notes += left_out
    _label_by_run(comparison)
    main = render(
        "final.html.jinja",
        comparison=comparison_content(comparison, site.folder, seed_figures.REFERENCE),
        seed_models=_seed_models(),
        csvs=_csvs(site, "07", comparison),
    )
    return site.write("07_final_comparison", comparison.protocol, main, comparison.conclusion())


def _label_by_run(comparison: Comparison) -> None:
    """Label every arm by its run directory, as the other pages of the study do."""
    for row in comparison.models:
        row.label = _name(row)


def _name(row: Row) -> str:
    folder = next(run.folder for folds in row.runs.values() for run in folds.values())
    return f"ensemble {folder.name}" if row.model.startswith("ensemble-") else folder.name


def _csvs(site: Site, prefix: str, comparison: Comparison) -> list[tuple[str, str]]:
    """Write the tables of a comparison as csv with all digits, and return their relative paths and names."""
    tables = comparison_tables(comparison)
    for stem, frame in tables.items():
        site.table(f"{prefix}_{stem}", frame)
    return [(f"tables/{prefix}_{stem}.csv", f"{prefix}_{stem}.csv") for stem in tables]


def _seed_models() -> Markup:
    """Draw the results that the seed study reports for its models."""
    times = (
        f"{seed_figures.LIGHTGBM['seconds']} s",
        f"{seed_figures.BASELINE['minutes']} min",
        f"{seed_figures.TUNED['minutes']} min",
    )
    models = {
        "LightGBM": seed_figures.LIGHTGBM,
        "first network": seed_figures.BASELINE,
        "tuned network": seed_figures.TUNED,
    }
    rows = [
        [name, f"{figures['test']:.2f} %", f"{figures['worst_recall']} %", time]
        for (name, figures), time in zip(models.items(), times, strict=True)
    ]
    return pages.table(["its model", "test accuracy", "recall of its worst state", "training"], rows)
