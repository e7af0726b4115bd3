"""What the networks promise beside learning."""

import pytest
import torch
from omegaconf import OmegaConf

from conveyorguard.config.compose import config_dir
from conveyorguard.data.schema import Schema
from conveyorguard.data.window_statistics import statistics
from conveyorguard.models.cnn_transformer import CNNTransformer
from conveyorguard.models.encoders import with_differences
from conveyorguard.models.film import FiLM
from conveyorguard.models.fusion import Fusion, WindowStatistics

ALL = ["sensors", "thermal", "environment"]


def schema(reduce="mean_max"):
    cfg = OmegaConf.create({"data": OmegaConf.load(config_dir() / "data" / "aihub.yaml")})
    cfg.data.thermal.reduce = reduce
    return Schema.from_config(OmegaConf.to_container(cfg.data.schema, resolve=True))


def batch(size=2, frames=10):
    g = torch.Generator().manual_seed(0)
    r = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    return {
        "sensors": r(size, 30, 8),
        "environment": r(size, 30, 3),
        "thermal": r(size, frames, 2, 30, 40),
        "thermal_stats": r(size, 30, 6),
        "sensors_change": r(size, 30, 8),
        "thermal_stats_change": r(size, 30, 6),
        "sensors_window": r(size, statistics(True) * 64),
        "thermal_stats_window": r(size, statistics(True) * 48),
    }


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_the_seeds_network_has_the_seeds_size():
    seed = schema("stride")
    assert seed.thermal.stored_shape == (1, 60, 80)
    assert round(count(CNNTransformer(seed, ALL, 30, 10, embed_dim=256, num_heads=4, num_layers=2)) / 1e6, 2) == 4.30
    assert round(count(CNNTransformer(seed, ALL, 30, 30, embed_dim=128, num_heads=4, num_layers=2)) / 1e6, 2) == 1.17


def test_film_begins_at_no_effect_and_the_seeds_form_does_not():
    x, b = torch.randn(2, 16), batch()
    assert torch.equal(FiLM(3, 16)(x, b), x)
    assert not torch.allclose(FiLM(3, 16, identity=False)(x, b), x)


@pytest.mark.parametrize("identity", [True, False])
def test_the_seeds_network_begins_with_sensors_alone_unless_in_the_seeds_form(identity):
    torch.manual_seed(0)
    model = CNNTransformer(schema(), ALL, 30, 10, embed_dim=32, attention_identity=identity).eval()
    a, b = batch(), batch()
    b["thermal"] = 1 - b["thermal"]
    assert torch.equal(model(a)["window"], model(b)["window"]) == identity
    loss = model(a)["window"].square().sum()
    (gradient,) = torch.autograd.grad(loss, [model.fuse.attention.out_proj.weight])
    assert gradient.abs().max() > 0, "the camera can come in"


def test_the_seeds_network_looks_at_the_change_since_the_start_only_if_it_is_to():
    a = batch()
    a["sensors_change"] = torch.zeros_like(a["sensors"])
    b = {**a, "sensors_change": a["sensors_change"] + 1}
    for from_start in (True, False):
        torch.manual_seed(0)
        model = CNNTransformer(schema(), ["sensors"], 30, 10, embed_dim=32, from_start=from_start).eval()
        assert torch.equal(model(a)["window"], model(b)["window"]) != from_start


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_the_training_windows_is_told_without_its_sequence(share):
    torch.manual_seed(0)
    model = Fusion(schema(), ALL, bins=8, dropout=0.0, sequence_drop=share)
    with torch.no_grad():
        model.sequence_gate.fill_(0.5)
    told = model.train()(batch(4))["window"]
    assert torch.allclose(told, model.eval()(batch(4))["window"], atol=1e-5) == (share == 0)
    with torch.no_grad():
        model.sequence_gate.fill_(0)
    assert torch.allclose(told, model(batch(4))["window"], atol=1e-5) == (share == 1)


def test_fusion_of_both_starts_as_sensors_alone():
    torch.manual_seed(0)
    both = Fusion(schema(), ["sensors", "thermal"], bins=8).eval()
    a, b = batch(), batch()
    b["thermal"], b["thermal_stats"] = b["thermal"] + 1, b["thermal_stats"] + 1
    assert torch.equal(both(a)["second"], both(b)["second"])
    with torch.no_grad():
        both.gates[0].fill_(0.5)
    assert not torch.allclose(both(a)["second"], both(b)["second"])


@pytest.mark.parametrize("name", ["sensors", "sensors_change", "thermal", "thermal_stats", "thermal_stats_change"])
@pytest.mark.parametrize("from_start", [True, False])
def test_every_series_tells_of_the_seconds_and_what_has_changed_only_if_it_is_to(name, from_start):
    torch.manual_seed(0)
    model = Fusion(schema(), ["sensors", "thermal"], bins=8, from_start=from_start).eval()
    with torch.no_grad():
        model.gates[0].fill_(0.5)
    a = batch()
    windows = {
        key: torch.zeros(2, statistics(from_start) * channels * 8)
        for key, channels in (("sensors_window", 8), ("thermal_stats_window", 6))
    }
    b = {**a, name: a[name].flip(1)}
    same = torch.equal(model({**a, **windows})["second"], model({**b, **windows})["second"])
    assert same == (name.endswith("_change") and not from_start)


def test_the_window_is_told_by_its_statistics_until_the_sequence_has_earned_a_say():
    torch.manual_seed(0)
    model = Fusion(schema(), ALL, bins=8).eval()
    a, b = batch(), batch()
    b["sensors"], b["thermal"], b["environment"] = b["sensors"] + 1, b["thermal"] + 1, b["environment"] + 1
    assert torch.equal(model(a)["window"], model(b)["window"])
    b["sensors_window"] = b["sensors_window"] / 2
    assert not torch.allclose(model(a)["window"], model(b)["window"])
    b["sensors_window"] = a["sensors_window"]
    with torch.no_grad():
        model.sequence_gate.fill_(0.5)
    assert not torch.allclose(model(a)["window"], model(b)["window"])


def test_fusion_has_under_a_million_parameters():
    assert count(Fusion(schema(), ALL, bins=24)) < 1e6


def test_shrinking_takes_its_share_from_each_statistic_and_never_turns_a_weight_round():
    torch.manual_seed(0)
    layer = WindowStatistics([2.0, 2.0, 2.0, 2.0, 4.0], bins=4, width=6)
    with torch.no_grad():
        layer.linear.weight[:, 4:8] *= 0.01
    groups = lambda: layer.linear.weight.detach().clone().view(6, 5, 4)  # noqa: E731
    before = groups()
    layer.shrink(lr=0.1)
    norms = before.norm(dim=(0, 2)) - groups().norm(dim=(0, 2))
    torch.testing.assert_close(norms[[0, 2, 3, 4]], torch.tensor([0.2, 0.2, 0.2, 0.4]))
    assert (groups()[:, 1] == 0).all(), "what was smaller than the step is gone"
    assert (groups() * before >= 0).all()


def test_the_camera_beside_sensors_has_to_earn_more_and_alone_does_not():
    of = lambda *inputs: Fusion(schema(), list(inputs), bins=8, sparsity=3, sparsity_beside=9).statistics.sparsity  # noqa: E731
    assert of("sensors", "thermal").tolist() == [3] * statistics(True) * 8 + [9] * statistics(True) * 6
    assert of("thermal").tolist() == [3] * statistics(True) * 6 and of("sensors").tolist() == [3] * statistics(True) * 8


@pytest.mark.parametrize("frames", [1, 7, 30])
def test_any_number_of_thermal_frames(frames):
    out = Fusion(schema(), ALL, bins=8)(batch(frames=frames))
    assert out["window"].shape == (2, 4) and out["second"].shape == (2, 30, 4)
    assert CNNTransformer(schema(), ALL, 30, frames)(batch(frames=frames))["window"].shape == (2, 4)


def test_windows_of_a_batch_do_not_influence_each_other():
    model = Fusion(schema(), ALL, bins=8).eval()
    whole = model(batch(3))["window"]
    alone = model({name: value[1:2] for name, value in batch(3).items()})["window"]
    assert torch.allclose(whole[1:2], alone, atol=1e-5)


def test_differences_hold_the_first_second():
    x = torch.tensor([[[1.0], [3.0], [6.0]]])
    assert with_differences(x)[0].tolist() == [[1, 0, 0, 0], [3, 2, 2, 2], [6, 3, 5, 5]]
