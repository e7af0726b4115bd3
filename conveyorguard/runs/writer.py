"""The run directory as a training writes it, and what follows from its predictions."""

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

from conveyorguard.config.saved import derived_keys
from conveyorguard.data.ranges import training_ranges
from conveyorguard.data.schema import Schema
from conveyorguard.data.store import FORMAT
from conveyorguard.data.windows import Windows
from conveyorguard.runs.derive import data_facts, derive
from conveyorguard.runs.provenance import (
    code_hash,
    config_hash,
    git_state,
    package_versions,
    peak_memory_mib,
    processor,
)
from conveyorguard.system.files import read_json, write_json, write_parquet, write_text


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
        train = data.store.rows_of(data.split.sessions["train"])
        write_json(self.folder / "ranges.json", training_ranges(data.store, train))
        counts = {part: int((data.frame["part"] == part).sum()) for part in data.split.sessions}
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
