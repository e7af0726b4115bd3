"""What a reader must read from the archives of `quirks.py`, as literals written by hand."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

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
    """What the reader must yield for a session; sensors, environment and thermal are a selection."""

    seconds: int  # seconds that are read
    states: dict[int, int]  # of each of them; empty without labels
    windows: int  # of 30 seconds and stride 10, from the start of each run of consecutive seconds
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
    """What the reader must yield for the set."""

    root: Path
    sessions: dict[str, SessionExpected]  # by full archive stem
    skipped: dict[str, str]  # full archive stem: category
    dropped: dict[str, int]  # frames by category, those of skipped sessions included
    dropped_in_skipped: dict[str, dict[str, int]]  # of these, frames of skipped sessions
    tripwire: Path  # exists only if a bin was unpickled


def written_out(*runs: tuple[int, int]) -> list[int]:
    """Return the state of each second of runs of (state, seconds)."""
    return [state for state, seconds in runs for _ in range(seconds)]


def _heat(block: float) -> tuple[float, int, int, float]:
    """Return maximum, its row and column, and mean of 19,200 pixels of 35.00, of which 84 form the block."""
    return block + 0.5, 52, 107, 35 + (84 * (block - 35) + 0.5) / 19200


def expected_of(root: Path, archive: str, tripwire: Path) -> Expected:
    """Return the literals. A run of n >= 30 seconds has (n - 30) // 10 + 1 windows, a shorter one none."""
    same = {(0, "CT1"): 2.0, (3, "PM1.0"): 8.0, (3, "PM2.5"): 12.0, (3, "PM10"): 20.0, (3, "CT2"): 1.1}
    air = {(0, "ex_temperature"): 22.5, (7, "ex_humidity"): 35.0, (7, "ex_illuminance"): 518.0}
    late, zero = same | {(39, "NTC"): 23.9, (39, "CT3"): 0.89}, dict.fromkeys(range(40), 0)
    bad = {40: "missing_json", 42: "missing_csv", 44: "missing_bin"}
    bad |= dict.fromkeys([46, 48, 50, 52, 54, 56], "bad_bin") | dict.fromkeys([58, 60, 62, 64], "bad_csv")
    bad |= dict.fromkeys([66, 68, 70, 72, 74, 76, 78], "bad_json")
    defect_states = dict(enumerate(written_out((0, 60), (1, 20), (2, 20), (3, 30))))
    whole = dict.fromkeys([0, 8, 20, 24, 28, 32, 36, 40], _heat(60.0))
    sessions = {  # seconds, states, windows, sensors, environment, thermal
        CLEAN_OHT: SessionExpected(  # 60 s: windows start at 0 10 20 30
            60,
            dict(enumerate(written_out((0, 15), (1, 8), (2, 7), (3, 30)))),
            4,
            same | {(0, "NTC"): 20, (31, "NTC"): 23.1, (59, "NTC"): 25.9, (9, "CT3"): 0.59, (9, "CT4"): 0.41},
            air | {(59, "ex_illuminance"): 570.0},
            {0: _heat(45.0), 31: _heat(52.75), 59: _heat(59.75)},
        ),
        CLEAN_AGV: SessionExpected(  # 70 s: 0 10 20 30 40
            70,
            dict(enumerate(written_out((0, 20), (1, 10), (2, 10), (3, 30)))),
            5,
            same | {(69, "NTC"): 26.9, (69, "CT3"): 1.19, (69, "CT4"): 0.42},
            air,
            {69: _heat(62.25)},
        ),
        # 23:56:50 to 00:00:19, 210 s: 0 10 .. 180. Second 190 is the first after midnight.
        MIDNIGHT: SessionExpected(
            210,
            dict(enumerate(written_out((0, 150), (1, 15), (2, 15), (3, 30)))),
            19,
            same | {(0, "NTC"): 20, (189, "NTC"): 38.9, (190, "NTC"): 39, (209, "CT3"): 2.59},
            air | {(190, "ex_illuminance"): 701.0},
            {0: _heat(45.0), 100: _heat(70.0), 190: _heat(92.5)},
        ),
        SWAPPED: SessionExpected(40, zero, 2, late | {(39, "CT4"): 0.44}, air, {39: _heat(60.0)}),  # 0 10
        BOM: SessionExpected(40, zero, 2, late | {(39, "CT4"): 0.45}, air, {39: _heat(60.0)}),  # 0 10
        # 45 s: 0 10. Without json there is no state and no environment, but no frame is dropped.
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
            same | {(0, "CT4"): np.nan, (8, "NTC"): 20.7, (12, "PM10"): 20.0, (16, "CT2"): 1.1},
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
            dict(enumerate(written_out((0, 5), (1, 3), (2, 3), (3, 30)))),
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
