"""The kinds of device and their fault modes, with the statistics of AI Hub #71802 from public write-ups."""

from __future__ import annotations

from dataclasses import dataclass

CURRENTS = ("CT1", "CT2", "CT3", "CT4")
CHANNELS = ("NTC", "PM1.0", "PM2.5", "PM10", *CURRENTS)
ENVIRONMENT = ("ex_temperature", "ex_humidity", "ex_illuminance")


@dataclass(frozen=True)
class Mode:
    """A fault mode.

    Attributes:
        quota: sessions with it in the real set.
        start: current that the fault adds at onset [A], by channel; it then grows exponentially to the peak.
        ntc: temperature of the NTC [degC] in each tenth of the time from onset to the end.
        hot_spot: temperature of the hottest component [degC] in each tenth.
    """

    quota: int
    start: dict[str, float]
    ntc: tuple[float, ...]
    hot_spot: tuple[float, ...]


@dataclass(frozen=True)
class Kind:
    """A kind of device: onset, currents under a fault, and normal operation.

    Attributes:
        onset: mean, standard deviation, earliest and latest [s], in a session of 301 s (oht) or 361 s (agv).
        peak: lowest and highest current that a fault adds by the end [A].
        load: fraction of the normal current that flows on during a fault; the current of the fault is added to it.
        normal: mean of each channel and of the hottest component ("hot") in normal operation.
        sd: standard deviations in normal operation, within a session and between sessions.
        environment: lowest and highest value of each environment channel.
        modes: fault modes by name.
        pm10: PM10 in each tenth from onset to the end; empty where particles do not react to a fault.
    """

    onset: tuple[float, float, float, float]
    peak: tuple[float, float]
    load: float
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
