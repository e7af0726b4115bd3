"""Write a run directory: config, provenance, and what follows from the predictions."""

from __future__ import annotations

import platform
import shlex
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from conveyorguard.config.records import SavedConfig, problem
from conveyorguard.config.saved import alarm_settings, derived_keys
from conveyorguard.data.ranges import training_ranges
from conveyorguard.data.schema import Schema
from conveyorguard.data.session_digests import session_digests
from conveyorguard.data.store import FORMAT
from conveyorguard.data.windows import Windows, WindowSettings
from conveyorguard.runs.derive import data_facts, derive
from conveyorguard.runs.provenance import (
    code_hash,
    config_hash,
    git_state,
    package_versions,
    peak_memory_mib,
    processor,
)
from conveyorguard.runs.shapes import (
    Alarms,
    Begun,
    Calibration,
    Provenance,
    Ranges,
    SavedMemory,
    SavedMetrics,
    SavedSplit,
    unwritable,
    write_record,
)
from conveyorguard.runs.tables import predictions_problem
from conveyorguard.system.files import read_json, write_parquet, write_text
from conveyorguard.system.interruption import Interrupted


class Run:
    """A run directory being written, as a context manager.

    `provenance.json` is there from the start, with the status "running"; it becomes "complete", "interrupted" or
    "failed: ..." at the end.

    Args:
        cfg: the composed config; it is saved resolved.
        folder: the run directory, created if it is not there.
        overrides: of the config, for the command in the provenance.
    """

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
        saved.ckpt_path = None  # a checkpoint that was resumed is provenance: training this config again starts anew
        path = self.folder / "config.yaml"
        if (message := problem(OmegaConf.to_container(saved), SavedConfig)[0]) is not None:
            raise unwritable(path, message)
        title = f"# model={saved.model.name} modality={saved.modality} film={str(saved.film).lower()}\n"
        write_text(path, title + OmegaConf.to_yaml(saved))
        self.provenance["config"] = config_hash(saved)
        self.provenance["derived"] = derived_keys(self.cfg)
        if self.cfg.ckpt_path and (self.folder / "provenance.json").exists():  # resumed: keep what it began with
            begun = read_json(self.folder / "provenance.json")
            self.provenance |= {key: begun.get(key, {}) for key in ("choices", "derived")}
            self.provenance["resumed_from"] = Path(self.cfg.ckpt_path).name
        self._write_provenance()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            status = "complete"
        else:
            status = "interrupted" if issubclass(kind, Interrupted | KeyboardInterrupt) else f"failed: {kind.__name__}"
        self.provenance["status"] = status
        self.provenance["seconds"] = round(time.perf_counter() - self.began, 1)
        self.provenance["peak_memory_mib"] = peak_memory_mib()
        self._write_provenance()

    def note(self, **facts: Any) -> None:
        """Add fields of `Provenance` to provenance.json.

        Raises:
            RunError: a value is one that `Provenance` refuses.
        """
        self.provenance.update(facts)
        self._write_provenance()

    def _write_provenance(self) -> None:
        kind = Provenance if self.provenance["status"] == "complete" else Begun
        write_record(self.folder / "provenance.json", kind, self.provenance)

    def describe(self, data: Windows, unused: list[str], threads: int, device: str) -> None:
        """Record the data: write split.json and ranges.json, and note store, sizes and device in the provenance.

        Args:
            data: windows and split.
            unused: settings of the config that this run does not use.
            threads: number that torch uses.
            device: name of the processor that trains, as `cpu`.
        """
        learnt = {name for part in ("train", "val") for name in data.split.sessions[part]}
        content = {name: digest for name, digest in session_digests(data.store).items() if name in learnt}
        write_record(self.folder / "split.json", SavedSplit, {**data.split.to_dict(), "content": content})
        train = data.store.rows_of(data.split.sessions["train"])
        write_record(self.folder / "ranges.json", Ranges, training_ranges(data.store, train))
        counts = {part: len(data.part(part) if part == "train" else data.judged(part)) for part in data.split.sessions}
        self.note(
            store={
                "name": data.store.path.name if data.store.path else "",
                "fingerprint": data.store.fingerprint,
                "format": FORMAT,
            },
            split=data.split.hash,
            sessions={part: len(names) for part, names in data.split.sessions.items()},
            windows=counts,
            unused=unused,
            threads=threads,
            device=device,
            data=data_facts(data.store, data.split.sessions),
        )

    def write_predictions(self, tables: list[pd.DataFrame], schema: Schema, window: WindowSettings) -> dict[str, Any]:
        """Write the predictions and all that follows from them alone; return the content of `metrics.json`.

        That is `predictions.parquet` with the deployed probabilities c0, c1, ... beside p0, p1, ...; `metrics.json`;
        `calibration.json`; `memory.json`; `alarms.json`, the operating point chosen on validation and what it means
        on each part.

        Args:
            tables: one per part of the split, see `prediction_table`.
            schema: of the data.
            window: settings of the windows.

        Raises:
            RunError: a value is one that reading would refuse, as a probability that is NaN.
        """
        path = self.folder / "predictions.parquet"
        for table in tables:
            if (message := predictions_problem(table, len(schema.states))) is not None:
                raise unwritable(path, message)
        derived = derive(tables, schema, window, alarm_settings(self.cfg))
        write_parquet(path, derived.predictions)
        if derived.memory:
            write_record(self.folder / "memory.json", SavedMemory, derived.memory)
        write_record(self.folder / "calibration.json", Calibration, derived.calibration)
        write_record(self.folder / "alarms.json", Alarms, derived.alarms)
        write_record(self.folder / "metrics.json", SavedMetrics, derived.metrics)
        return derived.metrics
