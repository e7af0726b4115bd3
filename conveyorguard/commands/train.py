"""One training job from config to run directory. `train.py` is its command line."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from conveyorguard.config.compose import build, check, is_tabular, load_saved, merge_saved, model_class
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.schema import Schema
from conveyorguard.data.splits import make_split
from conveyorguard.data.store import Store, prepare
from conveyorguard.data.views import film_view
from conveyorguard.data.windows import Windows, WindowSettings, make_windows
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.evaluation.shortcuts import shortcut_predictions
from conveyorguard.inference.predict import latency_ms, predict, prediction_table
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from conveyorguard.reporting.terminal import class_table
from conveyorguard.runs.examples import choose_examples
from conveyorguard.runs.provenance import code_hash, config_hash
from conveyorguard.runs.writer import Run
from conveyorguard.sweeps.trial import current_trial
from conveyorguard.system.files import read_json, write_parquet
from conveyorguard.system.progress import console
from conveyorguard.training.augment import Augment
from conveyorguard.training.callbacks import Pruning
from conveyorguard.training.checkpoints import read_checkpoint
from conveyorguard.training.fit import fit
from conveyorguard.training.loggers import JobLoggers
from conveyorguard.training.module import WindowClassifier

if TYPE_CHECKING:
    from conveyorguard.training.fit_tabular import TabularClassifier

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


def train(cfg: DictConfig, folder: Path, overrides: list[str]) -> float:
    """Prepare, fit, evaluate, report; where the folder holds an unfinished training of the same config, go on with
    that.

    Args:
        cfg: the composed config.
        folder: the run directory.
        overrides: of this job, as given on the command line.

    Returns:
        The objective at the best epoch.
    """
    if last := unfinished(cfg, folder):
        console().print(f"going on with {last}: a training of this config that did not come to its end")
        cfg.ckpt_path = str(last)
    if checkpoint := cfg.ckpt_path:
        cfg = resumed(cfg, folder, overrides)
        cfg.ckpt_path = checkpoint
    check(cfg)
    keep_freed_memory()
    threads = use_threads(cfg.threads)
    loggers = JobLoggers(cfg, folder)
    with Run(cfg, folder, overrides) as run, loggers:
        data = load_windows(cfg)
        if cfg.ckpt_path:
            refuse_other_data(folder, data)
        inputs, unused = used_inputs(cfg, data.store.schema)
        run.describe(data, unused, threads, device_name(cfg))
        say(data, unused)
        trial = current_trial()
        began = time.perf_counter()
        model: WindowClassifier | TabularClassifier
        if is_tabular(cfg):
            from conveyorguard.training.fit_tabular import fit_tabular, importance  # slow to import

            model = fit_tabular(cfg, data, inputs, folder, threads)
        else:
            extra: list[pl.Callback] = [Pruning(trial, cfg.objective)] if trial else []
            model = fit(cfg, data, inputs, folder, list(loggers), extra)
        run.note(fit_seconds=round(time.perf_counter() - began, 2))
        if trial and trial.pruned:
            return float("nan")
        if isinstance(model, WindowClassifier):
            model.to("cuda" if trains_on_gpu(cfg) else "cpu")
        else:
            importance(model, data).to_csv(folder / "importance.csv", index=False, float_format="%.6g")
        tables, probabilities = [], {}
        for part in ("val", "test") if cfg.test else ("val",):
            windows = data.part(part)
            dataset = WindowDataset(data.store, windows, data.settings, inputs)
            probabilities[part] = predict(model, dataset)
            tables.append(prediction_table(windows, part, probabilities[part]))
        metrics = run.write_predictions(tables, data.store.schema)
        write_parquet(folder / "shortcuts.parquet", shortcut_predictions(data, list(metrics)))
        choose_examples(data, part, probabilities[part], folder / "examples.npz")
        run.note(
            parameters=model.parameter_count,
            model_bytes=model.size_in_bytes,
            latency_ms=round(latency_ms(model, dataset), 3),
        )
        loggers.log_results(metrics)
    write_card(folder)
    write_report(folder)
    class_table(metrics[part], part, data.store.schema)
    value = objective_value(cfg.objective, metrics, folder)
    if trial:
        trial.finish("COMPLETE", value)
    return value


def load_store(cfg: DictConfig) -> Store:
    """The frame store of the config's data, built if it is not there."""
    schema = Schema.from_config(OmegaConf.to_container(cfg.data.schema, resolve=True))  # type: ignore[arg-type]
    reader = build(cfg.data.reader, _partial_=True)
    return prepare(reader, schema, cfg.data.root, cfg.paths.cache, cfg.data.name, cfg.data.strict)


def conditioned(store: Store, cfg: DictConfig) -> Store:
    """The store with the environment that the config's film is given; runs made before there was a choice have their
    own."""
    return film_view(store, cfg.get("film_input", "environment"), cfg.seed) if cfg.film else store


def load_windows(cfg: DictConfig) -> Windows:
    """Store, windows and split of a config."""
    store = conditioned(load_store(cfg), cfg)
    settings = WindowSettings(**cfg.window)
    frame = make_windows(store, settings)
    split = make_split(frame, store.schema, OmegaConf.to_container(cfg.split))  # type: ignore[arg-type]
    return Windows(store, frame.assign(part=split.part_of(frame["session"])), split, settings)


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


def unfinished(cfg: DictConfig, folder: Path) -> Path | None:
    """The last checkpoint of a training of this very config and code in the folder that did not come to its end, as
    after a kill."""
    last, provenance = folder / "checkpoints" / "last.ckpt", folder / "provenance.json"
    if cfg.ckpt_path or current_trial() or not last.is_file() or not provenance.is_file():
        return None
    begun = read_json(provenance)
    same = begun.get("config") == config_hash(cfg) and begun.get("code") == code_hash()
    return last if same and begun.get("status") != "complete" else None


def resumed(cfg: DictConfig, folder: Path, overrides: list[str]) -> DictConfig:
    """The config that a run was started with, so that nothing but what is overridden now can differ."""
    path = folder / "config.yaml"
    if not path.is_file() or not Path(cfg.ckpt_path).is_file():
        raise RunError(
            f"ckpt_path={cfg.ckpt_path}: give RUN/checkpoints/last.ckpt of a run directory with its config.yaml"
        )
    read_checkpoint(Path(cfg.ckpt_path))  # refused here, rather than by Lightning in the middle of things
    return merge_saved(load_saved(path), overrides, read_json(folder / "provenance.json"))


def refuse_other_data(folder: Path, data: Windows) -> None:
    """A run goes on with the data and split it began with, or not at all."""
    path = folder / "split.json"
    if path.exists() and read_json(path)["hash"] != data.split.hash:
        raise RunError(f"{folder}: the data or the split are not those the run began with; start a new run")


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


def say(data: Windows, unused: list[str]) -> None:
    """What is about to be trained on, in a few lines."""
    screen = console()
    screen.print(data.store.summary())
    parts = [
        f"{part} {len(names)} sessions, {(data.frame['part'] == part).sum():,} windows"
        for part, names in data.split.sessions.items()
    ]
    screen.print(f"split {data.split.settings['name']} ({data.split.hash}): " + "; ".join(parts))
    if data.split.note:
        screen.print(f"note: {data.split.note}")
    if unused:
        screen.print("not used by this model and modality: " + ", ".join(unused))


def objective_value(objective: str, metrics: dict[str, Any], folder: Path) -> float:
    """The objective on validation with the weights that were kept."""
    name = objective.removeprefix("val/")
    if name in metrics["val"]:
        return float(metrics["val"][name] if metrics["val"][name] is not None else "nan")
    return float(pd.read_csv(folder / "history.csv")[objective].min())
