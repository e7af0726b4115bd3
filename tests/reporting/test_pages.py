"""Pages: nothing from data or config is taken for markup, no folder is shown."""

import pandas as pd
import pytest

from conveyorguard.reporting import pages
from conveyorguard.reporting.figures import confusion, learning_curve, thermal_image

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
    assert len(pages.page("t", "s", ["text"])) < 10_000


@pytest.mark.parametrize(
    "text, shown",
    [
        ("data.root=/home/someone/plant data=aihub", "data.root=plant data=aihub"),
        ("cache: /var/cache/x", "cache: x"),
        ("python train.py seed=1", "python train.py seed=1"),
        ("root=C:\\plant\\data", "root=data"),
    ],
)
def test_folders_are_reduced_to_base_names(text, shown):
    assert pages.base_names(text) == shown


def test_a_thermal_image_is_a_png():
    import numpy as np

    assert thermal_image(np.linspace(0, 120, 12).reshape(3, 4), 20, 100).startswith(b"\x89PNG")
