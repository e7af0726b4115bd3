"""Leakage: channels that reveal the state without measuring the device.

With a remaining life, a counter, a copy of the label or a number of the recording a model scores well without any sign
of wear. Drafts of a data set, training and the checks of a run use the same tests.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from conveyorguard.data.schema import UNLABELLED
from conveyorguard.data.store import Store

ALONE = 0.999  # balanced accuracy from which a single channel is reported to separate the states
FEW_VALUES = 12  # distinct values up to which a column may be a code
SMOOTH = 30  # distinct values in a recording from which a monotonic column may be a counter
DENSE = 10  # median distances between values; states closer together were cut by a threshold
FEW_ROWS = 5  # rows of a state below which it is ignored
SHORT = 10  # rows below which the course of a recording is ignored
MOST = 0.9  # share of the recordings, or of the steps, that must show a pattern
LOOKED_AT = 50_000  # rows; longer data are sampled to between this and twice as many
RUNS_DOWN = (  # names of a remaining useful life
    r"(?<![a-z])(rul|ttf|tte|eol)(?![a-z])|remaining.*(life|cycle|hour|day|time)|(life|cycle|hour|day|time)s?.*(left|remaining)"
    r"|(cycle|hour|day|time)s?[\W_]*(to|until|till|before)[\W_]*(go|fail|failure|end|event|fault)"
    r"|잔여|잔존|남은|restlebensdauer|restlaufzeit"
)


@dataclass(frozen=True)
class Leak:
    """A channel that may reveal the state.

    Attributes:
        channel: name of the channel.
        why: the reason as a clause, e.g. "it runs down in equal steps in 4 of 4 recordings".
        certain: whether no sensor behaves like this; otherwise it may be a very good sensor.
        is_setting: whether it is constant within each recording, such as a speed or a load that was set.
    """

    channel: str
    why: str
    certain: bool
    is_setting: bool = False

    @property
    def message(self) -> str:
        """Return a sentence with the reason and the remedy."""
        if self.certain:
            return f"'{self.channel}' may give the state away: {self.why}; leave it out of data.schema.channels"
        return f"'{self.channel}': {self.why}; if it is computed from the state, leave it out of data.schema.channels"


def leaks_in(
    channels: Mapping[str, np.ndarray],
    state: np.ndarray,
    session: np.ndarray,
    may_be_constant: Iterable[str] = (),
    names: Mapping[str, str] | None = None,
) -> list[Leak]:
    """Return the channels that may reveal the state, with the first reason for each.

    Args:
        channels: (n,) values by name, sessions one after another, each in time order.
        state: (n,) 0..K-1; -1 where it is unknown.
        session: (n,) index of each row's session.
        may_be_constant: channels that may be constant within a recording, such as the environment.
        names: names in the files, by channel, where they differ.
    """
    starts = np.flatnonzero(np.diff(session, prepend=session[:1] - 1))
    leaks = []
    for name, column in channels.items():
        values = np.asarray(column, np.float64)
        recordings = [part[np.isfinite(part)] for part in np.split(values, starts[1:])]
        if why := _by_name((names or {}).get(name, name)) or _by_order(recordings):
            leaks.append(Leak(name, why, True))
        elif why := None if name in may_be_constant else _by_recording(recordings):
            leaks.append(Leak(name, why, True, is_setting=True))
        elif leak := _by_state(name, values, state):
            leaks.append(leak)
        elif why := _only_rises(recordings):
            leaks.append(Leak(name, why, False))
    return leaks


def leaks_of(store: Store, sessions: Iterable[str]) -> list[Leak]:
    """Return the leaks in sensors and environment of the sessions with these names; see `leaks_in`."""
    rows = np.flatnonzero(store.rows_of(sessions))
    channels: dict[str, np.ndarray] = {}
    for group, array in ((store.schema.channels, store.sensors), (store.schema.environment, store.environment)):
        values = np.asarray(array[rows], np.float32)
        channels |= {name: values[:, i] for i, name in enumerate(group)}
    columns = {**store.schema.channels, **store.schema.environment}
    return leaks_in(
        channels,
        np.asarray(store.state[rows]),
        store.session_index[rows],
        store.schema.environment,
        {name: channel.column or name for name, channel in columns.items()},
    )


def one_channel_accuracy(values: np.ndarray, state: np.ndarray, leaves: int | None = None) -> float:
    """Return the balanced accuracy of a small decision tree on a single channel, on the rows it is fitted to.

    Args:
        values: (n,); NaN counts as zero.
        state: (n,) 0..K-1.
        leaves: number of leaves of the tree; by default one per state, so that it has a threshold for each border
            between states.
    """
    present, counts = np.unique(state, return_counts=True)
    tree = DecisionTreeClassifier(
        max_leaf_nodes=max(leaves or len(present), 2), class_weight="balanced", random_state=0
    )
    feature = np.nan_to_num(values)[:, None]
    hit = tree.fit(feature, state).predict(feature) == state
    return float(np.mean([hit[state == k].mean() for k in present]))


def best_channel(values: np.ndarray, state: np.ndarray, leaves: int | None = None) -> int:
    """Return the column of values (n, C) that separates the states best; see `one_channel_accuracy`."""
    return int(np.argmax([one_channel_accuracy(values[:, i], state, leaves) for i in range(values.shape[1])]))


def _by_name(name: str) -> str | None:
    """Return a reason if the name is that of a remaining life."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return "its name says that it counts down to the failure" if re.search(RUNS_DOWN, words) else None


def _by_order(recordings: list[np.ndarray]) -> str | None:
    """Return a reason if a column counts down or up in equal steps, or falls without noise to a common last value."""
    long = [values for values in recordings if len(values) >= SHORT]
    for sign, words in ((-1, "runs down"), (1, "counts up")):
        counting = sum(_is_even(sign * np.diff(values)) for values in long)
        if long and counting >= MOST * len(long):
            return f"it {words} in equal steps in {counting} of {len(long)} recordings"
    falling = [values for values in long if _is_smooth(-np.diff(values), values)]
    if len(falling) >= 2 and len(falling) >= MOST * len(long):
        ends = [values[-1] for values in falling]
        if np.ptp(ends) < 0.02 * np.median([np.ptp(values) for values in falling]):
            return f"it falls to {ends[0]:g} at the end of {len(falling)} of {len(long)} recordings and never rises"
    return None


def _only_rises(recordings: list[np.ndarray]) -> str | None:
    """Return a reason if a column never falls, or never rises, within recordings, unlike a sensor with noise."""
    long = [values for values in recordings if len(values) >= SHORT]
    for sign, words in ((1, "falls"), (-1, "rises")):
        smooth = sum(_is_smooth(sign * np.diff(values), values) for values in long)
        if long and smooth >= MOST * len(long):
            return f"it never {words} within {smooth} of {len(long)} recordings, so it may count time or use"
    return None


def _is_even(steps: np.ndarray) -> bool:
    """Return whether there are at least 3 non-zero steps, all positive and nine tenths of them equal within 1 %."""
    moving = steps[steps != 0]
    if len(moving) < 3 or (moving < 0).any():
        return False
    return bool(np.mean(np.abs(moving / np.median(moving) - 1) < 0.01) >= MOST)


def _is_smooth(steps: np.ndarray, values: np.ndarray) -> bool:
    """Return whether no step is negative and there are many distinct values."""
    return bool((steps >= 0).all()) and len(np.unique(values)) >= SMOOTH


def _by_recording(recordings: list[np.ndarray]) -> str | None:
    """Return a reason if a column is constant within each recording and differs between them."""
    known = [values for values in recordings if len(values) >= 2]
    if len(known) < 3 or any(np.ptp(values) > 0 for values in known):
        return None
    different = len({values[0] for values in known})
    if different == 1:
        return None
    return f"it is constant within each of {len(known)} recordings, with {different} different values between them"


def _by_state(name: str, values: np.ndarray, state: np.ndarray) -> Leak | None:
    """Return a leak if the column alone separates the states."""
    rows = np.flatnonzero(np.isfinite(values) & (state != UNLABELLED))
    present, counts = np.unique(state[rows], return_counts=True)
    rows = rows[np.isin(state[rows], present[counts >= FEW_ROWS])]
    rows = rows[:: max(len(rows) // LOOKED_AT, 1)]
    values, state = values[rows], state[rows]
    if len(np.unique(state)) < 2:
        return None
    codes = np.unique(values)
    if len(codes) <= FEW_VALUES:
        return _by_code(name, values, state, codes)
    if one_channel_accuracy(values, state) < ALONE:
        return None
    if _is_cut_by_thresholds(values, state):
        return Leak(name, "the states follow from it by thresholds, without overlap and without a gap", True)
    return Leak(name, "it tells the states apart alone, by one threshold for each border", False)


def _by_code(name: str, values: np.ndarray, state: np.ndarray, codes: np.ndarray) -> Leak | None:
    """Return a leak if each value of a column belongs to one state, or if the rarer of two values means a fault."""
    table = np.array([[np.sum((values == code) & (state == k)) for k in np.unique(state)] for code in codes])
    if len(codes) < 2:
        return None
    right = np.zeros(table.shape[1])
    np.add.at(right, table.argmax(axis=1), table.max(axis=1))
    if (right / table.sum(axis=0)).mean() >= ALONE:
        return Leak(name, f"each of its {len(codes)} values stands for one state", True)
    rare = table[table.sum(axis=1).argmin()]
    if len(codes) == 2 and rare[0] == 0 and rare.sum() >= FEW_ROWS and table[:, 0].sum() > table[:, 1:].sum() / 20:
        return Leak(name, f"its value {codes[table.sum(axis=1).argmin()]:g} occurs in faulty states alone", True)
    return None


def _is_cut_by_thresholds(values: np.ndarray, state: np.ndarray) -> bool:
    """Return whether the values of neighbouring states adjoin without overlap, as if cut by a threshold.

    A sensor that separates states by more than its noise leaves a gap between them.
    """
    order = np.argsort(values, kind="stable")
    values, state = values[order], state[order]
    borders = np.flatnonzero(state[1:] != state[:-1])
    parts = np.split(values, borders + 1)
    if len(parts) != len(np.unique(state)):
        return False
    usual = [np.median(np.diff(np.unique(part))) if len(np.unique(part)) > 1 else 0.0 for part in parts]
    gaps = values[borders + 1] - values[borders]
    return all(gap <= DENSE * max(pair) for gap, pair in zip(gaps, itertools.pairwise(usual), strict=True))
