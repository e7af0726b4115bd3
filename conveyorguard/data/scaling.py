"""Scaling of inputs as a torch module, so that it is saved in checkpoints and is part of exported graphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from conveyorguard.data.recording_start import start_means
from conveyorguard.data.schema import THERMAL_STATISTICS, Channel, Schema
from conveyorguard.data.store import SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.window_statistics import levels, rises, since_start, statistics

SMALLEST = 1e-2  # value of a log channel, in its unit; smaller values are raised to it


@dataclass(frozen=True)
class ScalingSettings:
    """How inputs are scaled.

    Attributes:
        channels: "robust" (by median and interquartile range) or "percentile" (1st to 99th percentile to 0..1).
        log: take the logarithm of channels whose schema says `scaling: log`.
        clip: clip to 0..1 (percentile only).
        fit_on: "train" sessions, or "all", which includes test sessions and is the seed study's rule.
        thermal: "absolute" (the schema's range to -1..1, not clipped) or "frame" (minimum and maximum of each frame,
            which discards absolute temperature).
        bins: intervals of the piecewise-linear encoding (Gorishniy et al., 2022) of window statistics, which gives a
            network sharp thresholds as trees have them; 0 for none. Edges are quantiles with all states weighted
            alike, because the rare worst state needs the resolution.
        from_start: add the change since the recording began, per row and among the window statistics; false where
            the beginning of a recording means nothing.
    """

    name: str = "robust"
    channels: str = "robust"
    log: bool = True
    clip: bool = False
    fit_on: str = "train"
    thermal: str = "absolute"
    bins: int = 24
    from_start: bool = True


class Scaling(nn.Module):
    """Scales a batch in raw units; the fitted values are buffers and are saved with the weights."""

    statistics_center: Tensor
    statistics_scale: Tensor

    def __init__(self, schema: Schema, settings: ScalingSettings):
        super().__init__()
        self.settings = settings
        self.groups = {"sensors": schema.channels, "environment": schema.environment}
        for group, channels in self.groups.items():
            self.register_buffer(
                f"{group}_log", torch.tensor([settings.log and c.scaling == "log" for c in channels.values()])
            )
            self.register_buffer(f"{group}_center", torch.zeros(len(channels)))
            self.register_buffer(f"{group}_scale", torch.ones(len(channels)))
        low, high = schema.thermal.range if schema.thermal else (0.0, 1.0)
        rows, columns = schema.thermal.shape if schema.thermal else (1, 1)
        # to -1..1: batch norm converges slowly where all pixels are far from 0 and close together
        self.frame_center, self.frame_scale = (float(low) + float(high)) / 2, (float(high) - float(low)) / 2
        # max, p99, mean, sd, x and y of the maximum
        self.register_buffer("statistics_center", torch.tensor([self.frame_center] * 3 + [0.0] * 3))
        self.register_buffer(
            "statistics_scale", torch.tensor([self.frame_scale] * 4 + [columns, rows], dtype=torch.float32)
        )
        for name, width in (("sensors", len(schema.channels)), ("thermal_stats", len(THERMAL_STATISTICS))):
            self.register_buffer(f"{name}_noise", torch.ones(width))
            if settings.bins:
                edges = torch.linspace(0, 1, settings.bins + 1)
                self.register_buffer(f"{name}_window_edges", edges.repeat(statistics(settings.from_start) * width, 1))

    def fit(self, store: Store, rows: np.ndarray, size: int = 30) -> Scaling:
        """Fit on rows of the store.

        Args:
            rows: (N,) True at the rows that are used.
            size: rows of the windows whose statistics are encoded.

        Returns:
            The module itself.
        """
        for group, channels in self.groups.items():
            values = getattr(store, group)[rows].astype(np.float64)
            for i, channel in enumerate(channels.values()):
                center, scale = self._fit_channel(values[:, i], channel)
                getattr(self, f"{group}_center")[i] = center
                getattr(self, f"{group}_scale")[i] = scale
        session = store.session_index
        follows = rows[1:] & (np.diff(session) == 0)
        for name, values in (("sensors", store.sensors), ("thermal_stats", store.thermal_statistics)):
            getattr(self, f"{name}_noise").copy_(_noise(np.asarray(values), follows))
        if self.settings.bins:
            self._fit_encoding(store, session, rows, size)
        return self

    def _fit_encoding(self, store: Store, session: np.ndarray, rows: np.ndarray, size: int) -> None:
        first = _starts(session, rows, size)
        windows = first[:, None] + np.arange(size)
        weights = _balanced(store.state[windows[:, size // 2]])
        for name, values, flag in (
            ("sensors", store.sensors, SENSORS_REPAIRED),
            ("thermal_stats", store.thermal_statistics, THERMAL_REPAIRED),
        ):
            start = None
            if self.settings.from_start:
                start = torch.from_numpy(start_means(store, values, first, size, flag))
            parts = [
                self._statistics(torch.from_numpy(values[windows[b]]), None if start is None else start[b], name)
                for b in np.array_split(np.arange(len(first)), len(first) // 1024 + 1)
            ]
            _fit_edges(getattr(self, f"{name}_window_edges"), torch.cat(parts).flatten(1).numpy(), weights)

    def _fit_channel(self, values: np.ndarray, channel: Channel) -> tuple[float, float]:
        values = values[np.isfinite(values)]
        if not len(values):  # never measured: left unscaled
            return 0.0, 1.0
        if self.settings.log and channel.scaling == "log":
            values = np.log(np.maximum(values, SMALLEST))
        if self.settings.channels == "percentile":
            low, high = np.percentile(values, [1, 99])
            return low, (high - low) or 1.0
        low, middle, high = np.percentile(values, [25, 50, 75])
        scale = (high - low) or float(values.std())
        return middle, scale if scale > 1e-6 * abs(middle) else 1.0  # the sd of equal values is rounding error

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scale a raw batch; inputs that it lacks are not added."""
        scaled = dict(batch)
        for group in self.groups:
            if group in batch:
                scaled[group] = self._channels(batch[group], group)
        if "thermal" in batch:
            scaled["thermal"] = self._frames(batch["thermal"].to(self.statistics_center.dtype))
        if "thermal_stats" in batch:
            scaled["thermal_stats"] = self._of_frames(batch["thermal_stats"])
        for name in ("sensors", "thermal_stats"):
            if name not in batch:
                continue
            start = batch.get(f"{name}_start") if self.settings.from_start else None
            if start is not None:
                scaled[f"{name}_change"] = self._rise(batch[name], start, name).asinh()
            if self.settings.bins and (start is not None or not self.settings.from_start):
                window = self._statistics(batch[name], start, name).flatten(1)
                scaled[f"{name}_window"] = self._encode(window, getattr(self, f"{name}_window_edges"))
        return scaled

    def _statistics(self, values: Tensor, start: Tensor | None, name: str) -> Tensor:
        """Compute levels, rises and, where `start` is known, changes since the start; (B, T, C) to (B, S, C)."""
        noise, scaled = getattr(self, f"{name}_noise"), self._scaled(values, name)
        # subtract before dividing: float32 would lose the digits of large values that hardly differ
        parts = [levels(scaled), rises(torch.nan_to_num((values - values[:, :1]) / noise))]
        if start is not None:
            change = scaled - self._scaled(_known(start, values), name)[:, None]
            parts.append(since_start(self._rise(values, start, name), change))
        return torch.cat(parts, dim=1)

    def _rise(self, values: Tensor, start: Tensor, name: str) -> Tensor:
        """Return values minus their mean at the recording's start, in units of the channel's noise; (B, T, C)."""
        return torch.nan_to_num((values - _known(start, values)[:, None]) / getattr(self, f"{name}_noise"))

    @staticmethod
    def _encode(values: Tensor, edges: Tensor) -> Tensor:
        """Encode values as the fraction of each interval that lies below them, 0..1; (B, C) to (B, C x bins)."""
        low, high = edges[:, :-1], edges[:, 1:]
        return ((values[..., None] - low) / (high - low)).clamp(0, 1).flatten(-2)

    def _channels(self, values: Tensor, group: str) -> Tensor:
        log, center, scale = (getattr(self, f"{group}_{name}") for name in ("log", "center", "scale"))
        values = torch.where(log, values.clamp_min(SMALLEST).log(), values)
        values = torch.nan_to_num((values - center) / scale, nan=0.0)
        return values.clamp(0, 1) if self.settings.clip else values

    def _scaled(self, values: Tensor, name: str) -> Tensor:
        return self._channels(values, name) if name in self.groups else self._of_frames(values)

    def _of_frames(self, statistics: Tensor) -> Tensor:
        return (statistics - self.statistics_center) / self.statistics_scale

    def _frames(self, frames: Tensor) -> Tensor:
        if self.settings.thermal == "absolute":
            return (frames - self.frame_center) / self.frame_scale
        low, high = frames.amin((-2, -1), keepdim=True), frames.amax((-2, -1), keepdim=True)
        return (frames - low) / (high - low).clamp_min(1e-6)


def _known(start: Tensor, values: Tensor) -> Tensor:
    """Return the recording's start (B, C), with the mean of the window, i.e. no change, where it was not measured."""
    return torch.where(start.isfinite(), start, values.mean(1))


def _balanced(state: np.ndarray) -> np.ndarray:
    """Return weights of rows (n,) under which all states weigh the same; unlabelled rows weigh 0."""
    weights = np.zeros(len(state))
    for k in np.unique(state[state >= 0]):
        weights[state == k] = 1 / np.count_nonzero(state == k)
    return weights


def _fit_edges(edges: Tensor, values: np.ndarray, weights: np.ndarray) -> None:
    """Write weighted quantiles of each column into `edges` (C, bins + 1), at least 1e-3 apart."""
    for i, column in enumerate(values.T):
        good = np.isfinite(column) & (weights > 0)
        if good.any():
            order = column[good].argsort()
            share = np.cumsum(weights[good][order])
            quantiles = np.interp(np.linspace(0, 1, edges.shape[1]), share / share[-1], column[good][order])
            gaps = np.maximum(np.diff(quantiles), 1e-3)
            edges[i] = torch.from_numpy(quantiles[0] + np.concatenate([[0], gaps.cumsum()]))


def _starts(session: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """Return the first rows of windows within one session, spaced so that each row is in about three windows."""
    first = np.arange(max(len(rows) - size + 1, 0))
    first = first[rows[first] & (session[first] == session[first + size - 1])]
    return first[:: max(size // 3, 1)]


def _noise(values: np.ndarray, follows: np.ndarray) -> Tensor:
    """Return the median step of each channel from row to row (C,), at least 1/1000 of its 1st to 99th percentile."""
    with np.errstate(invalid="ignore"):
        steps = np.abs(np.diff(values.astype(np.float64), axis=0))[follows]
    noise = np.ones(values.shape[1])
    for i, column in enumerate(steps.T):
        measured = values[1:][follows][:, i]
        measured, column = measured[np.isfinite(measured)], column[np.isfinite(column)]
        if len(column):
            low, high = np.percentile(measured, [1, 99])
            noise[i] = max(float(np.median(column)), (high - low) / 1000) or 1.0
    return torch.from_numpy(noise)
