"""ensemble.html and ensemble.csv: whether combining models helped."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from markupsafe import Markup

from conveyorguard.evaluation.ensemble import Ensemble
from conveyorguard.reporting import pages
from conveyorguard.reporting.compare_page import write_comparison
from conveyorguard.reporting.format import counted
from conveyorguard.reporting.model_card import write_card
from conveyorguard.system.files import write_text


def write_ensemble(result: Ensemble, folder: Path) -> Path:
    """Write ensemble.html and ensemble.csv into a folder, and return the page's path.

    The page compares each strategy with the best member, then all models with each other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "ensemble.csv", ensemble_table(result).to_csv(index=False))
    for strategy in result.folders:
        write_card(strategy)
    title = f"Ensemble of {counted(result.members, 'run')}"
    return write_comparison(result.comparison, folder, ensemble_block(result), "ensemble", title)


def ensemble_table(result: Ensemble) -> pd.DataFrame:
    """Return a row for each strategy: strategy, best_member, difference of macro-F1, low, high, verdict."""
    rows = [
        {
            "strategy": name,
            "best_member": result.best,
            "difference": d.value,
            "low": d.low,
            "high": d.high,
            "verdict": verdict,
        }
        for name, d, verdict in result.against
    ]
    return pd.DataFrame(rows)


def ensemble_block(result: Ensemble) -> Markup:
    """Draw the section on whether combining helped."""
    frame = pd.DataFrame(
        {
            "strategy": [name for name, *_ in result.against],
            "minus the best member": result.best,
            "macro-F1, points": [difference.times(100) for _, difference, _ in result.against],
            "verdict": [verdict for *_, verdict in result.against],
        }
    )
    table = pages.framed(frame, {"macro-F1, points": "+.1f"})
    return pages.render("ensemble.html.jinja", table=table)
