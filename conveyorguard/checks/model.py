"""Checks of a run's model: its scaling, history and predictions, and whether it sees more than it should."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t

from conveyorguard.checks import tabular as check_tabular
from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, Subject, must_equal, some
from conveyorguard.config.compose import build
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.scaling import Scaling
from conveyorguard.data.store import Store
from conveyorguard.data.views import view_of
from conveyorguard.data.windows import Windows
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.intervals import Interval, jackknife
from conveyorguard.metrics.notation import PERCENT
from conveyorguard.metrics.scores import METRICS, OBJECTIVES, Predictions, Totals, evaluate, per_class
from conveyorguard.runs.derive import as_predictions
from conveyorguard.training.checkpoints import read_checkpoint
from conveyorguard.training.fit import fitted_rows
from conveyorguard.training.fit_tabular import TabularClassifier
from conveyorguard.training.module import WindowClassifier

CHANCE_LEVEL = 0.999  # of the interval that must hold chance: 1 of 1000 sound runs may fail
SAME_HISTORY = 1e-5  # relative tolerance: history.csv has six digits
SAME_VALIDATION = 0.01  # tolerance: in mixed precision or on another device a few predictions change
SMOOTH = ("accuracy", "macro_f1", "qwk", "nll", "brier")  # metrics that a few changed predictions move by less
# scaled tensors of each input
TENSORS = {
    "sensors": ("sensors", "sensors_window", "sensors_change"),
    "thermal": ("thermal", "thermal_stats", "thermal_stats_window", "thermal_stats_change"),
    "environment": ("environment",),
}


def scaling_is_fitted_on_train(subject: Subject) -> str:
    """Fit the scaling again on the train sessions and compare it with the checkpoint's."""
    model, data, settings = subject.loaded.model, subject.data, subject.settings["scaling"]
    if isinstance(model, TabularClassifier):
        return check_tabular.scaling_is_fitted_on_train(model, data)
    if settings["fit_on"] != "train":
        raise Failed(
            "scaling fitted on the train sessions",
            f"scaling.fit_on={settings['fit_on']}: it has seen the test sessions",
        )
    scaling = Scaling(data.store.schema, build(settings))
    fitted = scaling.fit(data.store, fitted_rows(data, "train"), data.settings.size).state_dict()
    for name, value in model.scaling.state_dict().items():
        if not torch.allclose(value.float(), fitted[name].float(), rtol=1e-4, atol=1e-5):
            raise Failed(
                f"{name} = {_numbers(fitted[name])}, as fitted on the train sessions, in checkpoints/best.ckpt",
                _numbers(value),
            )
    return f"{len(fitted)} fitted tensors equal those of the {len(data.split.sessions['train'])} train sessions"


def history_matches_checkpoint(subject: Subject) -> str:
    """Check that the kept epoch is the best in history.csv, and that the predictions give its figures.

    With averaged weights these are the figures of the averaged weights. The other epochs' weights are not kept, so
    their rows cannot be checked further.
    """
    history = subject.run.history
    if subject.run.is_ensemble or subject.run.is_tabular:
        raise NotChecked("the model has no epochs")
    if history is None:
        raise Failed("history.csv, one row per epoch", "none")
    if subject.out_of_fold:
        raise NotChecked("the last epoch is kept, and validation is predicted by the runs of the folds")
    history = history.set_index("epoch")
    checkpoints = subject.run.folder / "checkpoints"
    kept = read_checkpoint(checkpoints / "best.ckpt").get("epoch", -1)
    last = read_checkpoint(checkpoints / "last.ckpt").get("epoch", 0)
    if list(history.index) != list(range(last + 1)):
        raise Failed(
            f"epochs 0 to {last} in history.csv, the epochs of checkpoints/last.ckpt", some(map(str, history.index))
        )
    _must_be_best(history[subject.run.objective], kept)
    names = _must_follow_from_predictions(history, kept, subject)
    compared = f"predictions.parquet gives its {', '.join(names)}" if names else "its loss cannot be recomputed"
    return f"epoch {kept} of {last + 1} epochs is the best by {subject.run.objective}; {compared}"


def _must_be_best(values: pd.Series, kept: int) -> None:
    """Check that no epoch has a better objective than the one whose weights were kept.

    Args:
        values: the objective by epoch.
        kept: the epoch of checkpoints/best.ckpt.
    """
    best = values.max() if OBJECTIVES[str(values.name)] else values.min()
    if not np.isclose(values.get(kept, np.nan), best, rtol=SAME_HISTORY):
        raise Failed(
            f"the best {values.name} of history.csv in epoch {kept}, the epoch of checkpoints/best.ckpt",
            f"{values.get(kept)} there and {best} in another epoch",
        )


def _must_follow_from_predictions(history: pd.DataFrame, kept: int, subject: Subject) -> list[str]:
    """Compare the kept epoch's figures with the metrics of the validation predictions.

    Returns:
        Names of the metrics compared.
    """
    precision = str(subject.run.settings["trainer"].get("precision", 32))
    exact = subject.run.provenance["device"] == "cpu" and precision.startswith("32")
    tolerance = SAME_MODEL if exact else SAME_VALIDATION
    names = [name for name in (METRICS if exact else SMOOTH) if f"val/{name}" in history]
    scores = _scores_of_epochs(subject)
    for name in names:
        expected, written = scores[name], float(history[f"val/{name}"][kept])
        expected = np.nan if expected is None else expected
        if not np.isclose(written, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
            raise Failed(
                f"val/{name} = {expected:.6g} in epoch {kept} of history.csv, as computed from predictions.parquet",
                f"{written:.6g}",
            )
    return names


def _scores_of_epochs(subject: Subject) -> dict[str, Any]:
    """Return the metrics of validation as epochs compute them: as trained, on the windows spaced for training."""
    spaced = pd.MultiIndex.from_frame(subject.data.part("val")[["session", "start"]].astype({"session": str}))
    rows = subject.parts["val"].astype({"session": str})
    rows = rows[pd.MultiIndex.from_frame(rows[["session", "start"]]).isin(spaced)]
    if len(rows) < len(spaced):
        raise NotChecked("window.stride is no multiple of window.eval_stride, so epochs saw other validation windows")
    return evaluate(as_predictions(rows), subject.run.schema.state_names)


def predictions_match_checkpoint(subject: Subject) -> str:
    """Predict again with the checkpoint, and compare probabilities and size of the model."""
    loaded, difference = subject.loaded, 0.0
    for part, rows in subject.parts.items():
        if part == "val" and subject.out_of_fold:
            continue  # predicted by the runs of the folds
        windows = subject.data.judged(part)
        again = pd.DataFrame(predict(loaded.model, dataset_of(subject.data, part, loaded.inputs)))
        again.index = pd.MultiIndex.from_arrays([windows["session"].astype(str), windows["start"]])
        rows = rows.drop_duplicates(["session", "start"]).set_index(["session", "start"])
        saved = rows[[f"p{k}" for k in range(again.shape[1])]]
        shared = saved.index.intersection(again.index)  # other checks report missing, extra and repeated windows
        apart = np.abs(again.loc[shared].to_numpy() - saved.loc[shared].to_numpy())
        difference = max(difference, float(apart.max(initial=0)))
    if difference > SAME_MODEL:
        raise Failed(
            "in predictions.parquet the probabilities that the checkpoint gives today",
            f"values that differ by up to {difference:.2g}",
        )
    size = {"parameters": loaded.model.parameter_count, "model_bytes": loaded.model.size_in_bytes}
    must_equal("provenance.json", size, {name: subject.run.provenance.get(name) for name in size})
    return f"the checkpoint gives the same probabilities, within {difference:.1g}"


def constant_input_gives_chance(subject: Subject) -> str:
    """Give the model the same input for every window, so that it can only guess.

    If it does better, it sees labels or the position of windows.
    """
    loaded, data = subject.loaded, subject.data
    still = replace(data, store=constant(data.store))
    parts = subject.run.wanted_parts
    p = np.concatenate([predict(loaded.model, dataset_of(still, part, loaded.inputs)) for part in parts])
    y = np.concatenate([data.judged(part)["label"].to_numpy() for part in parts])
    session = np.concatenate([data.judged(part)["session"].to_numpy(str) for part in parts])
    return must_be_chance(y, p, session, "the model given constant input")


def every_modality_is_used(subject: Subject) -> str:
    """Check that each modality of a network gets a gradient, or that trees gain from it."""
    loaded, data = subject.loaded, subject.data
    if isinstance(loaded.model, TabularClassifier):
        return check_tabular.every_modality_is_used(loaded.model, data, subject.run.importance)
    dataset = dataset_of(data, "train", loaded.inputs)
    sizes, trained = gradients(loaded.model, dataset), gradients_in_training(loaded.model, dataset)
    if untrained := [name for name in loaded.inputs if sizes[name] > 0 and not trained[name] > 0]:
        raise Failed(
            f"a gradient for each of {', '.join(loaded.inputs)} in training",
            f"none for {', '.join(untrained)}: the model did not learn from it",
        )
    unused = [name for name in loaded.inputs if not sizes[name] > 0]
    if unused:
        raise Failed(
            f"a gradient for each of {', '.join(loaded.inputs)}", f"none for {', '.join(unused)}: the model ignores it"
        )
    return "mean |gradient| " + ", ".join(f"{name} {size:.1e}" for name, size in sizes.items())


def gradients_in_training(model: WindowClassifier, dataset: WindowDataset) -> dict[str, float]:
    """Return `gradients` in training mode, the largest of up to five draws of dropout, for each input.

    It stops as soon as every input has a gradient.
    """
    model = copy.deepcopy(model)  # training mode may change its statistics
    largest = dict.fromkeys(dataset.inputs, 0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(5):
            if all(size > 0 for size in largest.values()):
                break
            sizes = gradients(model, dataset, training=True)
            largest = {name: max(size, sizes[name]) for name, size in largest.items()}
    return largest


def gradients(
    model: WindowClassifier, dataset: WindowDataset, count: int = 64, training: bool = False
) -> dict[str, float]:
    """Return the mean absolute gradient of the loss with respect to each input, after scaling.

    Args:
        model: the network.
        dataset: windows, of which some are taken at even distances.
        count: number of windows.
        training: compute in training mode, with dropout.
    """
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)).tolist()
    batch = {name: value.to(model.device) for name, value in dataset.__getitems__(rows).items()}
    scaled = model.scaling(batch)
    leaves = {name: [key for key in TENSORS[name] if key in scaled] for name in dataset.inputs}
    inputs = {key: scaled[key].detach().float().requires_grad_() for keys in leaves.values() for key in keys}
    model.train(training)
    loss = model.loss(model.model({**scaled, **inputs}), batch)
    gradient_of = dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values()), allow_unused=True), strict=True))
    return {
        name: sum(float(gradient.abs().mean()) for key in keys if (gradient := gradient_of[key]) is not None)
        for name, keys in leaves.items()
    }


def dataset_of(data: Windows, part: str, inputs: list[str]) -> WindowDataset:
    """Return the windows of a part as a dataset: those that train, or those that are judged."""
    windows = data.part(part) if part == "train" else data.judged(part)
    return WindowDataset(data.store, windows, data.settings, inputs)


def constant(store: Store) -> Store:
    """Return the store with the same measurements in every second."""
    arrays = {name: getattr(store, name) for name in ("sensors", "environment", "thermal_statistics", "thermal")}
    still = {
        name: np.broadcast_to(np.nan_to_num(values[len(values) // 2]), values.shape)
        for name, values in arrays.items()
        if values is not None
    }
    return view_of(store, quality=np.zeros(len(store), np.uint8), **still)


def balanced_accuracy(y: np.ndarray, p: np.ndarray, group: np.ndarray) -> tuple[Interval, float]:
    """Return the mean recall of the states that occur with its interval, and chance.

    Args:
        y: labels, (n,).
        p: probabilities, (n, K).
        group: cluster of each window, (n,); the interval is over clusters.

    Returns:
        The value with its interval at `CHANCE_LEVEL`, and chance, 1 / number of states that occur. The interval of one
        cluster is 0 to 1.
    """
    names, index = np.unique(group, return_inverse=True)
    totals, chance = Totals.of(Predictions(y, p), index, len(names)), 1 / len(np.unique(y))

    def mean_recall(sums: Totals) -> np.ndarray:
        recall = per_class(sums.confusion)[1]
        known = np.isfinite(recall)
        return np.where(known, recall, 0).sum(-1) / known.sum(-1)

    value = float(mean_recall(totals.summed()))
    if len(names) == 1:
        return Interval(value, 0.0, 1.0), chance
    error, _ = jackknife(mean_recall(totals.without_each()))
    half = float(error * t.ppf((1 + CHANCE_LEVEL) / 2, len(names) - 1))
    return Interval(value, max(value - half, 0.0), min(value + half, 1.0)), chance


def must_be_chance(y: np.ndarray, p: np.ndarray, group: np.ndarray, who: str) -> str:
    """Check that the interval of the balanced accuracy holds chance.

    Args:
        y: labels, (n,).
        p: probabilities, (n, K).
        group: cluster of each window, (n,).
        who: the model, for the message.

    Raises:
        Failed: it does not.
    """
    accuracy, chance = balanced_accuracy(y, p, group)
    text = PERCENT.with_interval(accuracy)
    if not (accuracy.low <= chance <= accuracy.high or abs(accuracy.value - chance) < 1e-9):
        raise Failed(
            f"balanced accuracy {PERCENT.number(chance)} (chance) within the interval of {who}",
            f"{text}: the labels leak into its input",
        )
    return f"balanced accuracy of {who}: {text}; chance is {PERCENT.number(chance)}"


def _numbers(values: torch.Tensor) -> str:
    """Return the first values of a tensor as text."""
    return some([f"{float(v):.5g}" for v in values.flatten()[:4]])
