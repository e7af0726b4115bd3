"""Views of a store: controls for FiLM replace only the environment, a cut start moves features relative to it."""

import numpy as np
import pytest

from conveyorguard.data.features import FeatureSettings, window_features
from conveyorguard.data.views import cut_starts, film_view
from conveyorguard.data.windows import WindowSettings, make_windows
from conveyorguard.errors import ConfigError


@pytest.fixture
def store(store_of, plain_schema, session_of):
    from dataclasses import replace

    schema = replace(plain_schema, kinds=("a", "b"))
    sessions = [
        session_of(
            f"{kind}{i}",
            np.arange(length),
            np.zeros(length, int),
            device=f"{kind}{i}",
            kind=kind,
            environment=np.full((length, 1), 100.0 * (kind == "b") + i),
        )
        for kind in ("a", "b")
        for i, length in enumerate((150, 200, 130))
    ]
    return store_of(sessions, schema)


def test_kind_view_replaces_the_environment_by_the_kind(store):
    view = film_view(store, "kind", 0)
    assert (
        view.environment[:, 0] == (store.to_frame()["kind"] == "b")
    ).all() and view.environment.shape == store.environment.shape
    assert view.sensors is store.sensors and view.quality is store.quality


def test_kind_view_without_kinds_is_refused(store_of, plain_schema, session_of):
    store = store_of([session_of("s", np.arange(40), np.zeros(40, int))], plain_schema)
    with pytest.raises(ConfigError, match=r"schema\.kinds"):
        film_view(store, "kind", 0)


def test_shuffled_view_takes_environments_from_other_recordings_of_the_kind(store):
    view = film_view(store, "shuffled", 0)
    original, shuffled = store.environment[:, 0], view.environment[:, 0]
    assert (original != shuffled).all() and ((original >= 100) == (shuffled >= 100)).all()
    for name in store.to_frame()["session"].unique():
        assert len(set(shuffled[(store.to_frame()["session"] == name).to_numpy()])) == 1
    assert len(set(shuffled)) == len(set(original))
    assert (film_view(store, "shuffled", 0).environment == view.environment).all()
    assert any((film_view(store, "shuffled", s).environment != view.environment).any() for s in (1, 2, 3))


def test_shuffled_view_keeps_the_environment_of_a_single_recording(store_of, plain_schema, session_of):
    store = store_of([session_of("s", np.arange(40), np.zeros(40, int))], plain_schema)
    assert (film_view(store, "shuffled", 0).environment == store.environment).all()


def test_environment_view_is_the_store_itself(store):
    assert film_view(store, "environment", 0) is store


def test_features_relative_to_the_start_follow_a_cut_start(store):
    view, begins = cut_starts(store, seed=0)
    windows = make_windows(store, WindowSettings(20, 10))
    kept = windows[windows["start"] >= begins[windows["row"]]]
    assert 0 < len(kept) < len(windows) and len(set(begins)) > 1 and begins.max() <= 100
    settings = FeatureSettings(from_start=True)
    whole, cut = (window_features(s, kept["row"], 20, settings, ["sensors"]) for s in (store, view))
    relative = [name for name in whole if name.endswith("from_start")]
    others = [name for name in whole if name not in relative]
    assert (whole[others] == cut[others]).all().all()
    # heat rises by 0.1 a second: the window's mean minus that of the up to 30 s after the cut
    row = kept.index[-1]
    begin = begins[kept["row"][row]]
    expected = 0.1 * (kept["start"][row] + 9.5 - (begin + min(14.5, (kept["end"][row] - begin) / 2)))
    assert cut["heat_from_start"][row] == pytest.approx(expected, abs=1e-3)
