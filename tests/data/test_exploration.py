"""Figures of a data set before training, and their implications."""

from dataclasses import replace

import numpy as np
import pytest

from conveyorguard.data import exploration
from conveyorguard.data.implications import find_implications
from experiments.stages import seed_figures
from tests.support.studies import table


def test_exploration_figures_equal_those_computed_from_the_store(explored):
    store = explored.data().store
    frames, states = store.to_frame(), len(store.schema.states)
    counts = np.bincount(frames["state"], minlength=states)
    balance = table(explored, "00_balance")
    assert balance["seconds"].tolist() == counts.tolist()
    assert balance["windows"].tolist() == np.bincount(explored.data().frame["label"], minlength=states).tolist()
    page = (explored.out / "00_eda.html").read_text()
    assert f"{counts[0]:,}" in page and f"{counts[0] / counts.sum():.1%}" in page
    correlations = table(explored, "00_correlations").set_index("quantity")
    for name in store.schema.channels:
        expected = np.corrcoef(frames[name].astype(float), frames["state"])[0, 1]
        assert correlations["pearson"][name] == pytest.approx(expected)
        assert f"{expected:+.3f}" in page
    sizes = table(explored, "00_sizes").set_index("kind")
    assert sizes["seconds"]["all"] == len(frames) and sizes["sessions"]["all"] == frames["session"].nunique()
    maxima = table(explored, "00_thermal_maxima")
    maximum = frames[(frames["kind"] == "oht") & (frames["state"] == states - 1)]["thermal_max"]
    row = maxima[(maxima["kind"] == "oht") & (maxima["state"] == "severe 심각")].iloc[0]
    assert row["q50"] == pytest.approx(maximum.median()) and row["n"] == len(maximum)


def test_sizes_are_in_seconds_for_any_period(store_of, plain_schema, session_of):
    sessions = [replace(session_of(name, range(n), [0] * n), period=600.0) for name, n in (("a", 12), ("b", 18))]
    sizes = exploration.sizes(store_of(sessions, plain_schema)).set_index("kind").loc["all"]
    assert (sizes["seconds"], sizes["hours"]) == (18_000, 5)
    assert (sizes["shortest, s"], sizes["median length, s"], sizes["longest, s"]) == (7200, 9000, 10_800)


def test_class_weights_of_the_seed_studys_counts_are_its_weights():
    # weights of the 788 / 371 / 361 / 88 test windows, whose shares are close to those of training
    weights = exploration.class_weights(np.array(seed_figures.TEST_SUPPORT))
    assert weights == pytest.approx(seed_figures.CLASS_WEIGHTS, abs=0.05)


def test_implications_of_balanced_data_differ_from_those_of_aihub(store_of, plain_schema, session_of):
    """One kind, balanced states that recover, and no camera."""
    from conveyorguard.data.splits import make_split
    from conveyorguard.data.windows import Windows, WindowSettings, make_windows

    rng = np.random.default_rng(0)
    sessions = []
    for i in range(8):
        sensors = np.stack([rng.normal(20, 1, 240), rng.normal(5, 0.1, 240)], axis=1)
        sessions.append(
            session_of(f"s{i}", np.arange(240), np.repeat([3, 0, 1, 2], 60), device=f"d{i}", kind="a", sensors=sensors)
        )
    store = store_of(sessions, plain_schema)
    settings = WindowSettings(10, 10, "majority", "all")
    frame = make_windows(store, settings)
    split = make_split(frame, plain_schema, {"name": "session", "seed": 0})
    data = Windows(store, frame.assign(part=split.part_of(frame["session"])), split, settings)
    follows = {item.about: item.follows for item in find_implications(data)}
    assert follows["Balance of the states"] == "no class weights are needed"
    assert follows["Spread of the channels"] == "linear scaling is enough"
    assert follows["Order of the states"].startswith("devices recover within sessions")
    assert follows["Mixed windows"] == "a label per window is enough"
    assert "Kinds of device" not in follows and "Maximum of the frame" not in follows
