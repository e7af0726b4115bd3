"""Pages: nothing from data or config is taken for markup, no folder is shown."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from conveyorguard.metrics.intervals import Interval
from conveyorguard.reporting import pages
from conveyorguard.reporting.figures import confusion, learning_curve
from conveyorguard.reporting.recording_figures import thermal_image

EVIL = '<script>alert("x")</script>'


def test_every_string_of_a_page_is_escaped(tmp_path):
    (tmp_path / "all.html.jinja").write_text(
        """{% import "macros.html.jinja" as ui %}
        {% call ui.section(text, text) %}{{ ui.tiles([(text, text)]) }}{{ ui.film([(png, text)]) }}{% endcall %}
        {{ ui.link(text, text) }}{{ ui.bullets([text]) }}{% call ui.details(text) %}{{ table }}{% endcall %}"""
    )
    table = pages.table([EVIL], [[EVIL]])
    main = pages.render("all.html.jinja", folder=tmp_path, text=EVIL, png=b"", table=table)
    html = pages.page(EVIL, EVIL, main, EVIL, [(EVIL, EVIL, True)], EVIL)
    assert "<script>alert" not in html and html.count("&lt;script&gt;alert") == 16


def test_table_of_a_frame_has_intervals_links_and_origins():
    frame = pd.DataFrame(
        {
            "model": ["a", EVIL],
            "F1": [Interval(0.912, 0.85, 0.951), None],
            "says": ["x", EVIL],
            "n": [1234, 5],
        }
    )
    drawn = pages.framed(frame, {"F1": ".1%"}, {"a": "runs/a b/report.html"}, {"a": f"run a: python {EVIL}"}, "dense")
    assert re.findall("<th>(.*?)</th>", drawn) == ["model", "F1", "says", "n"]
    assert "<td>91.2% <i>[85.0, 95.1]</i></td>" in drawn and "<td>–</td>" in drawn and "<td>1,234</td>" in drawn
    assert '<tr title="run a: python &lt;script&gt;' in drawn and '<a href="runs/a%20b/report.html">a</a>' in drawn
    assert EVIL not in drawn and drawn.count("<tr>") == 2  # the head, and the row that has no source
    assert 'data-text="1 3"' in drawn, "columns of text are told from columns of numbers"


def test_page_carries_a_font_for_state_names():
    page = pages.page("t", "s", Markup())
    assert "unicode-range: U+AC00-D7A3" in page and "url(data:font/woff2;base64," in page and len(page) < 15_000


def test_text_in_a_figure_cannot_close_its_script():
    html = pages.figure(confusion([[1, 0], [0, 1]], [EVIL, "b"], EVIL), EVIL)
    assert "</script>alert" not in html and EVIL not in html


def test_page_carries_the_plotting_library_once_and_only_if_it_has_a_figure():
    plot = pages.figure(learning_curve(pd.DataFrame({"epoch": [0], "v": [1.0]}), ["v"], "t", "y"), "alt")
    once = pages.page("t", "s", plot).count("plotly.js v")
    assert pages.page("t", "s", plot + plot).count("plotly.js v") == once >= 1
    assert len(pages.page("t", "s", Markup("text"))) < 15_000
    shared = pages.page("t", "s", plot, "assets/plotly.min.js")
    assert '<script src="assets/plotly.min.js"></script>' in shared and "plotly.js v" not in shared


def test_page_carries_the_sorting_script_only_if_it_has_a_sortable_table():
    assert "aria-sort" in pages.page("t", "s", pages.sortable(["a"], [[1]])).partition("</style>")[2]
    assert "aria-sort" not in pages.page("t", "s", pages.table(["a"], [[1]])).partition("</style>")[2]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("data.root=/home/someone/plant data=aihub", "data.root=plant data=aihub"),
        ("cache: /var/cache/x", "cache: x"),
        ("python train.py seed=1", "python train.py seed=1"),
        ("root=C:\\plant\\data", "root=data"),
        ("root=\\\\server\\share\\plant\\data", "root=data"),
        ("python train.py 'paths={cache:/home/max/cache}'", "python train.py 'paths={cache:cache}'"),
        ("schema '/home/Max Muster/plant'", "schema 'plant'"),
        ("http://host/a/b and file:///home/max/b", "http://host/a/b and b"),
        (r"device_pattern: (\\d+)_x", r"device_pattern: (\\d+)_x"),
    ],
)
def test_absolute_paths_lose_their_folders(text, shown):
    assert pages.base_names(text) == shown


def test_link_to_a_file_is_relative_or_missing(tmp_path):
    page, target = tmp_path / "pages", tmp_path / "runs" / "report.html"
    target.parent.mkdir()
    target.touch()
    assert pages.path_between(page, target) == "../runs/report.html"
    assert pages.path_between(page, target.with_name("none.html")) is None
    assert pages.path_between(Path("/elsewhere"), target) is None


def test_thermal_image_is_a_png():
    assert thermal_image(np.linspace(0, 120, 12).reshape(3, 4), 20, 100).startswith(b"\x89PNG")
