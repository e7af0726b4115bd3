"""Windows: runs of consecutive seconds of one session, as indices into the frame store."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.schema import UNLABELLED
from conveyorguard.data.splits import Split, make_split
from conveyorguard.data.store import Store
from conveyorguard.errors import ConfigError

NAMES = {"session": "name", "device": "device", "kind": "kind"}  # columns of the windows, and of the sessions


@dataclass(frozen=True)
class WindowSettings:
    """Length and step in seconds, how a window gets its label, and how many of its thermal frames are used."""

    size: int = 30
    stride: int = 10
    label: str = "majority"
    thermal_frames: int | str = 10

    def problems(self) -> list[str]:
        """What is wrong with the settings, as sentences."""
        found = []
        if self.size < 1 or self.stride < 1:
            found.append(f"window.size={self.size} and window.stride={self.stride} must be 1 or more")
        if self.label not in ("majority", "last"):
            found.append(f"window.label={self.label}: majority (the commonest state) or last (that of the last second)")
        frames = self.thermal_frames
        if frames != "all" and not (isinstance(frames, int) and 1 <= frames <= self.size):
            found.append(f"window.thermal_frames={frames}: 1..{self.size} (window.size), or all")
        return found

    @property
    def thermal_seconds(self) -> np.ndarray:
        """Which seconds of a window have their thermal frame used, evenly spaced."""
        count = self.size if self.thermal_frames == "all" else int(self.thermal_frames)
        return np.arange(count) * self.size // count


def make_windows(store: Store, settings: WindowSettings, labelled: bool = True) -> pd.DataFrame:
    """All windows of a store: they depend on the data and the settings only, never on the modality.

    Windows begin at the start of each run of consecutive seconds and do not span a gap.

    Returns:
        session, device, kind, row (of the first second in the store), start and end (seconds in the recording),
        seconds_to_end and seconds_since_onset (of the last second; for reporting), label, pure (one state throughout).
        With `labelled`, only of labelled sessions; else label is -1 where there is none.

    Raises:
        ConfigError: the settings are impossible, or the data have no window of that size.
    """
    if settings.problems():
        raise ConfigError("\n".join(settings.problems()))
    sessions = store.sessions
    if labelled and not sessions["labelled"].any():
        raise ConfigError(
            "no window to train on: no recording is labelled. Of a table, data.schema.columns.state names the "
            "column of the states"
        )
    of_session, longest = [], 0
    for place, (first, count, known) in enumerate(sessions[["first", "rows", "labelled"]].to_numpy().tolist()):
        runs = _runs(store.tick[first : first + count])
        longest = max(longest, *(end - begin for begin, end in runs))
        if known or not labelled:
            starts = [np.arange(a, b - settings.size + 1, settings.stride) for a, b in runs]
            of_session.append((place, first + np.concatenate(starts)))
    rows = np.concatenate([rows for _, rows in of_session]).astype(np.int64)
    if not len(rows):
        raise ConfigError(
            f"no window of window.size={settings.size} s: the longest labelled run is {longest} s or less"
        )
    session = np.repeat([place for place, _ in of_session], [len(rows) for _, rows in of_session])
    states = store.state[rows[:, None] + np.arange(settings.size)]
    last = rows + settings.size - 1
    return pd.DataFrame(
        {
            **{key: sessions[name].to_numpy()[session].astype(str) for key, name in NAMES.items()},
            "row": rows,
            "start": store.tick[rows],
            "end": store.tick[last],
            "seconds_to_end": store.ticks_to_end[last],
            "seconds_since_onset": store.since_onset(last),
            "label": _labels(states, settings.label, len(store.schema.states)),
            "pure": (states == states[:, :1]).all(axis=1),
        }
    )


def _runs(tick: np.ndarray) -> list[tuple[int, int]]:
    """First row and end of each run of consecutive ticks of a session."""
    breaks = np.flatnonzero(np.diff(tick) != 1) + 1
    return list(itertools.pairwise([0, *breaks.tolist(), len(tick)]))


def _labels(states: np.ndarray, rule: str, classes: int) -> np.ndarray:
    """The commonest state, of several the lowest; or the last. (n, size) to (n,)."""
    if rule == "last":
        return states[:, -1].astype(np.int64)
    counts = np.stack([(states == k).sum(axis=1) for k in range(classes)], axis=1)
    return np.where(states[:, 0] == UNLABELLED, UNLABELLED, counts.argmax(axis=1))


@dataclass
class Windows:
    """The windows of a run with their part of the split."""

    store: Store
    frame: pd.DataFrame
    split: Split
    settings: WindowSettings

    def part(self, name: str) -> pd.DataFrame:
        """Windows of train, val or test, in the order of the store."""
        return self.frame[self.frame["part"] == name].reset_index(drop=True)

    def class_counts(self) -> np.ndarray:
        """Train windows per state."""
        return np.bincount(self.part("train")["label"], minlength=len(self.store.schema.states))


def split_windows(store: Store, settings: WindowSettings, split: dict[str, Any]) -> Windows:
    """Cut a store into windows and split its sessions.

    Args:
        split: of `make_split`, e.g. {"name": "session", "seed": 42}.

    Raises:
        ConfigError: no window of that size, or a part of the split without a session.
    """
    frame = make_windows(store, settings)
    starts = store.sessions.set_index("name")["start"]
    parts = make_split(frame, store.schema, split, starts, store.period)
    frame = frame[parts.keeps(frame)].reset_index(drop=True)
    return Windows(store, frame.assign(part=parts.part_of(frame["session"])), parts, settings)
