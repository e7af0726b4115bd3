"""Plain mappings, as checkpoints and Python programs hold settings, build the same objects as config nodes."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conveyorguard.config.compose import build, compose_config, is_tabular, model_class
from conveyorguard.config.saved import refuse_interpolations
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.models.fusion import Fusion
from conveyorguard.models.tabular import LightGBM
from conveyorguard.system.secrets import secret_problems


def plain(node):
    return OmegaConf.to_container(node, resolve=True)


def test_plain_mapping_builds_the_same_object_as_its_config_node():
    cfg = compose_config(["scaling=seed", "features=extended"])
    for node in (cfg.scaling, cfg.features):
        assert build(plain(node)) == build(node)


def test_plain_mapping_outside_the_whitelist_is_not_built(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot build os\.system"):
        build({"_target_": "os.system", "_args_": [f"touch '{tmp_path / 'mark'}'"]})
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(("name", "expected"), [("fusion", Fusion), ("lightgbm", LightGBM)])
def test_model_class_is_found_from_target_settings_or_config(name, expected):
    cfg = compose_config([f"model={name}"])
    for model in (cfg, plain(cfg), cfg.model, plain(cfg.model), cfg.model._target_):
        assert model_class(model) is expected
        assert is_tabular(model) is (expected is LightGBM)


@pytest.mark.parametrize("value", ["${oc.env:HOME}", ["a", "${oc.env:HOME}"], ("a", "${oc.env:HOME}"), {"${x}": 1}])
def test_interpolation_in_a_plain_config_is_refused(value):
    saved = plain(compose_config([]))
    assert refuse_interpolations(saved, Path("best.ckpt")) is saved
    with pytest.raises(RunError, match=r"best\.ckpt: note.* holds an interpolation"):
        refuse_interpolations({**saved, "note": value}, Path("best.ckpt"))
    with pytest.raises(RunError, match=r"best\.ckpt: expected the settings of a run"):
        refuse_interpolations({"data": {}}, Path("best.ckpt"))


def test_secrets_are_refused_by_value_name_and_url(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("PLANT_TOKEN", "0123456789")
    secrets = {
        "note": "of 0123456789",
        "plant.password": "abcdefghij",
        "uri": "https://token@plant.example",
        "storage": "postgresql://me:s3cret@plant/studies",
    }
    harmless = {"short.key": "abc", "other": "postgresql://me@plant/studies", "mail": "me@plant.example"}
    problems = secret_problems([*secrets.items(), *harmless.items()])
    assert [line.split(":")[0] for line in problems] == list(secrets)
    assert "holds the value of $PLANT_TOKEN" in problems[0]
    assert not any(text in "".join(problems) for text in ("0123456789", "abcdefghij", "s3cret"))
