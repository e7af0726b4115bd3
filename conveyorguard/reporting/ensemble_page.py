"""The page and the csv table of an ensemble."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from conveyorguard.evaluation.ensemble import Ensemble
from conveyorguard.reporting import pages
from conveyorguard.reporting.compare_page import write_comparison
from conveyorguard.reporting.model_card import write_card
from conveyorguard.system.files import write_text


def write_ensemble(result: Ensemble, folder: Path) -> Path:
    """ensemble.html: each strategy against the best member, then the whole comparison; ensemble.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "ensemble.csv", ensemble_table(result).to_csv(index=False))
    for strategy in result.folders:
        write_card(strategy)
    return write_comparison(result.comparison, folder, ensemble_block(result), "ensemble")


def ensemble_table(result: Ensemble) -> pd.DataFrame:
    """A row a strategy: strategy, best_member, difference of macro-F1, low, high, verdict."""
    facts = [
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
    return pd.DataFrame(facts)


def ensemble_block(result: Ensemble) -> str:
    """Did combining help? As html."""
    frame = pd.DataFrame(
        {
            "strategy": [name for name, *_ in result.against],
            "minus the best member": result.best,
            "macro-F1, points": [difference.times(100) for _, difference, _ in result.against],
            "verdict": [verdict for *_, verdict in result.against],
        }
    )
    note = (
        "The best member is the one with the highest validation macro-F1. Helped: the interval of the paired "
        "difference lies "
        "above zero; not shown: it includes zero. In brackets 95 % intervals."
    )
    how = (
        "<p class='note'>soft: the mean of the members' probabilities. weighted: each member weighs as much as its "
        "validation macro-F1. stacking: a "
        "logistic regression on the members' log-probabilities, fitted on validation alone; its own validation "
        "figures are cross-fitted by session.</p>"
    )
    return pages.section("Did combining help?", pages.framed(frame, {"macro-F1, points": "+.1f"}), how, note=note)
