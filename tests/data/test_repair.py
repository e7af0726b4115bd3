"""Repairing impossible values and pixels, and reducing camera frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conveyorguard.data.reduce import reduce_frames
from conveyorguard.data.repair import repair_frames, repair_series
from conveyorguard.data.schema import THERMAL_STATISTICS, Thermal


def camera(rows, columns, stored_rows=1, stored_columns=1, **settings):
    return Thermal((rows, columns), (stored_rows, stored_columns), **settings)


@st.composite
def frames_and_camera(draw):
    rows, columns = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    stored = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    seed = draw(st.integers(0, 999))
    frames = np.random.default_rng(seed).normal(40, 10, (draw(st.integers(1, 3)), rows, columns)).astype(np.float32)
    return frames, camera(rows, columns, *stored)


@given(frames_and_camera())
def test_mean_max_reduction_keeps_block_mean_and_block_maximum(case):
    """Blocks differ by one in size where the stored shape does not divide the camera's."""
    frames, cam = case
    reduced, statistics = reduce_frames(frames, cam)
    (rows, columns), (stored_rows, stored_columns) = cam.shape, cam.stored
    expected = np.empty((len(frames), 2, stored_rows, stored_columns))
    for i in range(stored_rows):
        for j in range(stored_columns):
            block = frames[
                :,
                i * rows // stored_rows : (i + 1) * rows // stored_rows,
                j * columns // stored_columns : (j + 1) * columns // stored_columns,
            ].astype(float)
            expected[:, 0, i, j], expected[:, 1, i, j] = block.mean((1, 2)), block.max((1, 2))
    np.testing.assert_allclose(reduced, expected, rtol=1e-5)
    assert reduced.dtype == np.float32
    _check_statistics(frames, statistics)


def _check_statistics(frames, statistics):
    flat = frames.reshape(len(frames), -1).astype(float)
    hottest = [np.unravel_index(frame.argmax(), frame.shape) for frame in frames]
    expected = {
        "max": flat.max(1),
        "p99": np.percentile(flat, 99, axis=1),
        "mean": flat.mean(1),
        "sd": flat.std(1),
        "x_max": [x for _, x in hottest],
        "y_max": [y for y, _ in hottest],
    }
    assert tuple(expected) == THERMAL_STATISTICS
    np.testing.assert_allclose(statistics, np.stack(list(expected.values()), axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics[:, 2], expected["mean"], rtol=1e-12, err_msg="summed in double precision")


@pytest.mark.parametrize("shape", [(120, 160), (48, 64), (7, 5)])
def test_stride_reduction_keeps_every_second_pixel(shape):
    frames = np.random.default_rng(0).normal(40, 10, (4, *shape)).astype(np.float32)
    cam = camera(*shape, reduce="stride")
    reduced, statistics = reduce_frames(frames, cam)
    np.testing.assert_array_equal(reduced, frames[:, None, ::2, ::2])
    assert reduced.shape[1:] == cam.stored_shape
    _check_statistics(frames, statistics)


pixels = st.one_of(st.floats(-30, 160, width=32), st.sampled_from([np.nan, np.inf, -np.inf, -110, 172]))


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=pixels))
def test_impossible_pixels_take_the_nearest_possible_pixel(frames):
    original = frames.copy()
    repaired, count, usable = repair_frames(frames, camera(*frames.shape[1:]))
    np.testing.assert_array_equal(frames, original, "the reader's array is not changed")
    good = (original >= -20) & (original <= 150)
    bad = (~good).sum((1, 2))
    np.testing.assert_array_equal(usable, bad <= good[0].size // 2)
    np.testing.assert_array_equal(count, np.where(usable, bad, 0))
    for i in np.flatnonzero(usable):
        np.testing.assert_array_equal(repaired[i][good[i]], original[i][good[i]])
        places = np.argwhere(good[i])
        for place in np.argwhere(~good[i]):
            distance = ((places - place) ** 2).sum(1)
            nearest = places[distance == distance.min()]
            assert repaired[i][tuple(place)] in original[i][tuple(nearest.T)]
    assert np.isfinite(repaired).all(), "dropped frames are reduced with the rest and must not hold NaN"


@pytest.mark.parametrize("worst", [20.0, np.nan])
def test_pixels_at_the_limits_of_the_valid_range_are_kept(worst):
    frames = np.full((2, 3, 3), 20, np.float32)
    frames[0, 0, 0], frames[0, 2, 2], frames[1, 1, 1] = -20, 150, worst
    repaired, count, usable = repair_frames(frames, camera(3, 3))
    assert (repaired[0, 0, 0], repaired[0, 2, 2], repaired[1, 1, 1]) == (-20, 150, 20)
    assert count.tolist() == [0, int(np.isnan(worst))] and count.dtype.kind == "i"
    assert usable.tolist() == [True, True] and usable.dtype == bool
    assert [len(array) for array in repair_frames(frames[:0], camera(3, 3))] == [0, 0, 0]


values = st.one_of(st.floats(-1e4, 1e4, width=32), st.sampled_from([np.nan, np.inf, -np.inf]))


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=values))
def test_bad_values_hold_the_last_good_one(series):
    original = series.copy()
    repaired, bad = repair_series(series)
    np.testing.assert_array_equal(series, original)
    np.testing.assert_array_equal(bad, ~np.isfinite(original))
    assert repaired.dtype == np.float32
    for channel, column in enumerate(repaired.T):
        expected = np.nan
        for row, value in enumerate(original[:, channel]):
            expected = value if np.isfinite(value) else expected
            np.testing.assert_array_equal(column[row], np.float32(expected))
