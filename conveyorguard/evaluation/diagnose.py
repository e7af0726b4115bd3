"""Which modality a run leans on, how it fares when something fails, and whether to fuse at all.

The run is held against its arms (the same model given one modality) and a run of the other family, trees or network, on
the windows that its own test figures are of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from conveyorguard.config.compose import is_tabular
from conveyorguard.data.store import Store
from conveyorguard.errors import RunError
from conveyorguard.evaluation import breakdown, robustness
from conveyorguard.evaluation.compare import find_runs
from conveyorguard.evaluation.robustness import Trial
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.metrics.bootstrap import Arm, Interval, resample
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.progress import track

SAME_STATES = 0.99  # of the windows, predicted now and when the run was made
CLOSE = 0.005  # macro-F1: half a point is what a second model has to be worth, and what a cascade may cost
RARELY = 0.5  # share of the windows for which a cascade may ask the second model
# what two arms have to share for their difference to be one of modality
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
SINGLE = {"sensor": "sensors alone", "image": "camera alone"}


@dataclass
class Advice:
    """What to build, by the fixed rule, and the figures that it follows from.

    choice: 'sensor only', 'image only', 'cascade', 'fuse', or '' where there is nothing to go by.
    """

    choice: str
    reasons: list[str]


@dataclass
class Diagnosis:
    """All that was found.

    arms: by label, the run's first. tables: by name, as they are kept as csv.
    """

    run: SavedRun
    arms: dict[str, SavedRun]
    part: str
    advice: Advice
    tables: dict[str, pd.DataFrame]
    note: str
    notes: list[str] = field(default_factory=list)


def companions(run: SavedRun, given: Iterable[str | Path]) -> dict[str, SavedRun]:
    """The run's arms of one modality and the run of the other family, by label.

    Args:
        given: run directories, or that of a multirun; without any, those beside the run are looked through.

    Raises:
        RunError: a given run is of other data or another split, or has no part to play.
    """
    paths = [Path(path) for path in given]
    found, _ = find_runs(paths or [run.folder.resolve().parent])
    others = [other for other in found if other.folder.resolve() != run.folder.resolve()]
    fitting = [other for other in others if _comparable(run, other)]
    if paths and (strange := [other.folder.name for other in others if other not in fitting]):
        raise RunError(f"{', '.join(strange)}: of other data, another split or other windows than {run.folder.name}")
    roles: dict[str, list[SavedRun]] = {}
    for other in fitting:
        if role := _role(run, other):
            roles.setdefault(role, []).append(other)
        elif paths and len(paths) == len(found):
            raise RunError(
                f"{other.folder.name}: neither {run.folder.name}'s model with one modality nor of the other family, "
                "trees or network"
            )
    family = "network" if is_tabular(run.config) else "trees"
    order = [*SINGLE, family]
    return {
        SINGLE.get(role, str(best.config.model.name)): best
        for role in order
        if role in roles
        for best in [max(roles[role], key=lambda other: _closeness(run, other))]
    }


def _comparable(run: SavedRun, other: SavedRun) -> bool:
    keys = ("size", "stride", "label")
    return (
        other.provenance["store"]["fingerprint"] == run.provenance["store"]["fingerprint"]
        and other.provenance["split"] == run.provenance["split"]
        and all(other.config.window[key] == run.config.window[key] for key in keys)
        and set(run.metrics) <= set(other.metrics)
    )


def _role(run: SavedRun, other: SavedRun) -> str:
    if "members" in other.config.model:  # an ensemble has no model
        return ""
    if is_tabular(run.config) != is_tabular(other.config):
        return "trees" if is_tabular(other.config) else "network"
    same = OmegaConf.to_container(run.config.model) == OmegaConf.to_container(other.config.model)
    one = same and run.config.modality == "both" and other.config.modality in SINGLE
    return str(other.config.modality) if one else ""


def _closeness(run: SavedRun, other: SavedRun) -> tuple:
    """Of several runs the one most like this one, then the best on validation."""
    alike = [other.config[key] == run.config[key] for key in ("modality", "film", "seed")]
    return (*alike, other.config.get("film_input") == run.config.get("film_input"), other.metrics["val"]["macro_f1"])


def diagnose(folder: str | Path, given: Iterable[str | Path], store: Store) -> Diagnosis:
    """Everything but the learning curve.

    Args:
        store: the frame store that the run was made on.

    Raises:
        RunError: it is another one, or the runs do not belong together.
    """
    model = LoadedRun(folder)
    run = model.run
    if store.fingerprint != run.provenance["store"]["fingerprint"]:
        raise RunError(
            f"{run.folder}: the data at hand are not those it was trained and tested on (store fingerprint "
            f"{store.fingerprint[:12]}, not {run.provenance['store']['fingerprint'][:12]}): give their place with "
            "data.root=PATH"
        )
    arms = {str(run.config.model.name): run}
    for label, other in companions(run, given).items():
        arms[label if label not in arms else f"{label} ({other.folder.name})"] = other
    models = {label: model if arm is run else LoadedRun(arm.folder) for label, arm in arms.items()}
    part = "test" if "test" in run.metrics else "val"
    trial = Trial(store, run.split, model.settings, part)
    clean = {label: robustness.predictions_on(one, store, trial.windows) for label, one in models.items()}
    for label, arm in arms.items():
        refuse_other_predictions(arm, part, clean[label], trial.windows)
    scored = {label: Arm([p], trial.resampling) for label, p in clean.items()}
    one_seed = {label: [p] for label, p in clean.items()}
    corrupted = {
        label: {name: Arm([p], trial.resampling) for name, p in robustness.under_corruption(one, trial).items()}
        for label, one in track(models.items(), "corrupting")
    }
    first = next(iter(arms))
    single = {label: corrupted[label] for label in arms if label in SINGLE.values()}
    tables = {
        "arms": arms_table(arms, scored),
        "gap": gap_table(scored, first),
        "attribution": _each(models, lambda label, one: robustness.attribution(one, trial, clean[label])),
        "corruption": robustness.corruption_table(store.schema, scored, corrupted),
        "devices": breakdown.by_device(trial.windows, one_seed),
        "distance": breakdown.by_distance(store, trial.windows, trial.settings.size, one_seed),
        "causal": _each(
            models,
            lambda label, one: robustness.by_label_rule(robustness.arms_of(*robustness.second_by_second(one, trial))),
        ),
        "onsets": breakdown.onsets(arms, part),
    }
    if len(trial.starts_cut[1]):
        tables["start_cut"] = pd.DataFrame(
            [{"arm": label, **robustness.without_start(one, trial)} for label, one in models.items()]
        )
    if single:
        tables["robustness"] = robustness.against_single(corrupted[first], single)
    notes = (
        []
        if part == "test"
        else ["The run was not evaluated on test: these are figures of validation, by which its best epoch was chosen."]
    )
    notes += arm_notes(arms)
    for _, row in tables["gap"].iterrows():
        if row["minus"] not in SINGLE.values() and row["verdict"] == "worse":
            notes.append(
                f"{row['minus']} is better than {first} by {-100 * row['difference']:.1f} points of macro-F1: what "
                "is recommended here is "
                f"about {first}, which is not the best model at hand."
            )
    return Diagnosis(run, arms, part, advise(run, arms, part), tables, trial.resampling.note, notes)


def arm_notes(arms: dict[str, SavedRun]) -> list[str]:
    """What the arms, the run first, leave unsaid: those that are not there, and those that were trained in another
    way."""
    label, run = next(iter(arms.items()))
    notes = []
    if missing := [name for role, name in SINGLE.items() if name not in arms and run.config.modality == "both"]:
        notes.append(
            f"Not given: {' and '.join(missing)}, the same model with one modality. What fusing buys is said by these: "
            "train them with -m modality=sensor,image,both and name them after the run."
        )
    if all(is_tabular(arm.config) == is_tabular(run.config) for arm in arms.values()):
        family = "network" if is_tabular(run.config) else "trees"
        notes.append(
            f"Not given: {family}. How the other family fares when something fails is said by a run of it: train "
            "one and name it after the run."
        )
    for name, arm in arms.items():
        apart = [key for key in TRAINED_BY if OmegaConf.select(arm.config, key) != OmegaConf.select(run.config, key)]
        if name in SINGLE.values() and apart:
            notes.append(
                f"{name}: trained with other {' and '.join(apart)} than {label}, so its modality is not all that "
                "differs."
            )
    return notes


def refuse_other_predictions(run: SavedRun, part: str, found: Predictions, windows: pd.DataFrame) -> None:
    """The model must say what it said when the run was made, else nothing here would be about that run."""
    saved = run.predictions[run.predictions["split"] == part].set_index(["session", "start"])["y_pred"]
    place = pd.MultiIndex.from_frame(windows[["session", "start"]])
    if len(saved) != len(place) or not place.isin(saved.index).all():
        raise RunError(f"{run.folder}: its {part} windows are not those made now; train it again")
    agreement = float((saved.loc[place].to_numpy() == found.y_pred).mean())
    if agreement < SAME_STATES:
        raise RunError(
            f"{run.folder}: the model says now what it said then in {agreement:.1%} of the windows only; train it again"
        )


def _each(models: dict[str, LoadedRun], make: Any) -> pd.DataFrame:
    """One table of all arms, the arm first."""
    tables = []
    for label, model in track(models.items(), "trying"):
        table = make(label, model)
        table.insert(0, "arm", label)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def arms_table(arms: dict[str, SavedRun], scored: dict[str, Arm]) -> pd.DataFrame:
    """A row an arm: what it is given, and its figures with intervals."""
    found = []
    for label, run in arms.items():
        row: dict[str, Any] = {
            "arm": label,
            "run": run.folder.resolve().name,
            "model": run.config.model.name,
            "modality": run.config.modality,
            "film": bool(run.config.film),
        }
        for name in ("macro_f1", "accuracy", "severe_recall"):
            interval = scored[label].interval(name)
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        found.append({**row, "validation_macro_f1": run.metrics["val"]["macro_f1"]})
    return pd.DataFrame(found)


def gap_table(scored: dict[str, Arm], first: str) -> pd.DataFrame:
    """The first arm less each other, macro-F1, paired: arm, difference, low, high, verdict."""
    found = []
    for label, arm in scored.items():
        if label != first:
            d = scored[first].difference(arm, "macro_f1")
            found.append({"minus": label, "difference": d.value, "low": d.low, "high": d.high, "verdict": d.verdict})
    return pd.DataFrame(found, columns=["minus", "difference", "low", "high", "verdict"])


RULE = (
    "Sensor only (or image only), unless fusing beats the better single modality by more than half a point of "
    "macro-F1, and the interval of the paired "
    "difference lies above zero. Then a cascade, if asking the fused model for at most half of the windows, those "
    "where the single one is least sure, costs no more than half a "
    "point of macro-F1. Else fuse. All by validation. What one modality is worth when the other fails is no part "
    "of the rule: the tables below say it."
)


def advise(run: SavedRun, arms: dict[str, SavedRun], part: str) -> Advice:
    """RULE, from the saved predictions of the run and its arms of one modality on validation; with its figures on the
    part."""
    if run.config.modality != "both":
        return Advice("", [f"The run has one modality ({run.config.modality}): there is nothing to fuse."])
    single = {role: arms[name] for role, name in SINGLE.items() if name in arms}
    if not single:
        return Advice("", ["No arm of one modality is there, so what fusing buys cannot be said."])
    role = max(single, key=lambda name: single[name].metrics["val"]["macro_f1"])
    one = single[role]
    gains = {name: fusing_gain(run, one, name) for name in dict.fromkeys(["val", part])}
    told = [
        f"by {100 * gain.value:+.1f} points of macro-F1 on {'validation' if name == 'val' else name}"
        + (f" ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" if np.isfinite(gain.low) else "")
        + f": {gain.verdict}"
        for name, gain in gains.items()
    ]
    reasons = [f"Fusing changes {SINGLE[role]}, the better modality on validation, {'; '.join(told)}."]
    if not (gains["val"].low > 0 and gains["val"].value > CLOSE):
        return Advice(f"{role} only", reasons)
    threshold, asked, cost = cascade_threshold(_saved(run, "val"), _saved(one, "val"))
    p, first = _saved(run, part), _saved(one, part)
    mixed = cascade(p, first, threshold)
    before, after = (Arm([x], resample(*_owners(run, part))).by_seed("macro_f1").mean() for x in (p, mixed))
    share = float((first.p.max(axis=1) < threshold).mean())
    reasons.append(
        f"A cascade that asks the fused model where {SINGLE[role]} give their state less than {threshold:.2f} asks "
        f"it for {asked:.0%} of the windows on "
        f"validation at a cost of {100 * cost:.1f} points; on {part} for {share:.0%}, macro-F1 {after:.3f} instead "
        f"of {before:.3f}."
    )
    return Advice("cascade" if asked <= RARELY else "fuse", reasons)


def fusing_gain(run: SavedRun, single: SavedRun, part: str) -> Interval:
    """Macro-F1 of the run less that of one of its arms, paired."""
    resampling = resample(*_owners(run, part))
    return Arm([_saved(run, part)], resampling).difference(Arm([_saved(single, part)], resampling), "macro_f1")


def cascade(fused: Predictions, single: Predictions, threshold: float) -> Predictions:
    """The single model's probabilities where it is as sure as the threshold, else the fused one's."""
    sure = single.p.max(axis=1) >= threshold
    return Predictions(single.y_true, np.where(sure[:, None], single.p, fused.p), single.session)


def cascade_threshold(fused: Predictions, single: Predictions) -> tuple[float, float, float]:
    """The least threshold that costs no more than CLOSE: threshold, share of windows asked for, cost in macro-F1."""
    resampling = resample(np.zeros(len(fused.y_true), int), np.zeros(len(fused.y_true), int), replicates=1)

    def score(p: Predictions) -> float:
        return float(Arm([Predictions(p.y_true, p.p, np.zeros(len(p.y_true), int))], resampling).by_seed("macro_f1")[0])

    whole, sureness = score(fused), single.p.max(axis=1)
    for threshold in np.unique(np.quantile(sureness, np.linspace(0, 1, 41))):
        cost = whole - score(cascade(fused, single, threshold))
        if cost <= CLOSE:
            return float(threshold), float((sureness < threshold).mean()), float(cost)
    return float(np.nextafter(1, 2)), 1.0, 0.0


def _saved(run: SavedRun, part: str) -> Predictions:
    return as_predictions(_rows(run, part))


def _rows(run: SavedRun, part: str) -> pd.DataFrame:
    table = run.predictions[run.predictions["split"] == part]
    return table.sort_values(["session", "start"], ignore_index=True)


def _owners(run: SavedRun, part: str) -> tuple[np.ndarray, np.ndarray]:
    rows = _rows(run, part)
    return rows["session"].to_numpy(), rows["device"].to_numpy()
