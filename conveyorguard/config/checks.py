"""Check a config before anything runs, and report all its errors at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conveyorguard.config.compose import build, is_tabular, model_class
from conveyorguard.config.saved import alarm_settings
from conveyorguard.data.views import FILM_INPUTS
from conveyorguard.data.windows import WindowSettings, period_of, resolve_window
from conveyorguard.errors import ConfigError
from conveyorguard.metrics.scores import OBJECTIVES
from conveyorguard.system.secrets import secret_problems


def sweep_problems(space: dict[str, Any], overrides: list[str], cfg: DictConfig) -> list[str]:
    """Return what would make the trials of a sweep fail, as sentences; the sweeper calls it before it starts.

    Args:
        space: of the sweep, key -> Optuna distribution.
        overrides: of the command line.
        cfg: the config of one trial.
    """
    errors = []
    devices, gpus = cfg.trainer.get("devices"), gpu_count()
    share = max(1, gpus // max(1, cfg.sweep.workers))
    if isinstance(devices, int) and cfg.trainer.get("accelerator") in ("gpu", "cuda") and share < devices <= gpus:
        errors.append(
            f"sweep.workers={cfg.sweep.workers} share {gpus} GPUs, a trial needs {devices}: "
            f"write sweep.workers={gpus // devices}"
        )
    errors += _fold_problems(cfg)
    try:
        return errors + problems(cfg, space)
    except ConfigError as error:
        return [*errors, str(error)]


def _fold_problems(cfg: DictConfig) -> list[str]:
    """Return what is wrong with the folds of a sweep's trials; how many the data allow shows in the first trial."""
    folds = cfg.sweep.get("folds")
    if folds is None:
        return []
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 1:
        return [f"sweep.folds={folds}: write null or a whole number, e.g. sweep.folds=5"]
    if folds > 1 and cfg.split.name == "out_of_fold":
        return [
            "sweep.folds makes the folds itself: leave out split=out_of_fold, and choose by split= which part is test"
        ]
    return []


def gpu_count() -> int:
    """Return the number of CUDA devices that torch sees."""
    import torch  # here, so that verbs that only read run directories start without it

    return torch.cuda.device_count()


def check(cfg: DictConfig) -> None:
    """Refuse a config that cannot work, before anything runs.

    Raises:
        ConfigError: it lists every problem, each with its remedy.
    """
    if errors := problems(cfg, {}):
        raise ConfigError("the config cannot work:\n" + "\n".join(f"  - {error}" for error in errors))


def problems(cfg: DictConfig, space: dict[str, Any]) -> list[str]:
    """Return what in a config cannot work, as sentences.

    Args:
        cfg: the composed config.
        space: of the sweep whose trial it is, key -> Optuna distribution; otherwise empty.
    """
    settings = list(known_settings(cfg))
    return [
        *secret_problems(settings),
        *_window_problems(cfg),
        *_alarm_problems(cfg),
        *_encoding_problems(settings),
        *_data_problems(cfg.data),
        *_choice_problems(cfg),
        *_head_problems(cfg.model, space),
        *_number_problems(cfg),
        *(_tabular_problems(cfg) if is_tabular(cfg) else _trainer_problems(cfg.trainer)),
    ]


def known_settings(node: DictConfig | ListConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the text of each value of a config.

    Values that cannot be resolved yet, such as the number of Hydra's job, are skipped.
    """
    keys: Iterable[Any] = node if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        try:
            value = node[key]
        except OmegaConfBaseException:
            continue
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, DictConfig | ListConfig):
            yield from known_settings(value, name)
        else:
            yield name, str(value)


def resolve_window_of(cfg: DictConfig) -> None:
    """Replace nulls and durations in the `window` block by seconds; leave it where `check` would refuse it."""
    try:
        cfg.window = resolve_window(cfg.window, period_of(cfg.data))
    except ConfigError:
        return  # reported by `check`, with all other problems


def _window_problems(cfg: DictConfig) -> list[str]:
    try:
        return WindowSettings.of(cfg.window, period_of(cfg.data)).problems()
    except ConfigError as error:
        return str(error).splitlines()


def _alarm_problems(cfg: DictConfig) -> list[str]:
    try:
        return alarm_settings(cfg).problems()
    except ConfigError as error:
        return [str(error)]


def _head_problems(model: DictConfig, space: dict[str, Any]) -> list[str]:
    if "num_heads" not in model:
        return []
    sizes, heads = (getattr(space.get(f"model.{key}"), "choices", [model[key]]) for key in ("embed_dim", "num_heads"))
    remedy = "leave one of them out of the space" if space else "choose another of one"
    return [f"model.num_heads={h} does not divide model.embed_dim={d}: {remedy}" for d in sizes for h in heads if d % h]


def _encoding_problems(settings: list[tuple[str, str]]) -> list[str]:
    return [
        f"{name}={value!r} is not valid UTF-8, in which a config is saved: rename the folder or file"
        for name, value in settings
        if any("\ud800" <= c <= "\udfff" for c in value)  # Python's escapes for bytes of a name that are not UTF-8
    ]


def _data_problems(data: DictConfig) -> list[str]:
    errors = []
    if OmegaConf.is_missing(data, "root"):
        errors.append("data.root is not set: add data.root=PATH, the folder with your copy of the data")
    if not data.schema.channels:
        errors.append(
            "data.schema.channels is empty: name the channels of your files; python -m conveyorguard schema FOLDER "
            "drafts the yaml"
        )
    if data.schema.thermal and data.thermal.reduce not in ("mean_max", "stride"):
        errors.append(f"data.thermal.reduce={data.thermal.reduce}: write mean_max or stride")
    return errors


def _choice_problems(cfg: DictConfig) -> list[str]:
    errors = [
        f"{name}={cfg[name]}: write true or false" for name in ("film", "test") if not isinstance(cfg[name], bool)
    ]
    if cfg.get("film_input", "environment") not in FILM_INPUTS:
        errors.append(f"film_input={cfg.film_input}: one of {', '.join(FILM_INPUTS)}")
    if cfg.get("keep", "best") not in ("best", "last"):
        errors.append(f"keep={cfg.keep}: write best or last")
    mixup = cfg.get("mixup", 0.0)
    if isinstance(mixup, bool) or not isinstance(mixup, int | float) or not 0 <= mixup < float("inf"):
        errors.append(
            f"mixup={mixup}: must be a finite number, 0 or more: alpha of a Beta distribution, 0 for no blending"
        )
    if cfg.objective not in OBJECTIVES:
        errors.append(f"objective={cfg.objective}: one of {', '.join(OBJECTIVES)}")
    if cfg.ckpt_path and not Path(cfg.ckpt_path).is_file():
        errors.append(f"ckpt_path={cfg.ckpt_path}: no such file; give RUN/checkpoints/last.ckpt")
    return errors


def _number_problems(cfg: DictConfig) -> list[str]:
    least = {"seed": 0, "split.seed": 0}
    if not is_tabular(cfg):
        least |= {"batch_size": 1, "patience": 1, "trainer.max_epochs": 1}
    values = {name: OmegaConf.select(cfg, name) for name in least}
    return [
        f"{name}={value}: must be a whole number, {least[name]} or more"
        for name, value in values.items()
        if not isinstance(value, int) or value < least[name]
    ]


def _tabular_problems(cfg: DictConfig) -> list[str]:
    name, package = cfg.model.name, model_class(cfg).PACKAGE
    errors: list[str] = []
    if not _window_problems(cfg):
        errors += build(cfg.features).problems(WindowSettings.of(cfg.window, period_of(cfg.data)).size)
    if package and not find_spec(package):
        errors.append(
            f"model={name} needs the package {package}: pip install 'conveyorguard[boosting]', or use model=lightgbm"
        )
    if cfg.objective == "val/loss":
        errors.append(f"objective=val/loss: model={name} has no loss; use val/nll")
    if cfg.ckpt_path:
        errors.append(
            f"ckpt_path: model={name} is fitted in one step and cannot be resumed; train it again without ckpt_path"
        )
    return errors


def _trainer_problems(trainer: DictConfig) -> list[str]:
    """Return what the trainer asks of this machine and it lacks, before time is spent on preparing data."""
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    gpus = gpu_count()
    wanted = devices if isinstance(devices, int) else 1
    if accelerator in ("gpu", "cuda") and gpus < wanted:
        name = "trainer=ddp_2xT4" if wanted > 1 else "trainer=gpu"
        instead = "trainer=gpu" if gpus else "trainer=cpu, or trainer=ddp_cpu for two processes"
        return [f"{name} needs {wanted} CUDA device{'s' if wanted > 1 else ''}, this machine has {gpus}: use {instead}"]
    if accelerator not in ("auto", "cpu", "gpu", "cuda", "mps"):
        return [f"trainer.accelerator={accelerator}: write auto, cpu, gpu or mps"]
    return []
