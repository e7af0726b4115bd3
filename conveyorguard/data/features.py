"""Named statistics of windows for tabular models, computed for all windows at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from conveyorguard.data.recording_start import first_seconds
from conveyorguard.data.scaling import SMALLEST
from conveyorguard.data.schema import THERMAL_STATISTICS, Schema
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.errors import ConfigError

Column = tuple[str, np.ndarray]
CAMERA = "thermal"  # prefix of the camera's features, as a channel's name is of its features
HOT = 10.0  # [K] above the mean of the frame; without a fault only single pixels are as hot


@dataclass(frozen=True)
class FeatureSettings:
    """Which statistics are computed beside the plain ones.

    Attributes:
        log: the same statistics of the logarithm, for channels whose schema says `scaling: log`.
        lags: for each lag [rows], the last value minus the value so long before it.
        slopes: slope of a least-squares line through the window, per row.
        hot_spot: size and position of the hottest part of the frame, and the 99th percentile of its pixels.
        from_start: mean and last value minus the mean of the recording's first 30 valid rows, as far as they had
            passed when the window ended.
        fault_copies: share of the train windows that is copied for each fault (`fault_copies`); 0 for none.
    """

    name: str = "window"
    log: bool = False
    lags: list[int] = field(default_factory=list)
    slopes: bool = False
    hot_spot: bool = False
    from_start: bool = False
    fault_copies: float = 0.0

    def problems(self, size: int) -> list[str]:
        """Return what is wrong with the settings for windows of `size` rows, as sentences."""
        switches = {name: getattr(self, name) for name in ("log", "slopes", "hot_spot", "from_start")}
        problems = [
            f"features.{name}={value}: true or false" for name, value in switches.items() if not isinstance(value, bool)
        ]
        if not all(isinstance(lag, int) and 1 <= lag < size for lag in self.lags):
            problems.append(f"features.lags={list(self.lags)}: whole rows from 1 to {size - 1} (window.size minus 1)")
        if not (isinstance(self.fault_copies, int | float) and 0 <= self.fault_copies <= 1):
            problems.append(f"features.fault_copies={self.fault_copies}: a share from 0 to 1")
        return problems


def window_features(
    store: Store, rows: pd.Series, size: int, settings: FeatureSettings, inputs: list[str]
) -> pd.DataFrame:
    """Compute features of windows, from their rows and, with `from_start`, from the recording's first rows.

    Values are in the units of the schema and degC, as the store holds them. NaN rows are ignored; a feature of a
    window without any valid row is NaN.

    Args:
        rows: (n,) the store's row of each window's first row: `windows["row"]`.
        size: rows of a window.
        inputs: which of sensors, thermal and environment to use.

    Returns:
        (n, F) float32 with the index of `rows`: `<channel>_<statistic>` for channels and environment,
        `thermal_<statistic>` for the camera.

    Raises:
        ConfigError: two features would have the same name.
    """
    makers = {"sensors": _sensors, "thermal": _thermal, "environment": _environment}
    seconds = rows.to_numpy()[:, None] + np.arange(size)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # numpy's, about windows that are NaN throughout
        columns = [
            column for name, compute in makers.items() if name in inputs for column in compute(store, seconds, settings)
        ]
    names = [name for name, _ in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two features are called {', '.join(twice)}: rename the channel in data.schema")
    values = np.stack([column for _, column in columns], axis=1).astype(np.float32)
    return pd.DataFrame(values, index=rows.index, columns=names)


def feature_sources(names: list[str], schema: Schema) -> pd.DataFrame:
    """Return the origin of features: feature, source (a channel, or "thermal") and modality (of `schema.inputs`)."""
    sources = {CAMERA: "thermal"}
    sources |= dict.fromkeys(schema.channels, "sensors") | dict.fromkeys(schema.environment, "environment")
    origins = [max((s for s in sources if name.startswith(f"{s}_")), key=len) for name in names]
    return pd.DataFrame({"feature": names, "source": origins, "modality": [sources[source] for source in origins]})


def _sensors(store: Store, seconds: np.ndarray, settings: FeatureSettings) -> Iterator[Column]:
    channels = list(zip(store.schema.channels.items(), np.asarray(store.sensors).T, strict=True))
    series = [(name, values) for (name, _), values in channels]
    if settings.log:
        logs = [(name, values) for (name, channel), values in channels if channel.scaling == "log"]
        series += [(f"{name}_log", np.log(np.maximum(values, SMALLEST))) for name, values in logs]
    first = first_seconds(store, seconds[:, 0], seconds[:, -1], SENSORS_REPAIRED) if settings.from_start else None
    for name, values in series:
        window = values[seconds].astype(np.float64)
        yield f"{name}_mean", np.nanmean(window, axis=1)
        yield f"{name}_sd", np.nanstd(window, axis=1)
        yield f"{name}_max", np.nanmax(window, axis=1)
        yield f"{name}_min", np.nanmin(window, axis=1)
        yield f"{name}_last", _last(window)
        yield f"{name}_change", _last(window) - _last(window[:, ::-1])
        yield from _movement(name, window, settings)
        if first:
            yield from _from_start(name, window, values, first)


def _thermal(store: Store, seconds: np.ndarray, settings: FeatureSettings) -> Iterator[Column]:
    """Yield features of the full-resolution frame statistics; only the size of the hot spot uses the stored frames."""
    series = dict(zip(THERMAL_STATISTICS, np.asarray(store.thermal_statistics).T, strict=True))
    window = {name: values[seconds].astype(np.float64) for name, values in series.items()}
    mean, top = window["mean"], window["max"]
    yield f"{CAMERA}_mean", np.nanmean(mean, axis=1)
    # of all pixels of all frames: variance within frames plus variance between them
    yield f"{CAMERA}_sd", np.sqrt(np.nanmean(window["sd"] ** 2, axis=1) + np.nanvar(mean, axis=1))
    yield f"{CAMERA}_max", np.nanmax(top, axis=1)
    yield f"{CAMERA}_mean_of_max", np.nanmean(top, axis=1)
    yield f"{CAMERA}_last_mean", _last(mean)
    yield f"{CAMERA}_last_max", _last(top)
    yield f"{CAMERA}_trend", _slope(mean)
    for name in ("max", "p99", "sd"):
        yield from _movement(f"{CAMERA}_{name}", window[name], settings)
    if settings.from_start:
        first = first_seconds(store, seconds[:, 0], seconds[:, -1], THERMAL_REPAIRED)
        for name in ("max", "p99", "mean", "sd"):
            yield from _from_start(f"{CAMERA}_{name}", window[name], series[name], first)
    if settings.hot_spot:
        yield f"{CAMERA}_p99_mean", np.nanmean(window["p99"], axis=1)
        yield f"{CAMERA}_p99_last", _last(window["p99"])
        for axis in ("x_max", "y_max"):  # with a fault it stays in one place; without, it wanders between components
            yield f"{CAMERA}_{axis}_last", _last(window[axis])
            yield f"{CAMERA}_{axis}_sd", np.nanstd(window[axis], axis=1)
        share = _hot_share(store, seconds[:, -1])
        yield f"{CAMERA}_hot_share_last", share
        yield f"{CAMERA}_hot_share_change", share - _hot_share(store, seconds[:, 0])


def _environment(store: Store, seconds: np.ndarray, settings: FeatureSettings) -> Iterator[Column]:
    windows = store.environment[seconds].astype(np.float64)
    for i, name in enumerate(store.schema.environment):
        window = windows[..., i]
        yield f"{name}_mean", np.nanmean(window, axis=1)
        yield f"{name}_sd", np.nanstd(window, axis=1)
        yield f"{name}_last", _last(window)


def _movement(name: str, window: np.ndarray, settings: FeatureSettings) -> Iterator[Column]:
    if settings.slopes:
        yield f"{name}_slope", _slope(window)
    for lag in settings.lags:
        yield f"{name}_lag{lag}", _last(window) - _last(window[:, :-lag])


def _from_start(
    name: str, window: np.ndarray, values: np.ndarray, first: tuple[np.ndarray, np.ndarray]
) -> Iterator[Column]:
    rows, valid = first
    start = np.nanmean(np.where(valid, values[rows].astype(np.float64), np.nan), axis=1)
    yield f"{name}_from_start", np.nanmean(window, axis=1) - start
    yield f"{name}_last_from_start", _last(window) - start


def _last(window: np.ndarray) -> np.ndarray:
    """Return the last value of each window that is not NaN; (n, T) to (n,)."""
    place = window.shape[1] - 1 - np.isfinite(window[:, ::-1]).argmax(axis=1)
    return window[np.arange(len(window)), place]


def _slope(window: np.ndarray) -> np.ndarray:
    """Return the least-squares slope per row; (n, T) to (n,), NaN where fewer than two values are known."""
    known = np.isfinite(window)
    time = np.where(known, np.arange(window.shape[1]), np.nan)
    time -= np.nanmean(time, axis=1, keepdims=True)
    return np.nansum(time * window, axis=1) / np.nansum(time**2, axis=1)


def _hot_share(store: Store, rows: np.ndarray) -> np.ndarray:
    """Return the share of stored pixels (block maxima, if stored) that are `HOT` above the mean of the frame; (n,)."""
    assert store.thermal is not None
    mean = store.thermal_statistics[rows, THERMAL_STATISTICS.index("mean")]
    return (store.thermal[rows, -1] > (mean + HOT).astype(np.float16)[:, None, None]).mean(axis=(1, 2))
