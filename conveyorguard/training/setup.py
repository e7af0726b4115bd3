"""Inputs, threads, memory and device of a training."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from typing import Any

import torch

from conveyorguard.config.compose import is_tabular, model_class
from conveyorguard.data.schema import Schema
from conveyorguard.errors import ConfigError
from conveyorguard.training.augment import Augment

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

# unused by every tabular model
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


def used_inputs(settings: Mapping[str, Any], schema: Schema) -> tuple[list[str], list[str]]:
    """Return the inputs that the model is given, and the settings that have no effect.

    Args:
        settings: the resolved config.
        schema: channels and camera of the data.

    Returns:
        Names of the inputs (sensors, thermal, environment), and the unused settings, sorted.

    Raises:
        ConfigError: the data have none of the inputs that the modality needs.
    """
    wanted, modality = settings["inputs"], settings["modality"]
    inputs = [name for name in wanted if name in schema.inputs]
    kinds = {"thermal": "camera", "sensors": "channels"}
    missing = [kinds.get(name, name) for name in wanted if name not in schema.inputs]
    unused = [f"{name}: the data have none" for name in missing]
    if not inputs:
        available = "sensor" if "sensors" in schema.inputs else "image"
        raise ConfigError(f"modality={modality}: the data have no {' and no '.join(missing)}; use modality={available}")
    if settings["film"] and "environment" in schema.inputs:
        inputs.append("environment")
    elif settings["film"]:
        unused.append("film: the data have no environment")
    if "environment" not in inputs and settings.get("film_input", "environment") != "environment":
        unused.append("film_input")
    unused += NETWORK_SETTINGS if is_tabular(settings) else _unused_by_network(settings, inputs)
    return inputs, sorted(unused)


def _unused_by_network(settings: Mapping[str, Any], inputs: list[str]) -> list[str]:
    """Return the settings that have no effect on a network with these inputs."""
    network, model, augment = model_class(settings), settings["model"], settings["augment"]
    unused = ["features"]
    unused += [f"model.{key}" for key, need in network.NEEDS.items() if need not in inputs and key in model]
    if "thermal" not in inputs:
        unused += ["window.thermal_frames", "scaling.thermal"]
    unused += [f"augment.{key}" for key, need in Augment.NEEDS.items() if need not in inputs and augment.get(key)]
    if not network.PER_SECOND and settings["loss"].get("second_weight"):
        unused.append("loss.second_weight")
    return unused


def use_threads(threads: int | None) -> int:
    """Set the number of torch threads, on which results depend, and return it.

    Args:
        threads: the number; None for one per core available to this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or cores)
    return torch.get_num_threads()


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks, which each training step would otherwise request again, page by page.

    Only speed changes. With another C library this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def trains_on_gpu(settings: Mapping[str, Any]) -> bool:
    """Return whether the model of a config is trained on a GPU of this machine."""
    return not is_tabular(settings) and settings["trainer"]["accelerator"] != "cpu" and torch.cuda.is_available()


def device_name(settings: Mapping[str, Any]) -> str:
    """Return the name of the GPU that the model of a config is trained on, or 'cpu'."""
    return torch.cuda.get_device_name(0) if trains_on_gpu(settings) else "cpu"
