"""Configs from elsewhere build only what the whitelist allows, and read no secrets."""

import os
import re

import pytest
import torch
from omegaconf import OmegaConf

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.config.checks import check
from conveyorguard.config.compose import build
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.system.files import read_json, write_json
from tests.system.poison import SECRET

EVIL = [
    "os.system",
    "subprocess.check_output",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "importlib.import_module",
    "pickle.loads",
    "torch.load",
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "conveyorguard.cli.main",
    "conveyorguard.runs.provenance.subprocess.run",
    "conveyorguard.system.processes.start",
    "shutil.rmtree",
]


def poison(node, target, mark):
    node["_target_"] = target
    node["_args_"] = [f"touch '{mark}'" if "eval" not in target else f"open('{mark}', 'w')"]


@pytest.mark.parametrize(
    ("where", "target"),
    [*(("data.reader", target) for target in EVIL), *(("model", target) for target in EVIL[:5]), ("scaling", EVIL[0])],
)
def test_config_of_run_directory_builds_only_whitelisted_targets(target, where, copied, mark, monkeypatch, capsys):
    monkeypatch.delenv("CONVEYORGUARD_WHITELIST", raising=False)
    config = OmegaConf.load(copied / "config.yaml")
    poison(OmegaConf.select(config, where), target, mark)
    OmegaConf.save(config, copied / "config.yaml")
    monkeypatch.chdir(copied.parent)
    for verb in (["reproduce"], ["predict", "data.seed=3"]):
        if verb[0] == "predict" and where != "data.reader":
            continue  # scaling and model come from the checkpoint: the next test
        assert main([verb[0], str(copied), *verb[1:]]) == 2
        assert f"cannot build {target}" in capsys.readouterr().err
        assert not mark.exists()


def test_checkpoint_of_other_version_is_refused_with_remedy(copied):
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    for name in [name for name in state["state_dict"] if name.endswith(("_noise", "_window_edges"))]:
        del state["state_dict"][name]
    torch.save(state, path)
    with pytest.raises(RunError, match=f"{re.escape(str(path))}.*train the run again"):
        load_run(copied)


@pytest.mark.parametrize("where", ["scaling", "model", "loss"])
@pytest.mark.parametrize("target", ["os.system", "subprocess.check_output", "builtins.eval"])
def test_config_in_checkpoint_builds_only_whitelisted_targets(where, target, copied, mark):
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    poison(state["conveyorguard"]["config"][where], target, mark)
    torch.save(state, path)
    with pytest.raises(ConfigError, match=f"cannot build {re.escape(target)}"):
        load_run(copied)


def test_whitelisted_target_cannot_build_forbidden_argument(mark, schema):
    node = OmegaConf.create(
        {
            "_target_": "conveyorguard.models.fusion.Fusion",
            "bins": 4,
            "dropout": {"_target_": "os.system", "_args_": [f"touch '{mark}'"]},
        }
    )
    with pytest.raises(ConfigError):
        build(node, schema=schema, inputs=["sensors"])
    assert not mark.exists()


def test_run_directory_cannot_read_the_environment(copied, monkeypatch, capsys):
    """Interpolations are resolved when a config is composed, so one in a saved config was added later."""
    monkeypatch.setenv("SECRET", SECRET)
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("name: simulated", "name: ${oc.env:SECRET}"))
    for verb in ("report", "reproduce", "predict", "check"):
        assert main([verb, str(copied)]) == 2
        output = capsys.readouterr()
        assert "data.name holds an interpolation" in output.err and SECRET not in output.out + output.err
    (copied / "config.yaml").write_text(text)
    facts = read_json(copied / "provenance.json")
    write_json(copied / "provenance.json", {**facts, "derived": {"data.name": "${oc.env:SECRET}"}})
    assert main(["reproduce", str(copied)]) == 2
    assert "derived.data.name asks for oc.env" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    ["+note=${oc.env:PLANT_TOKEN}", "+note={deep: [1, secret-of-the-plant]}", "data.name=a-secret-of-the-plant"],
)
def test_config_with_key_of_the_environment_is_refused(override, monkeypatch, compose):
    monkeypatch.setenv("PLANT_TOKEN", "secret-of-the-plant")
    monkeypatch.setenv("PLANT_KEY", "sim")  # shorter than SHORTEST: may be in a config by chance
    check(compose())
    with pytest.raises(ConfigError, match=r"(note|data\.name).*: holds the value of \$PLANT_TOKEN"):
        check(compose(override))


def test_config_with_login_or_named_key_is_refused(tmp_path, monkeypatch, compose):
    login = tmp_path / "netrc"
    login.write_text("machine api.wandb.ai login user password 0123456789abcdef\n")
    monkeypatch.setenv("NETRC", str(login))
    check(compose())
    with pytest.raises(ConfigError, match=r"note\.deep.*: holds the value of netrc's login at api\.wandb\.ai"):
        check(compose("+note={deep: [of 0123456789abcdef]}"))
    for name in ("+wandb_api_key", "+model.deep.Token", "+password"):
        with pytest.raises(
            ConfigError, match=rf"{name.strip('+')}: a config is saved and shown, so it must not hold a key"
        ):
            check(compose(f"{name}=0123456789abcdee"))
    login.write_text("machine")  # damaged: no program could log in with it
    check(compose("+note=of-0123456789abcdef"))


def test_folder_name_that_is_no_text_is_refused_with_remedy(compose):
    cfg = compose()
    cfg.data.root = os.fsdecode(b"/plant/set\xff")
    with pytest.raises(ConfigError, match=r"data\.root=.*is not valid UTF-8.*rename the folder"):
        check(cfg)
