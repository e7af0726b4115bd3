"""Every yaml composes, instantiates and does one step, and no yaml is left out."""

import itertools

import pytest
import torch
from omegaconf import OmegaConf

from conveyorguard.config.checks import check, resolve_window_of
from conveyorguard.config.compose import build, compose_config, config_dir, model_class
from conveyorguard.config.saved import plain_values
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.errors import ConfigError
from conveyorguard.inference.predict import predict
from conveyorguard.runs.data import load_windows
from conveyorguard.training.by_settings import fit_by_settings
from conveyorguard.training.fit import build_module
from conveyorguard.training.recipe import Recipe
from conveyorguard.training.setup import used_inputs
from tests.support.places import ROOT

NAMES = {group.name: sorted(p.stem for p in group.glob("*.yaml")) for group in config_dir().iterdir() if group.is_dir()}
NETWORKS = ["fusion", "cnn_transformer"]
TABULAR = ["catboost", "extra_trees", "lightgbm", "log_mean", "logistic_regression", "random_forest", "xgboost"]


def one_step(cfg):
    data = load_windows(cfg)
    inputs, unused = used_inputs(cfg, data.store.schema)
    module = build_module(Recipe.of(plain_values(cfg)), data, inputs)
    batch = WindowDataset(data.store, data.part("train"), data.settings, inputs).__getitems__([0, 50, 100])
    loss = module.loss(module(batch), batch)
    loss.backward()
    return module, loss


def test_every_model_yaml_is_in_these_tests():
    assert set(NAMES["model"]) == {*NETWORKS, *TABULAR}


@pytest.mark.parametrize("features", NAMES["features"])
@pytest.mark.parametrize("model", TABULAR)
def test_every_tabular_model_fits_every_choice_of_features(model, features, compose, tmp_path):
    cfg = compose(f"model={model}", f"features={features}", "film=false")
    if model != "logistic_regression":
        cfg.model.n_estimators = 5
    if package := model_class(cfg).PACKAGE:
        pytest.importorskip(package)
    data = load_windows(cfg)
    inputs, _ = used_inputs(cfg, data.store.schema)
    classifier = fit_by_settings(plain_values(cfg), data, inputs, tmp_path, threads=1)
    p = predict(classifier, WindowDataset(data.store, data.part("val"), data.settings, inputs))
    assert (p.argmax(axis=1) == data.part("val")["label"]).mean() > 0.7


def test_every_model_has_a_search_space():
    spaces = OmegaConf.load(config_dir() / "sweep" / "optuna.yaml").sweep.spaces
    assert set(spaces) == {*NETWORKS, *TABULAR}
    for model in TABULAR:
        assert {key.removeprefix("model.") for key in spaces[model]} <= set(compose_config([f"model={model}"]).model)


@pytest.mark.parametrize(
    "model, modality, film", list(itertools.product(NETWORKS, NAMES["modality"], ["true", "false"]))
)
def test_every_parameter_of_every_cell_gets_a_gradient(model, modality, film, compose):
    module, loss = one_step(compose(f"model={model}", f"modality={modality}", f"film={film}"))
    assert torch.isfinite(loss)
    without = {name for name, p in module.model.named_parameters() if p.grad is None or not p.grad.any()}
    # a gate or gain at zero blocks the gradient of what is behind it: once moved, all parameters get one
    for p in module.model.parameters():
        with torch.no_grad():
            p.add_(0.01)
    module.zero_grad()
    cfg = compose(f"model={model}", f"modality={modality}", f"film={film}")
    data = load_windows(cfg)
    inputs, _ = used_inputs(cfg, data.store.schema)
    batch = WindowDataset(data.store, data.part("train"), data.settings, inputs).__getitems__(list(range(0, 120, 10)))
    module.loss(module(batch), batch).backward()
    without = {name for name, p in module.model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {name for name in without if "frames.convolutions" not in name}, without


@pytest.mark.parametrize("group, name", [(g, n) for g in ("split", "loss", "scaling", "experiment") for n in NAMES[g]])
def test_every_choice_takes_a_step(group, name, compose):
    value = f"{group}={name}" if group not in ("experiment",) else f"experiment={name}"
    extra = ["modality=sensor"] if group == "split" else []
    one_step(compose(value, *extra))


@pytest.mark.parametrize("name", NAMES["trainer"])
def test_every_trainer_is_built_or_its_cpu_variant_where_devices_lack(name, compose):
    cfg = compose(f"trainer={name}").trainer
    if cfg.accelerator == "gpu" and torch.cuda.device_count() < cfg.devices:
        cfg.accelerator, cfg.precision = "cpu", "32-true"
    assert build(cfg, logger=False, enable_checkpointing=False).max_epochs == 2


@pytest.mark.parametrize("name", NAMES["debug"])
def test_every_debug_config_trains_a_run_with_its_page(name, compose, tmp_path):
    from conveyorguard.commands.train import train

    train(
        compose(f"debug={name}", "data.sessions=12", "trainer.max_epochs=2", "modality=sensor"),
        tmp_path / "run",
        [],
    )
    assert (tmp_path / "run" / "report.html").exists()


def test_simulated_and_aihub_data_share_one_schema():
    assert compose_config(["data=simulated"]).data.schema == compose_config(["data=aihub", "data.root=x"]).data.schema


def test_names_of_one_data_set_are_in_yaml_and_its_readers_only():
    package = config_dir().parent / "conveyorguard"
    readers = {package / "data" / name for name in ("archive", "simulate")}
    for path in package.rglob("*.py"):
        if path.parent not in readers:
            text = path.read_text(encoding="utf-8")
            assert not [
                w for w in ('"NTC"', '"CT1"', '"severe"', '"moderate"', "ex_temperature", "(120, 160)") if w in text
            ], path


def test_config_directory_is_that_of_the_checkout():
    assert config_dir() == ROOT / "conf"


def test_film_input_changes_the_environment_and_is_listed_as_unused_without_film(compose):
    cfg = compose("film_input=kind", "modality=sensor")
    data = load_windows(cfg)
    kinds = list(data.store.schema.kinds)
    expected = data.store.to_frame()["kind"].astype(str).map(kinds.index).to_numpy()
    assert (data.store.environment == expected[:, None]).all() and len(set(expected)) == len(kinds)
    without = compose("film_input=kind", "film=false", "modality=sensor")
    assert (
        "film_input" in used_inputs(without, data.store.schema)[1]
        and "film_input" not in used_inputs(cfg, data.store.schema)[1]
    )
    recorded = load_windows(without).store.environment
    assert (recorded != data.store.environment).any()
    shuffled = load_windows(compose("film_input=shuffled", "modality=sensor")).store.environment
    assert (shuffled != recorded).any() and set(shuffled[:, 0]) <= set(recorded[:, 0])
    with pytest.raises(ConfigError, match="film_input=weather: one of environment, kind, shuffled"):
        check(compose("film_input=weather"))


@pytest.mark.parametrize("size, rows", [("null", 30), ("5h", 30), ("20rows", 20), (1200, 2)])
def test_positions_of_the_cnn_transformer_are_rows_of_a_window(size, rows, compose):
    cfg = compose("model=cnn_transformer", "+data.reader.period=600", f"window.size={size}")
    assert cfg.model.window_size == rows
    resolve_window_of(cfg)
    assert cfg.model.window_size == rows and cfg.window.size == 600 * rows


def test_lag_beyond_a_window_is_refused_in_rows_whatever_the_period(compose):
    overrides = ["model=lightgbm", "features.lags=[30]", "+data.reader.period=600"]
    with pytest.raises(ConfigError, match=r"features\.lags=\[30\]: whole rows from 1 to 29"):
        check(compose(*overrides))
    check(compose(*overrides, "window.size=31rows"))


@pytest.mark.parametrize("value", ["-0.1", "true", "much", "inf"])
def test_mixup_that_is_no_finite_number_is_refused(compose, value):
    with pytest.raises(ConfigError, match=r"mixup=.*: must be a finite number, 0 or more"):
        check(compose(f"mixup={value}"))
