"""Pages of the stored runs, drawn anew: what they say, and that they need nothing but themselves."""

import re
import shutil

import pytest

from conveyorguard.cli import main
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from tests.support.places import ROOT

RUNS = ROOT / "tests" / "fixtures" / "runs"
VOID = {"meta", "link", "img", "br", "input"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A copy of the stored runs."""
    folder = tmp_path_factory.mktemp("rendered") / "runs"
    shutil.copytree(RUNS, folder)
    return folder


def text_of(page):
    """A page without its scripts and style; fails where it loads something or its tags do not close."""
    html = page.read_text(encoding="utf-8")
    body = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?:[a-z]+:)?//[^"]*', body), "loaded from elsewhere"
    assert "{{" not in body and "{%" not in body, "a template's own text"
    open_tags = []
    for closing, tag in re.findall(r"<(/?)([a-z][a-z0-9]*)\b", body):
        if closing:
            assert open_tags.pop() == tag, (page.name, tag)
        elif tag not in VOID:
            open_tags.append(tag)
    assert not open_tags, page.name
    assert len(re.findall(r'role="img" aria-label="[^"]+"', body)) == html.count("Plotly.newPlot("), "text alternatives"
    return body


def headings(body):
    return re.findall("<h2>(.*?)</h2>", body)


def test_page_of_a_network_has_every_section(runs):
    write_card(runs / "fusion")
    body = text_of(write_report(runs / "fusion"))
    assert headings(body) == [
        "Result",
        "By state",
        "Learning",
        "Alarms",
        "Can the probabilities be trusted?",
        "Windows to look at first",
        "Where it comes from",
        "Config",
    ]
    assert '<nav><a href="MODEL_CARD.md">model card</a></nav>' in re.sub(r">\s+<", "><", body)
    assert "The weights of epoch 10, the best by val/macro_f1, were kept." in body
    assert "The threshold was set on validation: no missed fault, fewest false alarms." in body
    assert body.count('<img alt="') == body.count("data:image/png;base64,") > 0 and 'class="wrong"' in body


def test_page_of_trees_has_importances_and_no_learning_curve(runs):
    body = text_of(write_report(runs / "lightgbm"))
    assert "What the model looks at" in headings(body) and "Learning" not in headings(body)
    assert "188 features, each as a share of the total importance." in body


def test_page_of_an_ensemble_says_what_it_lacks(runs):
    body = text_of(write_report(runs / "ensemble" / "soft"))
    assert "This run stored no example windows." in body and "Learning" not in headings(body)


def test_page_of_a_comparison_has_every_section(runs, tmp_path):
    folders = [str(runs / name) for name in ("fusion", "lightgbm", "extra_trees")]
    assert main(["compare", *folders, f"out={tmp_path / 'out'}"]) == 0
    body = text_of(tmp_path / "out" / "comparison.html")
    assert headings(body) == [
        "Conclusion",
        "Results",
        "Intervals",
        "Validation accuracy against training time",
        "Differences",
        "Profile",
        "Confusion matrices",
        "Devices",
        "Where each number comes from",
    ]
    assert "<h1>Comparison of 3 models</h1>" in body and "shortcut: NTC threshold" in body
    assert body.count('aria-label="confusion matrix of ') == 3
    assert re.search(r'title="fusion: python [^"]*"', body), "a row says what it comes from"


def test_page_of_a_prediction_shows_sessions_with_alarms_first(runs, tmp_path, cache):
    out = tmp_path / "out"
    assert main(["predict", str(runs / "lightgbm"), f"paths.cache={cache}", "threads=1", f"out={out}"]) == 0
    body = text_of(out / "predictions.html")
    assert headings(body)[:3] == ["Summary", "Against their labels", "Sessions"]
    notes = re.findall(r'<section><h2>[^<]*</h2><p class="note">(Alarm from|No alarm)', body)
    assert len(notes) == 12 and notes == sorted(notes)
    assert "thermal frames up to the alarm at" in body
    assert (
        "the state about 15 s ago. A row is answered by the mean of all windows over it, which looks up to 29 s" in body
    )


def test_card_of_a_run_is_markdown_without_a_template_left(runs):
    card = write_card(runs / "fusion").read_text(encoding="utf-8")
    assert "{{" not in card and "{%" not in card and "\n\n\n" not in card and card.endswith("or skops.\n")
    tables = [block.splitlines() for block in card.split("\n\n") if block.startswith("|")]
    assert len(tables) == 7
    for header, rule, *rows in tables:
        assert rows and {line.count("|") for line in (rule, *rows)} == {header.count("|")}
        assert set(rule) == {"|", "-", " "}
