"""Scaling: what it is fitted on, what it returns, and that it is saved with the model."""

import dataclasses

import numpy as np
import pytest
import torch

from conveyorguard.config.compose import build
from conveyorguard.config.saved import plain_values
from conveyorguard.data.recording_start import start_means
from conveyorguard.data.scaling import SMALLEST, Scaling, ScalingSettings
from conveyorguard.data.schema import Schema
from conveyorguard.data.window_statistics import LEVELS, statistics
from conveyorguard.runs.data import load_windows
from conveyorguard.training.fit import build_module
from conveyorguard.training.recipe import Recipe
from conveyorguard.training.setup import used_inputs

NAMES = [f"s{i}" for i in range(8)]
TRAIN = set(NAMES[:5])


@pytest.fixture(scope="module")
def camera_schema(plain_schema):
    return Schema.from_config(
        {**plain_schema.to_dict(), "thermal": {"shape": [8, 10], "stored": [4, 5], "range": [20, 100]}}
    )


@pytest.fixture
def store(store_of, session_of, camera_schema):
    """Return a function that builds a store of eight random sessions.

    Its `change` names sessions whose values are multiplied by `factor`; `spoil` names a channel set to NaN.
    """

    def make(change=(), factor=1.0, **spoil):
        sessions = []
        for i, name in enumerate(NAMES):
            rng = np.random.default_rng(i)
            by = factor if name in change else 1.0
            arrays = {
                "sensors": np.exp(rng.normal(2, 1, (40, 2))) * by,
                "environment": rng.normal(22, 1, (40, 1)) * by,
                "thermal": np.clip(rng.normal(45, 8, (40, 8, 10)) * by, -19, 149),
            }
            for group, channel in spoil.items():
                arrays[group][:, channel] = np.nan
            sessions.append(session_of(name, range(40), [0] * 40, **arrays))
        return store_of(sessions, camera_schema)

    return make


def fitted(store, settings, names=TRAIN, size=30):
    return Scaling(store.schema, settings).fit(store, store.to_frame()["session"].isin(names).to_numpy(), size)


def batch_of(store, rows=slice(0, 90)):
    shape = (3, 30)
    return {
        "sensors": torch.tensor(store.sensors[rows]).reshape(*shape, -1),
        "environment": torch.tensor(store.environment[rows]).reshape(*shape, -1),
        "thermal": torch.tensor(np.asarray(store.thermal[rows])).reshape(*shape, *store.thermal.shape[1:]),
        "thermal_stats": torch.tensor(store.thermal_statistics[rows]).reshape(*shape, -1),
        "mask": torch.ones(*shape, 3),
        "sensors_start": torch.tensor(store.sensors[rows]).reshape(*shape, -1).mean(1),
        "thermal_stats_start": torch.tensor(store.thermal_statistics[rows]).reshape(*shape, -1).mean(1),
    }


def state(scaling):
    return {name: value.numpy() for name, value in scaling.state_dict().items()}


def test_scaling_does_not_depend_on_sessions_outside_train(store):
    """Else information about test sessions would leak into training."""
    first, other = (state(fitted(store(change=set(NAMES) - TRAIN, factor=f), ScalingSettings())) for f in (1.0, 3.0))
    assert first.keys() == other.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    changed = state(fitted(store(change={"s0"}, factor=3.0), ScalingSettings()))
    for name in (
        "sensors_center",
        "sensors_noise",
        "sensors_window_edges",
        "environment_center",
        "thermal_stats_noise",
        "thermal_stats_window_edges",
    ):
        assert not np.array_equal(first[name], changed[name]), f"{name} does depend on the train sessions"


def test_run_fits_scaling_on_train_sessions_and_seed_scaling_on_all(twin_config):
    """As a training job does, with the split of its config."""
    fits = {}
    for name in ("robust", "seed"):
        cfg = twin_config(f"scaling={name}", "film=true", "data.sessions=24")
        data = load_windows(cfg)
        scaling = build_module(Recipe.of(plain_values(cfg)), data, used_inputs(cfg, data.store.schema)[0]).scaling
        train = data.store.to_frame()["session"].isin(data.split.sessions["train"]).to_numpy()
        fits[name] = scaling, data.store.sensors[train].astype(float), np.asarray(data.store.sensors, float)
    robust, train, whole = fits["robust"]
    assert float(robust.sensors_center[0]) == pytest.approx(np.median(train[:, 0]), abs=1e-5)  # NTC
    assert np.median(train[:, 0]) != np.median(whole[:, 0])
    seed, train, whole = fits["seed"]
    np.testing.assert_allclose(seed.sensors_center, np.percentile(whole, 1, axis=0), rtol=1e-5)
    assert not np.allclose(np.percentile(train, 1, axis=0), np.percentile(whole, 1, axis=0), rtol=1e-5)


def test_default_scaling_is_robust_with_log_currents_and_absolute_degrees(store):
    built = store()
    scaled = fitted(built, ScalingSettings())(batch_of(built))
    train = built.sensors[built.to_frame()["session"].isin(TRAIN)].astype(float)
    raw = built.sensors[:90].astype(float)
    heat, amps = train[:, 0], np.log(train[:, 1])
    expected = [
        (raw[:, 0] - np.median(heat)) / np.subtract(*np.percentile(heat, [75, 25])),
        (np.log(raw[:, 1]) - np.median(amps)) / np.subtract(*np.percentile(amps, [75, 25])),
    ]
    np.testing.assert_allclose(scaled["sensors"].reshape(90, 2), np.stack(expected, axis=1), rtol=1e-4, atol=1e-5)
    frames = np.asarray(built.thermal[:90], np.float32)
    np.testing.assert_allclose(scaled["thermal"].reshape(frames.shape), (frames - 60) / 40, atol=1e-5)
    statistics = built.thermal_statistics[:90] / [40, 40, 40, 40, 10, 8] - [1.5, 1.5, 1.5, 0, 0, 0]
    np.testing.assert_allclose(scaled["thermal_stats"].reshape(90, 6), statistics, atol=1e-5)


def test_seed_scaling_follows_the_seed_studys_formula(store, twin_config):
    """The 1st to 99th percentile map to 0..1, clipped; each thermal frame to its minimum and maximum."""
    built = store()
    settings = build(twin_config("scaling=seed").scaling)
    scaled = fitted(built, settings, names=NAMES)(batch_of(built))
    for group, values in (("sensors", built.sensors), ("environment", built.environment)):
        low, high = np.percentile(np.asarray(values, float), [1, 99], axis=0)
        expected = np.clip((values[:90] - low) / (high - low), 0, 1)
        np.testing.assert_allclose(scaled[group].reshape(expected.shape), expected, atol=1e-5)
        assert np.isin(expected, (0, 1)).any(), "some values are clipped"
    frames = np.asarray(built.thermal[:90], np.float32)
    low, high = frames.min((-2, -1), keepdims=True), frames.max((-2, -1), keepdims=True)
    np.testing.assert_allclose(scaled["thermal"].reshape(frames.shape), (frames - low) / (high - low), atol=1e-5)


def test_frame_scaling_of_a_uniform_frame_is_finite(store):
    built = store()
    scaling = fitted(built, ScalingSettings(thermal="frame"))
    even = {"thermal": torch.full((1, 2, 2, 4, 5), 40.0)}
    assert torch.isfinite(scaling(even)["thermal"]).all()


@pytest.mark.parametrize(
    "settings", [ScalingSettings(), ScalingSettings(channels="percentile", log=False, clip=True, thermal="frame")]
)
def test_scaling_is_restored_from_the_models_state(settings, store):
    built = store()
    scaling = fitted(built, settings)
    names = set(scaling.state_dict())
    assert {f"{group}_{what}" for group in ("sensors", "environment") for what in ("log", "center", "scale")} <= names
    fresh = Scaling(built.schema, settings)
    batch = batch_of(built)
    assert not torch.equal(fresh(batch)["sensors"], scaling(batch)["sensors"])
    fresh.load_state_dict(scaling.state_dict())
    for name, value in scaling(batch).items():
        assert torch.equal(fresh(batch)[name], value), name


def test_scaling_adds_no_missing_input_and_leaves_the_batch_unchanged(store):
    built = store()
    scaling, batch = fitted(built, ScalingSettings()), batch_of(built)
    assert set(scaling({"sensors": batch["sensors"]})) == {"sensors"}
    started = {name: batch[name] for name in ("sensors", "sensors_start")}
    assert set(scaling(started)) == {*started, "sensors_change", "sensors_window"}
    without = fitted(built, ScalingSettings(from_start=False))
    assert set(without({"sensors": batch["sensors"]})) == {"sensors", "sensors_window"}
    assert set(scaling({"thermal": batch["thermal"], "mask": batch["mask"]})) == {"thermal", "mask"}
    assert torch.equal(scaling(batch)["mask"], batch["mask"])
    before = {name: value.clone() for name, value in batch.items()}
    scaling(batch)
    assert all(torch.equal(batch[name], before[name]) for name in batch), "the batch itself is not changed"


@pytest.mark.parametrize("spoil", [{"sensors": 0}, {"sensors": 1}, {"environment": 0}])
@pytest.mark.parametrize("channels", ["robust", "percentile"])
def test_channel_without_values_is_scaled_to_zero(spoil, channels, store):
    built = store(**spoil)
    scaled = fitted(built, ScalingSettings(channels=channels, clip=channels == "percentile"))(batch_of(built))
    ((group, channel),) = spoil.items()
    assert (scaled[group][..., channel] == 0).all()
    scaling = fitted(built, ScalingSettings(channels=channels))
    fit = [float(getattr(scaling, f"{group}_{name}")[channel]) for name in ("center", "scale")]
    assert fit == [0, 1], "such a channel stays unscaled"
    for name, value in scaled.items():
        assert name.endswith("_start") or torch.isfinite(value).all(), name


@pytest.mark.parametrize("value", [3.0, 0.1, 23.7])
def test_constant_channel_is_scaled_to_finite_values(value, store_of, session_of, plain_schema):
    """Rounding may leave a tiny spread, by which values would be divided."""
    built = store_of([session_of("a", range(40), [0] * 40, sensors=np.full((40, 2), value))], plain_schema)
    start = torch.from_numpy(start_means(built, built.sensors, np.array([0]), 30, 1))
    assert (start == torch.tensor(built.sensors[0])).all()
    for settings in (ScalingSettings(), ScalingSettings(channels="percentile")):
        scaling = Scaling(plain_schema, settings).fit(built, np.ones(40, bool))
        for began in (start, start * (1 + 1e-6)):
            scaled = scaling({"sensors": torch.tensor(built.sensors)[None], "sensors_start": began})
            assert all(torch.isfinite(value).all() for value in scaled.values())
            assert scaled["sensors"].abs().max() < 10


def test_currents_of_zero_and_below_are_scaled_to_finite_values(store):
    built = store()
    scaling, batch = fitted(built, ScalingSettings()), batch_of(built)
    batch["sensors"][0, :3, 1] = torch.tensor([0.0, -5.0, SMALLEST])
    scaled = scaling(batch)["sensors"][0, :3, 1]
    assert torch.isfinite(scaled).all() and (scaled == scaled[2]).all()


def test_bins_encode_a_value_piecewise_linearly(store):
    """Bins below the value are 1, above it 0, and the bin that holds it is in between."""
    built = store()
    bins = 8
    scaling = fitted(built, ScalingSettings(bins=bins), size=1)  # the mean of a window of one row is its value
    seconds = {"sensors": torch.tensor(built.sensors[:90])[:, None], "sensors_start": torch.zeros(90, 2)}
    encoded = scaling(seconds)["sensors_window"].reshape(90, statistics(True), 2, bins)[:, LEVELS.index("mean")]
    assert ((encoded >= 0) & (encoded <= 1)).all()
    assert (encoded.diff(dim=-1) <= 0).all(), "a bin is never fuller than the bin below"
    assert ((encoded > 0) & (encoded < 1)).sum(-1).max() == 1
    assert encoded.sum(-1).std(0).min() > 1, "bins are spread over the values"
    order = built.sensors[:90, 0].argsort()
    assert (encoded[order, 0].sum(-1).diff() >= -1e-4).all()
    assert "sensors_window" not in fitted(built, ScalingSettings(bins=0))(batch_of(built))


def test_noise_is_the_median_step_within_train_sessions(store):
    built = store()
    noise = fitted(built, ScalingSettings()).sensors_noise.numpy()
    session = built.to_frame()["session"].astype(str).to_numpy()
    steps = [np.abs(np.diff(built.sensors[session == name], axis=0)) for name in sorted(TRAIN)]
    np.testing.assert_allclose(noise, np.median(np.concatenate(steps), axis=0), rtol=1e-6)


def test_bin_edges_span_window_statistics_rather_than_seconds(store):
    """A window's mean varies less than seconds do, and is resolved as finely."""
    built = store()
    bins = 8
    scaling = fitted(built, ScalingSettings(bins=bins))
    encoded = scaling(batch_of(built))["sensors_window"].reshape(3, statistics(True), 2, bins)
    assert ((encoded >= 0) & (encoded <= 1)).all() and (encoded.diff(dim=-1) <= 0).all()
    edges = scaling.sensors_window_edges.reshape(statistics(True), 2, bins + 1)
    spread = (edges[..., -1] - edges[..., 0])[LEVELS.index("mean")]
    seconds = scaling._scaled(torch.tensor(built.sensors), "sensors")
    assert (spread < 0.5 * (seconds.amax(0) - seconds.amin(0))).all()


def test_change_since_start_is_in_units_of_noise_and_as_log_factor(store):
    """For a window of twice its recording's start: the mean in units of noise, and the scaled log 2 of a current."""
    built = store()
    scaling = fitted(built, ScalingSettings())
    window = torch.tensor(built.sensors[:30])[None]
    start = window.mean(1) / 2
    amps = torch.tensor(built.sensors[:30, 1])
    change = scaling._statistics(window, start, "sensors")[0, -2:]
    torch.testing.assert_close(
        change[0].sinh(), (window.mean(1) - start)[0] / scaling.sensors_noise, rtol=1e-4, atol=1e-4
    )
    factor = amps.log().mean() - start[0, 1].log()
    assert float(change[1, 1]) == pytest.approx(float(factor / scaling.sensors_scale[1]), abs=1e-4)
    unknown = scaling._statistics(window, torch.full((1, 2), torch.nan), "sensors")[0, -2:]
    assert (unknown[0].abs() < 1e-3).all(), "an unknown start counts as no change"


def test_rises_are_in_units_of_noise_and_do_not_depend_on_the_level(store):
    built = store()
    scaling = fitted(built, ScalingSettings())
    window = torch.tensor(built.sensors[:30])[None]
    rises = slice(len(LEVELS), None)  # they follow the levels
    before = scaling._statistics(window, None, "sensors")[:, rises]
    lifted = scaling._statistics(window + 50, None, "sensors")[:, rises]
    torch.testing.assert_close(lifted, before, rtol=1e-3, atol=1e-3)
    scaling.sensors_noise *= 2
    quieter = scaling._statistics(window, None, "sensors")[:, rises]
    assert (quieter.abs() <= before.abs()).all() and (quieter.abs().sum() < 0.9 * before.abs().sum())


def test_bin_edges_of_changes_since_start_are_fitted(store):
    """Edges of sensors and thermal statistics, of which none keeps its initial value."""
    built, bins = store(), 8
    scaling = fitted(built, ScalingSettings(bins=bins))
    for name, width in (("sensors", 2), ("thermal_stats", 6)):
        edges = getattr(scaling, f"{name}_window_edges").reshape(statistics(True), width, bins + 1)
        assert not torch.isclose(edges, torch.linspace(0, 1, bins + 1), atol=1e-4).all(-1).any(), name
        batch = batch_of(built, slice(0, 90))
        encoded = scaling(batch)[f"{name}_window"].reshape(3, statistics(True), width, bins)
        assert ((encoded >= 0) & (encoded <= 1)).all()
    at_start = fitted(store(change={"s0"}, factor=3.0), ScalingSettings(bins=bins))
    assert not torch.allclose(at_start.sensors_window_edges, scaling.sensors_window_edges)


def test_scaling_of_recordings_shorter_than_a_window_is_finite(store):
    built = store()
    scaled = Scaling(built.schema, ScalingSettings()).fit(built, np.ones(320, bool), size=60)(batch_of(built))
    assert all(torch.isfinite(value).all() for value in scaled.values())


def test_scaling_configs_equal_the_settings_of_the_class(twin_config):
    assert build(twin_config("scaling=robust").scaling) == ScalingSettings()
    seed = build(twin_config("scaling=seed").scaling)
    expected = {"channels": "percentile", "log": False, "clip": True, "fit_on": "all", "thermal": "frame"}
    assert {key: dataclasses.asdict(seed)[key] for key in expected} == expected


def test_frame_scaling_scales_each_frame_and_channel_to_its_range(camera_schema):
    frames = torch.arange(2 * 3 * 2 * 4 * 5, dtype=torch.float32).reshape(2, 3, 2, 4, 5) ** 1.5
    scaled = Scaling(camera_schema, ScalingSettings(thermal="frame"))({"thermal": frames})["thermal"]
    for expected, image in zip(scaled.reshape(-1, 20), frames.reshape(-1, 20), strict=True):
        torch.testing.assert_close(expected, (image - image.min()) / (image.max() - image.min()))
    half = Scaling(camera_schema, ScalingSettings(thermal="frame"))({"thermal": torch.tensor([[[[40.0, 40.5]]]])})
    assert half["thermal"].flatten().tolist() == [0, 1], "half a degree is a range, too"
    hardly = Scaling(camera_schema, ScalingSettings(thermal="frame"))(
        {"thermal": torch.tensor([[[[1.0, 1.0 + 2e-7]]]])}
    )
    assert hardly["thermal"].max() < 0.5, "a range below a millionth of a degree is not stretched"


def test_bin_edges_weight_states_equally_and_ignore_unlabelled_rows(store_of, session_of, plain_schema):
    """With 90 s of normal from 0 to 89 and 10 s of severe from 1000 to 1009 each state gets half of the bins."""
    values = np.concatenate([np.arange(90.0), np.arange(1000.0, 1010.0)])
    both = np.stack([values, np.full(100, 3.0)], axis=1)
    sessions = [
        session_of("a", range(100), [0] * 90 + [3] * 10, sensors=both),
        session_of("b", range(100), sensors=both + 5000),
    ]
    built = store_of(sessions, plain_schema)
    scaling = Scaling(plain_schema, ScalingSettings(bins=4, log=False)).fit(built, np.ones(200, bool), size=1)
    scaled = scaling.sensors_window_edges.reshape(statistics(True), 2, 5)[LEVELS.index("mean")]
    edges = scaled * scaling.sensors_scale[:, None] + scaling.sensors_center[:, None]
    np.testing.assert_allclose(edges[0], [0, 44, 89, 1004, 1009], atol=1)
    steps = scaled[1].diff()
    np.testing.assert_allclose(steps, 1e-3, rtol=1e-2, err_msg="a constant channel has bins of positive width")
    assert edges[1, 0] == pytest.approx(3)


def test_scaling_is_fitted_on_the_selected_rows_of_each_channel(store_of, session_of, plain_schema):
    sensors = np.stack([np.arange(40.0), np.exp(np.arange(40.0) / 10)], axis=1)
    sensors[7] = np.nan  # repaired by the store, so that it lies on the line
    built = store_of([session_of("a", range(40), [0] * 20 + [1] * 20, sensors=sensors)], plain_schema)
    used = np.arange(40) < 21
    scaling = Scaling(plain_schema, ScalingSettings()).fit(built, used)
    np.testing.assert_allclose(scaling.sensors_center, [10, 1], rtol=1e-5)
    np.testing.assert_allclose(scaling.sensors_scale, [10, 1], rtol=1e-5)
    assert scaling.sensors_log.tolist() == [False, True] and scaling.environment_log.tolist() == [False]
    assert scaling.environment_center.tolist() == [22] and scaling.environment_scale.tolist() == [1]
    raw = Scaling(plain_schema, ScalingSettings(log=False, channels="percentile")).fit(built, used)
    np.testing.assert_allclose(
        raw.sensors_center, np.percentile(built.sensors[:21].astype(float), 1, axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(raw.sensors_scale[0], 19.6, rtol=1e-5)


def test_channel_with_zero_interquartile_range_is_scaled_by_its_standard_deviation(store_of, session_of, plain_schema):
    """More than half of the values are equal, so that the interquartile range is 0."""
    sensors = np.full((40, 2), 5.0)
    sensors[0, 0] = 45.0
    built = store_of([session_of("a", range(40), [0] * 40, sensors=sensors)], plain_schema)
    scaling = Scaling(plain_schema, ScalingSettings()).fit(built, np.ones(40, bool))
    assert scaling.sensors_center[0] == 5 and float(scaling.sensors_scale[0]) == pytest.approx(sensors[:, 0].std())
    assert scaling.sensors_scale[1] == 1
