"""Values and overrides keep their meaning on the way into a trial."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from conveyorguard.sweeps.space import difference, matches, override, read_space

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.text("'\\\" a$,=[]{}:x1.가")
SCALAR = TEXT.filter(lambda text: not text.startswith(("[", "{"))) | st.none() | st.booleans() | st.integers()


@settings(deadline=None)
@given(SCALAR | st.floats(allow_nan=False) | st.lists(SCALAR, max_size=3))
@example("null")
@example("True")
@example("nan")
@example("it's")
@example("a\\'")
@example("C:\\")
@example("이송")
@example(1e-5)
def test_override_keeps_value_and_type(value: object) -> None:
    def plain(parsed: object) -> object:
        return [plain(item) for item in parsed] if isinstance(parsed, list) else getattr(parsed, "text", parsed)

    (read,) = OverridesParser.create().parse_overrides([override("key", value)])
    arrived = plain(read.value())
    assert arrived == value and type(arrived) is type(value)


def test_later_override_replaces_earlier() -> None:
    space, task, errors = read_space(
        {"a": "choice(1, 2)", "b": "interval(0.0, 1.0)", "c": 5}, ["a=3", "b=choice(7,8)", "~d", "e=glob(*)"]
    )
    assert list(space) == ["b"] and space["b"].choices == (7, 8)
    assert task == ["c=5", "a=3", "~d"]
    assert len(errors) == 1 and errors[0].startswith("e=glob(*): ")


def test_difference_of_configs_is_written_as_overrides() -> None:
    old = OmegaConf.create({"a": 1, "b": {"c": "${a}", "d": [1], "e": 2}, "gone": 1})
    new = OmegaConf.create({"a": 2, "b": {"c": "${a}", "d": [1, 2], "e": None, "f": "x/y"}})
    assert difference(old, new) == ["a=2", "b.d=[1, 2]", "b.e=null", "+b.f=x/y"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("split.seed=1", True),
        ("+seed=a", True),
        ("seed@x=a", True),
        ("seeds=1", False),
        ("a.seed=1", False),
        ("split=1", False),
        ("seed.x=1", False),
    ],
)
def test_pattern_matches_keys(line: str, named: bool) -> None:
    assert matches(line, ["seed", "split.*"]) is named
