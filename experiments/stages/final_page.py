"""Stages 06 and 07: the ensemble's and the final comparison as pages of the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from conveyorguard.errors import RunError
from conveyorguard.evaluation.compare import compare
from conveyorguard.evaluation.comparison import Comparison, Row
from conveyorguard.evaluation.ensemble import ensemble
from conveyorguard.reporting import pages
from conveyorguard.reporting.compare_page import comparison_blocks, comparison_tables
from conveyorguard.reporting.ensemble_page import ensemble_block, ensemble_table
from conveyorguard.reporting.report import write_report
from conveyorguard.reporting.site import Site
from conveyorguard.runs.saved import SavedRun
from experiments.stages import seed_figures


def write_ensemble_stage(site: Site, members: Mapping[str, SavedRun], out: Path) -> Path:
    """Combine the members by every strategy; write 06_ensemble.html and its tables.

    Args:
        out: folder of the run directories of the strategies.
    """
    result = ensemble([run.folder for run in members.values()], out)
    for folder in result.folders:
        write_report(folder)
    old = {id(row): row.label for row in result.comparison.rows}
    _call_by_run(result.comparison)
    result.best = next(row.label for row in result.comparison.models if old[id(row)] == result.best)
    site.table("06_ensemble", ensemble_table(result))
    tables = _csv(site, "06", result.comparison)
    said = [f"{name} against {result.best}: {verdict}." for name, _, verdict in result.against]
    blocks = [
        ensemble_block(result),
        *comparison_blocks(result.comparison, site.folder, seed_figures.REFERENCE),
        tables,
    ]
    return site.write(
        "06_ensemble", f"{len(members)} models combined in three ways, each against the best of them", blocks, said
    )


def write_final(site: Site, folders: Sequence[Path], left_out: Sequence[str] = ()) -> Path:
    """Compare all runs; write 07_final_comparison.html and its tables.

    Args:
        left_out: a sentence on each run that is not compared.

    Raises:
        RunError: there is no run to compare.
    """
    if not folders:
        told = "".join(f"\n  - {sentence}" for sentence in left_out)
        raise RunError(
            f"{site.folder / 'runs'}: no finished run to compare; run the stages 02 to 06 first, or the whole "
            f"study{told}"
        )
    comparison = compare(folders)
    comparison.notes += left_out
    _call_by_run(comparison)
    blocks = [
        *comparison_blocks(comparison, site.folder, seed_figures.REFERENCE),
        _quoted(),
        _csv(site, "07", comparison),
    ]
    return site.write("07_final_comparison", comparison.protocol, blocks, comparison.conclusion())


def _call_by_run(comparison: Comparison) -> None:
    """Name every arm by its run directory, as all pages of the study do."""
    for row in comparison.models:
        row.label = _name(row)


def _name(row: Row) -> str:
    folder = next(run.folder for folds in row.runs.values() for run in folds.values())
    return f"ensemble {folder.name}" if row.model.startswith("ensemble-") else folder.name


def _csv(site: Site, prefix: str, comparison: Comparison) -> str:
    """The numbers of the page with all digits."""
    tables = {stem: site.table(f"{prefix}_{stem}", frame) for stem, frame in comparison_tables(comparison).items()}
    links = " ".join(f'<a href="tables/{prefix}_{stem}.csv">{prefix}_{stem}.csv</a>' for stem in tables)
    return pages.section("As csv", f"<p>{links}</p>")


def _quoted() -> str:
    """What the seed study says of its models, apart from ours."""
    rows = [
        [
            "LightGBM",
            f"{seed_figures.LIGHTGBM['test']:.2f} %",
            f"{seed_figures.LIGHTGBM['worst_recall']} %",
            f"{seed_figures.LIGHTGBM['seconds']} s",
        ],
        [
            "first network",
            f"{seed_figures.BASELINE['test']:.2f} %",
            f"{seed_figures.BASELINE['worst_recall']} %",
            f"{seed_figures.BASELINE['minutes']} min",
        ],
        [
            "tuned network",
            f"{seed_figures.TUNED['test']:.2f} %",
            f"{seed_figures.TUNED['worst_recall']} %",
            f"{seed_figures.TUNED['minutes']} min",
        ],
    ]
    return pages.section(
        "What the seed study found",
        pages.table(["its model", "test accuracy", "recall of its worst state", "training"], rows),
        note="On its own data and split: these figures are quoted, they do not compare with those above.",
    )
