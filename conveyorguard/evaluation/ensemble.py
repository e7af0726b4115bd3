"""Ensembles of finished runs from their saved predictions: voting, weighted voting, stacking.

Each strategy is written as a run directory, so that it can be compared and ensembled like any run.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from conveyorguard.config.saved import with_values
from conveyorguard.errors import RunError
from conveyorguard.evaluation.compare import Comparison, Row, compare, refuse_other_protocols
from conveyorguard.metrics.intervals import Interval, verdicts
from conveyorguard.metrics.stacking import StackingWeights
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.runs.shapes import SavedSplit, write_record
from conveyorguard.runs.writer import Run

KEY = ["session", "start", "end", "y_true"]
PARTS = ("val", "test")
FOLDS = 5
VERDICTS = {"better": "helped", "worse": "did not help", "not shown": "not shown"}
# copied from the first member's provenance
SHARED_FACTS = ("store", "split", "sessions", "windows", "threads", "device", "data")
COSTS = ("fit_seconds", "parameters", "model_bytes", "latency_ms")


@dataclass
class Ensemble:
    """The result of combining runs.

    Attributes:
        comparison: Comparison of members and strategies.
        best: Label of the member with the highest validation macro-F1.
        against: (strategy, difference of macro-F1 to the best member, verdict).
        folders: Run directories of the strategies.
        members: Number of members.
    """

    comparison: Comparison
    best: str
    against: list[tuple[str, Interval, str]]
    folders: list[Path]
    members: int


def ensemble(paths: Iterable[str | Path], out: Path) -> Ensemble:
    """Combine runs by every strategy; writes out/soft, out/weighted and out/stacking.

    Args:
        paths: Run directories of the members.
        out: Folder for the run directories of the strategies.

    Raises:
        RunError: Fewer than two members, or members whose windows, labels or split differ.
    """
    members = [SavedRun(path) for path in paths]
    refuse_members(members)
    tables = _tables_of_the_same_windows(members)
    stacks = {part: np.stack([as_predictions(rows).p for rows in by_member]) for part, by_member in tables.items()}
    y, session, device = (tables["val"][0][name].to_numpy() for name in ("y_true", "session", "device"))
    stacked, regression = stacking(stacks["val"], y, session, device, stacks["test"])
    weights = np.array([run.scores["val"]["macro_f1"] for run in members])
    results = {
        "soft": {part: p.mean(axis=0) for part, p in stacks.items()},
        "weighted": {part: np.average(p, axis=0, weights=weights) for part, p in stacks.items()},
        "stacking": stacked,
    }
    facts: dict[str, dict[str, Any]] = {
        "soft": {},
        "weighted": {"weights": [float(w) for w in weights]},
        "stacking": {"stacking": regression.to_dict()},
    }
    folders = [_write(out / name, members, tables, p, facts[name]) for name, p in results.items()]
    comparison = compare([*(run.folder for run in members), *folders])
    rows = {run.folder: row for row in comparison.models for run in row.sources}
    best = rows[max(members, key=lambda run: run.scores["val"]["macro_f1"]).folder]
    against = _against(best, {folder.name: rows[folder] for folder in folders})
    return Ensemble(comparison, best.label, against, folders, len(members))


def refuse_members(members: list[SavedRun]) -> None:
    """Refuse runs that cannot be combined.

    Raises:
        RunError: Fewer than two, other data or another split, or not evaluated on validation and test.
    """
    if len(members) < 2:
        raise RunError("an ensemble needs two runs or more")
    refuse_other_protocols(members)
    if not all(part in run.scores for part in PARTS for run in members):
        raise RunError("an ensemble needs members evaluated on validation and test: run them with test=true")


def _tables_of_the_same_windows(members: list[SavedRun]) -> dict[str, list[pd.DataFrame]]:
    """Return the predictions of all members by part, in the same order of windows.

    Raises:
        RunError: A member has other windows or labels.
    """
    tables = {part: [run.rows(part) for run in members] for part in PARTS}
    for part, (first, *others) in tables.items():
        for run, rows in zip(members[1:], others, strict=True):
            if not first[KEY].equals(rows[KEY]):
                raise RunError(
                    f"{run.folder} has other {part} windows or labels than {members[0].folder} ({len(rows):,} and "
                    f"{len(first):,}): the members of an ensemble share data, window settings and split; leave it out"
                )
    return tables


def _against(best: Row, strategies: dict[str, Row]) -> list[tuple[str, Interval, str]]:
    """Compare each strategy with the best member: its name, the difference of macro-F1, and whether it helped.

    The verdicts are those after Holm's correction for the number of strategies.
    """
    differences = [row.arm.difference(best.arm, "macro_f1") for row in strategies.values()]
    return [
        (name, difference, VERDICTS[verdict])
        for name, difference, verdict in zip(strategies, differences, verdicts(differences), strict=True)
    ]


def stacking(
    val: np.ndarray, y: np.ndarray, session: np.ndarray, device: np.ndarray, test: np.ndarray
) -> tuple[dict[str, np.ndarray], StackingWeights]:
    """Stack the members by a logistic regression on their log-probabilities, fitted on validation only.

    The validation predictions are cross-fitted by device, or by session where there is one device, so that they are
    comparable with the members'. For test the regression is fitted on all of validation. Members' predictions on their
    training windows are never used.

    Args:
        val: (M, N, K) probabilities of M members on validation.
        y: (N,) states of the validation windows.
        session: (N,) sessions of the validation windows.
        device: (N,) devices of the validation windows.
        test: (M, N', K) probabilities on test.

    Returns:
        Probabilities by part, (N, K) for val and (N', K) for test, and the regression.

    Raises:
        RunError: Validation has one session or one state.
    """
    groups = crossed_by(session, device)
    folds = min(FOLDS, len(set(groups)))
    if folds < 2 or len(set(y)) < 2:
        raise RunError("stacking needs two validation sessions or more, with two states or more")
    crossed = np.zeros(val.shape[1:])
    for train, held_out in GroupKFold(folds).split(val[0], y, groups):
        if len(set(y[train])) < 2:
            raise RunError(
                "stacking needs two states or more on several validation devices, so that it can be cross-fitted: all "
                "but one state are on a single one"
            )
        crossed[held_out] = StackingWeights.fit(val[:, train], y[train]).combine(val[:, held_out])
    weights = StackingWeights.fit(val, y)
    return {"val": crossed, "test": weights.combine(test)}, weights


def crossed_by(session: np.ndarray, device: np.ndarray) -> np.ndarray:
    """Return the groups by which stacking is cross-fitted: devices, or sessions where there is one device."""
    return device if len(set(device)) > 1 else session


def _write(
    folder: Path, members: list[SavedRun], tables: dict, p: dict[str, np.ndarray], facts: dict[str, Any]
) -> Path:
    """Write the run directory of a strategy, with the first member's config and the ensemble as the model.

    Args:
        folder: Run directory, named after the strategy.
        members: The runs.
        tables: Their predictions by part.
        p: Combined probabilities by part.
        facts: How they are combined, for the provenance.
    """
    names = [run.folder.resolve().name for run in members]
    mixed = [key for key in ("modality", "film") if len({str(run.settings[key]) for run in members}) > 1]
    model = {"name": f"ensemble-{folder.name}", "members": names}
    config = with_values(members[0].config, {**dict.fromkeys(mixed, "mixed"), "model": model})
    first = members[0].provenance
    with Run(config, folder, []) as run:
        combined = [_combined(rows[0], p[part]) for part, rows in tables.items()]
        run.write_predictions(combined, members[0].schema, members[0].window)
        paths = [str(member.folder) for member in members]
        run.note(
            **{key: first[key] for key in SHARED_FACTS if key in first},
            command=shlex.join(["python", "-m", "conveyorguard", "ensemble", *paths, f"out={folder.parent}"]),
            members=names,
            member_paths=[_relative(member.folder, folder) for member in members],
            unused=[],
            **{cost: _together(members, cost) for cost in COSTS},
            **facts,
        )
    write_record(folder / "split.json", SavedSplit, members[0].split.to_dict())
    return folder


def _relative(member: Path, folder: Path) -> str:
    """Return the path of a member from the folder of the ensemble, so that both can be moved together."""
    try:
        return Path(os.path.relpath(member.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return str(member.resolve())


def _combined(rows: pd.DataFrame, p: np.ndarray) -> pd.DataFrame:
    """Return the windows of a member with other probabilities (N, K)."""
    columns = {f"p{k}": p[:, k].astype(np.float32) for k in range(p.shape[1])}
    return rows.assign(y_pred=p.argmax(axis=1), **columns)


def _together(members: list[SavedRun], cost: str) -> float | None:
    """Return the sum of a cost over members, None if one is unknown: every member is trained, kept and applied."""
    costs: list[Any] = [member.provenance.get(cost) for member in members]
    return None if None in costs else sum(costs)
