"""A study in stages: train what is missing, count the work, write the pages.

A stage is a script in `experiments/`. Every training is a separate process that runs the command recorded in its run
directory, so a killed stage continues where it stopped: complete runs of the same config and data are reused,
unfinished ones are resumed or trained again.
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

from conveyorguard.config.checks import check, resolve_window_of
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
# every fourth pixel of a thermal frame instead of the seed study's every second: a quarter of the work for its networks
SMALL = {"data.sessions": 24, "trainer.max_epochs": 3, "data.schema.thermal.stride": 4}
# the seed study's question and split: the commonest state of a window, and gaps as they are
QUESTION = ["split=session", "window.label=majority", "window.max_gap=0"]
# config groups that do not change a run's result; the data are compared by their fingerprint
IGNORED_GROUPS = ("paths", "logger", "ckpt_path", "sweep")
Overrides = list[str]


@dataclass
class StagedStudy:
    """The folder, size and progress of a study in stages (an Optuna study is what `search` returns).

    Args:
        out: folder of the study: pages, `runs/`, `logs/` and `tables/`.
        size: 'small', 'full', or '' for the size in the config.
        fresh: train again what has already been trained.
        workers: number of trainings at a time.
        overrides: the user's overrides of train.py; they take precedence over those of the size.
        options: the user's options that belong to a stage instead of train.py, by name.
        command: the command line, for the pages.
        titles: page titles by file stem.
        progress: progress bar over all stages, if one is shown.
        question: overrides of what the models are asked; the user's take precedence.
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
    question: Overrides = field(default_factory=lambda: [*QUESTION])
    done: int = 0
    windows: dict[str, Windows] = field(default_factory=dict)  # opened data, by config
    configs: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)  # composed configs, by overrides
    up_to_date: set[str] = field(default_factory=set)  # runs that this process does not train again
    running: dict[str, int] = field(default_factory=dict)  # units done by each training in progress
    stopping: Event = field(default_factory=Event)  # set when the trainings in progress must end

    def all_overrides(self, overrides: Iterable[str], defaults: Iterable[str] = ()) -> Overrides:
        """Return all overrides of a run: of the size, the defaults, the user's, and the run's; the later one wins.

        The user's `sweep.*` overrides apply to a search only, since a training has no such keys.

        Args:
            overrides: overrides that define the run; the user cannot change them.
            defaults: overrides that the user can change.
        """
        overrides = list(overrides)
        is_search = any(line.startswith("sweep=") for line in overrides)
        users = [line for line in self.overrides if is_search or not line.startswith("sweep.")]
        sizes: dict[str, int] = {"small": SMALL, "full": {"data.sessions": SEED_STUDY_SESSIONS}}.get(self.size, {})
        size = [f"{key}={value}" for key, value in sizes.items() if not self.lacks(key)]
        lines = [*self.question, *size, *defaults, *users, *overrides]
        return list({line.partition("=")[0].lstrip("+"): line for line in lines}.values())

    def lacks(self, key: str) -> bool:
        """Return whether the user's data lack a setting: only simulated data have `data.sessions`, not all a camera."""
        return OmegaConf.select(self.users_config, key) is None

    @cached_property
    def users_config(self) -> DictConfig:
        """The config composed from the user's overrides alone."""
        return compose_config([*self.question, *(line for line in self.overrides if not line.startswith("sweep."))])

    def config(self, overrides: Iterable[str] = ()) -> DictConfig:
        """Return the checked config of a run of the study.

        Raises:
            ConfigError: the settings are invalid.
        """
        key = tuple(self.all_overrides(overrides))
        if key not in self.configs:
            self.configs[key] = compose_config(list(key))
            resolve_window_of(self.configs[key])
            check(self.configs[key])
        return self.configs[key]

    def data(self, cfg: DictConfig | None = None) -> Windows:
        """Return store, windows and split of a config, by default the study's; opened once, with no control of FiLM."""
        cfg = OmegaConf.merge(cfg or self.config(), {"film_input": "environment"})
        key = "".join(OmegaConf.to_yaml(cfg[name], resolve=True) for name in ("data", "window", "split"))
        if key not in self.windows:
            self.say("preparing the data")
            self.windows[key] = load_windows(cfg)
        return self.windows[key]

    @cached_property
    def site(self) -> Site:
        """The study's pages."""
        data, cfg = self.data(), self.config()
        sentences = []
        if self.size == "small":
            stride = "" if self.lacks("data.schema.thermal.stride") else cfg.data.schema.thermal.stride
            pixels = f" on every {stride}th row and column of the thermal frames" if stride else ""
            sentences.append(
                f"A small study: {len(data.store.sessions)} sessions, the seed study's networks trained for at most "
                f"{cfg.trainer.max_epochs} epoch{'s' if cfg.trainer.max_epochs > 1 else ''}{pixels}. It shows how "
                "everything works; for results run make study-full."
            )
        if warning := warning_of(cfg.data.name):
            sentences.append(warning)
        origin = [*origin_of(data, cfg.data.name, self.command), ("asked", data.settings.question)]
        return Site(self.out, f"Study on {cfg.data.name} data", self.titles, " ".join(sentences), origin)

    def train(self, name: str, overrides: Overrides) -> SavedRun:
        """Return the complete run runs/<name> of a config, training it if needed; see `train_all`."""
        return self.train_all({name: overrides})[name]

    def train_all(self, runs: Mapping[str, Overrides]) -> dict[str, SavedRun]:
        """Return the complete runs runs/<name>, training `workers` at a time those that are missing or unfinished.

        Args:
            runs: overrides by run name.

        Raises:
            RunError: a training failed; its output is in logs/<name>.log. The other trainings are stopped and will be
                resumed by the next call.
        """
        missing = {}
        for name, overrides in runs.items():
            fresh = self.fresh and name not in self.up_to_date
            if fresh or not self.is_complete(self.out / "runs" / name, self.config(overrides)):
                missing[name] = not fresh
            else:
                self.up_to_date.add(name)
                self.advance(units_of(self.config(overrides)))
        keep_plotly(self.out)  # for the pages of runs
        waiting, started = list(missing), set[Future[str]]()
        with ThreadPoolExecutor(self.workers) as pool:  # each thread waits for a process
            try:
                while waiting or started:
                    while waiting and len(started) < self.workers:
                        name = waiting.pop(0)
                        started.add(pool.submit(self._train, name, runs[name], missing[name]))
                    finished, started = wait(started, return_when=FIRST_COMPLETED)
                    for name in (future.result() for future in finished):
                        self.up_to_date.add(name)
                        self.advance(units_of(self.config(runs[name])))
            except BaseException:  # KeyboardInterrupt included
                self.stopping.set()
                raise
        return {name: SavedRun(self.out / "runs" / name) for name in runs}

    def _train(self, name: str, overrides: Overrides, resume: bool) -> str:
        """Train a run, from its last checkpoint where `resume` allows it; return its name."""
        folder, cfg = self.out / "runs" / name, self.config(overrides)
        last = folder / "checkpoints" / "last.ckpt"
        command = ["train", *self.all_overrides(overrides), override("hydra.run.dir", str(folder))]
        log, units = self.out / "logs" / f"{name}.log", units_of(cfg)
        done = partial(epochs_in, folder / "history.csv")
        resume = resume and last.is_file() and _same(folder, cfg)
        code = self.execute(name, [*command, f"ckpt_path={last}"], log, done, units) if resume else 1
        if code and not self.stopping.is_set():
            shutil.rmtree(folder, ignore_errors=True)  # unfinished, outdated, or of another config
            code = self.execute(name, command, log, done, units)
        if code:
            raise RunError(f"{name}: the training failed: {last_line(log)}\n  its output: {log}")
        return name

    def find(self, name: str) -> SavedRun | None:
        """Return the finished run of this name on the current data, or None."""
        return next((SavedRun(folder) for folder in self.finished()[0] if folder.name == name), None)

    def finished(self) -> tuple[list[Path], list[str]]:
        """Return the directories of all finished runs on the current data, ensembles included.

        Returns:
            The directories, and a sentence about each run that is left out.
        """
        folders, left_out = [], []
        for folder in sorted([*self.out.glob("runs/*"), *self.out.glob("runs/ensemble/*")]):
            if not (folder / "config.yaml").is_file():  # no run: the search, or the folder of the ensembles
                continue
            try:
                run = SavedRun(folder)
                if run.provenance.get("status") != "complete":
                    raise RunError("it is not complete")
                self.refuse_other_data(run)
                folders.append(folder)
            except RunError as error:
                reason = str(error).replace(f"{folder}: ", "")
                left_out.append(f"{folder.name} is left out: {reason}")
        return folders, left_out

    def refuse_other_data(self, run: SavedRun) -> None:
        """Raise RunError if a run is on other data, windows or another split than the study has now."""
        reduce = OmegaConf.select(run.config, "data.thermal.reduce")
        reduction = [] if reduce is None or self.lacks("data.thermal.reduce") else [f"data.thermal.reduce={reduce}"]
        data = self.data(self.config(reduction))
        facts, window = run.provenance, self.config().window
        for key in ("size", "stride", "label"):
            if run.config.window[key] != window[key]:
                raise RunError(f"it has window.{key}={run.config.window[key]}, the study {window[key]}")
        if facts["split"] != data.split.hash:
            raise RunError("it has another split")
        if facts["store"]["fingerprint"] != data.store.fingerprint:
            raise RunError("it was trained on other data")

    def search(self, name: str, overrides: Overrides, defaults: Overrides) -> optuna.Study:
        """Return the finished Optuna study runs/<name> of a sweep, starting or continuing the sweep if needed.

        Args:
            overrides: overrides that define the sweep; the user cannot change them.
            defaults: overrides that the user can change.

        Raises:
            RunError: the sweep failed; its output is in logs/<name>.log.
        """
        folder, units = self.out / "runs" / name, self.units_of_search(overrides, defaults)
        cfg = self.sweep_config(overrides, defaults)
        data = self.data(cfg)
        lines = self.all_overrides(["sweep=optuna", *overrides], defaults)
        kept = [line for line in lines if not line.startswith("data.root=")]
        record = {"overrides": kept, "fingerprint": data.store.fingerprint, "split": data.split.hash}
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
            # the data may be moved during a sweep: the record holds their fingerprint
            free = override("sweep.free", [*cfg.sweep.free, "data.root"])
            places = [override("sweep.study", name), program, free, override("hydra.sweep.dir", str(folder))]
            command = ["train", "-m", *lines, *places]

            def done() -> int:
                return sum(map(epochs_in, folder.glob("*/history.csv")))

            if self.execute(name, command, log, done, units):
                raise RunError(f"{name}: the sweep failed: {last_line(log)}\n  its output: {log}")
            study = find_study(place, name)
        assert study is not None
        self.advance(units)
        return study

    def sweep_config(self, overrides: Overrides, defaults: Overrides) -> DictConfig:
        """Return the config of a sweep with Hydra's sweeper; values that need the job's directory stay unresolved."""
        register()
        return compose_config(self.all_overrides(["sweep=optuna", *overrides], defaults), with_hydra=True)

    def units_of_search(self, overrides: Overrides, defaults: Overrides) -> int:
        """Return the number of epochs of a sweep in which no trial is pruned."""
        cfg = self.sweep_config(overrides, defaults)
        return int(cfg.sweep.n_trials * cfg.trainer.max_epochs)

    def is_complete(self, folder: Path, cfg: DictConfig) -> bool:
        """Return whether the folder holds a finished run of this config on the current data."""
        try:
            facts = SavedRun(folder).provenance
        except RunError:
            return False
        if facts.get("status") != "complete" or not _same(folder, cfg):
            return False
        data = self.data(cfg)
        return facts["store"]["fingerprint"] == data.store.fingerprint and facts["split"] == data.split.hash

    def execute(self, name: str, arguments: list[str], log: Path, done: Callable[[], int], units: int) -> int:
        """Run a verb in a child process, which ends when this process ends, and return its exit code.

        Args:
            log: file for the output.
            done: returns how many of the units the process has done so far.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        start_time = time.monotonic()
        with guarded() as guard:
            line = [sys.executable, "-m", "conveyorguard", *arguments]
            process = start(line, {**os.environ, "SWEEP_GUARD": guard}, log)
            try:
                while process.poll() is None and not self.stopping.is_set():
                    self.running[name] = min(done(), units)
                    self.say(", ".join(list(self.running)), sum(list(self.running.values())))
                    time.sleep(0.3)
            finally:
                self.running.pop(name, None)
                if process.poll() is None:
                    process.terminate()
                    with suppress(Exception):
                        process.wait(15)
        self.tell(f"{name}: {'done' if process.returncode == 0 else 'failed'} in {time.monotonic() - start_time:.0f} s")
        return process.returncode

    def say(self, what: str, ahead: int = 0) -> None:
        """Show the current activity on the progress bar, with `ahead` units beyond those that are counted as done."""
        if self.progress and self.progress.task_ids:  # the total is known
            self.progress.update(self.progress.task_ids[0], description=what, completed=self.done + ahead)

    def tell(self, line: str) -> None:
        """Print a line above the progress bar."""
        (self.progress.console if self.progress else console()).print(line)

    def advance(self, units: int) -> None:
        """Count units of work as done."""
        self.done += units
        if self.progress:
            self.progress.update(self.progress.task_ids[0], completed=self.done)


def units_of(cfg: DictConfig) -> int:
    """Return the units of work of a training: its epochs, or 1 for a tabular model."""
    return 1 if is_tabular(cfg) else int(cfg.trainer.max_epochs)


def epochs_in(history: Path) -> int:
    """Return the number of epochs in a history.csv; 0 if there is no such file."""
    with suppress(OSError):
        return max(0, len(history.read_text().splitlines()) - 1)
    return 0


def _same(folder: Path, cfg: DictConfig) -> bool:
    """Return whether the run directory was written under this config."""

    def plain(config: Any) -> Any:
        values = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(config, resolve=True)))
        assert isinstance(values, dict)
        values["data"].pop("root", None)
        return {key: value for key, value in values.items() if key not in IGNORED_GROUPS}

    path = folder / "config.yaml"
    return path.is_file() and plain(OmegaConf.load(path)) == plain(cfg)


# a function that writes the page, and one that returns the units of work of the trainings
Stage = tuple[Callable[[StagedStudy], Path], Callable[[StagedStudy], int]]


def units_of_runs(runs: Mapping[str, Overrides]) -> Callable[[StagedStudy], int]:
    """Return a function that counts the units of work of trainings, given as overrides by run name."""
    return lambda study: sum(units_of(study.config(overrides)) for overrides in runs.values())
