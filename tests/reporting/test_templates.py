"""Templates hold the markup, escape what they print, and are all used and packaged."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from conveyorguard.reporting import pages
from tests.support.places import ROOT

REPORTING = Path(pages.__file__).parent
MARKUP = re.compile(
    r"(?<!\w)</?(a|b|details|div|figure|h[1-6]|i|img|li|nav|p|pre|section|span|style|table|td|th|tr|ul)\b[^\n]*>"
)
STAGES = ROOT / "experiments" / "stages"


@pytest.fixture
def drawn_by(tmp_path):
    """Draw the text of a template with these values."""

    def draw(text, /, **values):
        (tmp_path / "page.html.jinja").write_text(text, encoding="utf-8")
        return pages.render("page.html.jinja", folder=tmp_path, **values)

    return draw


def test_text_is_escaped_and_loses_its_folders(drawn_by):
    drawn = drawn_by("<p>{{ text }}</p>", text="<b> read from /home/me/plant/a.csv")
    assert drawn == "<p>&lt;b&gt; read from a.csv</p>" and isinstance(drawn, Markup)


def test_drawn_parts_are_placed_as_they_are(drawn_by):
    assert drawn_by("{{ part }}", part=Markup("<p>/home/me</p>")) == "<p>/home/me</p>"


def test_value_that_is_not_given_is_an_error(drawn_by):
    with pytest.raises(UndefinedError, match="'note' is undefined"):
        drawn_by("{{ note }}")


def test_template_of_another_folder_has_the_shared_macros(drawn_by):
    text = (
        '{% import "macros.html.jinja" as ui %}{% call ui.section(title, "a note") %}{{ ui.tiles(tiles) }}{% endcall %}'
    )
    drawn = drawn_by(text, title="T&T", tiles=[("what", "<5 s")])
    assert drawn.strip() == (
        '<section><h2>T&amp;T</h2><p class="note">a note</p>'
        '<div class="tiles"><div class="tile"><b>&lt;5 s</b><span>what</span></div></div></section>'
    )


@pytest.mark.parametrize("folder", [REPORTING, STAGES], ids=["reporting", "stages"])
def test_python_holds_no_markup(folder):
    for path in sorted(folder.glob("*.py")):
        match = MARKUP.search(path.read_text(encoding="utf-8"))
        assert not match, f"{path.name}: {match[0]}"


def test_every_template_is_drawn_by_some_page():
    folders = [path for path in (REPORTING / "templates", STAGES / "templates") if path.is_dir()]
    templates = [path for folder in folders for path in folder.glob("*.jinja")]
    assert len(templates) > 10
    sources = [*REPORTING.glob("*.py"), *STAGES.glob("*.py"), *templates]
    texts = {path: path.read_text(encoding="utf-8") for path in sources}
    for template in templates:
        assert any(f'"{template.name}"' in text for path, text in texts.items() if path != template), template.name


def test_the_wheel_has_every_file_that_pages_are_made_of():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = setup["package-data"]["conveyorguard.reporting"]
    for path in REPORTING.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            name = path.relative_to(REPORTING).as_posix()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
