"""Simulates the sensors of a session."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from conveyorguard.data.simulate.kinds import CHANNELS, CURRENTS, Kind
from conveyorguard.data.simulate.plan import Plan

TENTHS = np.arange(0.05, 1, 0.1)  # middles of the tenths of the time from onset to the end
PARTICLES = ("PM10", "PM2.5", "PM1.0")


def drift(n: int, sd: float, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Return n values of AR(1) noise with standard deviation `sd` and lag-1 `correlation`."""
    start = rng.normal(0, sd)
    steps = rng.normal(0, sd * np.sqrt(1 - correlation**2), n)
    return lfilter([1.0], [1.0, -correlation], steps, zi=[correlation * start])[0]


def curve(fraction: np.ndarray, tenths: tuple[float, ...], normal: float, lead: float) -> np.ndarray:
    """Return the rise over `normal` at each fraction of the time from onset to the end, interpolated linearly.

    Args:
        fraction: (n,), negative before onset.
        tenths: published mean in each tenth, extrapolated to onset and end.
        lead: length of the ramp before onset, as a fraction of the time from onset to the end.
    """
    rise = np.array(tenths, float) - normal
    at_onset = max(rise[0] - (rise[1] - rise[0]) / 2, 0)
    at_end = rise[-1] + (rise[-1] - rise[-2]) / 2
    return np.interp(fraction, [-lead, 0, *TENTHS, 1], [0, at_onset, *rise, at_end])


def sensors(item: Plan, spec: Kind, fraction: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Simulate each channel of a session, (n,), rounded as in the real files.

    Args:
        fraction: (n,) of the time from onset to the end; negative before onset.
    """
    # half of the variance between sessions is the device's, half the session's
    of_device = np.random.default_rng([seed, 3, *item.device.encode()]).normal(0, np.sqrt(0.5), len(CHANNELS))
    of_session = rng.normal(0, np.sqrt(0.5), len(CHANNELS))
    level = {
        name: spec.normal[name] + spec.sd[name][1] * (of_device[i] + of_session[i]) for i, name in enumerate(CHANNELS)
    }
    heat, pace = np.exp(rng.normal(0, 0.32)) / 1.05, np.exp(rng.normal(0, 0.12))
    warped = np.sign(fraction) * np.abs(fraction) ** pace
    values = {
        "NTC": level["NTC"] + _heating(item, spec, warped, heat) + drift(item.seconds, spec.sd["NTC"][0], 0.96, rng)
    }
    values |= _particles(item, spec, level, fraction, warped, rng)
    values |= {name: _current(item, spec, name, level[name], fraction, rng) for name in CURRENTS}
    for name in values:
        values[name] = np.maximum(values[name], 0.05).round(2)
    for name in PARTICLES:
        values[name] = values[name].round()
    return values


def _heating(item: Plan, spec: Kind, warped: np.ndarray, heat: float) -> np.ndarray:
    """Return the rise of the NTC over its normal level [degC], (n,)."""
    rise = (
        curve(warped, spec.modes[item.mode].ntc, spec.normal["NTC"], 0.05) * heat
        if item.mode
        else np.zeros(len(warped))
    )
    # the NTC's rise varies a quarter as much between sessions of AGVs
    return rise / heat * (1 + 0.25 * (heat - 1)) if item.kind == "agv" else rise


def _particles(
    item: Plan,
    spec: Kind,
    level: dict[str, float],
    fraction: np.ndarray,
    warped: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Simulate the particle channels; they react to a fault only where the kind has a PM10 curve."""
    n = item.seconds
    if not spec.pm10:
        return {name: level[name] + rng.normal(0, spec.sd[name][0], n) for name in PARTICLES}
    rise = curve(warped, spec.pm10, spec.normal["PM10"], 0.15) if item.mode else np.zeros(n)
    faulty = np.clip(fraction, 0, 1)
    level_now = level["PM10"] * (1 - faulty * 0.7) + spec.normal["PM10"] * faulty * 0.7
    values = {"PM10": level_now + rise + drift(n, spec.sd["PM10"][0], 0.7, rng)}
    for name, part in (("PM2.5", 0.55), ("PM1.0", 0.45)):
        values[name] = part * values["PM10"] + drift(n, spec.sd[name][0], 0.3, rng)
    return values


def _current(
    item: Plan, spec: Kind, name: str, level: float, fraction: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Simulate a current; under a fault an exponential rise is added to part of the normal current."""
    normal = level + drift(item.seconds, spec.sd[name][0], -0.35, rng)
    if not item.mode or name not in spec.modes[item.mode].start:
        return normal
    start = spec.modes[item.mode].start[name] * np.exp(rng.normal(0, 0.15))
    low, high = spec.peak  # extremes of many sessions, taken as 2.5 standard deviations around the middle
    peak = np.clip(rng.normal((low + high) / 2, (high - low) / 5), low, high)
    wander = drift(item.seconds, 0.05, 0.8, rng)
    fault = start * np.exp(np.log(peak / start) * np.maximum(fraction, -0.3) + wander)
    return np.maximum(normal, spec.load * normal + fault)
