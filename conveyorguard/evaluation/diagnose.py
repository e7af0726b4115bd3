"""Diagnose a run: which modality it relies on, how failures affect it, and whether fusion pays off.

The run is compared with its arms (the same model with one modality) and with a run of the other family, trees or
network, on the windows of its own test figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from conveyorguard.data.store import Store
from conveyorguard.data.windows import make_windows
from conveyorguard.errors import RunError
from conveyorguard.evaluation import breakdown, robustness
from conveyorguard.evaluation.advice import SINGLE, Advice, advise
from conveyorguard.evaluation.compare import find_runs
from conveyorguard.evaluation.robustness import EvaluationSet
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.metrics.intervals import verdicts
from conveyorguard.metrics.resampling import Arm
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.progress import track

SAME_STATES = 0.99  # least share of windows whose predicted state is the same now as when the run was trained
# settings that arms must share, so that their difference is due to the modality
TRAINED_BY = (
    "film",
    "film_input",
    "augment",
    "mixup",
    "loss",
    "optimizer",
    "average",
    "batch_size",
    "scaling",
    "features",
    "trainer.max_epochs",
    "patience",
)
OTHER_FAMILY = {"trees": "network", "network": "trees"}


@dataclass
class Diagnosis:
    """The result of a diagnosis.

    Attributes:
        run: The diagnosed run.
        arms: Runs by label, the diagnosed one first.
        part: Part of the split that the figures are of.
        advice: What to build.
        tables: Tables by name, each written as csv.
        note: Sentences on the intervals.
        notes: Sentences on the limits of the diagnosis.
    """

    run: SavedRun
    arms: dict[str, SavedRun]
    part: str
    advice: Advice
    tables: dict[str, pd.DataFrame]
    note: str
    notes: list[str] = field(default_factory=list)


def companions(run: SavedRun, paths: Iterable[str | Path]) -> dict[str, SavedRun]:
    """Find the run's single-modality arms and the run of the other family, by label.

    Args:
        run: The diagnosed run.
        paths: Run directories, or that of a multirun; if empty, the directories beside the run are searched.

    Raises:
        RunError: A given run has other data or another split, or is neither an arm nor of the other family.
    """
    folders = [Path(path) for path in paths]
    runs, _ = find_runs(folders or [run.folder.resolve().parent])
    by_role: dict[str, list[SavedRun]] = {}
    for other in _comparable_runs(run, runs, strictly=bool(folders)):
        by_role.setdefault(_role(run, other), []).append(other)
    without_role = by_role.pop("", [])
    if without_role and len(folders) == len(runs):
        raise RunError(
            f"{without_role[0].folder.name}: neither the model of {run.folder.name} with one modality nor a run of the "
            "other family, trees or network; leave it out"
        )
    order = [role for role in (*SINGLE, OTHER_FAMILY[_family(run)]) if role in by_role]
    best = {role: max(by_role[role], key=lambda other: _closeness(run, other)) for role in order}
    return {SINGLE.get(role, other.model_name): other for role, other in best.items()}


def _comparable_runs(run: SavedRun, runs: list[SavedRun], strictly: bool) -> list[SavedRun]:
    """Return the other runs on the same windows.

    Args:
        run: The diagnosed run.
        runs: Candidates.
        strictly: Raise a RunError on runs with other windows instead of leaving them out.
    """
    others = [other for other in runs if other.folder.resolve() != run.folder.resolve()]
    comparable = [other for other in others if _comparable(run, other)]
    if strictly and (strange := [other.folder.name for other in others if other not in comparable]):
        raise RunError(
            f"{', '.join(strange)}: other data, another split or other windows than {run.folder.name}; leave them out"
        )
    return comparable


def _trained_on(run: SavedRun, store: Store) -> bool:
    """Return whether a run was trained on the data of a store, by fingerprint, else by windows and labels."""
    if run.data_fingerprint:
        return run.data_fingerprint == store.fingerprint
    place = ["session", "start"]
    today = make_windows(store, run.window, stride=run.window.judged_stride).set_index(place)["label"]
    then = run.predictions.set_index(place)["y_true"]
    return bool(then.index.isin(today.index).all() and (today.loc[then.index] == then).all())


def _comparable(run: SavedRun, other: SavedRun) -> bool:
    a, b = run.window, other.window
    return (
        (other.data_fingerprint == run.data_fingerprint or None in (other.data_fingerprint, run.data_fingerprint))
        and other.provenance["split"] == run.provenance["split"]
        and (a.size, a.judged_stride, a.label) == (b.size, b.judged_stride, b.label)
        and set(run.metrics) <= set(other.metrics)
    )


def _family(run: SavedRun) -> str:
    return "trees" if run.is_tabular else "network"


def _role(run: SavedRun, other: SavedRun) -> str:
    """Return the role of another run: a modality, the name of the other family, or '' for none."""
    if other.is_ensemble:  # it has no model to apply
        return ""
    if _family(run) != _family(other):
        return _family(other)
    same_model = run.settings["model"] == other.settings["model"]
    return other.modality if same_model and run.modality == "both" and other.modality in SINGLE else ""


def _closeness(run: SavedRun, other: SavedRun) -> tuple:
    """Return a sort key: runs most like this one, then the best on validation, compare highest."""
    alike = [other.setting(key) == run.setting(key) for key in ("modality", "film", "seed", "film_input")]
    return (*alike, other.scores["val"]["macro_f1"])


def diagnose(folder: str | Path, paths: Iterable[str | Path], store: Store) -> Diagnosis:
    """Compute everything but the learning curve.

    Args:
        folder: The run directory.
        paths: Run directories to compare with, see `companions`.
        store: The frame store that the run was trained on.

    Raises:
        RunError: The store is another one, or the runs are not comparable.
    """
    model = LoadedRun(folder)
    run = model.run
    if not _trained_on(run, store):
        raise RunError(
            f"{run.folder}: these are not the data it was trained and tested on (store fingerprint "
            f"{store.fingerprint[:12]}, not {run.provenance['store']['fingerprint'][:12]}); give their folder with "
            "data.root=PATH"
        )
    arms = {run.model_name: run}
    for label, other in companions(run, paths).items():
        arms[label if label not in arms else f"{label} ({other.folder.name})"] = other
    models = {label: model if arm is run else LoadedRun(arm.folder) for label, arm in arms.items()}
    part = "test" if "test" in run.metrics else "val"
    data = EvaluationSet(store, run.split, model.settings, part)
    clean = {label: robustness.predictions_on(arm, store, data.windows) for label, arm in models.items()}
    for label, arm in models.items():
        refuse_other_predictions(arm, part, clean[label], data.windows)
    tables = _tables(arms, models, data, clean)
    notes = [*part_notes(part), *arm_notes(arms), *gap_notes(tables["gap"], run.model_name)]
    return Diagnosis(run, arms, part, advise(run, arms, part), tables, data.resampling.note, notes)


def _tables(
    arms: dict[str, SavedRun], models: dict[str, LoadedRun], data: EvaluationSet, clean: dict[str, Predictions]
) -> dict[str, pd.DataFrame]:
    """Compute the tables of a diagnosis by name; arms, models and clean are by label, the diagnosed run first."""
    scored = {label: Arm([p], data.resampling) for label, p in clean.items()}
    one_seed = {label: [p] for label, p in clean.items()}
    corrupted = _corrupted(models, data)
    first = next(iter(arms))
    tables = {
        "arms": arms_table(arms, scored),
        "gap": gap_table(scored, first),
        "attribution": _each(models, lambda label, model: robustness.attribution(model, data, clean[label])),
        "corruption": robustness.corruption_table(data.store.schema, scored, corrupted),
        "devices": breakdown.by_device(data.windows, one_seed),
        "distance": breakdown.by_distance(data.store, data.windows, data.settings.size, one_seed),
        "causal": _each(
            models,
            lambda _, model: robustness.by_label_rule(robustness.arms_of(*robustness.second_by_second(model, data))),
        ),
        "onsets": breakdown.onsets(arms, data.part),
    }
    if len(data.starts_cut[1]):
        tables["start_cut"] = pd.DataFrame(
            [{"arm": label, **robustness.without_start(model, data)} for label, model in models.items()]
        )
    if single := {label: corrupted[label] for label in arms if label in SINGLE.values()}:
        tables["robustness"] = robustness.against_single(corrupted[first], single)
    return tables


def _corrupted(models: dict[str, LoadedRun], data: EvaluationSet) -> dict[str, dict[str, Arm]]:
    """Apply each arm under each corruption; returns corrupted[label][corruption]."""
    return {
        label: {name: Arm([p], data.resampling) for name, p in robustness.under_corruption(model, data).items()}
        for label, model in track(models.items(), "corrupting")
    }


def part_notes(part: str) -> list[str]:
    """Return a note if the figures are of validation."""
    if part == "test":
        return []
    return ["The run was not evaluated on test: these are validation figures, by which its best epoch was chosen."]


def arm_notes(arms: dict[str, SavedRun]) -> list[str]:
    """Return notes on missing arms and on arms trained with other settings; the first arm is the diagnosed run."""
    label, run = next(iter(arms.items()))
    notes = []
    if missing := [name for name in SINGLE.values() if name not in arms and run.modality == "both"]:
        notes.append(
            f"Not given: {' and '.join(missing)}, the same model with one modality. To measure the gain by fusion, "
            "train with -m modality=sensor,image,both and list these runs after the diagnosed one."
        )
    if all(_family(arm) == _family(run) for arm in arms.values()):
        notes.append(
            f"Not given: {OTHER_FAMILY[_family(run)]}. Add a run of the other family, trees or network, to compare "
            "against."
        )
    for name, arm in arms.items():
        apart = [key for key in TRAINED_BY if arm.setting(key) != run.setting(key)]
        if name in SINGLE.values() and apart:
            notes.append(
                f"{name}: trained with other {' and '.join(apart)} than {label}, so modality is not the only "
                "difference."
            )
    return notes


def gap_notes(gap: pd.DataFrame, first: str) -> list[str]:
    """Return a note if an arm of another family is better than the diagnosed run: the advice ignores it."""
    return [
        f"{row['minus']} is better than {first} by {-100 * row['difference']:.1f} points of macro-F1. The "
        f"recommendation is about {first}, which is not the best model."
        for _, row in gap.iterrows()
        if row["minus"] not in SINGLE.values() and row["verdict"] == "worse"
    ]


def refuse_other_predictions(model: LoadedRun, part: str, predicted: Predictions, windows: pd.DataFrame) -> None:
    """Raise a RunError if the model's predictions differ from those saved in the run directory."""
    run = model.run
    saved = run.predictions[run.predictions["split"] == part].set_index(["session", "start"])
    place = pd.MultiIndex.from_frame(windows[["session", "start"]])
    if len(saved) != len(place) or not place.isin(saved.index).all():
        raise RunError(f"{run.folder}: its {part} windows are not those of the data now; train it again")
    # not the saved answers: on validation each is by a memory that was fitted on other devices
    expected = robustness.answers(model, windows, as_predictions(saved.loc[place].reset_index()).p)
    agreement = float((expected.argmax(axis=1) == predicted.y_pred).mean())
    if agreement < SAME_STATES:
        raise RunError(
            f"{run.folder}: the model predicts the saved state in only {agreement:.1%} of the windows; train it again"
        )


def _each(models: dict[str, LoadedRun], make: Callable[[str, LoadedRun], pd.DataFrame]) -> pd.DataFrame:
    """Build a table per arm and join them, with the arm as first column."""
    tables = []
    for label, model in track(models.items(), "trying"):
        table = make(label, model)
        table.insert(0, "arm", label)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def arms_table(arms: dict[str, SavedRun], scored: dict[str, Arm]) -> pd.DataFrame:
    """Return one row per arm: its inputs, and its figures with intervals."""
    rows = []
    for label, run in arms.items():
        row: dict[str, Any] = {
            "arm": label,
            "run": run.folder.resolve().name,
            "model": run.model_name,
            "modality": run.modality,
            "film": bool(run.film),
        }
        for name in ("macro_f1", "accuracy", "severe_recall"):
            row |= scored[label].interval(name).columns(name)
        rows.append({**row, "validation_macro_f1": run.scores["val"]["macro_f1"]})
    return pd.DataFrame(rows)


def gap_table(scored: dict[str, Arm], first: str) -> pd.DataFrame:
    """Return the paired differences of macro-F1, the first arm minus each other, with verdicts after Holm's correction.

    Returns:
        minus (the other arm), difference, low, high, verdict.
    """
    others = {label: scored[first].difference(arm, "macro_f1") for label, arm in scored.items() if label != first}
    rows = [
        {"minus": label, "difference": d.value, "low": d.low, "high": d.high, "verdict": verdict}
        for (label, d), verdict in zip(others.items(), verdicts([*others.values()]), strict=True)
    ]
    return pd.DataFrame(rows, columns=["minus", "difference", "low", "high", "verdict"])
