"""The run directory: what a training writes, and reading it back.

Everything after training (reports, comparison, ensembles) reads these files and never a model.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import platform
import re
import resource
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pyarrow.lib import ArrowException

from conveyorguard import run_shapes
from conveyorguard.config import derived_keys, load_saved
from conveyorguard.data.schema import Schema
from conveyorguard.data.splits import Split
from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.evaluation.alarms import choose_operating_point, summarise, with_scores
from conveyorguard.evaluation.calibration import calibrate
from conveyorguard.evaluation.metrics import Predictions, evaluate
from conveyorguard.evaluation.ranges import training_ranges
from conveyorguard.files import replacing

PACKAGES = ("conveyorguard", "torch", "pytorch-lightning", "hydra-core", "omegaconf", "numpy", "scipy", "pandas", "scikit-learn",
            "torchmetrics", "lightgbm", "xgboost-cpu", "xgboost", "catboost", "skops", "optuna", "wandb")  # fmt: skip


@contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Work on a directory, made if it is not there, as the only process.

    Raises:
        RunError: another process works on it.
    """
    path = folder / ".lock"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it ends with the process, however that ends
            mine = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except OSError:
            mine = False
        if not mine:
            raise RunError(f"{folder}: another process works on it; wait for it, or give another directory")
        try:
            yield folder
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def own_directory(folder: Path) -> Iterator[Path]:
    """A directory for a new run: `folder`, or one named after it where another run of the same second has that one."""
    for number in itertools.count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(place))
            except RunError:
                continue
            if not (place / "provenance.json").exists():
                yield place
                return


def peak_memory_mib() -> int:
    """The most memory this process has held, in MiB. Not getrusage's on Linux: that begins with what the parent held."""
    status = Path("/proc/self/status")
    if own := re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else ""):
        return int(own[1]) // 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024))


class Run:
    """A run directory being written, as a context: provenance is there from the start and complete at the end."""

    def __init__(self, cfg: DictConfig, folder: Path, overrides: list[str]):
        self.cfg, self.folder = cfg, folder
        self.provenance: dict[str, Any] = {
            "command": shlex.join(["python", "train.py", *overrides]),
            "choices": dict(HydraConfig.get().runtime.choices) if HydraConfig.initialized() else {},
            "argv": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "git": git_state(),
            "code": code_hash(),
            "versions": package_versions(),
            "python": platform.python_version(),
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "processor": processor(),
            "seed": cfg.seed,
            "start": datetime.now(UTC).isoformat(timespec="seconds"),
            "status": "running",
        }

    def __enter__(self) -> Run:
        self.began = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = OmegaConf.create(OmegaConf.to_container(self.cfg, resolve=True))
        assert isinstance(saved, DictConfig)
        saved.ckpt_path = None  # where this run came from is provenance; run anew, it starts anew
        title = f"# model={saved.model.name} modality={saved.modality} film={str(saved.film).lower()}\n"
        write_text(self.folder / "config.yaml", title + OmegaConf.to_yaml(saved))
        self.provenance["config"] = config_hash(saved)
        self.provenance["derived"] = derived_keys(self.cfg)
        if self.cfg.ckpt_path and (self.folder / "provenance.json").exists():  # these are what it began with
            begun = read_json(self.folder / "provenance.json")
            self.provenance |= {key: begun.get(key, {}) for key in ("choices", "derived")}
            self.provenance["resumed_from"] = Path(self.cfg.ckpt_path).name
        self._write_provenance()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.provenance["status"] = "complete" if kind is None else f"failed: {kind.__name__}"
        self.provenance["seconds"] = round(time.perf_counter() - self.began, 1)
        self.provenance["peak_memory_mib"] = peak_memory_mib()
        self._write_provenance()

    def note(self, **facts: Any) -> None:
        """Add facts to the provenance."""
        self.provenance.update(facts)
        self._write_provenance()

    def _write_provenance(self) -> None:
        write_json(self.folder / "provenance.json", self.provenance)

    def describe(self, data: Windows, unused: list[str], threads: int, device: str) -> None:
        """Record what the run works on, and keep its split."""
        write_json(self.folder / "split.json", data.split.to_dict())
        train = data.store.frames["session"].isin(data.split.sessions["train"]).to_numpy()
        write_json(self.folder / "ranges.json", training_ranges(data.store, train))
        counts = {part: int((data.frame["part"] == part).sum()) for part in data.split.sessions}
        self.note(store={"name": data.store.path.name, "fingerprint": data.store.fingerprint}, split=data.split.hash,
                  sessions={part: len(names) for part, names in data.split.sessions.items()}, windows=counts,
                  unused=unused, threads=threads, device=device,
                  data=data_facts(data.store.frames, data.split.sessions, data.store.schema.state_names))  # fmt: skip

    def write_predictions(self, tables: list[pd.DataFrame], schema: Schema) -> dict[str, Any]:
        """Predictions and all that follows from them alone.

        `predictions.parquet` with calibrated probabilities c0, c1, ... beside p0, p1, ...; `metrics.json`;
        `calibration.json`; `alarms.json`, the operating point chosen on validation and what it means on each part.
        """
        derived = derive(tables, schema, self.cfg.window.stride)
        write_parquet(self.folder / "predictions.parquet", derived.predictions)
        write_json(self.folder / "calibration.json", derived.calibration)
        write_json(self.folder / "alarms.json", derived.alarms)
        write_json(self.folder / "metrics.json", derived.metrics)
        return derived.metrics


@dataclass(frozen=True)
class Derived:
    """What follows from the probabilities of the windows alone: the table with c0, c1, ... and the content of three files."""

    predictions: pd.DataFrame
    metrics: dict[str, Any]
    calibration: dict[str, Any]
    alarms: dict[str, Any]


def derive(tables: list[pd.DataFrame], schema: Schema, stride: int) -> Derived:
    """Calibrate, choose the operating point, evaluate.

    Args:
        tables: one a part of the split, validation among them: the columns of `predictions.parquet` up to p0, p1, ...
    """
    parts = {str(table["split"].iloc[0]): table for table in tables}
    own = {part: as_predictions(rows) for part, rows in parts.items()}
    rest = {part: predictions for part, predictions in own.items() if part != "val"}
    calibrated, facts = calibrate(own["val"], parts["val"]["device"].to_numpy(), rest)
    scored = {part: with_scores(rows, calibrated[part], schema.alarm) for part, rows in parts.items()}
    columns = [f"c{k}" for k in range(len(schema.states))]
    whole = [
        rows.assign(**dict(zip(columns, calibrated[part].T.astype(np.float32), strict=True)))
        for part, rows in parts.items()
    ]
    point = choose_operating_point(scored["val"])
    alarms = {
        "state": schema.states[schema.alarm].name,
        "operating_point": point.to_dict() if point else None,
        "parts": {part: summarise(table, point, stride) for part, table in scored.items()} if point else {},
    }
    metrics = {part: evaluate(predictions, schema.state_names) for part, predictions in own.items()}
    return Derived(pd.concat(whole, ignore_index=True), metrics, facts, alarms)


def as_predictions(rows: pd.DataFrame, prefix: str = "p") -> Predictions:
    """Rows of `predictions.parquet` as arrays; probabilities in the order of the states. prefix: p, or c for calibrated."""
    columns = sorted((str(c) for c in rows if re.fullmatch(prefix + r"\d+", str(c))), key=lambda c: int(c[1:]))
    return Predictions(rows["y_true"].to_numpy(), rows[columns].to_numpy(np.float64), rows["session"].to_numpy())


def data_facts(frames: pd.DataFrame, sessions: dict[str, list[str]], states: list[str]) -> dict[str, Any]:
    """Devices, and hours of each state, by part: what the card tells of the data, kept in the provenance.

    Args:
        frames: of the store, a row a second.
        sessions: of each part, by name.
    """
    where = {name: part for part, names in sessions.items() for name in names}
    part = frames["session"].astype(str).map(where)
    hours, devices = {}, {}
    for name in sessions:
        own = frames[(part == name).to_numpy()]
        counts = np.bincount(own["state"][own["state"] >= 0], minlength=len(states))
        hours[name] = {state: round(float(count) / 3600, 4) for state, count in zip(states, counts, strict=True)}
        devices[name] = sorted(own["device"].astype(str).unique())
    return {"hours": hours, "devices": devices}


class SavedRun:
    """A run directory, read back. Every file is held against what it must hold (`run_shapes`) before it is used.

    Args:
        lazily: provenance, metrics and predictions are read when they are first asked for, as by who tells of each file
            by itself; else at once.

    Raises:
        RunError: it is not a run directory, or not a finished one, or a file of it is not what a run leaves.
    """

    def __init__(self, folder: str | Path, lazily: bool = False):
        self.folder = Path(folder)
        for name in ("config.yaml", "provenance.json", "metrics.json", "predictions.parquet"):
            if not (self.folder / name).is_file():
                raise RunError(
                    f"{self.folder}: no {name}; give the directory of a finished run (its last printed line)"
                )
        self.config = load_saved(self.folder / "config.yaml")
        facts = read_json(self.folder / "provenance.json")
        status = facts.get("status", "complete") if isinstance(facts, dict) else "complete"
        if status != "complete":
            raise RunError(
                f"{self.folder}: the run is not finished (status {status} in provenance.json); go on with "
                "ckpt_path=RUN/checkpoints/last.ckpt, or train it again"
            )
        if not lazily:
            _ = self.provenance
            wanted, found = list(self.metrics), list(self.predictions["split"].unique())
            if set(wanted) != set(found):
                refuse(
                    self.folder / "predictions.parquet",
                    f"expected windows of {' and '.join(wanted)}, as metrics.json has them, found those of {' and '.join(found)}",
                )

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return self._json("provenance", run_shapes.PROVENANCE)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return self._json("metrics", run_shapes.METRICS)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        path = self.folder / "predictions.parquet"
        table = read_parquet(path)
        refuse(path, run_shapes.predictions_problem(table, len(self.schema.states)))
        return table

    def _json(self, name: str, shape: Any) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        found = read_json(path)
        refuse(path, run_shapes.problem(found, shape))
        return found

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """What metrics.json says, computed anew from the predictions, by part; pages and comparisons show these figures."""
        parts = self.predictions.groupby("split", sort=False)
        return {str(part): evaluate(as_predictions(rows), self.schema.state_names) for part, rows in parts}

    @property
    def history(self) -> pd.DataFrame | None:
        """A row an epoch; None for a model that has no epochs."""
        path, objective = self.folder / "history.csv", self.config.objective
        if not path.exists():
            return None
        table = read_csv(path, {**run_shapes.HISTORY, objective: "number"})
        refuse(path, None if table[objective].notna().any() else f"expected numbers in column {objective}, found none")
        return table

    @property
    def importance(self) -> pd.DataFrame | None:
        """A row a feature, the most useful first; None for a model that is given no features."""
        path = self.folder / "importance.csv"
        return read_csv(path, run_shapes.IMPORTANCE) if path.exists() else None

    @property
    def shortcuts(self) -> pd.DataFrame | None:
        """Predictions of the shortcut baselines on the same windows."""
        path = self.folder / "shortcuts.parquet"
        if not path.exists():
            return None
        table = read_parquet(path)
        refuse(path, run_shapes.predictions_problem(table, len(self.schema.states), {"shortcut": "text"}))
        place = ["split", "session", "start"]
        own = self.predictions[place].sort_values(place, ignore_index=True)
        for name, rows in table.groupby("shortcut", sort=False):
            same = rows[place].sort_values(place, ignore_index=True).equals(own)
            refuse(path, None if same else f"expected the windows of predictions.parquet for '{name}', found others")
        return table

    @cached_property
    def saved_split(self) -> dict[str, Any]:
        """The content of split.json."""
        return self._json("split", run_shapes.SPLIT)

    @property
    def split(self) -> Split:
        return Split(*(self.saved_split[key] for key in ("settings", "sessions", "note")))

    @cached_property
    def schema(self) -> Schema:
        """Of the data the run was made on."""
        return Schema.from_config(OmegaConf.to_container(self.config.data.schema, resolve=True))  # type: ignore[arg-type]

    def facts(self, name: str) -> dict[str, Any]:
        """A json file of the directory (calibration, alarms, ranges); empty where the run has none."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return {}
        found = self._json(name, run_shapes.FACTS[name])
        if name == "calibration" or found.get("operating_point"):  # what it means on each part
            missing = [part for part in self.metrics if part not in found["parts"]]
            refuse(path, f"expected parts.{missing[0]}, found none" if missing else None)
        return found

    @property
    def examples(self) -> dict[str, np.ndarray]:
        path = self.folder / "examples.npz"
        if not path.exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = dict(arrays)
        except (
            OSError,
            ValueError,
            EOFError,
            BadZipFile,
        ) as error:  # ValueError: it holds objects, which nobody unpickles
            raise damaged(path, error) from error
        wanted = [*run_shapes.EXAMPLES, *(["thermal_seconds"] if "thermal" in found else [])]
        missing = [name for name in wanted if name not in found]
        refuse(path, f"expected arrays {', '.join(wanted)}, found no {', '.join(missing)}" if missing else None)
        known = all(np.isin(found[name], range(len(self.schema.states))).all() for name in ("y_true", "y_pred"))
        refuse(path, None if known else "expected states of the data in y_true and y_pred, found others")
        return found


def write_json(path: Path, value: Any) -> None:
    """Write and rename, so that a reader never sees half a file."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as aside:
        table.to_parquet(aside, index=False)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read json.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, ArrowException) as error:
        raise damaged(path, error) from error


def read_csv(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read a table of the given columns and their kinds (`run_shapes.KINDS`).

    Raises:
        RunError: the file is missing or damaged, or lacks rows or columns.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise damaged(path, error) from error
    refuse(path, run_shapes.table_problem(table, columns))
    return table


def refuse(path: Path, problem: str | None) -> None:
    """Raise a RunError if there is a problem with the content of a file of a run directory."""
    if problem:
        raise RunError(f"{path}: {problem}; the run is damaged or was edited, train it again")


def damaged(path: Path, error: BaseException) -> RunError:
    """What to tell of a file of a run directory that cannot be read."""
    return RunError(f"{path}: cannot be read ({error}); the run is damaged or unfinished, train it again")


def git_state() -> dict[str, Any]:
    """Commit of the code that runs, and whether it has uncommitted changes; nulls for an installed package."""
    here = Path(__file__).parent

    def ask(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    top = ask("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != here.parent.resolve():  # a virtual environment inside another project
        return {"commit": None, "dirty": None}
    return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}


def processor() -> str:
    """The model of the processor: its kind of vector instructions decides how sums are rounded."""
    path = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return named[1] if named else platform.processor()


def code_hash() -> str:
    """Digest of the package's source: it tells changes that no commit names."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def config_hash(config: DictConfig) -> str:
    """Digest of a resolved config's values."""
    text = json.dumps(OmegaConf.to_container(config, resolve=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def package_versions() -> dict[str, str]:
    """Versions of the packages that can change a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
