"""The model of a run: its scaling, its predictions, what it sees and what it does not use."""

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
from tests.checks.spoiled import edit_json, edit_predictions, failed, failure, verdicts

pytestmark = pytest.mark.promise(
    "numbers",
    "`check` notices a session or device in two parts; scaling or ranges fitted outside train; metrics, "
    "windows, sizes, pages or cards that do not follow from the data; a model that knows the labels when "
    "they are shuffled or the input is constant; an input without gradient.",
)


def test_model_is_checked_although_predictions_are_empty(copied):
    edit_predictions(copied, lambda table: table.iloc[:0])
    outcomes = verdicts(copied)
    for name in ("scaling is fitted on train", "constant input gives chance", "every modality is used"):
        assert outcomes[name].verdict == "ok", outcomes[name]


def test_repeated_window_does_not_fail_the_checkpoint_check(copied):
    edit_predictions(copied, lambda table: pd.concat([table, table.iloc[[0]]]), consistent=True)
    assert failure(copied, "predictions match the checkpoint") is None


def test_predictions_unlike_the_checkpoint_fail(copied):
    """Better figures, consistent in every file: only the model and its training's files contradict them."""

    def flatter(table):
        p = np.eye(4)[table["y_true"]] * 0.96 + 0.01
        return table.assign(y_pred=table["y_true"], **{f"p{k}": p[:, k].astype(np.float32) for k in range(4)})

    edit_predictions(copied, flatter, consistent=True)
    expected = [
        "examples match predictions",
        "history matches checkpoint and predictions",
        "predictions match the checkpoint",
        "examples match the data",
    ]
    assert list(failed(copied)) == expected


def test_scaling_fitted_outside_train_fails(copied, train_run):
    seed_scaled = train_run("modality=sensor", "scaling=seed", "trainer.max_epochs=1")
    assert "it has seen the test sessions" in failure(seed_scaled, "scaling is fitted on train")
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    state["state_dict"]["scaling.sensors_center"] *= 1.01
    torch.save(state, path)
    assert "expected sensors_center = " in failure(copied, "scaling is fitted on train")


def test_ranges_unlike_train_fail(copied):
    edit_json(copied / "ranges.json", lambda ranges: ranges["NTC"].update(high=999.0))
    assert "NTC.high" in failure(copied, "ranges are those of train")


def test_gpu_run_may_differ_in_one_window(copied):
    edit_json(copied / "provenance.json", lambda p: p.update(device="NVIDIA H100"))
    table = pd.read_csv(copied / "history.csv")
    one_window = table.assign(
        **{"val/accuracy": table["val/accuracy"] + 0.003, "val/severe_as_normal": table["val/severe_as_normal"] + 1}
    )
    for history, wrong in ((one_window, False), (table.assign(**{"val/accuracy": 0.99}), True)):
        history.to_csv(copied / "history.csv", index=False)
        assert bool(failure(copied, "history matches checkpoint and predictions")) == wrong


def test_model_that_sees_labels_fails_constant_input(copied, peeking):
    assert "the labels leak into its input" in failure(copied, "constant input gives chance")


def test_modality_without_gradient_fails(copied, monkeypatch):
    honest = Fusion.forward

    def forward(self, batch):
        return honest(self, {k: v.detach() if k.startswith("thermal") else v for k, v in batch.items()})

    monkeypatch.setattr(Fusion, "forward", forward)
    wrong = failed(copied)
    assert list(wrong) == ["every modality is used"]
    assert "none for thermal" in wrong["every modality is used"]


def test_modality_without_gradient_in_training_alone_fails(copied, monkeypatch):
    honest = Fusion.forward

    def forward(self, batch):
        cut = {k: v.detach() if k.startswith("thermal") and self.training else v for k, v in batch.items()}
        return honest(self, cut)

    monkeypatch.setattr(Fusion, "forward", forward)
    assert "in training, found none for thermal" in failure(copied, "every modality is used")


def test_every_scaled_tensor_belongs_to_a_modality(compose):
    cfg = compose("model=fusion")
    data = load_windows(cfg)
    inputs, _ = used_inputs(cfg, data.store.schema)
    batch = WindowDataset(data.store, data.part("train"), data.settings, inputs).__getitems__([0, 1])
    scaled = build_module(Recipe.of(plain_values(cfg)), data, inputs).scaling(batch)
    labels_and_raw = {"index", "window", "second", "mask", "sensors_start", "thermal_stats_start"}
    assert {name for names in TENSORS.values() for name in names} == {*scaled} - labels_and_raw


def test_balanced_accuracy_is_mean_recall_of_occurring_states():
    y, guess = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 1, 2, 0])
    accuracy, chance = balanced_accuracy(y, np.eye(4)[guess], np.arange(6).astype(str))
    assert accuracy.value == pytest.approx((3 / 4 + 1 / 2) / 2) and chance == 0.5
    assert 0 <= accuracy.low < accuracy.value < accuracy.high <= 1
