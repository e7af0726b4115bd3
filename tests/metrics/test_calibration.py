"""Temperature scaling: recovers a known temperature, keeps decisions, is cross-fitted by device."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyorguard.metrics.calibration import calibrate, fit_temperature, reliability, scale
from conveyorguard.metrics.scores import METRICS, Predictions, Totals

pytestmark = pytest.mark.promise("numbers", "The temperature is fitted on validation, cross-fitted by device.")


def drawn(n=4000, temperature=1.0, seed=0, states=4):
    """Return probabilities and states: states drawn from calibrated ones, which the temperature then distorts."""
    rng = np.random.default_rng(seed)
    calibrated = rng.dirichlet(np.full(states, 0.6), n)
    y = (calibrated.cumsum(1) > rng.random((n, 1))).argmax(1)
    return scale(calibrated, 1 / temperature), y


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_known_temperature_is_recovered(temperature):
    p, y = drawn(temperature=temperature)
    assert fit_temperature(p, y) == pytest.approx(temperature, rel=0.06)


@given(st.floats(0.2, 10), st.integers(0, 1000))
def test_scaling_keeps_order_and_sum(temperature, seed):
    p = np.random.default_rng(seed).dirichlet(np.ones(5), 30)
    scaled = scale(p, temperature)
    assert np.allclose(scaled.sum(1), 1) and (scaled.argmax(1) == p.argmax(1)).all()
    assert np.allclose(scale(p, 1.0), p)


def test_calibration_improves_unseen_windows():
    p, y = drawn(temperature=3, seed=1)
    device = np.repeat([f"d{i}" for i in range(8)], 500)
    other_p, other_y = drawn(temperature=3, seed=2)
    parts, facts = calibrate(Predictions(y, p, device), device, {"test": Predictions(other_y, other_p)})
    assert set(parts) == {"val", "test"} and facts["crossed_by"] == "device"
    for part in ("val", "test"):
        assert facts["parts"][part]["after"]["nll"] < facts["parts"][part]["before"]["nll"]
        assert facts["parts"][part]["after"]["ece"] < facts["parts"][part]["before"]["ece"]
    assert np.allclose(parts["test"], scale(other_p, facts["temperature"]))


def test_device_is_calibrated_by_other_devices():
    """One device is distorted the other way; its windows must be scaled by the temperature of the others."""
    sure, y_sure = drawn(2000, temperature=4, seed=3)
    shy, y_shy = drawn(500, temperature=0.3, seed=4)
    p, y = np.concatenate([sure, shy]), np.concatenate([y_sure, y_shy])
    device = np.array(["a"] * 1000 + ["b"] * 1000 + ["c"] * 500)
    parts, _ = calibrate(Predictions(y, p, device), device, {})
    of_others = fit_temperature(sure, y_sure)
    assert np.allclose(parts["val"][device == "c"], scale(shy, of_others))


def test_single_validation_session_stays_uncalibrated():
    p, y = drawn(50)
    parts, facts = calibrate(Predictions(y, p, np.array(["s"] * 50)), np.array(["d"] * 50), {})
    assert np.array_equal(parts["val"], p) and "one validation session" in facts["crossed_by"]


def test_reliability_table_adds_up_to_ece():
    p, y = drawn(temperature=2, seed=5)
    table = reliability(Predictions(y, p))
    ece = (table["windows"] * (table["confidence"] - table["accuracy"]).abs()).sum() / len(y)
    assert ece == pytest.approx(float(METRICS["ece"].function(Totals.over(Predictions(y, p)))))


def test_small_validation_without_errors_keeps_probabilities_uncertain():
    p = np.tile([[0.9, 0.08, 0.02], [0.1, 0.85, 0.05], [0.02, 0.08, 0.9]], (10, 1))
    temperature = fit_temperature(p, np.tile([0, 1, 2], 10))
    assert 0.4 < temperature < 1, "sharper, as all windows are correct, but limited by the prior"
    assert scale(p, temperature).max() < 0.999
