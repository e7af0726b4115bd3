"""A study in stages: run a config unless a complete run of it is there, count the work, keep the site.

A stage is a script in `experiments/`. Its trainings are processes of their own, each the command that its run directory
names, so a stage that is killed goes on where it was: complete runs of the same config and data are reused, others
resumed or made anew.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from rich.progress import Progress

from conveyorguard.config.checks import check
from conveyorguard.config.compose import compose_config, is_tabular
from conveyorguard.data.splits import SEED_STUDY_SESSIONS
from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.reporting.format import warning_of
from conveyorguard.reporting.site import Site, keep_plotly, origin_of
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.saved import SavedRun
from conveyorguard.sweeps.shared_study import count_finished, last_line
from conveyorguard.sweeps.space import override
from conveyorguard.sweeps.sweeper import register
from conveyorguard.sweeps.trial import find_study, storage_place
from conveyorguard.system.files import read_json, write_json
from conveyorguard.system.processes import guarded, start
from conveyorguard.system.progress import console

TITLES = {
    "00_eda": "Data",
    "01_preprocess": "Windows and split",
    "02_baseline_cnn": "First network",
    "03_ml_baseline": "Trees",
    "04_dl_tuning": "Tuning and ablation",
    "06_ensemble": "Ensemble",
    "07_final_comparison": "Final comparison",
}
# every fourth pixel of a thermal frame where the seed study takes every second: a quarter of the work for its networks
SMALL = {"data.sessions": 24, "trainer.max_epochs": 3, "data.schema.thermal.stride": 4}
# of a config, what says where things lie or how a run is logged; whether the data are the same is told by their
# fingerprint
NOT_THE_RUN = ("paths", "logger", "ckpt_path", "sweep")
Overrides = list[str]


@dataclass
class StagedStudy:
    """Where a study in stages lies, how large it is, and how far it has come. Optuna's study is what `search` gives.

    size: 'small', 'full', or '' for what the config says. fresh: make runs anew that are there. workers: trainings at a
    time. overrides: of the user, stronger than the size. options: of the user, of a stage itself. titles: of the pages.
    """

    out: Path
    size: str = ""
    fresh: bool = False
    workers: int = 1
    overrides: Overrides = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    command: str = "python experiments/study.py"
    titles: Mapping[str, str] = field(default_factory=lambda: TITLES)
    progress: Progress | None = None
    done: int = 0
    known: dict[str, Windows] = field(default_factory=dict)
    configs: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)  # runs that need not be made anew by another stage
    running: dict[str, int] = field(default_factory=dict)  # how many units the trainings of the moment have done
    ending: Event = field(default_factory=Event)  # trainings are to be ended

    def all_overrides(self, own: Iterable[str], usual: Iterable[str] = ()) -> Overrides:
        """Of the size, what is usual, of the user, what makes the run this one; the last one of a key holds.

        The user's settings of the search, `sweep.*`, are of a search alone: a training has none.
        """
        own = list(own)
        searches = any(line.startswith("sweep=") for line in own)
        users = [line for line in self.overrides if searches or not line.startswith("sweep.")]
        sizes: dict[str, int] = {"small": SMALL, "full": {"data.sessions": SEED_STUDY_SESSIONS}}.get(self.size, {})
        given = [f"{key}={value}" for key, value in sizes.items() if not self.lacks(key)]
        return list({line.partition("=")[0].lstrip("+"): line for line in [*given, *usual, *users, *own]}.values())

    def lacks(self, key: str) -> bool:
        """Whether the user's data have no such setting: recordings of one's own have no number, some have no camera."""
        return OmegaConf.select(self.given, key) is None

    @cached_property
    def given(self) -> DictConfig:
        """The config by the user's overrides alone."""
        return compose_config([line for line in self.overrides if not line.startswith("sweep.")])

    def config(self, own: Iterable[str] = ()) -> DictConfig:
        """The config of a run of the study.

        Raises:
            ConfigError: it cannot work.
        """
        key = tuple(self.all_overrides(own))
        if key not in self.configs:
            self.configs[key] = compose_config(list(key))
            check(self.configs[key])
        return self.configs[key]

    def data(self, cfg: DictConfig | None = None) -> Windows:
        """Store, windows and split of a config, by default the study's; opened once, the environment as it was
        recorded."""
        cfg = (cfg or self.config()).copy()
        cfg.film_input = "environment"
        key = "".join(OmegaConf.to_yaml(cfg[name], resolve=True) for name in ("data", "window", "split"))
        if key not in self.known:
            self.say("preparing the data")
            self.known[key] = load_windows(cfg)
        return self.known[key]

    @cached_property
    def site(self) -> Site:
        """The study's pages."""
        data, cfg = self.data(), self.config()
        told = []
        if self.size == "small":
            pixels = (
                ""
                if self.lacks("data.schema.thermal.stride")
                else (f" and given every {cfg.data.schema.thermal.stride}th pixel of a frame's rows and columns")
            )
            told.append(
                f"A small study: {len(data.store.sessions)} sessions, the seed study's networks trained "
                f"for no more epochs than {cfg.trainer.max_epochs}{pixels}. "
                "It shows how everything works; the figures that count are those of make study-full."
            )
        if warning := warning_of(cfg.data.name):
            told.append(warning)
        origin = origin_of(data, cfg.data.name, self.command)
        return Site(self.out, f"Study on {cfg.data.name} data", self.titles, " ".join(told), origin)

    def train(self, name: str, own: Overrides) -> SavedRun:
        """The complete run runs/<name> of a config; errors as of `train_all`."""
        return self.train_all({name: own})[name]

    def train_all(self, runs: Mapping[str, Overrides]) -> dict[str, SavedRun]:
        """The complete runs runs/<name> of configs: those that are there, else resumed, else made, `workers` at a time.

        Raises:
            RunError: a training failed; its output is in logs/<name>.log. The others are ended, to be resumed the next
                time.
        """
        missing = {}
        for name, own in runs.items():
            fresh = self.fresh and name not in self.made
            if fresh or not self.is_complete(self.out / "runs" / name, self.config(own)):
                missing[name] = not fresh
            else:
                self.made.add(name)
                self.advance(units_of(self.config(own)))
        keep_plotly(self.out)  # for the pages of runs
        waiting, begun = list(missing), set[Future[str]]()
        with ThreadPoolExecutor(self.workers) as pool:  # each waits for a process
            try:
                while waiting or begun:
                    while waiting and len(begun) < self.workers:
                        name = waiting.pop(0)
                        begun.add(pool.submit(self._make, name, runs[name], missing[name]))
                    finished, begun = wait(begun, return_when=FIRST_COMPLETED)
                    for name in (future.result() for future in finished):
                        self.made.add(name)
                        self.advance(units_of(self.config(runs[name])))
            except BaseException:  # Ctrl-C is one too
                self.ending.set()
                raise
        return {name: SavedRun(self.out / "runs" / name) for name in runs}

    def _make(self, name: str, own: Overrides, resume: bool) -> str:
        """Make the run of a known config, by its checkpoint if it may be resumed; returns its name."""
        folder, cfg = self.out / "runs" / name, self.config(own)
        last = folder / "checkpoints" / "last.ckpt"
        command = ["train", *self.all_overrides(own), override("hydra.run.dir", str(folder))]
        log, units = self.out / "logs" / f"{name}.log", units_of(cfg)
        epochs = partial(epochs_in, folder / "history.csv")
        resume = resume and last.is_file() and _same(folder, cfg)
        code = self.execute(name, [*command, f"ckpt_path={last}"], log, epochs, units) if resume else 1
        if code and not self.ending.is_set():
            shutil.rmtree(folder, ignore_errors=True)  # unfinished, of another config, or not wanted any more
            code = self.execute(name, command, log, epochs, units)
        if code:
            raise RunError(f"{name}: the training failed: {last_line(log)}\n  its output: {log}")
        return name

    def find(self, name: str) -> SavedRun | None:
        """A finished run of the study on the data as they are now, if there is one."""
        return next((SavedRun(folder) for folder in self.finished()[0] if folder.name == name), None)

    def finished(self) -> tuple[list[Path], list[str]]:
        """Directories of all finished runs of the study on the data as they are now, ensembles included.

        Returns:
            The directories, and a sentence on each run that was left out.
        """
        found, left_out = [], []
        for folder in sorted([*self.out.glob("runs/*"), *self.out.glob("runs/ensemble/*")]):
            if not (folder / "config.yaml").is_file():  # a folder of others: the search, the ensembles
                continue
            try:
                run = SavedRun(folder)
                if run.provenance.get("status") != "complete":
                    raise RunError("it is not complete")
                self.refuse_other_data(run)
                found.append(folder)
            except RunError as error:
                reason = str(error).replace(f"{folder}: ", "")
                left_out.append(f"{folder.name} is left out: {reason}")
        return found, left_out

    def refuse_other_data(self, run: SavedRun) -> None:
        """Raise unless the run is of the study's data, windows and split, as they are now.

        Raises:
            RunError: it is of others.
        """
        reduce = OmegaConf.select(run.config, "data.thermal.reduce")
        own = [] if reduce is None or self.lacks("data.thermal.reduce") else [f"data.thermal.reduce={reduce}"]
        data = self.data(self.config(own))
        facts, window = run.provenance, self.config().window
        for key in ("size", "stride", "label"):
            if run.config.window[key] != window[key]:
                raise RunError(f"it has window.{key}={run.config.window[key]}, the study {window[key]}")
        if facts["split"] != data.split.hash:
            raise RunError("it has another split")
        if facts["store"]["fingerprint"] != data.store.fingerprint:
            raise RunError("it was made on other data")

    def search(self, name: str, own: Overrides, usual: Overrides) -> optuna.Study:
        """The finished Optuna study runs/<name> of a sweep: the one that is there, gone on with, or made.

        Args:
            usual: overrides that the user's own go before.

        Raises:
            RunError: the sweep failed; its output is in logs/<name>.log.
        """
        folder, units = self.out / "runs" / name, self.units_of_search(own, usual)
        cfg = self.sweep_config(own, usual)
        data = self.data(cfg)
        lines = [
            line for line in self.all_overrides(["sweep=optuna", *own], usual) if not line.startswith("data.root=")
        ]
        record = {"overrides": lines, "fingerprint": data.store.fingerprint, "split": data.split.hash}
        path, log = folder / "sweep.json", self.out / "logs" / f"{name}.log"
        if self.fresh or not path.is_file() or read_json(path) != record:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(path, record)
        place = storage_place(str(folder / "journal.log"))
        study = find_study(place, name)
        if study is None or count_finished(study.get_trials()) < cfg.sweep.n_trials:
            program = f"hydra.sweeper.command=[{sys.executable},-m,conveyorguard,train]"
            keep_plotly(self.out)
            # the record has the fingerprint: data may move
            free = override("sweep.free", [*cfg.sweep.free, "data.root"])
            command = [
                "train",
                "-m",
                *self.all_overrides(["sweep=optuna", *own], usual),
                override("sweep.study", name),
                program,
                free,
                override("hydra.sweep.dir", str(folder)),
            ]

            def epochs() -> int:
                return sum(map(epochs_in, folder.glob("*/history.csv")))

            if self.execute(name, command, log, epochs, units):
                raise RunError(f"{name}: the sweep failed: {last_line(log)}\n  its output: {log}")
            study = find_study(place, name)
        assert study is not None
        self.advance(units)
        return study

    def sweep_config(self, own: Overrides, usual: Overrides) -> DictConfig:
        """The config of a sweep, Hydra's sampler in it; what it takes from the job's directory is not resolved."""
        register()
        return compose_config(self.all_overrides(["sweep=optuna", *own], usual), with_hydra=True)

    def units_of_search(self, own: Overrides, usual: Overrides) -> int:
        """The epochs of a sweep, if no trial is pruned."""
        cfg = self.sweep_config(own, usual)
        return int(cfg.sweep.n_trials * cfg.trainer.max_epochs)

    def is_complete(self, folder: Path, cfg: DictConfig) -> bool:
        """Whether the folder holds a finished run of this config on the data as they are now."""
        try:
            found = SavedRun(folder).provenance
        except RunError:
            return False
        if found.get("status") != "complete" or not _same(folder, cfg):
            return False
        data = self.data(cfg)
        return found["store"]["fingerprint"] == data.store.fingerprint and found["split"] == data.split.hash

    def execute(self, name: str, arguments: list[str], log: Path, done: Callable[[], int], units: int) -> int:
        """Run a verb as a process that ends with this one, its output in a log; returns its exit code.

        Args:
            done: how many of the units it has done.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with guarded() as guard:
            process = start(
                [sys.executable, "-m", "conveyorguard", *arguments], {**os.environ, "SWEEP_GUARD": guard}, log
            )
            try:
                while process.poll() is None and not self.ending.is_set():
                    self.running[name] = min(done(), units)
                    self.say(", ".join(list(self.running)), sum(list(self.running.values())))
                    time.sleep(0.3)
            finally:
                self.running.pop(name, None)
                if process.poll() is None:
                    process.terminate()
                    with suppress(Exception):
                        process.wait(15)
        self.tell(f"{name}: {'done' if process.returncode == 0 else 'failed'} in {time.monotonic() - began:.0f} s")
        return process.returncode

    def say(self, what: str, ahead: int = 0) -> None:
        """Show on the bar what is done at the moment; `ahead` units of it are there already."""
        if self.progress and self.progress.task_ids:  # the work is being counted
            self.progress.update(self.progress.task_ids[0], description=what, completed=self.done + ahead)

    def tell(self, line: str) -> None:
        """A line above the bar."""
        (self.progress.console if self.progress else console()).print(line)

    def advance(self, units: int) -> None:
        """So many units of the work are done."""
        self.done += units
        if self.progress:
            self.progress.update(self.progress.task_ids[0], completed=self.done)


def units_of(cfg: DictConfig) -> int:
    """How much work a training is: its epochs; a tabular model is as much as one."""
    return 1 if is_tabular(cfg) else int(cfg.trainer.max_epochs)


def epochs_in(history: Path) -> int:
    """How many epochs a history.csv has; 0 where there is none."""
    with suppress(OSError):
        return max(0, len(history.read_text().splitlines()) - 1)
    return 0


def _same(folder: Path, cfg: DictConfig) -> bool:
    """Whether the run directory was made by this config."""

    def plain(config: Any) -> Any:
        values = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(config, resolve=True)))
        assert isinstance(values, dict)
        values["data"].pop("root", None)
        return {key: value for key, value in values.items() if key not in NOT_THE_RUN}

    path = folder / "config.yaml"
    return path.is_file() and plain(OmegaConf.load(path)) == plain(cfg)


# makes the page; how many units of work its trainings are
Stage = tuple[Callable[[StagedStudy], Path], Callable[[StagedStudy], int]]


def units_of_runs(runs: Mapping[str, Overrides]) -> Callable[[StagedStudy], int]:
    """The work of trainings, given by name with their overrides."""
    return lambda study: sum(units_of(study.config(own)) for own in runs.values())
