"""Small archives in the layout of AI Hub #71802 with every quirk of it, and what a reader must find in them.

Written from the text of `dataset.md` alone (sentences quoted below are from there); shares no code with the
package. The values written are simple formulas of the second `t`; what is expected stands as literals.

    expected = write(tmp_path / "set", "zip")      # or "folder"; garbled=True for mojibake folder names
    python tests/data/aihub_quirks.py OUT zip|folder [garbled]     # the same from a shell, with a summary

Categories of a dropped frame (every bad frame here has exactly one defect):
  missing_csv, missing_bin, missing_json   the file is not there
  bad_csv    a column lacks, a cell is no number, or there is no row
  bad_bin    truncated, empty, garbage, another shape than (120, 160), or a pickle (never to be unpickled)
  bad_json   cut off, no tagging or state, or a state outside 0..3
Categories of a skipped session:
  unreadable_archive   the source zip is cut off
  no_usable_frame      every frame of it was dropped

Times are whole seconds since the first frame of the recording, which is sound in every session. A second of
which no file at all exists is `absent`: a gap, but not a dropped frame.
"""

import io
import json
import pickle
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SHAPE = (120, 160)
COLUMNS = ["NTC", "PM1.0", "PM2.5", "PM10", "CT1", "CT2", "CT3", "CT4"]
UNITS = dict.fromkeys(["PM10", "PM2.5", "PM1.0"], "ug/m3") | {"NTC": "degC"} | dict.fromkeys(COLUMNS[4:], "A")
NAME = "67.제조현장 이송장치 열화 예지보전/3.개방데이터/1.데이터"
SOURCE, LABELS = "01.원천데이터", "02.라벨링데이터"
BOARD = 35.0  # the board; on it a block of 6 x 14 pixels, in which one pixel is 0.5 degC hotter
TOP, LEFT = 50, 100  # first row and column of the block: rows 50-55, columns 100-113
PEAK = (52, 107)  # row and column of the hottest pixel

CLEAN_OHT = "TS_oht_01_oht01_0827_1011"
CLEAN_AGV = "VS_agv_17_agv17_0905_1420"
MIDNIGHT = "VS_agv_18_agv18_1026_2356"
SWAPPED = "TS_oht_02_oht02_0828_0915"
BOM = "TS_oht_03_oht03_0829_1330"
UNLABELLED = "TS_agv_05_agv05_0910_0830"
DEFECTS = "TS_oht_07_oht07_0830_1102"
REPAIRS = "TS_oht_09_oht09_0831_1545"
STUCK = "TS_agv_16_agv16_0903_1314"
PART0 = "TS_oht_11_oht11_0902_1000"
GAP = "TS_agv_07_agv07_0915_0930"
TRUNCATED = "TS_oht_12_oht12_0904_0800"  # in zip mode only
HOPELESS = "TS_oht_13_oht13_0906_0900"


@dataclass
class SessionExpected:
    """What the reader must give for one session; sensors, environment and thermal are a selection."""

    seconds: int  # accepted
    states: dict[int, int]  # of every accepted second; empty where unlabelled
    windows: int  # of 30 frames, stride 10, none over a gap, counted from the start of each run of seconds
    sensors: dict[tuple[int, str], float]  # after repair
    environment: dict[tuple[int, str], float]
    thermal: dict[int, tuple[float, int, int, float]]  # maximum, its row, its column, mean; after repair
    labelled: bool = True
    dropped: dict[int, str] = field(default_factory=dict)  # second: category
    absent: tuple[int, ...] = ()
    repaired: frozenset[int] = frozenset()  # exactly these seconds are flagged
    device: str = ""  # as "oht01"
    kind: str = ""  # "oht" or "agv"


@dataclass
class Expected:
    root: Path
    sessions: dict[str, SessionExpected]  # by full archive stem
    skipped: dict[str, str]  # full archive stem: category
    dropped: dict[str, int]  # frames by category, those of skipped sessions included
    dropped_in_skipped: dict[str, dict[str, int]]  # the share of it in skipped sessions
    tripwire: Path  # exists only if somebody unpickled a bin


@dataclass
class Recording:
    """One session being written: the bytes of its files by name; `names[t]` is the stem of second t."""

    names: list[str]
    source: dict[str, bytes]
    labels: dict[str, bytes] | None


def _sensors(t: int, ct4: float) -> dict[str, float]:
    """NTC and CT3 rise with time; CT4 tells the sessions apart; the rest is constant."""
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
    maker = {"oht": "A", "agv": "B" if device < "agv10" else "C"}[device[:3]]
    air = {"ex_temperature": (22.5, "degC"), "ex_humidity": (35.0, "%"), "ex_illuminance": (511.0 + t, "lx")}
    content = {
        "meta_info": [
            {
                "device_id": device,
                "device_manufacturer": maker,
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


def _states(*runs: tuple[int, int]) -> list[int]:
    """(state, seconds), ... written out, one entry a second."""
    return [state for state, seconds in runs for _ in range(seconds)]


def _record(stem: str, second: int, states: list[int], ct4: float, heats: bool = True) -> Recording:
    """A sound recording that starts at `second` of the minute in its archive name.

    "A frame is three files of one stem `{agv|oht}NN_MMDD_HHMMSS`". The date never advances:
    "`agv18_1026_2356` runs over midnight: its later stems start `agv18_1026_0000`".
    The block has 45 + t / 4 degC, or 60 throughout.
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
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def _respell(recording: Recording, ct4: float, bom: bool) -> None:
    """ "Read by column name": other order. Or (not in dataset.md) byte order mark and CRLF, as of Windows."""
    order = ["CT4", "PM10", "NTC", "CT1", "PM1.0", "CT3", "PM2.5", "CT2"]
    for t, name in enumerate(recording.names):
        odd = _csv(_sensors(t, ct4), newline="\r\n") if bom else _csv(_sensors(t, ct4), order)
        recording.source[name + ".csv"] = b"\xef\xbb\xbf" + odd if bom else odd


def _break_frames(recording: Recording, ct4: float, tripwire: Path) -> None:
    """ "A session may lack its label archive, or a frame one of its three files." At 40, 42 .. 78."""
    source, labels, name = recording.source, recording.labels, recording.names
    np.save(objects := io.BytesIO(), np.full(SHAPE, _Tripwire(tripwire), dtype=object), allow_pickle=True)
    del labels[name[40] + ".json"]
    del source[name[42] + ".csv"]
    del source[name[44] + ".bin"]
    source[name[46] + ".bin"] = _bin(_image(60.0))[:100_000]
    source[name[48] + ".bin"] = bytes(range(256)) * 600
    source[name[50] + ".bin"] = _bin(np.full((160, 120), 40.0))  # as many bytes as a sound one
    source[name[52] + ".bin"] = objects.getvalue()
    source[name[54] + ".bin"] = pickle.dumps(_Tripwire(tripwire))  # np.load tries this too
    source[name[56] + ".bin"] = b""
    source[name[58] + ".csv"] = _csv(_sensors(58, ct4), [c for c in COLUMNS if c != "CT2"])
    source[name[60] + ".csv"] = _csv(_sensors(60, ct4) | {"CT3": "abc"})
    source[name[62] + ".csv"] = b""
    source[name[64] + ".csv"] = (",".join(COLUMNS) + "\n").encode()  # the header and no row
    for t, annotations in {66: [{}], 68: [{"tagging": []}], 70: [{"tagging": [{}]}]}.items():
        content = json.loads(labels[name[t] + ".json"])
        labels[name[t] + ".json"] = json.dumps(content | {"annotations": annotations}).encode()
    labels[name[72] + ".json"] = _json(name[72], 72, _sensors(72, ct4), 50.0, 7)
    labels[name[74] + ".json"] = labels[name[74] + ".json"][:700]
    labels[name[76] + ".json"] = b""
    labels[name[78] + ".json"] = _json(name[78], 78, _sensors(78, ct4), 50.0, -1)


def _damage_values(recording: Recording, ct4: float) -> None:
    """ "pixels from -110 to 172 degC; NaN and Inf have been reported."

    Neighbours in space and in time say the same here, so either kind of repair gives the same value.
    """
    for t, column, text in [(0, "CT4", "NaN"), (8, "NTC", "NaN"), (12, "PM10", "inf"), (16, "CT2", "-inf")]:
        recording.source[recording.names[t] + ".csv"] = _csv(_sensors(t, ct4) | {column: text})
    pixels = {
        20: {(10, 10): np.nan, (90, 30): np.nan},
        24: {(70, 20): np.inf},
        28: {(30, 140): 172.0},
        32: {(100, 5): -110.0},
        36: {(52, 103): np.nan},  # in the block, whose neighbours have 60.00
        40: {(0, 0): 172.0, (119, 159): -110.0},  # corners
        44: {(20, 30): 150.0, (80, 90): -20.0},  # the limits themselves: possible, not to be touched
    }
    for t, values in pixels.items():
        frame = _image(60.0)
        for pixel, value in values.items():
            frame[pixel] = value
        recording.source[recording.names[t] + ".bin"] = _bin(frame)


def _stick(recording: Recording, ct4: float) -> None:
    """ "`agv16_0903_1314` looks corrupt (CT1 stuck at 2.0, NTC falling 48 -> 25)." It is accepted as it is.

    "Thermal glitches: frame maxima of -13, 9.5, 11.5 degC in state 0": inside -20..150, so they stay too.
    """
    for t, name in enumerate(recording.names):
        recording.source[name + ".csv"] = _csv(_sensors(t, ct4) | {"NTC": 48 - t / 2})
    for t, maximum in {10: -13.0, 20: 9.5, 30: 11.5}.items():
        frame = np.full(SHAPE, maximum - 1)
        frame[80, 40] = maximum
        recording.source[recording.names[t] + ".bin"] = _bin(frame)


def _zip(files: dict[str, bytes]) -> bytes:
    """ "Zip members carry a leading slash (`/agv01_0901_081240.csv`)." Sorted by name, as a packer would."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(files):
            archive.writestr("/" + name, files[name])
    return stream.getvalue()


def _save(folder: Path, stem: str, files: dict[str, bytes], archive: str) -> None:
    """ "Users hold it as these zips, or unpacked into folders of the same stem."

    "Downloads can arrive as `*.zip.part0`": one part, the whole zip; it lies like that among folders too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if stem == PART0:
        (folder / f"{stem}.zip.part0").write_bytes(_zip(files))
    elif archive == "zip":
        data = _zip(files)
        (folder / f"{stem}.zip").write_bytes(data[: len(data) * 6 // 10] if stem == TRUNCATED else data)
    else:
        inner = folder / stem / stem if stem == SWAPPED else folder / stem  # unpacked twice
        inner.mkdir(parents=True)
        for name, data in files.items():
            (inner / name).write_bytes(data)
        (folder / stem / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def write(root: Path, archive: str, garbled: bool = False) -> Expected:
    """Write the whole set, as "zip" or "folder", below `root` (made if need be); say what a reader must find.

    "Tools that unpack with the wrong code page leave the Korean folder names garbled": `garbled`.
    """
    names = (NAME, SOURCE, LABELS)
    data, source, labels = (n.encode("cp949").decode("cp437") for n in names) if garbled else names
    data = root / data
    tripwire = root.parent / f"{root.name}.unpickled"

    recordings = {
        CLEAN_OHT: _record(CLEAN_OHT, 5, _states((0, 15), (1, 8), (2, 7), (3, 30)), 0.41),
        CLEAN_AGV: _record(CLEAN_AGV, 0, _states((0, 20), (1, 10), (2, 10), (3, 30)), 0.42),
        MIDNIGHT: _record(MIDNIGHT, 50, _states((0, 150), (1, 15), (2, 15), (3, 30)), 0.43),
        SWAPPED: _record(SWAPPED, 33, _states((0, 40)), 0.44, heats=False),
        BOM: _record(BOM, 12, _states((0, 40)), 0.45, heats=False),
        UNLABELLED: _record(UNLABELLED, 20, _states((0, 45)), 0.46),
        DEFECTS: _record(DEFECTS, 59, _states((0, 60), (1, 20), (2, 20), (3, 30)), 0.47, heats=False),
        REPAIRS: _record(REPAIRS, 8, _states((0, 60)), 0.48, heats=False),
        STUCK: _record(STUCK, 27, _states((0, 47)), 0.49, heats=False),
        PART0: _record(PART0, 44, _states((0, 5), (1, 3), (2, 3), (3, 30)), 0.50),
        GAP: _record(GAP, 15, _states((0, 35), (1, 1), (2, 2), (3, 32)), 0.51),
        TRUNCATED: _record(TRUNCATED, 0, _states((0, 40)), 0.52, heats=False),
        HOPELESS: _record(HOPELESS, 0, _states((0, 10)), 0.53, heats=False),
    }
    _respell(recordings[SWAPPED], 0.44, bom=False)
    _respell(recordings[BOM], 0.45, bom=True)
    recordings[UNLABELLED].labels = None
    _break_frames(recordings[DEFECTS], 0.47, tripwire)
    _damage_values(recordings[REPAIRS], 0.48)
    _stick(recordings[STUCK], 0.49)
    for name in recordings[GAP].names[35:38]:  # against "One frame a second, no gaps"
        del recordings[GAP].source[name + ".csv"], recordings[GAP].source[name + ".bin"]
        del recordings[GAP].labels[name + ".json"]
    for name in recordings[HOPELESS].names:
        recordings[HOPELESS].source[name + ".bin"] = b"no array"
    if archive == "folder":
        del recordings[TRUNCATED]
    for stem, recording in recordings.items():
        part = data / ("Training" if stem.startswith("TS") else "Validation")
        _save(part / source, stem, recording.source, archive)
        if recording.labels is not None:
            _save(part / labels, stem[0] + "L" + stem[2:], recording.labels, archive)
    for folder in [root, data / "Training", data / "Training" / source, data / "Training" / labels]:
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "readme.txt").write_text("not data\n")
    return _expected(root, archive, tripwire)


def _heat(block: float) -> tuple[float, int, int, float]:
    """19,200 pixels of 35.00, but 84 of the block's temperature, of which one is 0.5 hotter."""
    return block + 0.5, 52, 107, 35 + (84 * (block - 35) + 0.5) / 19200


def _expected(root: Path, archive: str, tripwire: Path) -> Expected:
    """The hand-written answers. A run of n >= 30 seconds has (n - 30) // 10 + 1 windows, a shorter none."""
    same = {(0, "CT1"): 2.0, (3, "PM1.0"): 8.0, (3, "PM2.5"): 12.0, (3, "PM10"): 20.0, (3, "CT2"): 1.1}
    air = {(0, "ex_temperature"): 22.5, (7, "ex_humidity"): 35.0, (7, "ex_illuminance"): 518.0}
    late, zero = same | {(39, "NTC"): 23.9, (39, "CT3"): 0.89}, dict.fromkeys(range(40), 0)
    bad = {40: "missing_json", 42: "missing_csv", 44: "missing_bin"}
    bad |= dict.fromkeys([46, 48, 50, 52, 54, 56], "bad_bin") | dict.fromkeys([58, 60, 62, 64], "bad_csv")
    bad |= dict.fromkeys([66, 68, 70, 72, 74, 76, 78], "bad_json")
    defect_states = dict(enumerate(_states((0, 60), (1, 20), (2, 20), (3, 30))))
    whole = dict.fromkeys([0, 8, 20, 24, 28, 32, 36, 40], _heat(60.0))
    sessions = {  # seconds, states, windows, sensors, environment, thermal
        CLEAN_OHT: SessionExpected(  # 60 s: windows start at 0 10 20 30
            60,
            dict(enumerate(_states((0, 15), (1, 8), (2, 7), (3, 30)))),
            4,
            same | {(0, "NTC"): 20, (31, "NTC"): 23.1, (59, "NTC"): 25.9, (9, "CT3"): 0.59, (9, "CT4"): 0.41},
            air | {(59, "ex_illuminance"): 570.0},
            {0: _heat(45.0), 31: _heat(52.75), 59: _heat(59.75)},
        ),
        CLEAN_AGV: SessionExpected(  # 70 s: 0 10 20 30 40
            70,
            dict(enumerate(_states((0, 20), (1, 10), (2, 10), (3, 30)))),
            5,
            same | {(69, "NTC"): 26.9, (69, "CT3"): 1.19, (69, "CT4"): 0.42},
            air,
            {69: _heat(62.25)},
        ),
        # 23:56:50 to 00:00:19, 210 s: 0 10 .. 180. Second 190 is the first after midnight.
        MIDNIGHT: SessionExpected(
            210,
            dict(enumerate(_states((0, 150), (1, 15), (2, 15), (3, 30)))),
            19,
            same | {(0, "NTC"): 20, (189, "NTC"): 38.9, (190, "NTC"): 39, (209, "CT3"): 2.59},
            air | {(190, "ex_illuminance"): 701.0},
            {0: _heat(45.0), 100: _heat(70.0), 190: _heat(92.5)},
        ),
        SWAPPED: SessionExpected(40, zero, 2, late | {(39, "CT4"): 0.44}, air, {39: _heat(60.0)}),  # 0 10
        BOM: SessionExpected(40, zero, 2, late | {(39, "CT4"): 0.45}, air, {39: _heat(60.0)}),  # 0 10
        # 45 s: 0 10. No json, so no state and no environment; no frame is dropped for it.
        UNLABELLED: SessionExpected(45, {}, 2, same | {(9, "CT4"): 0.46}, {}, {8: _heat(47)}, labelled=False),
        # 130 s, 20 of them bad: 40 42 .. 78. Runs: 0..39 (40 s: 0 10, 2 windows), the 19 single seconds
        # 41 43 .. 77 (none), 79..129 (51 s: 79 89 99, 3 windows).
        DEFECTS: SessionExpected(
            110,
            {t: state for t, state in defect_states.items() if t not in bad},
            5,
            same | {(39, "NTC"): 23.9, (41, "NTC"): 24.1, (79, "NTC"): 27.9, (129, "NTC"): 32.9},
            air | {(41, "ex_illuminance"): 552.0},
            {41: _heat(60.0), 129: _heat(60.0)},
            dropped=bad,
        ),
        # 60 s: 0 10 20 30; what is repaired stays in. At 44 one pixel is 115 above the board, one 55 below.
        REPAIRS: SessionExpected(
            60,
            dict.fromkeys(range(60), 0),
            4,
            same | {(0, "CT4"): 0.48, (8, "NTC"): 20.8, (12, "PM10"): 20.0, (16, "CT2"): 1.1},
            air,
            whole | {44: (150.0, 20, 30, 35 + (84 * 25 + 0.5 + 115 - 55) / 19200)},
            repaired=frozenset([0, 8, 12, 16, 20, 24, 28, 32, 36, 40]),
        ),
        STUCK: SessionExpected(  # 47 s: 0 10
            47,
            dict.fromkeys(range(47), 0),
            2,
            same | {(0, "NTC"): 48.0, (23, "NTC"): 36.5, (46, "NTC"): 25.0, (46, "CT1"): 2.0},
            air,
            {
                0: _heat(60.0),
                10: (-13.0, 80, 40, -14 + 1 / 19200),
                20: (9.5, 80, 40, 8.5 + 1 / 19200),
                30: (11.5, 80, 40, 10.5 + 1 / 19200),
            },
        ),
        PART0: SessionExpected(  # 41 s: 0 10
            41,
            dict(enumerate(_states((0, 5), (1, 3), (2, 3), (3, 30)))),
            2,
            same | {(40, "NTC"): 24.0, (40, "CT4"): 0.50},
            air,
            {40: _heat(55.0)},
        ),
        # 70 s less 35 36 37. Runs: 0..34 (35 s: 0, 1 window), 38..69 (32 s: 38, 1 window)
        GAP: SessionExpected(
            67,
            dict.fromkeys(range(35), 0) | dict.fromkeys(range(38, 70), 3),
            2,
            same | {(34, "NTC"): 23.4, (38, "NTC"): 23.8, (69, "NTC"): 26.9, (69, "CT4"): 0.51},
            air,
            {34: _heat(53.5), 38: _heat(54.5)},
            absent=(35, 36, 37),
        ),
    }
    for stem, session in sessions.items():
        session.kind, session.device = stem[3:6], stem[3:6] + stem[7:9]
    skipped = {HOPELESS: "no_usable_frame"} | ({TRUNCATED: "unreadable_archive"} if archive == "zip" else {})
    dropped = {"missing_csv": 1, "missing_bin": 1, "missing_json": 1, "bad_csv": 4, "bad_json": 7}
    dropped["bad_bin"] = 16  # 6 in DEFECTS and the 10 of HOPELESS
    return Expected(root, sessions, skipped, dropped, {HOPELESS: {"bad_bin": 10}}, tripwire)


if __name__ == "__main__":
    found = write(Path(sys.argv[1]), sys.argv[2], garbled="garbled" in sys.argv[3:])
    for key, value in found.sessions.items():
        print(f"{key}: {value.seconds} s, {value.windows} windows, {len(value.dropped)} dropped")
    print("skipped:", found.skipped, "\ndropped:", found.dropped)
