"""Simulates sessions with the published statistics of AI Hub #71802, reproducibly from a seed.

The statistics (means and standard deviations per state, curves by tenths of the time from onset to the end, quotas of
fault modes, noise) are the constants in `kinds`. Up to 341 sessions carry names and lengths of the real recordings, so
that `split=session` has the counts of the seed study. Results on simulated data say nothing about the real set.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session
from conveyorguard.data.simulate.kinds import CHANNELS, ENVIRONMENT, KINDS, Kind
from conveyorguard.data.simulate.plan import Plan, plan
from conveyorguard.data.simulate.signals import sensors
from conveyorguard.data.simulate.thermal import board, hot_spot
from conveyorguard.errors import ConfigError

SEVERE_SECONDS = 30  # at the end of each session with a fault


def sessions(root: Path | None, schema: Schema, sessions: int, seed: int) -> Iterator[Recording]:
    """Simulate the sessions of `data=simulated`; a reader without files, so that `root` is not used.

    Raises:
        ConfigError: fewer than 1 session, or channels that the simulator does not have.
    """
    unknown = [name for name in schema.channels if name not in CHANNELS]
    unknown += [name for name in schema.environment if name not in ENVIRONMENT]
    if unknown:
        raise ConfigError(
            f"data.schema: data=simulated has no channels {', '.join(unknown)}. "
            f"Remove them; it has {', '.join([*CHANNELS, *ENVIRONMENT])}."
        )
    for item in plan(sessions, seed):
        yield Recording(item.name, (), partial(simulate, item, schema, seed))


def simulate(item: Plan, schema: Schema, seed: int) -> Session:
    """Simulate one session; values are rounded as in the real files."""
    rng = np.random.default_rng([seed, 1, item.index])
    spec = KINDS[item.kind]
    time = np.arange(item.seconds)
    onset, state = _course(item, spec, rng)
    # fraction of the time from onset to the end; negative before onset
    fraction = (time - onset) / (item.seconds - 1 - onset) if item.mode else np.full(item.seconds, -9.0)
    values = sensors(item, spec, fraction, seed, rng)
    environment = np.empty((item.seconds, len(ENVIRONMENT)))
    for i, (low, high) in enumerate(spec.environment):
        level = rng.uniform(low, high)
        noise = rng.normal(0, (high - low) / 20, item.seconds)
        environment[:, i] = np.clip(level + noise, low, high).round(1)
    thermal = None
    if schema.thermal:
        hot = hot_spot(item, spec, fraction, rng)
        thermal = board(item, hot, fraction, schema.thermal.shape, seed, rng)
    return Session(
        name=item.name,
        device=item.device,
        kind=item.kind,
        time=time,
        sensors=np.stack([values[name] for name in schema.channels], axis=1).astype(np.float32),
        environment=environment[:, [ENVIRONMENT.index(n) for n in schema.environment]].astype(np.float32),
        thermal=thermal,
        state=state,
    )


def _course(item: Plan, spec: Kind, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Return the onset [s] and the state of each second: minor from the onset, then moderate, severe for 30 s."""
    state = np.zeros(item.seconds, int)
    if item.mode is None:
        return np.inf, state
    mean, sd, earliest, latest = spec.onset
    scale = item.seconds / (301 if item.kind == "oht" else 361)
    onset = int(np.clip(rng.normal(mean, sd), earliest, latest) * scale)
    severe = item.seconds - SEVERE_SECONDS
    middle = onset + (severe - onset + int(rng.integers(2))) // 2
    state[onset:middle], state[middle:severe], state[severe:] = 1, 2, 3
    return onset, state
