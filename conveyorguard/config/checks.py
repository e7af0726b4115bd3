"""Every error in a config at once, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from conveyorguard.config.compose import build, is_tabular, model_class
from conveyorguard.data.views import FILM_INPUTS
from conveyorguard.data.windows import WindowSettings
from conveyorguard.errors import ConfigError
from conveyorguard.metrics.scores import OBJECTIVES
from conveyorguard.system.secrets import keys_in, values_of


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
