"""A first yaml for files that nobody has described yet, and what is odd about them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.data.draft.oddities import LOOKED_AT, look
from conveyorguard.data.draft.yaml import yaml_text
from conveyorguard.data.schema import FRAME_COLUMNS, Schema
from conveyorguard.data.session import Session
from conveyorguard.data.table import columns
from conveyorguard.data.table.camera import GREY, PICTURES, open_frames, open_picture
from conveyorguard.data.table.clock import clock as clock_of
from conveyorguard.data.table.columns import Table, part_of, words_of
from conveyorguard.data.table.discover import find_files
from conveyorguard.data.table.resample import COARSEST
from conveyorguard.errors import DataError
from conveyorguard.system.progress import track

STATES = 12  # a column of more values is no state
STORED = (30, 40)  # pixels; frames are kept at about this size

WORDS = {  # what columns are called, most telling first
    "time": r"^(date_?time|time_?stamp|time|zeit|시간|일시)|^(t|ts|sec|seconds?|elapsed.*)$|_(ts|time)$",
    "date": r"^(date|datum|날짜)$",
    "state": r"^(state|label|condition|status|target|class|health|fault|zustand|상태)",
    "session": r"^(session|recording|run|cycle|trial|sequence|episode|file|세션|실험|시험|회차)"
    r"(_?(id|no|name|nr)|\s?번호)?$",
    "device": r"^(device|machine|equipment|asset|vehicle|robot|station|press|pump|unit|maschine|설비|장비)"
    r"(_?(id|no|name|nr))?$",
    "kind": r"^(kind|type|model|device_?type|machine_?type|종류)$",
    "environment": r"ambient|environment|^env_|^ex_|outdoor|outside|room|weather|humidity|illumin"
    r"|습도|조도|주위|주변|외기|실내|환경",
}
UNITS = {  # by name, where no unit is written in brackets
    "degC": r"temp|ntc|therm|온도",
    "A": r"current|amp|^ct\d|전류",
    "V": r"volt|전압",
    "bar": r"pressure|압력",
    "%": r"humid|습도",
    "1/min": r"rpm|speed|속도",
    "mm/s": r"vib|진동",
    "l/min": r"flow|유량",
    "W": r"power|전력",
    "lx": r"illumin|조도",
    "dB": r"noise|sound",
    "ug/m3": r"^pm\d",
    "Nm": r"torque",
}
BRACKETED = re.compile(r"^(?P<name>.*?)[\s_]*[\[(](?P<unit>[^\])]{1,12})[\])]$")


@dataclass
class Draft:
    """The yaml of a data set, and sentences about what a person should look at."""

    text: str
    odd: list[str]


@dataclass
class _Files:
    """What is known of the files while the draft is made; `odd` collects what a person should see."""

    root: Path
    tables: dict[str, Table]
    encoding: str
    odd: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Columns of all tables."""
        first, *others = self.tables.values()
        return [str(name) for name in first.frame if name and all(name in table.frame for table in others)]

    def like(self, role: str) -> list[str]:
        return [
            name
            for name in self.names
            if re.search(WORDS[role], BRACKETED.sub(r"\g<name>", name).strip(), re.IGNORECASE)
        ]

    def values(self, name: str) -> list[str]:
        """Distinct words of a column in the order of their first appearance."""
        found: dict[str, None] = {}
        for table in self.tables.values():
            text = table.frame[name]
            found |= dict.fromkeys(words_of(text[~columns.is_missing(text)]))
        return list(found)

    def is_number(self, name: str) -> bool:
        """Whether most of what is written in a column is a number."""
        good = written = 0
        for table in self.tables.values():
            values, bad = columns.numbers(table, [name])
            good += np.isfinite(values).sum()
            written += np.isfinite(values).sum() + bad.sum()
        return written == 0 or bool(good > written / 2)

    def constant(self, name: str) -> bool:
        """Whether a column says one thing in each recording."""
        return all(table.frame[name].dropna().nunique() <= 1 for table in self.tables.values())


def draft(root: str | Path, name: str) -> Draft:
    """Describe files as well as can be guessed; the draft can be trained with as it is.

    Args:
        root: a folder of csv or parquet files, or one of them.
        name: of the data set.

    Raises:
        DataError: there is nothing to describe, or no column of numbers.
    """
    files = _look(Path(root))
    time, reader = _time(files)
    taken = [*time]
    session = next((n for n in files.like("session") if not files.constant(n) and n not in taken), None)
    session = session or _restarting(files, time, reader)
    if session:
        files.tables = {
            word: part_of(t, session, word)
            for t in files.tables.values()
            for word in dict.fromkeys(words_of(t.frame[session]))
        }
        taken.append(session)
    taken += [
        n for n in files.like("session") if files.constant(n) and n not in taken
    ]  # says what the file's name does
    state, states = _states(files, taken)
    taken += [state] if state else []
    device = next((n for n in files.like("device") if n not in taken and files.constant(n)), None)
    device = device or next((n for n in files.names if n not in taken and _tells_apart(files, n)), None)
    kind = next((n for n in files.like("kind") if n not in taken and files.constant(n)), None)
    taken += [n for n in (device, kind) if n]
    if not device and (pattern := _device_pattern([*files.tables])):
        reader["device_pattern"] = pattern
    if files.encoding != "utf-8":
        reader["encoding"] = files.encoding
    channels = _channels(files, [n for n in files.names if n not in taken])
    environment = {
        key: channels.pop(key) for key in list(channels) if _column(key, channels) in files.like("environment")
    }
    if not channels:
        raise DataError(f"{root}: expected columns of numbers beside {', '.join(taken) or 'nothing'}, found none")
    thermal = _camera(files, reader)
    roles = {
        "session": session,
        "device": device,
        "kind": kind,
        "time": time if len(time) > 1 else next(iter(time), None),
        "state": state,
    }
    schema = {
        "columns": {role: n for role, n in roles.items() if n or role in ("time", "state")},
        "channels": channels,
        "environment": environment,
        "thermal": thermal,
        "states": states,
    }
    found = look(files.root, Schema.from_config({**schema, "thermal": _plain(thermal)}), reader, files.odd)
    _choose_scaling(found, channels, environment)
    return Draft(yaml_text(name, Path(root).resolve(), schema, reader), files.odd)


def _look(root: Path) -> _Files:
    """Read some of the files."""
    paths, lost = find_files(root)
    chosen = [*paths][:: max(len(paths) // LOOKED_AT, 1)][:LOOKED_AT]
    files = _Files(root, {}, "utf-8")
    files.odd += [one.message for one in lost]
    if len(chosen) < len(paths):
        files.odd.append(f"{len(chosen)} of {len(paths)} files were looked at")
    for name in track(chosen, "reading", len(chosen)):
        try:
            files.tables[name] = columns.read(paths[name], files.encoding)
        except DataError as error:
            if files.tables or "expected text in utf-8" not in str(error):
                files.odd.append(f"cannot be read: {error}")
                continue
            files.encoding = _other_encoding(paths[name].read_bytes())
            files.odd.append(f"not UTF-8: read as {files.encoding}; look whether the names of the columns are right")
            files.tables[name] = columns.read(paths[name], files.encoding)
    if not files.tables:
        raise DataError("\n".join([f"{root}: no file can be read", *files.odd]))
    everywhere = Counter(str(name) for table in files.tables.values() for name in table.frame)
    files.odd += [
        f"column '{name}' is in {count} of {len(files.tables)} files only, so it is left out"
        for name, count in everywhere.items()
        if count < len(files.tables)
    ]
    return files


def _other_encoding(raw: bytes) -> str:
    """Hangul comes in pairs of high bytes; a degree sign or an umlaut alone."""
    return "cp949" if all(len(run) % 2 == 0 for run in re.findall(rb"[\x80-\xff]+", raw)) else "cp1252"


def _time(files: _Files) -> tuple[list[str], dict[str, Any]]:
    """The columns of the time, and how to read them."""
    by_name = files.like("time")
    day = [n for n in files.like("date") if not files.is_number(n)]
    candidates = [[d, t] for d in day for t in by_name if not files.is_number(t) and t != d]
    candidates += [[n] for n in by_name] + [[n] for n in day] + [[n] for n in files.names if n not in by_name]
    for names in candidates:
        reader: dict[str, Any] = {}
        text = words_of(next(iter(files.tables.values())).frame[names[0]])
        numeric = len(names) == 1 and files.is_number(names[0])
        if numeric and all(re.fullmatch(r"(19|20)\d{12}", word) for word in text[:100]):
            reader["time_format"] = "%Y%m%d%H%M%S"
        elif numeric and (unit := _unit_of_time(names[0], text)) != "s":
            reader["time_unit"] = unit
        try:
            clocks = [
                clock_of(t, names, reader.get("time_unit", "s"), reader.get("time_format"))
                for t in files.tables.values()
            ]
        except DataError:
            continue
        steps = np.concatenate([np.diff(clock[np.isfinite(clock)]) for clock in clocks])
        forward = len(steps) > 0 and np.mean(steps >= 0) > 0.9 and np.mean(steps > 0) > 0.05
        even = forward and np.mean(np.abs(steps / max(float(np.median(steps)), 1e-9) - 1) < 0.5) > 0.9
        if forward and (names[0] in (*by_name, *day) or even):
            interval = float(np.median(steps[steps > 0]))
            if interval > COARSEST:
                reader["period"] = round(interval, 3)
                files.odd.append(
                    f"a row every {interval:.3g} s: period is set to that, and what is called a second is one row"
                )
            return names, reader
    files.odd.append(
        "no column of times found: a row is taken for a second; if it is another time, set data.reader.period"
    )
    return [], {}


def _restarting(files: _Files, time: list[str], reader: dict[str, Any]) -> str | None:
    """The column, whatever it is called, whose every new value is a recording of its own: there the clock begins anew
    or jumps."""
    if not time or len(files.tables) > 1:
        return None
    (table,) = files.tables.values()
    clock = clock_of(table, time, reader.get("time_unit", "s"), reader.get("time_format"))
    steps = np.diff(clock)
    usual = float(np.nanmedian(np.abs(steps)))
    for name in files.names:
        words = words_of(table.frame[name])
        borders = np.flatnonzero(words[1:] != words[:-1])
        apart = 1 < len(set(words)) == len(borders) + 1 <= len(words) / 10
        if (
            name not in time
            and apart
            and np.mean((steps < 0) | (steps > 10 * usual), where=_at(borders, len(steps))) > 0.8
        ):
            files.odd.append(f"'{name}' is taken for the name of a recording: where it changes, the time begins anew")
            return name
    return None


def _at(places: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(count, bool)
    mask[places] = True
    return mask


def _tells_apart(files: _Files, name: str) -> bool:
    """Whether a column of words says one thing in each recording, and the same in several: so may a device."""
    values = files.values(name)
    return not files.is_number(name) and files.constant(name) and 1 < len(values) < len(files.tables)


def _unit_of_time(name: str, text: np.ndarray) -> str:
    largest = np.nanmax(np.abs(pd.to_numeric(pd.Series(text), errors="coerce").to_numpy(float)), initial=0)
    for limit, unit in ((1e17, "ns"), (1e14, "us"), (1e11, "ms")):  # since 1970, now
        if largest > limit:
            return unit
    written = re.search(r"[\s_\[(](ms|us|ns|min|h)[\])]?$", name)
    return written[1] if written else "s"


def _states(files: _Files, taken: list[str]) -> tuple[str | None, list[dict[str, str]]]:
    """The column of the states, and these: numbers in their order, words by when they appear in the recordings."""
    candidates = [n for n in files.like("state") if n not in taken and 2 <= len(files.values(n)) <= STATES]
    if not candidates:
        files.odd.append("no column of states found: columns.state and states are to be filled in before training")
        return None, [{"name": "normal"}, {"name": "worn"}]
    name = candidates[0]
    words = files.values(name)
    if all(re.fullmatch(r"-?\d+", word) for word in words):
        ordered = [{"name": f"state{word}", "label": word} for word in sorted(words, key=int)]
    else:
        places: dict[str, list[float]] = {word: [] for word in words}
        for table in files.tables.values():
            text = words_of(table.frame[name])
            for word in set(text) & set(places):
                places[word].append(float(np.flatnonzero(text == word).mean() / len(text)))
        ordered = [{"name": word} for word in sorted(words, key=lambda word: np.mean(places[word]))]
    files.odd.append(
        "states are in the order of their {}: {}; check that it is from normal to worst".format(
            "numbers" if "label" in ordered[0] else "appearance", ", ".join(s["name"] for s in ordered)
        )
    )
    return name, ordered


def _device_pattern(names: list[str]) -> str | None:
    """A pattern for the device in the names of recordings: a folder, or what stands before the first _ or -."""
    for pattern in (r"^([^/]+)/", r"^([^_]+)_", r"^([^-]+)-"):
        matches = [re.search(pattern, name) for name in names]
        if all(matches) and 1 < len({match[1] for match in matches if match}) < len(names):
            return pattern
    return None


def _channels(files: _Files, names: list[str]) -> dict[str, dict[str, str]]:
    """Columns of numbers as channels; what each is called in the files is kept where its name had to be changed."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        if not files.is_number(name):
            files.odd.append(
                f"column '{name}' holds words, so it is left out: {', '.join(files.values(name)[:4])}, ..."
            )
            continue
        bracketed = BRACKETED.match(name)
        key = re.sub(r"[^\w.]+", "_", bracketed["name"] if bracketed else name).strip("_") or f"channel{len(found) + 1}"
        while key in (*FRAME_COLUMNS, *found, "thermal"):
            key += "_value"
        unit = (
            bracketed["unit"]
            if bracketed
            else next((u for u, like in UNITS.items() if re.search(like, name.lower())), "-")
        )
        unit = re.sub(r"^(°\s?C|℃|C)$", "degC", unit)
        found[key] = {"unit": unit} | ({"column": name} if key != name else {})
    unknown = [key for key, channel in found.items() if channel["unit"] == "-"]
    if unknown:
        files.odd.append(
            f"unit not known, fill it in: {', '.join(unknown[:10])}" + (", ..." if len(unknown) > 10 else "")
        )
    return found


def _column(key: str, channels: dict[str, dict[str, str]]) -> str:
    return channels[key].get("column", key)


def _camera(files: _Files, reader: dict[str, Any]) -> dict[str, Any] | None:
    """The camera's block from the frames that are there, and the mapping to degC as far as it can be told."""
    folder = (files.root if files.root.is_dir() else files.root.parent) / "thermal"
    if not folder.is_dir():
        return None
    shapes, samples, whole = Counter[tuple[int, int]](), [], False
    for name in files.tables:
        for frames in _some_frames(folder, name, files.odd):
            shapes[frames.shape[1], frames.shape[2]] += 1
            whole = frames.dtype.kind in "iu"
            samples.append(np.asarray(frames[:: max(len(frames) // 10, 1)], np.float64).ravel())
    if not samples:
        files.odd.append("there is a folder thermal, but no frames of these recordings in it: thermal/<session>.npy")
        return None
    if len(shapes) > 1:
        files.odd.append(f"frames differ in size: {', '.join(f'{r} x {c} ({n})' for (r, c), n in shapes.items())}")
    pixels = np.concatenate(samples)
    pixels = pixels[np.isfinite(pixels)]
    middle = float(np.median(pixels))
    scale = next((s for s in (0.01, 0.1) if whole and 250 <= middle * s <= 450), None)
    if scale:
        reader |= {"thermal_scale": scale, "thermal_offset": -273.15}
        pixels = pixels * scale - 273.15
        files.odd.append(
            f"pixels look like kelvin in steps of {scale}: thermal_scale and thermal_offset make degC of them"
        )
    elif whole:
        files.odd.append(
            f"pixels are whole numbers, {pixels.min():g} to {pixels.max():g}: if they are not degC, set "
            "reader.thermal_scale and thermal_offset from the camera's range"
        )
    low, high = (float(q) for q in np.percentile(pixels, [1, 99]))
    (rows, cols), _ = shapes.most_common(1)[0]
    step = max(round(rows / STORED[0]), round(cols / STORED[1]), 1)
    span = max(high - low, 1.0)
    return {
        "shape": [rows, cols],
        "stored": [-(-rows // step), -(-cols // step)],
        "reduce": "${data.thermal.reduce}",
        "range": [int(np.floor(low)), int(np.floor(low) + np.ceil(span))],
        "valid": [min(-40, int(pixels.min() - span)), max(150, int(2 * pixels.max()))],
    }


def _some_frames(folder: Path, name: str, odd: list[str]) -> Iterable[np.ndarray]:
    """Frames of a recording, (n, rows, columns), as they are stored: all of an array, a few of many pictures."""
    path = folder / f"{name}.npy"
    try:
        if path.is_file():
            yield open_frames(path)
        elif (folder / name).is_dir():
            pictures = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in PICTURES)
            for path in pictures[:: max(len(pictures) // 5, 1)]:
                with open_picture(path) as picture:
                    mode, frame = picture.mode, np.asarray(picture)
                if mode not in GREY:
                    raise DataError(f"{path.name}: colours ({mode}), not one value a pixel")
                yield frame[None]
    except (DataError, OSError) as error:
        odd.append(f"frames of {name}: {error}")


def _plain(thermal: dict[str, Any] | None) -> dict[str, Any] | None:
    return {**thermal, "reduce": "mean_max"} if thermal else None


def _choose_scaling(found: list[Session], *groups: dict[str, dict[str, str]]) -> None:
    """log where positive values spread widely above their middle, as currents do."""
    for group, array in zip(groups, ("sensors", "environment"), strict=True):
        for i, channel in enumerate(group.values()):
            values = np.concatenate([getattr(s, array)[:, i] for s in found])
            values = values[np.isfinite(values)]
            # below 0.05 of its unit a logarithm is mostly noise
            if len(values) and values.min() > 0.05 and np.percentile(values, 99) > 4 * np.median(values):
                channel["scaling"] = "log"
