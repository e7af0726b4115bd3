"""Tables whose cells are intervals, and the files that every page carries."""

from pathlib import Path

import pandas as pd

from conveyorguard.metrics.intervals import Interval
from conveyorguard.reporting import figures, pages


def test_columns_named_low_and_high_stay_columns():
    frame = pd.DataFrame({"pump": [1.0], "pump low": [2.0], "pump high": [3.0]})
    drawn = pages.framed(frame)
    assert drawn.count("<th>") == 3 and "[" not in drawn


def test_interval_column_becomes_three_columns_and_back():
    frame = pd.DataFrame({"arm": ["a", "b"], "score": [Interval(0.5, 0.4, 0.6), None], "n": [1, 2]})
    flat = pages.flat(frame)
    assert list(flat) == ["arm", "score", "score low", "score high", "n"]
    assert flat.loc[0, "score high"] == 0.6 and flat.loc[1].isna().sum() == 3
    back = pages.gathered(flat, ["score"], " low", " high")
    assert list(back) == ["arm", "score", "n"] and back["score"][0] == frame["score"][0]


def test_figures_use_the_font_of_the_page():
    css = Path(pages.__file__).with_name("site.css").read_text(encoding="utf-8")
    assert figures.FONTS in css
