"""Pages of stages 00 and 01: windows, class weights, leakage checks; in a browser they open and sort."""

from dataclasses import replace

import pytest

from experiments.stages import seed_figures
from experiments.stages.preprocess_page import leakage
from tests.support.studies import table


def test_figures_of_seed_study_are_labelled_and_not_in_our_csv(explored):
    header = list(table(explored, "00_correlations"))
    assert [name for name in header if "own data" in name] == header[-1:]
    assert table(explored, "00_correlations")[header[-1]].dropna().tolist() == list(
        seed_figures.CORRELATIONS[q]
        for q in table(explored, "00_correlations")["quantity"]
        if q in seed_figures.CORRELATIONS
    )
    page = (explored.out / "01_preprocess.html").read_text()
    assert "7,311" in page and "Seed study, on its own data" in page
    assert "7311" not in (explored.out / "tables" / "01_parts.csv").read_text()


def test_tables_count_windows_and_class_weights_of_split(explored):
    data = explored.data()
    parts = table(explored, "01_parts").set_index("part")
    for part in ("train", "val", "test"):
        assert (
            parts["windows"][part] == len(data.part(part))
            and parts["sessions"][part] == data.part(part)["session"].nunique()
        )
    states = table(explored, "01_states")
    counts = data.class_counts()
    assert states["train"].tolist() == counts.tolist()
    assert states["class weight"].to_numpy() == pytest.approx((1 / counts) * len(counts) / (1 / counts).sum())
    assert states["class weight"].sum() == pytest.approx(len(counts))
    assert (states["pure"].sum(), states["mixed"].sum()) == (data.frame["pure"].sum(), (~data.frame["pure"]).sum())


def test_leakage_check_fails_for_mixed_parts_and_scaling_on_all(explored):
    assert (table(explored, "01_leakage")["verdict"] != "LEAK").all()
    assert (leakage(explored.data(), "all")["verdict"] == "LEAK").sum() == 1
    data = explored.data()
    parts = data.split.sessions
    mixed = replace(data.split, sessions={**parts, "test": [*parts["test"], parts["train"][0]]})
    leaks = leakage(type(data)(data.store, data.frame, mixed, data.settings), "train").set_index("check")["verdict"]
    assert leaks["sessions in two parts"] == leaks["seconds in windows of two parts"] == "LEAK"


@pytest.mark.slow
def test_pages_open_and_share_one_plotly(explored, opens):
    assert (explored.out / "assets" / "plotly.min.js").stat().st_size > 1_000_000
    for page in explored.out.glob("*.html"):
        assert page.stat().st_size < 1_000_000
        assert "A small study" in page.read_text() and "not a result on AI Hub" in page.read_text()
    assert "01_preprocess.html" in (explored.out / "00_eda.html").read_text()  # a page written later is linked as well
    opens(explored.out, "index", "00_eda", "01_preprocess")


@pytest.mark.slow
def test_click_on_column_head_sorts_by_number(explored, sorted_by):
    page, frame = explored.out / "01_preprocess.html", table(explored, "01_parts").set_index("part")
    down = frame["windows"].sort_values(ascending=False, kind="stable").index.tolist()
    assert frame["windows"].is_unique or len(set(frame["windows"])) == 2
    column = ["part", *frame].index("windows")
    assert sorted_by(page, column)[0] == down[0] == "train"
    assert sorted_by(page, column, clicks=2)[-1] == "train"
