"""Models under corruption, without a modality, and on recordings that began earlier than they seem to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from conveyorguard.data.corruption import corruptions
from conveyorguard.data.datamodule import Batch, WindowDataset
from conveyorguard.data.features import feature_sources
from conveyorguard.data.splits import Split
from conveyorguard.data.store import Store
from conveyorguard.data.views import LONGEST_CUT, cut_starts
from conveyorguard.data.windows import WindowSettings, make_windows
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.bootstrap import Arm, Interval, Resampling, resample
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.data import conditioned
from conveyorguard.training.module import WindowClassifier

REPEATS = 3  # permutations of a modality
TOLERATED = 0.01  # macro-F1: one point below the better arm of one modality
# what a batch holds of a modality, and its place in the mask
HELD = {
    "sensors": (("sensors", "sensors_start"), 0),
    "thermal": (("thermal", "thermal_stats", "thermal_stats_start"), 1),
    "environment": (("environment",), 2),
}


@dataclass
class EvaluationSet:
    """Recordings that models are evaluated on.

    part: of the split, test or val. seed: of everything drawn.
    """

    store: Store
    split: Split
    settings: WindowSettings
    part: str
    seed: int = 0

    @cached_property
    def windows(self) -> pd.DataFrame:
        """Of the part, in the order of the store."""
        return self.of_part(make_windows(self.store, self.settings))

    @cached_property
    def train(self) -> np.ndarray:
        """(N,) True at the seconds of the train sessions."""
        return self.store.rows_of(self.split.sessions["train"])

    @cached_property
    def resampling(self) -> Resampling:
        return resampled(self.windows)

    @cached_property
    def starts_cut(self) -> tuple[Store, pd.DataFrame, np.ndarray]:
        """A view without 0 to 100 s of each recording's start, the windows that remain, and the second (n,) of its
        recording at which the recording of each now begins."""
        view, begins = cut_starts(self.store, self.seed, LONGEST_CUT)
        begin = begins[self.windows["row"]]
        kept = self.windows["start"].to_numpy() >= begin
        return view, self.windows[kept].reset_index(drop=True), begin[kept]

    def of_part(self, windows: pd.DataFrame) -> pd.DataFrame:
        return windows[windows["session"].isin(self.split.sessions[self.part])].reset_index(drop=True)


def resampled(windows: pd.DataFrame) -> Resampling:
    """The replicates of windows, the same for all models."""
    return resample(windows["session"].to_numpy(), windows["device"].to_numpy())


def dataset_of(model: LoadedRun, store: Store, windows: pd.DataFrame) -> WindowDataset:
    """Windows of a store as this model is given them."""
    return WindowDataset(conditioned(store, model.run.settings), windows, model.settings, model.inputs)


def predictions_on(model: LoadedRun, store: Store, windows: pd.DataFrame) -> Predictions:
    """What a model says about windows of a store or of a view of it."""
    p = predict(model.model, dataset_of(model, store, windows)).astype(np.float64)
    return Predictions(windows["label"].to_numpy(), p, windows["session"].to_numpy())


def under_corruption(model: LoadedRun, data: EvaluationSet) -> dict[str, Predictions]:
    """Predictions by the name of the corruption."""
    found = {}
    for corruption in corruptions(data.store.schema):
        view = corruption.view(data.store, data.train, data.seed)
        found[corruption.name] = predictions_on(model, view, data.windows)
    return found


def corruption_table(schema, clean: dict[str, Arm], corrupted: dict[str, dict[str, Arm]]) -> pd.DataFrame:
    """A row a corruption and arm: macro_f1, and its fall against the clean recordings, with paired intervals.

    Args:
        clean: by arm. corrupted: by arm, by corruption.
    """
    found = []
    for corruption in corruptions(schema):
        for arm, own in corrupted.items():
            score = own[corruption.name].interval("macro_f1")
            fall = clean[arm].difference(own[corruption.name], "macro_f1")
            found.append(
                {
                    "corruption": corruption.name,
                    "group": corruption.group,
                    "level": corruption.level,
                    "arm": arm,
                    **_columns("macro_f1", score),
                    **_columns("fall", fall),
                }
            )
    return pd.DataFrame(found)


def against_single(fused: dict[str, Arm], single: dict[str, dict[str, Arm]]) -> pd.DataFrame:
    """A row a corruption: the fused arm less the better of the arms of one modality under the same corruption.

    Args:
        fused: by corruption. single: by arm, by corruption.

    Returns:
        corruption, macro_f1, better arm, its macro_f1, difference with its interval, verdict; severe_recall and, of the
        worst seed, severe_sessions_missed of the fused arm; seeds of the two.
    """
    found = []
    for name, arm in fused.items():
        better = max(single, key=lambda other: single[other][name].by_seed("macro_f1").mean())
        d = arm.difference(single[better][name], "macro_f1")
        told = "holds" if d.value >= -TOLERATED else "falls below"
        found.append(
            {
                "corruption": name,
                "macro_f1": float(arm.by_seed("macro_f1").mean()),
                "better arm": better,
                "its macro_f1": float(single[better][name].by_seed("macro_f1").mean()),
                **_columns("difference", d),
                "verdict": told,
                "severe_recall": float(arm.by_seed("severe_recall").mean()),
                "severe_sessions_missed": float(arm.by_seed("severe_sessions_missed").max()),
                "seeds": f"{len(arm.totals)}, {len(single[better][name].totals)}",
            }
        )
    return pd.DataFrame(found)


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


class Permuted(WindowDataset):
    """A dataset in which each window has one modality of another window."""

    def __init__(self, dataset: WindowDataset, modality: str, order: np.ndarray):
        super().__init__(dataset.store, dataset.windows, dataset.settings, dataset.inputs)
        self.modality, self.order = modality, order

    def __getitems__(self, indices: list[int]) -> Batch:
        batch, other = super().__getitems__(indices), super().__getitems__(self.order[indices].tolist())
        keys, place = HELD[self.modality]
        batch |= {key: other[key] for key in keys}
        batch["mask"][..., place] = other["mask"][..., place]
        return batch


def permuted(model: LoadedRun, dataset: WindowDataset, modality: str, order: np.ndarray) -> np.ndarray:
    """Probabilities (n, K) when the i-th window has the modality of window order[i], everything else its own."""
    if isinstance(model.model, WindowClassifier):
        return predict(model.model, Permuted(dataset, modality, order))
    features = model.model.features(dataset).copy()
    own = feature_sources(model.model.names, dataset.store.schema)["modality"].to_numpy() == modality
    features[:, own] = features[order][:, own]
    return model.model.model.probabilities(features)


def attribution(model: LoadedRun, data: EvaluationSet, clean: Predictions) -> pd.DataFrame:
    """What a model loses when a modality says nothing: it is permuted between the windows (Breiman, 2001).

    Returns:
        modality, fall (of macro-F1, the mean of REPEATS permutations) with its interval, share of all falls.
    """
    dataset, rng = dataset_of(model, data.store, data.windows), np.random.default_rng(data.seed)
    orders = [rng.permutation(len(dataset)) for _ in range(REPEATS)]
    found, before = [], Arm([clean], data.resampling)
    for modality in model.inputs:
        after = [
            Predictions(clean.y_true, permuted(model, dataset, modality, order).astype(np.float64), clean.session)
            for order in orders
        ]
        fall = before.difference(Arm(after, data.resampling), "macro_f1")
        found.append({"modality": modality, **_columns("fall", fall)})
    table = pd.DataFrame(found)
    useful = table["fall"].clip(lower=0)
    return table.assign(share=useful / (useful.sum() or 1.0))


def with_starts_cut(model: LoadedRun, data: EvaluationSet) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """The windows that remain when 0 to 100 s are cut off each recording's start, and what a model says about them: in
    the 'whole' recordings and in the 'cut' ones. Only what is relative to a recording's start can differ.
    """
    view, kept, _ = data.starts_cut
    return kept, {"whole": predictions_on(model, data.store, kept), "cut": predictions_on(model, view, kept)}


def without_start(model: LoadedRun, data: EvaluationSet) -> dict[str, float]:
    """Macro-F1 of `with_starts_cut`: windows, whole, cut, change with its interval."""
    kept, found = with_starts_cut(model, data)
    return {"windows": len(kept), **starts_cut_scores(arms_of(kept, found))}


def arms_of(windows: pd.DataFrame, found: dict[str, Predictions]) -> dict[str, Arm]:
    """What one model says about the same windows in several ways, each ready to be resampled."""
    resampling = resampled(windows)
    return {name: Arm([predictions], resampling) for name, predictions in found.items()}


def starts_cut_scores(arm: dict[str, Arm]) -> dict[str, float]:
    """Macro-F1 of an arm on the 'whole' recordings and on the 'cut' ones: whole, cut, change, the last two with
    intervals."""
    return {
        "whole": float(arm["whole"].by_seed("macro_f1").mean()),
        **_columns("cut", arm["cut"].interval("macro_f1")),
        **_columns("change", arm["cut"].difference(arm["whole"], "macro_f1")),
    }


def second_by_second(model: LoadedRun, data: EvaluationSet) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """A window every second, and what a model says about it: held against its commonest state ('majority') and against
    the state of its last second ('last'), the causal rule: what matters at a plant is the state now.
    """
    by_rule = {}
    for rule in ("majority", "last"):
        settings = WindowSettings(data.settings.size, 1, rule, data.settings.thermal_frames)
        by_rule[rule] = data.of_part(make_windows(data.store, settings))
    windows = by_rule["majority"]
    found = predictions_on(model, data.store, windows)
    return windows, {
        rule: Predictions(own["label"].to_numpy(), found.p, found.session) for rule, own in by_rule.items()
    }


def by_label_rule(arms: dict[str, Arm]) -> pd.DataFrame:
    """A row a rule of an arm tried by `second_by_second`.

    Returns:
        label, windows, accuracy, macro_f1, severe_recall with intervals.
    """
    found = []
    for rule, arm in arms.items():
        scores = [_columns(name, arm.interval(name)) for name in ("accuracy", "macro_f1", "severe_recall")]
        windows = int(arm.totals[0].confusion.sum())
        found.append({"label": rule, "windows": windows, **{k: v for score in scores for k, v in score.items()}})
    return pd.DataFrame(found)
