"""The frame store: what a data set becomes, once, before anything is trained.

A folder with `frames.parquet` (one row a second), `thermal.npy` (memory-mapped float16) and `manifest.json`. It is
built session by session in parallel, written aside and renamed, so that whatever has the store's name is whole.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from conveyorguard.data.repair import reduce_frames, repair_frames, repair_series
from conveyorguard.data.schema import THERMAL_STATISTICS, UNLABELLED, Schema
from conveyorguard.data.session import Dropped, Recording, Session, Unreadable
from conveyorguard.errors import ConfigError, DataError
from conveyorguard.system.progress import track
from conveyorguard.system.text import without_path

FORMAT = 1  # of the store; raise it when a change of this package changes what is stored
CHUNK = 64  # frames reduced at a time
EXAMPLES = 20  # defects told in full per reason; all are counted
MANIFEST = ("counts", "sessions", "skipped_sessions", "unlabelled_sessions", "dropped_examples", "first_problem")
SENSORS_REPAIRED, ENVIRONMENT_REPAIRED, THERMAL_REPAIRED = 1, 2, 4


@dataclass
class Part:
    """One session as it goes into the store."""

    name: str
    table: pa.Table | None
    thermal: np.ndarray | None
    labelled: bool
    dropped: list[Dropped]
    repaired: Counter
    failure: Unreadable | None = None
    first_repair: str | None = None
    notes: list[str] = field(default_factory=list)


def prepare(
    reader: Any,
    schema: Schema,
    root: str | Path | None,
    cache: str | Path,
    name: str,
    strict: bool = False,
    jobs: int = -1,
) -> Store:
    """Build the frame store of a data set, or open the one that is there.

    Args:
        reader: `sessions(root, schema)`, yielding `Recording`, `Session` or `Unreadable`.
        root: where the recordings lie; it is only read.
        cache: folder of all stores.
        name: of the data set, the beginning of the store's name.
        strict: stop at the first defect instead of counting it.
        jobs: processes, as in joblib.

    Raises:
        DataError: nothing usable is found, or, when strict, the first defect.
    """
    recordings = list(reader(root, schema))
    key = _key(reader, recordings, root, schema)
    target = Path(cache) / f"{name}-{key[:12]}"
    if not (target / "manifest.json").exists():
        _build(target, recordings, schema, key, strict, jobs)
    store = Store(target)
    if strict and (problem := store.manifest["first_problem"]):
        raise DataError(f"data.strict=true: {problem}")
    return store


def _key(reader: Any, recordings: list, root: str | Path | None, schema: Schema) -> str:
    """Digest of everything that decides the content of the store, without reading the recordings."""
    digest = hashlib.sha256(f"{FORMAT} {json.dumps(schema.to_dict(), sort_keys=True)}".encode())
    function = getattr(reader, "func", reader)
    digest.update(Path(inspect.getfile(function)).read_bytes())
    digest.update(repr(sorted(getattr(reader, "keywords", {}).items())).encode())
    for item in track(recordings, "looking at files", len(recordings)):
        digest.update(f"{type(item).__name__} {item.name}".encode())
        for path in getattr(item, "files", ()):
            _stat(path, path.parent, digest)
    if root is not None and any(isinstance(item, Session) for item in recordings):
        _stat(Path(root), Path(root), digest)
    return digest.hexdigest()


def _stat(path: Path, base: Path, digest: Any) -> None:
    """Add names, sizes and times of a file, or of all files below a folder, links to folders not followed.

    What cannot be looked at adds nothing: it is told when the recording is read.
    """
    try:
        _stat_below(path, base, digest)
    except PermissionError:
        digest.update(b"locked")


def _stat_below(path: Path, base: Path, digest: Any) -> None:
    if path.is_dir():
        below = os.fsencode(path.relative_to(base).as_posix())
        for entry in sorted(os.scandir(path), key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                _stat(Path(entry.path), base, digest)
            elif entry.is_file():  # what scandir knows already: a set of 335,000 files is looked at at every start
                status = entry.stat()
                digest.update(b"%s/%s %d %d" % (below, os.fsencode(entry.name), status.st_size, status.st_mtime_ns))
    elif path.exists():
        status = path.stat()
        digest.update(b"%s %d %d" % (os.fsencode(path.relative_to(base)), status.st_size, status.st_mtime_ns))


def _build(target: Path, recordings: list, schema: Schema, key: str, strict: bool, jobs: int) -> None:
    try:
        _build_aside(target, recordings, schema, key, strict, jobs)
    except OSError as error:
        raise DataError(
            f"paths.cache={target.parent}: the frame store cannot be written ({without_path(error)}); what was "
            "there before is "
            "unchanged. Free space or set paths.cache (or CONVEYORGUARD_CACHE) to a folder that can be written to"
        ) from error


def _build_aside(target: Path, recordings: list, schema: Schema, key: str, strict: bool, jobs: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep_leftovers(target.parent)
    aside = target.parent / f".{target.name}.{socket.gethostname()}.{os.getpid()}-{_started(os.getpid())}"
    aside.mkdir()
    try:
        readable = [item for item in recordings if not isinstance(item, Unreadable)]
        lost = [Part(i.name, None, None, False, [], Counter(), i) for i in recordings if isinstance(i, Unreadable)]
        if strict and lost and lost[0].failure:
            raise DataError(f"data.strict=true: {lost[0].failure.message}")
        work = (joblib.delayed(read_part)(item, schema, strict) for item in readable)
        parts = joblib.Parallel(n_jobs=min(_processes(jobs), max(len(readable), 1)), return_as="generator")(work)
        _write(aside, lost, track(parts, "preparing", len(readable)), schema, key)
        try:
            aside.rename(target)
        except OSError:
            if not (target / "manifest.json").exists():
                raise
            # another process was first with the same store
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _processes(jobs: int) -> int:
    return jobs if jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + jobs)


def _started(pid: int) -> int:
    """When a process began, in hundredths of a second; 0 if there is none of that number."""
    try:
        return round(psutil.Process(pid).create_time() * 100)
    except psutil.NoSuchProcess:
        return 0


def _sweep_leftovers(cache: Path) -> None:
    """Remove what builds killed on this host have left behind. Process numbers come again, in a container at every
    start."""
    for path in cache.glob(f".*.{socket.gethostname()}.*-*"):
        pid, _, started = path.name.rsplit(".", 1)[-1].partition("-")
        if (
            pid.isdigit() and started.isdigit() and abs(_started(int(pid)) - int(started)) > 500
        ):  # the clock may be adjusted
            shutil.rmtree(path, ignore_errors=True)


def read_part(item: Recording | Session, schema: Schema, strict: bool) -> Part:
    """Read, repair and reduce one session."""
    try:
        try:
            session = item.read() if isinstance(item, Recording) else item
        except OSError as error:  # of this recording's own files; those of the store are written by `_write`
            raise DataError(f"cannot be read: {without_path(error)}; check the file and the disk it is on") from error
        part = _reduce(session, schema)
    except DataError as error:
        if strict:
            raise DataError(f"data.strict=true: {item.name}: {error}") from error
        return Part(item.name, None, None, False, [], Counter(), Unreadable(item.name, "unreadable", str(error)))
    problem = first_problem(part)
    if strict and problem:
        raise DataError(f"data.strict=true: {problem}")
    return part


def first_problem(part: Part, labels: bool = True) -> str | None:
    """What is wrong with a session, in a sentence; with `labels`, also that it has none."""
    if part.failure:
        return f"{part.name}: {part.failure.message}"
    if part.dropped:
        return f"{part.dropped[0].where}: {part.dropped[0].message}"
    if part.first_repair:
        return part.first_repair
    return (
        None
        if part.labelled or not labels
        else f"{part.name}: expected labels (a label archive beside it, or states in its table), found none"
    )


def _reduce(session: Session, schema: Schema) -> Part:
    """Check a session against the schema, repair it and reduce its frames."""
    count = len(session.time)
    for what, array, width in (
        ("sensors", session.sensors, len(schema.channels)),
        ("environment", session.environment, len(schema.environment)),
    ):
        if np.shape(array) != (count, width):
            raise DataError(f"{what} must be of shape {(count, width)}, the reader gave {np.shape(array)}")
    keep = np.diff(session.time, prepend=session.time[0] - 1) > 0 if count else np.zeros(0, bool)
    dropped = list(session.dropped)
    dropped += [
        Dropped(
            "duplicate_second",
            _where(session, "sensors", i),
            "expected each second once and in order, found that second "
            f"{session.time[i]} comes twice or out of order; remove the wrong one, or correct its time",
        )
        for i in np.flatnonzero(~keep)
    ]
    quality = np.zeros(count, np.int16)
    thermal, statistics = None, np.full((count, len(THERMAL_STATISTICS)), np.nan, np.float32)
    pixels_repaired = 0
    if schema.thermal and count:
        if session.thermal is None or len(session.thermal) != count:
            raise DataError(
                f"the schema has a camera, the reader gave {'no' if session.thermal is None else 'too few'} frames"
            )
        thermal = np.zeros((count, *schema.thermal.stored_shape), np.float16)
        for start in range(0, count, CHUNK):
            rows = slice(start, min(start + CHUNK, count))
            frames, repaired, usable = repair_frames(np.asarray(session.thermal[rows], np.float32), schema.thermal)
            thermal[rows], statistics[rows] = reduce_frames(frames, schema.thermal)
            quality[rows] |= np.where(repaired > 0, THERMAL_REPAIRED, 0).astype(np.int16)
            pixels_repaired += int(repaired.sum())
            keep[rows] &= usable
            dropped += [
                Dropped(
                    "bad_frame",
                    _where(session, "thermal", start + i),
                    f"second {session.time[start + i]}: expected pixels within "
                    f"{schema.thermal.valid} degC (data.schema.thermal.valid), found most of them outside; look at "
                    "the camera and its unit, "
                    "or set valid to what is possible",
                )
                for i in np.flatnonzero(~usable)
            ]
    if not keep.any():
        first = f" ({dropped[0].where}: {dropped[0].message})" if dropped else ""
        raise DataError(f"no usable frame{first}")
    time = session.time[keep].astype(np.int32)
    sensors, bad_sensors = repair_series(session.sensors[keep], time)
    environment, bad_environment = repair_series(session.environment[keep], time)
    quality = quality[keep]
    quality[bad_sensors.any(axis=1)] |= SENSORS_REPAIRED
    labelled = session.state is not None
    if labelled:  # an unlabelled session has no environment to repair: it comes with the labels
        quality[bad_environment.any(axis=1)] |= ENVIRONMENT_REPAIRED
    state = np.full(len(time), UNLABELLED) if session.state is None else session.state[keep]
    if labelled and not np.isin(state, range(len(schema.states))).all():
        raise DataError(f"states must be 0..{len(schema.states) - 1}, the reader gave {sorted(set(state.tolist()))}")
    counts = {
        "sensor_values": int(bad_sensors.sum()),
        "pixels": pixels_repaired,
        "environment_values": int(bad_environment.sum()) if labelled else 0,
        "seconds": int(np.count_nonzero(quality)),
    }
    worn = np.flatnonzero(state > 0)
    onset = time[worn[0]] if len(worn) else np.nan
    columns: dict[str, Any] = {
        "session": pa.array([session.name] * len(time)).dictionary_encode(),
        "device": pa.array([session.device] * len(time)).dictionary_encode(),
        "kind": pa.array([session.kind] * len(time)).dictionary_encode(),
        "time": time,
        "state": state.astype(np.int8),
        "seconds_to_end": (time[-1] - time).astype(np.int32),
        "seconds_since_onset": (time - onset).astype(np.float32),
        "quality": quality.astype(np.int8),
        **{name: sensors[:, i] for i, name in enumerate(schema.channels)},
        **{name: environment[:, i] for i, name in enumerate(schema.environment)},
        **{f"thermal_{name}": statistics[keep][:, i] for i, name in enumerate(THERMAL_STATISTICS)},
    }
    kept = None if thermal is None else thermal[keep]
    return Part(
        session.name,
        pa.table(columns),
        kept,
        labelled,
        dropped,
        +Counter(counts),
        first_repair=_first_repair(session, schema, keep, quality),
        notes=session.notes,
    )


def _where(session: Session, what: str, second: int | np.integer) -> str:
    """Where 'sensors', 'environment' or 'thermal' of a second, by its index, come from."""
    return session.where(what, int(second)) if session.where else session.name


def _first_repair(session: Session, schema: Schema, keep: np.ndarray, quality: np.ndarray) -> str | None:
    """What was repaired first, for data.strict."""
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
    found = [f"{name} = {value}" for name, value in bad.items()]
    what = "sensors" if any(name in schema.channels for name in bad) else "environment" if bad else "thermal"
    if quality[first] & THERMAL_REPAIRED and schema.thermal:
        found.append(f"pixels outside {schema.thermal.valid} degC")
    return (
        f"{_where(session, what, row)}: second {session.time[row]}: expected numbers and possible temperatures, "
        f"found {', '.join(found)}; "
        "correct the file, or have it repaired from its neighbours (data.strict=false)"
    )


def _write(folder: Path, lost: list[Part], parts: Iterator[Part], schema: Schema, key: str) -> None:
    """Write the parts as they come; only one session is held at a time."""
    digest = hashlib.sha256()
    told: dict[str, list[Dropped]] = {}
    sessions, skipped, unlabelled, names = [], [], [], set()
    repairs: list[str] = []
    dropped_count, repaired_count, notes = Counter[str](), Counter[str](), Counter[str]()
    shape = schema.thermal.stored_shape if schema.thermal else None
    rows, writer, told_first = 0, None, None

    def everything() -> Iterator[Part]:
        yield from lost
        yield from parts

    with ExitStack() as stack:
        pixels = stack.enter_context((folder / "thermal.raw").open("wb"))
        for part in everything():
            if part.table is not None and part.name in names:
                why = "a session of this name is already there; give each its own name in data.reader"
                part.failure = Unreadable(part.name, "duplicate_session", why)
            told_first = told_first or first_problem(part)
            if part.failure or part.table is None:
                failure = part.failure or Unreadable(part.name, "unreadable", "nothing in it")
                skipped.append({"session": part.name, "reason": failure.reason, "message": failure.message})
                continue
            names.add(part.name)
            for defect in part.dropped:
                dropped_count[defect.reason] += 1
                told.setdefault(defect.reason, []).append(defect)
                del told[defect.reason][EXAMPLES:]
            repaired_count.update(part.repaired)
            repairs += [part.first_repair] if part.first_repair and len(repairs) < EXAMPLES else []
            notes.update(part.notes)
            if not part.labelled:
                unlabelled.append(part.name)
            writer = writer or stack.enter_context(pq.ParquetWriter(folder / "frames.parquet", part.table.schema))
            writer.write_table(part.table)
            for column in part.table.columns:
                digest.update(
                    str(column.to_pylist()).encode()
                    if pa.types.is_dictionary(column.type)
                    else column.to_numpy().tobytes()
                )
            if part.thermal is not None:
                pixels.write(part.thermal.tobytes())
                digest.update(part.thermal.tobytes())
            rows += part.table.num_rows
            sessions.append(
                {
                    "session": part.name,
                    "seconds": part.table.num_rows,
                    "dropped": len(part.dropped),
                    "repaired": part.repaired["seconds"],
                    "labelled": part.labelled,
                }
            )
        pixels.flush()
        os.fsync(pixels.fileno())
    if writer is None:
        raise DataError(
            "no session could be read:\n" + "\n".join(f"  {s['session']}: {s['message']}" for s in skipped[:EXAMPLES])
        )
    if shape:
        _as_npy(folder / "thermal.raw", folder / "thermal.npy", (rows, *shape))
    (folder / "thermal.raw").unlink()
    manifest = {
        "format": FORMAT,
        "key": key,
        "fingerprint": digest.hexdigest(),
        "schema": schema.to_dict(),
        "units": {name: c.unit for name, c in {**schema.channels, **schema.environment}.items()},
        "counts": {
            "sessions": len(sessions),
            "frames": rows,
            "labelled_sessions": len(sessions) - len(unlabelled),
            "dropped_frames": dict(dropped_count),
            "repaired": dict(repaired_count),
        },
        "sessions": sessions,
        "skipped_sessions": skipped,
        "unlabelled_sessions": unlabelled,
        "notes": dict(notes),
        "dropped_examples": {reason: [d._asdict() for d in items] for reason, items in told.items()},
        "repaired_examples": repairs,
        "first_problem": told_first,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")


def _as_npy(raw: Path, target: Path, shape: tuple[int, ...]) -> None:
    """Put the header of a .npy file before the pixels, whose number is known only now."""
    with target.open("wb") as out, raw.open("rb") as pixels:
        np.lib.format.write_array_header_2_0(out, {"descr": "<f2", "fortran_order": False, "shape": shape})
        shutil.copyfileobj(pixels, out, 1 << 22)
        out.flush()
        os.fsync(out.fileno())


class Store:
    """A frame store, opened: columns in memory, thermal frames memory-mapped."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self.manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
            self.schema = Schema.from_config(self.manifest["schema"])
            self.fingerprint: str = self.manifest["fingerprint"]
            missing = [key for key in MANIFEST if key not in self.manifest]
        except (OSError, ValueError, ConfigError) as error:
            raise self._no_store(str(error)) from error
        except (KeyError, TypeError, AttributeError) as error:
            raise self._no_store(f"manifest.json lacks what a store's has, {error}") from error
        if missing:
            raise self._no_store(f"manifest.json lacks {', '.join(missing)}")

    def _no_store(self, why: str) -> DataError:
        return DataError(f"{self.path}: not a frame store ({why}); delete the folder and run prepare again")

    def __getstate__(self) -> dict:
        return {
            "path": self.path,
            "manifest": self.manifest,
            "schema": self.schema,
            "fingerprint": self.fingerprint,
        }

    @cached_property
    def frames(self):
        """All rows of `frames.parquet` as a DataFrame; text columns are categories."""
        try:
            return pq.read_table(self.path / "frames.parquet").to_pandas()
        except (OSError, pa.ArrowException) as error:
            raise self._damaged("frames.parquet", error) from error

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(f"{self.path / name}: cannot be read ({error}); delete the folder and run prepare again")

    @cached_property
    def sensors(self) -> np.ndarray:
        """(N, C) float32."""
        return self.frames[list(self.schema.channels)].to_numpy(np.float32)

    @cached_property
    def environment(self) -> np.ndarray:
        """(N, E) float32."""
        return self.frames[list(self.schema.environment)].to_numpy(np.float32)

    @cached_property
    def thermal_statistics(self) -> np.ndarray:
        """(N, 6) float32, of the full-resolution frames."""
        return self.frames[[f"thermal_{name}" for name in THERMAL_STATISTICS]].to_numpy(np.float32)

    @cached_property
    def thermal(self) -> np.ndarray | None:
        """(N, channels, rows, columns) float16, memory-mapped; None without a camera."""
        if not self.schema.thermal:
            return None
        try:
            return np.load(self.path / "thermal.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged("thermal.npy", error) from error

    def summary(self) -> str:
        """A few lines that tell what the store holds and what was left out, and why."""
        counts = self.manifest["counts"]
        lines = [f"{counts['sessions']} sessions, {counts['frames']:,} seconds (fingerprint {self.fingerprint[:12]})"]
        if counts["dropped_frames"]:
            lines.append(
                "dropped seconds: " + ", ".join(f"{n} {reason}" for reason, n in counts["dropped_frames"].items())
            )
        if counts["repaired"]:
            lines.append("repaired: " + ", ".join(f"{n} {reason}" for reason, n in counts["repaired"].items()))
        lines += [f"{note}: {count} sessions" for note, count in self.manifest.get("notes", {}).items()]
        if self.manifest["unlabelled_sessions"]:
            lines.append(f"unlabelled, not trained on: {_some(self.manifest['unlabelled_sessions'])}")
        for skip in self.manifest["skipped_sessions"][:EXAMPLES]:
            lines.append(f"skipped session {skip['session']}: {skip['reason']}: {skip['message']}")
        return "\n".join(lines)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
