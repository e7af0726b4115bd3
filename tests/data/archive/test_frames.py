"""Parsing the csv, bin and json of a second: valid spellings, and what was expected and found in invalid ones."""

import json
import math
import sys
import warnings

import numpy as np
import pytest

from conveyorguard.data.archive.frames import (
    Wrong,
    bin_limit,
    environment_value,
    parse_bin,
    parse_csv,
    parse_json,
)
from tests.data.archive.spoiled import SHAPE, header, label

pytestmark = pytest.mark.promise(
    "input", "Names inside a zip are never used as paths. The header of a `.npy` file is matched, never evaluated."
)

CHANNELS = ("NTC", "PM1.0", "CT1", "CT2")


def wrong(parse, *arguments):
    with pytest.raises(Wrong) as error:
        parse(*arguments)
    assert str(error.value) == error.value.expected
    return error.value.expected, error.value.actual


def test_csv_row_is_read_by_column_name():
    assert parse_csv(b' CT2 ,"NTC", PM1.0,x,CT1\n\n4,1e0, 2 ,9,-3.5\n \n', CHANNELS) == [1, 2, -3.5, 4]
    assert math.isnan(parse_csv(b"NTC,PM1.0,CT1,CT2\n1,nan,3,4", CHANNELS)[1])


def test_up_to_half_of_the_channels_may_be_missing_with_incomplete():
    half = parse_csv(b"CT2,NTC\n4,1\n", CHANNELS, True)
    assert half[0] == 1 and half[3] == 4 and math.isnan(half[1]) and math.isnan(half[2])
    columns = "columns NTC, PM1.0, CT1, CT2"
    assert wrong(parse_csv, b"CT2\n4\n", CHANNELS, True) == (columns, "no column NTC, PM1.0, CT1 in CT2")
    assert wrong(parse_csv, b"NTC,CT1,CT2\n1,3,4\n", CHANNELS) == (columns, "no column PM1.0 in NTC,CT1,CT2")
    assert wrong(parse_csv, b"NTC\n1\n", CHANNELS[:3], True)[1] == "no column PM1.0, CT1 in NTC"


def test_invalid_csv_is_refused_with_expected_and_actual_content():
    start = b"NTC,PM1.0,CT1,CT2"
    assert wrong(parse_csv, start + b",CT1\n1,2,3,4,5", CHANNELS) == ("each column once", "CT1 twice")
    assert wrong(parse_csv, start + b",NTC,CT1\n1,2,3,4,5,6", CHANNELS) == ("each column once", "NTC, CT1 twice")
    assert parse_csv(start + b",x,x\n1,2,3,4,5,6", CHANNELS) == [1, 2, 3, 4], "columns that are not used may repeat"
    assert wrong(parse_csv, start + b"\n1,2,3", CHANNELS) == ("4 values as in the header", "3: 1,2,3")
    assert wrong(parse_csv, start + b"\n1,2,3,x", CHANNELS) == ("numbers", "could not convert string to float: 'x'")
    assert wrong(parse_csv, start + b"\n1,2,3,1_0", CHANNELS) == ("numbers", "could not read 1,2,3,1_0")
    assert wrong(parse_csv, start, CHANNELS) == ("a header and a row", "1 lines")
    assert wrong(parse_csv, b"\xff\xfe", CHANNELS) == ("text in UTF-8", "other bytes")
    expected, actual = wrong(parse_csv, start + b"\n1" + b"0" * 500, CHANNELS)
    assert actual == "1: 1" + "0" * 116, "cut to 120 characters"


COUNTED = np.arange(48.0)


def pixels_under(text, version=b"\x01\x00", size="<H", frame=COUNTED):
    return header(text, version, size) + frame.tobytes()


WHOLE = b"{'descr': '<f8', 'fortran_order': False, 'shape': (6, 8), }\n"


@pytest.mark.parametrize(
    "raw",
    [
        pixels_under(WHOLE),
        pixels_under(WHOLE, b"\x02\x00", "<I"),
        pixels_under(WHOLE, b"\x03\x00", "<I"),
        pixels_under(b'{"shape":(6,8),"fortran_order":False,"descr":"<f8"}'),
        pixels_under(WHOLE + b" " * (4096 - 10 - len(WHOLE))),
        pixels_under(WHOLE.replace(b"<f8", b">f8"), frame=np.arange(48, dtype=">f8")),
        pixels_under(WHOLE.replace(b"<f8", b"<f2"), frame=np.arange(48, dtype="<f2")),
    ],
    ids=["version 1", "version 2", "version 3", "another order", "the longest header", "big-endian", "half precision"],
)
def test_bin_with_any_header_of_numpy_is_read(raw):
    frame = parse_bin(raw, SHAPE)
    assert frame.dtype == np.float32 and frame.shape == SHAPE
    np.testing.assert_array_equal(frame.ravel(), np.arange(48))


def test_invalid_bin_is_refused_with_expected_and_actual_content():
    numbers, matched = (
        "floating point numbers of shape (6, 8)",
        "a .npy header of floating point numbers of shape (6, 8)",
    )
    for change, actual in (
        ((b"<f8", b"<i8"), "<i8 of shape (6, 8)"),
        ((b"<f8", b"|f8"), "|f8 of shape (6, 8)"),
        ((b"False", b"True"), "<f8 of shape (6, 8) in Fortran order"),
        ((b"(6, 8)", b"(6, 8, 1)"), "<f8 of shape (6, 8, 1)"),
    ):
        assert wrong(parse_bin, pixels_under(WHOLE.replace(*change)), SHAPE) == (numbers, actual)
    for text in (
        WHOLE.replace(b"}", b"'descr': '<f8'}"),
        WHOLE.replace(b"'descr'", b"'shape'"),
        b"x" + WHOLE,
        WHOLE + b"x",
    ):
        assert wrong(parse_bin, pixels_under(text), SHAPE) == (matched, repr(text[:80]))
    whole = pixels_under(WHOLE)
    for raw in (b"\x93NUMPX" + whole[6:], whole[:6] + b"\x04\x00" + whole[8:], whole[:11]):
        assert wrong(parse_bin, raw, SHAPE) == ("a .npy stream", f"{len(raw)} bytes beginning {raw[:8]!r}")
    assert wrong(parse_bin, whole[:12], SHAPE) == (matched, repr(WHOLE[:2]))
    assert wrong(parse_bin, whole + b"\0", SHAPE) == ("384 bytes of pixels", "385")
    assert wrong(parse_bin, whole[:-1], SHAPE) == ("384 bytes of pixels", "383")
    long = pixels_under(WHOLE + b" " * (4097 - 10 - len(WHOLE)))
    assert wrong(parse_bin, long, SHAPE) == ("a .npy header of at most 4096 bytes", "one of 4,097")
    assert bin_limit(SHAPE) == 4096 + 16 * 48


def test_numbers_beyond_float32_become_infinite():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = parse_bin(pixels_under(WHOLE, frame=np.full(48, 1e300)), SHAPE)
        signalling = parse_bin(pixels_under(WHOLE, frame=np.full(48, 0x7FF0000000000001)), SHAPE)
    assert np.isinf(frame).all() and np.isnan(signalling).all()


ENVIRONMENT = ("ex_temperature", "ex_humidity")


def test_label_gives_state_and_environment():
    text = json.dumps(
        label("2", external_data=[{"ex_humidity": [{"value": "40.5"}], "ex_temperature": [{"value": 21}]}])
    )
    for raw in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        assert parse_json(raw, 3, ENVIRONMENT) == (2, [21, 40.5])
    state, (warmth, humidity) = parse_json(json.dumps(label(0)).encode(), 3, ENVIRONMENT)
    assert (state, warmth) == (0, 22.5) and math.isnan(humidity)


@pytest.mark.parametrize("value", [True, "1_0", "warm", None, [1], 10**400, ""])
def test_environment_value_that_is_no_number_is_nan(value):
    assert math.isnan(environment_value({"external_data": [{"ex_humidity": [{"value": value}]}]}, "ex_humidity"))
    for broken in (None, [], {}, {"external_data": []}, {"external_data": [{"ex_humidity": []}]}):
        assert math.isnan(environment_value(broken, "ex_humidity"))


def test_invalid_label_is_refused_with_expected_and_actual_content():
    place = "annotations[0].tagging[0].state"
    for state in ("1.0", "+1", "-01", "-0", "", "1" * 10, 1.5, True, " 1"):
        assert wrong(parse_json, json.dumps(label(state)).encode(), 3, ()) == (
            f"a state's number at {place}",
            repr(state),
        )
    for state in ("3", "-1", 3):
        assert wrong(parse_json, json.dumps(label(state)).encode(), 3, ()) == ("a state of 0..2", str(state))
    assert wrong(parse_json, b"{}", 3, ()) == (place, "none (KeyError: 'annotations')")
    assert wrong(parse_json, b'{"annotations": []}', 3, ()) == (place, "none (IndexError: list index out of range)")
    expected, actual = wrong(parse_json, b"{", 3, ())
    assert expected == "json" and "unexpected end" in actual


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="only up to Python 3.11 json nests less deeply than orjson")
def test_label_nested_too_deeply_is_refused():
    deep = json.dumps(label()).encode()[:-1] + b', "\\\\": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    expected, actual = wrong(parse_json, deep, 3, ())
    assert expected == "json" and "recursion" in actual


def test_repeated_key_that_is_used_is_refused():
    plain = json.dumps(label("1"))
    for single, repeated, key in (
        ('"annotations"', '"annotations": 0, "annotations"', "annotations"),
        ('"tagging"', '"tagging": 0, "tagging"', "tagging"),
        ('"state"', '"state": 0, "state"', "state"),
        ('"external_data"', '"external_data": 0, "external_data"', "external_data"),
        ('"ex_temperature"', '"ex_temperature": 0, "ex_temperature"', "ex_temperature"),
        ('"value"', '"value": 0, "value"', "value"),
        ('"state"', '"\\u0073tate": 0, "state"', "state"),
    ):
        raw = plain.replace(single, repeated).encode()
        assert wrong(parse_json, raw, 3, ("ex_temperature",)) == ("each key once in an object", f"'{key}' twice")
    assert parse_json(plain.replace('"state"', '"note": 1, "note": 2, "state"').encode(), 3, ()) == (1, [])
    separate = json.dumps(label("1", other=[{"state": "2"}, {"value": 3}, {"value": 4}])).encode()
    assert parse_json(separate, 3, ("ex_temperature",)) == (1, [22.5]), "a key may occur in several objects"
