"""A statistical twin of AI Hub #71802, made from a seed.

The quoted statistics of the real set (public write-ups; means and sd per state, curves by tenths of the time from onset
to the end, quotas of fault modes, noise) are the constants below. 341 sessions carry the names and lengths of the real
recordings, so that the seed study's split gives its own counts. A model's figures on this set are not figures on AI
Hub.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session
from conveyorguard.errors import ConfigError

SEVERE_SECONDS = 30
MOST_OF_A_DEVICE = 12  # recordings in the real set
CURRENTS = ("CT1", "CT2", "CT3", "CT4")
CHANNELS = ("NTC", "PM1.0", "PM2.5", "PM10", *CURRENTS)
ENVIRONMENT = ("ex_temperature", "ex_humidity", "ex_illuminance")
TENTHS = np.arange(0.05, 1, 0.1)


@dataclass(frozen=True)
class Mode:
    """One fault mode: its quota in the real set and, by tenths of the time from onset to the end, what heats up.

    `start` is what a faulting current has grown to at onset, over half its normal level; it then doubles steadily.
    """

    quota: int
    start: dict[str, float]
    ntc: tuple[float, ...]
    hot_spot: tuple[float, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of device. Pairs are (sd within a session, sd between sessions) of normal operation."""

    onset: tuple[float, float, float, float]  # mean, sd, earliest, latest, in seconds
    peak: tuple[float, float]  # A, least and most of a faulting current at the end
    load: float  # part of the normal current that is left beside the fault
    normal: dict[str, float]
    sd: dict[str, tuple[float, float]]
    environment: tuple[tuple[float, float], ...]
    modes: dict[str, Mode]
    pm10: tuple[float, ...] = ()


AGV_NTC = (28.0, 32, 35, 38, 40, 43, 46, 50, 53, 55)
AGV_HOT = (54.0, 59, 64, 68, 72, 77, 82, 87, 92, 97)
KINDS = {
    "oht": Kind(
        onset=(110, 22, 42, 171),
        peak=(120, 170),
        load=0.5,
        normal={
            "NTC": 27.5,
            "PM1.0": 8,
            "PM2.5": 12,
            "PM10": 20,
            "CT1": 2.4,
            "CT2": 1.09,
            "CT3": 0.51,
            "CT4": 0.48,
            "hot": 46.3,
        },
        sd={
            "NTC": (0.30, 0.39),
            "PM1.0": (0.5, 0),
            "PM2.5": (0.6, 0),
            "PM10": (0.8, 0),
            "CT1": (0.25, 0.24),
            "CT2": (0.20, 0.15),
            "CT3": (0.09, 0.10),
            "CT4": (0.06, 0.09),
            "hot": (2.0, 2.6),
        },
        environment=((22.0, 23.0), (35.0, 36.0), (511.0, 530.0)),
        modes={
            "CT1": Mode(
                34,
                {"CT1": 2.0},
                (27.4, 27.6, 28.0, 28.5, 29.3, 30.6, 32.2, 34.1, 36.2, 38.5),
                (51, 53, 54, 57, 63, 68, 74, 80, 90, 101),
            ),
            "CT2": Mode(
                69,
                {"CT2": 1.13},
                (27.9, 28.5, 29.3, 30.4, 31.8, 33.7, 35.9, 38.8, 42.2, 46.0),
                (51, 54, 56, 59, 63, 70, 77, 83, 91, 99),
            ),
            "CT2+CT3": Mode(
                55,
                {"CT2": 0.75, "CT3": 0.70},
                (28.1, 28.7, 29.9, 31.6, 33.8, 36.4, 40.1, 44.7, 50.2, 56.5),
                (55, 58, 60, 63, 66, 69, 73, 76, 79, 83),
            ),
            "CT2+CT4": Mode(
                28,
                {"CT2": 0.75, "CT4": 0.60},
                (28.8, 30.0, 31.7, 33.8, 36.2, 39.2, 43.1, 47.6, 52.7, 58.6),
                (58, 64, 68, 73, 77, 80, 83, 86, 88, 90),
            ),
        },
    ),
    "agv": Kind(
        onset=(152, 19, 121, 193),
        peak=(186, 261),
        load=1.0,
        normal={
            "NTC": 25.2,
            "PM1.0": 20.7,
            "PM2.5": 25.3,
            "PM10": 46,
            "CT1": 1.9,
            "CT2": 75.6,
            "CT3": 50.4,
            "CT4": 19.6,
            "hot": 48.0,
        },
        sd={
            "NTC": (1.4, 4.7),
            "PM1.0": (0.6, 0),
            "PM2.5": (0.7, 0),
            "PM10": (3.2, 4.0),
            "CT1": (0.15, 0.08),
            "CT2": (1.0, 3.4),
            "CT3": (0.9, 3.4),
            "CT4": (0.04, 0.4),
            "hot": (2.0, 2.6),
        },
        environment=((25.0, 26.0), (27.0, 34.0), (151.0, 160.0)),
        modes={
            "CT1": Mode(7, {"CT1": 0.32}, AGV_NTC, AGV_HOT),
            "CT2": Mode(10, {"CT2": 0.32}, AGV_NTC, AGV_HOT),
            "CT2+CT3": Mode(11, {"CT2": 0.32, "CT3": 0.32}, AGV_NTC, AGV_HOT),
            "CT2+CT4": Mode(10, {"CT2": 0.32, "CT4": 0.32}, AGV_NTC, AGV_HOT),
        },
        pm10=(58, 63, 69, 73, 77, 80, 82, 83, 84, 85),
    ),
}
AGV_FAULTS = {
    "T": 92,
    "V": 11,
}  # of 112 and 14 sessions: severe frames / 30; an OHT session with a fault is the shorter one


@dataclass(frozen=True)
class Plan:
    """One session to be simulated. `mode` is None without a fault."""

    name: str
    device: str
    kind: str
    seconds: int
    mode: str | None
    index: int

    @property
    def start(self) -> int:
        """Seconds of the day at which it begins."""
        clock = self.name[-4:]
        return int(clock[:2]) * 3600 + int(clock[2:]) * 60


def plan(sessions: int, seed: int) -> list[Plan]:
    """Which sessions there are: devices and kinds evenly, fault modes by quota rather than by chance.

    Up to 341 they are real recordings' names and lengths, one of each device before the second of any.
    """
    if sessions < 1:
        raise ConfigError(f"data.sessions={sessions}: at least 1 is needed")
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
    """(archive stem, seconds, has a fault) of the 341 real recordings."""
    text = files("conveyorguard.data.simulate").joinpath("aihub_71802_recordings.csv").read_text(encoding="utf-8")
    rows = [(row["archive"], int(row["seconds"])) for row in csv.DictReader(io.StringIO(text))]
    rng = np.random.default_rng(71802)  # which AGV sessions have a fault is not known, only how many
    without = set()
    for part, faults in AGV_FAULTS.items():
        agv = [name for name, _ in rows if name.startswith(f"{part}S_agv")]
        without |= set(rng.choice(agv, len(agv) - faults, replace=False).tolist())
    return [(name, n, n < 360 if "_oht_" in name else name not in without) for name, n in rows]


def _in_turns(real: list[tuple[str, int, bool]], sessions: int) -> Iterator[tuple[str, int, bool]]:
    """The first `sessions` of all recordings, every device once before any twice, splits and kinds mixed early."""
    by_device: dict[str, list] = {}
    for row in real:
        by_device.setdefault(row[0].split("_")[3], []).append(row)
    numbers = [17, 15, 1, 18, 16, *range(2, 15)]
    devices = [f"{kind}{number:02d}" for number in numbers for kind in KINDS]
    for i, device in enumerate(devices):  # so that a small set has sessions without a fault, too
        rows = by_device[device]
        ordered = sorted(rows, key=lambda row: row[2]) if i % 7 == 4 else sorted(rows, key=lambda row: not row[2])
        by_device[device] = ordered
    made = 0
    for turn in range(sessions):
        for device in devices:
            rows = by_device[device]
            if made == sessions:
                return
            if len(rows) <= turn < MOST_OF_A_DEVICE:
                continue  # 341 comes out as exactly the real set
            yield rows[turn % len(rows)]
            made += 1


def _unused(name: str, taken: set[str]) -> str:
    """The name, its clock moved on by as many minutes as it takes to be new."""
    head, clock = name[:-4], int(name[-4:-2]) * 60 + int(name[-2:])
    while name in taken:
        clock = (clock + 1) % 1440
        name = f"{head}{clock // 60:02d}{clock % 60:02d}"
    taken.add(name)
    return name


def sessions(root: Path | None, schema: Schema, sessions: int, seed: int) -> Iterator[Recording]:
    """The reader of `data=simulated`: like any other, without files. `root` is not used."""
    missing = [name for name in schema.channels if name not in CHANNELS]
    missing += [name for name in schema.environment if name not in ENVIRONMENT]
    if missing:
        raise ConfigError(f"data=simulated cannot make the channels {', '.join(missing)}; it has {', '.join(CHANNELS)}")
    for item in plan(sessions, seed):
        yield Recording(item.name, (), partial(simulate, item, schema, seed))


def simulate(item: Plan, schema: Schema, seed: int) -> Session:
    """One session with all its arrays; values are rounded as the real files are."""
    rng = np.random.default_rng([seed, 1, item.index])
    spec = KINDS[item.kind]
    time = np.arange(item.seconds)
    onset, state = _course(item, spec, rng)
    # fraction of the time from onset to the end; negative before onset
    fraction = (time - onset) / (item.seconds - 1 - onset) if item.mode else np.full(item.seconds, -9.0)
    values = _sensors(item, spec, fraction, seed, rng)
    environment = np.empty((item.seconds, len(ENVIRONMENT)))
    for i, (low, high) in enumerate(spec.environment):
        level = rng.uniform(low, high)
        noise = rng.normal(0, (high - low) / 20, item.seconds)
        environment[:, i] = np.clip(level + noise, low, high).round(1)
    thermal = None
    if schema.thermal:
        hot = _hot_spot(item, spec, fraction, rng)
        thermal = _board(item, hot, fraction, schema.thermal.shape, seed, rng)
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
    """Onset and the state of every second: the last 30 s are severe, the halves before them minor and moderate."""
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


def _drift(n: int, sd: float, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Autoregressive noise of order one with the given sd and lag-1 correlation."""
    start = rng.normal(0, sd)
    steps = rng.normal(0, sd * np.sqrt(1 - correlation**2), n)
    return lfilter([1.0], [1.0, -correlation], steps, zi=[correlation * start])[0]


def _curve(fraction: np.ndarray, tenths: tuple[float, ...], normal: float, lead: float) -> np.ndarray:
    """Rise over normal: the quoted tenths, a short ramp of `lead` before onset, the last slope beyond the last
    tenth."""
    y = np.array(tenths, float) - normal
    first = max(y[0] - (y[1] - y[0]) / 2, 0)
    x = np.concatenate([[-lead, 0], TENTHS, [1]])
    return np.interp(fraction, x, np.concatenate([[0, first], y, [y[-1] + (y[-1] - y[-2]) / 2]]))


def _sensors(
    item: Plan, spec: Kind, fraction: np.ndarray, seed: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    n = item.seconds
    # what varies between sessions is half the device's own, half the day's
    own = np.random.default_rng([seed, 3, *item.device.encode()]).normal(0, np.sqrt(0.5), len(CHANNELS))
    day = rng.normal(0, np.sqrt(0.5), len(CHANNELS))
    level = {name: spec.normal[name] + spec.sd[name][1] * (own[i] + day[i]) for i, name in enumerate(CHANNELS)}
    values = {}
    heat, pace = np.exp(rng.normal(0, 0.32)) / 1.05, np.exp(rng.normal(0, 0.12))
    warped = np.sign(fraction) * np.abs(fraction) ** pace
    rise = _curve(warped, spec.modes[item.mode].ntc, spec.normal["NTC"], 0.05) * heat if item.mode else np.zeros(n)
    if item.kind == "agv":  # its NTC spreads no wider when hot than when normal
        rise = rise / heat * (1 + 0.25 * (heat - 1))
    values["NTC"] = level["NTC"] + rise + _drift(n, spec.sd["NTC"][0], 0.96, rng)
    if spec.pm10:
        rise = _curve(warped, spec.pm10, spec.normal["PM10"], 0.15) if item.mode else np.zeros(n)
        level_now = (
            level["PM10"] * (1 - np.clip(fraction, 0, 1) * 0.7) + spec.normal["PM10"] * np.clip(fraction, 0, 1) * 0.7
        )
        values["PM10"] = level_now + rise + _drift(n, spec.sd["PM10"][0], 0.7, rng)
        for name, part in (("PM2.5", 0.55), ("PM1.0", 0.45)):
            values[name] = part * values["PM10"] + _drift(n, spec.sd[name][0], 0.3, rng)
    else:
        for name in ("PM10", "PM2.5", "PM1.0"):
            values[name] = level[name] + rng.normal(0, spec.sd[name][0], n)
    for name in CURRENTS:
        normal = level[name] + _drift(n, spec.sd[name][0], -0.35, rng)
        if item.mode and name in spec.modes[item.mode].start:
            start = spec.modes[item.mode].start[name] * np.exp(rng.normal(0, 0.15))
            low, high = spec.peak  # the extremes of many sessions: two and a half sd about the middle
            peak = np.clip(rng.normal((low + high) / 2, (high - low) / 5), low, high)
            fault = start * np.exp(np.log(peak / start) * np.maximum(fraction, -0.3) + _drift(n, 0.05, 0.8, rng))
            normal = np.maximum(normal, spec.load * normal + fault)
        values[name] = normal
    for name in values:
        values[name] = np.maximum(values[name], 0.05).round(2)
    for name in ("PM10", "PM2.5", "PM1.0"):
        values[name] = values[name].round()
    return values


def _hot_spot(item: Plan, spec: Kind, fraction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The temperature of the hottest component, degC."""
    within, between = spec.sd["hot"]
    hot = spec.normal["hot"] + rng.normal(0, between) + _drift(item.seconds, within, 0.97, rng)
    if item.mode:
        heat, pace = np.exp(rng.normal(0, 0.17)), np.exp(rng.normal(0, 0.15))
        warped = np.sign(fraction) * np.abs(fraction) ** pace
        hot += _curve(warped, spec.modes[item.mode].hot_spot, spec.normal["hot"], 0.1) * heat
    return hot


def _board(
    item: Plan,
    hot: np.ndarray,
    fraction: np.ndarray,
    shape: tuple[int, int],
    seed: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A circuit board from above, (n, rows, columns) float32 in degC: fixed components, one of which heats up."""
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
    # the component that is hottest, and heats up further under a fault; placed for each session
    height, width = max(rows // 20, 1), max(round(columns * 14 / 160), 1)
    if rng.random() < 0.5:
        height, width = max(round(rows * 14 / 120), 1), max(round(columns * 6 / 160), 1)
    block = item.mode is not None and rng.random() < 0.08
    if block:
        height, width = rows // 3, columns // 3
    top = int(rng.integers(rows // 10, rows - height - rows // 10))
    left = int(rng.integers(columns // 10, columns - width - columns // 10))
    distance = ((y - top - height / 2) / (rows * 0.2)) ** 2 + ((x - left - width / 2) / (columns * 0.2)) ** 2
    plume = np.exp(-distance / 2).astype(np.float32)
    component = np.zeros(shape, np.float32)
    component[top : top + height, left : left + width] = 1
    own = 1 - 0.25 * rng.random(shape).astype(np.float32) * component  # a component is not evenly hot
    own[top + height // 2, left + width // 2] = 1
    normal_hot = float(hot[: max(int((fraction < -0.1).sum()), 1)].mean())
    excess = np.maximum(hot - normal_hot, 0).astype(np.float32)
    frames = np.empty((item.seconds, rows, columns), np.float32)
    base32 = base.astype(np.float32)
    for t in range(item.seconds):
        frame = base32 + rng.standard_normal(shape, np.float32) * 0.25
        frame += (0.05 + 0.11 * plume) * excess[t]
        glow = (hot[t] - frame) * component * (own if excess[t] > 2 else own * 0.9 + 0.1)
        frame += np.maximum(glow, 0)
        frames[t] = np.minimum(frame, hot[t])
    return np.round(frames, 2)
