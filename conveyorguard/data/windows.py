"""Windows: runs of consecutive seconds of one session, as indices into the frame store."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from conveyorguard.data.schema import UNLABELLED
from conveyorguard.data.splits import Split
from conveyorguard.data.store import Store
from conveyorguard.errors import ConfigError


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
    frames = store.frames
    codes, time = frames["session"].cat.codes.to_numpy(), frames["time"].to_numpy()
    breaks = np.flatnonzero((np.diff(codes) != 0) | (np.diff(time) != 1)) + 1
    edges = np.concatenate([[0], breaks, [len(frames)]])
    rows = np.concatenate(
        [np.arange(a, b - settings.size + 1, settings.stride) for a, b in itertools.pairwise(edges)]
    ).astype(np.int64)
    state = frames["state"].to_numpy()
    if labelled and (state == UNLABELLED).all():
        raise ConfigError(
            "no window to train on: no recording is labelled. Of a table, data.schema.columns.state names the "
            "column of the states"
        )
    if labelled:
        rows = rows[state[rows] != UNLABELLED]
    if not len(rows):
        longest = int(np.diff(edges).max(initial=0))
        raise ConfigError(
            f"no window of window.size={settings.size} s: the longest labelled run is {longest} s or less"
        )
    states = state[rows[:, None] + np.arange(settings.size)]
    last = rows + settings.size - 1
    return pd.DataFrame(
        {
            "session": frames["session"].to_numpy()[rows].astype(str),
            "device": frames["device"].to_numpy()[rows].astype(str),
            "kind": frames["kind"].to_numpy()[rows].astype(str),
            "row": rows,
            "start": time[rows],
            "end": time[last],
            "seconds_to_end": frames["seconds_to_end"].to_numpy()[last],
            "seconds_since_onset": frames["seconds_since_onset"].to_numpy()[last],
            "label": _labels(states, settings.label, len(store.schema.states)),
            "pure": (states == states[:, :1]).all(axis=1),
        }
    )


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
