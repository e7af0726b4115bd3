"""Short gaps are bridged by a view of the store; long ones stay."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from conveyorguard.data.store import NO_ONSET
from conveyorguard.data.views import REPAIRED, bridge_gaps
from conveyorguard.data.windows import WindowSettings, make_windows


def test_every_twentieth_second_missing_leaves_windows_after_bridging(store_of, session_of, plain_schema):
    time = np.array([t for t in range(200) if t % 20 != 19])
    store = store_of([session_of("a", time, np.zeros(len(time), int))], plain_schema)
    windows = make_windows(bridge_gaps(store, 3), WindowSettings(size=30, stride=10))
    assert windows["start"].tolist() == list(range(0, 170, 10))


def test_bridged_rows_hold_the_row_before_and_are_flagged(store_of, session_of, plain_schema):
    store = store_of([session_of("a", [0, 1, 4, 5], [0, 0, 2, 2]), session_of("b", [0, 2, 9], [0, 0, 0])], plain_schema)
    view = bridge_gaps(store, 2)
    assert view.tick.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 9]
    assert view.state.tolist() == [0, 0, 0, 0, 2, 2, 0, 0, 0, 0]
    assert (view.quality == REPAIRED).tolist() == [False, False, True, True, False, False, False, True, False, False]
    assert view.ticks_to_end.tolist() == [5, 4, 3, 2, 1, 0, 9, 8, 7, 0]
    assert view.ticks_since_onset[:6].tolist() == [-4, -3, -2, -1, 0, 1]
    assert (view.ticks_since_onset[6:] == NO_ONSET).all()
    np.testing.assert_array_equal(view.sensors[2], store.sensors[1])
    assert view.sessions["first"].tolist() == [0, 6] and view.sessions["rows"].tolist() == [6, 4]


def test_without_short_gaps_the_store_itself_is_returned(store_of, session_of, plain_schema):
    store = store_of([session_of("a", [0, 1, 9])], plain_schema)
    assert bridge_gaps(store, 3) is store and bridge_gaps(store, 0) is store


@given(st.lists(st.lists(st.integers(1, 8), min_size=1, max_size=20), min_size=1, max_size=4), st.integers(0, 6))
def test_no_short_gap_is_left_and_every_measured_row_remains(steps, longest):
    from conveyorguard.data.reduce import reduce_session
    from conveyorguard.data.schema import Schema
    from conveyorguard.data.session import Session
    from conveyorguard.data.store_build import store_in_memory

    schema = Schema.from_config({"channels": {"x": {"unit": "V"}}, "states": [{"name": "ok"}, {"name": "bad"}]})
    sessions = [
        Session(
            f"s{i}", "d", "k", np.cumsum([0, *gaps]), np.cumsum([0, *gaps])[:, None] * 1.0, np.zeros((len(gaps) + 1, 0))
        )
        for i, gaps in enumerate(steps)
    ]
    view = bridge_gaps(store_in_memory([reduce_session(s, schema) for s in sessions], schema), longest)
    for place, session in enumerate(sessions):
        first, rows = view.sessions[["first", "rows"]].iloc[place]
        tick = view.tick[first : first + rows]
        gaps = np.diff(tick) - 1
        assert not ((gaps > 0) & (gaps <= longest)).any() and (gaps >= 0).all()
        assert set(session.time.tolist()) <= set(tick.tolist())
        expected = np.searchsorted(session.time, tick, side="right") - 1
        np.testing.assert_array_equal(view.sensors[first : first + rows, 0], session.sensors[expected, 0])
