"""The files of the archives of `quirks.py`: values as formulas of the second `t`, and defects."""

import io
import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHAPE = (120, 160)
COLUMNS = ["NTC", "PM1.0", "PM2.5", "PM10", "CT1", "CT2", "CT3", "CT4"]
UNITS = dict.fromkeys(["PM10", "PM2.5", "PM1.0"], "ug/m3") | {"NTC": "degC"} | dict.fromkeys(COLUMNS[4:], "A")
BOARD = 35.0  # the board; on it a block of 6 x 14 pixels, in which one pixel is 0.5 degC hotter
TOP, LEFT = 50, 100  # first row and column of the block: rows 50-55, columns 100-113
PEAK = (52, 107)  # row and column of the hottest pixel


@dataclass
class Recording:
    """A session to be written: contents of its files by name; `names[t]` is the stem of second t."""

    names: list[str]
    source: dict[str, bytes]
    labels: dict[str, bytes] | None


def _sensors(t: int, ct4: float) -> dict[str, float]:
    """Return the values of second t: NTC and CT3 rise, CT4 identifies the session, the others are constant."""
    ntc, ct3 = round(20 + 0.1 * t, 2), round(0.5 + 0.01 * t, 2)
    return dict(zip(COLUMNS, [ntc, 8.0, 12.0, 20.0, 2.0, 1.1, ct3, ct4], strict=True))


def _csv(values: dict[str, object], columns: list[str] = COLUMNS, newline: str = "\n") -> bytes:
    """ "csv: header and one row" """
    cells = [v if isinstance(v, str) else f"{v:.2f}" for v in (values[c] for c in columns)]
    return (",".join(columns) + newline + ",".join(cells) + newline).encode()


def _image(block: float) -> np.ndarray:
    frame = np.full(SHAPE, BOARD)
    frame[TOP : TOP + 6, LEFT : LEFT + 14] = block
    frame[PEAK] = block + 0.5
    return frame


def _bin(frame: np.ndarray) -> bytes:
    """ "bin: a `.npy` stream, float64, shape (120, 160), degC, 153,728 bytes, no pickle." """
    np.save(stream := io.BytesIO(), np.round(frame, 2), allow_pickle=False)
    return stream.getvalue()


def _json(name: str, t: int, values: dict[str, float], block: float, state: int) -> bytes:
    """ "every block is a list of length 1"; "the json lists the PMs in another order"; state "a string"."""
    device, date, clock = name.split("_")
    manufacturer = {"oht": "A", "agv": "B" if device < "agv10" else "C"}[device[:3]]
    air = {"ex_temperature": (22.5, "degC"), "ex_humidity": (35.0, "%"), "ex_illuminance": (511.0 + t, "lx")}
    content = {
        "meta_info": [
            {
                "device_id": device,
                "device_manufacturer": manufacturer,
                "collection_date": f"{date[:2]}-{date[2:]}",
                "collection_time": f"{clock[:2]}:{clock[2:4]}:{clock[4:]}",
                "duration_time": "00:06:00",
                "cumulative_operating_day": "117",
                "equipment_history": "0",
                "location": "line 1",
                "filename": name,
                "img-id": name + ".bin",
            }
        ],
        "sensor_data": [{c: [{"value": values[c], "data_unit": u, "trend": "0"}] for c, u in UNITS.items()}],
        "ir_data": [{"temp_max": [{"value_TGmx": block + 0.5, "X_Tmax": PEAK[1], "Y_Tmax": PEAK[0]}]}],
        "annotations": [{"tagging": [{"state": str(state)}]}],
        "external_data": [{c: [{"value": v, "data_unit": u}] for c, (v, u) in air.items()}],
    }
    return json.dumps(content, ensure_ascii=False, indent=4).encode()


def record(stem: str, second: int, states: list[int], ct4: float, heats: bool = True) -> Recording:
    """Return a sound recording that starts at `second` of the minute in its archive name.

    "A frame is three files of one stem `{agv|oht}NN_MMDD_HHMMSS`". The date never advances:
    "`agv18_1026_2356` runs over midnight: its later stems start `agv18_1026_0000`".
    The block has 45 + t / 4 degC if it `heats`, else 60.
    """
    device, date, start = stem.split("_")[3:]
    recording = Recording([], {}, {})
    for t, state in enumerate(states):
        clock = (int(start[:2]) * 3600 + int(start[2:]) * 60 + second + t) % 86400
        name = f"{device}_{date}_{clock // 3600:02d}{clock // 60 % 60:02d}{clock % 60:02d}"
        block, values = (45 + t / 4 if heats else 60.0), _sensors(t, ct4)
        recording.names.append(name)
        recording.source[name + ".csv"] = _csv(values)
        recording.source[name + ".bin"] = _bin(_image(block))
        recording.labels[name + ".json"] = _json(name, t, values, block, state)
    return recording


class _Tripwire:
    """Unpickling it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def respell(recording: Recording, ct4: float, bom: bool) -> None:
    """ "Read by column name": write another order or, as on Windows, a byte order mark and CRLF."""
    order = ["CT4", "PM10", "NTC", "CT1", "PM1.0", "CT3", "PM2.5", "CT2"]
    for t, name in enumerate(recording.names):
        respelled = _csv(_sensors(t, ct4), newline="\r\n") if bom else _csv(_sensors(t, ct4), order)
        recording.source[name + ".csv"] = b"\xef\xbb\xbf" + respelled if bom else respelled


def break_frames(recording: Recording, ct4: float, tripwire: Path) -> None:
    """ "A session may lack its label archive, or a frame one of its three files." At 40, 42 .. 78."""
    source, labels, name = recording.source, recording.labels, recording.names
    np.save(objects := io.BytesIO(), np.full(SHAPE, _Tripwire(tripwire), dtype=object), allow_pickle=True)
    del labels[name[40] + ".json"]
    del source[name[42] + ".csv"]
    del source[name[44] + ".bin"]
    source[name[46] + ".bin"] = _bin(_image(60.0))[:100_000]
    source[name[48] + ".bin"] = bytes(range(256)) * 600
    source[name[50] + ".bin"] = _bin(np.full((160, 120), 40.0))  # the size of a sound file
    source[name[52] + ".bin"] = objects.getvalue()
    source[name[54] + ".bin"] = pickle.dumps(_Tripwire(tripwire))  # np.load tries to unpickle this, too
    source[name[56] + ".bin"] = b""
    source[name[58] + ".csv"] = _csv(_sensors(58, ct4), [c for c in COLUMNS if c != "CT2"])
    source[name[60] + ".csv"] = _csv(_sensors(60, ct4) | {"CT3": "abc"})
    source[name[62] + ".csv"] = b""
    source[name[64] + ".csv"] = (",".join(COLUMNS) + "\n").encode()  # a header without a row
    for t, annotations in {66: [{}], 68: [{"tagging": []}], 70: [{"tagging": [{}]}]}.items():
        content = json.loads(labels[name[t] + ".json"])
        labels[name[t] + ".json"] = json.dumps(content | {"annotations": annotations}).encode()
    labels[name[72] + ".json"] = _json(name[72], 72, _sensors(72, ct4), 50.0, 7)
    labels[name[74] + ".json"] = labels[name[74] + ".json"][:700]
    labels[name[76] + ".json"] = b""
    labels[name[78] + ".json"] = _json(name[78], 78, _sensors(78, ct4), 50.0, -1)


def damage_values(recording: Recording, ct4: float) -> None:
    """ "pixels from -110 to 172 degC; NaN and Inf have been reported."

    Pixels next to each other in space and in time are equal here, so that either kind of repair gives the same value.
    """
    for t, column, text in [(0, "CT4", "NaN"), (8, "NTC", "NaN"), (12, "PM10", "inf"), (16, "CT2", "-inf")]:
        recording.source[recording.names[t] + ".csv"] = _csv(_sensors(t, ct4) | {column: text})
    pixels = {
        20: {(10, 10): np.nan, (90, 30): np.nan},
        24: {(70, 20): np.inf},
        28: {(30, 140): 172.0},
        32: {(100, 5): -110.0},
        36: {(52, 103): np.nan},  # in the block, among pixels of 60.00
        40: {(0, 0): 172.0, (119, 159): -110.0},  # corners
        44: {(20, 30): 150.0, (80, 90): -20.0},  # the limits themselves are valid
    }
    for t, values in pixels.items():
        frame = _image(60.0)
        for pixel, value in values.items():
            frame[pixel] = value
        recording.source[recording.names[t] + ".bin"] = _bin(frame)


def stick(recording: Recording, ct4: float) -> None:
    """ "`agv16_0903_1314` looks corrupt (CT1 stuck at 2.0, NTC falling 48 -> 25)." It is read unchanged.

    "Thermal glitches: frame maxima of -13, 9.5, 11.5 degC in state 0": within -20..150, so that they stay.
    """
    for t, name in enumerate(recording.names):
        recording.source[name + ".csv"] = _csv(_sensors(t, ct4) | {"NTC": 48 - t / 2})
    for t, maximum in {10: -13.0, 20: 9.5, 30: 11.5}.items():
        frame = np.full(SHAPE, maximum - 1)
        frame[80, 40] = maximum
        recording.source[recording.names[t] + ".bin"] = _bin(frame)


def zip_of(files: dict[str, bytes]) -> bytes:
    """ "Zip members carry a leading slash (`/agv01_0901_081240.csv`)." Sorted by name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(files):
            archive.writestr("/" + name, files[name])
    return stream.getvalue()
