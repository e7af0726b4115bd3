"""What the networks promise beside learning."""

import pytest
import torch
from omegaconf import OmegaConf

from conveyorguard.config import config_dir
from conveyorguard.data.schema import Schema
from conveyorguard.models.cnn_transformer import CNNTransformer
from conveyorguard.models.encoders import with_differences
from conveyorguard.models.film import FiLM
from conveyorguard.models.fusion import Fusion

ALL = ["sensors", "thermal", "environment"]


def schema(reduce="mean_max"):
    cfg = OmegaConf.create({"data": OmegaConf.load(config_dir() / "data" / "aihub.yaml")})
    cfg.data.thermal.reduce = reduce
    return Schema.from_config(OmegaConf.to_container(cfg.data.schema, resolve=True))


def batch(size=2, frames=10):
    g = torch.Generator().manual_seed(0)
    r = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    return {"sensors": r(size, 30, 8), "environment": r(size, 30, 3), "thermal": r(size, frames, 2, 30, 40), "thermal_stats": r(size, 30, 6),
            "sensors_bins": r(size, 30, 64), "thermal_stats_bins": r(size, 30, 48)}  # fmt: skip


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


def test_fusion_of_both_starts_as_sensors_alone():
    torch.manual_seed(0)
    both = Fusion(schema(), ["sensors", "thermal"], bins=8).eval()
    a, b = batch(), batch()
    b["thermal"], b["thermal_stats"] = b["thermal"] + 1, b["thermal_stats"] + 1
    assert torch.equal(both(a)["second"], both(b)["second"])
    with torch.no_grad():
        both.gates[0].fill_(0.5)
    assert not torch.allclose(both(a)["second"], both(b)["second"])


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
