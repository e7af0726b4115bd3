"""Measure how often 95 % intervals hold the true value, over simulated data sets: experiments/coverage.csv.

    python experiments/coverage.py                    # the committed table: 2,000 data sets a cell, some minutes
    python experiments/coverage.py data_sets=200      # a first look

A data set has 4 to 36 devices with 1, 2 or 9 sessions each, and two models. The states are imbalanced (the worst is 7 %
of the windows), a session that reaches the worst state does so at its end, and errors come in runs. Two generators
differ in how: `latent` thresholds an autoregressive process, with sessions of unequal length; `spells` switches between
a good and a bad spell, with devices of unequal numbers of sessions, and was not looked at when the method was chosen.
With a device effect, devices differ in how often the models err and in how often they reach the worst state.

The true value is that of the two trained models on endless new devices: of DEVICES_OF_TRUTH devices.

Columns: generator, device_effect, devices, sessions (of a device), metric (`a - b`: the paired difference), kind, given
(share of data sets with an interval), coverage (share of those intervals that hold the true value). To the whole
percent, which is what 2,000 data sets can tell, an `interval` must cover 93 to 97 % and a `bound`, of a state in few
devices or sessions, at least 95 %. A `limit` is of the generator `few_bad`, in which one device in five is bad: with
ten devices, one set in nine has none of them, and no interval can know of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import lfilter
from scipy.stats import norm

from conveyorguard.metrics.intervals import (
    COMPARED_DEVICES,
    COMPARED_SESSIONS,
    FEWEST_DEVICES,
    FEWEST_SESSIONS,
    RARE_DEVICES,
    RARE_SESSIONS,
    share_bounds,
    t_bounds,
)

STATES, WINDOWS = 4, 40
DEVICES, SESSIONS = (4, 6, 10, 12, 20, 36), (1, 2, 9)
METRICS = ("accuracy", "macro_f1", "severe_recall")
DEVICES_OF_TRUTH = 100_000
AT_ONCE = 250  # data sets in memory
FILE = Path(__file__).with_suffix(".csv")

Generator = Callable[[np.random.Generator, int, int, int, bool], tuple[np.ndarray, np.ndarray]]


def latent(rng: np.random.Generator, sets: int, devices: int, sessions: int, effect: bool) -> tuple:
    """Draw data sets in which a model errs while an autoregressive process is above a threshold.

    Args:
        rng: Source of randomness.
        sets: Number of data sets R.
        devices: Number of devices G.
        sessions: Number of sessions S of each device.
        effect: Whether devices differ.

    Returns:
        States (R, G, S, W), those of two models (2, R, G, S, W), and the mask (R, G, S, W) of windows that there are.
    """
    shape = (sets, devices, sessions, WINDOWS)
    state = _wear(rng, shape, np.array([0.3, 0.2, 0.15, 0.35]), 0.5, 0.6 * effect)
    there = np.arange(WINDOWS) >= WINDOWS - rng.integers(15, WINDOWS + 1, (*shape[:3], 1))
    common, device = _autoregressive(rng, shape, 0.9), rng.standard_normal((sets, devices, 1, 1))
    hard, wrong = np.array([-1.6, -0.9, -0.7, -1.1]), []
    for lead in (-0.15, 0.0):
        apart = 0.48 * effect * (0.8 * device + 0.6 * rng.standard_normal(device.shape))
        of_session = 0.5 * rng.standard_normal((*shape[:3], 1))
        process = 0.7 * common + 0.71 * _autoregressive(rng, shape, 0.9)
        wrong.append(process + of_session + apart + hard[state] + lead > 0)
    return state, _confused(rng, state, np.array(wrong)), there


def spells(rng: np.random.Generator, sets: int, devices: int, sessions: int, effect: bool) -> tuple:
    """Draw data sets in which a model errs often in bad spells; arguments and result as of `latent`.

    With an effect, the share of windows in a bad spell differs by device and is skewed (gamma). A device has from one
    session to twice as many as `sessions`, on average as many.
    """
    often = np.minimum(0.2 * rng.gamma(4, 1 / 4, (sets, devices, 1, 1)), 0.8) if effect else np.full((1, 1, 1, 1), 0.2)
    return _in_spells(rng, (sets, devices, 2 * sessions - 1, WINDOWS), sessions, often, 0.8 * effect)


def few_bad(rng: np.random.Generator, sets: int, devices: int, sessions: int, effect: bool) -> tuple:
    """Draw data sets of `spells` in which one device in five is bad: what no interval over few devices can foresee."""
    bad = effect * (rng.random((sets, devices, 1, 1)) < 0.2)
    often = np.where(bad, 0.45, 0.15 if effect else 0.2)
    return _in_spells(rng, (sets, devices, 2 * sessions - 1, WINDOWS), sessions, often, 0.8 * effect)


def _in_spells(rng: np.random.Generator, shape: tuple, sessions: int, often: np.ndarray, spread: float) -> tuple:
    """Draw data sets of `spells`.

    Args:
        rng: Source of randomness.
        shape: (R, G, S, W).
        sessions: Mean number of sessions of a device.
        often: Share of windows in a bad spell, to broadcast to the shape.
        spread: Standard deviation between devices of how far they wear.
    """
    number = rng.integers(1, 2 * sessions, (*shape[:2], 1, 1))
    there = np.broadcast_to(np.arange(shape[2])[:, None] < number, shape)
    state = _wear(rng, shape, np.array([0.25, 0.25, 0.2, 0.3]), 0.4, spread)
    bad = _spells(rng, shape, often, leaving=0.08)
    rate, wrong = np.array([[0.03, 0.06, 0.08, 0.04], [0.3, 0.5, 0.55, 0.4]]), []
    for factor in (0.85, 1.0):
        apart = _spells(rng, shape, often, leaving=0.15)
        wrong.append(rng.random(shape) < 1.2 * factor * rate[(apart & bad).astype(int), state])
    return state, _confused(rng, state, np.array(wrong)), there


def _wear(rng: np.random.Generator, shape: tuple, reached: np.ndarray, late: float, spread: float) -> np.ndarray:
    """Draw states that only get worse; a smaller `late` puts the changes nearer to the end of a session.

    Args:
        rng: Source of randomness.
        shape: (R, G, S, W).
        reached: (K,) shares of sessions whose worst state is each state.
        late: Exponent of the times of the changes.
        spread: Standard deviation between devices of how far they wear, on the normal scale.
    """
    tendency = spread * rng.standard_normal((*shape[:2], 1)) + rng.standard_normal(shape[:3])
    worst = np.searchsorted(np.cumsum(reached)[:-1], norm.cdf(tendency / np.sqrt(1 + spread**2)))
    changes = np.sort(rng.random((*shape[:3], STATES - 1)), axis=-1) ** late
    time = (np.arange(shape[-1]) + 0.5) / shape[-1]
    return sum((worst > k)[..., None] & (time >= changes[..., k : k + 1]) for k in range(STATES - 1)).astype(np.int8)


def _autoregressive(rng: np.random.Generator, shape: tuple, memory: float) -> np.ndarray:
    """Draw stationary autoregressive processes of variance 1 along the last axis."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise[..., 0] /= np.sqrt(1 - memory**2)
    return lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise, axis=-1)


def _spells(rng: np.random.Generator, shape: tuple, often: np.ndarray, leaving: float) -> np.ndarray:
    """Draw stationary Markov chains of bad spells along the last axis.

    Args:
        rng: Source of randomness.
        shape: (R, G, S, W).
        often: Share of windows in a bad spell, to broadcast.
        leaving: Probability that a bad spell ends after a window.
    """
    bad = np.empty(shape, bool)
    bad[..., 0] = rng.random(shape[:-1]) < often[..., 0]
    entering = leaving * often[..., 0] / (1 - often[..., 0])
    for i in range(1, shape[-1]):
        draw = rng.random(shape[:-1])
        bad[..., i] = np.where(bad[..., i - 1], draw >= leaving, draw < entering)
    return bad


def _confused(rng: np.random.Generator, state: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Return the predicted states: where they are wrong, a neighbouring state, the same way for a whole session."""
    up = np.where(state == 0, True, np.where(state == STATES - 1, False, rng.random((*state.shape[:3], 1)) < 0.5))
    return np.where(wrong, state + np.where(up, 1, -1), state)


def confusions(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Count the windows of each device.

    Args:
        drawn: Result of a generator.

    Returns:
        Confusion matrices (2, R, G, K, K), and the number of sessions (2, R, G): all, and those with the worst state.
    """
    state, predicted, there = drawn
    sets, devices = state.shape[:2]
    place = np.arange(sets * devices).reshape(sets, devices, 1, 1) * STATES**2 + state * STATES
    size = sets * devices * STATES**2
    counts = [np.bincount((place + guess)[there], minlength=size) for guess in predicted]
    worst = ((state == STATES - 1) & there).any(-1).sum(-1)
    return np.reshape(counts, (2, sets, devices, STATES, STATES)).astype(float), np.array(
        [there.any(-1).sum(-1), worst]
    )


def values_of(confusion: np.ndarray, metric: str) -> np.ndarray:
    """Return a metric (...) of confusion matrices (..., K, K); a metric that is not defined is 0.5."""
    right, actual, called = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2)
    if metric == "accuracy":
        return right.sum(-1) / actual.sum(-1)
    if metric == "severe_recall":
        return np.where(actual[..., -1] > 0, right[..., -1] / np.maximum(actual[..., -1], 1), 0.5)
    occurs = actual + called > 0
    return np.where(occurs, 2 * right / np.maximum(actual + called, 1), 0).sum(-1) / occurs.sum(-1)


def counts_of(confusion: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return right windows and all windows of each device, both (...), that the metric is about."""
    if metric == "severe_recall":
        return confusion[..., -1, -1], confusion[..., -1, :].sum(-1)
    return np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1))


def bounds_of(confusion: np.ndarray, metric: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, low and high (R,) of the metric of the first model, and of its difference to the second."""
    whole = confusion.sum(2)
    value, without = values_of(whole, metric), values_of(whole[:, :, None] - confusion, metric)
    part, total = counts_of(confusion[0], metric)
    yield metric, *share_bounds(value[0], np.where(total > 0, without[0], value[0][:, None]), part, total)
    yield f"{metric}, a - b", *t_bounds(value[0] - value[1], without[0] - without[1])


def truth_of(generator: Generator, effect: bool) -> dict[str, float]:
    """Return the metrics over DEVICES_OF_TRUTH devices, and their differences between the two models."""
    rng = np.random.default_rng(7)
    whole = sum(confusions(generator(rng, 1, 2000, 5, effect))[0].sum((1, 2)) for _ in range(DEVICES_OF_TRUTH // 2000))
    truth = {}
    for metric in METRICS:
        first, second = values_of(whole, metric)
        truth |= {metric: first, f"{metric}, a - b": first - second}
    return truth


def cell(
    generator: Generator, effect: bool, devices: int, sessions: int, data_sets: int, truth: dict[str, float]
) -> list[dict]:
    """Return the rows of the table for one size of data sets."""
    rng = np.random.default_rng([devices, sessions, effect])
    parts = [
        confusions(generator(rng, min(AT_ONCE, data_sets), devices, sessions, effect))
        for _ in range(-(-data_sets // AT_ONCE))
    ]
    confusion, number = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
    enough = (devices >= FEWEST_DEVICES) & (number[0].sum(-1) >= FEWEST_SESSIONS)
    devices_of_worst, sessions_of_worst = (number[1] > 0).sum(-1), number[1].sum(-1)
    frequent = (devices_of_worst >= RARE_DEVICES) & (sessions_of_worst >= RARE_SESSIONS)
    compared = (devices_of_worst >= COMPARED_DEVICES) & (sessions_of_worst >= COMPARED_SESSIONS)
    rows = []
    for metric in METRICS:
        for name, low, high in bounds_of(confusion, metric):
            known, of_worst = enough & np.isfinite(low), metric == "severe_recall"
            kinds = {"interval": known & frequent, "bound": known & ~frequent} if of_worst else {"interval": known}
            if of_worst and "a - b" in name:  # with a rarer state it has no interval
                kinds = {"interval": known & compared}
            for kind, chosen in kinds.items():
                held = ((low <= truth[name]) & (truth[name] <= high))[chosen]
                coverage = float(held.mean()) if len(held) else np.nan
                rows.append({"metric": name, "kind": kind, "given": chosen.mean(), "coverage": coverage})
    size = {"generator": generator.__name__, "device_effect": effect, "devices": devices, "sessions": sessions}
    return [{**size, **row} for row in rows]


def table(data_sets: int) -> pd.DataFrame:
    """Return the whole table."""
    rows = []
    for generator, effect in ((latent, False), (latent, True), (spells, False), (spells, True), (few_bad, True)):
        truth = truth_of(generator, effect)
        for devices, sessions in product(DEVICES, SESSIONS):
            rows += cell(generator, effect, devices, sessions, data_sets, truth)
        print(f"{generator.__name__}, device effect {effect}: done", flush=True)
    result = pd.DataFrame(rows)
    return result.assign(kind=result["kind"].where(result["generator"] != "few_bad", "limit"))


def uncovered(result: pd.DataFrame, data_sets: int) -> pd.DataFrame:
    """Return the rows of the table that do not cover as they should, of those with an interval for 200 data sets."""
    coverage, least = result["coverage"].round(2), result["kind"].map({"interval": 0.93, "bound": 0.95, "limit": 0.0})
    wide = result["kind"].eq("interval") & (coverage > 0.97)
    return result[(result["given"] * data_sets >= 200) & ((coverage < least) | wide)]


def main(words: list[str]) -> None:
    """Write the table and print the cells that do not cover as they should."""
    data_sets = int(dict(word.split("=") for word in words).get("data_sets", 2000))
    result = table(data_sets).round({"given": 3, "coverage": 4})
    result.to_csv(FILE, index=False)
    off = uncovered(result, data_sets)
    print(f"{FILE}: {len(result)} rows, {len(off)} of them do not cover as they should")
    print(off.to_string() if len(off) else "")


if __name__ == "__main__":
    main(sys.argv[1:])
