"""Compose the config from its yaml files, and build the objects that it names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conveyorguard.errors import ConfigError
from conveyorguard.metrics.scores import OBJECTIVES

# What a config may build. The list is code, never part of a config; classes of other packages are added by the
# environment variable CONVEYORGUARD_WHITELIST="mypackage.models.*,mypackage.readers.*"
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
    "conveyorguard.models.log_mean.LogMean",
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
    """Return the folder of the yaml files: `conf` of the checkout, or its copy in the installed package."""
    checkout = PACKAGE.parent / "conf"
    return checkout if (checkout / "train.yaml").exists() else PACKAGE / "conf"


def compose_config(overrides: list[str], with_hydra: bool = False) -> DictConfig:
    """Return the composed config for a verb that is not a Hydra job.

    Args:
        overrides: as on the command line; `--config-dir FOLDER` among them adds a folder of yaml files.
        with_hydra: keep Hydra's own settings, under `hydra`.

    Raises:
        ConfigError: an override or a yaml file is wrong.
    """
    option = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    option.add_argument("--config-dir", "-cd", type=Path)
    options, overrides = option.parse_known_args(overrides)
    if options.config_dir:
        place = QuotedString(text=f"file://{options.config_dir.resolve()}", quote=Quote.single).with_quotes()
        overrides = [*overrides, f"hydra.searchpath=[{place}]"]
    with initialize_config_dir(str(config_dir())):
        try:
            return compose("train", overrides, return_hydra_config=with_hydra)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(str(error)) from error


def whitelist() -> list[str]:
    """Return what a config may build: `WHITELIST` and what CONVEYORGUARD_WHITELIST adds."""
    return [
        *WHITELIST,
        *filter(None, (name.strip() for name in os.environ.get("CONVEYORGUARD_WHITELIST", "").split(","))),
    ]


def build(node: Mapping[str, Any], **arguments: Any) -> Any:
    """Instantiate a config node or a plain mapping if its `_target_` is on the whitelist.

    Args:
        node: settings, with the class or function as `_target_`.
        arguments: further arguments of the target.

    Raises:
        ConfigError: the target may not be built, does not exist, or does not take these settings.
    """
    try:
        node = node if OmegaConf.is_config(node) else OmegaConf.create(dict(node))
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
        raise ConfigError(f"cannot build {target}: {first_line(error)}{hint}") from error


def model_class(model: str | Mapping[str, Any]) -> Any:
    """Return the class of a model if it is on the whitelist: a network, or a classifier of window features.

    Args:
        model: its `_target_`, its settings with the `_target_` among them, or a whole config.
    """
    target = model if isinstance(model, str) else model.get("model", model)["_target_"]
    return build({"_target_": target}, _partial_=True).func


def is_tabular(model: str | Mapping[str, Any]) -> bool:
    """Return whether a model is a classifier of window features rather than a network trained by Lightning.

    Args:
        model: as for `model_class`.
    """
    return getattr(model_class(model), "TABULAR", False)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's cause, or of the error itself; its type if the message is empty."""
    cause = error.__cause__ or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__


def run_folder(ckpt_path: str | None, otherwise: str) -> str:
    """Return the run directory: that of the checkpoint to resume, otherwise the new one."""
    if not ckpt_path or ckpt_path == "None":
        return otherwise
    return str(Path(ckpt_path).resolve().parent.parent)


def direction_of(objective: str) -> str:
    """Return Optuna's direction for an objective; `sweep_problems` refuses an unknown one."""
    return "maximize" if OBJECTIVES.get(objective, True) else "minimize"


def warmup_of(folds: Any) -> int:
    """Return the steps before which a sweep prunes no trial: a fold where a trial has folds, else three epochs."""
    return 1 if folds else 3


def rows_of(size: Any, *, _root_: DictConfig) -> Any:
    """Return the rows of a window, whose size is a duration; the size itself where `check` would refuse it."""
    from conveyorguard.data.windows import period_of, resolve_window  # brings pandas, which takes long to import

    period = period_of(_root_["data"])
    try:
        return round(resolve_window({"size": size}, period)["size"] / period)
    except ConfigError:
        return size


def modality_of(modality: str, *, _root_: DictConfig) -> str:
    """Return the modality that the data of a config allow, for the name of the run directory."""
    from conveyorguard.data.schema import modality_with

    schema = OmegaConf.select(_root_, "data.schema") or {}
    return modality_with(modality, bool(schema.get("channels")), bool(schema.get("thermal")))


def register_resolvers() -> None:
    """Register the functions that the yaml files use."""
    OmegaConf.register_resolver("run_folder", run_folder, replace=True)
    OmegaConf.register_resolver("modality_of", modality_of, replace=True)
    OmegaConf.register_resolver("direction_of", direction_of, replace=True)
    OmegaConf.register_resolver("warmup_of", warmup_of, replace=True)
    OmegaConf.register_resolver("rows", rows_of, replace=True)
    OmegaConf.register_resolver("frames", lambda frames, size: size if frames == "all" else frames, replace=True)


register_resolvers()
