"""What a training step of a network costs under other settings, on the machine at hand."""

from __future__ import annotations

import time
from statistics import median

import optuna
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from conveyorguard.config.saved import plain_values
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.windows import Windows, WindowSettings
from conveyorguard.inference.predict import latency_ms
from conveyorguard.sweeps.shared_study import ended
from conveyorguard.training.fit import build_module
from conveyorguard.training.recipe import Recipe
from conveyorguard.training.setup import used_inputs


def step_seconds(
    cfg: DictConfig,
    data: Windows,
    inputs: list[str],
    frames: int | str,
    mixed: torch.dtype | None = None,
    windows: int = 16,
    rounds: int = 3,
) -> float:
    """Seconds of a training step (augmentation, forward, backward) of a config's network with so many thermal frames a
    window.

    On a GPU seconds that passed; on processors seconds they worked, which others on the machine change little.

    Args:
        mixed: the shorter floats to compute in where that is safe. windows: of a batch.
    """
    cfg = cfg.copy()
    OmegaConf.update(cfg, "window.thermal_frames", frames)
    settings = WindowSettings(**cfg.window)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = build_module(Recipe.of(plain_values(cfg)), data, inputs).to(device).train()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer to log to
    dataset = WindowDataset(data.store, data.part("train"), settings, inputs)
    batch = {
        name: value.to(device) for name, value in dataset.__getitems__(list(range(min(windows, len(dataset))))).items()
    }
    clock = time.perf_counter if device == "cuda" else time.process_time
    times = []
    for _ in range(rounds + 1):
        began = clock()
        with torch.autocast(device, mixed, enabled=mixed is not None):
            loss = module.training_step(batch, 0)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - began)
    return median(times[1:])  # the first one also allocates


def speed_techniques(cfg: DictConfig, data: Windows, search: optuna.Study) -> dict[str, str]:
    """What the seed study's techniques buy on this machine: technique -> a sentence, with the seconds it was measured
    by.

    Args:
        cfg: of the tuned network. search: whose trials could be pruned.
    """
    inputs, _ = used_inputs(cfg, data.store.schema)
    few, every = (step_seconds(cfg, data, inputs, frames) for frames in (cfg.window.thermal_frames, "all"))
    count = WindowSettings(**cfg.window).thermal_seconds.size
    said = {"fewer thermal frames": _against(every, few, f"{count} of {cfg.window.size}")}
    gpus = torch.cuda.device_count()
    said["several devices"] = (
        f"{gpus} GPUs here; trainer=ddp_2xT4 uses two" if gpus > 1 else "not measured: fewer than two GPUs here"
    )
    short, name = (torch.float16, "fp16 on the GPU") if gpus else (torch.bfloat16, "bf16 on the processor, no GPU here")
    said["mixed precision"] = _against(few, step_seconds(cfg, data, inputs, cfg.window.thermal_frames, short), name)
    said["cuDNN benchmark"] = "not measured: no GPU here"
    if gpus:
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = not before
        other = step_seconds(cfg, data, inputs, cfg.window.thermal_frames)
        torch.backends.cudnn.benchmark = before
        without, with_it = (few, other) if not before else (other, few)
        said["cuDNN benchmark"] = _against(without, with_it, "on the GPU")
    trials = ended(search.get_trials(deepcopy=False))
    epochs = [len(trial.intermediate_values) for trial in trials]
    longest = max(epochs, default=0)
    saved = sum(longest - len(t.intermediate_values) for t in trials if t.state == TrialState.PRUNED)
    said["pruning of trials"] = f"{saved} of {longest * len(trials)} epochs were not trained"
    return said


def _against(before: float, after: float, where: str) -> str:
    """What a technique does to a training step, in a sentence."""
    ratio = before / after
    verdict = f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times slower"
    unit = "s" if torch.cuda.is_available() else "processor s"
    return f"{verdict} ({where}): {after:.3f} {unit} instead of {before:.3f} a step of 16 windows"


def side_by_side(configs: dict[str, tuple[DictConfig, Windows]], rounds: int = 3) -> pd.DataFrame:
    """Networks on this machine, in turns: model, windows_per_second of training steps with their own batches,
    latency_ms of a single window from the store to probabilities on one thread, parameters."""
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
        module = build_module(Recipe.of(plain_values(cfg)), data, inputs).eval()
        dataset = WindowDataset(data.store, data.part("val"), data.settings, inputs)
        found.append(
            {
                "model": name,
                "windows_per_second": median(steps[name]),
                "latency_ms": latency_ms(module, dataset, repeats=200),
                "parameters": module.parameter_count,
            }
        )
    torch.set_num_threads(threads)
    return pd.DataFrame(found)
