"""The config: where it lies, what it may build, and every error in it at once."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conveyorguard.data.views import FILM_INPUTS
from conveyorguard.data.windows import WindowSettings
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.metrics.scores import OBJECTIVES
from conveyorguard.system.secrets import keys_in, values_of

# What a config may build. It is held here, never in a config; another package's classes are admitted by the
# environment: CONVEYORGUARD_WHITELIST="mypackage.models.*,mypackage.readers.*"
WHITELIST = (
    "conveyorguard.data.archive.sessions",
    "conveyorguard.data.simulate.sessions",
    "conveyorguard.data.table.sessions",
    "conveyorguard.data.scaling.ScalingSettings",
    "conveyorguard.data.features.FeatureSettings",
    "conveyorguard.models.fusion.Fusion",
    "conveyorguard.models.cnn_transformer.CNNTransformer",
    "conveyorguard.models.tabular.LightGBM",
    "conveyorguard.models.tabular.ExtraTrees",
    "conveyorguard.models.tabular.RandomForest",
    "conveyorguard.models.tabular.LogisticRegression",
    "conveyorguard.models.tabular.XGBoost",
    "conveyorguard.models.tabular.CatBoost",
    "conveyorguard.training.loss.WindowLoss",
    "conveyorguard.training.augment.Augment",
    "conveyorguard.training.loggers.wandb",
    "conveyorguard.training.loggers.tensorboard",
    "conveyorguard.training.loggers.mlflow",
    "conveyorguard.config.sweep_problems",
    "conveyorguard.reporting.study_page.write_study_page",
    "conveyorguard.cli.CompareAtTheEnd",
    "pytorch_lightning.Trainer",
    "torch.optim.Adam",
    "torch.optim.AdamW",
    "torch.optim.SGD",
)
PACKAGE = Path(__file__).parent.parent


def config_dir() -> Path:
    """The folder of the yaml files: `conf` of the checkout, or its copy in the installed package."""
    checkout = PACKAGE.parent / "conf"
    return checkout if (checkout / "train.yaml").exists() else PACKAGE / "conf"


def compose_config(overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """The config of a verb that is not a Hydra job; --config-dir adds a folder of yaml files, as it does for train.

    Args:
        with_hydra: keep Hydra's own settings, under `hydra`.
    """
    option = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    option.add_argument("--config-dir", "-cd", type=Path)
    given, overrides = option.parse_known_args(overrides)
    if given.config_dir:
        overrides = [*overrides, f"hydra.searchpath=['file://{given.config_dir.resolve()}']"]
    with initialize_config_dir(str(config_dir())):
        try:
            return compose("train", overrides, return_hydra_config=with_hydra)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(str(error)) from error


def whitelist() -> list[str]:
    """What a config may build: `WHITELIST` and what CONVEYORGUARD_WHITELIST adds."""
    return [
        *WHITELIST,
        *filter(None, (name.strip() for name in os.environ.get("CONVEYORGUARD_WHITELIST", "").split(","))),
    ]


def build(node: DictConfig, **arguments: Any) -> Any:
    """Instantiate a config node, if its target is on the whitelist.

    Raises:
        ConfigError: the target may not be built, does not exist, or does not take these settings.
    """
    try:
        return instantiate(node, _execution_whitelist_=whitelist(), **arguments)
    except InstantiationException as error:
        target = node.get("_target_", "?")
        hint = (
            ""
            if target in WHITELIST
            else (
                "\n  A config may build only what the whitelist allows. If you trust it, set the environment variable "
                f"CONVEYORGUARD_WHITELIST={target}"
            )
        )
        raise ConfigError(f"cannot build {target}: {_first_line(error)}{hint}") from error


def model_class(cfg: DictConfig) -> Any:
    """The class of the config's model, if it is on the whitelist: a network, or an estimator of window features."""
    return build(OmegaConf.create({"_target_": cfg.model._target_}), _partial_=True).func


def is_tabular(cfg: DictConfig) -> bool:
    """Whether the model is fitted on window features by an estimator of its own, rather than trained by Lightning."""
    return getattr(model_class(cfg), "TABULAR", False)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__


def run_folder(ckpt_path: str | None, otherwise: str) -> str:
    """The run directory: that of the checkpoint to resume, else a new one."""
    if not ckpt_path or ckpt_path == "None":
        return otherwise
    return str(Path(ckpt_path).resolve().parent.parent)


def direction_of(objective: str) -> str:
    """Which way a sweep goes; what is no metric is refused by `sweep_problems`."""
    return "maximize" if OBJECTIVES.get(objective, True) else "minimize"


def sweep_problems(space: dict[str, Any], overrides: list[str], cfg: DictConfig) -> list[str]:
    """What would make trials of a sweep fail, as sentences; called by the sweeper before it starts.

    Args:
        space: key -> Optuna distribution.
        cfg: of one trial.
    """
    found = []
    if re.search(r"://[^/@]*:[^/@]*@", cfg.sweep.storage or ""):
        found.append(
            "sweep.storage: every trial saves its config, no password may stand in it: leave it out, and give it "
            "as PGPASSWORD or in ~/.pgpass (PostgreSQL), in ~/.my.cnf (MySQL)"
        )
    devices, gpus = cfg.trainer.get("devices"), gpu_count()
    share = max(1, gpus // max(1, cfg.sweep.workers))
    if isinstance(devices, int) and cfg.trainer.get("accelerator") in ("gpu", "cuda") and share < devices <= gpus:
        found.append(
            f"sweep.workers={cfg.sweep.workers} share {gpus} GPUs, a trial needs {devices}: "
            f"write sweep.workers={gpus // devices}"
        )
    try:
        return found + problems(cfg, space)
    except ConfigError as error:
        return [*found, str(error)]


def gpu_count() -> int:
    """CUDA devices that torch sees. Imported here: verbs that only read run directories start without torch."""
    import torch

    return torch.cuda.device_count()


def register_resolvers() -> None:
    """Functions that the yaml files use."""
    OmegaConf.register_resolver("run_folder", run_folder, replace=True)
    OmegaConf.register_resolver("direction_of", direction_of, replace=True)
    OmegaConf.register_resolver("frames", lambda frames, size: size if frames == "all" else frames, replace=True)


register_resolvers()


def check(cfg: DictConfig) -> None:
    """Refuse a config that cannot work, before anything runs.

    Raises:
        ConfigError: with every error found, each with what to write instead.
    """
    if found := problems(cfg, {}):
        raise ConfigError("the config cannot work:\n" + "\n".join(f"  - {problem}" for problem in found))


def problems(cfg: DictConfig, space: dict[str, Any]) -> list[str]:
    """What in a config cannot work, as sentences; `space` is the search space of a sweep whose trial it is, or
    empty."""
    return [
        *keys_in(cfg),
        *WindowSettings(**cfg.window).problems(),
        *_choice_problems(cfg),
        *_head_problems(cfg.model, space),
        *_number_problems(cfg),
        *(_tabular_problems(cfg) if is_tabular(cfg) else _trainer_problems(cfg.trainer)),
    ]


def _head_problems(model: DictConfig, space: dict[str, Any]) -> list[str]:
    if "num_heads" not in model:
        return []
    sizes, heads = (getattr(space.get(f"model.{key}"), "choices", [model[key]]) for key in ("embed_dim", "num_heads"))
    remedy = "leave one of them out of the space" if space else "choose another of one"
    return [f"model.num_heads={h} does not divide model.embed_dim={d}: {remedy}" for d in sizes for h in heads if d % h]


def _choice_problems(cfg: DictConfig) -> list[str]:
    found = [
        f"{name}={value!r} is no UTF-8 text, as which a config is saved: rename the folder or file"
        for name, value in values_of(cfg)
        if any("\ud800" <= c <= "\udfff" for c in value)  # how Python spells the bytes of a name that is none
    ]
    if OmegaConf.is_missing(cfg.data, "root"):
        found.append("data.root is not set: add data.root=PATH, the folder with your copy of the data")
    if not cfg.data.schema.channels:
        found.append(
            "data.schema.channels is empty: say what your files hold; python -m conveyorguard schema FOLDER drafts "
            "the yaml"
        )
    if not isinstance(cfg.film, bool):
        found.append(f"film={cfg.film}: true or false")
    if cfg.get("film_input", "environment") not in FILM_INPUTS:
        found.append(f"film_input={cfg.film_input}: {', '.join(FILM_INPUTS)}")
    mixup = cfg.get("mixup", 0.0)
    if isinstance(mixup, bool) or not isinstance(mixup, int | float) or not 0 <= mixup < float("inf"):
        found.append(f"mixup={mixup}: alpha of a Beta distribution, or 0 for none")
    if not isinstance(cfg.test, bool):
        found.append(f"test={cfg.test}: true or false")
    if cfg.objective not in OBJECTIVES:
        found.append(f"objective={cfg.objective}: one of {', '.join(OBJECTIVES)}")
    if cfg.ckpt_path and not Path(cfg.ckpt_path).is_file():
        found.append(f"ckpt_path={cfg.ckpt_path}: no such file; give RUN/checkpoints/last.ckpt")
    if cfg.data.schema.thermal and cfg.data.thermal.reduce not in ("mean_max", "stride"):
        found.append(f"data.thermal.reduce={cfg.data.thermal.reduce}: mean_max or stride")
    return found


def _number_problems(cfg: DictConfig) -> list[str]:
    least: dict[str, tuple[Callable[[DictConfig], Any], float]] = {
        "seed": (lambda c: c.seed, 0),
        "split.seed": (lambda c: c.split.seed, 0),
    }
    if not is_tabular(cfg):
        least |= {
            "batch_size": (lambda c: c.batch_size, 1),
            "patience": (lambda c: c.patience, 1),
            "trainer.max_epochs": (lambda c: c.trainer.max_epochs, 1),
        }
    found = []
    for name, (get, minimum) in least.items():
        value = get(cfg)
        if not isinstance(value, int) or value < minimum:
            found.append(f"{name}={value}: a whole number, {minimum} or more")
    return found


def _tabular_problems(cfg: DictConfig) -> list[str]:
    name, package = cfg.model.name, model_class(cfg).PACKAGE
    found = build(cfg.features).problems(cfg.window.size)
    if package and not find_spec(package):
        found.append(
            f"model={name} needs the package {package}: pip install 'conveyorguard[boosting]', or use model=lightgbm"
        )
    if cfg.objective == "val/loss":
        found.append(f"objective=val/loss: model={name} has none; use val/nll")
    if cfg.ckpt_path:
        found.append(f"ckpt_path: model={name} is fitted in one go; start it again")
    return found


def _trainer_problems(trainer: DictConfig) -> list[str]:
    """Devices that are not there are refused here, not by a stack trace after the data are prepared."""
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    gpus = gpu_count()
    wanted = devices if isinstance(devices, int) else 1
    if accelerator in ("gpu", "cuda") and gpus < wanted:
        name = "trainer=ddp_2xT4" if wanted > 1 else "trainer=gpu"
        instead = "trainer=gpu" if gpus else "trainer=cpu, or trainer=ddp_cpu for two processes"
        return [f"{name} needs {wanted} CUDA device{'s' if wanted > 1 else ''}, this machine has {gpus}: use {instead}"]
    if accelerator not in ("auto", "cpu", "gpu", "cuda", "mps"):
        return [f"trainer.accelerator={accelerator}: auto, cpu, gpu or mps"]
    return []


def derived_keys(cfg: DictConfig) -> dict[str, str]:
    """Keys of a config that follow from others, with their interpolation: `model.window_size: ${window.size}`.

    A saved config is resolved; these let an override of the one still reach the other. What comes from the environment,
    the clock or Hydra is no such key: it stays as it was.
    """
    found = {}

    def walk(node: DictConfig, prefix: str) -> None:
        for key in map(str, node):
            name = f"{prefix}{key}"
            if OmegaConf.is_interpolation(node, key):
                text = str(node._get_node(key)._value())  # type: ignore[union-attr]
                if not any(outside in text for outside in ("hydra:", "oc.env:", "now:", "run_folder:")):
                    found[name] = text
            elif OmegaConf.is_dict(node[key]):
                walk(node[key], f"{name}.")

    walk(cfg, "")
    return found


# functions that may stand in what `derived_keys` found; none of them reads anything from outside the config
DERIVING = ("frames", "direction_of")


def load_saved(path: Path) -> DictConfig:
    """A config that a run has left. It is whole and resolved, and nothing in it is executed or looked up.

    Raises:
        RunError: it cannot be read, or holds an interpolation: a saved config has none, and one put in later could
            fetch environment variables.
    """
    try:
        config = OmegaConf.load(path)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise RunError(f"{path}: cannot be read ({_first_line(error)}); the run is damaged, train it again") from error
    return refuse_interpolations(config, path)


def refuse_interpolations(config: Any, path: Path) -> DictConfig:
    """The config, if it is a mapping of plain values."""
    if not (isinstance(config, DictConfig) and "data" in config and "model" in config):
        raise RunError(
            f"{path}: expected the settings of a run, data and model among them; the run is damaged, train it again"
        )
    found = [place for place, text in _texts(OmegaConf.to_container(config), "") if "${" in text]
    if found:
        raise RunError(
            f"{path}: {found[0]} holds an interpolation ('${{...}}'), which no run writes: the file was changed. "
            "Write the value itself, if you know where the run comes from"
        )
    return config


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text of a tree of plain values, names of settings included, with its place."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield f"{place}.{key}".lstrip("."), str(key)
            yield from _texts(below, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for i, below in enumerate(value):
            yield from _texts(below, f"{place}[{i}]")
    elif isinstance(value, str):
        yield place, value


def merge_saved(saved: DictConfig, overrides: list[str], provenance: dict[str, Any]) -> DictConfig:
    """A saved config with value overrides, and with what follows from them.

    Args:
        provenance: of the run: `choices`, the config groups it was made of (naming one of them again is allowed), and
            `derived`, its `derived_keys`.

    Raises:
        ConfigError: an override names a config group (the saved config is whole, a group cannot be exchanged) or a key
            that is not there.
    """
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    choices = provenance.get("choices", {})
    merged = saved.copy()
    for name, interpolation in provenance.get("derived", {}).items():
        foreign = set(re.findall(r"\$\{([\w.]+):", str(interpolation))) - set(DERIVING)
        if foreign:
            raise RunError(
                f"provenance.json: derived.{name} asks for {', '.join(sorted(foreign))}, which no run writes: "
                "the file was changed"
            )
        OmegaConf.update(merged, name, interpolation)
    OmegaConf.set_struct(merged, True)
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
            key, value = parsed.key_or_group, parsed.value()
            if choices.get(key) == value:
                continue
            if key in groups and (OmegaConf.is_config(OmegaConf.select(saved, key)) or key == "modality"):
                raise ConfigError(
                    f"{override}: a saved config takes values only; start a new run to change the group '{key}'"
                )
            OmegaConf.update(merged, key, value)
        except (OmegaConfBaseException, HydraException) as error:
            raise ConfigError(f"{override}: {_first_line(error)}") from error
    OmegaConf.resolve(merged)
    return merged
