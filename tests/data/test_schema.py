"""The schema: valid blocks of a yaml, and messages about invalid ones."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conveyorguard.data.schema import FRAME_COLUMNS, Channel, Schema
from conveyorguard.errors import ConfigError


def test_aihub_schema_matches_the_data_sets_description(schema):
    assert list(schema.channels) == ["NTC", "PM1.0", "PM2.5", "PM10", "CT1", "CT2", "CT3", "CT4"]
    assert schema.thermal.shape == (120, 160) and schema.thermal.stored_shape == (2, 30, 40)
    assert schema.state_names == ["normal", "minor", "moderate", "severe"] and schema.alarm == 2
    assert schema.alarming == "moderate or worse"
    assert set(schema.kinds) == {"agv", "oht"} and schema.inputs == ["sensors", "thermal", "environment"]
    assert schema.thermal.range == (30, 50) and schema.thermal.valid == (-20, 150)


def test_schema_survives_the_manifest_unchanged(schema, plain_schema, schema_node):
    stride = schema_node()
    stride["thermal"]["reduce"] = "stride"
    for original in (schema, plain_schema, Schema.from_config(stride)):
        restored = Schema.from_config(json.loads(json.dumps(original.to_dict())))
        assert restored == original and restored.to_dict() == original.to_dict()
    assert Schema.from_config(stride).thermal.stored_shape == (1, 60, 80)


def test_short_schema_has_the_documented_defaults(plain_schema):
    assert plain_schema.alarm == 3, "the worst state"
    assert plain_schema.alarming == plain_schema.state_names[-1]
    assert plain_schema.thermal is None and plain_schema.inputs == ["sensors", "environment"]
    assert plain_schema.channels["heat"].scaling == "linear" and plain_schema.kinds == ()


def test_channel_may_be_a_unit_or_name_a_column(schema_node):
    node = schema_node(
        channels={"heat": "degC", "amps": {"unit": "A", "column": "I (A)"}}, columns={"time": ["day", "clock"]}
    )
    parsed = Schema.from_config(node)
    assert parsed.channels == {"heat": Channel("degC"), "amps": Channel("A", column="I (A)")}
    assert Schema.from_config(json.loads(json.dumps(parsed.to_dict()))) == parsed


def broken(node, path, value):
    """Return a copy of a node with the entry at a path such as `states/1/name` replaced, or deleted by `...`."""
    node = copy.deepcopy(node)
    *way, last = path.split("/")
    place = node
    for key in way:
        place = place[int(key) if isinstance(place, list) else key]
    last = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return node


ERRORS = [
    ("chanels", {}, "unknown key 'chanels'"),
    ("channels", {}, "`channels` is empty"),
    ("channels", ["NTC"], "`channels`"),
    ("channels/NTC", 5, "'NTC' must read"),
    ("columns", {"tiem": "t"}, "`columns` must name columns of a table: session, device, kind, time, state"),
    ("columns", {"state": ["a", "b"]}, "`columns` must name"),
    ("channels/NTC", {"scaling": "log"}, "'NTC' must read"),
    ("channels/NTC/scalling", "log", "'NTC' must read"),
    ("channels/NTC/scaling", "square", "linear or log, not 'square'"),
    ("channels/time", {"unit": "s"}, "'time'"),
    ("environment/NTC", {"unit": "degC"}, "'NTC' is both"),
    ("environment/ex_humidity", 3, "'ex_humidity' must read"),
    ("states", [{"name": "normal"}], "two or more"),
    ("states", ..., "two or more"),
    ("states/1", {"nme": "minor"}, "state 1"),
    ("states/1", "minor", "state 1"),
    ("states/1/name", "normal", "'normal'"),
    ("alarm", 4, r"1..3, not 4"),
    ("alarm", 0, r"1..3, not 0"),
    ("alarm", "severe", "not 'severe'"),
    ("thermal", "camera", "`thermal`"),
    ("thermal/shape", ..., "`thermal.shape` is missing"),
    ("thermal/stored", ..., "`thermal.stored` is missing"),
    ("thermal/size", [1, 2], "'thermal.size'"),
    ("thermal/shape", [120], "`thermal.shape`"),
    ("thermal/shape", 120, "`thermal.shape`"),
    ("thermal/stored", [0, 40], "`thermal.stored`"),
    ("thermal/stored", [130, 40], "larger than"),
    ("thermal/range", [100, 20], "`thermal.range`"),
    ("thermal/valid", [1], "`thermal.valid`"),
    ("thermal/stride", 0, "`thermal.stride`"),
    ("thermal/reduce", "median", "mean_max or stride, not 'median'"),
]


@pytest.mark.parametrize(("path", "value", "words"), ERRORS, ids=[f"{path}={value}" for path, value, _ in ERRORS])
def test_invalid_schema_is_refused_with_the_key(path, value, words, schema_node):
    with pytest.raises(ConfigError) as caught:
        Schema.from_config(broken(schema_node(), path, value))
    assert words in str(caught.value) and str(caught.value).startswith("data.schema")


def test_device_in_two_parts_is_refused(schema_node):
    node = schema_node()
    node["device_split"] = {"val": ["oht01"], "test": ["oht02", "oht01"]}
    with pytest.raises(ConfigError, match="`device_split` names oht01 more than once"):
        Schema.from_config(node)


def test_all_schema_problems_are_reported_together(schema_node):
    paths = [
        "chanels",
        "channels/NTC/scaling",
        "channels/time",
        "environment/ex_humidity",
        "states/1/name",
        "alarm",
        "thermal/size",
        "thermal/range",
        "thermal/reduce",
    ]
    node, expected = schema_node(), []
    for path in paths:
        value, words = next((v, w) for p, v, w in ERRORS if p == path)
        node = broken(node, path, value)
        expected.append(words)
    with pytest.raises(ConfigError) as caught:
        Schema.from_config(node)
    message = str(caught.value)
    assert [words for words in expected if words not in message] == []
    assert message.count("\n  - ") == len(paths), "one line per problem"


@pytest.mark.parametrize("name", FRAME_COLUMNS)
def test_channel_named_like_a_frame_column_is_refused(name, schema_node):
    node = schema_node()
    node["environment"][name] = {"unit": "s"}
    with pytest.raises(ConfigError, match=name):
        Schema.from_config(node)


def paths(node, way=""):
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield f"{way}{key}"
        yield from paths(value, f"{way}{key}/")


odd = st.one_of(
    st.none(),
    st.just(...),
    st.integers(-3, 300),
    st.text(max_size=3),
    st.booleans(),
    st.floats(),
    st.lists(st.integers(-1, 200), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(st.data())
def test_any_yaml_gives_a_schema_or_a_named_error(schema_node, data):
    node = schema_node()
    node = broken(node, data.draw(st.sampled_from(sorted(paths(node)))), data.draw(odd))
    try:
        Schema.from_config(node)
    except ConfigError as error:
        assert str(error).startswith("data.schema")
