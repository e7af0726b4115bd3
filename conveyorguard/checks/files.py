"""Checks of a run directory that need nothing but its files: split, predictions, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from conveyorguard.config.saved import merge_saved
from conveyorguard.data.splits import Split
from conveyorguard.data.windows import Windows
from conveyorguard.inference.loaded_run import LoadedRun
from conveyorguard.runs.data import load_windows
from conveyorguard.runs.derive import Derived, derive
from conveyorguard.runs.provenance import config_hash
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import read_json

SAME = 1e-6  # relative, of figures computed again from the same numbers
SAME_MODEL = 1e-4  # of probabilities of the same model on another machine


class Failed(Exception):
    """A check did not hold."""

    def __init__(self, expected: str, found: str):
        super().__init__(f"expected {expected}, found {found}")


class NotChecked(Exception):
    """A check has nothing to look at, for a reason."""


class Subject:
    """A run directory with what its checks need, each read when it is first asked for."""

    def __init__(self, folder: str | Path, overrides: list[str] | None = None):
        self.run = SavedRun(folder, lazily=True)  # a file that is not what it should be fails the checks that need it
        self.overrides = overrides or []

    @cached_property
    def config(self) -> DictConfig:
        return merge_saved(self.run.config, self.overrides, self.run.provenance)

    @property
    def saved_split(self) -> dict[str, Any]:
        return self.run.saved_split

    @cached_property
    def made(self) -> Windows:
        """The windows and the split as the run's config makes them today."""
        return load_windows(self.config)

    @cached_property
    def data(self) -> Windows:
        """The windows as the run's config makes them today, with the parts of the split as saved."""
        data = self.made
        split = Split(data.split.settings, self.saved_split["sessions"], data.split.note)
        return replace(data, split=split, frame=data.frame.assign(part=split.part_of(data.frame["session"])))

    @property
    def is_ensemble(self) -> bool:
        """Whether the run combines others, and has neither a model nor a training of its own."""
        return "_target_" not in self.run.config.model

    @cached_property
    def loaded(self) -> LoadedRun:
        if self.is_ensemble:
            raise NotChecked("there is no model in the run directory, as in that of an ensemble")
        return LoadedRun(self.run)

    @property
    def evaluated(self) -> list[str]:
        """The parts of the split that the run was to be evaluated on."""
        return ["val", "test"] if self.run.config.get("test", True) else ["val"]

    @property
    def parts(self) -> dict[str, pd.DataFrame]:
        """The saved predictions of each part."""
        table = self.run.predictions
        return {str(part): table[table["split"] == part].reset_index(drop=True) for part in table["split"].unique()}


def config_is_the_runs(subject: Subject) -> str:
    written, now = subject.run.provenance.get("config"), config_hash(subject.run.config)
    if written is None:
        raise NotChecked("provenance.json holds no digest of the config: the run is of an older version")
    if written != now:
        raise Failed(f"a config.yaml of digest {written}", f"{now}: it was edited after the run")
    told = subject.run.provenance
    store = str(told["store"].get("name")).rpartition("-")[0]  # a store is called as its data set and by a digest
    must_equal(
        "provenance.json",
        {"seed": subject.run.config.seed, "data set of the store": subject.run.config.data.name},
        {"seed": told.get("seed"), "data set of the store": store},
    )
    return f"digest {now}"


def sessions_are_apart(subject: Subject) -> str:
    sessions = subject.saved_split["sessions"]
    owners: dict[str, list[str]] = {}
    for part, names in sessions.items():
        for name in names:
            owners.setdefault(name, []).append(part)
    twice = {name: parts for name, parts in owners.items() if len(parts) > 1}
    if twice:
        raise Failed(
            "each session in one part of the split", some(f"{n} in {' and '.join(p)}" for n, p in twice.items())
        )
    return ", ".join(f"{part} {len(names)}" for part, names in sessions.items()) + " sessions, none in two parts"


def split_is_the_recorded_one(subject: Subject) -> str:
    saved = subject.saved_split
    must_equal(
        "split.json", {"settings": OmegaConf.to_container(subject.run.config.split)}, {"settings": saved["settings"]}
    )
    digest = Split(saved["settings"], saved["sessions"], saved["note"]).hash
    told = {"split.json": saved.get("hash"), "provenance.json": subject.run.provenance.get("split")}
    for name, written in told.items():
        if written != digest:
            raise Failed(f"the digest of the sessions in split.json, {digest}, in {name}", str(written))
    return f"digest {digest}"


def devices_are_apart(subject: Subject) -> str:
    devices = subject.run.predictions[["split", "session", "device"]].drop_duplicates()
    return devices_apart(subject, {str(part): set(rows["device"]) for part, rows in devices.groupby("split")})


def devices_apart(subject: Subject, devices: dict[str, set[str]]) -> str:
    shared = {device for a in devices for b in devices if a < b for device in devices[a] & devices[b]}
    name = subject.saved_split["settings"]["name"]
    told = f"{', '.join(f'{part} {len(own)}' for part, own in devices.items())} devices, {len(shared)} in several parts"
    if name == "session":
        return f"{told}: split=session holds out sessions, not devices"
    if shared:
        raise Failed(f"each device in one part, as split={name} means it", f"{some(sorted(shared))} in several parts")
    return told


def predictions_are_of_the_split(subject: Subject) -> str:
    table = subject.run.predictions
    if set(subject.parts) != set(subject.evaluated):
        raise Failed(
            f"windows of {' and '.join(subject.evaluated)}, which the run was to be evaluated on",
            f"those of {' and '.join(subject.parts)}",
        )
    twice = table[table.duplicated(["session", "start"])]
    if len(twice):
        raise Failed(
            "a row a window",
            f"{len(twice)} windows twice, first {twice['session'].iloc[0]} at {twice['start'].iloc[0]} s",
        )
    for part, rows in subject.parts.items():
        wanted, found = set(subject.saved_split["sessions"].get(part, [])), set(rows["session"])
        if wanted != found:
            raise Failed(
                f"the {len(wanted)} sessions of {part} in predictions.parquet",
                f"{len(found)}; {difference_of(wanted, found, 'in the split')}",
            )
    return ", ".join(f"{part} {len(rows):,}" for part, rows in subject.parts.items()) + " windows"


def counts_are_of_the_split(subject: Subject) -> str:
    """What card and page say of the sizes of the parts."""
    told = subject.run.provenance
    sessions = {part: len(names) for part, names in subject.saved_split["sessions"].items()}
    must_equal("provenance.json", {"sessions": sessions}, {"sessions": told.get("sessions")})
    windows = {part: len(rows) for part, rows in subject.parts.items()}
    known = told.get("windows", {})
    must_equal("provenance.json", {"windows": windows}, {"windows": {part: known.get(part) for part in windows}})
    return ", ".join(f"{part} {count} sessions" for part, count in sessions.items())


def probabilities_are_probabilities(subject: Subject) -> str:
    table = subject.run.predictions
    for prefix in ("p", "c"):
        columns = [f"{prefix}{k}" for k in range(len(subject.run.schema.states))]
        if missing := [name for name in columns if name not in table]:
            raise Failed(f"columns {', '.join(columns)}", f"no {', '.join(missing)}")
        p = table[columns].to_numpy(np.float64)
        odd = np.flatnonzero(~((p >= 0) & (p <= 1)).all(axis=1) | (np.abs(p.sum(axis=1) - 1) > 1e-4))
        if len(odd):
            raise Failed(
                f"{prefix}0.. between 0 and 1 with sum 1",
                f"{len(odd)} rows that are not, first row {odd[0]}: {p[odd[0]]}",
            )
        if prefix == "p":
            rows, guess = np.arange(len(p)), table["y_pred"].to_numpy()
            wrong = np.flatnonzero(p[rows, guess] < p.max(axis=1))
            if len(wrong):
                raise Failed(
                    "y_pred the state of the largest probability", f"another in {len(wrong)} rows, first row {wrong[0]}"
                )
    return f"{len(table):,} rows"


def metrics_follow(subject: Subject) -> str:
    must_equal("metrics.json", _derived(subject).metrics, subject.run.metrics)
    return f"{len(subject.run.metrics)} parts, all figures computed again from predictions.parquet"


def calibration_and_alarms_follow(subject: Subject) -> str:
    derived = _derived(subject)
    for name, expected in (("calibration", derived.calibration), ("alarms", derived.alarms)):
        must_equal(f"{name}.json", expected, read_json(subject.run.folder / f"{name}.json"))
    columns = [f"c{k}" for k in range(len(subject.run.schema.states))]
    apart = np.abs(derived.predictions[columns].to_numpy() - subject.run.predictions[columns].to_numpy()).max()
    if apart > SAME_MODEL:
        raise Failed("calibrated probabilities that follow from p0..", f"c0.. that differ by up to {apart:.2g}")
    return f"temperature {derived.calibration['temperature']:.3f}, operating point {derived.alarms['operating_point']}"


def _derived(subject: Subject) -> Derived:
    calibrated = {f"c{k}" for k in range(len(subject.run.schema.states))}
    tables = [rows.drop(columns=list(calibrated & set(rows))) for rows in subject.parts.values()]
    if "val" not in subject.parts:
        raise Failed("validation windows in predictions.parquet", f"parts {', '.join(subject.parts)}")
    return derive(tables, subject.run.schema, subject.run.config.window.stride)


def must_equal(file: str, expected: Any, found: Any) -> None:
    apart = list(_differences(expected, found, ""))
    if apart:
        place, want, have = apart[0]
        more = f" (and {len(apart) - 1} more)" if len(apart) > 1 else ""
        raise Failed(f"{place or 'content'} = {want} in {file}", f"{have}{more}")


def _differences(expected: Any, found: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two trees of plain values differ by more than rounding: (place, expected, found)."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in [*expected, *(key for key in found if key not in expected)]:
            yield from _differences(expected.get(key), found.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for i, pair in enumerate(zip(expected, found, strict=True)):
            yield from _differences(*pair, f"{place}[{i}]")
    elif isinstance(expected, float) and isinstance(found, int | float):
        if not np.isclose(expected, found, rtol=SAME, atol=1e-9):
            yield place, expected, found
    elif expected != found:
        yield place, expected, found


def difference_of(wanted: set, found: set, where: str) -> str:
    missing, more = sorted(map(str, wanted - found)), sorted(map(str, found - wanted))
    told = [f"missing {some(missing)}"] if missing else []
    return "; ".join([*told, *([f"not {where}: {some(more)}"] if more else [])])


def some(names: Iterable[Any]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
