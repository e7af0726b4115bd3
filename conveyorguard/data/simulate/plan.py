"""Plans the simulated sessions: names, lengths, devices and fault modes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from conveyorguard.data.simulate.kinds import KINDS
from conveyorguard.errors import ConfigError

MOST_PER_DEVICE = 12  # recordings in the real set
# faults among the 112 and 14 AGV sessions of Training and Validation: severe frames / 30
AGV_FAULTS = {"T": 92, "V": 11}
OHT_NORMAL_SECONDS = 360  # OHT sessions with a fault are shorter


@dataclass(frozen=True)
class Plan:
    """A session to be simulated; `mode` names its fault mode, None without a fault."""

    name: str
    device: str
    kind: str
    seconds: int
    mode: str | None
    index: int

    @property
    def start(self) -> int:
        """Return the second of the day at which the session begins."""
        clock = self.name[-4:]
        return int(clock[:2]) * 3600 + int(clock[2:]) * 60


def plan(sessions: int, seed: int) -> list[Plan]:
    """Plan sessions with devices and kinds in turn and fault modes by quota.

    The first 341 have names and lengths of the real recordings, one of each device before a second of any.

    Raises:
        ConfigError: fewer than 1 session.
    """
    if sessions < 1:
        raise ConfigError(f"data.sessions={sessions}: at least 1 session is needed. Raise data.sessions.")
    rng = np.random.default_rng([seed, 0])
    taken: set[str] = set()
    drafts = sorted((_unused(name, taken), n, fault) for name, n, fault in _in_turns(_recordings(), sessions))
    plans: list[Plan] = []
    chosen: dict[int, str] = {}
    for kind, spec in KINDS.items():
        faulty = [i for i, (name, _, fault) in enumerate(drafts) if f"_{kind}_" in name and fault]
        quota = np.array([mode.quota for mode in spec.modes.values()], float)
        exact = quota / quota.sum() * len(faulty)
        counts = np.floor(exact).astype(int)
        for i in np.argsort(counts - exact)[: len(faulty) - counts.sum()]:
            counts[i] += 1
        modes = np.repeat(list(spec.modes), counts)
        chosen.update(zip(faulty, rng.permutation(modes), strict=True))
    for i, (name, seconds, _) in enumerate(drafts):
        device = name.split("_")[3]
        plans.append(Plan(name, device, device[:3], seconds, str(chosen[i]) if i in chosen else None, i))
    return plans


def _recordings() -> list[tuple[str, int, bool]]:
    """Return (archive stem, seconds, has a fault) of the 341 real recordings."""
    text = files("conveyorguard.data.simulate").joinpath("aihub_71802_recordings.csv").read_text(encoding="utf-8")
    rows = [(row["archive"], int(row["seconds"])) for row in csv.DictReader(io.StringIO(text))]
    rng = np.random.default_rng(71802)  # which AGV sessions have a fault is not known, only how many
    without = set()
    for part, faults in AGV_FAULTS.items():
        agv = [name for name, _ in rows if name.startswith(f"{part}S_agv")]
        without |= set(rng.choice(agv, len(agv) - faults, replace=False).tolist())
    return [(name, n, n < OHT_NORMAL_SECONDS if "_oht_" in name else name not in without) for name, n in rows]


def _in_turns(real: list[tuple[str, int, bool]], sessions: int) -> Iterator[tuple[str, int, bool]]:
    """Yield `sessions` recordings, one per device and turn; beyond 341 recordings repeat."""
    by_device: dict[str, list] = {}
    for row in real:
        by_device.setdefault(row[0].split("_")[3], []).append(row)
    numbers = [17, 15, 1, 18, 16, *range(2, 15)]
    devices = [f"{kind}{number:02d}" for number in numbers for kind in KINDS]
    for i, device in enumerate(devices):  # every seventh begins without a fault, so that small sets have such sessions
        fault_first = i % 7 != 4
        by_device[device].sort(key=lambda row: row[2] != fault_first)
    count = 0
    for turn in range(sessions):
        for device in devices:
            rows = by_device[device]
            if count == sessions:
                return
            if len(rows) <= turn < MOST_PER_DEVICE:
                continue  # no repeats until each real recording was yielded once
            yield rows[turn % len(rows)]
            count += 1


def _unused(name: str, taken: set[str]) -> str:
    """Return the name with its clock time moved on, by whole minutes, until it is not in `taken`; add it there."""
    head, clock = name[:-4], int(name[-4:-2]) * 60 + int(name[-2:])
    while name in taken:
        clock = (clock + 1) % 1440
        name = f"{head}{clock // 60:02d}{clock % 60:02d}"
    taken.add(name)
    return name
