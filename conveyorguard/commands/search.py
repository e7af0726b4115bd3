"""Train the candidates of `best` on their folds, choose one, and train it on all of train and validation."""

from __future__ import annotations

import contextlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from conveyorguard.commands.candidates import (
    ModelCandidate,
    candidates,
    config_of,
    fit_into,
    pool_threads,
    seconds_of_fold,
)
from conveyorguard.commands.folds import BASE, epochs_overrides
from conveyorguard.commands.learning_curve import trained
from conveyorguard.commands.words.keys import compose_checked
from conveyorguard.commands.words.parser import Words
from conveyorguard.config.checks import check, resolve_window_of
from conveyorguard.config.saved import plain_values
from conveyorguard.data.folds import number_of_folds, unit_of_folds
from conveyorguard.data.splits import recordings_of
from conveyorguard.data.windows import Windows
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.evaluation.choice import choose
from conveyorguard.evaluation.plan import HALF, Result, SearchPlan
from conveyorguard.metrics.intervals import Interval
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.derive import derive
from conveyorguard.runs.out_of_fold import pooled
from conveyorguard.runs.provenance import code_hash
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import locked, read_json, write_json, write_text
from conveyorguard.system.progress import console

FOLDS = 5


@dataclass(frozen=True)
class Unit:
    """A training: its name, its config with the overrides that give it, and its run directory."""

    name: str
    config: DictConfig
    overrides: list[str]
    folder: Path


def search(words: Words, minutes: float, workers: int) -> Result:
    """Carry out `best`, or go on with it.

    Args:
        words: the command line.
        minutes: budget of the trainings.
        workers: trainings at a time.

    Raises:
        RunError: the folder has another plan.
    """
    base = _base(words)
    folder = words.out or Path("outputs") / "best" / str(base.data.name)
    with locked(folder):
        data = load_windows(base)
        plan = _plan(words, base, data, folder / "plan.json", minutes, workers)
        _print_plan(plan, folder)
        config_dir = words.options.config_dir
        every = [ModelCandidate(**values) for values in plan.candidates]
        train_all([unit for c in every for unit in units_of(plan, c, folder / "folds", config_dir)], workers)
        tables = {c.name: deployed(folder / "folds" / c.name, plan.folds) for c in every}
        choice = choose(tables)
        chosen = next(c for c in every if c.name == choice.name)
        curve = _curve(plan, chosen, folder, config_dir, workers, tables[chosen.name])
        model = train_final(plan, chosen, folder / "folds" / chosen.name, folder / "model", config_dir)
    seconds = {
        c.name: sum(SavedRun(folder / "folds" / c.name / f"fold{k}").provenance["seconds"] for k in range(plan.folds))
        for c in every
    }
    write_text(folder / "best.csv", choice.table().to_csv(index=False))
    return Result(folder, plan, choice, curve, model, seconds, str(base.data.name))


def _base(words: Words) -> DictConfig:
    """Return the config that decides the data and what is test."""
    overrides = [word for word in words.overrides if word.partition("=")[0] not in ("modality", "film")]
    cfg = compose_checked(overrides, words.options.config_dir)
    resolve_window_of(cfg)
    check(cfg)
    if cfg.split.name == "out_of_fold" or cfg.split.train_devices is not None:
        raise ConfigError("best chooses its folds itself: leave out split=out_of_fold and split.train_devices")
    return cfg


def _plan(words: Words, base: DictConfig, data: Windows, path: Path, minutes: float, workers: int) -> SearchPlan:
    """Return the saved plan, or make and save one.

    Raises:
        RunError: the saved plan is of other data, code, settings or minutes.
    """
    schema = data.store.schema
    every, overrides = candidates(words.overrides, "sensors" in schema.inputs, "thermal" in schema.inputs)
    overrides = [word for word in overrides if word.partition("=")[0].partition(".")[0] != "split"]
    pool = data.frame[data.frame["session"].isin([*data.split.sessions["train"], *data.split.sessions["val"]])]
    recordings = recordings_of(pool)
    fixed: dict[str, Any] = {
        "overrides": overrides,
        "base": [f"split.base.{key}={value}" for key, value in plain_values(base)["split"].items() if key in BASE],
        "folds": number_of_folds(pool, recordings, FOLDS),
        "unit": unit_of_folds(pool, recordings),
        "minutes": minutes,
        "data": data.store.fingerprint,
        "code": code_hash(),
    }
    if path.is_file():
        saved = SearchPlan(**read_json(path))
        names = [c["name"] for c in saved.candidates] + saved.left_out
        changed = [key for key, value in fixed.items() if getattr(saved, key) != value]
        changed += ["candidates"] if sorted(names) != sorted(c.name for c in every) else []
        if changed:
            raise RunError(
                f"{path}: was made with other {', '.join(changed)}; give another out=FOLDER, or remove {path.parent} "
                "to start anew"
            )
        return saved
    threads = pool_threads(base.threads, workers)
    draft = SearchPlan([], [], {}, threads=threads, **fixed)
    config_dir, seconds = words.options.config_dir, {}
    fold = load_windows(config_of(every[0], overrides, draft.split(0), config_dir))
    for candidate in every:
        cfg = config_of(candidate, [*overrides, f"threads={threads}"], draft.split(0), config_dir)
        seconds[candidate.name] = round(draft.folds * seconds_of_fold(cfg, fold, threads) / workers, 1)
    planned, left_out = fit_into(seconds, minutes)
    plan = SearchPlan(
        **{
            **asdict(draft),
            "candidates": [asdict(c) for c in every if c.name in planned],
            "left_out": left_out,
            "seconds": seconds,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(plan))
    return plan


def _print_plan(plan: SearchPlan, folder: Path) -> None:
    """Print candidates, folds and the time that is expected."""
    screen = console()
    screen.print(f"plan {folder / 'plan.json'}: {plan.folds} folds by {plan.unit}, {plan.threads} threads a training")
    for candidate in plan.candidates:
        screen.print(f"  {candidate['name']:<22} about {plan.seconds[candidate['name']]:.0f} s")
    for name in plan.left_out:
        expected = f"about {plan.seconds[name]:.0f} s do not fit into minutes={plan.minutes:g}"
        screen.print(f"  {name:<22} left out: {expected}")


def units_of(
    plan: SearchPlan, candidate: ModelCandidate, folder: Path, config_dir: Path | None, devices: int | None = None
) -> list[Unit]:
    """Return the trainings of a candidate on every fold.

    Args:
        folder: of the candidates' folders.
        devices: number of train devices; None for all.
    """
    overrides = [*plan.overrides, f"threads={plan.threads}", "test=false"]
    overrides += [] if devices is None else [f"split.train_devices={devices}"]
    name = candidate.name if devices is None else f"{candidate.name} on {devices} devices"
    return [
        Unit(
            f"{name}, fold {fold + 1}",
            config_of(candidate, overrides, plan.split(fold), config_dir),
            [*candidate.overrides, *overrides, *plan.split(fold)],
            folder / candidate.name / f"fold{fold}",
        )
        for fold in range(plan.folds)
    ]


def train_all(units: list[Unit], workers: int) -> None:
    """Train what is not finished, `workers` at a time, and print a line for each."""
    screen = console()
    if workers == 1:
        for done, unit in enumerate(units, 1):
            screen.print(f"{done} of {len(units)}: {unit.name}: {_train_quietly(unit)}")
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(_train_quietly, unit): unit.name for unit in units}
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                screen.print(f"{done} of {len(units)}: {jobs[job]}: {job.result()}")
        except BaseException:  # the pool would wait until they have trained to the end
            for worker in active_children():
                worker.kill()
            raise


def _train_quietly(unit: Unit) -> str:
    """Train a fold's run, its output in a log beside its folder, and return a line about it."""
    unit.folder.parent.mkdir(parents=True, exist_ok=True)
    path = unit.folder.with_suffix(".log")
    with path.open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        run = trained(unit.config, unit.folder, unit.overrides, draw=False)
    score = run.metrics["now"]["val"]["macro_f1"] if "now" in run.metrics else run.scores["val"]["macro_f1"]
    return f"macro-F1 {100 * (score or 0):.1f} %, {run.provenance['seconds']:.0f} s"


def deployed(folder: Path, folds: int) -> pd.DataFrame:
    """Return the out-of-fold predictions of a candidate with c0, c1, ...: calibrated, and with a memory where it helps,
    as they are for a run."""
    runs = [SavedRun(folder / f"fold{fold}") for fold in range(folds)]
    rows = pooled([run.rows("val") for run in runs]).sort_values(["session", "start"], ignore_index=True)
    return derive([rows], runs[0].schema, runs[0].window).predictions


def _curve(
    plan: SearchPlan, chosen: ModelCandidate, folder: Path, config_dir: Path | None, workers: int, full: pd.DataFrame
) -> tuple[Interval, Interval, Interval] | None:
    """Train the chosen candidate on half of the devices of each fold, and compare."""
    if plan.unit != "device":
        return None
    devices = len(set(full["device"]))
    count = (devices - -(-devices // plan.folds)) // 2
    if count < 2:
        return None
    train_all(units_of(plan, chosen, folder / "half", config_dir, count), workers)
    standings = {
        s.name: s for s in choose({HALF: deployed(folder / "half" / chosen.name, plan.folds), "all": full}).standings
    }
    half, whole = standings[HALF], standings["all"]
    gain = half.behind.times(-1) if half.behind.value else whole.behind
    return half.macro_f1, whole.macro_f1, Interval(gain.value, min(gain.low, gain.high), max(gain.low, gain.high))


def train_final(
    plan: SearchPlan, chosen: ModelCandidate, runs: Path, folder: Path, config_dir: Path | None = None
) -> SavedRun:
    """Train a candidate on all of train and validation, and judge it on test.

    Args:
        runs: folder of its runs of the folds.
        folder: the run directory.
    """
    overrides = [*plan.overrides, f"threads={plan.threads}"]
    overrides += epochs_overrides([SavedRun(runs / f"fold{k}") for k in range(plan.folds)])
    split = plan.split(None, runs)
    cfg = config_of(chosen, overrides, split, config_dir)
    console().print(f"training {chosen.name} on all of train and validation")
    return trained(cfg, folder, [*chosen.overrides, *overrides, *split])
