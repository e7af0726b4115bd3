"""Splitting sessions into train, validation and test; a run saves its split with a hash."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from conveyorguard.data.schema import Schema
from conveyorguard.errors import ConfigError

PARTS = ("train", "val", "test")
SEED_STUDY_SESSIONS = 341
ARCHIVE = r"[TV]S_(oht|agv)_"  # names of the sessions of AI Hub and of the simulator


@dataclass(frozen=True)
class Split:
    """Session names by part, the settings that gave them, and a note for the user."""

    settings: dict[str, Any]
    sessions: dict[str, list[str]]
    note: str = ""

    @property
    def hash(self) -> str:
        """Return a digest of the parts: equal for equal parts, whatever the settings."""
        return hashlib.sha256(json.dumps(self.sessions, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return settings, hash, note and sessions, as `split.json` holds them."""
        return {"settings": self.settings, "hash": self.hash, "note": self.note, "sessions": self.sessions}

    def part_of(self, sessions: pd.Series) -> np.ndarray:
        """Return "train", "val" or "test" for each session name, NaN for a session that was left out."""
        where = {name: part for part, names in self.sessions.items() for name in names}
        return sessions.map(where).to_numpy()


def make_split(windows: pd.DataFrame, schema: Schema, settings: dict[str, Any]) -> Split:
    """Split the sessions of the windows.

    Args:
        windows: from `make_windows`.
        settings: name (session, device, kfold); seed; n_folds and fold for kfold; train_devices, the number of train
            devices to keep, without a change of validation and test.

    Raises:
        ConfigError: the split is unknown or impossible for these sessions, or leaves a part empty.
    """
    makers = {"session": _by_session, "device": _by_device, "kfold": _by_fold}
    if settings["name"] not in makers:
        raise ConfigError(f"split={settings['name']}: no such split. Choose one of {', '.join(makers)}.")
    parts = makers[settings["name"]](windows, schema, settings)
    if settings.get("train_devices") is not None:
        parts[0] = _some_devices(windows, parts[0], settings)
    sessions = {part: sorted(set(windows["session"].to_numpy()[mask])) for part, mask in zip(PARTS, parts, strict=True)}
    empty = [part for part, names in sessions.items() if not names]
    if empty:
        total = windows["session"].nunique()
        raise ConfigError(
            f"split={settings['name']} leaves no session for {', '.join(empty)} ({total} sessions in all); "
            "use more sessions or another split"
        )
    owners = [name for names in sessions.values() for name in names]
    if len(owners) != len(set(owners)):
        raise AssertionError("a session is in two parts of the split")
    note = ""
    count = windows["session"].nunique()
    archives = windows["session"].str.match(ARCHIVE).all()  # other data have no seed study
    if settings["name"] == "session" and archives and count != SEED_STUDY_SESSIONS:
        note = f"{count} labelled sessions, not {SEED_STUDY_SESSIONS}: the seed study's method, but not its split"
    return Split(dict(settings), sessions, note)


def _by_session(windows: pd.DataFrame, schema: Schema, settings: dict[str, Any]) -> list[np.ndarray]:
    """Hold out 30 % of the sessions, half of these for test; the method of the seed study."""
    groups = windows["session"].to_numpy()
    if len(set(groups)) < 4:
        raise ConfigError(f"split=session needs 4 sessions or more, there are {len(set(groups))}. Record more.")
    index = np.arange(len(groups))
    seed = settings["seed"]
    train, rest = next(GroupShuffleSplit(1, test_size=0.3, random_state=seed).split(index, groups=groups))
    halves = GroupShuffleSplit(1, test_size=0.5, random_state=seed).split(rest, groups=groups[rest])
    val, test = next(halves)
    return [np.isin(index, part) for part in (train, rest[val], rest[test])]


def _by_device(windows: pd.DataFrame, schema: Schema, settings: dict[str, Any]) -> list[np.ndarray]:
    """Validate and test on the devices that `device_split` of the schema names; train on the others."""
    if not schema.device_split:
        raise ConfigError(
            "split=device: data.schema.device_split is empty. Set it to {val: [devices], test: [devices]}, or use "
            "split=kfold."
        )
    val, test = (windows["device"].isin(schema.device_split.get(part, [])).to_numpy() for part in ("val", "test"))
    return [~val & ~test, val, test]


def _by_fold(windows: pd.DataFrame, schema: Schema, settings: dict[str, Any]) -> list[np.ndarray]:
    """Test on one fold of devices and validate on the next; devices are dealt to folds in turn, kind by kind."""
    folds, fold = settings["n_folds"], settings["fold"]
    devices = windows.groupby("device")["kind"].first()
    if not (3 <= folds <= len(devices) and 0 <= fold < folds):
        raise ConfigError(
            f"split=kfold: split.n_folds={folds} must be 3..{len(devices)} (the number of devices) and "
            f"split.fold={fold} one of 0..n_folds-1"
        )
    rng = np.random.default_rng(settings["seed"])
    fold_of: dict[str, int] = {}
    for kind in sorted(devices.unique()):
        for device in rng.permutation(sorted(devices.index[devices == kind])):
            fold_of[device] = len(fold_of) % folds
    folds_of_rows = windows["device"].map(fold_of).to_numpy()
    val, test = folds_of_rows == (fold + 1) % folds, folds_of_rows == fold
    return [~val & ~test, val, test]


def _some_devices(windows: pd.DataFrame, train: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """Keep the train windows of `train_devices` devices, taken from the kinds in turn; fewer are a subset of more."""
    count, devices = settings["train_devices"], windows[train].groupby("device")["kind"].first()
    if not (isinstance(count, int) and 1 <= count <= len(devices)):
        raise ConfigError(
            f"split.train_devices={count}: must be a whole number from 1 to {len(devices)}, the number of train devices"
        )
    rng = np.random.default_rng(settings["seed"])
    queues = [list(rng.permutation(sorted(devices.index[devices == kind]))) for kind in sorted(devices.unique())]
    order = [device for turn in itertools.zip_longest(*queues) for device in turn if device is not None]
    return train & windows["device"].isin(order[:count]).to_numpy()
