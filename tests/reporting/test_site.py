"""A site: links between its pages, its index, its tables as csv."""

import re

import pandas as pd
import pytest

from conveyorguard.metrics.intervals import Interval
from conveyorguard.reporting.site import Site
from tests.support.pages import missing_of

EVIL = '<script>alert("x")</script>'
TITLES = {"00_first": "First", "01_second": "Second", "02_third": EVIL}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path, f"study {EVIL}", TITLES, f"banner {EVIL}", [("command", EVIL)])


def content(site, name="00_table"):
    return site.table(name, pd.DataFrame({"arm": ["a"], "score": [Interval(0.5, 0.4, 0.6)]}), {"score": ".1%"})


def links_of(page):
    nav = re.search("<nav>(.*?)</nav>", page.read_text(encoding="utf-8"))
    return re.findall(r'<a href="([^"]*)"( aria-current="page")?>([^<]*)</a>', nav[1])


def test_page_written_first_links_to_page_written_later(site, tmp_path):
    first = site.write("00_first", "s", content(site), ["one sentence"])
    assert [target for target, *_ in links_of(first)] == ["index.html", "00_first.html"]
    second = site.write("01_second", "s", content(site), [])
    assert links_of(first) == [
        ("index.html", "", "Overview"),
        ("00_first.html", ' aria-current="page"', "First"),
        ("01_second.html", "", "Second"),
    ]
    assert [current for _, current, _ in links_of(second)] == ["", "", ' aria-current="page"']
    for page in tmp_path.glob("*.html"):
        assert not missing_of(page), page


def test_page_written_again_replaces_its_content(site):
    page = site.write("00_first", "before", content(site), [])
    site.write("00_first", "after", content(site, "00_other"), [])
    text = page.read_text(encoding="utf-8")
    assert "after" in text and "before" not in text and "00_other.csv" in text and "00_table.csv" not in text


def test_index_repeats_the_sentences_and_names_what_is_missing(site, tmp_path):
    site.write("01_second", "what it is about", content(site), ["best: a", EVIL])
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<li>best: a</li><li>&lt;script&gt;" in index and "01 Second" in index and "what it is about" in index
    assert "Not there yet" in index and "First, &lt;script&gt;" in index and "In short" not in index
    site.write("02_third", "s", content(site), ["in the end: b"])
    assert "In short</h2><ul><li>in the end: b</li></ul>" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_nothing_in_a_site_is_taken_for_markup(site, tmp_path):
    site.write("02_third", EVIL, content(site), [EVIL])
    for page in tmp_path.glob("*.html"):
        assert EVIL not in page.read_text(encoding="utf-8"), page


def test_page_of_an_earlier_layout_stays_as_it_is_and_is_linked(site, tmp_path):
    old = tmp_path / "00_first.html"
    old.write_text("written before contents were kept")
    page = site.write("01_second", "s", content(site), [])
    assert old.read_text() == "written before contents were kept"
    assert "00_first.html" in [target for target, *_ in links_of(page)]


def test_page_keeps_what_it_was_made_from_when_another_command_writes_the_next(site, tmp_path):
    first = site.write("00_first", "s", content(site), [])
    Site(tmp_path, site.name, TITLES, "", [("command", "a later command")]).write("01_second", "s", content(site), [])
    assert "a later command" not in first.read_text(encoding="utf-8")
    assert "a later command" in (tmp_path / "01_second.html").read_text(encoding="utf-8")


def test_table_has_its_bounds_and_all_digits_as_csv(site, tmp_path):
    drawn = content(site)
    assert '<a href="tables/00_table.csv">00_table.csv</a>' in drawn and "50.0% <i>[40.0, 60.0]</i>" in drawn
    table = pd.read_csv(tmp_path / "tables" / "00_table.csv")
    assert list(table) == ["arm", "score", "score low", "score high"] and table["score high"][0] == 0.6
