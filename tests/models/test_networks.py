"""Properties of the networks at initialisation: sizes, gates that start closed, inputs that are used."""

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


def test_cnn_transformer_has_as_many_parameters_as_the_seed_study():
    seed = schema("stride")
    assert seed.thermal.stored_shape == (1, 60, 80)
    assert round(count(CNNTransformer(seed, ALL, 30, 10, embed_dim=256, num_heads=4, num_layers=2)) / 1e6, 2) == 4.30
    assert round(count(CNNTransformer(seed, ALL, 30, 30, embed_dim=128, num_heads=4, num_layers=2)) / 1e6, 2) == 1.17


def test_film_starts_without_effect_unless_in_the_form_of_the_seed_study():
    x, b = torch.randn(2, 16), batch()
    assert torch.equal(FiLM(3, 16)(x, b), x)
    assert not torch.allclose(FiLM(3, 16, identity=False)(x, b), x)


@pytest.mark.parametrize("identity", [True, False])
def test_cnn_transformer_starts_with_sensors_alone_unless_attention_is_not_identity(identity):
    torch.manual_seed(0)
    model = CNNTransformer(schema(), ALL, 30, 10, embed_dim=32, attention_identity=identity).eval()
    a, b = batch(), batch()
    b["thermal"] = 1 - b["thermal"]
    assert torch.equal(model(a)["window"], model(b)["window"]) == identity
    loss = model(a)["window"].square().sum()
    (gradient,) = torch.autograd.grad(loss, [model.fuse.attention.out_proj.weight])
    assert gradient.abs().max() > 0, "the gradient must open the attention to the camera"


def test_cnn_transformer_uses_the_change_since_the_start_only_with_from_start():
    a = batch()
    a["sensors_change"] = torch.zeros_like(a["sensors"])
    b = {**a, "sensors_change": a["sensors_change"] + 1}
    for from_start in (True, False):
        torch.manual_seed(0)
        model = CNNTransformer(schema(), ["sensors"], 30, 10, embed_dim=32, from_start=from_start).eval()
        assert torch.equal(model(a)["window"], model(b)["window"]) != from_start


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_sequence_drop_removes_the_sequence_from_training_windows_only(share):
    torch.manual_seed(0)
    model = Fusion(schema(), ALL, bins=8, dropout=0.0, sequence_drop=share)
    with torch.no_grad():
        model.sequence_gate.fill_(0.5)
    trained = model.train()(batch(4))["window"]
    assert torch.allclose(trained, model.eval()(batch(4))["window"], atol=1e-5) == (share == 0)
    with torch.no_grad():
        model.sequence_gate.fill_(0)
    assert torch.allclose(trained, model(batch(4))["window"], atol=1e-5) == (share == 1)


def test_fusion_of_sensors_and_camera_starts_with_sensors_alone():
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
def test_seconds_depend_on_every_series_and_on_changes_only_with_from_start(name, from_start):
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


def test_window_depends_on_statistics_alone_until_the_sequence_gate_opens():
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


def test_shrink_reduces_each_group_by_its_sparsity_and_flips_no_sign():
    torch.manual_seed(0)
    layer = WindowStatistics([2.0, 2.0, 2.0, 2.0, 4.0], bins=4, width=6)
    with torch.no_grad():
        layer.linear.weight[:, 4:8] *= 0.01
    groups = lambda: layer.linear.weight.detach().clone().view(6, 5, 4)  # noqa: E731
    before = groups()
    layer.shrink(lr=0.1)
    norms = before.norm(dim=(0, 2)) - groups().norm(dim=(0, 2))
    torch.testing.assert_close(norms[[0, 2, 3, 4]], torch.tensor([0.2, 0.2, 0.2, 0.4]))
    assert (groups()[:, 1] == 0).all(), "a group smaller than the step becomes zero"
    assert (groups() * before >= 0).all()


def test_camera_statistics_are_penalised_more_beside_sensors_only():
    of = lambda *inputs: Fusion(schema(), list(inputs), bins=8, sparsity=3, sparsity_beside=9).statistics.sparsity  # noqa: E731
    assert of("sensors", "thermal").tolist() == [3] * statistics(True) * 8 + [9] * statistics(True) * 6
    assert of("thermal").tolist() == [3] * statistics(True) * 6 and of("sensors").tolist() == [3] * statistics(True) * 8


@pytest.mark.parametrize("frames", [1, 7, 30])
def test_networks_take_any_number_of_thermal_frames(frames):
    out = Fusion(schema(), ALL, bins=8)(batch(frames=frames))
    assert out["window"].shape == (2, 4) and out["second"].shape == (2, 30, 4)
    assert CNNTransformer(schema(), ALL, 30, frames)(batch(frames=frames))["window"].shape == (2, 4)


def test_windows_of_a_batch_do_not_influence_each_other():
    model = Fusion(schema(), ALL, bins=8).eval()
    whole = model(batch(3))["window"]
    alone = model({name: value[1:2] for name, value in batch(3).items()})["window"]
    assert torch.allclose(whole[1:2], alone, atol=1e-5)


def test_differences_before_the_window_use_its_first_second():
    x = torch.tensor([[[1.0], [3.0], [6.0]]])
    assert with_differences(x)[0].tolist() == [[1, 0, 0, 0], [3, 2, 2, 2], [6, 3, 5, 5]]
