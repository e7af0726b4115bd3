"""Reducing a session for the store: checked against the schema, repaired, frames reduced."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from conveyorguard.data.repair import repair_frames, repair_series
from conveyorguard.data.schema import THERMAL_STATISTICS, UNLABELLED, Schema, Thermal
from conveyorguard.data.session import Dropped, Recording, Session, Unreadable
from conveyorguard.data.store import ENVIRONMENT_REPAIRED, NO_ONSET, SENSORS_REPAIRED, THERMAL_REPAIRED
from conveyorguard.errors import DataError
from conveyorguard.system.text import without_path

CHUNK = 64  # frames that are reduced at a time


@dataclass
class ReducedSession:
    """A session as it goes into a store, or the reason why it does not.

    Attributes:
        columns: by the names of `column_types`; None if the session is unusable, or once they are written.
        rows: number of rows.
        labelled: whether it has states.
        dropped: rows that were left out.
        repaired: counts of repaired values and rows.
        first_repair: message about the first repaired row.
        failure: why the session is unusable.
        content: digest of the columns, once they are written.
    """

    name: str
    device: str = ""
    kind: str = ""
    columns: dict[str, np.ndarray] | None = None
    rows: int = 0
    labelled: bool = False
    period: float = 1.0
    start: datetime | None = None
    zone: str | None = None
    dropped: list[Dropped] = field(default_factory=list)
    repaired: Counter[str] = field(default_factory=Counter)
    first_repair: str | None = None
    notes: list[str] = field(default_factory=list)
    failure: Unreadable | None = None
    content: str = ""

    def problem(self, labels: bool = True) -> str | None:
        """Return the first problem of the session as a sentence; with `labels`, missing labels count as a problem."""
        if self.failure:
            return f"{self.name}: {self.failure.message}"
        if self.dropped:
            return f"{self.dropped[0].where}: {self.dropped[0].message}"
        if self.first_repair or self.labelled or not labels:
            return self.first_repair
        return f"{self.name}: expected labels (a label archive beside it, or states in its table), found none"


def reduce_session(item: Recording | Session, schema: Schema, strict: bool = False) -> ReducedSession:
    """Read, check, repair and reduce one session; an unusable one is returned with its `failure`.

    Args:
        strict: raise at the first defect instead.

    Raises:
        DataError: with `strict`, the first defect.
    """
    try:
        try:
            session = item.read() if isinstance(item, Recording) else item
        except OSError as error:  # files of this recording; the store is written elsewhere
            raise DataError(f"cannot be read: {without_path(error)}; check the file and the disk it is on") from error
        reduced = _reduce(session, schema)
    except DataError as error:
        if strict:
            raise DataError(f"data.strict=true: {item.name}: {error}") from error
        return ReducedSession(item.name, failure=Unreadable(item.name, "unreadable", str(error)))
    if strict and (problem := reduced.problem()):
        raise DataError(f"data.strict=true: {problem}")
    return reduced


def _reduce(session: Session, schema: Schema) -> ReducedSession:
    _check_shapes(session, schema)
    keep, dropped = _in_order(session)
    quality = np.zeros(len(session.time), np.uint8)
    columns: dict[str, np.ndarray] = {}
    pixels_repaired = 0
    if schema.thermal and len(session.time):
        columns, usable, pixels = _reduce_thermal(session, schema.thermal)
        quality[pixels > 0] |= THERMAL_REPAIRED
        pixels_repaired = int(pixels.sum())
        keep &= usable
        dropped += [_bad_frame(session, schema.thermal, i) for i in np.flatnonzero(~usable).tolist()]
    if not keep.any():
        first = f" ({dropped[0].where}: {dropped[0].message})" if dropped else ""
        raise DataError(f"no usable frame{first}")
    tick = session.time[keep].astype(np.int64)
    every = bool(keep.all())  # no copy of a long recording
    sensors, bad_sensors = repair_series(session.sensors if every else session.sensors[keep])
    environment, bad_environment = repair_series(session.environment if every else session.environment[keep])
    quality = quality[keep]
    quality[bad_sensors.any(axis=1)] |= SENSORS_REPAIRED
    labelled = session.state is not None
    if labelled:  # an unlabelled session has no environment to repair: it comes with the labels
        quality[bad_environment.any(axis=1)] |= ENVIRONMENT_REPAIRED
    repaired = {
        "sensor_values": int(bad_sensors.sum()),
        "pixels": pixels_repaired,
        "environment_values": int(bad_environment.sum()) if labelled else 0,
        "seconds": int(np.count_nonzero(quality)),
    }
    columns = {name: values[keep] for name, values in columns.items()}
    columns |= {"tick": tick, "quality": quality, "sensors": sensors, "environment": environment}
    return ReducedSession(
        session.name,
        session.device,
        session.kind,
        columns | _state_columns(session, keep, tick, len(schema.states)),
        len(tick),
        labelled,
        session.period,
        session.start,
        session.zone,
        dropped,
        +Counter(repaired),
        _first_repair(session, schema, keep, quality),
        session.notes,
    )


def _check_shapes(session: Session, schema: Schema) -> None:
    count = len(session.time)
    for what, array, width in (
        ("sensors", session.sensors, len(schema.channels)),
        ("environment", session.environment, len(schema.environment)),
    ):
        if np.shape(array) != (count, width):
            raise DataError(f"{what} must be of shape {(count, width)}, the reader gave {np.shape(array)}")
    if schema.thermal and count and (session.thermal is None or len(session.thermal) != count):
        number = "no" if session.thermal is None else "too few"
        raise DataError(f"the schema has a camera, the reader gave {number} frames")


def _in_order(session: Session) -> tuple[np.ndarray, list[Dropped]]:
    """Return (n,) True at rows that are later than the row before them, and all rows left out so far."""
    if not len(session.time):
        return np.zeros(0, bool), list(session.dropped)
    keep = np.diff(session.time, prepend=session.time[0] - 1) > 0
    repeated = [
        Dropped(
            "duplicate_second",
            _where(session, "sensors", i),
            f"expected each period once and in order, found that period {session.time[i]} comes twice or out of order; "
            "remove the wrong row, or correct its time",
        )
        for i in np.flatnonzero(~keep).tolist()
    ]
    return keep, [*session.dropped, *repeated]


def _reduce_thermal(session: Session, camera: Thermal) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return the columns of the camera, (n,) whether a frame is usable, and (n,) its number of repaired pixels."""
    count = len(session.time)
    thermal = np.zeros((count, *camera.stored_shape), np.float16)
    statistics = np.zeros((count, len(THERMAL_STATISTICS)), np.float32)
    usable, pixels = np.zeros(count, bool), np.zeros(count, int)
    for start in range(0, count, CHUNK):
        rows = slice(start, min(start + CHUNK, count))
        frames, pixels[rows], usable[rows] = repair_frames(np.asarray(session.thermal[rows], np.float32), camera)
        thermal[rows], statistics[rows] = reduce_frames(frames, camera)
    return {"thermal": thermal, "thermal_statistics": statistics}, usable, pixels


def _bad_frame(session: Session, camera: Thermal, i: int) -> Dropped:
    message = (
        f"second {session.time[i]}: expected pixels within {camera.valid} degC (data.schema.thermal.valid), found most "
        "of them outside; look at the camera and its unit, or set valid to what is possible"
    )
    return Dropped("bad_frame", _where(session, "thermal", i), message)


def _state_columns(session: Session, keep: np.ndarray, tick: np.ndarray, states: int) -> dict[str, np.ndarray]:
    """Return state, ticks to the end and ticks since the onset of the rows that are kept."""
    state = np.full(len(tick), UNLABELLED) if session.state is None else session.state[keep]
    if session.state is not None and not np.isin(state, range(states)).all():
        raise DataError(f"states must be 0..{states - 1}, the reader gave {sorted(set(state.tolist()))}")
    worn = np.flatnonzero(state > 0)
    return {
        "state": state.astype(np.int8),
        "ticks_to_end": tick[-1] - tick,
        "ticks_since_onset": tick - tick[worn[0]] if len(worn) else np.full(len(tick), NO_ONSET),
    }


def _where(session: Session, part: str, second: int) -> str:
    """Return source file and row of "sensors", "environment" or "thermal" at a row."""
    return session.where(part, second) if session.where else session.name


def _first_repair(session: Session, schema: Schema, keep: np.ndarray, quality: np.ndarray) -> str | None:
    """Return a message about the first repaired row, for data.strict."""
    if not quality.any():
        return None
    first = np.flatnonzero(quality)[0]
    row = np.flatnonzero(keep)[first]
    values = zip(
        [*schema.channels, *schema.environment],
        [*session.sensors[row], *session.environment[row]],
        strict=True,
    )
    bad = {name: value for name, value in values if not np.isfinite(value)}
    defects = [f"{name} = {value}" for name, value in bad.items()]
    part = "sensors" if any(name in schema.channels for name in bad) else "environment" if bad else "thermal"
    if quality[first] & THERMAL_REPAIRED and schema.thermal:
        defects.append(f"pixels outside {schema.thermal.valid} degC")
    return (
        f"{_where(session, part, int(row))}: second {session.time[row]}: expected numbers and possible temperatures, "
        f"found {', '.join(defects)}; correct the file, or have it repaired (data.strict=false)"
    )


# --- Frames --------------------------------------------------------------------------------------------------------


def reduce_frames(frames: np.ndarray, camera: Thermal) -> tuple[np.ndarray, np.ndarray]:
    """Reduce frames to the stored size, and compute their statistics at full resolution.

    `mean_max` keeps block mean and block maximum: a hot component covers few pixels, and its peak must survive.

    Args:
        frames: (n, rows, columns) float32, degC.

    Returns:
        (n, channels, stored rows, stored columns) and (n, 6) statistics in the order of `THERMAL_STATISTICS`.
    """
    n, rows, columns = frames.shape
    flat = frames.reshape(n, -1)
    hottest = flat.argmax(axis=1)
    mean = flat.mean(axis=1, dtype=np.float64)
    # the variance about a value near the mean, in one pass and without cancellation
    shifted = flat - mean.astype(np.float32)[:, None]
    variance = np.einsum("ij,ij->i", shifted, shifted) / flat.shape[1]
    statistics = np.stack(
        [
            flat[np.arange(n), hottest],
            _percentile(flat, 0.99),
            mean,
            np.sqrt(variance),
            hottest % columns,
            hottest // columns,
        ],
        axis=1,
    )
    if camera.reduce == "stride":
        return frames[:, None, :: camera.stride, :: camera.stride], statistics
    blocks = [_blocks(frames, camera.stored, operation) for operation in (np.add, np.maximum)]
    area = np.outer(_sizes(rows, camera.stored[0]), _sizes(columns, camera.stored[1])).astype(np.float32)
    return np.stack([blocks[0] / area, blocks[1]], axis=1), statistics


def _percentile(flat: np.ndarray, q: float) -> np.ndarray:
    """Return the percentile of each row, as `np.percentile` but faster."""
    position = q * (flat.shape[1] - 1)
    below = int(position)
    # partitioning at one rank is several times as fast as at two; the next value is the minimum of the rest
    ordered = np.partition(flat, below, axis=1)
    above = ordered[:, min(below + 1, flat.shape[1] - 1) :].min(axis=1)
    return ordered[:, below] + (position - below) * (above - ordered[:, below])


def _edges(size: int, parts: int) -> np.ndarray:
    return np.arange(parts) * size // parts


def _sizes(size: int, parts: int) -> np.ndarray:
    return np.diff(_edges(size, parts), append=size)


def _blocks(frames: np.ndarray, stored: tuple[int, int], operation: np.ufunc) -> np.ndarray:
    """Apply add or maximum over blocks; (n, rows, columns) to (n, *stored)."""
    for axis, parts in ((1, stored[0]), (2, stored[1])):
        size = frames.shape[axis]
        if size % parts:  # blocks differ by one in size
            frames = operation.reduceat(frames, _edges(size, parts), axis=axis)
            continue
        step = size // parts
        take = [slice(None)] * 3
        take[axis] = slice(0, None, step)
        reduced = frames[tuple(take)].copy()
        for offset in range(1, step):
            take[axis] = slice(offset, None, step)
            operation(reduced, frames[tuple(take)], out=reduced)
        frames = reduced
    return frames
