"""Reader of AI Hub #71802; only this package knows the format.

A session is two archives, one of sensor and thermal files (`TS_...`, `VS_...`) and one of labels (`TL_...`, `VL_...`),
each a zip or a folder of the same stem. A second is three files of the same stem: `.csv` (sensors), `.bin` (a .npy
stream) and `.json` (label and environment). Zips are inflated member by member in memory; nothing is unpacked, and the
root may be read-only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from conveyorguard.data.archive.containers import Archive, Unusable
from conveyorguard.data.archive.discover import (
    copies,
    find_archives,
    labels_alone,
    labels_next_door,
    locked,
    misnamed,
    no_session,
)
from conveyorguard.data.archive.frames import Defect, read_second
from conveyorguard.data.archive.names import ARCHIVE, INCOMPLETE, archive_stem, belongs, in_time_order, seconds_of_day
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Dropped, Recording, Session, Unreadable
from conveyorguard.errors import DataError


def sessions(root: str | Path, schema: Schema, incomplete: bool = False) -> Iterator[Recording | Unreadable]:
    """Find the sessions under `root`, at whatever level of the data set's folders it points.

    Args:
        incomplete: accept csv files that lack up to half of the channels; their values are NaN.

    Yields:
        For each source archive, sorted by name, a `Recording`, or an `Unreadable` with the reason; then an `Unreadable`
        for each copy, misnamed or unreadable path, and label archive without a source.

    Raises:
        DataError: `root` does not exist or holds no source archive.
    """
    top = Path(root)
    if not top.is_dir():
        raise DataError(f"data.root={root}: no such folder. Point it at your copy of the data set.")
    inventory = find_archives(top)
    if not inventory.keys("S"):
        raise DataError(no_session(top, inventory))
    without_source = labels_alone(top, inventory)
    if not inventory.keys("L"):  # the root may be the source folder, with the labels beside it
        inventory.archives |= labels_next_door(top)
    for part, role, rest in inventory.keys("S"):
        labels = inventory.archives.get((part, "L", rest))
        yield _recording(f"{part}S_{rest}", inventory.archives[part, role, rest], labels, schema, incomplete)
    yield from copies(top, inventory)
    yield from misnamed(top, inventory)
    yield from locked(top, inventory)
    yield from without_source


def _recording(
    name: str, source: Path, labels: Path | None, schema: Schema, incomplete: bool
) -> Recording | Unreadable:
    files = (source,) if labels is None else (source, labels)
    for path in files:
        stem = archive_stem(path.name)
        # a single part is the whole zip under the downloader's name; one of several cannot be read by itself
        if INCOMPLETE.search(path.name) and len(list(path.parent.glob(f"{stem}.zip.part*"))) > 1:
            message = f"{path.name} is one of several parts; join them in order into {stem}.zip"
            return Unreadable(name, "incomplete_download", message)
    return Recording(name, files, partial(read_session, name, source, labels, schema, incomplete))


def read_session(name: str, source: Path, labels: Path | None, schema: Schema, incomplete: bool = False) -> Session:
    """Read one session; defective seconds are left out and listed in `Session.dropped`.

    Args:
        incomplete: accept csv files that lack up to half of the channels; their values are NaN.

    Raises:
        DataError: the archive cannot be read, is of another recording, or holds no usable second.
    """
    match = ARCHIVE.match(name)
    assert match is not None
    with _open(source) as data, _open(labels) as tags:
        seconds, dropped = _seconds(data, tags, match.groupdict())
        frames = []
        for stem, time in in_time_order(sorted(seconds), seconds):
            try:
                frames.append((stem, time, *read_second(stem, data, tags, schema, incomplete)))
            except Defect as defect:
                dropped.append(defect.dropped)
    if not frames:
        raise DataError(f"{source.name}: no usable frame ({_why_empty(dropped, named=bool(seconds))})")
    stems, times, sensors, environment, thermal, state = zip(*frames, strict=True)
    return Session(
        name=name,
        device=match["device"],
        kind=match["device"].rstrip("0123456789"),
        time=np.array(times, np.int64),
        sensors=np.array(sensors, np.float32).reshape(len(times), -1),
        environment=np.array(environment, np.float32).reshape(len(times), -1),
        thermal=np.stack(thermal) if schema.thermal else None,
        state=np.array(state, np.int64) if labels is not None else None,
        dropped=dropped,
        where=partial(_where, source.name, tags.name, stems),
    )


def _seconds(data: Archive, tags: Archive, recording: dict[str, str]) -> tuple[dict[str, int], list[Dropped]]:
    """Return the second of the day of each stem of a recording, and the files left out for their names.

    Args:
        recording: the groups of `ARCHIVE` in the archive's name.

    Raises:
        DataError: the frames or the labels are of another recording.
    """
    seconds, dropped = seconds_of_day(data)
    device = recording["device"]
    days = Counter(stem.split("_")[1] for stem in seconds if stem.startswith(f"{device}_"))
    if seconds and not days:
        others = ", ".join(sorted({stem.rsplit("_", 1)[0] for stem in seconds})[:3])
        raise DataError(
            f"{data.name}: expected frames of {device}_{recording['day']}, found only frames of {others}, such as "
            f"{_member(min(seconds), data)}; rename it and its labels after that recording, or download it again"
        )
    if tags.exists:  # a second of which only the label is left counts as one defect
        labelled, misnamed_labels = seconds_of_day(tags)
        if seconds and labelled and not seconds.keys() & labelled.keys():
            raise DataError(
                f"{tags.name}: its frames match none of {data.name} (first {min(labelled)} and {min(seconds)}): "
                "labels of another recording; download the label archive again"
            )
        seconds, dropped = {**seconds, **labelled}, dropped + misnamed_labels
    if 2 * sum(belongs(stem, seconds[stem], recording) for stem in seconds) < days.total():
        recording = {**recording, "day": days.most_common(1)[0][0]}  # the day in the archive's name is wrong
    return seconds, dropped + _leave_out_others(seconds, recording, data, tags)


def _leave_out_others(
    seconds: dict[str, int], recording: dict[str, str], data: Archive, tags: Archive
) -> list[Dropped]:
    """Remove the frames of other recordings from `seconds`, and return their entries for the manifest."""
    dropped = []
    for stem in [stem for stem in seconds if not belongs(stem, seconds[stem], recording)]:
        del seconds[stem]
        archive = data if any(f"{stem}.{suffix}" in data.files for suffix in ("csv", "bin")) else tags
        message = (
            f"expected frames of {recording['device']}_{recording['day']}, found another recording's; "
            "remove it, or move it to the right archive"
        )
        dropped.append(Dropped("other_recording", f"{archive.name}: {_member(stem, archive)}", message))
    return dropped


def _why_empty(dropped: list[Dropped], named: bool) -> str:
    """Return why no frame of an archive can be used; `named` tells whether some files have a frame's name."""
    if not dropped:
        return "it holds no frame files; download it again, or remove it"
    first = f"{dropped[0].where}: {dropped[0].message}"
    if named:
        return first
    return f"none of its {len(dropped)} frame files has a valid name, for example {first}"


def _where(source: str, labels: str, stems: tuple[str, ...], part: str, row: int) -> str:
    """Return the source file of a part of a row, as `Session.where` does."""
    suffix = {"sensors": "csv", "thermal": "bin", "environment": "json"}[part]
    return f"{labels if suffix == 'json' else source}: {stems[row]}.{suffix}"


def _open(path: Path | None) -> Archive:
    try:
        return Archive(path)
    except Unusable as error:
        assert path is not None
        raise DataError(f"{path.name}: cannot be read as an archive ({error}); download it again") from error


def _member(stem: str, archive: Archive) -> str:
    return next(name for suffix in ("csv", "bin", "json") if (name := f"{stem}.{suffix}") in archive.files)
