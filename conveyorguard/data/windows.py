"""Windows: runs of consecutive rows of one session, as indices into the frame store."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.clock_times import clock_times
from conveyorguard.data.durations import plain, seconds_of, text_of, ticks_of
from conveyorguard.data.ranges import filled, training_ranges
from conveyorguard.data.schema import UNLABELLED
from conveyorguard.data.splits import Split, make_split
from conveyorguard.data.store import Store
from conveyorguard.errors import ConfigError

NAMES = {"session": "name", "device": "device", "kind": "kind"}  # columns of the windows, and of the sessions
LABELS = ("last", "majority")
DURATIONS = ("size", "stride", "eval_stride", "max_gap")  # keys of the `window` block


@dataclass(frozen=True)
class WindowSettings:
    """Length and spacing of windows, in rows of the store, and the rule that labels them.

    Attributes:
        size: rows of a window.
        stride: rows between the beginnings of two windows that a model is trained on.
        label: `last`, the state of the last row, asks for the state now; `majority`, the commonest state, asks for the
            state in the middle of the window.
        thermal_frames: how many frames of a window a network is given, evenly spaced; `all`.
        eval_stride: rows between two windows that are judged: validation, test, prediction. None: 1 with `last`, as
            `stride` with `majority`.
        max_gap: the longest run of missing rows that is bridged.
        period: of a row [s].
    """

    size: int = 30
    stride: int = 10
    label: str = "last"
    thermal_frames: int | str = 10
    eval_stride: int | None = None
    max_gap: int = 3
    period: float = 1.0

    @classmethod
    def of(cls, settings: Mapping[str, Any], period: float = 1.0) -> WindowSettings:
        """Read the `window` block of a config, whose durations are text or numbers of seconds.

        Args:
            settings: size, stride, label, thermal_frames; eval_stride and max_gap, which older runs lack.
            period: of a row of the data [s].

        Raises:
            ConfigError: a duration cannot be read, or is no whole number of rows.
        """
        block = resolve_window(settings, period)
        rows = {key: round(block[key] / period) for key in DURATIONS}
        return cls(label=block["label"], thermal_frames=block["thermal_frames"], period=period, **rows)

    def in_seconds(self) -> dict[str, Any]:
        """Return the `window` block of a config from which `of` reads the same settings."""
        rows = {"size": self.size, "stride": self.stride, "eval_stride": self.judged_stride, "max_gap": self.max_gap}
        durations = {key: plain(value * self.period) for key, value in rows.items()}
        return {**durations, "label": self.label, "thermal_frames": self.thermal_frames}

    def problems(self) -> list[str]:
        """Return what is wrong with the settings, as sentences."""
        problems = []
        if self.size < 1 or self.stride < 1 or self.judged_stride < 1:
            problems.append(
                f"window.size={self.size}, window.stride={self.stride}, window.eval_stride={self.judged_stride}: "
                "each must be 1 row or more"
            )
        if self.max_gap < 0:
            problems.append(f"window.max_gap={self.max_gap} must be 0 rows or more")
        if self.label not in LABELS:
            problems.append(
                f"window.label={self.label}: last (the state of the last row) or majority (the commonest state)"
            )
        frames = self.thermal_frames
        if frames != "all" and not (isinstance(frames, int) and 1 <= frames <= self.size):
            problems.append(f"window.thermal_frames={frames}: 1..{self.size} (window.size in rows), or all")
        return problems

    @property
    def question(self) -> str:
        """Say what a model is asked: which state of a window, and how often."""
        length, spacing = text_of(self.size * self.period), text_of(self.judged_stride * self.period)
        if self.label == "last":
            return f"the state now, at the end of a window of {length}, judged every {spacing}"
        return (
            f"the commonest state of a window of {length}, judged every {spacing}: the state about "
            f"{text_of(self.size // 2 * self.period)} ago"
        )

    @property
    def judged_stride(self) -> int:
        """Rows between two windows that are judged."""
        return (1 if self.label == "last" else self.stride) if self.eval_stride is None else self.eval_stride

    @property
    def thermal_seconds(self) -> np.ndarray:
        """Which rows of a window have their thermal frame used, evenly spaced."""
        count = self.size if self.thermal_frames == "all" else int(self.thermal_frames)
        return np.arange(count) * self.size // count


def resolve_window(settings: Mapping[str, Any], period: float) -> dict[str, Any]:
    """Replace what is null in the `window` block of a config by its default, and durations by seconds.

    Defaults are 30 s, 10 s and 1 s (`eval_stride`, with `label: last`), or as many periods where a period exceeds 1 s.

    Args:
        settings: the block. period: of a row of the data [s].

    Raises:
        ConfigError: naming each key whose duration cannot be read.
    """
    label = settings.get("label", "last")
    defaults = {"size": 30, "stride": 10, "eval_stride": 1}
    resolved, problems = dict(settings), []
    for key in DURATIONS:
        value = settings.get(key)
        if value is None and key == "max_gap":
            value = "3rows" if key in settings else 0  # runs before there was the choice bridged nothing
        elif value is None and key == "eval_stride" and (label != "last" or key not in settings):
            value = resolved["stride"]  # so do runs before there was the choice
        if value is None:
            value = defaults[key] * max(period, 1.0)
        try:
            resolved[key] = plain(ticks_of(value, period) * period)
        except ValueError as error:
            problems.append(f"window.{key}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return resolved


def period_of(data: Mapping[str, Any]) -> float:
    """Return the period of a row [s] that the reader of a `data` block gives; 1 s where it has no such setting.

    Raises:
        ConfigError: it is no duration.
    """
    try:
        return seconds_of((data.get("reader") or {}).get("period") or 1, 1.0)
    except ValueError as error:
        raise ConfigError(f"data.reader.period: {error}") from error


def make_windows(
    store: Store,
    settings: WindowSettings,
    labelled: bool = True,
    stride: int | None = None,
    sessions: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return all windows of a store: they depend on the data and the settings only, never on the modality.

    Windows begin at the start of each run of consecutive rows and do not span a gap.

    Args:
        labelled: only of labelled sessions; else label is -1 where there is none.
        stride: rows between two windows; None: `settings.stride`.
        sessions: names of the sessions to cut into windows; None: all.

    Returns:
        session, device, kind, start_time and end_time (clock times, ISO 8601, missing where the files have none), row
        (of the first row in the store), start and end (time of its first and last row since the recording began [s]),
        seconds_to_end and seconds_since_onset (of the last row; for reporting), label, pure (one state throughout).

    Raises:
        ConfigError: the settings are impossible, or the data have no window of that size.
    """
    if settings.problems():
        raise ConfigError("\n".join(settings.problems()))
    table, stride = store.sessions, stride or settings.stride
    if labelled and not table["labelled"].any():
        raise ConfigError(
            "no window to train on: no session is labelled. For tables set data.schema.columns.state to the "
            "column of the states"
        )
    chosen = np.ones(len(table), bool) if sessions is None else table["name"].isin(list(sessions)).to_numpy()
    chosen = chosen & (table["labelled"].to_numpy(bool) | (not labelled))
    session, rows = _first_rows(store, settings, np.flatnonzero(chosen), stride)
    states = store.state[rows[:, None] + np.arange(settings.size)]
    last = rows + settings.size - 1
    return pd.DataFrame(
        {
            **{key: table[name].to_numpy()[session].astype(str) for key, name in NAMES.items()},
            **{f"{name}_time": _clock(store, session, at) for name, at in (("start", rows), ("end", last))},
            "row": rows,
            "start": store.tick[rows] * store.period,
            "end": store.tick[last] * store.period,
            "seconds_to_end": store.ticks_to_end[last] * store.period,
            "seconds_since_onset": store.since_onset(last) * store.period,
            "label": _labels(states, settings.label, len(store.schema.states)),
            "pure": (states == states[:, :1]).all(axis=1),
        }
    )


def _first_rows(
    store: Store, settings: WindowSettings, chosen: np.ndarray, stride: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the session and the first row of each window, (n,) and (n,).

    Args:
        chosen: indices of the sessions to cut into windows.
        stride: rows between two windows.

    Raises:
        ConfigError: there is no window of that size.
    """
    extent = store.sessions[["first", "rows"]].to_numpy().tolist()
    starts_of, longest = [], 0
    for place in chosen.tolist():
        first, count = extent[place]
        runs = _runs(store.tick[first : first + count])
        longest = max(longest, *(end - begin for begin, end in runs))
        starts = [np.arange(a, b - settings.size + 1, stride) for a, b in runs]
        starts_of.append((place, first + np.concatenate(starts)))
    rows = np.concatenate([rows for _, rows in starts_of] or [np.zeros(0)]).astype(np.int64)
    if not len(rows):
        raise ConfigError(_no_window(settings, longest))
    return np.repeat([place for place, _ in starts_of], [len(rows) for _, rows in starts_of]), rows


def _clock(store: Store, session: np.ndarray, rows: np.ndarray) -> pd.api.extensions.ExtensionArray:
    """Return the clock times of rows of the store, missing where the files have none."""
    return pd.array(clock_times(store.sessions, session, store.tick[rows] * store.period), dtype="string")


def _no_window(settings: WindowSettings, longest: int) -> str:
    """Say that no run of rows is as long as a window, and what would help."""
    length = text_of(settings.size * settings.period)
    if not longest:
        return f"no window of window.size={length}: there is no labelled session"
    shorter = text_of(longest * settings.period)
    return (
        f"no window of window.size={length}: the longest run of rows without a gap is {shorter}. Write "
        f"window.size={longest}rows or less; or bridge short gaps with a larger window.max_gap (now "
        f"{settings.max_gap}rows); or read the data at a longer period, e.g. "
        f"data.reader.period={plain(2 * settings.period)}"
    )


def _runs(tick: np.ndarray) -> list[tuple[int, int]]:
    """Return first row and end of each run of consecutive ticks of a session."""
    breaks = np.flatnonzero(np.diff(tick) != 1) + 1
    return list(itertools.pairwise([0, *breaks.tolist(), len(tick)]))


def _labels(states: np.ndarray, rule: str, classes: int) -> np.ndarray:
    """Return the last or the most frequent state of each window, (n, size) to (n,); of a tie the lowest state."""
    if rule == "last":
        return states[:, -1].astype(np.int64)
    counts = np.stack([(states == k).sum(axis=1) for k in range(classes)], axis=1)
    return np.where(states[:, 0] == UNLABELLED, UNLABELLED, counts.argmax(axis=1))


@dataclass
class Windows:
    """The windows of a run with their part of the split.

    Attributes:
        frame: windows spaced by `settings.stride`, see `make_windows`, with part (train, val or test).
    """

    store: Store
    frame: pd.DataFrame
    split: Split
    settings: WindowSettings
    _judged: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False)

    def part(self, name: str) -> pd.DataFrame:
        """Return the windows of train, val or test that are spaced for training, in the order of the store."""
        return self.frame[self.frame["session"].isin(self.split.sessions[name])].reset_index(drop=True)

    def judged(self, name: str) -> pd.DataFrame:
        """Return the windows of a part by which a model is judged, spaced by `settings.judged_stride`."""
        if self.settings.judged_stride == self.settings.stride:
            return self.part(name)
        if name not in self._judged:
            stride, sessions = self.settings.judged_stride, self.split.sessions[name]
            windows = make_windows(self.store, self.settings, stride=stride, sessions=sessions)
            self._judged[name] = windows.assign(part=name)
        return self._judged[name]

    def class_counts(self) -> np.ndarray:
        """Count the train windows of each state, (K,)."""
        return np.bincount(self.part("train")["label"], minlength=len(self.store.schema.states))


def split_windows(store: Store, settings: WindowSettings, split: dict[str, Any]) -> Windows:
    """Cut a store into windows and split its sessions.

    What was not measured, at the beginning of a session or throughout it, has the median of the train part, as it has
    in a prediction.

    Args:
        split: settings of `make_split`, e.g. {"name": "session", "seed": 42}.

    Raises:
        ConfigError: no window of that size, or a part of the split without a session.
    """
    frame = make_windows(store, settings)
    starts = store.sessions.set_index("name")["start"]
    parts = make_split(frame, store.schema, split, starts, store.period)
    frame = frame[parts.keeps(frame)].reset_index(drop=True)
    if any(np.isnan(values).any() for values in (store.sensors, store.environment)):
        store = filled(store, training_ranges(store, store.rows_of(parts.sessions["train"])))
    return Windows(store, frame.assign(part=parts.part_of(frame["session"])), parts, settings)
