"""Checks of a run's model: its scaling, its history, its predictions, and whether it knows more than it may."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from conveyorguard.checks import tabular as check_tabular
from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, Subject, must_equal, some
from conveyorguard.config.compose import build
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.scaling import Scaling
from conveyorguard.data.store import Store
from conveyorguard.data.views import view_of
from conveyorguard.data.windows import Windows
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.bootstrap import resample
from conveyorguard.metrics.scores import METRICS, OBJECTIVES, Predictions, Totals, per_class
from conveyorguard.training.checkpoints import read_checkpoint
from conveyorguard.training.fit import fitted_rows
from conveyorguard.training.fit_tabular import TabularClassifier
from conveyorguard.training.module import WindowClassifier

CHANCE_LEVEL = 0.999  # of the interval that must hold chance: of a thousand sound runs one may be told as unsound
SAME_HISTORY = 1e-5  # relative: history.csv has six digits
SAME_VALIDATION = 0.01  # in mixed precision, or on another device, a window at a border falls to its other side
SMOOTH = ("accuracy", "macro_f1", "qwk", "nll", "brier")  # what one such window changes by less than that
# what scaling makes of each input
TENSORS = {
    "sensors": ("sensors", "sensors_window", "sensors_change"),
    "thermal": ("thermal", "thermal_stats", "thermal_stats_window", "thermal_stats_change"),
    "environment": ("environment",),
}


def scaling_is_of_train(subject: Subject) -> str:
    model, data, settings = subject.loaded.model, subject.data, subject.settings["scaling"]
    if isinstance(model, TabularClassifier):
        return check_tabular.scaling_is_of_train(model, data)
    if settings["fit_on"] != "train":
        raise Failed(
            "scaling fitted on train sessions", f"scaling.fit_on={settings['fit_on']}: it has seen the test sessions"
        )
    scaling = Scaling(data.store.schema, build(settings))
    fitted = scaling.fit(data.store, fitted_rows(data, "train"), data.settings.size).state_dict()
    for name, value in model.scaling.state_dict().items():
        if not torch.allclose(value.float(), fitted[name].float(), rtol=1e-4, atol=1e-5):
            raise Failed(
                f"{name} of the train sessions, {_numbers(fitted[name])}", f"{_numbers(value)} in the checkpoint"
            )
    return f"{len(fitted)} fitted tensors are those of the {len(data.split.sessions['train'])} train sessions"


def history_is_of_the_model(subject: Subject) -> str:
    """The kept epoch's objective is what validation gives with the kept weights, averaged ones where the run averages.

    Of the other epochs no weights are kept: their rows follow from nothing.
    """
    history = subject.run.history
    if subject.run.is_ensemble or subject.run.is_tabular:
        raise NotChecked("the model has no epochs")
    if history is None:
        raise Failed("history.csv, a row an epoch", "none")
    history = history.set_index("epoch")
    checkpoints = subject.run.folder / "checkpoints"
    kept = read_checkpoint(checkpoints / "best.ckpt").get("epoch", -1)
    last = read_checkpoint(checkpoints / "last.ckpt").get("epoch", 0)
    if list(history.index) != list(range(last + 1)):
        raise Failed(
            f"epochs 0 to {last} in history.csv, as checkpoints/last.ckpt has it", some(map(str, history.index))
        )
    _must_be_best(history[subject.run.objective], kept)
    names = _must_follow_from_predictions(history, kept, subject)
    return (
        f"epoch {kept} of {last + 1} is the best by {subject.run.objective}; predictions.parquet gives its "
        f"{', '.join(names) or 'loss not'}"
    )


def _must_be_best(values: pd.Series, kept: int) -> None:
    """Whether no epoch has a better objective than the one whose weights were kept. values: by epoch."""
    best = values.max() if OBJECTIVES[str(values.name)] else values.min()
    if not np.isclose(values.get(kept, np.nan), best, rtol=SAME_HISTORY):
        raise Failed(
            f"the best {values.name} of history.csv in epoch {kept}, that of checkpoints/best.ckpt",
            f"{values.get(kept)} there and {best} in another",
        )


def _must_follow_from_predictions(history: pd.DataFrame, kept: int, subject: Subject) -> list[str]:
    """Whether the kept epoch's figures are those of the validation predictions; the names of the figures compared."""
    precision = str(subject.run.settings["trainer"].get("precision", 32))
    exact = subject.run.provenance["device"] == "cpu" and precision.startswith("32")
    most = SAME_MODEL if exact else SAME_VALIDATION
    names = [name for name in (METRICS if exact else SMOOTH) if f"val/{name}" in history]
    for name in names:
        again, written = subject.run.scores["val"][name], float(history[f"val/{name}"][kept])
        again = np.nan if again is None else again
        if not np.isclose(written, again, rtol=most, atol=most, equal_nan=True):
            raise Failed(
                f"val/{name} = {again:.6g} in epoch {kept} of history.csv, as predictions.parquet gives it",
                f"{written:.6g}",
            )
    return names


def predictions_are_the_models(subject: Subject) -> str:
    loaded, most = subject.loaded, 0.0
    for part, rows in subject.parts.items():
        windows = subject.data.part(part)
        found = pd.DataFrame(predict(loaded.model, dataset_of(subject.data, part, loaded.inputs)))
        found.index = pd.MultiIndex.from_arrays([windows["session"].astype(str), windows["start"]])
        places = rows.drop_duplicates(["session", "start"]).set_index(["session", "start"])
        saved = places[[f"p{k}" for k in range(found.shape[1])]]
        shared = saved.index.intersection(found.index)  # of others, and of windows twice, other checks tell
        most = max(most, float(np.abs(found.loc[shared].to_numpy() - saved.loc[shared].to_numpy()).max(initial=0)))
    if most > SAME_MODEL:
        raise Failed("the probabilities that checkpoints/best gives today", f"others, by up to {most:.2g}")
    size = {"parameters": loaded.model.parameter_count, "model_bytes": loaded.model.size_in_bytes}
    must_equal("provenance.json", size, {name: subject.run.provenance.get(name) for name in size})
    return f"the checkpoint gives them again, to {most:.1g}"


def constant_input(subject: Subject) -> str:
    """Given the same input for every window, a model can know nothing; one that does sees labels or places of
    windows."""
    loaded, data = subject.loaded, subject.data
    still = replace(data, store=constant(data.store))
    parts = subject.run.wanted_parts
    p = np.concatenate([predict(loaded.model, dataset_of(still, part, loaded.inputs)) for part in parts])
    y = np.concatenate([data.part(part)["label"].to_numpy() for part in parts])
    session = np.concatenate([data.part(part)["session"].to_numpy(str) for part in parts])
    return must_be_chance(y, p, session, "the model given one and the same input for every window")


def every_modality_gets_a_gradient(subject: Subject) -> str:
    loaded, data = subject.loaded, subject.data
    if isinstance(loaded.model, TabularClassifier):
        return check_tabular.every_modality_is_used(loaded.model, data, subject.run.importance)
    dataset = dataset_of(data, "train", loaded.inputs)
    sizes, trained = gradients(loaded.model, dataset), gradients_in_training(loaded.model, dataset)
    if still := [name for name in loaded.inputs if sizes[name] > 0 and not trained[name] > 0]:
        raise Failed(
            f"a gradient to each of {', '.join(loaded.inputs)} in training",
            f"none to {', '.join(still)}: the model did not learn it",
        )
    deaf = [name for name in loaded.inputs if not sizes[name] > 0]
    if deaf:
        raise Failed(
            f"a gradient to each of {', '.join(loaded.inputs)}", f"none to {', '.join(deaf)}: the model cannot use it"
        )
    return "mean |gradient| " + ", ".join(f"{name} {size:.1e}" for name, size in sizes.items())


def gradients_in_training(model: WindowClassifier, dataset: WindowDataset) -> dict[str, float]:
    """`gradients` as the model computes when it learns, dropout and all: the largest of up to five, none more than it
    takes."""
    model = copy.deepcopy(model)  # it may note statistics of what it is given
    found = dict.fromkeys(dataset.inputs, 0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(5):
            if all(size > 0 for size in found.values()):
                break
            sizes = gradients(model, dataset, training=True)
            found = {name: max(size, sizes[name]) for name, size in found.items()}
    return found


def gradients(
    model: WindowClassifier, dataset: WindowDataset, count: int = 64, training: bool = False
) -> dict[str, float]:
    """Mean size of the loss's gradient with respect to each scaled input, over windows spread over the dataset."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)).tolist()
    batch = {name: value.to(model.device) for name, value in dataset.__getitems__(rows).items()}
    scaled = model.scaling(batch)
    leaves = {name: [key for key in TENSORS[name] if key in scaled] for name in dataset.inputs}
    inputs = {key: scaled[key].detach().float().requires_grad_() for keys in leaves.values() for key in keys}
    model.train(training)
    loss = model.loss(model.model({**scaled, **inputs}), batch)
    found = dict(zip(inputs, torch.autograd.grad(loss, list(inputs.values()), allow_unused=True), strict=True))
    return {
        name: sum(float(gradient.abs().mean()) for key in keys if (gradient := found[key]) is not None)
        for name, keys in leaves.items()
    }


def dataset_of(data: Windows, part: str, inputs: list[str]) -> WindowDataset:
    return WindowDataset(data.store, data.part(part), data.settings, inputs)


def constant(store: Store) -> Store:
    """The store with the same measurements in every second."""
    arrays = {name: getattr(store, name) for name in ("sensors", "environment", "thermal_statistics", "thermal")}
    still = {
        name: np.broadcast_to(np.nan_to_num(values[len(values) // 2]), values.shape)
        for name, values in arrays.items()
        if values is not None
    }
    return view_of(store, quality=np.zeros(len(store), np.uint8), **still)


def balanced_accuracy(y: np.ndarray, p: np.ndarray, group: np.ndarray) -> tuple[float, float, float, float]:
    """Mean recall of the states that occur, the interval of `CHANCE_LEVEL` by resampling groups, and chance."""
    resampling = resample(group, group)
    totals = Totals.of(Predictions(y, p), np.searchsorted(resampling.sessions, group), len(resampling.sessions))

    def of(weights: np.ndarray) -> np.ndarray:
        recall = per_class(totals.weighted(weights).confusion)[1]
        known = np.isfinite(recall)
        return np.where(known, recall, 0).sum(-1) / known.sum(-1)

    low, high = np.quantile(of(resampling.weights), [(1 - CHANCE_LEVEL) / 2, (1 + CHANCE_LEVEL) / 2])
    return float(of(np.ones(len(resampling.sessions)))), float(low), float(high), 1 / len(np.unique(y))


def must_be_chance(y: np.ndarray, p: np.ndarray, group: np.ndarray, who: str) -> str:
    value, low, high, chance = balanced_accuracy(y, p, group)
    if not (low <= chance <= high or abs(value - chance) < 1e-9):
        raise Failed(
            f"balanced accuracy {chance:.3f} of {who}, within its interval",
            f"{value:.3f} [{low:.3f}, {high:.3f}]: something tells it the labels",
        )
    return f"balanced accuracy {value:.3f} [{low:.3f}, {high:.3f}] of {who}; chance is {chance:.3f}"


def _numbers(values: torch.Tensor) -> str:
    return some([f"{float(v):.5g}" for v in values.flatten()[:4]])
