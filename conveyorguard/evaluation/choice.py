"""Which of several models to use, by one rule on the same out-of-fold predictions."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.resampling import Arm, resample
from conveyorguard.runs.derive import as_predictions

MARGIN = 0.01  # macro-F1 that a cheaper model may be worse, at the lower end of the interval
RULE = (
    "Taken is the model with the highest macro-F1 of the state now, out of fold; a cheaper one instead if the interval "
    f"of its paired difference lies above -{100 * MARGIN:.0f} point. Without intervals the highest is taken."
)


@dataclass(frozen=True)
class Standing:
    """A candidate beside the others.

    Attributes:
        name: of the candidate.
        macro_f1: of the deployed answer on all sessions outside test, each by a model not trained on it.
        behind: its macro-F1 minus that of the highest candidate, paired.
    """

    name: str
    macro_f1: Interval
    severe_recall: Interval
    behind: Interval


@dataclass(frozen=True)
class ModelChoice:
    """The chosen candidate, why, and all standings in the order of cost."""

    name: str
    reason: str
    standings: list[Standing]
    note: str

    def table(self) -> pd.DataFrame:
        """Return a row a candidate: candidate, macro_f1, severe_recall and behind with their intervals, chosen."""
        return pd.DataFrame(
            [
                {
                    "candidate": s.name,
                    **s.macro_f1.columns("macro_f1"),
                    **s.severe_recall.columns("severe_recall"),
                    **s.behind.columns("behind"),
                    "chosen": s.name == self.name,
                }
                for s in self.standings
            ]
        )


def choose(predictions: dict[str, pd.DataFrame]) -> ModelChoice:
    """Choose a candidate.

    Args:
        predictions: rows of `predictions.parquet` by candidate, all of the same windows in the same order; cheapest
            candidate first.
    """
    first = next(iter(predictions.values()))
    resampling = resample(first["session"].to_numpy(str), first["device"].to_numpy(str))
    arms = {name: Arm([as_predictions(rows, "c")], resampling) for name, rows in predictions.items()}
    scores = {name: arm.interval("macro_f1") for name, arm in arms.items()}
    highest = max(scores, key=lambda name: scores[name].value)
    standings = [
        Standing(
            name,
            scores[name],
            arm.interval("severe_recall"),
            arm.difference(arms[highest], "macro_f1") if name != highest else Interval(0.0, 0.0, 0.0),
        )
        for name, arm in arms.items()
    ]
    cheaper = standings[: [s.name for s in standings].index(highest)]
    as_good = next((s for s in cheaper if s.behind.low > -MARGIN), None)
    if as_good is None:
        return ModelChoice(highest, f"{highest} has the highest macro-F1 out of fold", standings, resampling.note)
    reason = (
        f"{as_good.name} is cheaper than {highest}, which has the highest macro-F1, and by its interval at most "
        f"{-100 * as_good.behind.low:.1f} points worse"
    )
    return ModelChoice(as_good.name, reason, standings, resampling.note)
