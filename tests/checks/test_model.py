"""The model of a run: its scaling, its predictions, what it sees and what it makes no use of."""

import numpy as np
import pandas as pd
import pytest
import torch

from conveyorguard.checks.model import TENSORS, balanced_accuracy
from conveyorguard.config.saved import plain_values
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.models.fusion import Fusion
from conveyorguard.runs.data import load_windows
from conveyorguard.training.fit import build_module
from conveyorguard.training.recipe import Recipe
from conveyorguard.training.setup import used_inputs
from tests.checks.spoiled import edit_json, edit_predictions, failed, told, verdicts


def test_the_model_is_looked_at_although_the_predictions_are_none(copied):
    edit_predictions(copied, lambda table: table.iloc[:0])
    found = verdicts(copied)
    for name in ("scaling is fitted on train", "constant input gives chance", "every modality gets a gradient"):
        assert found[name].verdict == "ok", found[name]


def test_a_window_twice_does_not_keep_the_model_from_being_asked(copied):
    edit_predictions(copied, lambda table: pd.concat([table, table.iloc[[0]]]), consistent=True)
    assert told(copied, "predictions are the model's") is None


def test_predictions_that_the_checkpoint_does_not_give_are_told(copied):
    """Better figures, consistent in every file: only the model and what its training wrote contradict them."""

    def flatter(table):
        p = np.eye(4)[table["y_true"]] * 0.96 + 0.01
        return table.assign(y_pred=table["y_true"], **{f"p{k}": p[:, k].astype(np.float32) for k in range(4)})

    edit_predictions(copied, flatter, consistent=True)
    found = [
        "examples are of the predictions",
        "history is of the model",
        "predictions are the model's",
        "examples show the data",
    ]
    assert list(failed(copied)) == found


def test_scaling_fitted_outside_train_is_told(copied, train_run):
    seeds = train_run("modality=sensor", "scaling=seed", "trainer.max_epochs=1")
    assert "it has seen the test sessions" in told(seeds, "scaling is fitted on train")
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    state["state_dict"]["scaling.sensors_center"] *= 1.01
    torch.save(state, path)
    assert "sensors_center of the train sessions" in told(copied, "scaling is fitted on train")


def test_ranges_that_are_not_of_train_are_told(copied):
    edit_json(copied / "ranges.json", lambda ranges: ranges["NTC"].update(high=999.0))
    assert "NTC.high" in told(copied, "ranges are of train")


def test_of_a_run_on_a_gpu_a_window_may_have_fallen_to_its_other_side(copied):
    edit_json(copied / "provenance.json", lambda p: p.update(device="NVIDIA H100"))
    table = pd.read_csv(copied / "history.csv")
    one_window = table.assign(
        **{"val/accuracy": table["val/accuracy"] + 0.003, "val/severe_as_normal": table["val/severe_as_normal"] + 1}
    )
    for history, wrong in ((one_window, False), (table.assign(**{"val/accuracy": 0.99}), True)):
        history.to_csv(copied / "history.csv", index=False)
        assert bool(told(copied, "history is of the model")) == wrong


def test_a_model_that_sees_the_labels_is_told(copied, peeking):
    assert "something tells it the labels" in told(copied, "constant input gives chance")


def test_a_modality_without_gradient_is_told(copied, monkeypatch):
    honest = Fusion.forward

    def forward(self, batch):
        return honest(self, {k: v.detach() if k.startswith("thermal") else v for k, v in batch.items()})

    monkeypatch.setattr(Fusion, "forward", forward)
    wrong = failed(copied)
    assert list(wrong) == ["every modality gets a gradient"]
    assert "none to thermal" in wrong["every modality gets a gradient"]


def test_a_modality_that_is_cut_off_in_training_alone_is_told(copied, monkeypatch):
    honest = Fusion.forward

    def forward(self, batch):
        cut = {k: v.detach() if k.startswith("thermal") and self.training else v for k, v in batch.items()}
        return honest(self, cut)

    monkeypatch.setattr(Fusion, "forward", forward)
    assert "in training, found none to thermal" in told(copied, "every modality gets a gradient")


def test_every_tensor_that_a_network_may_look_at_belongs_to_a_modality(compose):
    cfg = compose("model=fusion")
    data = load_windows(cfg)
    inputs, _ = used_inputs(cfg, data.store.schema)
    batch = WindowDataset(data.store, data.part("train"), data.settings, inputs).__getitems__([0, 1])
    scaled = build_module(Recipe.of(plain_values(cfg)), data, inputs).scaling(batch)
    labels_and_raw = {"index", "window", "second", "mask", "sensors_start", "thermal_stats_start"}
    assert {name for names in TENSORS.values() for name in names} == {*scaled} - labels_and_raw


def test_balanced_accuracy_is_the_mean_recall_of_the_states_that_occur():
    y, guess = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 1, 2, 0])
    value, low, high, chance = balanced_accuracy(y, np.eye(4)[guess], np.arange(6).astype(str))
    assert value == pytest.approx((3 / 4 + 1 / 2) / 2) and chance == 0.5
    assert 0 <= low < value < high <= 1
