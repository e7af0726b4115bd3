"""The simulator of AI Hub #71802. The figures expected here are quoted from public write-ups."""

import csv
import shutil
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive import writer as archive_writer
from conveyorguard.data.simulate import generate as simulate
from conveyorguard.errors import ConfigError, DataError

TENTHS = range(10)


# Archives


@pytest.fixture(scope="module", params=["zip", "folder"])
def written(request, schema, tmp_path_factory):
    """A session of each kind, written as archives and read back."""
    out = tmp_path_factory.mktemp("written")
    assert archive_writer.write(out, schema, 2, 3, request.param) == 2
    yield out, {item.name: item.read() for item in archive.sessions(out, schema)}
    shutil.rmtree(out)


def test_written_archives_read_back_as_simulated(written, schema):
    _, sessions = written
    plans = simulate.plan(2, 3)
    assert [item.name for item in plans] == list(sessions) and {item.kind for item in plans} == {"agv", "oht"}
    for item in plans:
        simulated, read = simulate.simulate(item, schema, 3), sessions[item.name]
        assert (read.device, read.kind, read.dropped) == (simulated.device, simulated.kind, [])
        np.testing.assert_allclose(read.thermal, simulated.thermal, atol=0.01)
        np.testing.assert_array_equal(read.sensors, simulated.sensors)
        np.testing.assert_array_equal(read.environment, simulated.environment)
        np.testing.assert_array_equal(read.state, simulated.state)
        np.testing.assert_array_equal(read.time, simulated.time)


def test_written_archives_have_the_folder_layout_of_the_real_set(written, schema):
    out, sessions = written
    names = {path.name.removesuffix(".zip") for path in out.rglob("[TV][SL]_*")}
    assert names == {head + name[2:] for name in sessions for head in (name[:2], f"{name[0]}L")}
    for path in out.rglob("[TV][SL]_*"):
        part, folder = path.parents[1].name, path.parent.name
        assert part == ("Training" if path.name[0] == "T" else "Validation")
        assert folder.startswith("01." if path.name[1] == "S" else "02.")
    with pytest.raises(DataError, match="not empty"):
        archive_writer.write(out, schema, 1, 0, "zip")


# Plans


def real_recordings():
    text = files("conveyorguard.data.simulate").joinpath("aihub_71802_recordings.csv").read_text(encoding="utf-8")
    return {row["archive"]: int(row["seconds"]) for row in csv.DictReader(text.splitlines())}


def test_full_size_plan_has_the_real_names_and_lengths():
    plans = simulate.plan(341, 0)
    assert {item.name: item.seconds for item in plans} == real_recordings()
    assert len(plans) == 341 and len({item.device for item in plans}) == 36
    assert [item.name for item in simulate.plan(341, 9)] == [item.name for item in plans]


@pytest.mark.parametrize("count", [1, 2, 5, 12, 36, 72, 192, 200, 340, 341, 342, 500, 1000])
def test_planned_names_are_unique_for_any_number_of_sessions(count):
    plans = simulate.plan(count, 0)
    assert len({item.name for item in plans}) == len(plans) == count
    assert all(archive.ARCHIVE.match(item.name) for item in plans)
    assert len({item.device for item in plans}) == min(count, 36), "each device once before any twice"
    assert count > 341 or {item.name for item in plans} <= set(real_recordings())


@pytest.mark.parametrize("seed", [0, 1])
def test_full_size_plan_has_fault_modes_by_quota(seed):
    modes = pd.DataFrame(
        [(item.kind, item.mode or "none") for item in simulate.plan(341, seed)], columns=["kind", "mode"]
    )
    oht = modes["mode"][modes["kind"] == "oht"].value_counts().to_dict()
    assert oht == {"CT1": 34, "CT2": 69, "CT2+CT3": 55, "CT2+CT4": 28, "none": 29}
    agv = modes["mode"][modes["kind"] == "agv"].value_counts().to_dict()
    faults = sum(agv.values()) - agv.pop("none")
    for mode, quota in {"CT1": 7, "CT2": 10, "CT2+CT3": 11, "CT2+CT4": 10}.items():
        assert agv[mode] == pytest.approx(quota / 38 * faults, abs=1)
    assert (modes["mode"] == "none").sum() == 52


@pytest.mark.parametrize("count", [12, 36, 72])
def test_small_plan_has_faults_in_both_parts_and_sessions_without_fault(count):
    plans = simulate.plan(count, 0)
    for part in "TV":
        assert any(item.mode for item in plans if item.name[0] == part)
    assert {item.kind for item in plans} == {"agv", "oht"}
    assert any(item.mode is None for item in plans) and len({item.mode for item in plans}) > 2


def test_zero_sessions_unknown_channels_and_unknown_archive_are_refused(schema, plain_schema):
    with pytest.raises(ConfigError, match=r"data\.sessions=0"):
        simulate.plan(0, 0)
    with pytest.raises(ConfigError, match="heat, amps, air"):
        list(simulate.sessions(None, plain_schema, 1, 0))
    with pytest.raises(ConfigError, match=r"Set data\.archive to zip or folder"):
        archive_writer.write(None, schema, 1, 0, "tar")


# Sessions


def test_same_seed_repeats_the_data_and_another_seed_changes_them(schema):
    item = simulate.plan(72, 0)[40]
    first, again, other = (simulate.simulate(item, schema, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.thermal, again.thermal)
    np.testing.assert_array_equal(first.sensors, again.sensors)
    assert not np.array_equal(first.sensors, other.sensors)
    assert not np.array_equal(first.thermal[0], other.thermal[0])
    differing = [simulate.simulate(item, schema, 0).sensors for item in simulate.plan(4, 0)]
    assert not np.array_equal(differing[0][:50], differing[2][:50]), "sessions of a set differ"


def frames_without_boards(sessions, seed, schema):
    """Return every second as a row, without drawing the board, whose maximum is `hot` as another test shows."""
    tables = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "board", lambda item, hot, *_: hot.round(2)[:, None, None])
        for item in simulate.plan(sessions, seed):
            session = simulate.simulate(item, schema, seed)
            table = pd.DataFrame(session.sensors.astype(float), columns=list(schema.channels))
            table[list(schema.environment)] = session.environment
            table["hot"], table["state"] = session.thermal[:, 0, 0], session.state
            table["session"], table["kind"], table["mode"] = item.name, item.kind, item.mode or "none"
            onset = int(np.argmax(session.state > 0)) if item.mode else len(table)
            table["onset"] = onset
            table["course"] = (session.time - onset) / max(item.seconds - 1 - onset, 1)  # 0 at onset, 1 at the end
            tables.append(table)
    return pd.concat(tables, ignore_index=True).astype({"session": "category", "kind": "category", "mode": "category"})


@pytest.fixture(scope="module", params=[0, 1])
def full(request, schema):
    return frames_without_boards(341, request.param, schema)


def test_frame_maximum_is_the_hot_spot_temperature(schema):
    """The hot spot is a sharp-edged component of about 6 x 14 pixels."""
    hot = frames_without_boards(3, 2, schema)
    for item in simulate.plan(3, 2):
        frames = simulate.simulate(item, schema, 2).thermal
        expected = hot["hot"][hot["session"] == item.name]
        np.testing.assert_allclose(frames.max((1, 2)), expected, atol=0.011)
        assert 30 < np.median(frames[0]) < 45 and 1 < frames[0].std() < 2.5
        if item.mode:
            last = frames[-1]
            warm = np.argwhere(last > (last.max() + np.median(last)) / 2)
            assert np.ptp(warm, axis=0).max() < 60, "one component glows, not the board"
            assert last.mean() > frames[0].mean() + 1, "the board warms up around the component"


def test_session_with_a_fault_passes_the_states_in_order(full):
    for name, rows in full.groupby("session", observed=True):
        state = rows["state"].to_numpy()
        if rows["mode"].iloc[0] == "none":
            assert not state.any(), name
            continue
        assert (np.diff(state) >= 0).all() and set(state) == {0, 1, 2, 3}, name
        counts = np.bincount(state)
        assert counts[3] == 30 and (state[-30:] == 3).all(), name
        assert abs(counts[1] - counts[2]) <= 1, "minor and moderate are halves"


def test_onsets_have_the_published_mean_and_spread(full):
    onset = (
        full[full["mode"] != "none"]
        .groupby("session", observed=True)[["kind", "onset"]]
        .first()
        .groupby("kind", observed=True)["onset"]
    )
    for kind, mean, sd, earliest, latest in (("oht", 110, 22, 42, 171), ("agv", 152, 19, 120, 193)):
        values = onset.get_group(kind)
        assert values.mean() == pytest.approx(mean, rel=0.05) and values.std() == pytest.approx(sd, rel=0.25)
        assert earliest <= values.min() and values.max() <= latest * 361 / 301


def close(value, quoted, sd=0.0):
    """Return whether a value is within 15 %, or half the quoted standard deviation."""
    return abs(value - quoted) <= max(0.15 * abs(quoted), sd / 2)


def assert_close(values, quoted, what):
    """Compare lists; an entry of `quoted` is a mean, or (mean, sd)."""
    pairs = [entry if isinstance(entry, tuple) else (entry, 0.0) for entry in quoted]
    wrong = [
        f"{what}[{i}]: {f:.2f}, quoted {q}"
        for i, (f, (q, sd)) in enumerate(zip(values, pairs, strict=True))
        if not close(f, q, sd)
    ]
    assert not wrong, "; ".join(wrong)


PER_STATE = {
    "oht": {
        "NTC": [(27.6, 0.6), (29.3, 2.5), (37.4, 7.3), (48.2, 11.9)],
        "CT1": [(2.40, 0.33), (3.41, 2.8), (9.3, 17), (24, 46)],
        "CT2": [(1.09, 0.25), (3.11, 2.0), (22.1, 18.5), (87, 47)],
        "CT3": [(0.51, 0.14), (1.17, 1.1), (8.2, 14.5), (31, 49)],
        "CT4": [(0.48, 0.10), (0.81, 0.8), (3.9, 10), (16, 38)],
        "hot": [(46.9, 3.6), (57.7, 7.6), (74.7, 10.2), (91.2, 10.3)],
        "PM10": [20] * 4,
        "PM2.5": [12] * 4,
        "PM1.0": [8] * 4,
    },
    "agv": {
        "NTC": [(26.4, 5.3), (33.4, 5.7), (46.0, 5.8), (54.8, 5.5)],
        "PM10": [(47, 6.5), (66, 7.9), (81, 4.2), (85, 3.7)],
        "PM2.5": [0.55 * 47, 0.55 * 66, 0.55 * 81, 0.55 * 85],
        "PM1.0": [0.45 * 47, 0.45 * 66, 0.45 * 81, 0.45 * 85],
        "CT1": [1.9, 2.4, 7.3, 26],
        "CT2": [75.6, 76.8, 100, 179],
        "CT3": [50.4, 50.7, 59, 85],
        "CT4": [19.6, 20.5, 28, 54],
        "hot": [49, 67, 84, 96],
    },
}


@pytest.mark.parametrize(("kind", "channel"), [(kind, channel) for kind in PER_STATE for channel in PER_STATE[kind]])
def test_means_per_state_are_the_published_ones(kind, channel, full):
    moments = full[full["kind"] == kind].groupby("state")[channel].agg(["mean", "std"])
    assert_close(moments["mean"], PER_STATE[kind][channel], f"{kind} {channel}")
    for state, entry in enumerate(PER_STATE[kind][channel]):
        if isinstance(entry, tuple):  # a wrong spread makes the task too easy or too hard
            assert 0.6 * entry[1] < moments["std"][state] < 1.6 * entry[1], (kind, channel, state)


BY_TENTHS = {
    ("oht", "CT1", "NTC"): [27.4, 27.6, 28.0, 28.5, 29.3, 30.6, 32.2, 34.1, 36.2, 38.5],
    ("oht", "CT2", "NTC"): [27.9, 28.5, 29.3, 30.4, 31.8, 33.7, 35.9, 38.8, 42.2, 46.0],
    ("oht", "CT2+CT3", "NTC"): [28.1, 28.7, 29.9, 31.6, 33.8, 36.4, 40.1, 44.7, 50.2, 56.5],
    ("oht", "CT2+CT4", "NTC"): [28.8, 30.0, 31.7, 33.8, 36.2, 39.2, 43.1, 47.6, 52.7, 58.6],
    ("oht", "CT1", "hot"): [51, 53, 54, 57, 63, 68, 74, 80, 90, 101],
    ("oht", "CT2", "hot"): [51, 54, 56, 59, 63, 70, 77, 83, 91, 99],
    ("oht", "CT2+CT3", "hot"): [55, 58, 60, 63, 66, 69, 73, 76, 79, 83],
    ("oht", "CT2+CT4", "hot"): [58, 64, 68, 73, 77, 80, 83, 86, 88, 90],
    ("oht", "CT2", "CT2"): [2.0, 2.9, 4.4, 6.8, 10.8, 17, 28, 46, 77, 126],
    ("agv", None, "NTC"): [28, 32, 35, 38, 40, 43, 46, 50, 53, 55],
    ("agv", None, "PM10"): [58, 63, 69, 73, 77, 80, 82, 83, 84, 85],
}


@pytest.mark.parametrize(("kind", "mode", "channel"), BY_TENTHS)
def test_means_by_tenths_from_onset_are_the_published_ones(kind, mode, channel, full):
    rows = full[(full["kind"] == kind) & (full["state"] > 0) & (True if mode is None else full["mode"] == mode)]
    tenth = np.minimum((rows["course"] * 10).astype(int), 9)
    assert_close(rows.groupby(tenth)[channel].mean(), BY_TENTHS[kind, mode, channel], f"{kind} {mode} {channel}")


def test_only_currents_of_the_fault_mode_grow(full):
    last = (
        full[(full["kind"] == "oht") & (full["state"] == 3)]
        .groupby("mode", observed=True)[["CT1", "CT2", "CT3", "CT4"]]
        .mean()
    )
    for mode, row in last.iterrows():
        for current, value in row.items():
            assert (value > 20) if current in mode else close(value, PER_STATE["oht"][current][0][0]), (mode, current)


def test_shares_of_states_are_the_published_ones(full):
    assert_close(full["state"].value_counts(normalize=True).sort_index(), [0.491, 0.215, 0.216, 0.078], "share")
    per_kind = {
        "oht": [27855 + 3059, 13098 + 1804, 13176 + 1819, 4920 + 660],
        "agv": [21430 + 2584, 8091 + 1088, 8146 + 1050, 2760 + 330],
    }
    for kind, counts in per_kind.items():
        assert_close(full[full["kind"] == kind]["state"].value_counts().sort_index(), counts, kind)


@pytest.fixture(scope="module")
def normal(full):
    """Seconds of normal operation, well before any onset."""
    return full[(full["state"] == 0) & (full.groupby("session", observed=True).cumcount() < 0.6 * full["onset"])]


NOISE = {  # sd within a session, sd between sessions
    "oht": {
        "NTC": (0.30, 0.39),
        "CT1": (0.25, 0.24),
        "CT2": (0.20, 0.15),
        "CT3": (0.09, 0.10),
        "CT4": (0.06, 0.09),
        "hot": (2.0, 2.6),
    },
    "agv": {"NTC": (1.4, 4.7), "CT1": (0.15, 0.08), "CT2": (1.0, 3.4), "CT3": (0.9, 3.4), "CT4": (0.04, 0.4)},
}


@pytest.mark.parametrize(("kind", "channel"), [(kind, channel) for kind in NOISE for channel in NOISE[kind]])
def test_noise_in_normal_operation_is_the_published_one(kind, channel, full):
    within, between = NOISE[kind][channel]
    sessions = full[(full["kind"] == kind) & (full["state"] == 0)].groupby("session", observed=True)[channel]
    assert sessions.std().mean() == pytest.approx(within, rel=0.3)
    assert sessions.mean().std() == pytest.approx(between, rel=0.3)


def lag1(rows, channel):
    """Return the mean correlation of a second with the next, within a session."""
    return rows.groupby("session", observed=True)[channel].apply(lambda values: values.autocorr(1)).mean()


def test_consecutive_seconds_correlate_as_published(normal):
    oht, agv = normal[normal["kind"] == "oht"], normal[normal["kind"] == "agv"]
    for current in ("CT1", "CT2", "CT3", "CT4"):
        assert -0.5 < lag1(oht, current) < -0.2 and -0.5 < lag1(agv, current) < -0.2
    for pm in ("PM10", "PM2.5", "PM1.0"):
        assert abs(lag1(oht, pm)) < 0.1
    assert lag1(agv, "PM10") == pytest.approx(0.7, abs=0.1)
    for slow in ("NTC", "hot"):
        assert lag1(oht, slow) > 0.85 and lag1(agv, slow) > 0.85


def test_correlations_with_the_state_are_the_published_ones(full):
    quoted = {
        "NTC": 0.792,
        "CT2": 0.382,
        "CT1": 0.336,
        "CT4": 0.233,
        "PM10": 0.214,
        "PM2.5": 0.204,
        "PM1.0": 0.201,
        "CT3": 0.179,
    }
    for channel, value in quoted.items():
        assert full[channel].corr(full["state"]) == pytest.approx(value, abs=0.08), channel
    for channel in ("ex_temperature", "ex_humidity", "ex_illuminance"):
        assert abs(full[channel].corr(full["state"])) < 0.1, "the environment does not reveal the state"


def test_environment_stays_in_the_range_of_its_kind(full):
    ranges = {"oht": [(22, 23), (35, 36), (511, 530)], "agv": [(25, 26), (27, 34), (151, 160)]}
    for kind, limits in ranges.items():
        for name, (low, high) in zip(("ex_temperature", "ex_humidity", "ex_illuminance"), limits, strict=True):
            values = full.loc[full["kind"] == kind, name]
            assert low - 0.1 <= values.min() and values.max() <= high + 0.1


def test_particles_rise_with_the_state_on_agv_only(full):
    slope = {kind: full[full["kind"] == kind]["PM10"].corr(full["state"]) for kind in ("oht", "agv")}
    assert abs(slope["oht"]) < 0.03 and slope["agv"] > 0.8
