"""Checks of a run that need its recordings and its model, and those that train small models of its kind."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from conveyorguard.checks import tabular as check_tabular
from conveyorguard.checks.files import (
    SAME_MODEL,
    Failed,
    NotChecked,
    Subject,
    devices_apart,
    difference_of,
    must_equal,
    some,
)
from conveyorguard.config.compose import build, is_tabular
from conveyorguard.config.saved import plain_values
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.ranges import training_ranges
from conveyorguard.data.scaling import Scaling
from conveyorguard.data.splits import PARTS
from conveyorguard.data.store import Store
from conveyorguard.data.windows import Windows
from conveyorguard.evaluation.shortcuts import shortcut_predictions
from conveyorguard.inference.predict import predict
from conveyorguard.metrics.bootstrap import resample
from conveyorguard.metrics.scores import METRICS, OBJECTIVES, Predictions, Totals, per_class
from conveyorguard.runs.derive import data_facts
from conveyorguard.system.files import read_json
from conveyorguard.training.by_settings import fit_by_settings
from conveyorguard.training.checkpoints import read_checkpoint
from conveyorguard.training.fit import fitted_rows
from conveyorguard.training.fit_tabular import TabularClassifier
from conveyorguard.training.module import WindowClassifier
from conveyorguard.training.setup import used_inputs

CHANCE_LEVEL = 0.999  # of the interval that must hold chance: of a thousand sound runs one may be told as unsound
SMALL = {"train": 12, "val": 6, "test": 6}  # sessions that the checks by training use
EPOCHS = 3
SAME_HISTORY = 1e-5  # relative: history.csv has six digits
SAME_VALIDATION = 0.01  # in mixed precision, or on another device, a window at a border falls to its other side
SMOOTH = ("accuracy", "macro_f1", "qwk", "nll", "brier")  # what one such window changes by less than that
# what scaling makes of each input
TENSORS = {
    "sensors": ("sensors", "sensors_window", "sensors_change"),
    "thermal": ("thermal", "thermal_stats", "thermal_stats_window", "thermal_stats_change"),
    "environment": ("environment",),
}


def data_are_the_runs(subject: Subject) -> str:
    told, found = subject.run.provenance["store"]["fingerprint"], subject.data.store.fingerprint
    if told != found:
        raise Failed(
            f"data of fingerprint {told[:12]}", f"{found[:12]}: other recordings, or another version of the reader"
        )
    return f"fingerprint {found[:12]}"


def split_is_of_the_data(subject: Subject) -> str:
    for part, wanted in subject.made.split.sessions.items():
        found = subject.saved_split["sessions"].get(part, [])
        if sorted(wanted) != sorted(found):
            raise Failed(
                f"the {len(wanted)} sessions of {part} that data and config.yaml give",
                f"{len(found)}; {difference_of(set(wanted), set(found), 'so dealt')}",
            )
    return "the sessions of each part are those that data and config.yaml give"


def devices_of_all_parts_are_apart(subject: Subject) -> str:
    frame = subject.data.frame
    return devices_apart(subject, {part: set(frame["device"][frame["part"] == part]) for part in PARTS})


def windows_match(subject: Subject) -> str:
    keys, facts = ["session", "start"], ["end", "device", "kind", "y_true", "seconds_to_end", "seconds_since_onset"]
    frame = subject.data.frame.rename(columns={"label": "y_true"})
    for part, rows in subject.parts.items():
        wanted, found = (
            table.astype({"session": str}).drop_duplicates(keys).set_index(keys)[facts].sort_index()
            for table in (frame[frame["part"] == part], rows)
        )
        if set(wanted.index) != set(found.index):
            raise Failed(
                f"the {len(wanted):,} windows that data and split give for {part}",
                f"{len(found):,}; {difference_of(set(wanted.index), set(found.index), 'of the data')}",
            )
        for name in facts:
            own, other = wanted[name], found[name]
            apart = np.flatnonzero(~((own == other) | (own.isna() & other.isna())))
            if len(apart):
                row = apart[0]
                session, start = (wanted.index.get_level_values(key)[row] for key in keys)
                raise Failed(
                    f"{name} = {own.iloc[row]} of the {part} window of {session} at {start} s",
                    f"{other.iloc[row]} ({len(apart)} windows of {len(own)} differ)",
                )
    outside = frame["part"].isna().sum()
    if outside and subject.config.split.get("train_devices") is None:
        raise Failed("every labelled session in a part of the split", f"{outside} windows of sessions in none")
    return "sessions, seconds, devices, kinds and labels of every window are those of the data"


def hours_and_devices(subject: Subject) -> str:
    """What the card says that the model was trained on."""
    data, told = subject.data, subject.run.provenance
    if "data" not in told:
        raise NotChecked("provenance.json does not tell them: the run is of an older version")
    found = data_facts(data.store, data.split.sessions)
    must_equal("provenance.json", {"data": found}, {"data": told["data"]})
    count = int((data.frame["part"] == "train").sum())
    must_equal("provenance.json", {"windows": {"train": count}}, {"windows": {"train": told["windows"].get("train")}})
    return f"{sum(found['hours']['train'].values()):.2f} h of {len(found['devices']['train'])} devices to train on"


def scaling_is_of_train(subject: Subject) -> str:
    model, data, cfg = subject.loaded.model, subject.data, subject.config
    if isinstance(model, TabularClassifier):
        return check_tabular.scaling_is_of_train(model, data)
    if cfg.scaling.fit_on != "train":
        raise Failed(
            "scaling fitted on train sessions", f"scaling.fit_on={cfg.scaling.fit_on}: it has seen the test sessions"
        )
    scaling = Scaling(data.store.schema, build(cfg.scaling))
    fitted = scaling.fit(data.store, fitted_rows(data, "train"), data.settings.size).state_dict()
    for name, value in model.scaling.state_dict().items():
        if not torch.allclose(value.float(), fitted[name].float(), rtol=1e-4, atol=1e-5):
            raise Failed(
                f"{name} of the train sessions, {_numbers(fitted[name])}", f"{_numbers(value)} in the checkpoint"
            )
    return f"{len(fitted)} fitted tensors are those of the {len(data.split.sessions['train'])} train sessions"


def ranges_are_of_train(subject: Subject) -> str:
    data, path = subject.data, subject.run.folder / "ranges.json"
    if subject.is_ensemble and not path.exists():
        raise NotChecked("there is no ranges.json, as in an ensemble's run directory")
    must_equal("ranges.json", training_ranges(data.store, fitted_rows(data, "train")), read_json(path))
    return "least and greatest values are those of the train sessions"


def shortcuts_are_of_the_data(subject: Subject) -> str:
    """They are trees without chance, made again in a moment."""
    saved = subject.run.shortcuts
    if saved is None and subject.is_ensemble:
        raise NotChecked("there is no shortcuts.parquet, as in an ensemble's run directory")
    if saved is None:
        raise Failed("shortcuts.parquet, the baselines that the model is held against", "none")
    keys = ["shortcut", "split", "session", "start"]
    made = shortcut_predictions(subject.data, subject.evaluated)
    values = ["y_true", "y_pred", *(f"p{k}" for k in range(len(subject.run.schema.states)))]
    wanted, found = (table.astype({"session": str}).set_index(keys)[values].sort_index() for table in (made, saved))
    if not wanted.index.equals(found.index):
        raise Failed(
            f"predictions of {some(made['shortcut'].unique())} on the {len(wanted):,} windows of the data",
            f"{len(found):,} of {some(saved['shortcut'].unique())}; "
            f"{difference_of(set(wanted.index), set(found.index), 'of the data')}",
        )
    apart = np.flatnonzero((np.abs(wanted.to_numpy(float) - found.to_numpy(float)) > SAME_MODEL).any(axis=1))
    if len(apart):
        raise Failed(
            f"the predictions that the shortcut '{wanted.index.get_level_values('shortcut')[apart[0]]}' gives on "
            "these data",
            f"others in {len(apart)} of {len(wanted)} rows",
        )
    return f"{made['shortcut'].nunique()} shortcuts, fitted again on the train windows, give them again"


def history_is_of_the_model(subject: Subject) -> str:
    """The kept epoch's objective is what validation gives with the kept weights, averaged ones where the run averages.

    Of the other epochs no weights are kept: their rows follow from nothing.
    """
    history, cfg = subject.run.history, subject.run.config
    if subject.is_ensemble or is_tabular(cfg):
        raise NotChecked("the model has no epochs")
    if history is None:
        raise Failed("history.csv, a row an epoch", "none")
    state = read_checkpoint(subject.run.folder / "checkpoints" / "best.ckpt")
    kept, values = state.get("epoch"), history.set_index("epoch")[cfg.objective]
    last = read_checkpoint(subject.run.folder / "checkpoints" / "last.ckpt").get("epoch", 0)
    if list(values.index) != list(range(last + 1)):
        raise Failed(
            f"epochs 0 to {last} in history.csv, as checkpoints/last.ckpt has it", some(map(str, values.index))
        )
    best = values.max() if OBJECTIVES[cfg.objective] else values.min()
    if not np.isclose(values.get(kept, np.nan), best, rtol=SAME_HISTORY):
        raise Failed(
            f"the best {cfg.objective} of history.csv in epoch {kept}, that of checkpoints/best.ckpt",
            f"{values.get(kept)} there and {best} in another",
        )
    told = f"epoch {kept} of {last + 1} is the best by {cfg.objective}"
    exact = subject.run.provenance["device"] == "cpu" and str(cfg.trainer.get("precision", 32)).startswith("32")
    names = [name for name in (METRICS if exact else SMOOTH) if f"val/{name}" in history]
    row = history.set_index("epoch").loc[kept]
    for name in names:
        again, written = subject.run.scores["val"][name], row[f"val/{name}"]
        again = np.nan if again is None else again
        most = SAME_MODEL if exact else SAME_VALIDATION
        if not np.isclose(written, again, rtol=most, atol=most, equal_nan=True):
            raise Failed(
                f"val/{name} = {again:.6g} in epoch {kept} of history.csv, as predictions.parquet gives it",
                f"{written:.6g}",
            )
    return f"{told}; predictions.parquet gives its {', '.join(names) or 'loss not'}"


def predictions_are_the_models(subject: Subject) -> str:
    loaded, most = subject.loaded, 0.0
    for part, rows in subject.parts.items():
        windows = subject.data.part(part)
        found = pd.DataFrame(predict(loaded.model, _dataset(subject.data, part, loaded.inputs)))
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
    still = replace(data, store=_constant(data.store))
    parts = subject.evaluated
    p = np.concatenate([predict(loaded.model, _dataset(still, part, loaded.inputs)) for part in parts])
    y = np.concatenate([data.part(part)["label"].to_numpy() for part in parts])
    session = np.concatenate([data.part(part)["session"].to_numpy(str) for part in parts])
    return _must_be_chance(y, p, session, "the model given one and the same input for every window")


def every_modality_gets_a_gradient(subject: Subject) -> str:
    loaded, data = subject.loaded, subject.data
    if isinstance(loaded.model, TabularClassifier):
        return check_tabular.every_modality_is_used(loaded.model, data, subject.run.importance)
    dataset = _dataset(data, "train", loaded.inputs)
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


# Small trainings


def shuffled_labels(subject: Subject) -> str:
    """Trained on labels dealt at random to all windows, a model can only guess the test windows'."""
    data, rng = _small(subject.data), np.random.default_rng(subject.config.seed)
    frame = data.frame.assign(label=rng.permutation(data.frame["label"].to_numpy()))
    state = np.array(data.store.state)
    state[state >= 0] = rng.permutation(state[state >= 0])
    shuffled = replace(data, frame=frame, store=replace(data.store, state=state))
    y, p = _trained(subject, shuffled)
    # windows have been made independent of each other, so each is drawn by itself
    return _must_be_chance(y, p, np.arange(len(y)).astype(str), "a model trained on labels dealt at random")


def constant_training(subject: Subject) -> str:
    """Trained without any input to tell windows apart, a model can only guess."""
    data = _small(subject.data)
    y, p = _trained(subject, replace(data, store=_constant(data.store)))
    return _must_be_chance(
        y, p, data.part("test")["session"].to_numpy(str), "a model trained on one and the same input"
    )


def _trained(subject: Subject, data: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, K) of the test windows of a model of the run's kind, trained on the data."""
    if subject.is_ensemble:
        raise NotChecked("an ensemble is not trained")
    settings = plain_values(subject.config)
    inputs, _ = used_inputs(settings, data.store.schema)
    epochs = min(EPOCHS, settings["trainer"]["max_epochs"])
    on_cpu = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "precision": "32-true"}
    settings["trainer"] |= {"max_epochs": epochs, **on_cpu}
    with tempfile.TemporaryDirectory() as place:
        model = fit_by_settings(settings, data, inputs, Path(place), torch.get_num_threads())
        return data.part("test")["label"].to_numpy(), predict(model, _dataset(data, "test", inputs))


def _small(data: Windows) -> Windows:
    """A few sessions of each part, spread over it."""
    chosen = set()
    for part, count in SMALL.items():
        names = data.split.sessions[part]
        chosen |= {names[i] for i in np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)}
    return replace(data, frame=data.frame[data.frame["session"].isin(chosen)].reset_index(drop=True))


# What they share


def _dataset(data: Windows, part: str, inputs: list[str]) -> WindowDataset:
    return WindowDataset(data.store, data.part(part), data.settings, inputs)


def _constant(store: Store) -> Store:
    """The store with the same measurements in every second."""
    still: dict[str, Any] = {"quality": np.zeros(len(store), np.uint8)}
    for name in ("sensors", "environment", "thermal_statistics", "thermal"):
        values = getattr(store, name)
        if values is not None:
            still[name] = np.broadcast_to(np.nan_to_num(values[len(values) // 2]), values.shape)
    return replace(store, **still)


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


def _must_be_chance(y: np.ndarray, p: np.ndarray, group: np.ndarray, who: str) -> str:
    value, low, high, chance = balanced_accuracy(y, p, group)
    if not (low <= chance <= high or abs(value - chance) < 1e-9):
        raise Failed(
            f"balanced accuracy {chance:.3f} of {who}, within its interval",
            f"{value:.3f} [{low:.3f}, {high:.3f}]: something tells it the labels",
        )
    return f"balanced accuracy {value:.3f} [{low:.3f}, {high:.3f}] of {who}; chance is {chance:.3f}"


def _numbers(values: torch.Tensor) -> str:
    return some([f"{float(v):.5g}" for v in values.flatten()[:4]])
