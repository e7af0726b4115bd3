"""Pages: nothing from data or config is taken for markup, no folder is shown."""

import re
from pathlib import Path

import pandas as pd
import pytest

from conveyorguard.metrics.bootstrap import Interval
from conveyorguard.reporting import pages
from conveyorguard.reporting.figures import confusion, learning_curve
from conveyorguard.reporting.recording_figures import thermal_image

EVIL = '<script>alert("x")</script>'


def test_every_string_is_escaped():
    html = pages.page(
        EVIL,
        EVIL,
        [
            pages.section(
                EVIL,
                pages.table([EVIL], [[EVIL]]),
                pages.tiles([(EVIL, EVIL)]),
                pages.film([(b"", EVIL)]),
                note=EVIL,
            )
        ],
    )
    assert EVIL not in html and html.count("&lt;script&gt;") >= 8


def test_a_frame_is_drawn_with_intervals_links_and_where_its_rows_come_from():
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


def test_state_names_have_a_font_on_any_machine():
    page = pages.page("t", "s", [])
    assert "unicode-range: U+AC00-D7A3" in page and "url(data:font/woff2;base64," in page and len(page) < 15_000


def test_a_figure_cannot_close_its_script():
    html = pages.figure(confusion([[1, 0], [0, 1]], [EVIL, "b"], EVIL), EVIL)
    assert "</script>alert" not in html and EVIL not in html


def test_the_plotting_library_comes_once_and_only_where_it_is_used():
    plot = pages.figure(learning_curve(pd.DataFrame({"epoch": [0], "v": [1.0]}), ["v"], "t", "y"), "alt")
    assert (
        pages.page("t", "s", [plot, plot]).count("plotly.js v")
        == pages.page("t", "s", [plot]).count("plotly.js v")
        >= 1
    )
    assert len(pages.page("t", "s", ["text"])) < 15_000


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
def test_folders_are_reduced_to_base_names(text, shown):
    assert pages.base_names(text) == shown


def test_a_link_never_tells_the_whole_place_of_a_file(tmp_path):
    page, target = tmp_path / "pages", tmp_path / "runs" / "report.html"
    target.parent.mkdir()
    target.touch()
    assert pages.path_between(page, target) == "../runs/report.html"
    assert pages.path_between(page, target.with_name("none.html")) is None
    assert pages.path_between(Path("/elsewhere"), target) is None


def test_a_thermal_image_is_a_png():
    import numpy as np

    assert thermal_image(np.linspace(0, 120, 12).reshape(3, 4), 20, 100).startswith(b"\x89PNG")
