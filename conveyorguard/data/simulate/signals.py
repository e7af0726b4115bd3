"""Sensors of a simulated session."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from conveyorguard.data.simulate.kinds import CHANNELS, CURRENTS, Kind
from conveyorguard.data.simulate.plan import Plan

TENTHS = np.arange(0.05, 1, 0.1)
PARTICLES = ("PM10", "PM2.5", "PM1.0")


def drift(n: int, sd: float, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Autoregressive noise of order one with the given sd and lag-1 correlation."""
    start = rng.normal(0, sd)
    steps = rng.normal(0, sd * np.sqrt(1 - correlation**2), n)
    return lfilter([1.0], [1.0, -correlation], steps, zi=[correlation * start])[0]


def curve(fraction: np.ndarray, tenths: tuple[float, ...], normal: float, lead: float) -> np.ndarray:
    """Rise over normal: the quoted tenths, a short ramp of `lead` before onset, the last slope beyond the last
    tenth."""
    y = np.array(tenths, float) - normal
    first = max(y[0] - (y[1] - y[0]) / 2, 0)
    x = np.concatenate([[-lead, 0], TENTHS, [1]])
    return np.interp(fraction, x, np.concatenate([[0, first], y, [y[-1] + (y[-1] - y[-2]) / 2]]))


def sensors(item: Plan, spec: Kind, fraction: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Each channel of a session, (n,), rounded as in the real files.

    Args:
        fraction: (n,) of the time from onset to the end; negative before onset.
    """
    # what varies between sessions is half the device's own, half the day's
    of_device = np.random.default_rng([seed, 3, *item.device.encode()]).normal(0, np.sqrt(0.5), len(CHANNELS))
    of_day = rng.normal(0, np.sqrt(0.5), len(CHANNELS))
    level = {name: spec.normal[name] + spec.sd[name][1] * (of_device[i] + of_day[i]) for i, name in enumerate(CHANNELS)}
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
    """Rise of the NTC over its normal level."""
    rise = (
        curve(warped, spec.modes[item.mode].ntc, spec.normal["NTC"], 0.05) * heat
        if item.mode
        else np.zeros(len(warped))
    )
    # an agv's NTC spreads no wider when hot than when normal
    return rise / heat * (1 + 0.25 * (heat - 1)) if item.kind == "agv" else rise


def _particles(
    item: Plan,
    spec: Kind,
    level: dict[str, float],
    fraction: np.ndarray,
    warped: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
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
    normal = level + drift(item.seconds, spec.sd[name][0], -0.35, rng)
    if not item.mode or name not in spec.modes[item.mode].start:
        return normal
    start = spec.modes[item.mode].start[name] * np.exp(rng.normal(0, 0.15))
    low, high = spec.peak  # the extremes of many sessions: two and a half sd about the middle
    peak = np.clip(rng.normal((low + high) / 2, (high - low) / 5), low, high)
    wander = drift(item.seconds, 0.05, 0.8, rng)
    fault = start * np.exp(np.log(peak / start) * np.maximum(fraction, -0.3) + wander)
    return np.maximum(normal, spec.load * normal + fault)
