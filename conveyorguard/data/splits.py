"""Splitting sessions into train, validation and test; a run saves its split with a hash."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from conveyorguard.data.folds import beside, fold_of_sessions, unit_of_folds
from conveyorguard.data.schema import Schema
from conveyorguard.errors import ConfigError

PARTS = ("train", "val", "test")
SEED_STUDY_SESSIONS = 341
ARCHIVE = r"[TV]S_(oht|agv)_"  # names of the sessions of AI Hub and of the simulator
PART = r"#[0-9]+$"  # suffix of the parts into which data.reader.split_every cuts a recording
SHARES = (0.7, 0.85)  # shares of the windows at which train and validation end
FEWEST = 4  # recordings for a random split
DRAWS = 20  # attempts of each method to give every part every state


@dataclass(frozen=True)
class Split:
    """Which sessions train, validate and test.

    Attributes:
        settings: from which the split was computed.
        sessions: names by part.
        note: what a reader of the results should know about the split.
        purged: for sessions at the end of a part in time, the first second that is too near the next part.
    """

    settings: dict[str, Any]
    sessions: dict[str, list[str]]
    note: str = ""
    purged: dict[str, float] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Return a digest of the parts: equal for equal parts, whatever the settings."""
        return hashlib.sha256(json.dumps(self.sessions, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return settings, hash, note and sessions, and purged if there are any, as `split.json` holds them."""
        purged = {"purged": self.purged} if self.purged else {}
        return {"settings": self.settings, "hash": self.hash, "note": self.note, "sessions": self.sessions, **purged}

    def part_of(self, sessions: pd.Series) -> np.ndarray:
        """Return "train", "val" or "test" for each session name, NaN for a session that was left out."""
        where = {name: part for part, names in self.sessions.items() for name in names}
        return sessions.map(where).to_numpy()

    def keeps(self, windows: pd.DataFrame) -> np.ndarray:
        """Return (n,) False at the windows that are too near the next part in time."""
        limit = windows["session"].map(self.purged)
        return ~(windows["end"] >= limit).to_numpy()


def make_split(
    windows: pd.DataFrame,
    schema: Schema,
    settings: dict[str, Any],
    starts: pd.Series | None = None,
    period: float = 1.0,
) -> Split:
    """Split the sessions of the windows.

    Args:
        windows: from `make_windows`.
        settings: name (auto, session, device, kfold, out_of_fold); seed; n_folds and fold for kfold and out_of_fold;
            base for out_of_fold; train_devices, the number of train devices to keep, without a change of validation
            and test.
        starts: clock times at which sessions begin, by name; NaT where the files have none.
        period: of a row [s].

    Raises:
        ConfigError: the split is unknown or impossible for these sessions, leaves a part empty, or, with auto, a part
            without a state.
    """
    makers = {"auto": _by_recording, "session": _by_session, "device": _by_device, "kfold": _by_fold}
    if settings["name"] == "out_of_fold":
        return _out_of_fold(windows, schema, settings, starts, period)
    if settings["name"] not in makers:
        raise ConfigError(
            f"split={settings['name']}: no such split. Choose one of {', '.join([*makers, 'out_of_fold'])}."
        )
    if settings["name"] == "auto" and _is_one_history(windows):
        return _by_time(windows, schema, settings, starts, period)
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
    return Split(dict(settings), sessions, _note(windows["session"], settings["name"]))


def _note(sessions: pd.Series, name: str) -> str:
    """Say that other sessions than those of the seed study are split by its method; empty for other data."""
    count, archives = sessions.nunique(), sessions.str.match(ARCHIVE).all()
    if name == "session" and archives and count != SEED_STUDY_SESSIONS:
        return f"{count} labelled sessions, not {SEED_STUDY_SESSIONS}: the seed study's method, but not its split"
    return ""


def _out_of_fold(
    windows: pd.DataFrame, schema: Schema, settings: dict[str, Any], starts: pd.Series | None, period: float
) -> Split:
    """Hold out a fold of what another split trains and validates on; its test part stays.

    Without a fold, train and validation are all of these sessions: the predictions of validation are then those of the
    folds' runs.
    """
    base = make_split(windows, schema, dict(settings["base"]), starts, period)
    pool = windows[windows["session"].isin([*base.sessions["train"], *base.sessions["val"]])]
    recordings = recordings_of(pool)
    fold, unit = settings["fold"], unit_of_folds(pool, recordings)
    names = sorted(set(pool["session"]))
    if fold is None:
        parts, note = {"train": names, "val": names}, "validation is out of fold: each session by a model without it"
    else:
        fold_of = fold_of_sessions(pool, recordings, settings)
        if not 0 <= fold < settings["n_folds"]:
            raise ConfigError(f"split.fold={fold}: must be 0 to {settings['n_folds'] - 1}, or null")
        left_out = beside(fold_of, fold, unit)
        parts = {
            "train": [name for name in names if fold_of[name] != fold and name not in left_out],
            "val": [name for name in names if fold_of[name] == fold],
        }
        note = f"fold {fold + 1} of {settings['n_folds']}, by {unit}"
    if settings.get("train_devices") is not None:
        train = windows["session"].isin(parts["train"]).to_numpy()
        parts["train"] = sorted(set(windows["session"].to_numpy()[_some_devices(windows, train, settings)]))
    return Split(dict(settings), {**parts, "test": base.sessions["test"]}, note, base.purged)


def _by_session(windows: pd.DataFrame, schema: Schema, settings: dict[str, Any]) -> list[np.ndarray]:
    """Hold out 30 % of the sessions, half of these for test; the method of the seed study."""
    groups = windows["session"].to_numpy()
    if len(set(groups)) < FEWEST:
        raise ConfigError(f"split=session needs {FEWEST} sessions or more, there are {len(set(groups))}. Record more.")
    index = np.arange(len(groups))
    seed = settings["seed"]
    train, rest = next(GroupShuffleSplit(1, test_size=0.3, random_state=seed).split(index, groups=groups))
    halves = GroupShuffleSplit(1, test_size=0.5, random_state=seed).split(rest, groups=groups[rest])
    val, test = next(halves)
    return [np.isin(index, part) for part in (train, rest[val], rest[test])]


def recordings_of(windows: pd.DataFrame) -> pd.Series:
    """Return the recording of each window (n,), without the part's number: its parts resemble each other."""
    return windows["session"].astype(str).str.replace(PART, "", regex=True)


def _is_one_history(windows: pd.DataFrame) -> bool:
    """Return whether the data are parts of fewer than `FEWEST` recordings of a single device."""
    recordings = recordings_of(windows)
    cut = windows["session"].nunique() > recordings.nunique()
    return windows["device"].nunique() == 1 and recordings.nunique() < FEWEST and bool(cut)


def _by_recording(windows: pd.DataFrame, schema: Schema, settings: dict[str, Any]) -> list[np.ndarray]:
    """Split recordings as `split=session` does, trying further seeds until every part has every state.

    If none of them does, the recordings are drawn state by state.

    Raises:
        ConfigError: there are too few recordings, or a part still lacks a state.
    """
    recordings = recordings_of(windows)
    count = recordings.nunique()
    if count < FEWEST:
        raise ConfigError(
            f"split=auto needs {FEWEST} labelled recordings or more, there are {count}. Record more, or cut a long "
            "recording with dates into parts that are split by time (data.reader.split_every, e.g. 1h, or stops)"
        )
    by_recording = windows.assign(session=recordings)
    lacking: list[str] = []
    for draw in range(2 * DRAWS):
        seed = settings["seed"] + draw
        if draw < DRAWS:
            parts = _by_session(by_recording, schema, {**settings, "seed": seed})
        else:  # with few recordings of one state each, shares of 15 % cannot hold them all
            parts = _state_by_state(recordings, windows["label"].to_numpy(), seed)
        missing = _missing_states(windows, schema, parts)
        if not missing:
            return parts
        lacking = lacking or missing
    having = {k: recordings[windows["label"] == k].nunique() for k in range(len(schema.states))}
    rare = [f"{schema.state_names[k]} is in {n} of {count} recordings" for k, n in having.items() if 0 < n < len(PARTS)]
    raise ConfigError(
        f"split=auto: {'; '.join([*lacking, *rare])}. Every state must be in {len(PARTS)} recordings or more, one "
        "for each part. Add recordings that have it, join it with its neighbour in data.schema.states, or set "
        "split=session, which accepts parts without it"
    )


def _state_by_state(recordings: pd.Series, label: np.ndarray, seed: int) -> list[np.ndarray]:
    """Give each part a recording of each state, rarest state first, and split the other recordings by `SHARES`."""
    names = np.random.default_rng(seed).permutation(sorted(set(recordings)))
    states = {name: set(labels) for name, labels in pd.Series(label).groupby(recordings.to_numpy()).unique().items()}
    having = {k: [name for name in names if k in states[name]] for k in np.unique(label[label >= 0])}
    parts: list[list[str]] = [[], [], []]
    free = list(names)
    for k in sorted(having, key=lambda k: len(having[k])):
        for part in parts:
            candidates = [name for name in having[k] if name in free]
            if candidates and not any(k in states[name] for name in part):
                part.append(candidates[0])
                free.remove(candidates[0])
    targets = np.diff([0, *SHARES, 1]) * len(names)
    for name in free:
        parts[int(np.argmax(targets - [len(part) for part in parts]))].append(name)
    return [recordings.isin(part).to_numpy() for part in parts]


def _missing_states(windows: pd.DataFrame, schema: Schema, parts: list[np.ndarray]) -> list[str]:
    """Return a sentence for each part that lacks a state which occurs in the data."""
    label = windows["label"].to_numpy()
    present = np.unique(label[label >= 0])
    missing = []
    for part, mask in zip(PARTS, parts, strict=True):
        lacks = [schema.state_names[k] for k in present if not (label[mask] == k).any()]
        if lacks:
            missing.append(f"{part} has no window of {', '.join(lacks)}")
    return missing


def _by_time(
    windows: pd.DataFrame, schema: Schema, settings: dict[str, Any], starts: pd.Series | None, period: float
) -> Split:
    """Train on the earliest sessions, validate and test on later ones, and purge windows near the borders.

    Of the borders at which every part has every state, those nearest to 70 and 85 % of the windows are taken.
    """
    names = windows["session"].drop_duplicates()
    began = pd.to_datetime(names.map(starts) if starts is not None else pd.Series(pd.NaT, names.index), utc=True)
    if began.isna().any():
        raise ConfigError(
            f"split=auto: {names.iloc[0]} and the others are parts of fewer than {FEWEST} recordings of a device and "
            "have no dates to split them by time. They are not split at random, because neighbouring parts resemble "
            f"each other. Add recordings, {FEWEST} or more, or a column of dates (data.schema.columns.time)"
        )
    clock = (began - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy()
    order, start = names.to_numpy()[np.argsort(clock, kind="stable")], np.sort(clock)
    place = windows["session"].map({name: i for i, name in enumerate(order)}).to_numpy()
    share = np.cumsum(np.bincount(place, minlength=len(order))) / len(windows)
    borders = sorted(
        itertools.combinations(range(1, len(order)), 2),
        key=lambda ends: abs(share[ends[0] - 1] - SHARES[0]) + abs(share[ends[1] - 1] - SHARES[1]),
    )
    lacking: list[str] = [] if borders else [f"only {len(order)} sessions have windows, 3 or more are needed"]
    for ends in borders:
        masks = [place < ends[0], (place >= ends[0]) & (place < ends[1]), place >= ends[1]]
        missing = _missing_states(windows, schema, masks)
        if not missing:
            purged = _too_near(windows, order, start, place, ends, period)
            kept = Split({}, {}, purged=purged).keeps(windows)
            missing = _missing_states(windows, schema, [mask & kept for mask in masks])
        if missing:
            lacking = lacking or missing
            continue
        owners = windows["session"].to_numpy()
        sessions = {p: sorted(set(owners[m & kept])) for p, m in zip(PARTS, masks, strict=True)}
        dates = [f"{pd.Timestamp(start[i], unit='s'):%Y-%m-%d %H:%M}" for i in ends]
        note = f"by time: train before {dates[0]}, validation before {dates[1]}, test from there on"
        return Split(dict(settings), sessions, note, purged)
    raise ConfigError(
        f"split=auto, by time: {'; '.join(lacking)}, wherever the borders are. Add recordings that have the state, set "
        "a shorter data.reader.split_every, or join the state with its neighbour in data.schema.states. split=session "
        "would split the parts at random, but its results are too good, because neighbouring parts resemble each other"
    )


def _too_near(
    windows: pd.DataFrame,
    order: np.ndarray,
    start: np.ndarray,
    place: np.ndarray,
    borders: tuple[int, int],
    period: float,
) -> dict[str, float]:
    """Return, by session, the first second that is less than a window before the next part.

    Args:
        order, start: names of the sessions in time order, and when they begin [s].
        place: (n,) index of each window's session in that order.
        borders: indices of the first sessions of validation and test.
        period: of a row [s].
    """
    end = windows["end"].to_numpy()
    length = (end - windows["start"].to_numpy()).max() + period
    following = start[np.where(place < borders[0], borders[0], borders[1])]
    first = np.round(np.ceil((following - start[place]) / period) * period - length, 9)
    near = (place < borders[1]) & (end >= first)
    return {str(order[place[i]]): float(first[i]) for i in np.flatnonzero(near)}


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
