"""Checks that train small models with a run's config on data from which nothing can be learned."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from conveyorguard.checks.model import constant, dataset_of, must_be_chance
from conveyorguard.checks.subject import NotChecked, Subject
from conveyorguard.data.windows import Windows
from conveyorguard.inference.predict import predict
from conveyorguard.training.by_settings import fit_by_settings
from conveyorguard.training.setup import used_inputs

SMALL = {"train": 12, "val": 6, "test": 6}  # sessions of each part
EPOCHS = 3
ON_CPU = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "precision": "32-true"}


def training_on_shuffled_labels_gives_chance(subject: Subject) -> str:
    """Train on labels assigned to all windows at random: the model can only guess those of the test windows."""
    data, rng = _small(subject.data), np.random.default_rng(subject.settings["seed"])
    frame = data.frame.assign(label=rng.permutation(data.frame["label"].to_numpy()))
    state = np.array(data.store.state)
    state[state >= 0] = rng.permutation(state[state >= 0])
    store = replace(data.store, state=state)
    y, p = _trained(subject, replace(data, frame=frame, store=store))
    # shuffling made the windows independent: each is a cluster of its own
    return must_be_chance(y, p, np.arange(len(y)).astype(str), "a model trained on shuffled labels")


def training_on_constant_input_gives_chance(subject: Subject) -> str:
    """Train on the same input for every window: the model can only guess."""
    data = _small(subject.data)
    y, p = _trained(subject, replace(data, store=constant(data.store)))
    return must_be_chance(y, p, data.judged("test")["session"].to_numpy(str), "a model trained on constant input")


def _trained(subject: Subject, data: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Train a small model with the run's config on the CPU; return labels (n,) and probabilities (n, K) on test.

    Raises:
        NotChecked: the run is an ensemble.
    """
    if subject.run.is_ensemble:
        raise NotChecked("the run is an ensemble, which is not trained")
    trainer = subject.settings["trainer"]
    short = {**trainer, "max_epochs": min(EPOCHS, trainer["max_epochs"]), **ON_CPU}
    settings = {**subject.settings, "trainer": short}
    inputs, _ = used_inputs(settings, data.store.schema)
    with tempfile.TemporaryDirectory() as place:
        model = fit_by_settings(settings, data, inputs, Path(place), torch.get_num_threads())
        return data.judged("test")["label"].to_numpy(), predict(model, dataset_of(data, "test", inputs))


def _small(data: Windows) -> Windows:
    """Return the windows of a few sessions of each part, evenly spaced in its list."""
    chosen = set()
    for part, count in SMALL.items():
        names = data.split.sessions[part]
        chosen |= {names[i] for i in np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)}
    return replace(data, frame=data.frame[data.frame["session"].isin(chosen)].reset_index(drop=True))
