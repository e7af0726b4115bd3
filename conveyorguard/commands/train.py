"""Train one job, from config to run directory. `train.py` is its command line."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from conveyorguard.commands.results import write_results
from conveyorguard.config.checks import check, resolve_window_of
from conveyorguard.config.saved import load_saved, merge_saved, plain_values
from conveyorguard.data.leakage import leaks_of
from conveyorguard.data.windows import Windows
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.metrics.scores import METRICS, Predictions, Totals
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from conveyorguard.reporting.terminal import class_table
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.provenance import code_hash, config_hash
from conveyorguard.runs.writer import Run
from conveyorguard.sweeps.trial import TrialHandle, current_trial
from conveyorguard.system.files import read_json
from conveyorguard.system.progress import console
from conveyorguard.training.by_settings import fit_by_settings
from conveyorguard.training.callbacks import Pruning
from conveyorguard.training.checkpoints import read_checkpoint
from conveyorguard.training.loggers import JobLoggers
from conveyorguard.training.module import WindowClassifier
from conveyorguard.training.setup import device_name, keep_freed_memory, trains_on_gpu, use_threads, used_inputs


def train(
    cfg: DictConfig, folder: Path, overrides: list[str], draw: bool = True, trial: TrialHandle | None = None
) -> float:
    """Prepare the data, fit the model, evaluate it and draw its page.

    An unfinished training of the same config in the folder is resumed.

    Args:
        cfg: the composed config.
        folder: the run directory.
        overrides: of this job, as given on the command line.
        draw: the page and the model card.
        trial: of a sweep, where this training is all of it.

    Returns:
        The objective on validation at the best epoch; NaN for a pruned trial.
    """
    resolve_window_of(cfg)
    changes = overrides
    if last := unfinished(cfg, folder):
        console().print(f"resuming {last}: a training of this config was interrupted")
        cfg.ckpt_path, changes = str(last), []  # the saved config is this one
    if checkpoint := cfg.ckpt_path:
        cfg = resumed(cfg, folder, changes)
        cfg.ckpt_path = checkpoint
    check(cfg)
    keep_freed_memory()
    threads = use_threads(cfg.threads)
    settings = plain_values(cfg)
    loggers = JobLoggers(settings, folder, multirun_name())
    with Run(cfg, folder, overrides) as run, loggers:
        data = load_windows(settings)
        if cfg.ckpt_path:
            refuse_other_data(folder, data)
        inputs, unused = used_inputs(settings, data.store.schema)
        run.describe(data, unused, threads, device_name(settings))
        print_data(data, unused)
        refuse_objective(cfg.objective, data)
        began = time.perf_counter()
        pruning = [Pruning(trial, cfg.objective)] if trial else []
        model = fit_by_settings(settings, data, inputs, folder, threads, list(loggers), pruning)
        run.note(fit_seconds=round(time.perf_counter() - began, 2))
        if trial and trial.pruned:
            return float("nan")
        if isinstance(model, WindowClassifier):
            model.to("cuda" if trains_on_gpu(settings) else "cpu")
        metrics = write_results(run, model, data, inputs, ("val", "test") if cfg.test else ("val",))
        deployed = {f"now_{part}": values for part, values in metrics.pop("now").items()}
        loggers.log_results({**metrics, **deployed})
    if draw:
        write_card(folder)
        write_report(folder)
    part = list(metrics)[-1]
    class_table(deployed[f"now_{part}"], part, data.store.schema)
    value = objective_value(cfg.objective, metrics, folder)
    if trial:
        trial.finish("COMPLETE", value)
    return value


def multirun_name() -> str | None:
    """Return the name of the multirun's directory, with the date where it is a time of day; None outside a multirun."""
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return None
    folder = Path(HydraConfig.get().sweep.dir).absolute()
    return f"{folder.parent.name}-{folder.name}" if re.fullmatch(r"\d\d-\d\d-\d\d", folder.name) else folder.name


def unfinished(cfg: DictConfig, folder: Path) -> Path | None:
    """Return the last checkpoint of an interrupted training in the folder, if its config and code are the same."""
    last, provenance = folder / "checkpoints" / "last.ckpt", folder / "provenance.json"
    if cfg.ckpt_path or current_trial() or not last.is_file() or not provenance.is_file():
        return None
    facts = read_json(provenance)
    same = facts.get("config") == config_hash(cfg) and facts.get("code") == code_hash()
    return last if same and facts.get("status") != "complete" else None


def resumed(cfg: DictConfig, folder: Path, overrides: list[str]) -> DictConfig:
    """Return the config that a run was started with, changed by the overrides alone.

    Raises:
        RunError: ckpt_path is not in a run directory, or the checkpoint cannot be read.
    """
    path = folder / "config.yaml"
    if not path.is_file() or not Path(cfg.ckpt_path).is_file():
        raise RunError(
            f"ckpt_path={cfg.ckpt_path}: give RUN/checkpoints/last.ckpt of a run directory with its config.yaml"
        )
    read_checkpoint(Path(cfg.ckpt_path))  # refused before the data are prepared, not by Lightning afterwards
    return merge_saved(load_saved(path), overrides, read_json(folder / "provenance.json"))


def refuse_other_data(folder: Path, data: Windows) -> None:
    """Refuse to resume a run whose data or split have changed.

    Raises:
        RunError: the split of the data is not the saved one.
    """
    path = folder / "split.json"
    if path.exists() and read_json(path)["hash"] != data.split.hash:
        raise RunError(f"{folder}: the data or the split have changed since the run was started; start a new run")


def print_data(data: Windows, unused: list[str]) -> None:
    """Print what the model is trained on: store, split, unused settings."""
    screen = console()
    screen.print(data.store.summary())
    counts = {part: len(data.part(part) if part == "train" else data.judged(part)) for part in data.split.sessions}
    parts = [f"{part} {len(names)} sessions, {counts[part]:,} windows" for part, names in data.split.sessions.items()]
    screen.print(f"split {data.split.settings['name']} ({data.split.hash}): " + "; ".join(parts))
    if data.split.note:
        screen.print(f"note: {data.split.note}")
    for leak in leaks_of(data.store, data.split.sessions["train"]):
        screen.print(f"warning: {leak.message}", markup=False)
    counts_by_state = zip(data.store.schema.state_names, data.class_counts(), strict=True)
    if absent := [name for name, count in counts_by_state if not count]:
        screen.print(
            f"warning: the train part has no window of {', '.join(absent)}: the model will not learn to predict it. "
            "Choose another split.seed, or record more sessions",
            markup=False,
        )
    if unused:
        screen.print("not used by this model and modality: " + ", ".join(unused))


def refuse_objective(objective: str, data: Windows) -> None:
    """Refuse an objective that has no value on the validation part, or the same one for every model.

    Raises:
        ConfigError: naming the states that validation has.
    """
    metric = METRICS.get(objective.removeprefix("val/"))
    if metric is None:  # the loss
        return
    names, label = data.store.schema.state_names, data.judged("val")["label"].to_numpy()
    answers = [label, *(np.full(len(label), k) for k in range(len(names)))]
    values = [float(metric.function(Totals.over(Predictions(label, np.eye(len(names))[answer])))) for answer in answers]
    if np.isnan(values[0]) or len(set(values)) == 1:
        states = ", ".join(names[k] for k in np.unique(label))
        raise ConfigError(
            f"objective={objective}: cannot choose a model on the validation part, whose windows are all {states}. "
            "Choose another objective, such as val/nll, or another split.seed"
        )


def objective_value(objective: str, metrics: dict[str, Any], folder: Path) -> float:
    """Return the objective on validation with the weights that were kept."""
    name = objective.removeprefix("val/")
    if name in metrics["val"]:
        return float(metrics["val"][name] if metrics["val"][name] is not None else "nan")
    return float(pd.read_csv(folder / "history.csv")[objective].min())
