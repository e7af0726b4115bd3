"""What a training step of a network costs under other settings, on the machine at hand."""

from __future__ import annotations

import time
from statistics import median

import optuna
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from conveyorguard.data.datamodule import WindowDataset, Windows
from conveyorguard.data.windows import WindowSettings
from conveyorguard.evaluation.predict import latency_ms
from conveyorguard.training.fit import build_module
from conveyorguard.training.job import used_inputs
from conveyorguard.training.study import ended


def step_seconds(
    cfg: DictConfig,
    data: Windows,
    inputs: list[str],
    frames: int | str,
    mixed: bool = False,
    windows: int = 16,
    rounds: int = 3,
) -> float:
    """Median seconds of a training step (forward, backward) of a config's network with so many thermal frames a window.

    Args:
        mixed: in float16 on a GPU. windows: of a batch.
    """
    cfg = cfg.copy()
    OmegaConf.update(cfg, "window.thermal_frames", frames)
    settings = WindowSettings(**cfg.window)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = build_module(cfg, data, inputs).to(device).train()
    dataset = WindowDataset(data.store, data.part("train"), settings, inputs)
    batch = {
        name: value.to(device) for name, value in dataset.__getitems__(list(range(min(windows, len(dataset))))).items()
    }
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        with torch.autocast(device, torch.float16, enabled=mixed):
            loss = module.loss(module(batch), batch)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return median(times[1:])  # the first one also allocates


def speed_techniques(cfg: DictConfig, data: Windows, search: optuna.Study) -> dict[str, str]:
    """What the seed study's techniques buy on this machine: technique -> a sentence, with the seconds it was measured by.

    Args:
        cfg: of the tuned network. search: whose trials could be pruned.
    """
    inputs, _ = used_inputs(cfg, data.store.schema)
    few, every = (step_seconds(cfg, data, inputs, frames) for frames in (cfg.window.thermal_frames, "all"))
    count = WindowSettings(**cfg.window).thermal_seconds.size
    said = {
        "fewer thermal frames": f"{every / few:.1f} times faster with {count} of {cfg.window.size}: {few:.2f} s instead of {every:.2f} s a step of 16 windows"
    }
    gpus = torch.cuda.device_count()
    said["several devices"] = (
        f"{gpus} GPUs here; trainer=ddp_2xT4 uses two" if gpus > 1 else "not measured: fewer than two GPUs here"
    )
    if gpus:
        mixed = step_seconds(cfg, data, inputs, cfg.window.thermal_frames, mixed=True)
        said["mixed precision"] = (
            f"{few / mixed:.1f} times faster: {mixed:.3f} s instead of {few:.3f} s a step of 16 windows"
        )
        said["cuDNN benchmark"] = "trainer=gpu switches it on; not measured apart"
    else:
        said |= dict.fromkeys(["mixed precision", "cuDNN benchmark"], "not measured: no GPU here")
    trials = ended(search.get_trials(deepcopy=False))
    epochs = [len(trial.intermediate_values) for trial in trials]
    longest = max(epochs, default=0)
    saved = sum(longest - len(t.intermediate_values) for t in trials if t.state == TrialState.PRUNED)
    said["pruning of trials"] = f"{saved} of {longest * len(trials)} epochs were not trained"
    return said


def side_by_side(configs: dict[str, tuple[DictConfig, Windows]], rounds: int = 3) -> pd.DataFrame:
    """Networks on this machine, in turns: model, windows_per_second of training steps with their own batches, latency_ms
    of a single window from the store to probabilities on one thread, parameters."""
    steps: dict[str, list[float]] = {name: [] for name in configs}
    for _ in range(rounds):
        for name, (cfg, data) in configs.items():
            inputs, _unused = used_inputs(cfg, data.store.schema)
            windows = min(cfg.batch_size, len(data.part("train")))
            seconds = step_seconds(cfg, data, inputs, cfg.window.thermal_frames, windows=windows)
            steps[name].append(windows / seconds)
    found, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    for name, (cfg, data) in configs.items():
        inputs, _unused = used_inputs(cfg, data.store.schema)
        module = build_module(cfg, data, inputs).eval()
        dataset = WindowDataset(data.store, data.part("val"), data.settings, inputs)
        found.append({"model": name, "windows_per_second": median(steps[name]), "latency_ms": latency_ms(module, dataset),
                      "parameters": module.parameter_count})  # fmt: skip
    torch.set_num_threads(threads)
    return pd.DataFrame(found)
