"""Ensembles of finished runs, from their predictions alone: voting, weighted voting, stacking.

Each strategy becomes a run directory of its own, so that it can be compared, and ensembled, like any run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from conveyorguard.errors import RunError
from conveyorguard.evaluation.compare import Comparison, compare, refuse_other_protocols
from conveyorguard.metrics.bootstrap import Interval
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.runs.writer import Run
from conveyorguard.system.files import write_json

KEY = ["session", "start", "end", "y_true"]
FOLDS = 5


@dataclass
class Ensemble:
    """What came of it: the comparison of members and strategies, and each strategy against the best member.

    best: label of the member with the highest validation macro-F1. against: (strategy, difference of macro-F1,
    verdict).
    """

    comparison: Comparison
    best: str
    against: list[tuple[str, Interval, str]]
    folders: list[Path]


def ensemble(paths: Iterable[str | Path], out: Path) -> Ensemble:
    """Combine runs by every strategy; writes out/soft, out/weighted and out/stacking.

    Raises:
        RunError: fewer than two members, or members whose windows, labels or split differ.
    """
    members = [SavedRun(path) for path in paths]
    if len(members) < 2:
        raise RunError("an ensemble needs two runs or more")
    refuse_other_protocols(members)
    parts = [part for part in ("val", "test") if all(part in run.scores for run in members)]
    if parts != ["val", "test"]:
        raise RunError("an ensemble needs members evaluated on validation and test: run them with test=true")
    tables = {part: [_part(run, part) for run in members] for part in parts}
    for part, own in tables.items():
        for run, table in zip(members, own, strict=True):
            if not own[0][KEY].equals(table[KEY]):
                raise RunError(
                    f"{run.folder} has other {part} windows or labels than {members[0].folder} ({len(table):,} and "
                    f"{len(own[0]):,}): "
                    "the members of an ensemble share data, window settings and split"
                )
    stacks = {part: np.stack([as_predictions(table).p for table in own]) for part, own in tables.items()}
    y, session = tables["val"][0]["y_true"].to_numpy(), tables["val"][0]["session"].to_numpy()
    weights = np.array([run.scores["val"]["macro_f1"] for run in members])
    results = {
        "soft": {part: p.mean(axis=0) for part, p in stacks.items()},
        "weighted": {part: np.average(p, axis=0, weights=weights) for part, p in stacks.items()},
        "stacking": stacking(stacks["val"], y, session, stacks["test"]),
    }
    folders = [_write(out / name, name, members, tables, p, weights) for name, p in results.items()]
    comparison = compare([*(run.folder for run in members), *folders])
    rows = {run.folder: row for row in comparison.models for run in row.sources}
    best = rows[max(members, key=lambda run: run.scores["val"]["macro_f1"]).folder]
    against = []
    for folder in folders:
        difference = rows[folder].arm.difference(best.arm, "macro_f1")
        verdict = {"better": "helped", "worse": "did not help", "not shown": "not shown"}[difference.verdict]
        against.append((folder.name, difference, verdict))
    return Ensemble(comparison, best.label, against, folders)


def stacking(val: np.ndarray, y: np.ndarray, session: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """A logistic regression on the members' log-probabilities, fitted on validation only.

    Its validation predictions are cross-fitted by session, so that they may be compared with the members'; for test it
    is fitted on all of validation. Members' predictions of their own training windows are never used.

    Args:
        val, test: (members, n, K). y, session: of the validation windows, (n,).
    """

    def features(p: np.ndarray) -> np.ndarray:
        return np.log(np.clip(p, 1e-6, 1)).transpose(1, 0, 2).reshape(p.shape[1], -1)

    def fitted(rows: np.ndarray) -> LogisticRegression:
        return LogisticRegression(C=0.1, max_iter=2000).fit(features(val)[rows], y[rows])

    def probabilities(model: LogisticRegression, p: np.ndarray) -> np.ndarray:
        found = np.zeros(p.shape[1:])
        found[:, model.classes_] = model.predict_proba(features(p))  # a state may be absent from validation
        return found

    folds = min(FOLDS, len(set(session)))
    if folds < 2 or len(set(y)) < 2:
        raise RunError("stacking needs two validation sessions or more, with two states or more")
    crossed = np.zeros(val.shape[1:])
    for train, rest in GroupKFold(folds).split(val[0], y, session):
        crossed[rest] = probabilities(fitted(train), val[:, rest])
    return {"val": crossed, "test": probabilities(fitted(np.arange(len(y))), test)}


def _part(run: SavedRun, part: str) -> pd.DataFrame:
    table = run.predictions[run.predictions["split"] == part]
    return table.sort_values(["session", "start"], ignore_index=True)


def _write(
    folder: Path, strategy: str, members: list[SavedRun], tables: dict, p: dict[str, np.ndarray], weights: np.ndarray
) -> Path:
    """The run directory of one strategy: the members' config with itself as the model."""
    config = members[0].config.copy()
    for key in ("modality", "film"):
        if len({str(run.config[key]) for run in members}) > 1:
            config[key] = "mixed"
    names = [run.folder.resolve().name for run in members]
    config.model = OmegaConf.create({"name": f"ensemble-{strategy}", "members": names})
    with Run(config, folder, []) as run:
        found = []
        for part, own in tables.items():
            table = own[0].copy()
            table["y_pred"] = p[part].argmax(axis=1)
            for k in range(p[part].shape[1]):
                table[f"p{k}"] = p[part][:, k].astype(np.float32)
            found.append(table)
        run.write_predictions(found, members[0].schema)
        first = members[0].provenance
        facts = {
            k: first[k] for k in ("store", "split", "sessions", "windows", "threads", "device", "data") if k in first
        }

        def together(name: str) -> float | None:
            """What all members cost, where it is known of each: every one is trained, kept and asked."""
            costs: list[Any] = [member.provenance.get(name) for member in members]
            return None if None in costs else sum(costs)

        run.note(
            **facts,
            command=f"python -m conveyorguard ensemble {' '.join(names)}",
            members=names,
            unused=[],
            weights=[float(w) for w in weights] if strategy == "weighted" else None,
            **{name: together(name) for name in ("fit_seconds", "parameters", "model_bytes", "latency_ms")},
        )
    write_json(folder / "split.json", members[0].split.to_dict())
    return folder
