"""Evaluate models on corrupted data, with a permuted modality, and on sessions whose start is cut off."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from conveyorguard.metrics.intervals import non_inferiority
from conveyorguard.metrics.resampling import Arm, Resampling, resample
from conveyorguard.metrics.scores import Predictions
from conveyorguard.runs.data import conditioned
from conveyorguard.training.module import WindowClassifier

REPEATS = 3  # number of permutations of each modality
TOLERATED = 0.01  # macro-F1 by which the fused arm may fall below the better single modality: one point
# by modality: its keys in a batch, and its index in the mask
HELD = {
    "sensors": (("sensors", "sensors_start"), 0),
    "thermal": (("thermal", "thermal_stats", "thermal_stats_start"), 1),
    "environment": (("environment",), 2),
}


@dataclass
class EvaluationSet:
    """The data that models are evaluated on.

    Attributes:
        store: Frame store.
        split: Split of its sessions.
        settings: Settings of the windows.
        part: Part of the split, test or val.
        seed: Seed of everything that is drawn.
    """

    store: Store
    split: Split
    settings: WindowSettings
    part: str
    seed: int = 0

    @cached_property
    def windows(self) -> pd.DataFrame:
        """The windows of the part, in the order of the store."""
        return self.of_part(make_windows(self.store, self.settings, stride=self.settings.judged_stride))

    @cached_property
    def train(self) -> np.ndarray:
        """Mask (frames,) of the train sessions in the store."""
        return self.store.rows_of(self.split.sessions["train"])

    @cached_property
    def resampling(self) -> Resampling:
        """The groups of the windows' sessions."""
        return resampled(self.windows)

    @cached_property
    def starts_cut(self) -> tuple[Store, pd.DataFrame, np.ndarray]:
        """A view of the store in which each session has lost its first 0 to LONGEST_CUT rows.

        Returns:
            View, remaining windows (N), and for each the time (N,) [s] at which its session begins in the view.
        """
        view, begins = cut_starts(self.store, self.seed, LONGEST_CUT)
        begin = begins[self.windows["row"]] * self.store.period
        kept = self.windows["start"].to_numpy() >= begin
        return view, self.windows[kept].reset_index(drop=True), begin[kept]

    def of_part(self, windows: pd.DataFrame) -> pd.DataFrame:
        """Select the windows of the part."""
        return windows[windows["session"].isin(self.split.sessions[self.part])].reset_index(drop=True)


def resampled(windows: pd.DataFrame) -> Resampling:
    """Return the groups of the windows' sessions, which are the same for all models."""
    return resample(windows["session"].to_numpy(), windows["device"].to_numpy())


def dataset_of(model: LoadedRun, store: Store, windows: pd.DataFrame) -> WindowDataset:
    """Return windows of a store as inputs of this model."""
    return WindowDataset(conditioned(store, model.run.settings), windows, model.settings, model.inputs)


def predictions_on(model: LoadedRun, store: Store, windows: pd.DataFrame) -> Predictions:
    """Return the answers of a model on windows of a store or of a view of it, in the order of time in each session.

    They are those that its pages show: as deployed, or as trained where a run of an earlier version knows no other.
    """
    p = predict(model.model, dataset_of(model, store, windows))
    return Predictions(windows["label"].to_numpy(), answers(model, windows, p), windows["session"].to_numpy())


def answers(model: LoadedRun, windows: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    """Return the probabilities (n, K) that a model's pages show, from those as trained."""
    return model.deployed(windows, p) if model.run.answer == "c" else p.astype(np.float64)


def under_corruption(model: LoadedRun, data: EvaluationSet) -> dict[str, Predictions]:
    """Apply a model under every corruption; returns predictions by the name of the corruption."""
    predictions = {}
    for corruption in corruptions(data.store.schema):
        view = corruption.view(data.store, data.train, data.seed)
        predictions[corruption.name] = predictions_on(model, view, data.windows)
    return predictions


def corruption_table(schema, clean: dict[str, Arm], corrupted: dict[str, dict[str, Arm]]) -> pd.DataFrame:
    """Return macro_f1 and its paired fall against clean data, with intervals, one row per corruption and arm.

    Args:
        schema: Schema of the data.
        clean: clean[label], each arm on clean data.
        corrupted: corrupted[label][corruption].
    """
    rows = []
    for corruption in corruptions(schema):
        for arm, by_corruption in corrupted.items():
            score = by_corruption[corruption.name].interval("macro_f1")
            fall = clean[arm].difference(by_corruption[corruption.name], "macro_f1")
            rows.append(
                {
                    "corruption": corruption.name,
                    "group": corruption.group,
                    "level": corruption.level,
                    "arm": arm,
                    **score.columns("macro_f1"),
                    **fall.columns("fall"),
                }
            )
    return pd.DataFrame(rows)


def against_single(fused: dict[str, Arm], single: dict[str, dict[str, Arm]]) -> pd.DataFrame:
    """Compare the fused arm with the better single-modality arm under each corruption.

    It holds where the lower bound of the paired difference lies above -TOLERATED, after Holm's correction for the
    number of corruptions.

    Args:
        fused: fused[corruption].
        single: single[label][corruption].

    Returns:
        One row per corruption: corruption, macro_f1, better arm, its macro_f1, difference with its interval, verdict;
        severe_recall and the worst seed's severe_sessions_missed of the fused arm; numbers of seeds (fused, single).
    """
    scores = {name: {label: arms[name].by_seed("macro_f1").mean() for label, arms in single.items()} for name in fused}
    better = {name: max(by_label, key=by_label.__getitem__) for name, by_label in scores.items()}
    differences = [arm.difference(single[better[name]][name], "macro_f1") for name, arm in fused.items()]
    rows = []
    for (name, arm), d, verdict in zip(
        fused.items(), differences, non_inferiority(differences, TOLERATED), strict=True
    ):
        other = single[better[name]][name]
        rows.append(
            {
                "corruption": name,
                "macro_f1": float(arm.by_seed("macro_f1").mean()),
                "better arm": better[name],
                "its macro_f1": float(other.by_seed("macro_f1").mean()),
                **d.columns("difference"),
                "verdict": verdict,
                "severe_recall": float(arm.by_seed("severe_recall").mean()),
                "severe_sessions_missed": float(arm.by_seed("severe_sessions_missed").max()),
                "seeds": f"{len(arm.totals)}, {len(other.totals)}",
            }
        )
    return pd.DataFrame(rows)


class Permuted(WindowDataset):
    """A dataset in which one modality of each window is that of another window."""

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
    """Return probabilities (N, K) when window i gets the modality of window order[i] and keeps everything else."""
    if isinstance(model.model, WindowClassifier):
        return predict(model.model, Permuted(dataset, modality, order))
    features = model.model.features(dataset).copy()
    columns = feature_sources(model.model.names, dataset.store.schema)["modality"].to_numpy() == modality
    features[:, columns] = features[order][:, columns]
    return model.model.model.probabilities(features)


def attribution(model: LoadedRun, data: EvaluationSet, clean: Predictions) -> pd.DataFrame:
    """Return the permutation importance of each modality: permute it between windows (Breiman, 2001).

    Returns:
        modality, fall (of macro-F1, mean over REPEATS permutations) with its interval, share of the sum of all falls.
    """
    dataset, rng = dataset_of(model, data.store, data.windows), np.random.default_rng(data.seed)
    orders = [rng.permutation(len(dataset)) for _ in range(REPEATS)]
    rows, before = [], Arm([clean], data.resampling)
    for modality in model.inputs:
        after = [
            Predictions(
                clean.y_true,
                answers(model, data.windows, permuted(model, dataset, modality, order)),
                clean.session,
            )
            for order in orders
        ]
        fall = before.difference(Arm(after, data.resampling), "macro_f1")
        rows.append({"modality": modality, **fall.columns("fall")})
    table = pd.DataFrame(rows)
    useful = table["fall"].clip(lower=0)
    return table.assign(share=useful / (useful.sum() or 1.0))


def with_starts_cut(model: LoadedRun, data: EvaluationSet) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """Apply a model to the windows that remain when the start of each session is cut off.

    Only inputs relative to the start of a session can differ between 'whole' and 'cut'.

    Returns:
        Remaining windows, and predictions on them in 'whole' and in 'cut' sessions.
    """
    view, kept, _ = data.starts_cut
    return kept, {"whole": predictions_on(model, data.store, kept), "cut": predictions_on(model, view, kept)}


def without_start(model: LoadedRun, data: EvaluationSet) -> dict[str, float]:
    """Return number of windows and macro-F1 for `with_starts_cut`, see `starts_cut_scores`."""
    kept, predictions = with_starts_cut(model, data)
    return {"windows": len(kept), **starts_cut_scores(arms_of(kept, predictions))}


def arms_of(windows: pd.DataFrame, predictions: dict[str, Predictions]) -> dict[str, Arm]:
    """Make an arm of each of several predictions on the same windows."""
    resampling = resampled(windows)
    return {name: Arm([one_seed], resampling) for name, one_seed in predictions.items()}


def starts_cut_scores(arm: dict[str, Arm]) -> dict[str, float]:
    """Return macro-F1 on 'whole' and on 'cut' sessions and its change, the last two with intervals."""
    return {
        "whole": float(arm["whole"].by_seed("macro_f1").mean()),
        **arm["cut"].interval("macro_f1").columns("cut"),
        **arm["cut"].difference(arm["whole"], "macro_f1").columns("change"),
    }


def second_by_second(model: LoadedRun, data: EvaluationSet) -> tuple[pd.DataFrame, dict[str, Predictions]]:
    """Apply a model to a window at every row, labelled in two ways.

    The labels are the most frequent state of the window ('majority') and the state of its last row ('last'), the
    causal rule: a plant needs the state now.

    Returns:
        Windows, and predictions with the labels of each rule.
    """
    by_rule = {}
    for rule in ("majority", "last"):
        settings = replace(data.settings, stride=1, eval_stride=1, label=rule)
        by_rule[rule] = data.of_part(make_windows(data.store, settings))
    windows = by_rule["majority"]
    predictions = predictions_on(model, data.store, windows)
    return windows, {
        rule: Predictions(table["label"].to_numpy(), predictions.p, predictions.session)
        for rule, table in by_rule.items()
    }


def by_label_rule(arms: dict[str, Arm]) -> pd.DataFrame:
    """Return the figures for each label rule of `second_by_second`.

    Returns:
        One row per rule: label (the rule), windows, and accuracy, macro_f1, severe_recall with intervals.
    """
    rows = []
    for rule, arm in arms.items():
        scores = [arm.interval(name).columns(name) for name in ("accuracy", "macro_f1", "severe_recall")]
        windows = int(arm.totals[0].confusion.sum())
        rows.append({"label": rule, "windows": windows, **{k: v for score in scores for k, v in score.items()}})
    return pd.DataFrame(rows)
