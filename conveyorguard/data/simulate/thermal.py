"""Simulates the thermal camera of a session."""

from __future__ import annotations

import numpy as np

from conveyorguard.data.simulate.kinds import Kind
from conveyorguard.data.simulate.plan import Plan
from conveyorguard.data.simulate.signals import curve, drift


def hot_spot(item: Plan, spec: Kind, fraction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Simulate the temperature of the hottest component [degC], (n,).

    Args:
        fraction: (n,) of the time from onset to the end; negative before onset.
    """
    within, between = spec.sd["hot"]
    hot = spec.normal["hot"] + rng.normal(0, between) + drift(item.seconds, within, 0.97, rng)
    if item.mode:
        heat, pace = np.exp(rng.normal(0, 0.17)), np.exp(rng.normal(0, 0.15))
        warped = np.sign(fraction) * np.abs(fraction) ** pace
        hot += curve(warped, spec.modes[item.mode].hot_spot, spec.normal["hot"], 0.1) * heat
    return hot


def board(
    item: Plan,
    hot: np.ndarray,
    fraction: np.ndarray,
    shape: tuple[int, int],
    seed: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Simulate frames of a circuit board [degC], (n, rows, columns) float32, rounded as in the real files.

    The board's layout belongs to the device; the hottest component is placed anew in each session. Its surroundings
    warm up with it, and no pixel is hotter than `hot`, (n,).
    """
    rows, columns = shape
    layout = np.random.default_rng([seed, 2, *item.device.encode()])
    base = np.full(shape, 37.2)
    y, x = np.mgrid[0:rows, 0:columns]
    base += 0.8 * np.sin(x / columns * np.pi + layout.uniform(0, 3)) + 0.5 * np.cos(y / rows * np.pi * 2)
    for _ in range(45):  # components
        row, column = layout.integers(0, rows - 4), layout.integers(0, columns - 4)
        tall, wide = layout.integers(3, max(rows // 6, 4)), layout.integers(3, max(columns // 6, 4))
        base[row : row + tall, column : column + wide] += layout.normal(0, 1.1)
    for _ in range(20):  # holes
        row, column = layout.integers(0, rows - 2), layout.integers(0, columns - 2)
        base[row : row + 2, column : column + 2] -= layout.uniform(2, 5)
    base = np.clip(base + rng.normal(0, 0.3), 31, 44.5)
    # the hottest component: wide or tall, under a fault sometimes a large block
    height, width = max(rows // 20, 1), max(round(columns * 14 / 160), 1)
    if rng.random() < 0.5:
        height, width = max(round(rows * 14 / 120), 1), max(round(columns * 6 / 160), 1)
    if item.mode is not None and rng.random() < 0.08:
        height, width = rows // 3, columns // 3
    top = int(rng.integers(rows // 10, rows - height - rows // 10))
    left = int(rng.integers(columns // 10, columns - width - columns // 10))
    distance = ((y - top - height / 2) / (rows * 0.2)) ** 2 + ((x - left - width / 2) / (columns * 0.2)) ** 2
    plume = np.exp(-distance / 2).astype(np.float32)
    component = np.zeros(shape, np.float32)
    component[top : top + height, left : left + width] = 1
    texture = 1 - 0.25 * rng.random(shape).astype(np.float32) * component  # a component is not evenly hot
    texture[top + height // 2, left + width // 2] = 1
    normal_hot = float(hot[: max(int((fraction < -0.1).sum()), 1)].mean())
    excess = np.maximum(hot - normal_hot, 0).astype(np.float32)
    frames = np.empty((item.seconds, rows, columns), np.float32)
    base32 = base.astype(np.float32)
    for t in range(item.seconds):
        frame = base32 + rng.standard_normal(shape, np.float32) * 0.25
        frame += (0.05 + 0.11 * plume) * excess[t]
        glow = (hot[t] - frame) * component * (texture if excess[t] > 2 else texture * 0.9 + 0.1)
        frame += np.maximum(glow, 0)
        frames[t] = np.minimum(frame, hot[t])
    return np.round(frames, 2)
