"""Times of a column: read rightly and whole, or refused with the remedy."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conveyorguard.data.table.clock import choose_times
from conveyorguard.errors import DataError

MOMENT = pd.Timestamp("2023-11-28 21:07:09")
GERMAN = ("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober")
GERMAN += ("November", "Dezember")
FRENCH = ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre")
FRENCH += ("novembre", "décembre")
KOREAN_DAYS = "월화수목금토일"


def times(texts, **options):
    return choose_times(pd.Series(texts, dtype=object), **options)


def certain(at):
    """Ways to write a moment that can be read in one way only."""
    half, hour = "오후" if at.hour >= 12 else "오전", (at.hour - 1) % 12 + 1
    return [
        at.strftime(text)
        for text in (
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%dT%H:%M:%S",
            "%Y/%m/%d %H:%M:%S",
            "%Y.%m.%d %H:%M:%S",
            "%Y:%m:%d %H:%M:%S.000",
            "%Y%m%d%H%M%S",
            "%Y%m%dT%H%M%S",
            "%Y%m%d %H:%M:%S",
            "%d.%m.%Y %H:%M:%S",
            "%d %b %Y %H:%M:%S",
            "%d-%b-%y %I:%M:%S %p",
            "%b %d, %Y %I:%M:%S %p",
            "%a %b %d %H:%M:%S %Y",
            "%A, %d. %B %Y, %H:%M:%S",
            "%d/%b/%Y:%H:%M:%S",
            "%H:%M:%S %Y-%m-%d",
            f"%Y년 %m월 %d일 ({KOREAN_DAYS[at.weekday()]}) %H:%M:%S",
            "%Y년 %m월 %d일 %H시 %M분 %S초",
            f"%Y-%m-%d {half} {hour}:%M:%S",
            f"%Y. %m. %d. {half} {hour}:%M:%S",
            f"%d. {GERMAN[at.month - 1]} %Y %H:%M:%S Uhr",
            f"%d {FRENCH[at.month - 1]} %Y %H:%M:%S",
        )
    ]


@settings(max_examples=60)
@given(st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2068, 12, 31)), st.integers(1, 5000))
def test_every_certain_way_of_writing_a_moment_gives_that_moment(at, step):
    at = at.replace(microsecond=0)
    moments = [at + dt.timedelta(seconds=i * step) for i in range(3)]
    for texts in zip(*map(certain, moments), strict=True):
        read = times(texts)
        assert read.start == pd.Timestamp(at, tz="UTC"), texts
        assert read.seconds.tolist() == [0, step, 2 * step], texts
        assert read.format and not read.must_be_named and read.zone is None
        again = times(texts, time_format=read.format)
        assert (again.start, again.seconds.tolist()) == (read.start, read.seconds.tolist()), read.format


ORDERED = [
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d-%m-%y %H:%M",
    "%m/%d/%y %I:%M %p",
    "%y.%m.%d %H:%M",
    "%d.%m.%y %H:%M",
    "%H:%M:%S %d/%m/%Y",
    "%d %m %Y %H:%M",
]


@settings(max_examples=200)
@given(
    st.sampled_from(ORDERED),
    st.datetimes(dt.datetime(1995, 1, 1), dt.datetime(2030, 12, 31)),
    st.sampled_from([60, 600, 3600, 86400]),
    st.integers(1, 60),
    st.integers(0, 27),  # a stop of just a month at midnight cannot be told from none
)
def test_a_column_of_numbers_is_never_read_in_another_order(time_format, at, step, rows, gap):
    """Day first, month first or year first: what the whole column does not decide is refused with the true one."""
    at = at.replace(second=0, microsecond=0)
    moments = [at + dt.timedelta(seconds=i * step, days=gap * (i > rows // 2)) for i in range(rows)]
    texts = [moment.strftime(time_format) for moment in moments]
    try:
        read = times(texts)
    except DataError as error:
        assert "data.reader.time_format" in str(error) and f'"{time_format}"' in str(error)
        read = times(texts, time_format=time_format)
    assert read.start == pd.Timestamp(at, tz="UTC"), texts
    assert read.seconds.tolist() == [(moment - at).total_seconds() for moment in moments]


def test_an_order_that_a_day_above_twelve_decides_should_be_named_for_the_other_files():
    read = times(["11/28/2023 10:00", "11/28/2023 10:10"])
    assert (read.format, read.must_be_named) == ("%m/%d/%Y %H:%M", True)
    with pytest.raises(DataError, match=r'"%d/%m/%Y %H:%M" \(03 May 2023\) or "%m/%d/%Y %H:%M" \(05 Mar 2023\)'):
        times(["03/05/2023 10:00", "03/05/2023 10:10"])


def test_a_recording_that_goes_on_over_midnight_decides_the_order():
    moments = pd.date_range("2023-04-05 23:00", periods=20, freq="10min")
    for order in ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%y-%m-%d %H:%M"):
        assert times(moments.strftime(order)).format == order


@pytest.mark.parametrize(("scale", "unit"), [(1, "s"), (1000, "ms"), (10**6, "us"), (10**9, "ns")])
@pytest.mark.parametrize("kind", [int, str, float])
def test_epochs_of_all_units(scale, unit, kind):
    first = int(MOMENT.timestamp()) * scale
    read = choose_times(pd.Series([kind(first + i * scale) for i in range(4)]))
    assert abs(read.start - MOMENT.tz_localize("UTC")) < pd.Timedelta("1us") and (read.unit, read.zone) == (unit, "UTC")
    np.testing.assert_allclose(read.seconds, range(4), atol=1e-6)


@pytest.mark.parametrize("write", [float, "{:.6f}".format, "{:.10f}".format])
@pytest.mark.parametrize("step", [60, 600, 3600])
def test_day_numbers_of_excel(write, step):
    days = (MOMENT - pd.Timestamp("1899-12-30")).total_seconds() / 86400 + np.arange(12) * step / 86400
    read = choose_times(pd.Series([write(day) for day in days]))
    assert read.unit == "excel" and abs(read.start - MOMENT.tz_localize("UTC")) < pd.Timedelta("100ms")
    np.testing.assert_allclose(read.seconds, np.arange(12) * step, atol=0.1)
    assert choose_times(pd.Series(np.arange(45258, 45270, 0.01))).unit == "s", "hundredths of a second"


def test_zones_are_read_and_summer_time_neither_repeats_nor_skips_an_hour():
    utc = pd.date_range("2023-10-28 23:00", periods=24, freq="10min", tz="UTC")
    local = utc.tz_convert("Europe/Berlin")
    steps = (np.arange(24) * 600).tolist()
    offsets = [f"{moment:%Y-%m-%d %H:%M:%S%z}" for moment in local]
    for texts in (offsets, [text[:-2] + ":" + text[-2:] for text in offsets], [text[:-2] for text in offsets]):
        read = times(texts)
        assert (read.start, read.zone, read.seconds.tolist()) == (utc[0], "UTC+02:00", steps)
    named = times([f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname()}" for moment in local])
    assert (named.start, named.seconds.tolist()) == (utc[0], steps)
    wall = [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in local]
    read = times(wall, zone="Europe/Berlin")
    assert (read.start, read.zone, read.seconds.tolist()) == (utc[0], "Europe/Berlin", steps)
    read = times(wall)
    assert read.seconds.tolist() == steps and read.zone is None and "goes back an hour at 2023-10-29 02:00" in read.note
    spring = pd.date_range("2023-03-26 00:00", periods=12, freq="10min", tz="UTC").tz_convert("Europe/Berlin")
    read = times([f"{moment:%Y-%m-%d %H:%M:%S}" for moment in spring], zone="Europe/Berlin")
    assert read.seconds.tolist() == steps[:12]
    typed = choose_times(pd.Series(local))
    assert (typed.start, typed.zone, typed.seconds.tolist()) == (utc[0], "Europe/Berlin", steps)


def test_a_fraction_of_a_second_may_be_left_out():
    assert times(["2023-11-28 21:07:09", "2023-11-28 21:07:09.5", "2023-11-28 21:07:10,25"]).seconds.tolist() == [
        0,
        0.5,
        1.25,
    ]
    read = times(["28.11.2023 21:07:09", "28.11.2023 21:07:09.5"], time_format="%d.%m.%Y %H:%M:%S")
    assert read.seconds.tolist() == [0, 0.5]


@pytest.mark.parametrize(
    "text",
    [
        "28 Foo 2023 10:00",
        "2023-11-31 10:00:00",
        "32/13/2023 10:00",
        "28.11.2023 25:00",
        "28.11.2023 10:00:00 CST",
        "Nov 28 10:00:00",
        "2023-W48-2",
        "28 Nov 2023 at ten",
        "12 o'clock",
        "10:00:00 yesterday",
    ],
)
def test_what_is_not_understood_whole_is_refused_and_never_cut_down(text):
    with pytest.raises(DataError, match=r"data\.reader\.time_format"):
        times([text] * 5)


def test_numbers_are_no_dates_and_seconds_stay_seconds():
    for values in (["12", "13"], ["1.5", "2.5"], [0, 60]):
        read = times(values)
        assert read.start is None and read.unit == "s" and read.seconds.tolist() == [float(v) for v in values]


def test_times_of_day_have_no_date_and_run_over_midnight():
    read = times(["11:59:58 PM", "11:59:59 PM", "12:00:00 AM", "12:00:01 AM"])
    assert read.start is None and (read.seconds - read.seconds[0]).tolist() == [0, 1, 2, 3]
    assert (times(["오후 11:59:59", "오전 12:00:00"]).seconds % 86400).tolist() == [86399, 0]


def test_a_few_odd_cells_are_no_time_and_many_refuse_the_column():
    texts = [f"2023-11-28 10:{i:02d}" for i in range(40)]
    read = times([*texts[:7], "ERR", *texts[8:]])
    assert np.flatnonzero(np.isnan(read.seconds)).tolist() == [7]
    with pytest.raises(DataError, match=r"found '28\.11\. 10:00' in row 1"):
        times(["28.11. 10:00"] * 8 + texts[8:])


def test_a_named_format_that_does_not_suit_is_refused():
    with pytest.raises(DataError, match=r"format %Y/%m/%d, found '28\.11\.2023'.*correct data\.reader\.time_format"):
        times(["28.11.2023"] * 3, time_format="%Y/%m/%d")
