"""What a training step of a network costs under different settings on this machine."""

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
    """Return the duration of a training step (augmentation, forward, backward) [s].

    Wall time on a GPU; processor time otherwise, which other programs on the machine affect little.

    Args:
        cfg: config of the network.
        frames: thermal frames per window, or 'all'.
        mixed: data type of mixed precision; None: no mixed precision.
        windows: windows per batch.
        rounds: steps to measure; the median is returned.
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
        start = clock()
        with torch.autocast(device, mixed, enabled=mixed is not None):
            loss = module.training_step(batch, 0)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return median(times[1:])  # the first step also allocates memory


def speed_techniques(cfg: DictConfig, data: Windows, search: optuna.Study) -> dict[str, str]:
    """Return the measured effect of each of the seed study's speed-ups on this machine, as a sentence.

    Args:
        cfg: config of the tuned network.
        search: study of the search, for the effect of pruning.
    """
    inputs, _ = used_inputs(cfg, data.store.schema)
    few, every = (step_seconds(cfg, data, inputs, frames) for frames in (cfg.window.thermal_frames, "all"))
    count = WindowSettings(**cfg.window).thermal_seconds.size
    effects = {"fewer thermal frames": _against(every, few, f"{count} of {cfg.window.size}")}
    gpus = torch.cuda.device_count()
    effects["several devices"] = (
        f"{gpus} GPUs here; trainer=ddp_2xT4 uses two" if gpus > 1 else "not measured: fewer than two GPUs here"
    )
    short, name = (torch.float16, "fp16 on the GPU") if gpus else (torch.bfloat16, "bf16 on the processor, no GPU here")
    effects["mixed precision"] = _against(few, step_seconds(cfg, data, inputs, cfg.window.thermal_frames, short), name)
    effects["cuDNN benchmark"] = "not measured: no GPU here"
    if gpus:
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = not before
        other = step_seconds(cfg, data, inputs, cfg.window.thermal_frames)
        torch.backends.cudnn.benchmark = before
        without, with_it = (few, other) if not before else (other, few)
        effects["cuDNN benchmark"] = _against(without, with_it, "on the GPU")
    trials = ended(search.get_trials(deepcopy=False))
    epochs = [len(trial.intermediate_values) for trial in trials]
    longest = max(epochs, default=0)
    saved = sum(longest - len(t.intermediate_values) for t in trials if t.state == TrialState.PRUNED)
    effects["pruning of trials"] = f"{saved} of {longest * len(trials)} epochs were not trained"
    return effects


def _against(before: float, after: float, where: str) -> str:
    """Return the effect of a speed-up on a training step as a sentence."""
    ratio = before / after
    verdict = f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times slower"
    unit = "s" if torch.cuda.is_available() else "processor s"
    return f"{verdict} ({where}): {after:.3f} {unit} instead of {before:.3f} a step of 16 windows"


def side_by_side(configs: dict[str, tuple[DictConfig, Windows]], rounds: int = 3) -> pd.DataFrame:
    """Measure networks on this machine, in turns.

    Args:
        configs: config and data of each network, by name.

    Returns:
        model, windows_per_second of training steps with the config's batch size, latency_ms of one window from the
        store to probabilities on one thread, parameters.
    """
    steps: dict[str, list[float]] = {name: [] for name in configs}
    for _ in range(rounds):
        for name, (cfg, data) in configs.items():
            inputs, _ = used_inputs(cfg, data.store.schema)
            windows = min(cfg.batch_size, len(data.part("train")))
            seconds = step_seconds(cfg, data, inputs, cfg.window.thermal_frames, windows=windows)
            steps[name].append(windows / seconds)
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    for name, (cfg, data) in configs.items():
        inputs, _ = used_inputs(cfg, data.store.schema)
        module = build_module(Recipe.of(plain_values(cfg)), data, inputs).eval()
        dataset = WindowDataset(data.store, data.part("val"), data.settings, inputs)
        rows.append(
            {
                "model": name,
                "windows_per_second": median(steps[name]),
                "latency_ms": latency_ms(module, dataset, repeats=200),
                "parameters": module.parameter_count,
            }
        )
    torch.set_num_threads(threads)
    return pd.DataFrame(rows)
