"""Augmentation mirrors frames with their statistics, simulates faults, and changes nothing else."""

import pytest
import torch

from conveyorguard.config.saved import plain_values
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.schema import THERMAL_STATISTICS, Schema
from conveyorguard.runs.data import load_windows
from conveyorguard.training.augment import Augment, Mixup
from conveyorguard.training.fit import build_module
from conveyorguard.training.recipe import Recipe

X, Y, MAX = (THERMAL_STATISTICS.index(name) for name in ("x_max", "y_max", "max"))


@pytest.fixture(scope="module")
def camera(schema_node):
    """A schema whose camera has 8 x 10 pixels, stored at full size."""
    return Schema.from_config(schema_node(thermal={"shape": [8, 10], "stored": [8, 10], "range": [30, 50]}))


@pytest.fixture
def batch():
    """64 windows of 6 s with 3 frames each; the hot pixel of each frame is at row 1, column 2."""
    frames = torch.full((64, 3, 1, 8, 10), 35.0)
    frames[..., 1, 2] = 90.0
    statistics = torch.zeros(64, 6, len(THERMAL_STATISTICS))
    statistics[..., X], statistics[..., Y], statistics[..., MAX] = 2.0, 1.0, 90.0
    return {
        "thermal": frames,
        "thermal_stats": statistics,
        "thermal_stats_start": statistics[:, 0].clone(),
        "sensors": 1 + torch.rand(64, 6, 8),
        "sensors_start": 1 + torch.rand(64, 8),
    }


def test_flip_mirrors_frames_both_ways_and_moves_their_statistics(camera, batch):
    torch.manual_seed(0)
    changed = Augment(camera, flip=True)(batch)
    hot = changed["thermal"][:, :, 0].flatten(2).argmax(-1)  # (64, 3)
    assert (hot == hot[:, :1]).all()  # all frames of a window are mirrored alike
    rows, columns = hot[:, 0] // 10, hot[:, 0] % 10
    assert {(int(r), int(c)) for r, c in zip(rows, columns, strict=True)} == {(1, 2), (6, 2), (1, 7), (6, 7)}
    assert (changed["thermal_stats"][:, 0, Y] == rows).all() and (changed["thermal_stats"][:, 0, X] == columns).all()
    assert (changed["thermal_stats"][..., MAX] == 90).all() and changed["sensors"] is batch["sensors"]
    assert (changed["thermal_stats_start"] == changed["thermal_stats"][:, 0]).all(), (
        "statistics of the session's start are mirrored alike"
    )


def test_drop_thermal_blanks_its_share_of_windows(camera, batch):
    torch.manual_seed(0)
    changed = Augment(camera, drop_thermal=0.3)(batch)
    blank = (changed["thermal"] == 40).flatten(1).all(1)
    assert 10 <= blank.sum() <= 30 and (changed["thermal"][~blank] == batch["thermal"][~blank]).all()
    assert (changed["thermal_stats"][blank][..., MAX] == 40).all()
    assert (changed["thermal_stats_start"][blank][..., MAX] == 40).all()
    assert (batch["thermal"] != 40).all()  # the input batch is unchanged


def test_no_augmentation_and_no_frames_leave_the_batch_unchanged(camera, batch):
    assert torch.equal(Augment(camera)(batch)["thermal"], batch["thermal"])
    sensors_only = {"sensors": batch["sensors"]}
    assert Augment(camera, flip=True, drop_thermal=0.5, freeze_thermal=0.5)(sensors_only) is sensors_only


def test_frozen_camera_keeps_starting_statistics_and_shows_other_pixels(camera, batch):
    torch.manual_seed(0)
    batch["thermal_stats_start"] = batch["thermal_stats_start"] - 40
    batch["thermal"] += torch.arange(64.0).view(-1, 1, 1, 1, 1)
    changed = Augment(camera, freeze_thermal=0.3)(batch)
    frozen = (changed["thermal_stats"] == batch["thermal_stats_start"][:, None]).flatten(1).all(1)
    assert 10 <= frozen.sum() <= 30
    unchanged = (changed["thermal"] == batch["thermal"]).flatten(1)
    assert unchanged[~frozen].all() and not unchanged[frozen].any()
    assert torch.equal(changed["thermal_stats"][~frozen], batch["thermal_stats"][~frozen])
    assert torch.equal(changed["thermal_stats_start"], batch["thermal_stats_start"])


def test_dead_sensor_reads_zero_since_session_start(camera, batch):
    torch.manual_seed(0)
    changed = Augment(camera, dead_sensor=0.5 / 8)(batch)
    dead = (changed["sensors"] == 0).all(1)  # (64, 8)
    assert 20 <= dead.any(1).sum() <= 44 and dead.sum(1).max() == 1, "at most one sensor, in half of the windows"
    assert dead.any(0).all(), "every sensor can die"
    assert torch.equal(changed["sensors_start"] == 0, dead)
    many = {"sensors": torch.ones(1000, 6, 20), "sensors_start": torch.ones(1000, 20)}
    assert 0.7 < (Augment(camera, dead_sensor=0.1)(many)["sensors"] == 0).any(2).any(1).float().mean() < 0.9, (
        "some windows keep all sensors"
    )
    single = Augment(camera, dead_sensor=0.1)({"sensors": torch.ones(1000, 6, 1), "sensors_start": torch.ones(1000, 1)})
    assert 70 <= (single["sensors_start"] == 0).sum() <= 130, "a single sensor dies as often as each of eight"
    alive = ~dead[:, None].expand(-1, 6, -1)
    assert torch.equal(changed["sensors"][alive], batch["sensors"][alive]) and (batch["sensors"] != 0).all()


def test_noise_scales_with_channel_noise_and_ignores_trend(camera):
    torch.manual_seed(0)
    sd = torch.tensor([0.01, 1.0, 100.0])
    values = torch.arange(200.0)[:, None] * 50 * sd + torch.randn(500, 200, 3) * sd  # a trend of 50 sd per second
    changed = Augment(camera, noise=2.0)({"sensors": values})["sensors"] - values
    factor = changed.std(1) / sd  # (500, 3), drawn for each window and channel
    assert (factor.max(0).values > 1.7).all() and (factor.max(0).values < 3).all()
    assert (factor.min(0).values < 0.1).all()
    assert abs(float(factor.mean()) - 1) < 0.1 and abs(float(torch.corrcoef(factor.T)[0, 1])) < 0.2
    missing = values.index_fill(1, torch.tensor([3, 60]), float("nan"))
    assert torch.equal(Augment(camera, noise=2.0)({"sensors": missing})["sensors"].isnan(), missing.isnan())
    for constant in (torch.zeros(4, 30, 3), torch.ones(4, 1, 3)):
        assert torch.equal(Augment(camera, noise=2.0)({"sensors": constant})["sensors"], constant)


@pytest.mark.parametrize("name", ["drop_thermal", "freeze_thermal", "dead_sensor"])
@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_share_out_of_range_is_refused(camera, name, share):
    with pytest.raises(ValueError, match=name):
        Augment(camera, **{name: share})


@pytest.mark.parametrize("noise", [-1.0, float("inf"), float("nan")])
def test_noise_out_of_range_is_refused(camera, noise):
    with pytest.raises(ValueError, match=r"augment\.noise"):
        Augment(camera, noise=noise)


def test_mixup_blends_inputs_and_keeps_labels_for_the_loss(batch):
    torch.manual_seed(0)
    batch |= {"window": torch.arange(64), "second": torch.arange(64)[:, None].expand(-1, 6)}
    mixed = Mixup(batch, 0.2)
    assert 0.5 <= mixed.weight <= 1, "a window outweighs its partner"
    assert sorted(mixed.order.tolist()) == list(range(64))
    blended, others = mixed.inputs(batch), mixed.others(batch)
    for name in ("sensors", "thermal"):
        wanted = mixed.weight * batch[name] + (1 - mixed.weight) * batch[name][mixed.order]
        torch.testing.assert_close(blended[name], wanted)
    assert torch.equal(blended["window"], batch["window"]), "labels are not blended: the loss is"
    assert torch.equal(others["window"], mixed.order) and torch.equal(others["second"][:, 0], mixed.order)
    weights = {Mixup(batch, 0.2).weight for _ in range(20)}
    assert len(weights) == 20 and sum(weight > 0.9 for weight in weights) > 8, "most batches are hardly blended"


def test_validation_step_does_not_augment(compose, cache):
    """With augmentation that blanks nearly all frames, a validation step blanks none."""
    cfg = compose("augment=frames", "augment.drop_thermal=0.99", "model=cnn_transformer", "modality=image")
    data = load_windows(cfg)
    module = build_module(Recipe.of(plain_values(cfg)), data, ["thermal"]).eval()
    seen = []
    module.model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]["thermal"]))
    windows = WindowDataset(data.store, data.part("val"), data.settings, ["thermal"]).__getitems__(list(range(8)))
    module.validation_step(windows, 0)
    module.log = lambda *_, **__: None
    module.training_step(windows, 0)
    spread = [frames.flatten(1).std(1) for frames in seen]
    assert (spread[0] > 0).all() and (spread[1] == 0).any()


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_training_loss_is_blended_when_mixup_is_on(compose, cache, alpha):
    """The loss of blended windows is the weighted sum of the losses under both labels."""
    cfg = compose("augment=none", f"mixup={alpha}", "modality=sensor", "film=false")
    data = load_windows(cfg)
    module = build_module(Recipe.of(plain_values(cfg)), data, ["sensors"])
    module.log = lambda *_, **__: None
    windows = WindowDataset(data.store, data.part("train"), data.settings, ["sensors"]).__getitems__(
        list(range(0, 128, 2))
    )
    seen = []
    module.model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]["sensors"]))
    module.eval()  # no dropout
    torch.manual_seed(3)
    loss = module.training_step(windows, 0)
    scaled = module.scaling(windows)
    torch.manual_seed(3)
    wanted = module.loss(module.model(scaled), windows)
    assert torch.equal(seen[0], scaled["sensors"]) == (alpha == 0)
    if alpha:
        mixed = Mixup(scaled, alpha)
        logits = module.model(mixed.inputs(scaled))
        other = {**windows, "window": windows["window"][mixed.order], "second": windows["second"][mixed.order]}
        wanted = mixed.weight * module.loss(logits, windows) + (1 - mixed.weight) * module.loss(logits, other)
    torch.testing.assert_close(loss, wanted)
