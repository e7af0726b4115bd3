"""Compute the RMS of a signal within a frequency band, one value per period."""

from __future__ import annotations

import numpy as np

from conveyorguard.errors import DataError

ENOUGH = 0.9  # share of the usual number of samples that a period needs, and share of them that must be finite


def band_rms(values: np.ndarray, starts: np.ndarray, period: float, band: tuple[float, float]) -> np.ndarray:
    """Return the root mean square of each period's samples within a frequency band.

    The square root of the periodogram (Hann window, mean removed) summed over the band (Welch, 1967, one segment).
    Samples are assumed evenly spaced; missing ones are interpolated linearly.

    Args:
        values: (n, C) samples; NaN where a sample is missing.
        starts: (m,) index of the first sample of each period.
        period: period [s].
        band: lowest (included) and highest (excluded) frequency [Hz].

    Returns:
        (m, C) in the unit of the values; NaN for a period with too few samples.

    Raises:
        DataError: the sampling rate is too low, or the period too short, for the band.
    """
    from scipy.signal import periodogram  # imported here: takes half a second, and few data sets have bands

    lengths = np.diff(starts, append=len(values))
    usual = int(np.median(lengths))
    rate, (low, high) = usual / period, band
    if high > rate / 2:
        raise DataError(
            f"aggregate {low:g}-{high:g}Hz: samples at {rate:.4g} Hz hold no more than {rate / 2:.4g} Hz; choose a "
            "lower band in data.schema.channels"
        )
    if high - low < 2 / period:
        raise DataError(
            f"aggregate {low:g}-{high:g}Hz: a period of {period:g} s resolves frequencies {2 / period:g} Hz apart; "
            "choose a wider band in data.schema.channels, or a longer data.reader.period"
        )
    result = np.full((len(starts), values.shape[1]), np.nan)
    for length in np.unique(lengths[lengths >= ENOUGH * usual]):
        periods = np.flatnonzero(lengths == length)
        samples, enough = _filled(values[starts[periods][:, None] + np.arange(length)])
        frequency, density = periodogram(samples, rate, window="hann", detrend="constant", axis=1)
        within = (frequency >= low) & (frequency < high)
        result[periods] = np.where(enough, np.sqrt(density[:, within].sum(axis=1) * rate / length), np.nan)
    return result


def _filled(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return samples (m, T, C) with missing ones interpolated, and whether enough were finite, (m, C) bool."""
    known = np.isfinite(samples)
    samples = np.where(known, samples, 0.0)
    place = np.arange(samples.shape[1])
    for i, k in zip(*np.nonzero(~known.all(axis=1) & known.any(axis=1)), strict=True):
        here = known[i, :, k]
        samples[i, :, k] = np.interp(place, place[here], samples[i, here, k])
    return samples, known.mean(axis=1) >= ENOUGH
