"""The built wheel, installed into a separate environment and used from an empty folder."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.places import ROOT

pytestmark = [
    pytest.mark.promise("code", "The wheel works from an empty folder, with data, yaml files and models of one's own."),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the package and conf, so that build leftovers do not get in."""
    copy, out = tmp_path_factory.mktemp("source") / "conveyorguard", tmp_path_factory.mktemp("wheel")
    for name in ("conveyorguard", "conf"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, copy)
    line = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(copy)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run the installed command in a folder; dependencies come from the environment of the tests."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    here = next((place / "lib").glob("python*/site-packages"))
    dependencies = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (here / "dependencies.pth").write_text(str(dependencies) + "\n")  # .pth files in that folder are ignored
    line = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(here), str(wheel)]
    subprocess.run(line, check=True, capture_output=True)
    shutil.move(here / "bin" / "conveyorguard", place / "bin" / "conveyorguard")

    def run(*arguments, cwd, expect=0, command=True, **variables):
        environment = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CONVEYORGUARD_CACHE")
        } | variables
        start = (
            [str(place / "bin" / "python"), str(place / "bin" / "conveyorguard")]
            if command
            else [str(place / "bin" / "python")]
        )
        done = subprocess.run(
            [*start, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout.splitlines()

    run.packages = here
    return run


QUICK = ["data.sessions=12", "modality=sensor", "trainer=cpu", "trainer.max_epochs=1", "threads=1"]


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory):
    """Train by `conveyorguard train` in an empty folder, without -m and without a checkout."""
    folder = tmp_path_factory.mktemp("anywhere")
    return Path(installed("train", *QUICK, cwd=folder)[-1])


def test_installed_package_has_all_yaml_files(installed, tmp_path):
    code = (
        "import conveyorguard; from conveyorguard.config.compose import config_dir; print(conveyorguard.__file__); "
        "print(config_dir())"
    )
    package, conf = installed("-c", code, cwd=tmp_path, command=False)
    assert Path(package).is_relative_to(installed.packages) and Path(conf).is_relative_to(installed.packages)
    known = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    assert {path.relative_to(conf) for path in Path(conf).rglob("*.yaml")} == known


def test_verbs_run_from_any_folder(installed, trained, tmp_path):
    assert (trained / "report.html").is_file() and (trained / "MODEL_CARD.md").is_file()
    assert trained.parts[-3] == "outputs" and not trained.is_relative_to(ROOT)
    printed = installed("predict", str(trained), "data.sessions=4", "data.seed=3", cwd=tmp_path)
    page = tmp_path / printed[-1]
    assert (
        page.name == "predictions.html"
        and pd.read_parquet(page.with_name("predictions.parquet"))["session"].nunique() == 4
    )
    assert installed("report", str(trained), cwd=tmp_path)[-1] == str(trained / "report.html")
    pytest.importorskip("onnxruntime")
    assert Path(
        installed("export", str(trained), f"paths.cache={trained.parents[2] / 'cache'}", cwd=tmp_path)[-1]
    ).is_file()


def test_sweep_finds_its_plugin(installed, tmp_path):
    printed = installed(
        "train",
        "-m",
        "sweep=optuna",
        "model=logistic_regression",
        "modality=sensor",
        "data.sessions=12",
        "sweep.n_trials=2",
        "threads=1",
        cwd=tmp_path,
    )
    assert (tmp_path / "studies" / "logistic_regression-sensor" / "study.html").is_file(), printed


@pytest.fixture
def plant(tmp_path):
    """Write sessions of two channels and a user's yaml named plant."""
    (tmp_path / "recordings").mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        wear = np.clip((np.arange(100) - 40) / 50, 0, 1)
        pd.DataFrame(
            {
                "time": np.arange(100),
                "heat": 20 + 50 * wear + rng.normal(size=100),
                "flow": 3 + rng.normal(size=100),
                "state": np.where(wear <= 0, "good", "bad"),
            }
        ).to_csv(tmp_path / "recordings" / f"m{i}.csv", index=False)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "plant.yaml").write_text(
        f"defaults: [table, _self_]\nname: plant\nroot: {tmp_path / 'recordings'}\nschema:\n"
        "  channels: {heat: degC, flow: l/min}\n  states: [{name: good}, {name: bad}]\n"
    )
    return tmp_path


def test_user_yaml_is_found_by_config_dir_and_searchpath(installed, plant):
    quick = ["data=plant", "model=logistic_regression", "threads=1"]
    by_folder = Path(installed("train", "--config-dir", "mine", *quick, cwd=plant)[-1])
    by_path = Path(installed("train", f"hydra.searchpath=[file://{plant / 'mine'}]", *quick, cwd=plant)[-1])
    first, second = (pd.read_parquet(run / "predictions.parquet") for run in (by_folder, by_path))
    assert first.equals(second) and set(first["session"]) <= {f"m{i}" for i in range(8)}
    installed("predict", str(by_folder), "data.root=recordings", "out=new", cwd=plant)
    assert (plant / "new" / "alarms.csv").is_file()


MODEL = '''
import torch
from torch import nn


class Mean(nn.Module):
    """The mean of each channel, and a layer."""

    NEEDS = {}
    PER_SECOND = False

    def __init__(self, schema, inputs, width=8):
        super().__init__()
        last = nn.Linear(width, len(schema.states))
        self.layers = nn.Sequential(nn.Linear(len(schema.channels), width), nn.ReLU(), last)

    def forward(self, batch):
        return {"window": self.layers(batch["sensors"].mean(1))}
'''


def test_model_from_other_package_trains_if_whitelisted(installed, plant):
    """It takes a class, a yaml and a whitelist entry in the environment; without the entry it is refused."""
    (plant / "elsewhere" / "mymodels").mkdir(parents=True)
    (plant / "elsewhere" / "mymodels" / "__init__.py").write_text(MODEL)
    (plant / "mine" / "model").mkdir()
    (plant / "mine" / "model" / "mean.yaml").write_text(
        "# @package _global_\nmodel:\n  name: mean\n  _target_: mymodels.Mean\n  width: 16\n"
        "optimizer:\n  _target_: torch.optim.AdamW\n  lr: 1.0e-2\nbatch_size: 32\npatience: 7\naverage: null\n"
    )
    line = [
        "train",
        "--config-dir",
        "mine",
        "data=plant",
        "model=mean",
        "trainer=cpu",
        "trainer.max_epochs=3",
        "threads=1",
    ]
    path = {"PYTHONPATH": str(plant / "elsewhere")}
    installed(*line, cwd=plant, expect=2, **path)
    run = Path(installed(*line, cwd=plant, CONVEYORGUARD_WHITELIST="mymodels.Mean", **path)[-1])
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert "mean" in (run / "MODEL_CARD.md").read_text()
    installed(
        "predict",
        str(run),
        "data.root=recordings",
        "out=new",
        cwd=plant,
        CONVEYORGUARD_WHITELIST="mymodels.Mean",
        **path,
    )
    assert len(pd.read_parquet(plant / "new" / "predictions.parquet")) > 0
    pytest.importorskip("onnxruntime")
    installed("export", str(run), cwd=plant, CONVEYORGUARD_WHITELIST="mymodels.Mean", **path)
    assert (run / "export" / "model.onnx").is_file()
