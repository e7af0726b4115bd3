"""Measure what ConveyorGuard costs: speed of preparing and training, latency, memory.

    python experiments/benchmark.py [--sessions N] [--quick] [--out outputs/benchmark]
    python experiments/benchmark.py --features 341      window statistics only, of 341 simulated sessions
    python experiments/benchmark.py --gpu 341           training on a GPU only: precisions, torch.compile, loading

Simulated archives are written to a temporary folder. Preparing is compared with the straightforward way (three
parsers a frame, plain numpy, as many processes), which must give the same store. Networks are timed on the same
windows and threads. The candidates take turns, in alternating order. Medians are printed as a table and written to
benchmark.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from subprocess import DEVNULL
from time import perf_counter, sleep
from typing import Any

import joblib
import numpy as np
import psutil
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Column, Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.config.compose import build, compose_config, config_dir
from conveyorguard.config.saved import plain_values
from conveyorguard.data.archive.writer import write
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.features import window_features
from conveyorguard.data.schema import Schema
from conveyorguard.runs.data import load_store, load_windows
from conveyorguard.system.progress import console, track
from conveyorguard.training.fit import build_module, fit
from conveyorguard.training.recipe import Recipe
from conveyorguard.training.setup import used_inputs
from experiments import straightforward

Ways = dict[str, Callable[[int], Any]]  # name -> function to time, called with the number of the round
CHECKOUT = Path(__file__).resolve().parents[1]
PROCESSES = os.cpu_count() or 1
MODELS = {
    "fusion": ["model=fusion"],
    "cnn_transformer": ["model=cnn_transformer"],
    "dl_tuned": ["experiment=dl_tuned"],  # the seed study's, the reference of the others
}


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, help="sessions to simulate (default 12; with --quick 4)")
    parser.add_argument("--quick", action="store_true", help="under a minute: less data, fewer rounds")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"), help="folder for the results")
    parser.add_argument("--features", type=int, metavar="N", help="only time the features of N simulated sessions")
    parser.add_argument("--gpu", type=int, metavar="N", help="only time training on a GPU, on N simulated sessions")
    options = parser.parse_args()
    if options.features:
        return features(options.features, options.out)
    if options.gpu:
        return gpu(options.gpu, options.out)
    sessions = options.sessions or (4 if options.quick else 12)
    rounds, batches, answers = (2, 2, 20) if options.quick else (3, 8, 100)
    start = perf_counter()
    with tempfile.TemporaryDirectory(prefix="conveyorguard-benchmark-") as temporary:
        folder = Path(temporary)
        for archive in ("folder", "zip"):
            write(folder / archive, schema_of(config(folder)), sessions, seed=0, archive=archive)
        result: dict[str, Any] = {
            "machine": {"cores": PROCESSES, "torch": torch.__version__},
            "sessions": sessions,
            "prepare": {archive: prepare_speed(folder, archive, rounds) for archive in ("folder", "zip")},
            "models": model_speed(folder, batches, answers),
            "memory_mib": peak_memory(folder),
            "seconds": perf_counter() - start,
        }
    keep(result, table(result), options.out / "benchmark.json")


def features(sessions: int, out: Path) -> None:
    """Time the window statistics of the train windows, plain and extended, from an open store; write features.json."""
    rows = []
    for name in ("window", "extended"):
        cfg = compose_config([f"data.sessions={sessions}", f"features={name}"])
        data = load_windows(cfg)
        windows = data.part("train")["row"]
        times = []
        for _ in range(3):
            start = perf_counter()
            table = window_features(
                data.store, windows, data.settings.size, build(cfg.features), data.store.schema.inputs
            )
            times.append(perf_counter() - start)
        rows.append(
            {
                "features": name,
                "columns": table.shape[1],
                "windows": len(windows),
                "first_seconds": times[0],
                "median_seconds": median(times),
            }
        )
    report(rows, out / "features.json", f"{sessions} simulated sessions, {PROCESSES} cores")


GPU_WAYS = {  # precision, and torch.compile's mode
    "32-true": ("32-true", None),
    "bf16-mixed": ("bf16-mixed", None),
    "16-mixed": ("16-mixed", None),
    "16-mixed, compiled": ("16-mixed", "default"),
}


def gpu(sessions: int, out: Path) -> None:
    """Train fusion and the seed study's network for a few epochs with each precision, as `trainer=gpu` does.

    Prints a table and writes gpu.json.

    Raises:
        SystemExit: there is no GPU.
    """
    if not torch.cuda.is_available():
        raise SystemExit("--gpu: this machine has no CUDA device. Run it on one that has.")
    rows = []
    for name in ("fusion", "dl_tuned"):
        cfg = compose_config([*MODELS[name], f"data.sessions={sessions}", "trainer=gpu", "trainer.max_epochs=4"])
        data = load_windows(cfg)
        inputs, _ = used_inputs(cfg, data.store.schema)
        for way, (precision, compiled) in GPU_WAYS.items():
            cfg.trainer.precision, clock = precision, EpochClock(compiled)
            with tempfile.TemporaryDirectory(prefix="conveyorguard-benchmark-") as folder:
                fit(Recipe.of(plain_values(cfg)), data, inputs, folder, callbacks=[clock])
            epoch = median(clock.seconds[1:])
            rows.append(
                {
                    "model": name,
                    "way": way,
                    "windows_per_second": len(data.part("train")) / epoch,
                    "first_epoch_seconds": clock.seconds[0],
                    "epoch_seconds": epoch,
                    "batches_percent": 100 * median(clock.loading[1:]) / epoch,
                }
            )
            console().print(f"{name}, {way}: {rows[-1]['windows_per_second']:,.0f} windows/s")
    report(
        rows,
        out / "gpu.json",
        f"{torch.cuda.get_device_name()}, {sessions} simulated sessions",
        "batches: share of an epoch's steps spent on making batches and sending them to the GPU",
    )


def report(rows: list[dict[str, Any]], path: Path, title: str, caption: str | None = None) -> None:
    """Print rows as a table, and write them as json."""
    columns = (Column(key.replace("_", " "), justify="right") for key in rows[0])
    figures = Table(*columns, title=title, caption=caption)
    for row in rows:
        figures.add_row(*(f"{value:,.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    keep(rows, figures, path)


def keep(result: Any, figures: Table, path: Path) -> None:
    """Write a result as json, and print its table and its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    Console().print(figures)
    print(path)


class EpochClock(pl.Callback):
    """Measures the training steps of each epoch, and the time between steps, in which batches are made and sent [s].

    Args:
        compiled: mode of `torch.compile`; None: the network is not compiled.
    """

    def __init__(self, compiled: str | None):
        self.compiled = compiled
        self.seconds: list[float] = []
        self.loading: list[float] = []

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.compiled:
            module.model.compile(mode=self.compiled)  # type: ignore[operator, union-attr]

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        torch.cuda.synchronize()
        self.began = self.ended = perf_counter()
        self.between = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, index: int) -> None:
        self.between += perf_counter() - self.ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        if trainer.is_last_batch:
            torch.cuda.synchronize()
            self.seconds.append(perf_counter() - self.began)
            self.loading.append(self.between)
        self.ended = perf_counter()


def config(root: Path, *overrides: str) -> DictConfig:
    """Return the config of a run on the archives under `root`."""
    with initialize_config_dir(str(config_dir())):
        cfg = compose("train", ["data=aihub", *overrides])
    cfg.data.root = str(root)
    return cfg


def schema_of(cfg: DictConfig) -> Schema:
    """Return the schema of a config's data."""
    return Schema.from_config(OmegaConf.to_container(cfg.data.schema, resolve=True))


def take_turns(ways: Ways, rounds: Iterable[int], before: Callable[[str], Any] = str) -> dict[str, list]:
    """Call each way once a round, in alternating order, and return the seconds of each call; `before` is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in rounds:
        for name in sorted(ways, reverse=bool(number % 2)):
            before(name)
            start = perf_counter()
            ways[name](number)
            seconds[name].append(perf_counter() - start)
    return seconds


def prepare_speed(folder: Path, archive: str, rounds: int) -> dict[str, Any]:
    """Measure frames per second from archives to store, by this package and by straightforward.py."""
    cfg = config(folder / archive)
    cfg.paths.cache = str(folder / "ours")
    root, plain = folder / archive, folder / "straightforward"
    console().print(f"preparing from {archive}: our way and the straightforward way in turns, {rounds} rounds")
    joblib.Parallel(PROCESSES)(joblib.delayed(wake)() for _ in range(4 * PROCESSES))
    ways: Ways = {"ours": lambda _: load_store(cfg)}
    ways["straightforward"] = lambda _: straightforward.prepare(root, plain, schema_of(cfg), PROCESSES)
    seconds = take_turns(ways, range(rounds), lambda name: shutil.rmtree(folder / name, ignore_errors=True))
    store = load_store(cfg)
    straightforward.assert_same(store, plain)
    speed = {name: len(store) / median(times) for name, times in seconds.items()}
    return {"frames": len(store), "seconds": seconds, "frames_per_second": speed}


def wake() -> None:
    """Let a worker import what both ways need, so that starting processes is not measured."""
    from experiments import straightforward  # noqa: F401

    sleep(0.1)  # so that every worker gets one of these calls


def model_speed(folder: Path, batches: int, answers: int) -> dict[str, dict[str, float]]:
    """Measure windows per second of training (store to updated weights) and of loading, and ms per forward pass."""
    modules, steps, loads, singles = torch.nn.ModuleDict(), {}, {}, {}
    for name, overrides in MODELS.items():
        cfg = config(folder / "folder", *overrides)
        cfg.paths.cache = str(folder / "cache")
        data = load_windows(cfg)
        inputs, _ = used_inputs(cfg, data.store.schema)
        dataset = WindowDataset(data.store, data.frame, data.settings, inputs)
        modules[name] = build_module(Recipe.of(plain_values(cfg)), data, inputs)
        steps[name] = training_step(modules[name], dataset, cfg.trainer.gradient_clip_val)
        loads[name] = dataset.__getitems__
        singles[name] = dataset.__getitems__([0])
        size, windows = cfg.batch_size, len(dataset)
    draws = np.random.default_rng(0).integers(windows, size=(batches, size)).tolist()
    torch.set_num_threads(PROCESSES)
    ways = {name: lambda number, step=step: step(draws[number]) for name, step in steps.items()}
    take_turns(ways, [0])  # the first step also allocates memory
    training = take_turns(ways, track(range(batches), "training steps", batches))
    ways = {name: lambda number, load=load: load(draws[number]) for name, load in loads.items()}
    loading = take_turns(ways, range(batches))
    torch.set_num_threads(1)
    ways = {name: lambda _, name=name: modules[name](singles[name]) for name in MODELS}
    modules.eval()
    with torch.inference_mode():
        latency = take_turns(ways, track(range(answers), "single windows", answers))
    return {
        name: {
            "windows_per_second": size / median(training[name]),
            "batches_windows_per_second": size / median(loading[name]),
            "latency_ms": 1e3 * median(latency[name]),
            "parameters": sum(p.numel() for p in modules[name].model.parameters()),
        }
        for name in MODELS
    }


def training_step(module: Any, dataset: WindowDataset, clip: float) -> Callable[[list[int]], None]:
    """Return a function that does a trainer's step on window numbers, without logging and averaging of the weights."""
    optimizer = module.configure_optimizers()["optimizer"]
    module.log = lambda *_, **__: None

    def step(windows: list[int]) -> None:
        batch = dataset.__getitems__(windows)
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_(module.model.parameters(), clip)
        optimizer.step()

    return step


def peak_memory(folder: Path) -> dict[str, float]:
    """Return the peak resident memory of the largest process of each command [MiB]."""
    common = ["data=aihub", f"data.root={folder / 'zip'}", f"paths.cache={folder / 'memory'}"]
    train = ["train", *common, "trainer.max_epochs=1", f"hydra.run.dir={folder / 'run'}"]
    return {"prepare": peak(["prepare", *common], folder), "train": peak(train, folder)}


def peak(arguments: list[str], folder: Path) -> float:
    """Run `python -m conveyorguard`, and return the peak memory of its largest process [MiB]."""
    command = [sys.executable, "-m", "conveyorguard", *arguments]
    with (folder / "errors.txt").open("w") as errors:
        process = psutil.Popen(command, cwd=CHECKOUT, stdout=DEVNULL, stderr=errors)
        largest = max(track(resident(process), f"memory of {arguments[0]}"))
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed:\n{(folder / 'errors.txt').read_text()[-2000:]}")
    return largest / 2**20


def resident(process: psutil.Popen) -> Iterator[int]:
    """Yield the memory of the largest process of a family [B], 50 times a second until it ends."""
    while process.poll() is None:
        with suppress(psutil.Error):  # one that has just ended
            yield max(member.memory_info().rss for member in (process, *process.children(recursive=True)))
        sleep(0.02)


def table(result: dict[str, Any]) -> Table:
    """Return a table of all measurements beside their references."""
    columns = [Column(name, justify="right") for name in ("ConveyorGuard", "reference", "ratio")]
    title = f"{result['sessions']} simulated sessions, {result['machine']['cores']} cores"
    figures = Table("", *columns, title=title, caption="reference: the straightforward way; dl_tuned")
    for archive, row in result["prepare"].items():
        ours, plain = row["frames_per_second"].values()
        figures.add_row(f"prepare {archive}s", f"{ours:,.0f} frames/s", f"{plain:,.0f}", f"{ours / plain:.1f} x")
    for what, key, unit in (
        ("training", "windows_per_second", "{:,.1f} windows/s"),
        ("latency, one thread", "latency_ms", "{:,.2f} ms"),
        ("size", "parameters", "{:,} parameters"),
    ):
        figures.add_section()
        for name, row in result["models"].items():
            seed = result["models"]["dl_tuned"][key]
            ratio = row[key] / seed if what == "training" else seed / row[key]
            against = () if name == "dl_tuned" else (unit.format(seed).split()[0], f"{ratio:.1f} x")
            figures.add_row(f"{what}: {name}", unit.format(row[key]), *against)
    figures.add_section()
    for name, row in result["models"].items():  # compared with training: loading must be faster
        loading, training = row["batches_windows_per_second"], row["windows_per_second"]
        figures.add_row(
            f"batches alone: {name}",
            f"{loading:,.0f} windows/s",
            f"{training:,.1f} trained",
            f"{loading / training:,.0f} x",
        )
    figures.add_section()
    for command, mib in result["memory_mib"].items():
        figures.add_row(f"peak memory: {command}", f"{mib:,.0f} MiB")
    return figures


if __name__ == "__main__":
    main()
