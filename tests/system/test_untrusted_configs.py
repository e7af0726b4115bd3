"""A config that comes from elsewhere builds only what the whitelist allows, and asks for no secret."""

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
    [*(("data.reader", one) for one in EVIL), *(("model", one) for one in EVIL[:5]), ("scaling", EVIL[0])],
)
def test_a_config_of_a_run_directory_builds_only_what_the_whitelist_allows(
    target, where, copied, mark, monkeypatch, capsys
):
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


def test_a_checkpoint_of_another_version_is_refused_with_what_to_do(copied):
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    for name in [name for name in state["state_dict"] if name.endswith(("_noise", "_window_edges"))]:
        del state["state_dict"][name]
    torch.save(state, path)
    with pytest.raises(RunError, match=f"{re.escape(str(path))}.*train the run again"):
        load_run(copied)


@pytest.mark.parametrize("where", ["scaling", "model", "loss"])
@pytest.mark.parametrize("target", ["os.system", "subprocess.check_output", "builtins.eval"])
def test_a_config_inside_a_checkpoint_builds_only_what_the_whitelist_allows(where, target, copied, mark):
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    poison(state["conveyorguard"]["config"][where], target, mark)
    torch.save(state, path)
    with pytest.raises(ConfigError, match=f"cannot build {re.escape(target)}"):
        load_run(copied)


def test_what_is_allowed_cannot_be_given_what_is_not(mark, schema):
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


def test_a_run_directory_cannot_ask_for_the_environment(copied, monkeypatch, capsys):
    """Interpolations are resolved when the config is composed; one in a saved config was put there."""
    monkeypatch.setenv("SECRET", SECRET)
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("name: simulated", "name: ${oc.env:SECRET}"))
    for verb in ("report", "reproduce", "predict", "check"):
        assert main([verb, str(copied)]) == 2
        said = capsys.readouterr()
        assert "data.name holds an interpolation" in said.err and SECRET not in said.out + said.err
    (copied / "config.yaml").write_text(text)
    facts = read_json(copied / "provenance.json")
    write_json(copied / "provenance.json", {**facts, "derived": {"data.name": "${oc.env:SECRET}"}})
    assert main(["reproduce", str(copied)]) == 2
    assert "derived.data.name asks for oc.env" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    ["+note=${oc.env:PLANT_TOKEN}", "+note={deep: [1, secret-of-the-plant]}", "data.name=a-secret-of-the-plant"],
)
def test_a_key_of_the_environment_comes_into_no_config(override, monkeypatch, compose):
    monkeypatch.setenv("PLANT_TOKEN", "secret-of-the-plant")
    monkeypatch.setenv("PLANT_KEY", "sim")  # as short as a word that stands there by chance
    check(compose())
    with pytest.raises(ConfigError, match=r"the value of \$PLANT_TOKEN stands in the config"):
        check(compose(override))


def test_a_login_and_what_is_called_a_key_come_into_no_config(tmp_path, monkeypatch, compose):
    login = tmp_path / "netrc"
    login.write_text("machine api.wandb.ai login user password 0123456789abcdef\n")
    monkeypatch.setenv("NETRC", str(login))
    check(compose())
    with pytest.raises(ConfigError, match=r"the value of netrc's login at api\.wandb\.ai stands in the config"):
        check(compose("+note={deep: [of 0123456789abcdef]}"))
    for name in ("+wandb_api_key", "+model.deep.Token", "+password"):
        with pytest.raises(ConfigError, match=rf"{name.strip('+')}: a config is saved and shown, no key may"):
            check(compose(f"{name}=0123456789abcdee"))
    login.write_text("machine")  # damaged: nobody can log in with it
    check(compose("+note=of-0123456789abcdef"))


def test_a_folder_whose_name_is_no_text_is_refused_with_what_to_do(compose):
    cfg = compose()
    cfg.data.root = os.fsdecode(b"/plant/set\xff")
    with pytest.raises(ConfigError, match=r"data\.root=.*is not valid UTF-8.*rename the folder"):
        check(cfg)
