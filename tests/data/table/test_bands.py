"""Bands of frequencies as aggregates: the root mean square of what lies between two frequencies."""

import numpy as np
import pytest

from conveyorguard.data.leakage import one_channel_accuracy
from conveyorguard.data.schema import Schema
from conveyorguard.data.table.resample import resample
from conveyorguard.errors import ConfigError, DataError

RATE = 1000  # Hz


def tones(frequencies, amplitude=2.0, noise=0.1):
    """Return one second of a tone of each frequency, one after another, with the same amplitude: (n, 1)."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE * len(frequencies)) / RATE
    frequency = np.repeat(frequencies, RATE)
    return time, (amplitude * np.sin(2 * np.pi * frequency * time) + noise * rng.normal(size=len(time)))[:, None]


def test_tone_shows_in_its_band_with_its_rms_whatever_the_length_of_the_period():
    time, values = tones([60] * 20)
    for period in (1.0, 2.0, 0.5):
        grid = resample(time, np.repeat(values, 2, axis=1), period, ["20-100Hz", "100-400Hz"])
        np.testing.assert_allclose(grid.values[:, 0], np.sqrt(2), rtol=0.05)
        assert (grid.values[:, 1] < 0.15).all()


def test_state_that_only_the_frequency_tells_is_told_by_a_band_and_by_nothing_else():
    state = np.tile([0, 1], 30)
    time, values = tones(np.where(state == 1, 180, 60))
    names = ["mean", "rms", "sd", "p2p", "kurtosis", "100-300Hz"]
    columns = resample(time, np.repeat(values, len(names), axis=1), 1.0, names).values
    accuracies = {name: one_channel_accuracy(columns[:, i], state) for i, name in enumerate(names)}
    assert accuracies["100-300Hz"] == 1 and max(accuracies[name] for name in names[:-1]) < 0.9, accuracies


def test_missing_samples_are_bridged_and_a_period_without_enough_is_missing():
    time, values = tones([60] * 4)
    values[5], values[RATE : RATE + 400] = np.nan, np.nan
    keep = (time < 2) | (time >= 2.5)  # half of the third second was not recorded
    band = resample(time[keep], values[keep], 1.0, ["20-100Hz"]).values[:, 0]
    assert np.isnan(band).tolist() == [False, True, True, False]
    assert band[0] == pytest.approx(np.sqrt(2), rel=0.05)


@pytest.mark.parametrize(
    "band, message",
    [
        ("100-600Hz", r"samples at 1000 Hz hold no more than 500 Hz; choose a lower band"),
        ("100-101Hz", r"a period of 1 s resolves frequencies 2 Hz apart; choose a wider band"),
    ],
)
def test_band_that_the_samples_cannot_show_is_refused(band, message):
    time, values = tones([60] * 3)
    with pytest.raises(DataError, match=message):
        resample(time, values, 1.0, [band])


def test_band_of_single_rows_is_refused():
    with pytest.raises(DataError, match="expected several rows a period of 1 s, for aggregate 1-20Hz"):
        resample(np.arange(50.0), np.zeros((50, 1)), 1.0, ["1-20Hz"])


def test_schema_names_bands_as_channels_and_refuses_what_is_none():
    node = {
        "channels": {"vib": {"unit": "g", "aggregate": ["rms", "0-100Hz"]}},
        "states": [{"name": "a"}, {"name": "b"}],
    }
    channels = Schema.from_config(node).channels
    assert [*channels] == ["vib_rms", "vib_0-100Hz"] and channels["vib_0-100Hz"].unit == "g"
    for wrong in ("100-50Hz", "fast", ["rms", "100Hz"], [["rms"]]):
        node["channels"]["vib"]["aggregate"] = wrong
        with pytest.raises(ConfigError, match="bands as 100-1000Hz"):
            Schema.from_config(node)
