"""What a training uses: inputs, threads, device, memory."""

from __future__ import annotations

import ctypes
import os
import sys

import torch
from omegaconf import DictConfig

from conveyorguard.config.compose import is_tabular, model_class
from conveyorguard.data.schema import Schema
from conveyorguard.errors import ConfigError
from conveyorguard.training.augment import Augment

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


# what a tabular model has no use for, whatever its modality
NETWORK_SETTINGS = (
    "augment",
    "average",
    "batch_size",
    "loss",
    "mixup",
    "optimizer",
    "patience",
    "scaling",
    "trainer",
    "window.thermal_frames",
)


def used_inputs(cfg: DictConfig, schema: Schema) -> tuple[list[str], list[str]]:
    """What the model is given, and the settings that therefore do nothing.

    Raises:
        ConfigError: the data have nothing of what the modality asks for.
    """
    inputs = [name for name in cfg.inputs if name in schema.inputs]
    unused = [f"modality={cfg.modality}: the data have no {n}" for n in cfg.inputs if n not in schema.inputs]
    if not inputs:
        there = "sensor" if "sensors" in schema.inputs else "image"
        raise ConfigError(
            f"modality={cfg.modality}: the data have no {' and no '.join(cfg.inputs)}; use modality={there}"
        )
    if cfg.film and "environment" in schema.inputs:
        inputs.append("environment")
    elif cfg.film:
        unused.append("film: the data have no environment")
    if "environment" not in inputs and cfg.get("film_input", "environment") != "environment":
        unused.append("film_input")
    model = model_class(cfg)
    if is_tabular(cfg):
        return inputs, sorted([*unused, *NETWORK_SETTINGS])
    unused.append("features")
    unused += [f"model.{key}" for key, need in model.NEEDS.items() if need not in inputs and key in cfg.model]
    if "thermal" not in inputs:
        unused += ["window.thermal_frames", "scaling.thermal"]
    unused += [f"augment.{key}" for key, need in Augment.NEEDS.items() if need not in inputs and cfg.augment.get(key)]
    if not model.PER_SECOND and cfg.loss.get("second_weight"):
        unused.append("loss.second_weight")
    return inputs, sorted(unused)


def use_threads(threads: int | None) -> int:
    """Set the number of torch threads; results depend on it."""
    torch.set_num_threads(
        threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return torch.get_num_threads()


def keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed: given back, every training step takes them anew, page by page.

    Where the C library has no such setting nothing changes but the speed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def trains_on_gpu(cfg: DictConfig) -> bool:
    return not is_tabular(cfg) and cfg.trainer.accelerator != "cpu" and torch.cuda.is_available()


def device_name(cfg: DictConfig) -> str:
    """Of what a config's model is trained on."""
    return torch.cuda.get_device_name(0) if trains_on_gpu(cfg) else "cpu"
